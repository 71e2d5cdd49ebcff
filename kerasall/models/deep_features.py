"""Features of several frozen backbones side by side, and classifiers of them as one Keras model.

The system of Hasanaath et al.: average-pooled features of any set of backbones, concatenated,
standardised, and classified by a linear support vector machine or a perceptron; or a perceptron of all places of
one backbone's feature map.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from kerasall.errors import ModelError, SettingsError
from kerasall.evaluation.ensemble_rules import find_highest
from kerasall.files import sha256_of_json
from kerasall.models.backbones import get_backbone
from kerasall.models.base import (
    POOLED,
    STANDARDISED_PIXELS,
    UNPOOLED,
    build_backbone,
    build_preprocess,
    name_operations,
)
from kerasall.models.ensembles import Step, largest_size, one_each, see
from kerasall.models.feature_classifiers import CLASSIFIERS, FeatureClassifier
from kerasall.models.prediction import cached_activations, require_key

_LAYERS = ("standardised", "decisions", "hidden", "platt", "likelihood", "probabilities")
RESERVED = ("image", "features", *_LAYERS)

_Tensor = Any


def build_extractor(
    backbone: str,
    image_size: tuple[int, int],
    weights: str | Path = "imagenet",
    alpha: float = 1.0,
    weights_folder: str | Path | None = None,
    name: str | None = None,
    seed: int = 0,
    pooling: Literal["average", "none"] = "average",
    pixels: Literal["own", "standardised"] = "own",
) -> keras.Model:
    """Builds a frozen backbone, its last map averaged or not: pixels to a feature vector.

    Args:
        backbone: key in ``BACKBONES``.
        image_size: height and width of its images in pixels.
        weights: "imagenet", "random" or the path of a weights file (``build_backbone``).
        alpha: width multiplier of the MobileNets.
        weights_folder: folder of ImageNet weights (``resolve_weights``).
        name: name of the extractor, by default the backbone's.
        seed: of random weights.
        pooling: "none" keeps all places of the last feature map, row by row.
        pixels: "own" preprocessing of the backbone; or every image "standardised" in its place.

    Returns:
        A model from RGB pixels 0..255, uint8 or float [N, H, W, 3], to float32 [N, channels], without pooling
        [N, h w channels].

    Raises:
        SettingsError: an unknown backbone, or a size or alpha that cannot be.
        WeightsError: the weights are missing, changed, or of another architecture.
    """
    image: _Tensor = keras.Input((*image_size, 3), dtype="float32", name="image")
    base = build_backbone(backbone, image_size, weights, alpha, weights_folder, seed)
    mode = STANDARDISED_PIXELS if pixels == "standardised" else get_backbone(backbone).preprocess
    maps = base(build_preprocess(mode, image_size)(image))
    if pooling == "average":
        features = keras.layers.GlobalAveragePooling2D(dtype="float32", name=POOLED)(maps)
    else:
        features = keras.layers.Flatten(dtype="float32", name=UNPOOLED)(maps)
    model = keras.Model(image, features, name=name or backbone)
    model.trainable = False
    return model


def extract_features(
    extractors: Sequence[keras.Model],
    pixels: np.ndarray,
    pixels_key: str,
    folder: str | Path,
    steps: Sequence[Sequence[Step] | None] | None = None,
    memory_bytes: int = 2 << 30,
) -> np.ndarray:
    """Features of all extractors side by side; each extractor sees each set of images once.

    Singles, pairs and trios of the same extractors are all made of what was computed once for each.

    Args:
        extractors: from ``build_extractor``.
        pixels: uint8 [N, H, W, 3], after the chain that the extractors share.
        pixels_key: names the content of ``pixels``; equal keys mean equal pixels.
        folder: where features are kept.
        steps: what each extractor does to the pixels first, as in ``build_ensemble``.
        memory_bytes: see ``cached_activations``.

    Returns:
        float32 [N, D] in the order of the extractors; of one extractor mapped from the disk where it is large.
    """
    require_key(pixels_key)
    _check_extractors(extractors)
    size = tuple(pixels.shape[1:3])
    image: _Tensor = keras.Input((*size, 3), dtype="float32", name="image")
    parts = []
    own_steps = one_each("lists of steps as extractors", steps, extractors)
    for extractor, own in zip(extractors, own_steps, strict=True):
        view, key = extractor, pixels_key
        if own or size != tuple(extractor.input_shape[1:3]):
            # The cache knows layers with their settings, but of the operations of steps no more than the kind.
            view = keras.Model(image, see(extractor, image, own))
            key = sha256_of_json([pixels_key, size, [dict(step) for step in own or ()]])
        parts.append(cached_activations(view, pixels, key, folder, memory_bytes))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def build_feature_model(
    extractors: Sequence[keras.Model],
    classifier: FeatureClassifier,
    image_size: tuple[int, int] | None = None,
    steps: Sequence[Sequence[Step] | None] | None = None,
    name: str = "deep_features",
    malignant: Sequence[int] = (),
) -> keras.Model:
    """Makes extractors and a fitted classifier one frozen Keras model that decides as they do.

    Args:
        extractors: those whose features the classifier was fitted to, in that order.
        classifier: a linear support vector machine or a perceptron.
        image_size: height and width of the images after the common chain, by default the size of the
            extractor with the largest images.
        steps: as given to ``extract_features``.
        name: name of the model.
        malignant: indices of the malignant classes, one of which is decided for in a tie.

    Returns:
        A model from RGB pixels 0..255, uint8 or float [N, H, W, 3], called ``image``, to a dictionary:
        ``probabilities`` float32 [N, C] and ``label_index`` [N]; of a support vector machine also
        ``decision_values`` float32 [N, C], the largest of which decides. Its probabilities are fitted
        to the decisions (``PlattScaling``), so the decided class need not be the most probable one.

    Raises:
        ModelError: the classifier is of another kind or was fitted to features of another length.
        SettingsError: names that repeat, or steps that end in another size.
    """
    _check_extractors(extractors)
    _check_classifier(classifier, sum(int(each.outputs[0].shape[-1]) for each in extractors))
    size = image_size or largest_size(extractors)
    image: _Tensor = keras.Input((*size, 3), dtype="float32", name="image")
    own_steps = one_each("lists of steps as extractors", steps, extractors)
    parts = [see(extractor, image, own) for extractor, own in zip(extractors, own_steps, strict=True)]
    features = parts[0]
    if len(parts) > 1:
        features = keras.layers.Concatenate(dtype="float32", name="features")(parts)
    scaler: Any = classifier.pipeline[0]
    plain = scaler.scale_ is None  # features are taken as they are
    # Subtracting first keeps the digits of features whose deviation is small beside their mean.
    standardise = keras.layers.Normalization(
        mean=0.0 if plain else scaler.mean_, variance=1.0 if plain else scaler.scale_**2,
        dtype="float32", name="standardised",
    )  # fmt: skip
    answers = _SVM_OR_MLP[classifier.row.name](classifier, standardise(features), malignant)
    model = keras.Model(image, answers, name=name)
    name_operations(model, {*RESERVED, *(extractor.name for extractor in extractors)})
    model.trainable = False
    return model


def _dense(inputs: _Tensor, kernel: np.ndarray, bias: np.ndarray, name: str, activation: str) -> _Tensor:
    layer = keras.layers.Dense(len(bias), activation=activation, dtype="float32", name=name)
    outputs = layer(inputs)
    layer.set_weights([kernel, bias])
    return outputs


def _support_vector_machine(
    classifier: FeatureClassifier, inputs: _Tensor, malignant: Sequence[int]
) -> dict[str, _Tensor]:
    fitted: Any = classifier.pipeline[-1]
    platt = classifier.platt
    if platt is None:
        raise ModelError(
            "a support vector machine must have its Platt scaling: fit it with fit_feature_classifier"
        )
    kernel, bias = fitted.coef_.T, fitted.intercept_
    if classifier.classes == 2:  # one border: minus the distance to its one side is that to the other
        kernel, bias = np.concatenate([-kernel, kernel], axis=1), np.concatenate([-bias, bias])
    decisions = _dense(inputs, kernel, bias, "decisions", "linear")
    scaling = {"scale": platt.slopes.tolist(), "offset": platt.offsets.tolist()}
    lines = keras.layers.Rescaling(**scaling, dtype="float32", name="platt")(decisions)
    sigmoids = keras.layers.Activation("log_sigmoid", dtype="float32", name="likelihood")(lines)
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(sigmoids)
    decided = find_highest(keras.ops, decisions, malignant)
    return {"probabilities": probabilities, "label_index": decided, "decision_values": decisions}


def _perceptron(
    classifier: FeatureClassifier, inputs: _Tensor, malignant: Sequence[int]
) -> dict[str, _Tensor]:
    fitted: Any = classifier.pipeline[-1]
    kernels, biases = list(fitted.coefs_), list(fitted.intercepts_)
    if classifier.classes == 2:  # a sigmoid is the softmax of minus and plus half of it
        kernels[-1] = np.concatenate([-kernels[-1], kernels[-1]], axis=1) / 2
        biases[-1] = np.concatenate([-biases[-1], biases[-1]]) / 2
    hidden = _dense(inputs, kernels[0], biases[0], "hidden", "relu")
    probabilities = _dense(hidden, kernels[1], biases[1], "probabilities", "softmax")
    return {"probabilities": probabilities, "label_index": find_highest(keras.ops, probabilities, malignant)}


_SVM_OR_MLP = {"linear_svm": _support_vector_machine, "mlp": _perceptron}


def _check_classifier(classifier: FeatureClassifier, width: int) -> None:
    row = classifier.row
    if not row.exportable:
        able = ", ".join(name for name, each in CLASSIFIERS.items() if each.exportable)
        raise ModelError(
            f"only {able} can become layers of a model, but the classifier is {row.name}, which is no sum of weighted "
            f"features: export one of these, and keep {row.name} for comparison in the report"
        )
    if classifier.pipeline.n_features_in_ != width:
        raise ModelError(
            f"the classifier was fitted to {classifier.pipeline.n_features_in_} features, but the extractors give "
            f"{width}: give the extractors it was fitted with, in that order"
        )


def _check_extractors(extractors: Sequence[keras.Model]) -> None:
    if not extractors:
        raise SettingsError("deep features need at least one backbone, but none was given")
    names = [extractor.name for extractor in extractors]
    if repeated := [name for name, count in Counter(names).items() if count > 1 or name in RESERVED]:
        raise SettingsError(
            f"extractors must have names of their own, but {', '.join(repeated)} is taken: give a name"
        )
