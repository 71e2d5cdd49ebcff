"""Our figures beside what the papers printed, each looked up in a run by its key.

The first word of a key says what it is of, and has a row in ``KINDS``; the others are its own. Pictures beside printed
ones are found likewise (``kerasall/studies/tables/pictures.py``). A new paper is a file in ``kerasall/published/``, and a
row here only where it prints what no paper before it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from kerasall.studies.finished_run import Run
from kerasall.studies.tables.classifiers import score_classifier
from kerasall.studies.tables.counts import count_images, count_subjects
from kerasall.studies.tables.members import (
    score_ensemble,
    score_fold,
    score_member,
    score_members,
    score_vote,
    wrong_images,
)
from kerasall.studies.tables.ours import Lookup, Ours, none_as
from kerasall.studies.tables.settings import read_setting
from kerasall.studies.tables.sweep import score_sweep
from kerasall.studies.tables.trials import read_anova, read_array, read_levels, read_response, read_trial
from kerasall.studies.tables.weightings import read_weight, score_at_size, score_repeats, score_weighting

__all__ = ["KINDS", "Lookup", "Ours", "look_up", "none_as"]

KINDS: Mapping[str, Lookup] = {
    "images": count_images,
    "subjects": count_subjects,
    "setting": read_setting,
    "member": score_member,
    "members": score_members,
    "ensemble": score_ensemble,
    "vote": score_vote,
    "fold": score_fold,
    "wrong": wrong_images,
    "levels": read_levels,
    "array": read_array,
    "trial": read_trial,
    "response": read_response,
    "anova": read_anova,
    "sweep": score_sweep,
    "classifier": score_classifier,
    "weighting": score_weighting,
    "weight": read_weight,
    "repeats": score_repeats,
    "size": score_at_size,
}
"""First word of a key -> how its figure is found: a module of this folder a subject."""


@lru_cache(maxsize=4096)
def look_up(run: Run, key: str) -> Ours:
    """The figure of a run that a key means; "" means that none belongs beside the cell.

    Raises:
        ArtifactError: the run has not been evaluated, or its artifacts are gone or were changed.
    """
    if not key:
        return Ours(None)
    kind, *words = key.split("/")
    if kind not in KINDS:
        return none_as(f"there is no figure of the kind {kind}")
    return KINDS[kind](run, words)
