"""What the lists of reviewers ask, item by item: numbers as the lists have them, questions in our own words.

One file a list, ``items/<name>.yaml``. Beside each item stands the rule that answers it from a run
(``kerasall/studies/checklists/``). An item whose number or meaning could not be checked against a source is left out; ``rows``
says how many there are, so that what is missing can be told.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import ValidationError, model_validator

from kerasall.errors import SettingsError, did_you_mean, first_fault
from kerasall.settings.base import Positive, Strict, require_different
from kerasall.settings.yaml_text import read_yaml

ITEMS = Path(__file__).with_name("items")


class Item(Strict):
    """One item: its number in the list, what it asks, and the rule that answers it."""

    number: str
    asks: str
    rule: str


class Topic(Strict):
    """Items under one heading, in the list's order."""

    title: str
    items: tuple[Item, ...]


class Source(Strict):
    """Where numbers and meanings were checked, when, and what of them."""

    at: str
    checked: str
    on: str


class Checklist(Strict):
    """A list.

    ``name`` is what options call it, ``title`` what people do; ``printed_in`` is the publication; ``rows`` how many items it
    has, each letter below a number counted for itself; ``about`` one sentence on what it is for; ``sources`` where our items
    were checked.
    """

    name: str
    title: str
    printed_in: str
    doi: str
    about: str
    rows: Positive
    sources: tuple[Source, ...]
    topics: tuple[Topic, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, in order."""
        return tuple(item for topic in self.topics for item in topic.items)

    @property
    def left_out(self) -> int:
        """How many of the list's items are not here, as they could not be checked."""
        return self.rows - len(self.items)

    @model_validator(mode="after")
    def _is_whole(self) -> Checklist:
        require_different("items", [item.number for item in self.items])
        if self.left_out < 0:
            raise ValueError(f"{self.name} must have at most {self.rows} items, but has {len(self.items)}")
        return self


def checklist_names() -> tuple[str, ...]:
    """Names of all lists, sorted."""
    return tuple(sorted(path.stem for path in ITEMS.glob("*.yaml")))


@cache
def read_checklist(name: str) -> Checklist:
    """One list.

    Raises:
        SettingsError: there is none of that name, or its file is not whole.
    """
    names = checklist_names()
    if name not in names:
        hint = did_you_mean(name, names, f"there are {', '.join(names)}")
        raise SettingsError(f"a checklist must be one of {', '.join(names)}, but is {name!r}: {hint}")
    path = ITEMS / f"{name}.yaml"
    try:
        return Checklist.model_validate({"name": name} | read_yaml(path))
    except ValidationError as error:
        raise SettingsError(f"{path} must be a checklist, but {first_fault(error)}: correct it") from None
