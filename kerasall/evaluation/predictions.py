"""The record in the middle: what was predicted for whom. Every score reads only this."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasall.csv_tables import read_csv, write_csv
from kerasall.errors import DataError
from kerasall.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

UNNAMED = "(unnamed)"
"""Group of the images that name neither group nor patient, where others do: whose they are nobody knows, and counted
one by one they would pass for so many patients."""

UNKNOWN = ("", "nan", "none", "nat", "<na>")
"""What an array of names holds, once it is text in small letters, where there is none."""

PER_IMAGE = ("ids", "subjects", "groups", "labels", "probabilities", "decisions")
"""Fields of ``Predictions`` with one entry per image."""


class JsonFields:
    """A dataclass whose JSON lists its fields, those of records inside it included."""

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return asdict(self)  # type: ignore[call-overload]  # of dataclasses only


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predicted probabilities of N images over C classes.

    Example:
        >>> patients = ["p1", "p1", "p2"]
        >>> chances = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
        >>> record = kerasall.Predictions(["a", "b", "c"], patients, patients, [0, 0, 1], chances, ("ALL", "HEM"))
        >>> len(record), record.decisions.tolist(), record.right.tolist()
        (3, [0, 1, 1], [True, False, True])
        >>> kerasall.score(record).accuracy.groups
        2

    Attributes:
        ids: N unique names of images.
        subjects: N names of patients (or stated stand-ins); "" where unknown (None and nan become "").
        groups: N names of groups that are independent of one another (a subject joined with its
            duplicates). Intervals resample these. An image without one is in its subject's; images without both are
            ``UNNAMED`` where others name theirs, for they may all be of one patient. So are the groups in which no image
            names a subject, where others do. "" where no image names anything: each stands for itself.
        labels: N true class indices, int64, in [0, C).
        probabilities: float64 [N, C]; rows sum to 1 within 1e-3.
        classes: C class names; index i is class i.
        decisions: N decided class indices, int64. Where none are given, the most probable class,
            the lowest index winning a tie. An ensemble that votes gives its own.
    """

    ids: np.ndarray
    subjects: np.ndarray
    groups: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]
    decisions: np.ndarray = None  # type: ignore[assignment]  # always an array once made

    def __post_init__(self) -> None:
        probabilities, decisions = np.asarray(self.probabilities, dtype=np.float64), self.decisions
        if decisions is None:
            some = probabilities.ndim == 2 and len(probabilities)
            decisions = probabilities.argmax(axis=1) if some else np.empty(0)
        subjects, groups = (read_names(getattr(self, name)) for name in ("subjects", "groups"))
        converted = {
            "ids": np.asarray(self.ids, dtype=str),
            "subjects": subjects,
            "groups": _complete_groups(groups, subjects) if groups.shape == subjects.shape else groups,
            "labels": np.asarray(self.labels, dtype=np.int64),
            "probabilities": probabilities,
            "classes": tuple(str(name) for name in self.classes),
            "decisions": np.asarray(decisions, dtype=np.int64),
        }
        for name, value in converted.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        count, classes = len(self.ids), len(self.classes)
        if self.probabilities.shape != (count, classes):
            raise DataError(
                f"probabilities must have shape ({count}, {classes}) for {count} ids and {classes} classes, "
                f"but have {self.probabilities.shape}: give one row an image and one column a class"
            )
        for name in ("subjects", "groups", "labels", "decisions"):
            if getattr(self, name).shape != (count,):
                raise DataError(
                    f"{name} must have one entry per id ({count}), but has shape {getattr(self, name).shape}: "
                    "correct its length"
                )
        if len(np.unique(self.ids)) != count:
            names, counts = np.unique(self.ids, return_counts=True)
            raise DataError(
                f"ids must be unique, but {names[counts > 1][0]} is there {counts.max()} times: leave one out"
            )
        if count == 0:
            return
        for name in ("labels", "decisions"):
            values = getattr(self, name)
            if values.min() < 0 or values.max() >= classes:
                raise DataError(
                    f"{name} must lie in [0, {classes}), but range from {values.min()} to {values.max()}: "
                    "number the classes from 0"
                )
        if not np.isfinite(self.probabilities).all():
            bad = self.ids[~np.isfinite(self.probabilities).all(axis=1)][:3]
            raise DataError(
                f"probabilities must be finite, but are not for {', '.join(bad)}: leave these images out"
            )
        sums = self.probabilities.sum(axis=1)
        wrong = (self.probabilities < 0).any(axis=1) | (np.abs(sums - 1) > 1e-3)
        if wrong.any():
            first = int(wrong.argmax())
            raise DataError(
                f"probabilities must be in [0, 1] and sum to 1 per row, but {wrong.sum():,} of {count:,} rows do not; "
                f"that of {self.ids[first]} sums to {sums[first]:.4g}: apply a softmax to logits"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def group_names(self) -> np.ndarray:
        """Name of each image's group: str [N]. Where nothing is known of any, each image is a group of its own."""
        return np.where(self.groups == "", np.char.add("\0", self.ids), self.groups)

    @property
    def right(self) -> np.ndarray:
        """Which images are decided as they are labelled: bool [N]."""
        return self.decisions == self.labels

    @property
    def confidences(self) -> np.ndarray:
        """Probability of the decided class: float [N]."""
        return self.probabilities[np.arange(len(self)), self.decisions]

    @property
    def of_truth(self) -> np.ndarray:
        """Probability of the true class: float [N]."""
        return self.probabilities[np.arange(len(self)), self.labels]

    def take(self, rows: np.ndarray) -> Predictions:
        """The predictions of the given rows (indices or a boolean mask)."""
        return replace(self, **{name: getattr(self, name)[rows] for name in PER_IMAGE})

    def in_order(self, ids: np.ndarray) -> Predictions:
        """The predictions of the given images, all of which must be known, in the given order."""
        order = np.argsort(self.ids)
        return self.take(order[np.searchsorted(self.ids, ids, sorter=order)])


def read_names(given: Any) -> np.ndarray:
    """Names of patients or groups as text: str [N], "" where there is none.

    >>> read_names(["P1", None, float("nan"), " nan ", ""]).tolist()
    ['P1', '', '', '', '']
    """
    names = np.asarray(given)
    if names.dtype.kind != "U":  # text holds no None
        import pandas as pd  # not above: what serves a model reads no predictions, and pandas takes as long as all the rest

        names = np.asarray(given, dtype=object)
        names = np.where(pd.isna(names), "", names).astype(str)
    return np.where(np.isin(np.char.lower(np.char.strip(names)), UNKNOWN), "", names)


def _complete_groups(groups: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Never more groups than are known to be apart: see ``Predictions``."""
    groups = np.where(groups == "", subjects, groups)
    if not (groups != "").any():
        return groups
    named = subjects != ""
    alone = groups == ""
    if named.any() and not named.all():
        alone |= ~np.isin(groups, groups[named])
    return np.where(alone, UNNAMED, groups)


def concatenate(parts: list[Predictions]) -> Predictions:
    """Joins predictions over the same classes, for example of k held-out folds."""
    if not parts:
        raise DataError("at least one record of predictions is needed, but none was given")
    if len({part.classes for part in parts}) != 1:
        raise DataError(f"records must share one class order, but have {sorted({p.classes for p in parts})}")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in PER_IMAGE}
    return Predictions(classes=parts[0].classes, **joined)


def write_predictions(predictions: Predictions, path: str | Path) -> None:
    """Writes ``.npz`` (exact) or ``.csv`` (nine digits), by suffix, atomically."""
    path = Path(path)
    if path.suffix not in (".npz", ".csv"):
        raise DataError(f"predictions are written as .npz or .csv, but the path is {path}")
    if path.suffix == ".csv":
        write_csv(_to_table(predictions), path, float_format="%.9f")
        return
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **{f.name: getattr(predictions, f.name) for f in fields(predictions)})


def read_predictions(path: str | Path) -> Predictions:
    """Reads what ``write_predictions`` wrote, such as a run's predictions.csv.

    Example:
        >>> record = kerasall.read_predictions(kerasall.Run.find("tiny").predictions_file)
        >>> record.classes, record.probabilities.shape
        (('all', 'hem'), (16, 2))

    Raises:
        DataError: the file is missing, of another kind, or does not hold predictions.
    """
    path = Path(path)
    if path.suffix not in (".npz", ".csv"):
        raise DataError(f"predictions are read from .npz or .csv, but the path is {path}")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return Predictions(**{f.name: arrays[f.name] for f in fields(Predictions)})
        strings = dict.fromkeys(("id", "subject", "group", "label", "decision"), str)
        return _from_table(read_csv(path, dtype=strings))
    except DataError:
        raise
    except Exception as error:  # whatever a broken file provokes in numpy or pandas
        raise DataError(f"{path} must hold predictions, but reading it failed: {error}") from None


def _to_table(predictions: Predictions) -> pd.DataFrame:
    import pandas as pd

    names = np.asarray(predictions.classes)
    columns = {"id": predictions.ids, "subject": predictions.subjects, "group": predictions.groups}
    columns |= {"label": names[predictions.labels], "decision": names[predictions.decisions]}
    columns |= {f"p_{name}": predictions.probabilities[:, k] for k, name in enumerate(predictions.classes)}
    return pd.DataFrame(columns)


def _from_table(table: pd.DataFrame) -> Predictions:
    classes = tuple(name[2:] for name in table.columns if name.startswith("p_"))
    index = {name: i for i, name in enumerate(classes)}
    return Predictions(
        ids=table["id"].to_numpy(),
        subjects=table["subject"].to_numpy(),
        groups=table["group"].to_numpy(),
        labels=table["label"].map(index).to_numpy(),
        decisions=table["decision"].map(index).to_numpy(),
        probabilities=table[[f"p_{name}" for name in classes]].astype(float).to_numpy(),
        classes=classes,
    )
