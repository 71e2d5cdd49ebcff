"""Explanations of a model's answers: where in an image the evidence for a class lies, by Grad-CAM and Grad-CAM++.

A map is never made up: without a gradient there is an error, and where nothing in an image speaks for
a class the map is zero and says so. The formulas take activations A and gradients g = dS/dA of a class's
score S, and are plain Keras operations; only the gradient itself is the backend's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from kerasall.errors import ModelError, SettingsError, did_you_mean
from kerasall.models.base import as_functional
from kerasall.models.explanation_networks import Network, Score, find_networks
from kerasall.models.prediction import predict_classes

_Tensor = Any

Formula = Callable[[_Tensor, _Tensor], _Tensor]
"""(activations, gradients), float32 [N, h, w, K] each -> signed map float32 [N, h, w]."""


@dataclass(frozen=True)
class Method:
    """One row of ``METHODS``.

    Attributes:
        name: key in ``METHODS``.
        title: words for a figure.
        formula: from activations and gradients to a signed map.
        suffix: what the names of its outputs end with where both methods answer side by side.
    """

    name: str
    title: str
    formula: Formula
    suffix: str = ""


def grad_cam(activations: _Tensor, gradients: _Tensor) -> _Tensor:
    """L = sum_k w_k A_k with w_k = sum_ij g_ijk (Selvaraju et al. 2017, Eqs. 1 and 2, before the ReLU).

    Where the paper takes the mean gradient, this takes its sum. That changes the unit alone: under a
    linear head on average-pooled features the mean of L is the score without its bias, exactly.
    """
    weights = keras.ops.sum(gradients, axis=(1, 2), keepdims=True)
    return keras.ops.sum(weights * activations, axis=-1)


def grad_cam_plus_plus(activations: _Tensor, gradients: _Tensor) -> _Tensor:
    """L = sum_k w_k A_k with w_k = sum_ij a_ijk ReLU(g_ijk), a = g^2 / (2 g^2 + g^3 sum_ab A_abk).

    Chattopadhay et al. 2018, Eqs. 10 and 19, for exp(S), of which the common factor exp(S) is left out:
    it scales a whole map. Only positive gradients have weight, so several parts of one object, or
    several objects, stay in the map. Activations below zero, which a last ReLU forbids, do not enter a.
    """
    positive: _Tensor = keras.ops.relu(gradients)
    totals: _Tensor = keras.ops.sum(keras.ops.relu(activations), axis=(1, 2), keepdims=True)
    shares = 1.0 / (2.0 + positive * totals)  # g^2 cancels, and where g is 0 its weight is 0
    weights = keras.ops.sum(shares * positive, axis=(1, 2), keepdims=True)
    return keras.ops.sum(weights * activations, axis=-1)


_ROWS = (
    Method("grad_cam", "Grad-CAM", grad_cam),
    Method("grad_cam_plus_plus", "Grad-CAM++", grad_cam_plus_plus, "_plus_plus"),
)

METHODS: dict[str, Method] = {row.name: row for row in _ROWS}
"""Every method by name."""


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
        class_indices: int [N], the class that is explained.
        missing: members of an ensemble that can have no map, which these maps leave out -> why.
    """

    method: str
    names: tuple[str, ...]
    weights: np.ndarray
    heatmaps: np.ndarray
    member_heatmaps: np.ndarray
    raw: np.ndarray
    class_indices: np.ndarray
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_evidence(self) -> np.ndarray:
        """bool [N, M]: whether anything in the image speaks for the class; if not, the map is zero."""
        return self.raw[:, :, 2] > 0


def explain(
    model: keras.Model,
    images: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    method: str = "grad_cam",
    batch_size: int = 16,
) -> Explanation:
    """Where in images the evidence for a class lies, of any Keras model with a convolution.

    Example:
        >>> model = keras.applications.MobileNet(weights=None, input_shape=(64, 64, 3), classes=4, alpha=0.25)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (3, 64, 64, 3))  # scaled as the model was trained
        >>> found = kerasall.explain(model, images)
        >>> found.heatmaps.shape, float(found.heatmaps.min()) >= 0, float(found.heatmaps.max()) <= 1
        ((3, 64, 64), True, True)
        >>> found.class_indices.tolist() == np.argmax(model.predict(images, verbose=0), axis=1).tolist()
        True

    Args:
        model: a classifier, an ensemble, or a model of another make such as those of ``keras.applications`` with their
            top; functional or sequential, that ends with a softmax, a sigmoid or a dense layer.
        images: uint8 or float [N, H, W, 3] (or one, [H, W, 3]), as the model takes them: of kerasall's pixels in 0..255
            after the chain.
        class_index: the class to explain, one for all images or one each; default the one the model calls.
        method: "grad_cam" or "grad_cam_plus_plus".
        batch_size: images at once.

    Raises:
        SettingsError: an unknown method.
        ModelError: there is no feature map, no score or no gradient, or images and classes do not fit the model; no map
            is made up.
    """
    explainer = Explainer(model)
    pixels = np.asarray(images)
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if class_index is None:
        class_index = explainer.called(pixels, batch_size)
    return explainer.explain(pixels, class_index, method, batch_size)


class Explainer:
    """Explains a classifier, an ensemble, a classifier of deep features, or another convolutional model.

    ``names`` and ``weights`` are of the networks that have maps; ``missing`` says why a member of an ensemble has none.

    Args:
        model: now or after it was saved; from pixels 0..255 [N, H, W, 3].

    Raises:
        ModelError: nothing can be explained (``find_networks``); the message says why.
    """

    def __init__(self, model: keras.Model):
        self.model = model = as_functional(model)
        found = find_networks(model)
        self.networks: tuple[Network, ...] = tuple(network for network in found if not network.missing)
        self.missing = {network.name: network.missing for network in found if network.missing}
        self.names = tuple(network.name for network in self.networks)
        weights = np.array([network.weight for network in self.networks])
        self.weights = weights / weights.sum()
        output: Any = model.output
        answers = (output["probabilities"] if isinstance(output, Mapping) else output).shape[-1]
        self.classes = max(2, int(answers))  # one sigmoid tells two classes apart
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
        if method not in METHODS:
            cure = did_you_mean(method, METHODS, "choose one of these")
            raise SettingsError(f"the method must be one of {', '.join(METHODS)}, but is {method!r}: {cure}")
        suffix = METHODS[method].suffix
        pixels, classes = self._checked(pixels, class_indices)
        run = self._trace() if len(pixels) > batch_size else self  # tracing pays from the second batch on
        parts = []
        for start in range(0, len(pixels), batch_size):
            batch = slice(start, start + batch_size)
            answers = run(pixels[batch].astype(np.float32), classes[batch])
            parts.append({name: keras.ops.convert_to_numpy(value) for name, value in answers.items()})
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self._require_gradients(joined["slopes"], joined[f"raw{suffix}"])
        maps = (joined[f"{name}{suffix}"] for name in ("heatmap", "member_heatmaps", "raw"))
        return Explanation(
            method, self.names, self.weights, *maps, class_indices=classes, missing=self.missing
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
            extent = [each(signed, axis=(2, 3)) for each in (keras.ops.min, keras.ops.mean, keras.ops.max)]
            answers[f"raw{method.suffix}"] = keras.ops.stack(extent, axis=-1)
        return answers

    def called(self, pixels: np.ndarray, batch_size: int = 16) -> np.ndarray:
        """The class that the model calls each image, int [N]; ``pixels`` as for ``explain``.

        Raises:
            ModelError: the images do not fit the model.
        """
        pixels, _ = self._checked(pixels, 0)
        batches = [pixels[start : start + batch_size] for start in range(0, len(pixels), batch_size)]
        return predict_classes(self.model, batches)[1]

    def _trace(self) -> Callable[[Any, Any], dict[str, _Tensor]]:
        """The same as one graph, under TensorFlow."""
        if keras.backend.backend() != "tensorflow":
            return self
        if self._compiled is None:
            import tensorflow as tf

            images = tf.TensorSpec((None, *self.model.input_shape[1:]), tf.float32)
            signature = [images, tf.TensorSpec((None,), tf.int32)]
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
        whole = classes.dtype.kind in "iu" and classes.shape in ((), (len(pixels),))
        if not whole or ((classes < 0) | (classes >= self.classes)).any():
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
    maps = {}
    for name, method in METHODS.items():
        pairs = zip(network.targets, activations, gradients, strict=True)
        placed = [target.place(method.formula(*pair)) for target, *pair in pairs]
        maps[name] = sum(placed[1:], placed[0])  # each is in units of the one score they explain
    return maps, keras.ops.max(keras.ops.stack(sizes), axis=0)


def _scale(signed: _Tensor) -> _Tensor:
    """What speaks for the class, with a peak of 1; zero where nothing does."""
    positive: _Tensor = keras.ops.relu(signed)
    peaks: _Tensor = keras.ops.max(positive, axis=(2, 3), keepdims=True)
    return positive / keras.ops.where(peaks > 0, peaks, 1.0)


def score_gradients(score: Score, activations: Sequence[_Tensor], classes: _Tensor) -> list[_Tensor]:
    """Gradients of each image's own class score with respect to every tensor of activations.

    Args:
        score: activations, a list of [N, h, w, K] (h, w and K of their own) -> scores [N, C].
        activations: where to differentiate.
        classes: int [N], the class of each image.

    Returns:
        float32 tensors like ``activations``.

    Raises:
        ModelError: the score does not depend on some activations, or the backend has no gradients here.
    """

    def total(values: Sequence[_Tensor]) -> _Tensor:
        scores = score(values)
        return keras.ops.sum(scores * keras.ops.one_hot(classes, scores.shape[-1], dtype=scores.dtype))

    backend = keras.backend.backend()
    if backend not in _GRADIENTS:
        raise ModelError(
            f"explanations need gradients by {' or '.join(_GRADIENTS)}, but Keras runs on {backend}: set KERAS_BACKEND"
        )
    found = _GRADIENTS[backend](total, list(activations))
    if any(each is None for each in found):
        raise ModelError(
            "a class score must depend on the last feature map, but has no gradient there: the layers between them "
            "cannot be differentiated, so there is nothing to explain the score by"
        )
    return [keras.ops.cast(each, "float32") for each in found]


def _tensorflow_gradients(total: Callable, values: list[_Tensor]) -> Sequence[_Tensor | None]:
    import tensorflow as tf  # here, because other backends need none

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        result = total(values)
    return tape.gradient(result, values)


def _jax_gradients(total: Callable, values: list[_Tensor]) -> Sequence[_Tensor | None]:
    import jax  # pyright: ignore[reportMissingImports]

    return jax.grad(total)(values)


_GRADIENTS = {"tensorflow": _tensorflow_gradients, "jax": _jax_gradients}
