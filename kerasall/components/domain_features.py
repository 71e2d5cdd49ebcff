"""Features and looks of the images to develop on, and how far held-out ones lie from those that were fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kerasall.components.development import Development
from kerasall.components.stored_features import pooled_features
from kerasall.components.trainer import development_rows
from kerasall.data.input_pipeline import decode_pixels, prediction_batches
from kerasall.data.pixel_cache import pixels_key
from kerasall.errors import DataError, ModelError
from kerasall.evaluation.conformal import group_quantile
from kerasall.evaluation.cross_fitting import cross_fit, number_folds
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.refer import DomainLimit
from kerasall.evaluation.resampling import group_names
from kerasall.files import read_json
from kerasall.models.classifier import find_parts
from kerasall.models.out_of_domain import DomainDistance, FeatureDistance, fit_feature_distance
from kerasall.models.picture_statistics import SMALLEST_VARIANCE, build_statistics_model
from kerasall.models.prediction import predict_activations
from kerasall.models.saving import load_model
from kerasall.preprocessing.operations import Chain
from kerasall.settings import CalibrateSettings

BATCH = 32
SMALLEST_SCALE = 1e-6
MEMORY_BYTES = 2 << 30


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
    model = load_model(trained / "model.keras")
    held_out = data.rows(list(predictions.ids))
    fitted = choose_rows(
        development_rows(data) if data.split.folds else data.rows_of("train"), calibrate.domain_images
    )
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


def _fit_statistics(statistics: np.ndarray, labels: np.ndarray) -> FeatureDistance:
    return fit_feature_distance(statistics, labels, smallest_variance=SMALLEST_VARIANCE)


_FITS = (fit_feature_distance, _fit_statistics)
"""What fits the distance of the network's features, and of the pictures' statistics."""


def choose_rows(rows: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` of the rows, at even steps: the covariance is as well known by then."""
    if len(rows) <= most:
        return rows
    return rows[np.unique(np.linspace(0, len(rows) - 1, most).astype(int))]


def compute_features(
    model: keras.Model,
    trained: Path,
    data: Development,
    rows: np.ndarray,
    cache_folder: Path,
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features and statistics float32 [len(rows), D] of the given rows of ``data``.

    Features are made of the activations that training has left, where it has left some.
    """
    chain = Chain.from_json(read_json(trained / "preprocess.json"))
    paths, hashes = data.examples["path"].tolist(), data.examples["sha256"].tolist()
    whole = decode_pixels(
        [paths[row] for row in rows], chain, cache_folder / "pixels", memory_bytes=MEMORY_BYTES,
        keys=[hashes[row] for row in rows],
        limits=data.limits,
    )  # fmt: skip
    key = pixels_key(paths, chain, hashes)
    features = pooled_features(model, whole.pixels, rows, key, cache_folder)
    statistics = build_statistics_model(whole.pixels.shape[1:3])
    return features, predict_activations(statistics, prediction_batches(whole.pixels, batch_size=BATCH))


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
