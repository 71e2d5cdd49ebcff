"""Settings by their dotted keys, such as ``train.stages.0.epochs``: in plain values and in the rows themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel


class Place(NamedTuple):
    """Where a dotted key points.

    Attributes:
        key: the whole key, with the number of the entry for every ``*``.
        holder: mapping, list or row that holds the value.
        index: name or number of the value there.
    """

    key: str
    holder: Any
    index: Any

    @property
    def value(self) -> Any:
        """What stands there."""
        if isinstance(self.holder, BaseModel):
            return getattr(self.holder, self.index)
        return self.holder[self.index]


def find_places(document: Any, key: str) -> Iterator[Place]:
    """Every place that a dotted key names, in order; none where the document does not hold it.

    Args:
        document: settings as plain values or as rows.
        key: names of settings and numbers of entries; ``*`` stands for every entry of a list.
    """
    word, _, rest = key.partition(".")
    for index in _indices(document, word):
        place = Place(str(index), document, index)
        if rest:
            for below in find_places(place.value, rest):
                yield below._replace(key=f"{index}.{below.key}")
        else:
            yield place


def find_place(document: Any, key: str) -> Place | None:
    """The one place that a dotted key without ``*`` names, or None."""
    return next((place for place in find_places(document, key) if place.key == key), None)


def list_keys(document: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys of all that plain values hold, in order."""
    items = document.items() if isinstance(document, dict) else ()
    for name, value in enumerate(document) if isinstance(document, list) else items:
        yield f"{prefix}{name}"
        yield from list_keys(value, f"{prefix}{name}.")


def _indices(holder: Any, word: str) -> list[Any]:
    if isinstance(holder, list | tuple):
        return [number for number in range(len(holder)) if word in ("*", str(number))]
    names = type(holder).model_fields if isinstance(holder, BaseModel) else holder
    return [word] if isinstance(names, dict) and word in names else []
