"""What a paper's figure is of, a member, the ensemble or a fold of a run; and what is drawn beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.predictions import Predictions
from kerasall.report.page import Picture
from kerasall.studies.finished_run import Run
from kerasall.studies.tables.members import NO_ENSEMBLE
from kerasall.studies.tables.ours import Ours
from kerasall.studies.tables.scored import Scored, read_fold, read_scored

ENSEMBLE = "ensemble"


@dataclass(frozen=True, eq=False)
class Drawn:
    """What stands beside a figure: plots with captions, images of a gallery; or why nothing does."""

    plots: Sequence[tuple[Picture, str]] = ()
    gallery: Sequence[Mapping[str, Any]] = ()
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Part:
    """A member, the ensemble or a fold: its name and the scorer of its predictions."""

    name: str
    scorer: Scorer = field(repr=False)

    @property
    def predictions(self) -> Predictions:
        """Of the part."""
        return self.scorer.predictions

    @property
    def title(self) -> str:
        """The name with a capital."""
        return f"{self.name[:1].upper()}{self.name[1:]}"


Draw = Callable[[Run, Sequence[str]], Drawn]
"""Draws what the words of a figure's key, after the first, mean."""


def find_parts(run: Run, words: Sequence[str]) -> list[Part] | str:
    """The parts that a figure is of; or why there are none.

    Args:
        run: an evaluated one.
        words: ``member`` and its name, ``ensemble``, ``fold``, its number and perhaps ``member`` and its name, or nothing
            for all members and the ensemble.
    """
    scored = read_scored(run)
    if not words:
        names = list(scored.members) if scored.made else []
        return [make_part(scored, name) for name in [*names, ENSEMBLE]]
    what, *which = words
    if what == "fold":
        return _find_fold(run, scored, *which)
    if what == ENSEMBLE:
        return [make_part(scored, ENSEMBLE)] if scored.made else NO_ENSEMBLE
    name = scored.find_member(which[0] if which else what)
    return name.reason if isinstance(name, Ours) else [make_part(scored, name)]


def make_part(scored: Scored, name: str) -> Part:
    """A member by its name; else the whole system."""
    if name in scored.members:
        return Part(name, scored.scorer.of(scored.members[name]))
    return Part(ENSEMBLE if scored.made else "model", scored.scorer)


def _find_fold(run: Run, scored: Scored, number: str, _: str = "", member: str = "") -> list[Part] | str:
    held_out = read_fold(run, number, member)
    if isinstance(held_out, Ours):
        return held_out.reason
    name = f"{scored.find_member(member)}, fold {number}" if member else f"fold {number}"
    return [Part(name, scored.scorer.of(held_out))]
