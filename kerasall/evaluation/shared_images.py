"""Systems to compare, brought to the images that all of them predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kerasall.errors import DataError
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import group_names

_MOST_NAMED = 3


@dataclass(frozen=True, eq=False)
class System:
    """One of the systems to compare: what it predicted, and what is known of how.

    Attributes:
        name: unique among the compared.
        predictions: of the images it was scored on.
        source: where the predictions came from, for the record.
        scored: ``test``, ``out-of-fold`` or ``selection``; "" where unknown.
        malignant: names of the malignant classes; None where unknown.
        fingerprint: of its data set (ids, labels, subjects, contents); "" where unknown.
        split: digest of its split; "" where unknown.
        main_metric: the score its own report is about; "" where unknown.
    """

    name: str
    predictions: Predictions
    source: str = ""
    scored: str = ""
    malignant: tuple[str, ...] | None = None
    fingerprint: str = ""
    split: str = ""
    main_metric: str = ""


@dataclass(frozen=True, eq=False)
class SharedImages:
    """The predictions of every system for the shared images.

    Attributes:
        records: one a system, all with the same ids, labels, groups, subjects and class order.
        not_shared: images of each system that another one did not predict, and that are left out.
        joined: whether the systems grouped the images differently, so that their groups were joined.
    """

    records: tuple[Predictions, ...]
    not_shared: tuple[int, ...]
    joined: bool


def share_images(systems: Sequence[System]) -> SharedImages:
    """Takes the images that all systems predicted, in the first one's order of images and classes.

    Two images are of one group where any system's groups, linked through one another, say so: what one
    run knows of patients and duplicates holds for all.

    Raises:
        DataError: fewer than two systems, equal names, different classes, no shared image, or a shared
            image whose true label differs.
    """
    _check_systems(systems)
    first = systems[0].predictions
    shared = set(first.ids.tolist()).intersection(
        *(system.predictions.ids.tolist() for system in systems[1:])
    )
    if not shared:
        examples = "; ".join(f"{s.name}: {list(s.predictions.ids[:2])}" for s in systems)
        raise DataError(
            f"compared systems must have predicted the same images, but no id is shared ({examples}): compare "
            "runs on the same data and the same test part"
        )
    ids = [name for name in first.ids.tolist() if name in shared]
    records = [_reordered(system.predictions, ids, first.classes) for system in systems]
    _check_labels(systems, records)
    subjects, groups, joined = _joined_groups(records)
    return SharedImages(
        records=tuple(replace(record, subjects=subjects, groups=groups) for record in records),
        not_shared=tuple(len(system.predictions) - len(ids) for system in systems),
        joined=joined,
    )


def _check_systems(systems: Sequence[System]) -> None:
    if len(systems) < 2:
        raise DataError(f"a comparison needs at least two systems, but {len(systems)} is given: name another")
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        raise DataError(f"compared systems must have names of their own, but are called {names}")
    classes = systems[0].predictions.classes
    for system in systems[1:]:
        if set(system.predictions.classes) != set(classes):
            raise DataError(
                f"compared systems must know the same classes, but {systems[0].name} knows {list(classes)} and "
                f"{system.name} knows {list(system.predictions.classes)}: compare runs on the same classes"
            )


def _reordered(predictions: Predictions, ids: list[str], classes: tuple[str, ...]) -> Predictions:
    """The given images in the given order, classes in the given order."""
    row_of = {name: row for row, name in enumerate(predictions.ids.tolist())}
    taken = predictions.take(np.asarray([row_of[name] for name in ids], dtype=np.int64))
    if taken.classes == classes:
        return taken
    new_of_old = np.asarray([classes.index(name) for name in taken.classes])
    return replace(
        taken,
        labels=new_of_old[taken.labels],
        decisions=new_of_old[taken.decisions],
        probabilities=taken.probabilities[:, np.argsort(new_of_old)],
        classes=classes,
    )


def _check_labels(systems: Sequence[System], records: Sequence[Predictions]) -> None:
    first = records[0]
    for system, record in zip(systems[1:], records[1:], strict=True):
        differ = np.flatnonzero(record.labels != first.labels)
        if len(differ):
            some = ", ".join(
                f"{first.ids[row]} ({first.classes[first.labels[row]]} against {first.classes[record.labels[row]]})"
                for row in differ[:_MOST_NAMED]
            )
            raise DataError(
                f"a shared image must have one true label, but {systems[0].name} and {system.name} differ on "
                f"{len(differ):,} of {len(first):,}: {some}: score both on the same labels"
            )


def _joined_groups(records: Sequence[Predictions]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Subjects, groups, and whether the groups had to be joined."""
    subjects = records[0].subjects
    for record in records[1:]:
        subjects = np.where(subjects == "", record.subjects, subjects)
    codes = [np.unique(group_names(record), return_inverse=True)[1] for record in records]
    if all(np.array_equal(_first_rows(code), _first_rows(codes[0])) for code in codes[1:]):
        return subjects, records[0].groups, False
    # A graph of images and of every system's groups; its connected parts are the joined groups.
    count, edges, offset = len(subjects), [], len(subjects)
    for code in codes:
        edges.append(np.stack([np.arange(count), offset + code]))
        offset += int(code.max()) + 1
    ends = np.concatenate(edges, axis=1)
    _, part = connected_components(
        coo_array((np.ones(ends.shape[1]), ends), shape=(offset, offset)), directed=False
    )
    names = group_names(records[0])
    return subjects, names[_first_rows(part[:count])], True


def _first_rows(codes: np.ndarray) -> np.ndarray:
    """First row with the same code, int [N]: equal for two codings of the same groups."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return first[inverse]
