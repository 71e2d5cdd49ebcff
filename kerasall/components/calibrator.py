"""Calibrator: what an exported model says besides its answer, from images that trained none of its weights.

Temperature, thresholds and prediction sets; and how far held-out images lie from those that were fitted to, by the
networks' pooled features and the pictures' statistics. Features are made of the activations that training has left,
where it has left some.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np

from kerasall.components.training_step import MODEL_FILE, PREPROCESS, decode_rows
from kerasall.data.development import Development, read_development
from kerasall.data.input_pipeline import prediction_batches
from kerasall.data.pixel_cache import pixels_key
from kerasall.data.training_record import TrainingRecord
from kerasall.errors import DataError, ModelError
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.cross_fitting import cross_fit, number_folds
from kerasall.evaluation.ensemble_scores import for_curves
from kerasall.evaluation.operating_points import operating_point
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.safeguards import (
    DomainLimit,
    Safeguards,
    Source,
    WantedPoint,
    fit_prediction_sets,
    group_quantile,
)
from kerasall.files import find_sealed, read_json, write_json
from kerasall.models.classifier import Parts, find_parts, pooled_above, split_at
from kerasall.models.out_of_domain import (
    FEATURES,
    SMALLEST_VARIANCE,
    DomainDistance,
    FeatureDistance,
    build_statistics_model,
    find_prefix,
    fit_feature_distance,
    list_feature_networks,
    with_features,
)
from kerasall.models.passes import choose_way
from kerasall.models.prediction import ACTIVATIONS, activations_key, predict_activations
from kerasall.models.saving import load_model
from kerasall.pipeline.component import Input, Output, Unkeyed, component
from kerasall.preprocessing.operations import Chain
from kerasall.settings import CalibrateSettings

SAFEGUARDS = "safeguards.json"
DISTANCE = "domain_distance.npz"
DISTANCES = "distances.npz"
"""Distances of the images that set the limit: arrays ``ids`` and ``distances``, each image's own measured
without it."""
BATCH = 32
SMALLEST_SCALE = 1e-6
_NPY_HEADER_BYTES = 128
"""Of every file that ``cached_activations`` writes: its shape fits into the least header."""


@component
def calibrator(
    trained: Annotated[Path, Input("Model")],
    development: Annotated[Path, Input("Development")],
    record: Annotated[Path, Input("TrainingRecord")],
    calibrate: CalibrateSettings,
    safeguards: Annotated[Path, Output("Safeguards")],
    cache_folder: Annotated[Path, Unkeyed()],
) -> dict[str, Any]:
    """Fits temperature, thresholds, prediction sets and the limit of the training images' domain.

    All of it comes from the validation or out-of-fold predictions of the training record (in a faithful
    copy without a validation part, from the part ``selection``); no test image is known here.
    """
    data = read_development(development)
    predictions, source = read_deciding(TrainingRecord(record))
    calibration = fit_calibration(predictions, biases=calibrate.biases)
    calibrated = calibration.apply_to(predictions)
    found = measure_domain(trained, data, predictions, calibrate, cache_folder)
    limit, why_not = (None, found) if isinstance(found, str) else (found.limit, "")
    points = choose_points(calibrated, data.facts.malignant, calibrate.sensitivities)
    sets = fit_prediction_sets(calibrated, calibrate.coverage)
    fitted = Safeguards(calibration, source, data.recorded, points, sets, limit, why_not)
    write_json(safeguards / SAFEGUARDS, fitted.to_json())
    if not isinstance(found, str):
        found.distance.write(safeguards / DISTANCE)
        np.savez(safeguards / DISTANCES, ids=found.ids, distances=found.distances)
    keras.utils.clear_session()
    return {
        "temperature": calibration.temperature,
        "fitted_on": fitted.fitted_on,
        "least_probability": fitted.sets.threshold,
        "distance_limit": fitted.domain.limit if fitted.domain else None,
    }


def read_deciding(record: TrainingRecord) -> tuple[Predictions, Source]:
    """The recorded predictions whose probabilities are calibrated, and which output of the model they are."""
    own, ensemble = record.predictions, record.ensemble
    if ensemble is None or ensemble["rule"] != "majority_vote":
        return own, "probabilities"
    members = [each.predictions for each in record.members.values()]
    return for_curves(own, members, ensemble["rule"]), "mean_probabilities"


def choose_points(
    calibrated: Predictions, malignant: tuple[str, ...], sensitivities: tuple[float, ...]
) -> tuple[WantedPoint, ...]:
    """A threshold for every wanted sensitivity; none where the malignant classes or their images are unknown."""
    if not malignant:
        return ()
    try:
        return tuple(
            WantedPoint(each, operating_point(calibrated, malignant, each)) for each in sensitivities
        )
    except DataError:  # validation images of one kind only
        return ()


def read_safeguards(folder: Path) -> Safeguards:
    """Reads what the Calibrator wrote."""
    return Safeguards.from_json(read_json(folder / SAFEGUARDS))


def read_distance(folder: Path) -> DomainDistance | None:
    """The distance to the training images; None where it is not offered."""
    path = folder / DISTANCE
    return DomainDistance.read(path) if path.is_file() else None


def read_distances(folder: Path, predictions: Predictions) -> np.ndarray | None:
    """Distances of predicted images that were measured while the limit was set; NaN of any others: [N]."""
    path = folder / DISTANCES
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        known = dict(zip(arrays["ids"].tolist(), arrays["distances"].tolist(), strict=True))
    return np.asarray([known.get(name, np.nan) for name in predictions.ids])


@dataclass(frozen=True, eq=False)
class DomainFound:
    """The distance to the training images, its limit, and the distances that set it.

    Attributes:
        distance: what the exported model measures.
        limit: what the exported model compares with.
        ids: images that set it.
        distances: theirs, float [M], each measured without the image's own fold or part.
    """

    distance: DomainDistance
    limit: DomainLimit
    ids: np.ndarray
    distances: np.ndarray


def measure_domain(
    trained: Path, data: Development, predictions: Predictions, calibrate: CalibrateSettings,
    cache_folder: Path,
) -> DomainFound | str:  # fmt: skip
    """The distance of the exported model and the limit for it, or why they are not offered.

    Args:
        trained: folder of the model.
        data: the images to develop on.
        predictions: the recorded ones: of the folds, or of the part that was held out.
        calibrate: settings; ``false_referral`` None offers nothing.
        cache_folder: where pixels are kept.
    """
    if calibrate.false_referral is None:
        return "calibrate.false_referral is null"
    model = load_model(trained / MODEL_FILE)
    held_out = data.rows(list(predictions.ids))
    fitted = choose_rows(data.training_rows, calibrate.domain_images)
    rows = np.union1d(fitted, choose_rows(held_out, calibrate.domain_images))
    chosen = predictions.take(
        np.isin(predictions.ids, data.examples["id"].iloc[rows[np.isin(rows, held_out)]])
    )
    try:
        kinds = compute_features(model, trained, data, rows, cache_folder)
        pairs = zip(_FITS, kinds, strict=True)
        measured = [_measure(fit, each, rows, fitted, data, chosen) for fit, each in pairs]
    except (DataError, ModelError) as error:
        return str(error)
    share, names = 1 - calibrate.false_referral, chosen.group_names
    # Each in units of its own limit, so that neither drowns the other; then one limit for the larger of both.
    scales = [
        max(group_quantile(each, names, share, unseen_group=False), SMALLEST_SCALE) for _, each in measured
    ]
    distances = np.max([each / scale for (_, each), scale in zip(measured, scales, strict=True)], axis=0)
    limit = group_quantile(distances, names, share, unseen_group=False)
    groups, words = len(np.unique(names)), describe_measure(model, data)
    distance = DomainDistance(measured[0][0], measured[1][0], (scales[0], scales[1]))
    found = DomainLimit(float(limit), calibrate.false_referral, len(chosen), groups, words)
    return DomainFound(distance, found, chosen.ids, distances)


def choose_rows(rows: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` of the rows, at even steps: the covariance is as well known by then."""
    if len(rows) <= most:
        return rows
    return rows[np.unique(np.linspace(0, len(rows) - 1, most).astype(int))]


def compute_features(
    model: keras.Model, trained: Path, data: Development, rows: np.ndarray, cache_folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features and statistics float32 [len(rows), D] of the given rows of ``data``.

    Features are made of the activations that training has left, where it has left some.
    """
    chain = Chain.from_json(read_json(trained / PREPROCESS))
    whole = decode_rows(data, chain, cache_folder, rows=rows)
    key = pixels_key(data.examples["path"].tolist(), chain, data.examples["sha256"].tolist())
    features = pooled_features(model, whole.pixels, rows, key, len(data.examples), cache_folder)
    statistics = build_statistics_model(whole.pixels.shape[1:3])
    return features, predict_activations(statistics, prediction_batches(whole.pixels, batch_size=BATCH))


def describe_measure(model: keras.Model, data: Development) -> str:
    """How the distances that set the limit were found."""
    if not data.split.folds:
        return "validation images, which the network was not trained on"
    words = "every image against means and covariance of the other folds' images"
    if isinstance(model.output, dict) or find_parts(model).backbone.trainable_variables:
        words += (
            "; the exported network itself was trained on all of them, so that more new images than this may be "
            "referred"
        )
    return words


def pooled_features(
    model: keras.Model, pixels: np.ndarray, rows: np.ndarray, key: str, images: int, cache_folder: Path
) -> np.ndarray:
    """What the output ``FEATURES`` of ``with_features`` gives for some rows of the images.

    A network whose last block was trained goes on from the activations below that block, where training has
    stored them; that is a small part of the whole pass.

    Args:
        model: a classifier, an ensemble, or a classifier of deep features.
        pixels: uint8 [len(rows), H, W, 3], of the wanted rows alone.
        rows: their positions among all images.
        key: names the content of all images, as for ``cached_activations``.
        images: how many these are.
        cache_folder: of the runs.

    Returns:
        float32 [len(rows), D].

    Raises:
        ModelError: the model has no part whose pooled features are known.
    """
    networks = list_feature_networks(model)
    stored = [_from_storage(each, rows, key, images, cache_folder / ACTIVATIONS) for each in networks]
    if not any(part is not None for part in stored):
        outputs: Any = with_features(model)
        return _pass(keras.Model(outputs.inputs[0], outputs.output[FEATURES]), pixels)
    parts = [
        _pass(find_prefix(network), pixels) if part is None else part
        for network, part in zip(networks, stored, strict=True)
    ]
    return np.concatenate(parts, axis=1)


_FITS = (fit_feature_distance, partial(fit_feature_distance, smallest_variance=SMALLEST_VARIANCE))
"""What fits the distance of the network's features, and of the pictures' statistics."""


def _measure(
    fit: Callable[[np.ndarray, np.ndarray], FeatureDistance], features: np.ndarray, rows: np.ndarray,
    fitted: np.ndarray, data: Development, chosen: Predictions,
) -> tuple[FeatureDistance, np.ndarray]:  # fmt: skip
    """What is fitted to the rows ``fitted``; and the distances of the predicted images.

    With folds these are from means and covariance of the images of the other folds.
    """
    distance = fit(features[np.isin(rows, fitted)], data.labels[fitted])
    place = {name: at for at, name in enumerate(data.examples["id"].iloc[rows])}
    own = features[[place[name] for name in chosen.ids]]
    if not data.split.folds:
        return distance, distance.measure(np, own)
    folds = number_folds(chosen, {fold: data.split.ids(fold) for fold in data.split.folds})

    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return fit(own[others], chosen.labels[others]).measure(np, own[inside])

    return distance, cross_fit(folds, answer)


def _pass(network: keras.Model, pixels: np.ndarray) -> np.ndarray:
    way = choose_way(len(pixels))
    return predict_activations(network, prediction_batches(pixels, batch_size=way.batch), way=way)


def _from_storage(
    network: keras.Model, rows: np.ndarray, key: str, images: int, folder: Path
) -> np.ndarray | None:
    prefix = find_prefix(network)
    pooled = find_sealed(folder / f"{activations_key(prefix, key, images)[:32]}.npy")
    if pooled:
        return np.load(pooled, mmap_mode="r", allow_pickle=False)[rows]
    if prefix is network:  # an extractor, of which nothing else is stored
        return None
    parts, sizes = find_parts(network), {path.stat().st_size for path in folder.glob("*.npy")}
    for block in parts.row.blocks:
        if not _may_be_stored(parts, block, int(rows.max()) + 1, sizes):
            continue
        path = find_sealed(folder / f"{activations_key(split_at(network, block)[0], key, images)[:32]}.npy")
        if path:
            activations = np.load(path, mmap_mode="r", allow_pickle=False)
            batches = prediction_batches(activations, batch_size=BATCH, indices=rows)
            return predict_activations(pooled_above(network, block), batches)
    return None


def _may_be_stored(parts: Parts, block: str, least_images: int, sizes: set[int]) -> bool:
    """Whether a file has the size of this block's activations: asking for its key costs building the network."""
    tensors = [parts.backbone.get_layer(layer).output for layer in parts.row.blocks[block]]
    each = 4 * sum(math.prod(tensor.shape[1:]) for tensor in tensors)
    counts = [divmod(size - _NPY_HEADER_BYTES, each) for size in sizes]
    return any(rest == 0 and images >= least_images for images, rest in counts)
