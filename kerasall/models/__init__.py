"""Backbones, heads, classifiers and what is read from them. Backend-neutral Keras 3.

Knows pixels and probabilities. Knows nothing of files of images, subjects, splits or training.
"""
