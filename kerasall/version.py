"""The version of the package. Apart from the front door, so that a step that notes it does not depend on all of kerasall."""

__version__ = "0.1.0"
