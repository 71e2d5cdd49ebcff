"""Precision: what a device is given, that the block leaves nothing behind, and that results stay close."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasall.errors import SettingsError
from kerasall.runtime import has_amx
from kerasall.training.devices import PRECISIONS, choose_precision, computing_in


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"wanted": "float32", "device": "gpu", "capability": 9.0}, "float32"),
        ({"wanted": "auto", "device": "gpu", "capability": 9.0}, "mixed_bfloat16"),
        ({"wanted": "auto", "device": "gpu", "capability": 7.5}, "mixed_float16"),
        ({"wanted": "auto", "device": "gpu", "capability": 6.1}, "float32"),
        ({"wanted": "bfloat16", "device": "gpu", "capability": 7.5}, "mixed_bfloat16"),
        ({"wanted": "auto", "device": "cpu", "amx": True}, "onednn_bfloat16"),
        ({"wanted": "auto", "device": "cpu", "amx": False}, "float32"),
        ({"wanted": "bfloat16", "device": "cpu", "amx": False}, "onednn_bfloat16"),
        ({"wanted": "auto", "device": "gpu", "capability": 9.0, "deterministic": True}, "float32"),
        ({"wanted": "bfloat16", "device": "cpu", "amx": True, "deterministic": True}, "float32"),
    ],
)
def test_the_device_decides(facts, name):
    assert choose_precision(**facts).name == name


def test_what_gains_nothing_is_said():
    assert "slower" in choose_precision("bfloat16", device="cpu", amx=False).caution
    assert "deterministic" in choose_precision("bfloat16", deterministic=True).caution
    assert not choose_precision("bfloat16", device="cpu", amx=True).caution
    assert not choose_precision("auto", deterministic=True).caution
    with pytest.raises(SettingsError, match="'bfloat16'"):
        choose_precision("bflot16")


def test_amx_is_read_from_the_flags(tmp_path):
    (tmp_path / "with").write_text("model name : x\nflags\t\t: fpu amx_bf16 amx_tile\n")
    (tmp_path / "without").write_text("flags\t\t: fpu avx512_bf16\nmodel name : amx_bf16\n")
    assert has_amx(tmp_path / "with")
    assert not has_amx(tmp_path / "without")
    assert not has_amx(tmp_path / "absent")


def test_one_graph_rounds_inside_the_block_alone():
    """The option is read at every call, not when a function is traced."""
    kernel = tf.random.stateless_normal((3, 3, 32, 32), [1, 2])
    images = tf.random.stateless_normal((2, 16, 16, 32), [3, 4])

    @tf.function
    def forward(images):
        return tf.nn.relu(tf.nn.conv2d(tf.nn.conv2d(images, kernel, 1, "SAME"), kernel, 1, "SAME"))

    outside = forward(images).numpy()
    with computing_in(PRECISIONS["onednn_bfloat16"]):
        inside = forward(images).numpy()
    again = forward(images).numpy()
    np.testing.assert_array_equal(outside, again)
    assert np.abs(inside - outside).max() < 0.05 * np.abs(outside).max()
    if "_bf16" in Path("/proc/cpuinfo").read_text():
        assert np.abs(inside - outside).max() > 0


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_block_leaves_nothing_behind_even_where_it_fails(name):
    policy, options = keras.config.dtype_policy(), tf.config.optimizer.get_experimental_options()
    with computing_in(PRECISIONS[name]):
        inside = keras.config.dtype_policy().name
    with pytest.raises(ZeroDivisionError), computing_in(PRECISIONS[name]):
        raise ZeroDivisionError
    assert inside == PRECISIONS[name].policy
    assert keras.config.dtype_policy() == policy
    off = {"auto_mixed_precision_onednn_bfloat16": False}
    assert off | tf.config.optimizer.get_experimental_options() == off | options
