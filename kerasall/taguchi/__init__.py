"""Orthogonal arrays, their analysis, and the keras-tuner oracle that runs them.

Arrays and analysis load no TensorFlow. Knows factors and responses, nothing of leukaemia.
"""
