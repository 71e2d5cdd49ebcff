"""Scores of classifiers of deep features: of every combination of features and classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerasall.studies.finished_run import Run
from kerasall.studies.tables.combinations import Combinations, list_names, read_combinations
from kerasall.studies.tables.ours import Ours, none_as

_NEEDED = {
    "raw": ("deep_features_svm_perceptron_faithful", "pools its features"),
    "augmented": ("deep_features_svm_augmented_faithful", "fits to no changed copies"),
}
"""Word of a key that asks for a run of another kind -> config of such a run, and what this one does."""

_MATRICES = {"train": "training", "validation": "validation"}
"""Part of a key -> its name among the confusion matrices of a row."""


def score_classifier(run: Run, words: Sequence[str]) -> Ours:
    """``CLASSIFIER/FEATURES/PART/METRIC``, or FEATURES first; FEATURES are names of extractors joined with +.

    Before them ``raw`` asks for features that are not pooled, ``augmented`` for changed copies of the training images.
    PART is ``train`` (the images that the classifiers were fitted to), ``validation``, or ``test``: the images on which the
    combinations are compared, whatever part they are.
    """
    *asked, first, second, part, metric = words
    found = read_combinations(run, "classifier")
    if isinstance(found, Ours):
        return found
    settings = run.settings.get("deep_features") or {}
    is_so = {"raw": settings.get("pooling") == "none", "augmented": bool(settings.get("augmented_copies"))}
    if missing := [word for word in asked if not is_so[word]]:
        config, does = _NEEDED[missing[0]]
        return none_as(f"this run {does}: {config} does not")
    kinds = {row["classifier"] for row in found.rows}
    kind, features = (second, first) if second in kinds else (first, second)
    wanted = _find_extractors(settings, features)
    rows = [row for row in found.rows if row["classifier"] == kind and set(row["features"]) == wanted]
    if not rows:
        return none_as(_describe_missing(found, kind))
    ours = _score(found, rows[0], part, metric)
    notes = {"raw": "of unpooled features", "augmented": "fitted to changed copies too"}
    more = [notes[word] for word, holds in is_so.items() if holds and word not in asked]
    return Ours(ours.value, ours.low, ours.high, "; ".join(filter(None, [ours.reason, *more])))


def _find_extractors(settings: Mapping[str, Any], features: str) -> set[str]:
    """Names of the extractors that a key means: each by its name, else by its network."""
    rows = settings.get("extractors", ())
    names = {row["backbone"]: row["name"] for row in reversed(rows)} | {
        row["name"]: row["name"] for row in rows
    }
    return {names.get(word, word) for word in features.split("+")}


def _score(found: Combinations, row: Mapping[str, Any], part: str, metric: str) -> Ours:
    name = _MATRICES.get(part)
    if name is None or name == found.compared_on:
        return found.score(row, metric)
    if name not in row["matrices"]:
        return none_as("this run has no validation part")
    ours = found.of_matrix(row["matrices"][name], metric)
    if ours.value is None:
        return ours
    over = ", over all folds" if found.compared_on == "out-of-fold" else ""
    what = f"the images that it was fitted to{over}" if part == "train" else "the validation images"
    return Ours(ours.value, reason=f"on {what}")


def _describe_missing(found: Combinations, kind: str) -> str:
    kinds = [row["classifier"] for row in found.rows]
    if kind not in kinds:
        return f"this run has the classifiers {list_names(kinds)}"
    return f"this run has the features {list_names(['+'.join(row['features']) for row in found.rows])}"
