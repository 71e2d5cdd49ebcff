"""What the safeguards are worth, and what a model knows without the cell: calibration, referral, net benefit, baselines.

    python -m results.trust --cnmc PATH --aria PATH/Original --weights DIR --cache DIR

The linear head on frozen MobileNet features (``results.leakage``), honest folds, one draw. Temperature, thresholds, prediction sets
and the limit of the domain are those of an exported model (``kerasall.evaluation.safeguards``); every image is judged by what
the other folds fit. Beside them stands what is left when a part of every image is taken away: the cells, all but the cells, or of cells on
black everything but their outline; and what a random forest of colour, contrast, size and focus alone reaches.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from kerasall.data.likeness import find_foreground
from kerasall.data.oddness import measure_images, score_colour_alone
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.cross_fitting import cross_fit
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.operating_points import operating_point
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.safeguards import (
    DomainLimit,
    Safeguards,
    WantedPoint,
    fit_prediction_sets,
    group_quantile,
)
from kerasall.evaluation.trust_scores import score_safeguards
from results.frozen import Altered, Images, compute_features, measure_pictures, read_images
from results.leakage import (
    HEADS,
    METRICS,
    NETWORK,
    PROTOCOLS,
    draw_split,
    finish,
    measure_effect,
    number_parts,
    parse,
    predict_out_of_fold,
)

if TYPE_CHECKING:
    from kerasall.models.out_of_domain import DomainDistance, FeatureDistance

SENSITIVITIES, COVERAGE, FALSE_REFERRAL = (0.95, 0.99), 0.95, 0.05
"""The defaults of the settings ``calibrate``."""
GREY = 128


# --- what is taken out of an image --------------------------------------------------------------------


def alter_fields(image: np.ndarray) -> dict[str, np.ndarray]:
    """A field of cells without its nucleated cells, filled from around them, and with everything but them in its median colour.

    Args:
        image: uint8 [H, W, 3].
    """
    from benchmarks.explanation_in_cell import find_cells, paint_out

    mask = find_cells(image)
    ground = np.median(image, axis=(0, 1)).astype(np.uint8)
    return {
        "no_cells": paint_out(image[None], mask[None])[0],
        "cells_alone": np.where(mask[..., None], image, ground),
    }


def alter_cells(image: np.ndarray) -> dict[str, np.ndarray]:
    """A cell on black filled with the same grey as any other, so that size and outline are left, and with its mean colour.

    Args:
        image: uint8 [H, W, 3].
    """
    found = find_foreground(image).mask
    mask = np.ones(image.shape[:2], bool) if found is None else found
    mean = np.round(cv2.mean(image, mask.astype(np.uint8))[:3])
    return {
        name: np.where(mask[..., None], colour, 0).astype(np.uint8)
        for name, colour in {"outline": (GREY,) * 3, "outline_colour": mean}.items()
    }


ALTER: dict[str, Callable[[np.ndarray], dict[str, np.ndarray]]] = {"cnmc": alter_cells, "aria": alter_fields}
"""Source -> what makes of an image all that are shown in its place, by the names of ``TITLES``."""
TITLES = {
    "outline": "size and outline of the cell alone",
    "outline_colour": "outline and mean colour of the cell alone",
    "no_cells": "the cells painted out",
    "cells_alone": "all but the cells painted out",
}


def alter_images(images: Images) -> dict[str, Altered]:
    """All images altered, by the names of ``TITLES``."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        found = list(threads.map(ALTER[images.collection.source], images.pixels.pixels))
    stacked = {name: np.array([each[name] for each in found]) for name in found[0]}
    return {
        name: Altered(pixels, hashlib.sha256(pixels.data).hexdigest()) for name, pixels in stacked.items()
    }


def compare_altered(
    images: Images, whole: np.ndarray, altered: np.ndarray, parts: np.ndarray
) -> dict[str, Any]:
    """What the head calls altered images of the held-out fold: fitted to whole images, and to altered ones.

    Args:
        images: N of them.
        whole, altered: features [N, D] of the images as they are and altered.
        parts: number of each image's fold.
    """
    head, malignant = HEADS["linear"], images.collection.malignant
    values, others = np.asarray(whole, np.float64), np.asarray(altered, np.float64)

    def answer(outside: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return head(values[outside], images.labels[outside], others[inside])

    plain = predict_out_of_fold(images, whole, parts, head)
    shown, learnt = images.record(cross_fit(parts, answer)), predict_out_of_fold(images, altered, parts, head)
    kept = Scorer(plain).share(plain.decisions == shown.decisions)
    return {
        "calls_kept": kept.to_json(),
        "fitted_to_whole": _score(shown, malignant),
        "fitted_to_altered": _score(learnt, malignant),
        "fitted_to_altered_less_whole": {
            metric: measure_effect([learnt], [plain], metric, malignant) for metric in METRICS
        },
    }


def _score(record: Predictions, malignant: tuple[str, ...]) -> dict[str, Any]:
    return {name: each.to_json() for name, each in Scorer(record, malignant).intervals(METRICS).items()}


def score_colours(images: Images) -> dict[str, Any]:
    """Balanced accuracy of colour and focus alone: with groups whole, and with single images dealt out."""
    table = measure_images(images.collection, images.scan)
    place = {name: row for row, name in enumerate(images.ids)}
    groups = images.groups[[place[name] for name in table["id"]]]
    found = {"groups": groups, "single_images": table["id"].to_numpy(str)}
    scores = {name: score_colour_alone(table, each, images.collection.labels) for name, each in found.items()}
    return {name: each and each.to_json() for name, each in scores.items()}


# --- safeguards ---------------------------------------------------------------------------------------


def measure_trust(
    record: Predictions, folds: Mapping[str, list[str]], malignant: tuple[str, ...],
    distances: np.ndarray | None = None, domain: DomainLimit | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Everything that a report says of the safeguards, of out-of-fold predictions judged by the other folds' fits.

    Args:
        record: N out-of-fold predictions.
        folds: fold -> its ids.
        malignant: names of the malignant classes.
        distances: of the images to the training images [N], each measured without its fold.
        domain: the limit that an exported model has for them.
    """
    calibration = fit_calibration(record)
    calibrated = calibration.apply_to(record)
    wanted = tuple(WantedPoint(each, operating_point(calibrated, malignant, each)) for each in SENSITIVITIES)
    sets = fit_prediction_sets(calibrated, COVERAGE)
    why = "" if domain else "no distances were measured"
    safeguards = Safeguards(calibration, "probabilities", "out-of-fold", wanted, sets, domain, why)
    scorer = Scorer(record, malignant)
    return score_safeguards(scorer, safeguards, distances, folds, kind="out-of-fold").to_json()


def measure_domain(
    images: Images, kinds: tuple[np.ndarray, np.ndarray], parts: np.ndarray
) -> tuple[DomainDistance, DomainLimit, np.ndarray]:
    """The distance of an exported model with its limit, and the distances that set it, each measured without its fold.

    Args:
        images: N of them.
        kinds: pooled features and statistics of the pictures, [N, D] both.
        parts: number of each image's fold.
    """
    from kerasall.models.out_of_domain import SMALLEST_VARIANCE, DomainDistance  # loads TensorFlow

    share, names, labels = 1 - FALSE_REFERRAL, images.groups, images.labels
    pairs = list(zip(kinds, (0.0, SMALLEST_VARIANCE), strict=True))
    fitted = [_fit_distance(*each, labels) for each in pairs]
    measured = [_measure_without(*each, labels, parts) for each in pairs]
    # Each in units of its own limit, so that neither drowns the other.
    scales = [group_quantile(each, names, share, unseen_group=False) for each in measured]
    distances = np.max([each / scale for each, scale in zip(measured, scales, strict=True)], axis=0)
    limit = group_quantile(distances, names, share, unseen_group=False)
    domain = DomainLimit(
        limit, FALSE_REFERRAL, len(names), len(np.unique(names)), "pooled features, pictures"
    )
    return DomainDistance(fitted[0], fitted[1], (scales[0], scales[1])), domain, distances


def _fit_distance(values: np.ndarray, variance: float, labels: np.ndarray) -> FeatureDistance:
    from kerasall.models.out_of_domain import fit_feature_distance

    return fit_feature_distance(values, labels, smallest_variance=variance)


def _measure_without(
    values: np.ndarray, variance: float, labels: np.ndarray, parts: np.ndarray
) -> np.ndarray:
    """Every image's distance to the images of the other folds, float [N]."""

    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return _fit_distance(values[others], variance, labels[others]).measure(np, values[inside])

    return cross_fit(parts, answer)


def share_beyond(images: Images, distances: np.ndarray, limit: float) -> dict[str, Any]:
    """Share of a set's images farther than the limit, with its interval over the set's groups."""
    blank = np.full((len(images.ids), len(images.collection.labels)), 1 / len(images.collection.labels))
    return Scorer(images.record(blank)).share(distances > limit).to_json()


# --- the study ----------------------------------------------------------------------------------------


def study_set(images: Images, other: Images | None, weights: Path) -> dict[str, Any]:
    """Everything that is told of one set.

    Args:
        images: the set.
        other: the other one, of which all images are unlike these.
        weights: folder of ImageNet weights.
    """
    started, source = time.perf_counter(), images.collection.source
    malignant = images.collection.malignant
    split = draw_split(images, PROTOCOLS[source][-1], 0)
    parts, whole = number_parts(images, split), compute_features(images, NETWORK, weights)
    record = predict_out_of_fold(images, whole.values, parts, HEADS["linear"])
    distance, domain, distances = measure_domain(images, (whole.values, measure_pictures(images)), parts)
    found: dict[str, Any] = {
        **images.describe(), "protocol": PROTOCOLS[source][-1].title, "split": split.sha256, "features": whole.facts,
        "scores": _score(record, malignant),
        "trust": measure_trust(record, {fold: split.ids(fold) for fold in split.folds}, malignant, distances, domain),
        "colour_alone": score_colours(images),
    }  # fmt: skip
    if other is not None:
        theirs = distance.measure(
            np, compute_features(other, NETWORK, weights).values, measure_pictures(other)
        )
        found["other_set"] = {"source": other.collection.source} | share_beyond(other, theirs, domain.limit)
    found["altered"] = {
        name: {"title": TITLES[name]}
        | compare_altered(
            images, whole.values, compute_features(images, NETWORK, weights, altered).values, parts
        )
        for name, altered in alter_images(images).items()
    }
    return found | {"seconds": time.perf_counter() - started}


def main() -> None:
    """Writes trust.json."""
    given = parse(__doc__).parse_args()
    read = {
        source: read_images(source, path, given.cache)
        for source in PROTOCOLS
        if (path := getattr(given, source))
    }
    sets = {}
    for source, images in read.items():
        other = next((each for name, each in read.items() if name != source), None)
        sets[source] = study_set(images, other, given.weights)
    document = {
        "command": "python -m results.trust --cnmc PATH --aria PATH/Original --weights DIR --cache DIR",
        "settings": {
            "network": NETWORK, "seed": 0, "sensitivities": SENSITIVITIES, "coverage": COVERAGE, "false_referral": FALSE_REFERRAL,
        },
        "sets": sets,
    }  # fmt: skip
    finish(given.out, "trust", document)


if __name__ == "__main__":
    main()
