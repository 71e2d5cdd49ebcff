"""How unlike the training images an image is: distances of its pooled features and of its statistics as a picture.

Both are the Mahalanobis distance to the nearest class mean with a covariance that all classes share (Lee et al.,
NeurIPS 2018); the larger one counts. There are more features than a covariance can be estimated for, so it is
shrunk: the leading principal axes keep their variances and all others share one, as in probabilistic principal
components (Tipping and Bishop, J. R. Stat. Soc. B 61:611, 1999).

The statistics say what an image looks like, apart from what it shows: colours, contrast and detail at several
scales. A network's last features forget much of that, as its classes do not depend on it: exchanged colour
channels, a dark lamp or a fine grain can leave them where they were. These statistics are the same for every
network, and neither turning an image by quarters nor mirroring it changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from kerasall.errors import ArtifactError, DataError, ModelError
from kerasall.files import atomic_path
from kerasall.models.base import POOLED, UNPOOLED
from kerasall.models.classifier import find_parts, split_at

FEATURES = "pooled_features"
"""Output of ``with_features``; it never leaves an exported model."""

AXES = 64
"""Leading principal axes that keep their own variance."""

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SCALES = 4
"""Bands of detail below the finest, each of half the frequency of the one before; fewer in a small image."""

UNITS = {"quantile": 0.05, "energy": 0.3, "evenness": 0.05, "correlation": 0.2}
"""Statistic -> a difference that counts as 1: about what one camera and stain give from slide to slide."""

SMALLEST_VARIANCE = 0.01
"""In units squared: a statistic that no training image varies (a black ground, say) may still differ a little."""

_Tensor = Any


@dataclass(frozen=True, eq=False)
class FeatureDistance:
    """Distance of features [N, D] to the training images' classes.

    Attributes:
        means: float32 [C, D], of each class.
        axes: float32 [D, R], orthonormal.
        precisions: float32 [R], 1 / variance along each axis.
        rest: 1 / variance along every other direction.
    """

    means: np.ndarray
    axes: np.ndarray
    precisions: np.ndarray
    rest: float

    def measure(self, ops: Any, features: Any) -> Any:
        """Distances float [N], 1 for a typical training image.

        d^2 = min over classes of sum_r a_r^2 (1 / v_r - 1 / v) + |x|^2 / v, divided by D, with x the
        features less the class mean and a_r their coordinates along the axes.

        Args:
            ops: numpy or ``keras.ops``.
            features: float32 [N, D].
        """
        squares = []
        for mean in self.means:
            centred = features - mean
            along = ops.matmul(centred, self.axes)
            leading = ops.sum(along * along * (self.precisions - np.float32(self.rest)), axis=-1)
            squares.append(leading + ops.sum(centred * centred, axis=-1) * np.float32(self.rest))
        nearest = reduce(ops.minimum, squares)
        return ops.sqrt(ops.maximum(nearest, np.float32(0)) / np.float32(self.means.shape[1]))


@dataclass(frozen=True, eq=False)
class DomainDistance:
    """Distance to the training images by what a network sees in an image, and by what the image looks like.

    Attributes:
        features: of the network's pooled features.
        pictures: of ``measure_pictures``: a network may be blind to what no class depends on.
        scales: of both, the distance that counts as 1.
    """

    features: FeatureDistance
    pictures: FeatureDistance
    scales: tuple[float, float]

    def measure(self, ops: Any, features: Any, statistics: Any) -> Any:
        """The larger of both distances in their scales, float [N].

        Args:
            ops: numpy or ``keras.ops``.
            features, statistics: float32 [N, D] and [N, S].
        """
        first = self.features.measure(ops, features) / np.float32(self.scales[0])
        return ops.maximum(first, self.pictures.measure(ops, statistics) / np.float32(self.scales[1]))

    def write(self, path: Path) -> None:
        """Writes an ``.npz`` file, atomically."""
        parts = {"features": self.features, "pictures": self.pictures}
        arrays = {
            f"{part}_{name}": value for part, each in parts.items() for name, value in vars(each).items()
        }
        with atomic_path(path) as temporary:
            np.savez(temporary, scales=self.scales, **arrays)

    @staticmethod
    def read(path: Path) -> DomainDistance:
        """Reads what ``write`` wrote.

        Raises:
            ArtifactError: the file is missing or does not hold one.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                scales = arrays["scales"]
                parts = [_read_part(arrays, part) for part in ("features", "pictures")]
            return DomainDistance(parts[0], parts[1], (float(scales[0]), float(scales[1])))
        except (OSError, KeyError, ValueError) as error:
            raise ArtifactError(f"{path} must hold a distance, but reading it failed: {error}") from None


def _read_part(arrays: Any, part: str) -> FeatureDistance:
    means, axes, precisions, rest = (
        arrays[f"{part}_{name}"] for name in ("means", "axes", "precisions", "rest")
    )
    return FeatureDistance(means, axes, precisions, float(rest))


def fit_feature_distance(
    features: np.ndarray, labels: np.ndarray, axes: int = AXES, smallest_variance: float = 0.0
) -> FeatureDistance:
    """Fits class means and the shrunk covariance to features of training images.

    Args:
        features: float [N, D], finite.
        labels: class indices [N]; a class without images has no mean.
        axes: leading axes to keep; fewer where there are too few images or features.
        smallest_variance: along any direction; needed where features may not differ at all.

    Raises:
        DataError: too few images, or features that do not differ or are not finite.
    """
    features = np.asarray(features, np.float64)
    present = np.unique(labels)
    count, width = features.shape
    if count <= len(present) + 1 or not np.isfinite(features).all():
        raise DataError(
            f"a distance needs finite features of more images than classes, but there are {count} images"
        )
    means = np.stack([features[labels == each].mean(axis=0) for each in present])
    centred = features - means[np.searchsorted(present, labels)]
    kept = max(1, min(axes, (count - len(present)) // 4, width - 1))
    freedom = count - len(present)
    # Between narrow factors the threads of a BLAS wait for each other, busily: one is many times cheaper.
    with threadpool_limits(1, user_api="blas"):
        _, lengths, directions = randomized_svd(centred, kept, n_iter=7, random_state=0)  # pyright: ignore
    leading = lengths**2 / freedom
    rest = (float((centred**2).sum()) / freedom - float(leading.sum())) / (width - kept)
    rest = max(rest, smallest_variance)
    if not rest > np.finfo(np.float32).tiny:  # whose inverse float32 does not hold
        raise DataError("a distance needs features that differ from image to image, but these do not")
    leading = np.maximum(leading, rest)
    return FeatureDistance(
        means.astype(np.float32),
        np.ascontiguousarray(directions.T, np.float32),
        (1 / leading).astype(np.float32),
        float(1 / rest),
    )


def measure_pictures(ops: Any, pixels: _Tensor) -> _Tensor:
    """Statistics float32 [N, D] of images.

    Over the three opponent channels grey, red against green and blue against both (the finest band over grey
    alone, as cameras and JPEG files hold colours at half the resolution):

        quantile     of the values, in shares of 255
        energy       log of the root mean square of the detail in each band
        evenness     mean absolute detail over its root mean square: low where detail is rare and strong
        correlation  between each two channels

    Args:
        ops: ``keras.ops``.
        pixels: float32 [N, H, W, 3] in 0..255, H and W known and at least 8.
    """
    grey = ops.mean(pixels, axis=-1, keepdims=True) / 255.0
    halved = _halve(ops, pixels) / 255.0
    red, green, blue = halved[..., 0], halved[..., 1], halved[..., 2]
    opponents = [(red + green + blue) / 3, (red - green) / 2, (red + green) / 4 - blue / 2]
    channels = ops.stack(opponents, axis=-1)
    found = [*_detail(ops, grey, channels[..., :1]), *_correlations(ops, channels)]
    small = _halve(ops, channels)
    count = small.shape[1] * small.shape[2]
    ordered = ops.sort(ops.reshape(small, (-1, count, 3)), axis=1)
    found += [ordered[:, round(each * (count - 1))] / UNITS["quantile"] for each in QUANTILES]
    for _ in range(SCALES):
        if min(channels.shape[1:3]) < 4:
            break
        halved = _halve(ops, channels)
        found += _detail(ops, channels, halved)
        channels = halved
    return ops.concatenate(found, axis=-1)


def _halve(ops: Any, image: _Tensor) -> _Tensor:
    return ops.average_pool(image, 2, strides=2, padding="valid")


def _detail(ops: Any, image: _Tensor, halved: _Tensor) -> list[_Tensor]:
    """Energy and evenness of what the means of 2 x 2 pixels leave over."""
    coarse = ops.repeat(ops.repeat(halved, 2, axis=1), 2, axis=2)
    detail = image[:, : coarse.shape[1], : coarse.shape[2]] - coarse
    strength = ops.sqrt(ops.mean(detail * detail, axis=(1, 2)) + 1e-8)
    evenness = ops.mean(ops.abs(detail), axis=(1, 2)) / (strength + 1e-3)
    return [ops.log(strength + 2e-3) / UNITS["energy"], evenness / UNITS["evenness"]]


def _correlations(ops: Any, channels: _Tensor) -> list[_Tensor]:
    centred = channels - ops.mean(channels, axis=(1, 2), keepdims=True)
    deviations = ops.sqrt(ops.mean(centred * centred, axis=(1, 2)) + 1e-6)
    found = []
    for first, second in ((0, 1), (0, 2), (1, 2)):
        product = ops.mean(centred[..., first] * centred[..., second], axis=(1, 2))
        share = product / (deviations[:, first] * deviations[:, second] + 1e-4)
        found.append(share[:, None] / UNITS["correlation"])
    return found


class PictureStatistics(keras.layers.Layer):
    """``measure_pictures`` as a layer, for many images in this process: [N, H, W, 3] to [N, D]."""

    def __init__(self) -> None:
        super().__init__(dtype="float32", name="picture_statistics")

    def call(self, pixels: _Tensor) -> _Tensor:
        ops: Any = keras.ops
        if keras.backend.backend() == "tensorflow":
            ops = SimpleNamespace(**vars(ops) | {"sort": _sort_by_numpy})
        return measure_pictures(ops, pixels)


def _sort_by_numpy(values: _Tensor, axis: int) -> _Tensor:
    """The same as ``keras.ops.sort``, which in TensorFlow is a third of the time of all statistics."""
    import tensorflow as tf  # here, because other backends need none

    def sort(array: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(array.swapaxes(axis, -1))
        rows.sort(axis=-1)
        return rows.swapaxes(axis, -1)

    return tf.ensure_shape(tf.numpy_function(sort, [values], values.dtype, stateful=False), values.shape)


def build_statistics_model(image_size: tuple[int, int]) -> keras.Model:
    """A model from pixels 0..255 [N, H, W, 3] to statistics float32 [N, D]."""
    image: _Tensor = keras.Input((*image_size, 3), dtype="float32", name="image")
    return keras.Model(image, PictureStatistics()(image), name="picture_statistics")


def with_features(model: keras.Model) -> keras.Model:
    """The same model with its pooled features as one more named output, ``FEATURES`` [N, D].

    Of an ensemble or a classifier of deep features, those of all members side by side. Weights are
    shared, and each image still passes each network once.

    Raises:
        ModelError: the model has no part whose pooled features are known.
    """
    image, outputs, found = _run_with_features(model)
    tensors = [features for _, features, _ in found]
    features = keras.ops.concatenate(tensors, axis=-1) if len(tensors) > 1 else tensors[0]
    return keras.Model(image, {**outputs, FEATURES: features}, name=model.name)


def list_feature_networks(model: keras.Model) -> list[keras.Model]:
    """The networks whose pooled features stand side by side in ``FEATURES``, in that order.

    Returns:
        The model itself or its members, classifiers or extractors of deep features; an empty list where a member
        is shown something else than the model's own image, or keeps all places of its last map.

    Raises:
        ModelError: the model has no part whose pooled features are known.
    """
    if not isinstance(model.output, dict):
        find_parts(model)
        return [model]
    _, _, found = _run_with_features(model)
    networks = [each for each, _, is_shown_image in found if is_shown_image and find_prefix(each) is not None]
    return networks if len(networks) == len(found) else []


def find_prefix(network: keras.Model) -> keras.Model | None:
    """The part of a network of ``list_feature_networks`` that gives its pooled features; None where there is none."""
    if network.outputs[0]._keras_history.operation.name == POOLED:
        return network
    try:
        return split_at(network)[0]
    except ModelError:
        return None


def _run_with_features(
    model: keras.Model,
) -> tuple[_Tensor, dict[str, _Tensor], list[tuple[keras.Model, _Tensor, bool]]]:
    """Input, outputs, and of every member: itself, its pooled features, whether it is shown the input itself."""
    image: _Tensor = keras.Input(model.input_shape[1:], dtype="float32", name="image")
    if not isinstance(model.output, dict):
        opened = _open_member(model)
        if opened is None:
            raise ModelError(
                f"{model.name} must be made of preprocess, backbone and head: build it with build_classifier"
            )
        probabilities, features = opened(image)
        return image, {"probabilities": probabilities}, [(model, features, True)]
    found: list[tuple[keras.Model, _Tensor, bool]] = []

    def call(operation: Any, *arguments: Any, **options: Any) -> _Tensor:
        opened = _open_member(operation)
        if opened is None:
            return operation(*arguments, **options)
        answer, features = opened(*arguments)
        history = arguments[0]._keras_history.operation
        found.append((operation, features, isinstance(history, keras.layers.InputLayer)))
        return answer

    outputs = model._run_through_graph(image, operation_fn=lambda operation: operation, call_fn=call)
    if not found:
        raise ModelError(f"{model.name} must hold networks that pool their features, but holds none")
    return image, outputs, found


def _open_member(operation: Any) -> keras.Model | None:
    """A member with two outputs, its own and its pooled features; None for any other operation."""
    if not isinstance(operation, keras.Model):
        return None
    try:
        parts = find_parts(operation)
    except ModelError:
        return _open_extractor(operation)
    pooled = parts.head.get_layer(POOLED).output
    head = keras.Model(parts.head.inputs[0], [parts.head.outputs[0], pooled])
    image: _Tensor = keras.Input(operation.input_shape[1:], dtype="float32")
    return keras.Model(image, head(parts.backbone(parts.preprocess(image))))


def _open_extractor(model: keras.Model) -> keras.Model | None:
    """Of deep features: it answers with its pooled features themselves, or with the map that they are the mean of."""
    last = model.outputs[0]
    layer = last._keras_history.operation
    if len(model.outputs) != 1 or layer.name not in (POOLED, UNPOOLED):
        return None
    pooled = last
    if layer.name == UNPOOLED:
        pooled = keras.layers.GlobalAveragePooling2D(dtype="float32", name=POOLED)(layer.input)
    return keras.Model(model.inputs[0], [last, pooled])
