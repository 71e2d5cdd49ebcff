"""Scores of anybody's predictions: plain arrays in, numbers with their intervals out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from kerasall.errors import DataError, SettingsError, count_of, did_you_mean
from kerasall.evaluation import confusion_scores as of_matrix
from kerasall.evaluation.confusion_scores import PER_CLASS
from kerasall.evaluation.ensemble_rules import find_highest
from kerasall.evaluation.intervals import RESAMPLES, Interval, Scorer, list_notes
from kerasall.evaluation.metrics import (
    MALIGNANT_SCORES,
    METRICS,
    SCORES,
    confusion_matrix,
    find_metric,
    malignant_mask,
    undefined_reason,
)
from kerasall.evaluation.predictions import Predictions, read_names


@dataclass(frozen=True)
class Score(Interval):
    """A score with its interval, and the metric that it is of.

    Attributes:
        metric: its name.
    """

    metric: str = ""


@dataclass(frozen=True, eq=False)
class Scores(Mapping[str, Score]):
    """Scores by metric, ``scores["recall:ALL"].low`` or ``scores.accuracy.low``, and the counts behind them.

    Attributes:
        by_metric: metric -> value with interval.
        classes: C names in class order.
        malignant: the malignant ones; () where none is named.
        images: how many were scored.
        confusion_matrix: int64 [C, C], rows = true class.
        missed: malignant images called benign; None where no class is named malignant.
        malignant_images: of how many; None likewise.
    """

    by_metric: Mapping[str, Score]
    classes: tuple[str, ...]
    malignant: tuple[str, ...]
    images: int
    confusion_matrix: np.ndarray
    missed: int | None
    malignant_images: int | None

    def __getitem__(self, metric: str) -> Score:
        return self.by_metric[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_metric)

    def __len__(self) -> int:
        return len(self.by_metric)

    def __getattr__(self, metric: str) -> Score:
        found = self.__dict__.get("by_metric", {})  # empty while the object is being made, or copied
        if metric in found:
            return found[metric]
        cure = did_you_mean(metric, found, f"there are {', '.join(found)}")
        raise AttributeError(f"a score must be one of those that were asked for, but is {metric!r}: {cure}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name in self.by_metric if name.isidentifier())]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the intervals, each once."""
        return tuple(list_notes(self.values()))

    def to_frame(self) -> pd.DataFrame:
        """One row a metric: value, low, high, confidence, method, groups, note."""
        rows = [asdict(score) for score in self.values()]
        return pd.DataFrame(rows).set_index("metric") if rows else pd.DataFrame()


Values = Sequence[Any] | np.ndarray
"""One entry an image, or one row."""


def score(
    labels: Predictions | Values, probabilities: Values | None = None, groups: Values | None = None, *,
    classes: Sequence[str] | None = None, malignant: str | Sequence[str] | None = None,
    metrics: str | Sequence[str] | None = None, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0,
) -> Scores:  # fmt: skip
    """Scores predictions, each score with an interval that resamples whole groups.

    Example:
        >>> labels = ["ALL", "ALL", "ALL", "HEM", "HEM", "HEM"]
        >>> of_all = [0.9, 0.8, 0.3, 0.2, 0.1, 0.4]  # of two classes: the malignant one's probability
        >>> found = kerasall.score(labels, of_all, groups=["p1", "p1", "p2", "p3", "p3", "p4"], malignant="ALL")
        >>> round(found.accuracy.value, 3), found.accuracy.low < found.accuracy.value < found.accuracy.high
        (0.833, True)
        >>> found.missed, found.malignant_images, found.accuracy.groups
        (1, 3, 4)
        >>> kerasall.score(labels, of_all, malignant="ALL").accuracy.note  # without groups
        'groups are unknown: images of one patient count as independent, the interval is likely too narrow'

    Args:
        labels: N true classes, names or indices; or ``Predictions``, which hold all the rest.
        probabilities: float [N, C], rows that sum to 1, columns in the order of ``classes``; of two classes also [N]:
            those of the malignant one (without ``malignant``, of class 1 where the labels are 0 and 1).
        groups: N names or numbers of patients; images without one (None, nan or "") count as one group, for all may be
            of one patient. Without groups every image is one of its own, and the notes say what that is worth.
        classes: C names in class order. By default those that the labels name, sorted, as scikit-learn orders them; of
            indices the numbers from 0.
        malignant: name or names of the malignant classes.
        metrics: names of ``kerasall.evaluation.metrics.METRICS``, or "recall:ALL" (precision, specificity, f1) for
            those of one class; default those of every report.
        confidence: nominal coverage of the intervals, in (0, 1).
        resamples: draws behind the intervals, at least 100.
        seed: of the draws.

    Raises:
        DataError: shapes that do not fit, labels that are no class, probabilities that are none.
        SettingsError: an unknown metric or class, or a confidence out of range.
    """
    record, named = take_predictions(labels, probabilities, groups, classes=classes, malignant=malignant)
    wanted = [metrics] if isinstance(metrics, str) else metrics
    if wanted is None:
        wanted = [*SCORES, *(MALIGNANT_SCORES if named else ())]
    return score_predictions(Scorer(record, named, resamples, seed, confidence), wanted)


def intervals(
    labels: Predictions | Values, probabilities: Values | None = None, groups: Values | None = None, *,
    metrics: str | Sequence[str] | None = None, classes: Sequence[str] | None = None,
    malignant: str | Sequence[str] | None = None, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0,
) -> dict[str, Interval]:  # fmt: skip
    """Intervals of any metrics, of all there are where none are named: those of single classes, too.

    Example:
        >>> probabilities = [[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.2, 0.8]]
        >>> found = kerasall.intervals([0, 0, 1, 1], probabilities, ["a", "b", "c", "d"], classes=["ALL", "HEM"])
        >>> found["recall:ALL"].value, found["recall:ALL"].low < 1, "roc_auc" in found
        (1.0, True, True)

    Args:
        labels, probabilities, groups, classes, malignant, confidence, resamples, seed: as for ``score``.
        metrics: as for ``score``; default every metric that the labels allow.

    Returns:
        Metric -> value with interval.

    Raises:
        DataError, SettingsError: as for ``score``.
    """
    record, named = take_predictions(labels, probabilities, groups, classes=classes, malignant=malignant)
    wanted = [metrics] if isinstance(metrics, str) else metrics
    if wanted is None:
        every = [*METRICS, *(f"{kind}:{name}" for kind in PER_CLASS for name in record.classes)]
        wanted = [n for n in every if not undefined_reason(find_metric(n, record.classes), record, named)]
    return Scorer(record, named, resamples, seed, confidence).intervals(wanted)


def score_predictions(scorer: Scorer, metrics: Sequence[str]) -> Scores:
    """Scores what is bound in ``scorer``."""
    record, found = scorer.predictions, scorer.intervals(list(metrics))
    matrix, mask, named = confusion_matrix(record), scorer.resampler.malignant, bool(scorer.malignant)
    return Scores(
        {name: Score(**vars(each), metric=name) for name, each in found.items()},
        record.classes, tuple(scorer.malignant), len(record), matrix,
        int(of_matrix.malignant_called_benign(matrix, mask)) if named else None,
        int(of_matrix.malignant_images(matrix, mask)) if named else None,
    )  # fmt: skip


def read_scores(results: Mapping[str, Any]) -> Scores:
    """The scores in the ``results`` of a report.json."""
    return Scores(
        {name: Score(**each, metric=name) for name, each in results["metrics"].items()},
        tuple(results["labels"]), tuple(results["malignant"]), results["images"],
        np.asarray(results["confusion_matrix"], np.int64), results["malignant_called_benign"],
        results["malignant_images"],
    )  # fmt: skip


# --- plain arrays ------------------------------------------------------------------------------------


def take_predictions(
    labels: Any, probabilities: Any = None, groups: Any = None, *,
    classes: Sequence[str] | None = None, malignant: str | Sequence[str] | None = None,
) -> tuple[Predictions, tuple[str, ...]]:  # fmt: skip
    """A record of plain arrays, and the names of the malignant classes; arguments and errors as ``score``."""
    if isinstance(labels, Predictions):
        if probabilities is not None or groups is not None or classes is not None:
            raise SettingsError(
                "predictions must stand alone, as they hold probabilities, groups and classes themselves, but some are "
                "given beside them: leave these out"
            )
        return labels, name_malignant(malignant, labels.classes)
    if probabilities is None:
        raise DataError("labels must come with probabilities, but none are given: pass both, or Predictions")
    true, chances = np.asarray(labels), _as_numbers(probabilities)
    if true.ndim != 1 or not len(true):
        raise DataError(f"labels must be one class an image, but have the shape {true.shape}: flatten them")
    _require_named(true, classes)
    names = _name_classes(true, chances, classes)
    named = name_malignant(malignant, names)
    if chances.ndim == 1:
        chances = _both_columns(chances, true, names, named)
    whose = _name_groups(groups, len(true))
    ids = np.char.add("image ", np.arange(len(true)).astype(str))
    record = Predictions(ids, whose, whose, _index_labels(true, names), chances, names)
    tied = find_highest(np, record.probabilities, np.flatnonzero(malignant_mask(names, named)).tolist())
    return replace(record, decisions=tied), named


def _require_named(labels: np.ndarray, classes: Sequence[str] | None) -> None:
    """Refuses images without a label: "nan" would pass for a class."""
    unknown = (read_names(labels) == "") & ~np.isin(labels.astype(str), list(classes or ()))
    if unknown.any():
        raise DataError(
            f"labels must name the class of every image, but {count_of(int(unknown.sum()), 'image has', 'images have')} "
            f"none, the first at position {int(unknown.argmax())}: leave these images out"
        )


def name_malignant(given: str | Sequence[str] | None, classes: Sequence[str]) -> tuple[str, ...]:
    """The malignant classes, of one name or several.

    Raises:
        SettingsError: one is no class.
    """
    named = (given,) if isinstance(given, str) else tuple(given or ())
    malignant_mask(classes, named)
    return named


def _as_numbers(probabilities: Any) -> np.ndarray:
    try:
        return np.asarray(probabilities, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            "probabilities must be numbers, one row an image and one column a class, but are not: correct them"
        ) from None


def _name_classes(
    labels: np.ndarray, probabilities: np.ndarray, given: Sequence[str] | None
) -> tuple[str, ...]:
    count = probabilities.shape[1] if probabilities.ndim == 2 else 2
    if given is not None:
        names = tuple(map(str, given))
    elif labels.dtype.kind in "iufb":
        names = tuple(map(str, range(count)))
    else:
        names = tuple(sorted(set(map(str, labels))))
    if len(set(names)) != len(names) or len(names) != count or probabilities.ndim not in (1, 2):
        raise DataError(
            f"probabilities must have one column a class, but have the shape {probabilities.shape} for the classes "
            f"{', '.join(names)}: give classes=[...], all of them once, in the order of the columns"
        )
    return names


def _index_labels(labels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    index = {name: number for number, name in enumerate(names)}
    if labels.dtype.kind in "iufb" and not set(labels.astype(str)) <= set(names):
        whole = np.isfinite(labels) & (labels == np.floor(labels)) & (labels >= 0) & (labels < len(names))
        if not whole.all():
            raise DataError(
                f"labels must be class indices from 0 to {len(names) - 1}, but one is {labels[~whole][0]}: number the "
                "classes from 0, or give their names"
            )
        return labels.astype(np.int64)
    unknown = sorted(set(map(str, labels)) - set(names))
    if unknown:
        raise DataError(
            f"labels must be among the classes {', '.join(names)}, but one is {unknown[0]!r}: "
            + did_you_mean(unknown[0], names, "correct it, or name every class in classes")
        )
    return np.array([index[name] for name in map(str, labels)], np.int64)


def _both_columns(
    chances: np.ndarray, labels: np.ndarray, names: tuple[str, ...], malignant: tuple[str, ...]
) -> np.ndarray:
    """Of the probabilities of one class both columns; of which class it is must be said, or be plain."""
    if len(malignant) != 1 and labels.dtype.kind not in "iufb":
        raise SettingsError(
            "probabilities of one class alone must be of the malignant one, but malignant names "
            f"{', '.join(malignant) or 'none'}: give malignant=NAME, or a column for each of {', '.join(names)}"
        )
    outside = ~((chances >= 0) & (chances <= 1))
    if outside.any():
        raise DataError(
            f"probabilities must lie in [0, 1], but that of image {int(outside.argmax())} is "
            f"{chances[outside][0]}: apply a sigmoid to logits"
        )
    second = malignant != names[:1]
    return np.stack([1 - chances, chances] if second else [chances, 1 - chances], axis=1)


def _name_groups(groups: Any, count: int) -> np.ndarray:
    if groups is None:
        return np.full(count, "")
    given = np.asarray(groups, dtype=object)
    if given.shape != (count,):
        raise DataError(
            f"groups must name one patient an image ({count}), but have the shape {given.shape}: correct their length"
        )
    return np.array(["" if pd.isna(each) else str(each) for each in given], dtype=str)
