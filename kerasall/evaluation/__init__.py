"""Scores and their intervals from one record, ``Predictions``. Loads no TensorFlow.

Knows labels, probabilities and groups. Knows nothing of models, files of images or pipelines.
"""
