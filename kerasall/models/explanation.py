"""Explanations of a model's answers: where in an image the evidence for a class lies, by Grad-CAM and Grad-CAM++.

A map is never made up: without a gradient there is an error, and where nothing in an image speaks for
a class the map is zero and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerasall.errors import ModelError
from kerasall.models.explanation_networks import Network, find_networks
from kerasall.models.grad_cam import METHODS, Method, get_method, score_gradients

_Tensor = Any


@dataclass(frozen=True, eq=False)
class Explanation:
    """Maps of N images of a model with M networks (the members of an ensemble, else one).

    Attributes:
        method: key in ``METHODS``.
        names: M names.
        weights: float64 [M], which sum to 1.
        heatmaps: float32 [N, H, W] in 0..1: the mean of the networks' maps by their weights. Of one
            network its peak is 1; of several it is 1 only where all of them look.
        member_heatmaps: float32 [N, M, H, W] in 0..1, each with a peak of 1, or zero where nothing
            speaks for the class.
        raw: float32 [N, M, 3]: minimum, mean and maximum of the map before negative values were
            dropped and it was scaled, in units of the score (``build_score``).
    """

    method: str
    names: tuple[str, ...]
    weights: np.ndarray
    heatmaps: np.ndarray
    member_heatmaps: np.ndarray
    raw: np.ndarray

    @property
    def has_evidence(self) -> np.ndarray:
        """bool [N, M]: whether anything in the image speaks for the class; if not, the map is zero."""
        return self.raw[:, :, 2] > 0


class Explainer:
    """Explains a classifier, an ensemble, a classifier of deep features, or another convolutional model.

    Args:
        model: now or after it was saved; from pixels 0..255 [N, H, W, 3].

    Raises:
        ModelError: nothing can be explained (``find_networks``); the message says why.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.networks: tuple[Network, ...] = find_networks(model)
        self.names = tuple(network.name for network in self.networks)
        self.weights = np.array([network.weight for network in self.networks])
        output: Any = model.output
        self.classes = int((output["probabilities"] if isinstance(output, Mapping) else output).shape[-1])
        self._compiled: Any = None

    def explain(
        self,
        pixels: np.ndarray,
        class_indices: int | Sequence[int] | np.ndarray,
        method: str = "grad_cam",
        batch_size: int = 16,
    ) -> Explanation:
        """Where the evidence for a class lies in each image.

        Args:
            pixels: uint8 or float [N, H, W, 3] in 0..255, after the chain; N at least 1.
            class_indices: the class to explain, one for all images or one each.
            method: key in ``METHODS``.
            batch_size: images at once.

        Raises:
            SettingsError: an unknown method.
            ModelError: images or classes that do not fit the model, a score without a gradient, or a
                map that is not finite.
        """
        row = get_method(method)
        pixels, classes = self._checked(pixels, class_indices)
        parts = []
        for start in range(0, len(pixels), batch_size):
            batch = pixels[start : start + batch_size].astype(np.float32)
            run = self._trace() if len(pixels) > batch_size else self  # tracing pays from the second batch on
            answers = run(batch, classes[start : start + batch_size])
            parts.append({name: keras.ops.convert_to_numpy(value) for name, value in answers.items()})
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        slopes, raw = joined["slopes"], joined[f"raw{row.suffix}"]
        self._require_gradients(slopes, raw)
        return Explanation(
            method,
            self.names,
            self.weights,
            joined[f"heatmap{row.suffix}"],
            joined[f"member_heatmaps{row.suffix}"],
            raw,
        )

    def __call__(self, pixels: _Tensor, class_indices: _Tensor) -> dict[str, _Tensor]:
        """Maps by every method, in operations of the backend, so that it can be traced.

        Args:
            pixels: float32 [N, H, W, 3] in 0..255.
            class_indices: int [N].

        Returns:
            For each method, with its ``suffix`` in the name: ``heatmap`` [N, H, W], ``member_heatmaps``
            [N, M, H, W] and ``raw`` [N, M, 3], as in ``Explanation``; and ``slopes`` [N, M], the
            largest size of a gradient, which must not be 0.
        """
        found = [_signed_maps(network, pixels, class_indices) for network in self.networks]
        answers = {"slopes": keras.ops.stack([slopes for _, slopes in found], axis=1)}
        for method in METHODS.values():
            signed = keras.ops.stack([maps[method.name] for maps, _ in found], axis=1)
            scaled = _scale(signed)
            shares = self.weights.astype(np.float32)[:, None, None]
            answers[f"heatmap{method.suffix}"] = keras.ops.sum(scaled * shares, axis=1)
            answers[f"member_heatmaps{method.suffix}"] = scaled
            answers[f"raw{method.suffix}"] = _summarise(signed)
        return answers

    def _trace(self) -> Callable[[Any, Any], dict[str, _Tensor]]:
        """The same as one graph, under TensorFlow."""
        if keras.backend.backend() != "tensorflow":
            return self
        if self._compiled is None:
            import tensorflow as tf

            signature = [
                tf.TensorSpec((None, *self.model.input_shape[1:]), tf.float32),
                tf.TensorSpec((None,), tf.int32),
            ]
            self._compiled = tf.function(self.__call__, input_signature=signature, autograph=False)
        return self._compiled

    def _checked(self, pixels: np.ndarray, class_indices: Any) -> tuple[np.ndarray, np.ndarray]:
        pixels, expected = np.asarray(pixels), tuple(self.model.input_shape[1:])
        if pixels.ndim != 4 or not len(pixels) or pixels.shape[1:] != expected:
            raise ModelError(
                f"{self.model.name} takes images of shape [n, {', '.join(map(str, expected))}], but got "
                f"{list(pixels.shape)}: prepare them with the chain the model was trained with"
            )
        classes = np.asarray(class_indices)
        if (
            classes.dtype.kind not in "iu"
            or classes.shape not in ((), (len(pixels),))
            or ((classes < 0) | (classes >= self.classes)).any()
        ):
            raise ModelError(
                f"the class to explain must be a whole number from 0 to {self.classes - 1}, one in all or one per "
                f"image ({len(pixels)}), but is {class_indices!r}"
            )
        return pixels, np.broadcast_to(classes, (len(pixels),)).astype(np.int32)

    def _require_gradients(self, slopes: np.ndarray, raw: np.ndarray) -> None:
        # Slopes that are not a number fail the comparison, too.
        for wrong, what in (
            (~np.isfinite(slopes) | ~np.isfinite(raw).all(axis=-1), "is not a finite number"),
            (~(slopes > 0), "is zero everywhere: the score does not depend on this image"),
        ):
            if wrong.any():
                image, network = np.argwhere(wrong)[0]
                raise ModelError(
                    f"a map must rest on a gradient, but that of {self.names[network]} for image {image} {what}; "
                    "no map is drawn of it"
                )


def served_explanations(explainer: Explainer) -> Any:
    """The function behind the SavedModel's signature ``explain``, under TensorFlow.

    Returns:
        A function of float32 pixels [N, H, W, 3] and int class indices [N] to what
        ``Explainer.__call__`` gives, with ``positive_evidence`` bool [N] in place of ``slopes``,
        ``member_names`` string [N, M] and ``member_weights`` float32 [N, M]. Where there is no
        gradient, or the class is none, it fails and says so instead of answering.
    """
    import tensorflow as tf

    def explain(pixels: tf.Tensor, class_indices: tf.Tensor) -> dict[str, tf.Tensor]:
        known = (class_indices >= 0) & (class_indices < explainer.classes)
        _require(
            tf.reduce_all(known), f"class_index must be a whole number from 0 to {explainer.classes - 1}"
        )
        answers = explainer(pixels, class_indices)
        slopes = answers.pop("slopes")
        sound = tf.reduce_all((slopes > 0) & tf.math.is_finite(slopes))
        _require(sound, "a map must rest on a gradient, but there is none, or it is not a finite number")
        for method in METHODS.values():
            raw = answers[f"raw{method.suffix}"]
            _require(tf.reduce_all(tf.math.is_finite(raw)), "a map must be finite, but is not")
            answers[f"positive_evidence{method.suffix}"] = tf.reduce_any(raw[:, :, 2] > 0, axis=1)
        rows = [tf.shape(pixels)[0], 1]
        answers["member_names"] = tf.tile(tf.constant([explainer.names]), rows)
        answers["member_weights"] = tf.tile(tf.constant(explainer.weights[None], tf.float32), rows)
        return answers

    def _require(condition: tf.Tensor, words: str) -> None:
        tf.debugging.Assert(condition, [words])

    return explain


def _signed_maps(
    network: Network, pixels: _Tensor, class_indices: _Tensor
) -> tuple[dict[str, _Tensor], _Tensor]:
    """Signed maps [N, H, W] by method, and the largest size of a gradient [N]."""
    activations = [
        keras.ops.cast(target.activate(pixels, training=False), "float32") for target in network.targets
    ]
    gradients = score_gradients(network.score, activations, class_indices)
    sizes = [keras.ops.max(keras.ops.abs(each), axis=(1, 2, 3)) for each in gradients]
    maps = {name: _joined(network, row, activations, gradients) for name, row in METHODS.items()}
    return maps, keras.ops.max(keras.ops.stack(sizes), axis=0)


def _joined(
    network: Network, method: Method, activations: list[_Tensor], gradients: list[_Tensor]
) -> _Tensor:
    """The sum of a network's maps in the image: each is in units of the one score they explain."""
    placed = [
        target.place(method.formula(*pair))
        for target, *pair in zip(network.targets, activations, gradients, strict=True)
    ]
    return sum(placed[1:], placed[0])


def _scale(signed: _Tensor) -> _Tensor:
    """What speaks for the class, with a peak of 1; zero where nothing does."""
    positive: _Tensor = keras.ops.relu(signed)
    peaks: _Tensor = keras.ops.max(positive, axis=(2, 3), keepdims=True)
    return positive / keras.ops.where(peaks > 0, peaks, 1.0)


def _summarise(signed: _Tensor) -> _Tensor:
    return keras.ops.stack(
        [each(signed, axis=(2, 3)) for each in (keras.ops.min, keras.ops.mean, keras.ops.max)], axis=-1
    )
