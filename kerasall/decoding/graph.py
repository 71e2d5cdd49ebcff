"""The decoding that stands in TensorFlow's graphs: what ``to_native`` gives -> pixels.

Not imported by ``kerasall.decoding``, which loads no TensorFlow.
"""

from __future__ import annotations

import tensorflow as tf


def decode_native(data: tf.Tensor) -> tf.Tensor:
    """Decodes a file that ``to_native`` gave, a string scalar, to uint8 [h, w, 3], RGB.

    Equals ``kerasall.decoding.decode`` pixel by pixel. JPEG goes through the accurate inverse cosine transform,
    which is the same in every libjpeg-turbo; TensorFlow's own choice is a coarser one.
    """
    image = tf.cond(
        tf.io.is_jpeg(data),
        lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(data, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, [None, None, 3])
