"""kerasall: train, compare, trust and serve image classifiers for acute lymphoblastic leukaemia.

Importing the package, :mod:`kerasall.evaluation`, or the Taguchi arrays and analysis loads no
TensorFlow. Research use only: nothing here is a diagnostic device.
"""

__version__ = "0.1.0"
