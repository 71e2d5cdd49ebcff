"""A stage that is killed goes on and ends as the unbroken one, bit for bit."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny_run
from tiny_run import SETTINGS, make_epochs, make_images, make_linear, make_model, make_points, values

from kerasall.errors import ArtifactError, SettingsError
from kerasall.training.checkpoints import StateFolder
from kerasall.training.fit import StageSettings, fit
from kerasall.training.optimizers import OPTIMIZERS

SCRIPT = Path(__file__).with_name("tiny_run.py")
BATCHES = make_epochs(*make_points())
VALIDATION = [make_points(20, seed=1)]


@pytest.fixture(autouse=True)
def _op_determinism_ends_with_the_test():
    yield
    from tensorflow.python.framework import config  # no public way back

    config.disable_op_determinism()


class Killed(Exception):
    """Stands for a kill inside this process."""


def die_at(epoch):
    def on_epoch(model, row):
        if row.epoch == epoch:
            raise Killed

    return on_epoch


def copy_at(epoch, folder, copy):
    """Copies the state as a kill at the end of ``epoch``, before it counts, would leave it."""

    def on_epoch(model, row):
        if row.epoch == epoch:
            shutil.copytree(folder, copy)

    return on_epoch


def train(
    folder, settings=SETTINGS, on_epoch=None, model=None, batches=BATCHES, validation=VALIDATION, **more
):
    model = model or make_linear()
    history = fit(
        model, batches, lambda: validation, settings, folder, "", on_epoch, deterministic=True, **more
    )
    return model, history


def without_seconds(history):
    return [{k: v for k, v in asdict(row).items() if k != "seconds"} for row in history.epochs]


def require_equal(one, other):
    assert without_seconds(one[1]) == without_seconds(other[1])
    assert one[1].best_epoch == other[1].best_epoch
    for a, b in zip(values(one[0]), values(other[0]), strict=True):
        assert a.tobytes() == b.tobytes()


def start(folder, result, backend="tensorflow", seconds=0.25):
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path]),
    }
    command = [sys.executable, str(SCRIPT), str(folder), str(result), str(seconds)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def kill_after_epoch(process, epoch, seconds):
    """Waits for the epoch's line, then ``seconds`` more, then SIGKILL."""
    for line in process.stderr:
        if line.startswith(f"tiny  epoch {epoch}/"):
            break
    time.sleep(seconds)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"


def finish(process):
    _, words = process.communicate(timeout=120)
    assert process.returncode == 0, words
    return words


def require_equal_results(one, other):
    with np.load(one) as a, np.load(other) as b:
        assert a.files == b.files
        for name in a.files:
            assert a[name].tobytes() == b[name].tobytes(), name


def test_sigkill_at_a_random_moment(tmp_path):
    broken = start(tmp_path / "b", tmp_path / "b.npz")
    kill_after_epoch(broken, 2, random.uniform(0, 0.8))
    resumed = start(tmp_path / "b", tmp_path / "b.npz", seconds=0)
    tiny_run.main(tmp_path / "a", tmp_path / "a.npz", 0)
    words = finish(resumed)
    assert "epoch 1/" not in words
    assert "epoch 8/" in words
    require_equal_results(tmp_path / "a.npz", tmp_path / "b.npz")


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed (optional backend)")
def test_sigkill_under_jax(tmp_path):
    unbroken = start(tmp_path / "a", tmp_path / "a.npz", "jax", seconds=0)
    broken = start(tmp_path / "b", tmp_path / "b.npz", "jax")
    kill_after_epoch(broken, 2, random.uniform(0, 0.8))
    finish(start(tmp_path / "b", tmp_path / "b.npz", "jax", seconds=0))
    finish(unbroken)
    require_equal_results(tmp_path / "a.npz", tmp_path / "b.npz")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_resumes_bit_equal(tmp_path, optimizer):
    settings = replace(SETTINGS, epochs=4, optimizer=optimizer)
    folder, copy, epochs = tmp_path / "a", tmp_path / "b", []
    unbroken = train(folder, settings, copy_at(3, folder, copy))
    resumed = train(copy, settings, lambda model, row: epochs.append(row.epoch))
    assert epochs == [3, 4]
    require_equal(unbroken, resumed)


def test_mixed_float16_resumes_with_its_loss_scale(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        settings = replace(SETTINGS, epochs=3)
        images = {"batches": make_epochs(*make_images()), "validation": [make_images(20, seed=1)]}
        first = copy_at(2, tmp_path / "a", tmp_path / "b")
        unbroken = train(tmp_path / "a", settings, first, make_model(), **images)
        resumed = train(tmp_path / "b", settings, model=make_model(), **images)
        assert isinstance(resumed[0].optimizer, keras.optimizers.LossScaleOptimizer)
        require_equal(unbroken, resumed)
    finally:
        keras.config.set_dtype_policy(before)


def test_a_break_at_every_single_write(tmp_path, monkeypatch):
    """Each file appears by one rename; the run is broken right after each of them in turn: arrays that
    ``progress.json`` does not count yet, and a ``progress.json`` whose older files still lie there."""
    settings = StageSettings(epochs=2)
    batches = [(np.eye(2, dtype=np.float32)[[0, 1, 1]], np.eye(2, dtype=np.float32)[[1, 0, 0]])]

    def run(folder, break_at=None):
        calls, rename = [], os.replace

        def replace_file(source, target):
            calls.append(target)
            rename(source, target)
            if len(calls) == break_at:
                raise Killed

        model = make_linear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace_file)
            history = fit(model, lambda epoch: batches, lambda: batches, settings, folder, deterministic=True)
        return (model, history), len(calls)

    unbroken, renames = run(tmp_path / "unbroken")
    assert renames == 8  # (start, progress), twice (epoch, progress), (final, progress)
    for break_at in range(1, renames + 1):
        folder = tmp_path / str(break_at)
        with pytest.raises(Killed):
            run(folder, break_at)
        require_equal(unbroken, run(folder)[0])
        assert sorted(path.name for path in folder.iterdir()) == ["final.npz", "progress.json"]


def test_epochs_that_are_not_each_stored_lose_nothing_else(tmp_path, monkeypatch):
    """Every second epoch is stored; a kill at any of them, before or after the best, changes no bit."""
    from itertools import count

    from kerasall.training import checkpoints

    clock = count()  # asked when a folder is opened, once an epoch, and once more when it is stored
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(clock))
    settings = replace(SETTINGS, epochs=6, learning_rate=1.0)
    stored, unbroken = [], train(tmp_path / "every", settings)

    def look(model, row):
        stored.append(sorted(path.name for path in (tmp_path / "some").glob("epoch_*")))

    require_equal(unbroken, train(tmp_path / "some", settings, look, store_seconds=2))
    assert stored[:4] == [[], [], ["epoch_0002.npz"], stored[3]]
    assert len({str(names) for names in stored}) < 5
    for epoch in range(1, 7):
        folder = tmp_path / str(epoch)
        with pytest.raises(Killed):
            train(folder, settings, die_at(epoch), store_seconds=2)
        require_equal(unbroken, train(folder, settings, store_seconds=2))
    assert unbroken[1].best_epoch > 1


def test_a_finished_stage_answers_at_once(tmp_path):
    settings = replace(SETTINGS, epochs=2)
    first = train(tmp_path, settings)

    def never(epoch):
        raise AssertionError("no batches are needed")

    model = make_linear(seed=9)
    history = fit(model, never, never, settings, tmp_path, deterministic=True)
    require_equal(first, (model, history))
    assert history == first[1]


def test_another_configuration_is_refused_with_the_difference(tmp_path):
    settings = replace(SETTINGS, epochs=1)
    train(tmp_path, settings, fingerprint={"data": "abc", "image_size": (32, 32)})
    train(tmp_path, settings, fingerprint={"data": "abc", "image_size": (32, 32)})
    with pytest.raises(SettingsError, match=r"run\.data: stored 'abc', now 'xyz'"):
        train(tmp_path, settings, fingerprint={"data": "xyz", "image_size": (32, 32)})
    with pytest.raises(SettingsError, match=r"stage\.learning_rate: stored 0\.02, now 0\.1"):
        train(
            tmp_path,
            replace(settings, learning_rate=0.1),
            fingerprint={"data": "abc", "image_size": (32, 32)},
        )
    with pytest.raises(SettingsError, match="must be a JSON object"):
        train(tmp_path, settings, fingerprint={"data": object()})


def test_a_damaged_or_foreign_state_is_refused(tmp_path):
    settings = replace(SETTINGS, epochs=2)
    with pytest.raises(Killed):
        train(tmp_path, settings, die_at(2))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(2, "softmax")])
    with pytest.raises(ArtifactError, match="state of this model"):
        fit(model, BATCHES, lambda: VALIDATION, settings, tmp_path, deterministic=True)
    file = tmp_path / "epoch_0001.npz"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    file.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="delete the folder"):
        train(tmp_path, settings)
    file.unlink()
    with pytest.raises(ArtifactError, match="delete the folder"):
        train(tmp_path, settings)


class Stopped(KeyboardInterrupt):
    """Ctrl-C inside this process."""


def stop_at(epoch):
    def on_epoch(model, row):
        if row.epoch == epoch:
            raise Stopped

    return on_epoch


def test_a_stop_says_what_is_stored_and_the_next_start_from_where(tmp_path, capsys):
    with pytest.raises(Stopped):
        train(tmp_path, on_epoch=stop_at(3))
    assert f"{SETTINGS.name}  is stopped; stored up to epoch 2/{SETTINGS.epochs}\n" in capsys.readouterr().err
    train(tmp_path)
    words = capsys.readouterr().err
    assert words.startswith(f"{SETTINGS.name}  goes on after epoch 2/{SETTINGS.epochs}\n")
    train(tmp_path)
    assert "was finished before, with epoch" in capsys.readouterr().err


def test_a_stop_before_anything_is_stored_claims_nothing(tmp_path, capsys):
    with pytest.raises(Stopped):
        train(tmp_path, on_epoch=stop_at(1))
    train(tmp_path)
    assert not {"stored", "goes on"} & set(capsys.readouterr().err.split("  "))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("state", 5),
        ("best", []),
        ("sha256", "none"),
        ("finished", "no"),
        ("fingerprint", None),
        ("history", {}),
    ],
)
def test_a_state_of_odd_values_is_refused_with_words(tmp_path, key, value):
    from kerasall.files import write_json

    whole = {"schema": 1, "fingerprint": {}, "state": "start.npz", "best": None, "history": None}
    write_json(tmp_path / "progress.json", whole)
    assert StateFolder(tmp_path, {}).history is None
    write_json(tmp_path / "progress.json", whole | {key: value})
    with pytest.raises(ArtifactError, match=r"progress\.json must be as .* delete the folder to train"):
        StateFolder(tmp_path, {})
