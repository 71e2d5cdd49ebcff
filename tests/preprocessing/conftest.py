"""One way to run an operation wherever it must run, and images of awkward sizes to run it on."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

_ANY_SIZE = tf.TensorSpec([None, None, 3], tf.float32)


def _run_everywhere(operation, image: np.ndarray, folder) -> np.ndarray:
    """Runs eagerly, in ``Dataset.map`` and in a reloaded SavedModel of unknown size; all must agree."""
    image = np.asarray(image, np.float32)
    eager = operation(tf.constant(image)).numpy()

    dataset = tf.data.Dataset.from_generator(lambda: [image], output_signature=_ANY_SIZE).map(operation)
    (mapped,) = dataset.as_numpy_iterator()
    np.testing.assert_allclose(mapped, eager, atol=1e-3)

    module = tf.Module()
    module.run = tf.function(lambda x: operation(x), input_signature=[_ANY_SIZE])
    tf.saved_model.save(module, str(folder))
    served = tf.saved_model.load(str(folder)).run(tf.constant(image)).numpy()
    np.testing.assert_allclose(served, eager, atol=1e-3)
    assert eager.dtype == np.float32
    return eager


@pytest.fixture
def run_everywhere(tmp_path):
    return lambda operation, image: _run_everywhere(operation, image, tmp_path / "saved")


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    """A uint8 image [37, 52, 3] whose every pixel differs from its neighbours."""
    return np.random.default_rng(7).integers(0, 256, (37, 52, 3), dtype=np.uint8)
