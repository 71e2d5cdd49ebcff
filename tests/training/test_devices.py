"""Several devices train as one does: two logical CPU devices, and two processes under JAX."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kerasall.errors import SettingsError
from kerasall.training.devices import join_hosts, spread_over

TRAIN = Path(__file__).with_name("several_devices.py")


def start(*arguments, backend="tensorflow", **more):
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path]),
        **more,
    }
    command = [sys.executable, str(TRAIN), *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process):
    try:
        _, words = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode == 0, words


def require_close(one, other, tolerance):
    with np.load(one) as a, np.load(other) as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_allclose(a[name], b[name], atol=tolerance, err_msg=name)


@pytest.mark.slow
def test_two_logical_devices_train_as_one_does(tmp_path):
    """Dealt out, resumed from a copied state, and predicted by a plain model: weights and losses are alike."""
    finish(start("mirror", tmp_path))
    require_close(tmp_path / "one.npz", tmp_path / "two.npz", 1e-5)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed (optional backend)")
def test_two_processes_train_as_one_does_under_jax(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    alone = start("hosts", 1, 0, address, tmp_path / "alone.npz", backend="jax")
    both = [
        start("hosts", 2, number, address, tmp_path / f"{number}.npz", backend="jax") for number in (0, 1)
    ]
    for run in (alone, *both):
        finish(run)
    require_close(tmp_path / "0.npz", tmp_path / "1.npz", 0)
    require_close(tmp_path / "alone.npz", tmp_path / "0.npz", 1e-5)


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(SettingsError, match="at most 1, the devices this machine shows"), spread_over(3):
        pass
    with pytest.raises(SettingsError, match="set KERAS_BACKEND=jax"):
        join_hosts("127.0.0.1:1", 2, 0)
