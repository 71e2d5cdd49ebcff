"""The errors a user can act on. Below everything: imports nothing of kerasall.

Every message says what must hold, what was found, and the cure. The command line prints these
without a traceback; any other exception is a defect of kerasall and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class KerasallError(ValueError):
    """Base of all errors that a change of input or settings can cure; the message says what must hold and the cure.

    Example:
        >>> try:
        ...     kerasall.score([0, 1], [[0.9, 0.1], [0.2, 0.8]], metrics="acuracy")
        ... except kerasall.KerasallError as error:
        ...     print(error)
        a metric must be one of METRICS or <score>:<class>, but is 'acuracy': did you mean ['accuracy']?
    """


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


def near_names(name: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """The known names most like a mistyped one, the nearest first.

    Args:
        name: as it was written.
        known: every name that is known.
        most: how many are given at most.
        cutoff: likeness in [0, 1] below which a name is not meant (that of ``difflib``).
    """
    return get_close_matches(name, list(known), n=most, cutoff=cutoff)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", cutoff: float = 0.6) -> str:
    """The cure of a message on an unknown name.

    >>> did_you_mean("mobilnet", ["mobilenet", "resnet101"])
    "did you mean 'mobilenet'?"

    Args:
        name, known, cutoff: as ``near_names``.
        otherwise: what is said where no known name is near.
    """
    near = near_names(name, known, cutoff=cutoff)
    return f"did you mean {near[0]!r}?" if near else otherwise


def count_of(number: int, one: str, more: str = "") -> str:
    """A number with its noun, for messages.

    >>> count_of(1, "group"), count_of(2100, "image"), count_of(1, "group has", "groups have")
    ('1 group', '2,100 images', '1 group has')
    """
    return f"{number:,} {one if number == 1 else more or f'{one}s'}"


def first_fault(error: Any) -> str:
    """Where the first value stands that pydantic refused, and why, as part of a sentence.

    Args:
        error: a ``pydantic.ValidationError``.
    """
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"])) or "it"
    return f"{place} is not as there ({first['msg'].removeprefix('Value error, ').lower()})"
