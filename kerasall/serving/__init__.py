"""From a trained model to a SavedModel, and from a SavedModel to answers.

Knows a model and a chain of operations, both passed in. Knows nothing of training or pipelines.
"""
