"""What a run fitted side by side and scored on the same images: the rows of ``combinations`` in its report.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasall.errors import SettingsError
from kerasall.evaluation.confusion_scores import CONDITIONS
from kerasall.evaluation.metrics import find_metric, malignant_mask
from kerasall.studies.finished_run import Run
from kerasall.studies.tables.ours import Ours, none_as

_EQUAL = {"recall_macro": "balanced_accuracy", "recall_weighted": "accuracy"}
"""Two names of one score, of images of every class."""


@dataclass(frozen=True)
class Combinations:
    """Rows of a sweep or of a comparison of classifiers.

    Attributes:
        rows: one a combination: its parts by name, its scores, ``intervals`` and ``confusion_matrix``.
        compared_on: the images that the scores are of.
        labels: classes in order.
        malignant: those of them that mean leukaemia.
        main: the main metric, which stands in a row under ``main``.
    """

    rows: Sequence[Mapping[str, Any]]
    compared_on: str
    labels: Sequence[str]
    malignant: Sequence[str]
    main: str

    @property
    def whose(self) -> str:
        """What must be known of the images, where they are not those of the paper's protocol."""
        if self.compared_on == "selection":
            return ""
        return f"on {self.compared_on} images; the test part scores the exported combination alone"

    def score(self, row: Mapping[str, Any], metric: str) -> Ours:
        """A metric of a row, with its interval where the run has one."""
        name = self._name(metric)
        for known in (name, _EQUAL.get(name, name)):
            value = row["main"]["value"] if known == self.main else row.get(known)
            if value is not None:
                low, high = row["intervals"].get(known, (None, None))
                return Ours(value, low, high, self.whose)
        found = self.of_matrix(row["confusion_matrix"], metric)
        return found if found.value is None else Ours(found.value, reason=self.whose)

    def of_matrix(self, matrix: Sequence[Sequence[int]], metric: str) -> Ours:
        """A metric that decisions alone give, from a confusion matrix."""
        try:
            row = find_metric(self._name(metric), self.labels)
        except SettingsError:
            return none_as(f"there is no score {metric} of the classes {', '.join(self.labels)}")
        if row.formula is None:
            return none_as(
                f"{row.title} needs probabilities, of which the run keeps those of the exported one"
            )
        mask, counts = malignant_mask(self.labels, self.malignant), np.asarray(matrix)
        reasons = (CONDITIONS[name](tuple(self.labels), counts, mask) for name in row.requires)
        if reason := next(filter(None, reasons), ""):
            return none_as(f"not defined: {reason}")
        with np.errstate(invalid="ignore", divide="ignore"):
            value = row.formula(counts.astype(float), mask)
        return (
            Ours(float(value))
            if np.isfinite(value)
            else none_as("not defined: no image enters its denominator")
        )

    def _name(self, metric: str) -> str:
        """``recall:malignant`` as ``recall:all``, where one class is so called."""
        kind, _, of_class = metric.partition(":")
        benign = [label for label in self.labels if label not in self.malignant]
        found = {"malignant": list(self.malignant), "benign": benign}.get(of_class, [of_class])
        return f"{kind}:{found[0]}" if of_class and len(found) == 1 else metric


def read_combinations(run: Run, part: str) -> Combinations | Ours:
    """The combinations of a run.

    Args:
        run: of a pipeline that compares some.
        part: the name of the part of a row that such a run has, ``classifier`` or ``optimizer``.

    Returns:
        The combinations; or no figure, and why.
    """
    results = run.evaluated
    found = results.get("combinations")
    if not found:
        old = run.settings.get("sweep") or run.settings.get("deep_features")
        why = "an earlier version made it: run it again" if old else "it trains one model or an ensemble"
        return none_as(f"this run has no scores of combinations: {why}")
    if part not in found["rows"][0]:
        return none_as(f"this run compares no {part}s")
    return Combinations(
        found["rows"], found["compared_on"], results["labels"], results.get("malignant") or (),
        run.settings.get("evaluate", {}).get("main_metric", "accuracy"),
    )  # fmt: skip


def list_names(names: Sequence[Any]) -> str:
    """Different ones in their order: a, b and c."""
    *first, last = dict.fromkeys(map(str, names))
    return f"{', '.join(first)} and {last}" if first else last
