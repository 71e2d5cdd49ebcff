"""Image operations that run inside tf.data and inside the SavedModel, and their composition.

Knows one image at a time. Knows nothing of data sets or models.
"""
