"""Optimizers, learning-rate schedules and the resumable training loop. Backend-neutral Keras 3.

Knows a model and batches, both passed in. Knows nothing of data sets or backbones.
"""
