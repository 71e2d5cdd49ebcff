"""The trainable end of a classifier: pooled features to probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from kerasall.errors import SettingsError

POOLED = "pooled"
"""Name of the head's first layer, whose output is the pooled feature vector."""


@dataclass(frozen=True)
class HeadSettings:
    """What stands between pooled features and probabilities.

    Attributes:
        dense: units of hidden dense layers with ReLU, in order; none for a linear classifier.
        dropout: share of values dropped before the last layer while training, in [0, 1).
    """

    dense: tuple[int, ...] = ()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "dense", tuple(self.dense))
        if any(not isinstance(units, int) or units < 1 for units in self.dense):
            raise SettingsError(f"head.dense must be whole numbers of at least 1, but is {list(self.dense)}")
        if not 0 <= self.dropout < 1:
            raise SettingsError(f"head.dropout must lie in [0, 1), but is {self.dropout}")


def build_head(
    feature_shape: tuple[int, int, int],
    classes: int,
    settings: HeadSettings,
    seed: int = 0,
    name: str = "head",
) -> keras.Model:
    """Builds average pooling, the hidden layers and a softmax.

    Every layer computes in float32, whatever the precision policy: a softmax in half precision
    rounds small probabilities to 0.

    Args:
        feature_shape: height, width and channels of the backbone's output.
        classes: number C of classes, at least 2.
        settings: hidden layers and dropout.
        seed: of the dropout masks. Initial weights follow the caller's ``seeded`` block.
        name: name of the part.

    Returns:
        A model from float [N, h, w, channels] to float32 probabilities [N, C].
    """
    if classes < 2:
        raise SettingsError(f"a classifier needs at least 2 classes, but has {classes}")
    layers = keras.layers
    features = keras.Input(feature_shape, name="features")
    x = layers.GlobalAveragePooling2D(dtype="float32", name=POOLED)(features)
    for index, units in enumerate(settings.dense, 1):
        x = layers.Dense(units, activation="relu", dtype="float32", name=f"dense_{index}")(x)
    if settings.dropout:
        x = layers.Dropout(settings.dropout, seed=seed, dtype="float32", name="dropout")(x)
    x = layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(features, x, name=name)
