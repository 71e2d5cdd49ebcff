"""The folders of a tree, level by level: their names, what these say, and how the levels lie above one another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from kerasall.data.spelling import is_placeholder, key_of
from kerasall.data.vocabulary import (
    is_class_word,
    is_code,
    is_date,
    is_fold_name,
    is_numbered_class,
    is_other_word,
    is_patient_word,
    name_part,
    strip_copy_words,
)

MANY_NUMBERS = 10
"""More folders than these whose names are numbers are hardly classes, nor years."""
Kind = Literal["part", "fold", "class", "other", "date", "patient", "number", "code", "unknown"]

_MOST = 0.8
"""Share of a level's names that must be of one kind."""


@dataclass(frozen=True)
class Level:
    """All folders of one depth.

    Attributes:
        number: 1 for the folders right below the root.
        names: one spelling of each name.
        kind: what the names say.
        images: how many images lie in or below these folders.
    """

    number: int
    names: tuple[str, ...]
    kind: Kind
    images: int

    @property
    def single(self) -> bool:
        """Whether all images lie below one name, so that it tells none from another."""
        return len(self.names) == 1

    @property
    def coded(self) -> bool:
        """Whether the names may be patients' by their looks."""
        return self.kind in ("patient", "code", "number")


def folder_of(path: str, number: int | None) -> str:
    """Name of the ``number``-th folder of a relative path, 1 at the top; "" where the path has none."""
    folders = path.split("/")[:-1]
    return folders[number - 1] if number and number <= len(folders) else ""


class Tree:
    """The levels of all paths.

    Attributes:
        paths: sorted.
        folders: the names of the folders of each path, from the top.
        known: keys of names that are known to be classes.
        depth: most folders of a path.
    """

    def __init__(self, paths: Sequence[str], known: frozenset[str]):
        self.paths = sorted(paths)
        self.folders = [path.split("/")[:-1] for path in self.paths]
        self.known = known
        self.depth = max(map(len, self.folders), default=0)
        self._keys = {name: key_of(name) for name in {name for names in self.folders for name in names}}

    @cached_property
    def levels(self) -> list[Level]:
        return [self._make_level(number) for number in range(1, self.depth + 1)]

    def _make_level(self, number: int) -> Level:
        counts = Counter(names[number - 1] for names in self.folders if len(names) >= number)
        spelt: dict[str, str] = {}
        for name in sorted(counts):
            spelt.setdefault(self._keys[name], name)
        names = tuple(sorted(spelt.values()))
        return Level(number, names, _kind_of(names, self.known), sum(counts.values()))

    def count_pairs(self, upper: int, lower: int) -> int:
        """Different pairs of names at two levels."""
        both = (names for names in self.folders if len(names) >= max(upper, lower))
        return len({(self._keys[names[upper - 1]], self._keys[names[lower - 1]]) for names in both})

    def find_example(self, numbers: Sequence[int | None]) -> str:
        """The first path that has all these folders, or the most of them."""
        deepest = max((number or 0 for number in numbers), default=0)
        return max(self.paths, key=lambda path: min(path.count("/"), deepest))

    def count_names(self, number: int, deep: int) -> int:
        """Names at a level among the paths that go on to a deeper one."""
        return len(
            {self._keys[names[number - 1]] for names in self.folders if len(names) >= max(number, deep)}
        )

    def count_folders(self, number: int) -> int:
        """Folders at a level, those of one name in different places counted apart."""
        return len({tuple(names[:number]) for names in self.folders if len(names) >= number})

    def repeats(self, upper: Level, lower: Level) -> bool:
        """Whether the lower names tell nothing more, one below each of the upper: ``ALL/ALL images``."""
        pairs = self.count_pairs(upper.number, lower.number)
        return pairs == len(lower.names) == self.count_names(upper.number, lower.number)


_KINDS: tuple[tuple[Kind, Callable[[str], bool]], ...] = (
    ("other", is_other_word),
    ("date", is_date),
    ("patient", is_patient_word),
    ("number", str.isdecimal),
    ("code", is_code),
)
"""Kinds in the order in which they are asked; the first that most names are of counts."""


def _kind_of(names: Sequence[str], known: frozenset[str]) -> Kind:
    """What most of the names are; placeholders do not count."""
    if all(map(name_part, names)):
        return "part"
    if all(map(is_fold_name, names)):
        return "fold"
    telling = [name for name in names if not is_placeholder(name)] or list(names)
    words = [name for name in telling if is_class_word(name) or key_of(name) in known]
    if 2 * len(words) >= len(telling):
        return "class" if _are_whole_words(words, known) else "patient"
    if len(telling) <= MANY_NUMBERS and all(re.fullmatch("(19[89]|20[0-3])[0-9]", name) for name in telling):
        return "date"  # years
    for kind, belongs in _KINDS:
        if sum(map(belongs, telling)) >= _MOST * len(telling):
            return kind
    return "unknown"


def _are_whole_words(names: Sequence[str], known: frozenset[str]) -> bool:
    """False for ALL_01, ALL_02, normal_01: words for classes that are counted through are patients of classes."""
    if len(names) == 1 or all(key_of(name) in known for name in names):
        return True
    if all(map(is_numbered_class, names)):
        return True
    names = sorted({strip_copy_words(name) for name in names})
    bare = {re.sub(r"\d+", "", key_of(name)) for name in names}  # signs stay: ALL+ and ALL- are two
    return len(bare) > 0.75 * len(names)
