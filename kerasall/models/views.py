"""Views of one image that show the same cell: mirrored and turned by quarters, and the mean of their answers.

A cell has no upper side, so the model's answers to the eight symmetries of a square differ only by what it
has learnt by chance; their mean is the test-time augmentation of the field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from kerasall.errors import ModelError

VIEWS: dict[int, tuple[tuple[bool, bool, bool], ...]] = {
    1: ((False, False, False),),
    4: tuple((False, down, across) for down in (False, True) for across in (False, True)),
    8: tuple(
        (turned, down, across)
        for turned in (False, True)
        for down in (False, True)
        for across in (False, True)
    ),
}
"""How many views -> for each: whether rows and columns are exchanged, then mirrored up-down and left-right.

The first view is the image itself. Four views are the mirrorings and the half turn, which need no square.
"""

_Tensor = Any


def show_view(ops: Any, pixels: _Tensor, view: tuple[bool, bool, bool]) -> _Tensor:
    """One view of every image.

    Args:
        ops: numpy or ``keras.ops``.
        pixels: [N, H, W, 3], square if the view exchanges rows and columns.
        view: of ``VIEWS``.
    """
    exchanged, down, across = view
    if exchanged:
        pixels = ops.transpose(pixels, (0, 2, 1, 3))
    pixels = ops.flip(pixels, 1) if down else pixels
    return ops.flip(pixels, 2) if across else pixels


def require_views(model: keras.Model, views: int) -> None:
    """Checks that a model's images can be shown in so many views.

    Raises:
        ModelError: not 1, 4 or 8; eight of images that are not square; or a model of several outputs.
    """
    if views not in VIEWS:
        raise ModelError(f"serve.views must be one of {list(VIEWS)}, but is {views}")
    if views == 1:
        return
    height, width = model.input_shape[1:3]
    if views == 8 and height != width:
        raise ModelError(
            f"eight views need square images, but the model takes {height}x{width}: set serve.views: 4, or crop to a "
            "square"
        )
    if isinstance(model.output, dict):
        raise ModelError(
            "views are averaged for one classifier, but the model is an ensemble: set serve.views: 1"
        )


def mean_of_views(answer: Callable[[_Tensor], _Tensor], pixels: _Tensor, views: int, classes: int) -> _Tensor:
    """Mean over the views of a network's probabilities, in TensorFlow operations, one view after another.

    The views pass the network one by one: eight at once would take eight times the memory.

    Args:
        answer: pixels float32 [N, H, W, 3] -> probabilities float32 [N, C].
        pixels: of N images.
        views: a key of ``VIEWS``.
        classes: C.
    """
    import tensorflow as tf

    if views == 1:
        return answer(pixels)
    stacked = tf.stack([show_view(keras.ops, pixels, view) for view in VIEWS[views]])
    answers = tf.map_fn(
        lambda shown: tf.cast(answer(shown), tf.float32), stacked, parallel_iterations=1,
        fn_output_signature=tf.TensorSpec([None, classes], tf.float32),
    )  # fmt: skip
    return tf.reduce_mean(answers, axis=0)
