"""The training loop on a tiny network: learning, early stopping, weights, refusals, the log."""

from __future__ import annotations

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_run import SETTINGS, make_epochs, make_images, make_linear, make_model, make_points, values

from kerasall.errors import KerasallError, SettingsError
from kerasall.training.epochs import _end_to_end
from kerasall.training.fit import StageSettings, choose_jit, fit
from kerasall.training.history import MONITORS

EPOCHS = make_epochs(*make_points())
VALIDATION = [make_points(20, seed=1)]
IMAGES = {"batches": make_epochs(*make_images()), "validation": lambda: [make_images(20, seed=1)]}


def train(folder, settings=SETTINGS, model=None, batches=EPOCHS, validation=lambda: VALIDATION, **more):
    model = model or make_linear()
    return model, fit(model, batches, validation, settings, folder / "state", **more)


class TraceCounter(keras.layers.Layer):
    """Counts how often Python runs through it: once per trace."""

    count = 0

    def call(self, inputs):
        type(self).count += 1
        return inputs


def test_it_learns_and_traces_once(tmp_path, capfd):
    TraceCounter.count = 0
    seen = []
    settings = StageSettings(epochs=12, learning_rate=0.03)
    model = make_model(inner=[TraceCounter()])
    model, history = train(
        tmp_path,
        settings,
        model,
        on_epoch=lambda m, row: seen.append((row.epoch, TraceCounter.count)),
        label="tiny head",
        **IMAGES,
    )
    assert history.best.val_accuracy >= 0.8
    assert [epoch for epoch, _ in seen] == list(range(1, 13))
    assert len({count for _, count in seen}) == 1, "the step was traced again"
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("tiny head")]
    assert len(lines) == 12
    assert all(
        word in lines[0] for word in ("epoch 1/12", "loss", "val_accuracy", "lr 3.00e-02", " s ", "left")
    )


def test_best_weights_are_kept_and_score_as_recorded(tmp_path):
    settings = replace(SETTINGS, optimizer="sgdm", learning_rate=0.5, epochs=6)
    model, history = train(tmp_path, settings)
    scores = model.evaluate(*VALIDATION[0], verbose=0, return_dict=True)
    assert scores["loss"] == pytest.approx(history.best.val_loss, rel=1e-5)
    assert history.best.val_loss == min(row.val_loss for row in history.epochs)


def test_last_weights_are_kept_where_asked(tmp_path):
    last = {}
    settings = replace(SETTINGS, optimizer="sgdm", learning_rate=0.5, epochs=3, restore_best=False)
    model, history = train(tmp_path, settings, on_epoch=lambda m, row: last.update(now=values(m)))
    assert history.best_epoch == 3
    assert all(np.array_equal(a, b) for a, b in zip(values(model), last["now"], strict=True))


@pytest.mark.parametrize("monitor", MONITORS)
def test_patience_ends_the_stage(tmp_path, monitor):
    # Rate too small to move anything: no epoch after the first is better by more than min_delta.
    settings = StageSettings(epochs=9, patience=2, monitor=monitor, min_delta=0.3, learning_rate=1e-9)
    rows = {"batches": lambda epoch: [(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))]}
    _, history = train(tmp_path, settings, validation=lambda: rows["batches"](0), **rows)
    assert (len(history.epochs), history.best_epoch, history.stopped_early) == (3, 1, True)


def test_without_validation_all_epochs_count(tmp_path):
    _, history = train(tmp_path, replace(SETTINGS, epochs=2), validation=None)
    assert (history.monitor, history.best_epoch, history.epochs[0].val_loss) == (None, 2, None)


def test_schedule_is_on_its_curve_in_every_epoch(tmp_path):
    _, history = train(tmp_path, replace(SETTINGS, epochs=7, learning_rate=1e-3))
    steps = 3  # 40 images in batches of 16
    peak = round(1.5 * steps)
    for row in history.epochs:
        cycle, place = divmod((row.epoch - 1) * steps, 2 * peak)
        expected = 1e-4 + (1e-3 - 1e-4) * (1 - abs(place / peak - 1)) * 0.5**cycle
        assert row.learning_rate == pytest.approx(expected, rel=1e-5)


def test_frozen_parts_stay_bit_equal_and_are_stored_once(tmp_path):
    model = make_model()
    frozen = [model.get_layer("convolution"), model.get_layer("statistics")]
    for layer in frozen:
        layer.trainable = False
    before = [np.array(np.asarray(v)) for layer in frozen for v in layer.variables]
    stored = []

    def look(model, row):
        stored.extend(set(np.load(path).files) for path in (tmp_path / "state").glob("epoch_*.npz"))

    train(tmp_path, replace(SETTINGS, epochs=2), model, on_epoch=look, **IMAGES)
    after = [np.asarray(v) for layer in frozen for v in layer.variables]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    # head kernel and bias, and the dropout's seed
    assert [len([key for key in keys if key.startswith("model")]) for keys in stored] == [3]


def as_dataset(batches):
    columns = tuple(np.concatenate(part) for part in zip(*batches, strict=True))
    return tf.data.Dataset.from_tensor_slices(columns).batch(16)


@pytest.mark.parametrize("kind", ["list", "dataset", "batches"])
def test_class_weights_and_weights_in_the_batches_weigh_the_loss(tmp_path, kind):
    points = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    targets = np.eye(2, dtype=np.float32)[np.arange(12) % 2]
    model = make_linear()
    factors = np.array([0.5, 2.0], np.float32)
    expected = -(targets @ factors * np.log((np.asarray(model(points)) * targets).sum(axis=1))).mean()
    batches = {
        "list": [(points, targets)],
        "dataset": as_dataset([(points, targets)]),
        "batches": [(points, targets, targets @ factors)],
    }[kind]
    weights = None if kind == "batches" else {0: 0.5, 1: 2.0}
    settings = StageSettings(epochs=1, learning_rate=1e-9)
    _, history = train(
        tmp_path, settings, model, batches=lambda epoch: batches, validation=None, class_weight=weights
    )
    assert history.epochs[0].loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [{0: 1.0}, {0: 1.0, 2: 1.0}, {"0": 1.0, "1": 2.0}, {0: 1.0, 1: -1.0}])
def test_class_weights_are_checked(tmp_path, weights):
    with pytest.raises(SettingsError, match="class weights must"):
        train(tmp_path, class_weight=weights)


def test_data_of_unknown_length_are_refused_and_can_be_limited(tmp_path):
    """Running into the end of the data would advance ``optimizer.iterations`` by a step that never was."""
    endless = lambda epoch: as_dataset(EPOCHS(epoch)).filter(lambda x, y: True)  # noqa: E731
    settings = replace(SETTINGS, epochs=2)
    with pytest.raises(SettingsError, match="give steps_per_epoch"):
        train(tmp_path, settings, batches=endless)
    model, history = train(tmp_path, settings, batches=endless, steps_per_epoch=2)
    assert int(model.optimizer.iterations) == 4
    assert len(history.epochs) == 2
    with pytest.raises(SettingsError, match="must have 5 training batches"):
        train(tmp_path / "more", settings, batches=endless, steps_per_epoch=5)


def test_a_loss_that_is_not_finite_stops_and_loses_nothing(tmp_path):
    def broken(epoch):
        return [
            (
                np.full((4, 2), np.nan if epoch == 2 else 1, np.float32),
                np.eye(2, dtype=np.float32)[[0, 1, 1, 1]],
            )
        ]

    settings = StageSettings(epochs=4, learning_rate=0.25)
    with pytest.raises(
        KerasallError, match=r"epoch 3 of train loss \(nan\).*0\.25.*lower learning_rate.*epochs 1 to 2"
    ):
        train(tmp_path, settings, batches=broken, validation=None)
    progress = json.loads((tmp_path / "state" / "progress.json").read_text())
    assert [row["epoch"] for row in progress["history"]["epochs"]] == [1, 2]
    model, history = train(tmp_path, settings, batches=lambda epoch: broken(0), validation=None)
    unbroken, _ = train(tmp_path / "b", settings, batches=lambda epoch: broken(0), validation=None)
    assert len(history.epochs) == 4
    assert all(np.array_equal(a, b) for a, b in zip(values(model), values(unbroken), strict=True))


def test_weights_that_overflow_in_the_last_step_stop_too(tmp_path):
    huge = [(np.full((2, 2), 3e38, np.float32), np.eye(2, dtype=np.float32))]
    settings = StageSettings(epochs=1, optimizer="sgdm", learning_rate=1e30)
    with pytest.raises(KerasallError, match="no epoch was finished before"):
        train(tmp_path, settings, batches=lambda epoch: huge, validation=None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, "epochs must be a whole number"),
        ({"patience": 0}, "patience must be a whole number"),
        ({"monitor": "val_acc"}, "did you mean 'val_accuracy'"),
        ({"optimizer": "rmsprob"}, "did you mean 'rmsprop'"),
        ({"schedule": "triangular2"}, "missing"),
        ({"loss": "crossentropy"}, "the loss must be one of"),
        ({"learning_rate": -1}, "learning rate"),
    ],
)
def test_settings_are_checked_where_they_enter(changes, words):
    with pytest.raises(SettingsError, match=words):
        StageSettings(**changes)


def test_patience_without_validation_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="patience needs validation images"):
        train(tmp_path, replace(SETTINGS, patience=2), validation=None)


def test_jit_by_device_and_backend():
    assert not choose_jit("cpu", "tensorflow")
    assert choose_jit("gpu", "tensorflow")
    assert choose_jit("cpu", "jax")
    assert not choose_jit("gpu", "torch")


@pytest.mark.parametrize("jit", [True, False])
def test_settings_override_jit(tmp_path, jit):
    batches = [(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))]
    settings = StageSettings(epochs=1, jit_compile=jit)
    model, _ = train(tmp_path, settings, batches=lambda epoch: batches, validation=None)
    assert model.jit_compile is jit


@pytest.mark.parametrize(("weighted", "together"), [(False, 1 << 24), (True, 2.5), (True, 0)])
def test_direct_steps_give_the_bits_of_model_fit(tmp_path, monkeypatch, weighted, together):
    """Plain arrays are trained on without ``model.fit``: same history, same weights, dropout and all.

    All batches pass in one call, two of them, or each alone.
    """
    images, labels = make_images()
    monkeypatch.setattr("kerasall.training.epochs._TOGETHER_BYTES", together * images[:16].nbytes)
    weights = (np.linspace(0.5, 2, len(images), dtype=np.float32),) if weighted else ()

    def batches(epoch):
        order = np.random.default_rng(epoch).permutation(len(images))
        parts = [order[i : i + 16] for i in range(0, len(order), 16)]
        return [tuple(column[part] for column in (images, labels, *weights)) for part in parts]

    settings = replace(SETTINGS, epochs=3, jit_compile=False)
    runs = []
    for name, make in (("direct", lambda b: b), ("fit", as_dataset)):
        runs.append(
            train(
                tmp_path / name, settings, make_model(), lambda epoch, make=make: make(batches(epoch)),
                lambda make=make: make([make_images(16, seed=1)]), deterministic=True,
            )
        )  # fmt: skip
    (one, direct), (other, fitted) = runs
    rows = [[replace(row, seconds=0.0) for row in history.epochs] for history in (direct, fitted)]
    assert rows[0] == rows[1]
    for a, b in zip(values(one), values(other), strict=True):
        assert a.tobytes() == b.tobytes()


def test_batches_that_lie_one_after_another_pass_without_a_copy():
    rows = np.arange(60.0).reshape(20, 3).copy()
    in_order = [rows[:8], rows[8:16], rows[16:18]]
    found = _end_to_end(in_order)
    assert found.base is rows
    np.testing.assert_array_equal(found, rows[:18])
    for others in (
        [rows[8:16], rows[:8]], [rows[:8], rows[:8]], [rows[:8:2], rows[4:12:2]], [rows[:8], rows[9:12]],
        [rows[:8], rows.copy()[8:16]], [rows[:4].view(np.int64), rows[4:].view(np.int64)], [rows, rows],
        [rows[:8, :1], rows[8:16, :1]],
    ):  # fmt: skip
        np.testing.assert_array_equal(_end_to_end(others), np.concatenate(others))
