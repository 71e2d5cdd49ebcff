"""Explanations from a pushed SavedModel with TensorFlow alone: its signature ``explain``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kerasall.decoding import to_native
from kerasall.errors import ModelError, SettingsError, did_you_mean
from kerasall.serving.predictor import Predictor

SIGNATURE = "explain"
METHODS = {"grad_cam": "", "grad_cam_plus_plus": "_plus_plus"}
"""Method -> what the names of its outputs end with."""


@dataclass(frozen=True, eq=False)
class ServedExplanation:
    """What a SavedModel says of one image, and where it sees that.

    Attributes:
        label_index: the class the model calls.
        probabilities: float32 [C].
        class_index: the class that is explained.
        method: key in ``METHODS``.
        pixels: uint8 [H, W, 3], what the model was shown.
        heatmap: float32 [H, W] in 0..1, the mean of the networks' maps by their weights.
        member_heatmaps: float32 [M, H, W] in 0..1, each with a peak of 1, or zero.
        names: M names of networks: the members of an ensemble, else the model alone.
        weights: float32 [M], which sum to 1.
        raw: float32 [M, 3]: minimum, mean and maximum before scaling, in units of the score.
    """

    label_index: int
    probabilities: np.ndarray
    class_index: int
    method: str
    pixels: np.ndarray
    heatmap: np.ndarray
    member_heatmaps: np.ndarray
    names: tuple[str, ...]
    weights: np.ndarray
    raw: np.ndarray

    @property
    def has_evidence(self) -> np.ndarray:
        """bool [M]: whether anything in the image speaks for the class to each network."""
        return self.raw[:, 2] > 0


def require_explainable(predictor: Predictor, missing: Mapping[str, str] | None = None) -> None:
    """Stops where a SavedModel has no maps.

    Args:
        predictor: a loaded SavedModel.
        missing: what its card says of networks without a map: name -> why.

    Raises:
        ModelError: it has no signature ``explain``; the message says why, where the card does.
    """
    if SIGNATURE in predictor.interface:
        return
    why = "; ".join(f"no map can be drawn of {name}: {reason}" for name, reason in (missing or {}).items())
    raise ModelError(
        f"{predictor.folder} must have the signature {SIGNATURE}, but has {', '.join(predictor.interface)}: "
        + (why or "it was exported before there were maps; run the experiment again to export it anew")
    )


def find_class(labels: tuple[str, ...], name: str) -> int:
    """Index of the class called ``name``.

    Raises:
        SettingsError: there is none; the message names the nearest.
    """
    if name not in labels:
        hint, known = did_you_mean(name, labels, cutoff=0.5), ", ".join(labels)
        raise SettingsError(
            f"the class to explain must be one of {known}, but is {name!r}{hint and f': {hint}'}"
        )
    return labels.index(name)


def explain_image(
    predictor: Predictor, data: bytes, name: str, class_index: int | None = None, method: str = "grad_cam"
) -> ServedExplanation:
    """Explains one image file.

    Args:
        predictor: a loaded SavedModel with the signature ``explain``.
        data: content of the file (BMP, PNG, JPEG, TIFF, WebP).
        name: what to call it in messages.
        class_index: the class to explain, by default the one that the model calls.
        method: key in ``METHODS``.

    Raises:
        DecodingError: the image cannot be read.
        ModelError: there is no gradient, or the map is not finite; no map is made up.
    """
    answers = predictor.predict([data], [name])
    answers.require_all()
    called = int(answers.label_indices[0])
    chosen = called if class_index is None else class_index
    found = find_maps(predictor, to_native(data, predictor.limits, name), name, chosen)
    maps = ("heatmap", "member_heatmaps", "raw")
    heatmap, of_members, raw = (found[f"{name}{METHODS[method]}"] for name in maps)
    names, weights = tuple(each.decode() for each in found["member_names"]), found["member_weights"]
    probabilities, shown = answers.probabilities[0], found["pixels"]
    return ServedExplanation(
        called, probabilities, chosen, method, shown, heatmap, of_members, names, weights, raw
    )


def find_maps(predictor: Predictor, native: bytes, name: str, class_index: int) -> dict[str, np.ndarray]:
    """What the signature gives for one image file that TensorFlow can decode, by name, without the batch.

    Raises:
        ModelError: there is no gradient, or the map is not finite.
    """
    import tensorflow as tf

    try:
        found = predictor.signatures[SIGNATURE](
            image_bytes=tf.constant([native]), class_index=tf.constant([class_index], tf.int64)
        )
    except tf.errors.InvalidArgumentError as error:
        words = str(error).partition("assertion failed: [")[2].partition("]")[0]
        raise ModelError(f"{name} cannot be explained: {words or error}") from None
    return {key: value.numpy()[0] for key, value in found.items()}
