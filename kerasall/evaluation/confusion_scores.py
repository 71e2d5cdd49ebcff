"""Scores that the confusion matrix alone gives, for one matrix or a stack of thousands.

A matrix holds counts (or weights) of images, rows = true class, columns = decided class. A score whose
denominator is zero is NaN, without a warning; ``CONDITIONS`` gives the reason in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Classes = Sequence[str]

OfClasses = Callable[[np.ndarray], np.ndarray]
"""Matrices float [..., C, C] -> one value per class [..., C]; NaN = undefined."""

Formula = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(matrices float [..., C, C], malignant bool [C]) -> values [...]; NaN = undefined."""


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Division that gives NaN, without a warning, where the denominator is zero."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)


def _diagonal(matrices: np.ndarray) -> np.ndarray:
    return np.diagonal(matrices, axis1=-2, axis2=-1)


def recall(matrices: np.ndarray) -> np.ndarray:
    """Share of the images of each class that are decided as it."""
    return ratio(_diagonal(matrices), matrices.sum(axis=-1))


def precision(matrices: np.ndarray) -> np.ndarray:
    """Share of the images decided as each class that belong to it."""
    return ratio(_diagonal(matrices), matrices.sum(axis=-2))


def f1(matrices: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall, 2 n_cc / (n_c. + n_.c)."""
    return ratio(2 * _diagonal(matrices), matrices.sum(axis=-1) + matrices.sum(axis=-2))


def _other_images(matrices: np.ndarray) -> np.ndarray:
    """Images of all other classes, per class [..., C]."""
    labelled = matrices.sum(axis=-1)
    return labelled.sum(axis=-1, keepdims=True) - labelled


def specificity(matrices: np.ndarray) -> np.ndarray:
    """Share of the images of all other classes that are not decided as the class."""
    false_alarms = matrices.sum(axis=-2) - _diagonal(matrices)
    others = _other_images(matrices)
    return ratio(others - false_alarms, others)


def _decided(matrices: np.ndarray) -> np.ndarray:
    return matrices.sum(axis=-2)


def _labelled(matrices: np.ndarray) -> np.ndarray:
    return matrices.sum(axis=-1)


PER_CLASS: dict[str, tuple[OfClasses, OfClasses, bool]] = {
    "precision": (precision, _decided, True),
    "recall": (recall, _labelled, True),
    "specificity": (specificity, _other_images, True),
    "f1": (f1, lambda matrices: _labelled(matrices) + _decided(matrices), False),
}
"""Scores of single classes: name -> values, the images in the denominator, and whether it is a plain proportion of them."""


def macro(of_classes: OfClasses, matrices: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Plain mean of the classes' values."""
    return of_classes(matrices).mean(axis=-1)


def weighted(of_classes: OfClasses, matrices: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Mean of the classes' values, weighted by their images."""
    images = matrices.sum(axis=-1)
    # A class without images has weight zero, whatever its own score would be.
    return ratio(np.where(images > 0, images * of_classes(matrices), 0.0).sum(axis=-1), images.sum(axis=-1))


def images(matrices: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Number of images."""
    return matrices.sum(axis=(-2, -1))


def accuracy(matrices: np.ndarray, malignant: np.ndarray) -> np.ndarray:
    """Share of the images decided rightly."""
    return ratio(_diagonal(matrices).sum(axis=-1), images(matrices, malignant))


def kappa(matrices: np.ndarray, malignant: np.ndarray) -> np.ndarray:
    """Agreement beyond chance (Cohen 1960)."""
    total = images(matrices, malignant)
    chance = ratio((matrices.sum(axis=-1) * matrices.sum(axis=-2)).sum(axis=-1), total**2)
    # A disagreement of exactly zero by chance leaves nothing to compare with.
    return ratio(accuracy(matrices, malignant) - chance, 1 - chance)


def mcc(matrices: np.ndarray, malignant: np.ndarray) -> np.ndarray:
    """Correlation of labels and decisions (Matthews 1975; Gorodkin 2004 for many classes)."""
    total, labelled, decided = images(matrices, malignant), matrices.sum(axis=-1), matrices.sum(axis=-2)
    covariance = _diagonal(matrices).sum(axis=-1) * total - (labelled * decided).sum(axis=-1)
    spread = (total**2 - (labelled**2).sum(axis=-1)) * (total**2 - (decided**2).sum(axis=-1))
    return ratio(covariance, np.sqrt(np.maximum(spread, 0)))


def malignant_images(matrices: np.ndarray, malignant: np.ndarray) -> np.ndarray:
    """Images labelled with a malignant class."""
    return matrices[..., malignant, :].sum(axis=(-2, -1))


def benign_images(matrices: np.ndarray, malignant: np.ndarray) -> np.ndarray:
    """Images labelled with a benign class."""
    return matrices[..., ~malignant, :].sum(axis=(-2, -1))


def malignant_called_benign(matrices: np.ndarray, malignant: np.ndarray) -> np.ndarray:
    """Malignant images decided as benign."""
    return matrices[..., malignant, :][..., ~malignant].sum(axis=(-2, -1))


def malignant_sensitivity(matrices: np.ndarray, malignant: np.ndarray) -> np.ndarray:
    """Share of malignant images decided as any malignant class."""
    found = matrices[..., malignant, :][..., malignant].sum(axis=(-2, -1))
    return ratio(found, malignant_images(matrices, malignant))


def malignant_specificity(matrices: np.ndarray, malignant: np.ndarray) -> np.ndarray:
    """Share of benign images decided as any benign class."""
    found = matrices[..., ~malignant, :][..., ~malignant].sum(axis=(-2, -1))
    return ratio(found, benign_images(matrices, malignant))


# --- when a value is defined -------------------------------------------------------------------------


def _lacking(words: str, classes: Classes, absent: np.ndarray) -> str:
    return f"{words} {', '.join(np.asarray(classes)[absent])}" if absent.any() else ""


def _two_at_all(_: Classes, matrix: np.ndarray, __: np.ndarray) -> str:
    seen = (matrix.sum(axis=0) > 0) | (matrix.sum(axis=1) > 0)
    return "" if seen.sum() > 1 else "labels and decisions are all one class: agreement by chance is certain"


def _malignant_labelled(classes: Classes, matrix: np.ndarray, malignant: np.ndarray) -> str:
    if not malignant.any():
        return "no class is named as malignant"
    return "" if matrix[malignant].sum() else _lacking("no image is labelled", classes, malignant)


def _benign_labelled(_: Classes, matrix: np.ndarray, malignant: np.ndarray) -> str:
    if not malignant.any():
        return "no class is named as malignant"
    return "" if matrix[~malignant].sum() else "every image is labelled with a malignant class"


CONDITIONS: dict[str, Callable[[Classes, np.ndarray, np.ndarray], str]] = {
    "every class labelled": lambda classes, matrix, _: _lacking(
        "no image is labelled", classes, matrix.sum(axis=1) == 0
    ),
    "every class decided": lambda classes, matrix, _: _lacking(
        "no image is decided as", classes, matrix.sum(axis=0) == 0
    ),
    "labelled classes decided": lambda classes, matrix, _: _lacking(
        "no image is decided as", classes, (matrix.sum(axis=0) == 0) & (matrix.sum(axis=1) > 0)
    ),
    "two classes labelled": lambda _, matrix, __: (
        "" if (matrix.sum(axis=1) > 0).sum() > 1 else "all images are labelled with one class"
    ),
    "two classes decided": lambda _, matrix, __: (
        "" if (matrix.sum(axis=0) > 0).sum() > 1 else "all images are decided as one class"
    ),
    "two classes at all": _two_at_all,
    "malignant labelled": _malignant_labelled,
    "benign labelled": _benign_labelled,
}
"""Name -> (class names, confusion matrix, malignant bool [C]) -> "" if it holds, else why it does not."""
