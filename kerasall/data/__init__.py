"""Examples, their checks, duplicates, splits, and the tf.data way from files to batches.

Knows images, labels, subjects and splits. Knows nothing of models, training, pipelines or configs.
"""
