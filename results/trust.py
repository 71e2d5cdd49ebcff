"""What the safeguards are worth, and what a model knows without the cell: calibration, referral, net benefit, baselines.

    python -m results.trust --cnmc PATH --aria PATH/Original --weights DIR --cache DIR

The linear head on frozen MobileNet features (``results.leakage``), honest folds, one draw. Temperature, thresholds, prediction sets
and the limit of the domain are those of an exported model (``kerasall.evaluation.safeguards``); every image is judged by what
the other folds fit. Beside them stands what is left when a part of every image is taken away: the cells, all but the cells, or of cells on
black everything but their outline; and what a random forest of colour, contrast, size and focus alone reaches.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
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
from kerasall.shown_text import show
from results.frozen import PICTURES, Alter, Images, compute_features, read_images
from results.leakage import (
    HEADS,
    METRICS,
    NAMES,
    NETWORK,
    PROTOCOLS,
    draw_split,
    measure_effect,
    number_parts,
    parse,
    points,
    predict_out_of_fold,
)
from results.provenance import write_study

if TYPE_CHECKING:
    from kerasall.models.out_of_domain import DomainDistance, FeatureDistance

SENSITIVITIES, COVERAGE, FALSE_REFERRAL = (0.95, 0.99), 0.95, 0.05
"""The defaults of the settings ``calibrate``."""
GREY = 128


# --- what is taken out of an image --------------------------------------------------------------------


def paint_cells_out(pixels: np.ndarray) -> np.ndarray:
    """Fields of cells without their nucleated cells, filled from around them: uint8 [N, H, W, 3]."""
    from benchmarks.explanation_in_cell import find_cells, paint_out

    return paint_out(pixels, np.array([find_cells(each) for each in pixels]))


def keep_cells_alone(pixels: np.ndarray) -> np.ndarray:
    """Fields of cells with everything but the nucleated cells in the median colour: uint8 [N, H, W, 3]."""
    from benchmarks.explanation_in_cell import find_cells

    masks = np.array([find_cells(each) for each in pixels])
    ground = np.median(pixels, axis=(1, 2)).astype(np.uint8)[:, None, None]
    return np.where(masks[..., None], pixels, ground)


def keep_outlines(pixels: np.ndarray) -> np.ndarray:
    """Cells on black, each filled with the same grey: size and outline alone, uint8 [N, H, W, 3]."""
    return _fill_cells(pixels, lambda *_: GREY)


def keep_outlines_and_colours(pixels: np.ndarray) -> np.ndarray:
    """Cells on black, each filled with its own mean colour: uint8 [N, H, W, 3]."""
    return _fill_cells(pixels, lambda each, mask: np.round(cv2.mean(each, mask)[:3]))


def _fill_cells(pixels: np.ndarray, colour: Any) -> np.ndarray:
    filled = np.zeros_like(pixels)
    for each, out in zip(pixels, filled, strict=True):
        mask = find_foreground(each).mask
        inside = np.ones(each.shape[:2], bool) if mask is None else mask
        out[inside] = colour(each, inside.astype(np.uint8))
    return filled


@dataclass(frozen=True)
class Alteration:
    """What is done to every image, in words and as a function."""

    title: str
    alter: Alter


ALTERATIONS: dict[str, dict[str, Alteration]] = {
    "cnmc": {
        "outline": Alteration("size and outline of the cell alone", keep_outlines),
        "outline_colour": Alteration("outline and mean colour of the cell alone", keep_outlines_and_colours),
    },
    "aria": {
        "no_cells": Alteration("the cells painted out", paint_cells_out),
        "cells_alone": Alteration("all but the cells painted out", keep_cells_alone),
    },
}
"""Source -> name -> what is taken out."""


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
    pictures = compute_features(images, PICTURES, weights)
    distance, domain, distances = measure_domain(images, (whole.values, pictures.values), parts)
    found: dict[str, Any] = {
        **images.describe(), "protocol": PROTOCOLS[source][-1].title, "split": split.sha256, "features": whole.facts,
        "scores": _score(record, malignant),
        "trust": measure_trust(record, {fold: split.ids(fold) for fold in split.folds}, malignant, distances, domain),
        "colour_alone": score_colours(images),
    }  # fmt: skip
    if other is not None:
        kinds = [compute_features(other, kind, weights).values for kind in (NETWORK, PICTURES)]
        theirs = distance.measure(np, *kinds)
        found["other_set"] = {"source": other.collection.source} | share_beyond(other, theirs, domain.limit)
    found["altered"] = {
        name: {"title": alteration.title}
        | compare_altered(
            images,
            whole.values,
            compute_features(images, NETWORK, weights, name, alteration.alter).values,
            parts,
        )
        for name, alteration in ALTERATIONS[source].items()
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
    write_study(given.out / "trust.json", "trust", document)
    show(*section(document))


# --- the page -----------------------------------------------------------------------------------------


def _words(found: Mapping[str, Any] | None, digits: int = 3) -> str:
    if found is None or found["value"] is None:
        return "–"
    ends = "" if found["low"] is None else f" ({found['low']:.{digits}f} to {found['high']:.{digits}f})"
    return f"{found['value']:.{digits}f}{ends}"


def section(document: dict) -> list[str]:
    """The section of the results page, written from trust.json alone."""
    lines = [
        "## Trust: what the safeguards are worth, and what is known without the cell", "",
        "Linear heads on frozen MobileNet features, honest folds, one draw; every image is judged by what the other folds fit. 95% "
        "intervals over groups.",
    ]  # fmt: skip
    for source, found in document["sets"].items():
        lines += [
            "",
            f"### {NAMES[source]}",
            "",
            *_describe_calibration(found),
            "",
            *_tabulate_referral(found),
        ]
        lines += ["", *_tabulate_benefit(found), "", *_tabulate_altered(found)]
    return [*lines, "", f"`{document['command']}`"]


def _describe_calibration(found: Mapping[str, Any]) -> list[str]:
    told = found["trust"]["calibration"]
    before, after = told["before"], told["after"]
    error = "expected_calibration_error"
    lines = [
        f"- Calibration: temperature {told['temperature']:.2f}; expected calibration error {_words(before[error])} before and "
        f"{_words(after[error])} after, where perfectly calibrated probabilities would show {after[error]['noise_floor']:.3f}; Brier score "
        f"{_words(before['brier'])} before and {_words(after['brier'])} after."
    ]
    sets, referral = found["trust"]["referral"]["prediction_sets"], found["trust"]["referral"]
    lines.append(
        f"- Prediction sets of {sets['coverage']:.2f} hold the true class in {_words(sets['measured_coverage'])}; the exported rule refers "
        f"{_words(referral['referred'])} of the images, and is right in {_words(referral['accuracy_of_kept'])} of the others."
    )
    for each in found["trust"]["operating_points"]:
        lines.append(
            f"- Threshold for a sensitivity of {each['wanted']:.2f}: reached {_words(each['sensitivity'])} at a specificity of "
            f"{_words(each['specificity'])}."
        )
    own = referral["reasons"].get("unlike the training images")
    lines.append(
        f"- Unlike the training images: {_words(own)} of the set's own images"
        + (
            f"; {_words(found['other_set'])} of the other set's ({NAMES[found['other_set']['source']]})."
            if "other_set" in found
            else "."
        )
    )
    colour = found["colour_alone"]
    lines.append(
        f"- Colour, contrast, size and focus alone (a random forest that weighs classes alike, as the head does not): balanced accuracy {_words(colour['groups'])} with groups whole, {_words(colour['single_images'])} with single "
        f"images dealt out; the network's is {_words(found['scores']['balanced_accuracy'])}."
    )
    return lines


def _tabulate_referral(found: Mapping[str, Any]) -> list[str]:
    lines = [
        "| least sure share referred | accuracy on the rest | malignant called benign |",
        "|---|---|---|",
    ]
    for each in found["trust"]["referral"]["accuracy_by_share_referred"]:
        lines.append(
            f"| {100 * each['referred']:.0f}% | {_words(each['accuracy'])} | {each['missed_malignant']} |"
        )
    return lines


def _tabulate_benefit(found: Mapping[str, Any]) -> list[str]:
    lines = [
        "| called malignant from | net benefit | gain over calling all | missed | false alarms |",
        "|---|---|---|---|---|",
    ]
    for each in found["trust"]["decision_curve"]:
        lines.append(
            f"| {each['threshold']:.2f} | {_words(each['model'])} | {_words(each['over_all'])} | {each['missed']} | {each['false_alarms']} |"
        )
    return lines


def _tabulate_altered(found: Mapping[str, Any]) -> list[str]:
    lines = [
        "| what is shown | calls kept | balanced accuracy, fitted to whole images | fitted to such images | AUROC, likewise | less than with whole images, points of accuracy |",
        "|---|---|---|---|---|---|",
        f"| the whole image | | {_words(found['scores']['balanced_accuracy'])} | | {_words(found['scores']['roc_auc'])} | |",
    ]
    for told in found["altered"].values():
        lines.append(
            f"| {told['title']} | {_words(told['calls_kept'])} | {_words(told['fitted_to_whole']['balanced_accuracy'])} | "
            f"{_words(told['fitted_to_altered']['balanced_accuracy'])} | {_words(told['fitted_to_altered']['roc_auc'])} | "
            f"{points(told['fitted_to_altered_less_whole']['accuracy'])} |"
        )
    return lines


if __name__ == "__main__":
    main()
