"""How far held-out images lie from those that were fitted to, by the networks' features and the pictures' statistics.

Pooled features of a model's networks are made of the activations that training has left, where it has left some.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasall.components.training_step import MODEL_FILE, PREPROCESS, decode_rows
from kerasall.data.development import Development
from kerasall.data.input_pipeline import prediction_batches
from kerasall.data.pixel_cache import pixels_key
from kerasall.errors import DataError, ModelError
from kerasall.evaluation.conformal import group_quantile
from kerasall.evaluation.cross_fitting import cross_fit, number_folds
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.refer import DomainLimit
from kerasall.evaluation.resampling import group_names
from kerasall.files import read_json
from kerasall.models.classifier import Parts, find_parts, pooled_above, split_at
from kerasall.models.feature_cache import activations_key
from kerasall.models.out_of_domain import (
    FEATURES,
    SMALLEST_VARIANCE,
    DomainDistance,
    FeatureDistance,
    build_statistics_model,
    fit_feature_distance,
    list_feature_networks,
    with_features,
)
from kerasall.models.prediction import predict_activations
from kerasall.models.saving import load_model
from kerasall.preprocessing.operations import Chain
from kerasall.settings import CalibrateSettings

BATCH = 32

SMALLEST_SCALE = 1e-6

_NPY_HEADER_BYTES = 128
"""Of every file that ``cached_activations`` writes: its shape fits into the least header."""


@dataclass(frozen=True, eq=False)
class DomainFound:
    """The limit and the distances that set it.

    Attributes:
        limit: what the exported model compares with.
        ids: images that set it.
        distances: theirs, float [M], each measured without the image's own fold or part.
    """

    limit: DomainLimit
    ids: np.ndarray
    distances: np.ndarray


def measure_domain(
    trained: Path,
    data: Development,
    predictions: Predictions,
    calibrate: CalibrateSettings,
    cache_folder: Path,
) -> tuple[DomainDistance | None, DomainFound | None, str]:
    """The distance of the exported model, the limit for it, and why they are not offered, or "".

    Args:
        trained: folder of the model.
        data: the images to develop on.
        predictions: the recorded ones: of the folds, or of the part that was held out.
        calibrate: settings; ``false_referral`` None offers nothing.
        cache_folder: where pixels are kept.
    """
    if calibrate.false_referral is None:
        return None, None, "calibrate.false_referral is null"
    model = load_model(trained / MODEL_FILE)
    held_out = data.rows(list(predictions.ids))
    fitted = choose_rows(data.training_rows, calibrate.domain_images)
    rows = np.union1d(fitted, choose_rows(held_out, calibrate.domain_images))
    try:
        kinds = compute_features(model, trained, data, rows, cache_folder)
        own = [
            fit(each[np.isin(rows, fitted)], data.labels[fitted])
            for each, fit in zip(kinds, _FITS, strict=True)
        ]
        shown = np.isin(rows, held_out)
        chosen = predictions.take(np.isin(predictions.ids, data.examples["id"].iloc[rows[shown]]))
        held = [
            _held_out_distances(distance, fit, features, rows, data, chosen)
            for distance, fit, features in zip(own, _FITS, kinds, strict=True)
        ]
    except (DataError, ModelError) as error:
        return None, None, str(error)
    share, names = 1 - calibrate.false_referral, group_names(chosen)
    # Each in units of its own limit, so that neither drowns the other; then one limit for the larger of both.
    scales = [max(group_quantile(each, names, share, unseen_group=False), SMALLEST_SCALE) for each in held]
    distances = np.max([each / scale for each, scale in zip(held, scales, strict=True)], axis=0)
    limit = group_quantile(distances, names, share, unseen_group=False)
    words = describe_measure(model, data)
    groups = len(np.unique(names))
    found = DomainLimit(float(limit), calibrate.false_referral, len(chosen), groups, words)
    return (
        DomainDistance(own[0], own[1], (scales[0], scales[1])),
        DomainFound(found, chosen.ids, distances),
        "",
    )


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
    features = pooled_features(model, whole.pixels, rows, key, cache_folder)
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
    model: keras.Model, pixels: np.ndarray, rows: np.ndarray, key: str, cache_folder: Path
) -> np.ndarray:
    """What the output ``FEATURES`` of ``with_features`` gives for some rows of the images.

    A network whose last block was trained goes on from the activations below that block, where training has
    stored them; that is a small part of the whole pass.

    Args:
        model: a classifier, an ensemble, or a classifier of deep features.
        pixels: uint8 [len(rows), H, W, 3], of the wanted rows alone.
        rows: their positions among all images.
        key: names the content of all images, as for ``cached_activations``.
        cache_folder: of the runs.

    Returns:
        float32 [len(rows), D].

    Raises:
        ModelError: the model has no part whose pooled features are known.
    """
    networks = list_feature_networks(model)
    stored = [_from_storage(each, rows, key, cache_folder / "activations") for each in networks]
    if not any(part is not None for part in stored):
        outputs: Any = with_features(model)
        return _pass(keras.Model(outputs.inputs[0], outputs.output[FEATURES]), pixels)
    parts = [
        _pass(split_at(network)[0], pixels) if part is None else part
        for network, part in zip(networks, stored, strict=True)
    ]
    return np.concatenate(parts, axis=1)


def _fit_statistics(statistics: np.ndarray, labels: np.ndarray) -> FeatureDistance:
    return fit_feature_distance(statistics, labels, smallest_variance=SMALLEST_VARIANCE)


_FITS = (fit_feature_distance, _fit_statistics)
"""What fits the distance of the network's features, and of the pictures' statistics."""


def _held_out_distances(
    distance: FeatureDistance,
    fit: Callable[[np.ndarray, np.ndarray], FeatureDistance],
    features: np.ndarray,
    rows: np.ndarray,
    data: Development,
    chosen: Predictions,
) -> np.ndarray:
    """Distances of the predicted images, from means and covariance of images of the other folds or parts."""
    place = {name: at for at, name in enumerate(data.examples["id"].iloc[rows])}
    own = features[[place[name] for name in chosen.ids]]
    if not data.split.folds:
        return distance.measure(np, own)
    folds = number_folds(chosen, {fold: data.split.ids(fold) for fold in data.split.folds})

    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return fit(own[others], chosen.labels[others]).measure(np, own[inside])

    return cross_fit(folds, answer)


def _pass(network: keras.Model, pixels: np.ndarray) -> np.ndarray:
    return predict_activations(network, prediction_batches(pixels, batch_size=BATCH))


def _from_storage(network: keras.Model, rows: np.ndarray, key: str, folder: Path) -> np.ndarray | None:
    parts = find_parts(network)
    sizes = {path.stat().st_size for path in folder.glob("*.npy")}
    pooled = folder / f"{activations_key(split_at(network)[0], key)[:32]}.npy"
    if pooled.is_file():
        return np.load(pooled, mmap_mode="r", allow_pickle=False)[rows]
    for block in parts.row.blocks:
        if not _may_be_stored(parts, block, int(rows.max()) + 1, sizes):
            continue
        path = folder / f"{activations_key(split_at(network, block)[0], key)[:32]}.npy"
        if path.is_file():
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
