"""The training loop that can be killed: after every epoch its whole state is on disk.

Each epoch is one ``model.fit`` call over that epoch's own batches. Keras keeps the compiled step between the
calls, so nothing is traced again. Stages follow one another by calling ``fit`` once per stage, each with its
own state folder; a stage that has ended answers at once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from kerasall.errors import KerasallError, SettingsError
from kerasall.training.checkpoints import StateFolder
from kerasall.training.epochs import Batches, EpochRunner, count_batches, read_rate
from kerasall.training.history import (
    EpochRow,
    History,
    NonFiniteError,
    StageLog,
    find_best_epoch,
    has_lost_patience,
)
from kerasall.training.stages import StageSettings, choose_jit, compile_stage, find_device

__all__ = ["EpochRow", "History", "StageSettings", "choose_jit", "compile_stage", "fit", "make_deterministic"]


def fit(
    model: keras.Model,
    train_batches: Callable[[int], Batches],
    validation_batches: Callable[[], Batches] | None,
    settings: StageSettings,
    state_folder: str | Path,
    label: str = "",
    on_epoch: Callable[[keras.Model, EpochRow], None] | None = None,
    deterministic: bool = False,
    *,
    seed: int = 0,
    fingerprint: Mapping[str, Any] | None = None,
    class_weight: Mapping[int, float] | None = None,
    steps_per_epoch: int | None = None,
    store_seconds: float = 0.0,
) -> History:
    """Trains one stage, or goes on with it, or returns what it gave if it has ended.

    A call that was killed at any moment loses at most the epoch it was in, and of shorter ones ``store_seconds``.
    The same call again ends with the same history (but for seconds) and the same weights, bit for bit if
    ``deterministic``.

    Args:
        model: gives softmax probabilities [B, C]; what is frozen is frozen already. It is compiled here
            and ends with the best epoch's weights (the last one's without validation or ``restore_best``).
        train_batches: the batches of epoch 0, 1, ...: a pure function of that number.
        validation_batches: the same batches at each call; None trains all epochs without validation.
        settings: of the stage.
        state_folder: for this stage of this run alone.
        label: what the log lines begin with; the stage's name if "".
        on_epoch: called with model and row after every epoch, before the epoch counts: after a kill it may
            be called for an epoch again. It must leave the model as it is.
        deterministic: bit-equal weights in every run on this machine; see ``make_deterministic``.
        seed: of the backend, if ``deterministic``.
        fingerprint: JSON object naming whatever else decides the result (data, model, augmentation). A
            state folder with another fingerprint is refused.
        class_weight: class index to factor of its images' loss, every class named. Weights in the batches
            are the better way.
        steps_per_epoch: end each epoch after so many batches; needed where their number cannot be asked for.
        store_seconds: epochs that end sooner after the last stored one are not stored.

    Raises:
        SettingsError: settings at odds with each other, with the batches or with the state folder.
        ArtifactError: the state folder is damaged.
        KerasallError: the loss or a weight became NaN or infinite; earlier epochs are kept.
    """
    _require_consistent(model, validation_batches is not None, settings, class_weight)
    monitor = settings.monitor if validation_batches is not None else None
    decisive = {
        "validation": monitor is not None, "seed": seed, "deterministic": deterministic,
        "steps_per_epoch": steps_per_epoch,
        "class_weight": class_weight and {str(index): factor for index, factor in class_weight.items()},
    }  # fmt: skip
    state = StateFolder(state_folder, _make_fingerprint(settings, decisive, fingerprint), store_seconds)
    log = StageLog(label or settings.name, settings.epochs, settings.patience, settings.min_delta)
    if state.finished and state.history is not None:
        log.write_stored(state.history, "was finished before, with")
        state.restore_final(model)
        return state.history
    if deterministic:
        make_deterministic(seed)
    history = _make_history(state.history.epochs if state.history else (), monitor, settings)
    compile_stage(model, settings, steps_per_epoch or count_batches(train_batches(len(history.epochs))))
    state.begin_or_resume(model)

    log.write_stored(state.history, "goes on after")
    runner = EpochRunner(model, train_batches, validation_batches, class_weight, steps_per_epoch, log)
    while len(history.epochs) < settings.epochs and not history.stopped_early:
        try:
            row = runner.run(len(history.epochs))
            history = _make_history((*history.epochs, row), monitor, settings)
            if on_epoch is not None:
                on_epoch(model, row)
            state.store_epoch(model, history)
        except NonFiniteError as error:
            raise _not_finite(error, state, log.label, model) from None
        except KeyboardInterrupt:
            log.write_stored(state.history, "is stopped; stored up to")
            raise
        log.write(history)
    state.finish(model, history)
    return history


def make_deterministic(seed: int) -> None:
    """Makes this process compute the same bits in every run on this machine.

    Seeds Python, NumPy and the backend, and under TensorFlow turns on op determinism for the rest of the
    process: on a GPU some kernels become slower or are refused, tf.data maps that draw stateful random
    numbers lose their parallelism.

    Raises:
        SettingsError: JAX on a GPU was started without the flag that this needs.
    """
    keras.utils.set_random_seed(seed)
    backend, flags = keras.config.backend(), os.environ.get("XLA_FLAGS", "")
    if backend == "tensorflow":
        import tensorflow as tf  # the other backends run where TensorFlow is not installed

        tf.config.experimental.enable_op_determinism()
    elif backend == "jax" and find_device() == "gpu" and "deterministic_ops" not in flags:
        raise SettingsError(
            "deterministic training under JAX on a GPU needs XLA_FLAGS=--xla_gpu_deterministic_ops=true in the "
            "environment before the start, but it is not set: set it, or deterministic: false"
        )


def _require_consistent(
    model: keras.Model, validates: bool, settings: StageSettings, class_weight: Mapping[int, float] | None
) -> None:
    if not validates and settings.patience is not None:
        raise SettingsError(
            f"patience needs validation images, but stage {settings.name!r} has none and patience "
            f"{settings.patience}: set patience to null and fix the epochs"
        )
    if class_weight is None:
        return
    classes = model.output_shape[-1]
    if sorted(class_weight, key=str) != sorted(range(classes), key=str):
        raise SettingsError(
            f"class weights must name every class index from 0 to {classes - 1} once, but name "
            f"{list(class_weight)}: add or correct them"
        )
    if not all(math.isfinite(weight) and weight >= 0 for weight in class_weight.values()):
        raise SettingsError(f"class weights must be finite and not negative, but are {dict(class_weight)}")


def _make_fingerprint(
    settings: StageSettings, decisive: Mapping[str, Any], of_run: Mapping[str, Any] | None
) -> dict[str, Any]:
    # XLA or not is left out: a stage may go on on another device, whose rounding differs anyway.
    passing = ("jit_compile", "steps_per_execution")
    stage = {name: value for name, value in settings.to_json().items() if name not in passing}
    return {"stage": stage, **decisive, "backend": keras.config.backend(), "run": dict(of_run or {})}


def _make_history(rows: tuple[EpochRow, ...], monitor: str | None, settings: StageSettings) -> History:
    best = find_best_epoch(rows, monitor, settings.min_delta) if settings.restore_best else len(rows)
    is_over = has_lost_patience(rows, monitor, settings.patience, settings.min_delta)
    return History(settings.name, monitor, rows, best, is_over and len(rows) < settings.epochs)


def _not_finite(error: Exception, state: StateFolder, label: str, model: keras.Model) -> KerasallError:
    done = len(state.history.epochs) if state.history else 0
    kept = f"epochs 1 to {done} are kept in {state.folder}" if done else "no epoch was finished before"
    rate = read_rate(model)
    return KerasallError(
        f"training must stay finite, but in epoch {done + 1} of {label} {error} was not, at learning rate {rate:.3g}: "
        "lower learning_rate (a tenth is a good try) or set global_clipnorm=1 in the optimizer's constants, and "
        f"check that no input holds NaN; {kept}"
    )
