"""The errors a user can act on. Below everything: imports nothing of kerasall.

Every message says what must hold, what was found, and the cure. The command line prints these
without a traceback; any other exception is a defect of kerasall and keeps its traceback.
"""


class KerasallError(ValueError):
    """Base of all errors that a change of input or settings can cure."""


class DecodingError(KerasallError):
    """An image that cannot or must not be decoded: broken, too large, of an unsupported kind."""


class DataError(KerasallError):
    """A data set that does not hold what its reader or its schema expects."""


class LeakError(DataError):
    """A subject or a duplicate stands on two sides of a split."""


class SettingsError(KerasallError):
    """A setting that is unknown, of the wrong kind, or at odds with another."""


class WeightsError(KerasallError):
    """A weights file that is missing, changed, or made for another architecture."""


class ArtifactError(KerasallError):
    """A stored artifact that is missing, incomplete, changed, or of another schema version."""


class ModelError(KerasallError):
    """A model that does not fit what is asked of it."""
