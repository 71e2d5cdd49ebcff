"""One epoch over its own batches, then a validation pass: by Keras' ``fit``, or directly, step by step.

``fit`` and ``evaluate`` build a dataset, an iterator and callbacks at every call, which takes many times what an
epoch of a small head does. Over arrays that are at hand the model's own steps are called without them: the same
numbers.
"""

from __future__ import annotations

import math
import time
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import keras
import numpy as np

from kerasall.errors import SettingsError
from kerasall.runtime import as_tensor
from kerasall.training.batch_norm import fused_batch_norm
from kerasall.training.history import EpochRow, NonFiniteError, NonFiniteStop, StageLog

Batches = Iterable[tuple]
"""Batches (x, y) or (x, y, weights): y one-hot float32 [B, C], weights float32 [B]. A tf.data.Dataset, a
keras.utils.PyDataset, or any iterable of tuples of arrays."""


_TOGETHER_BYTES = 16 << 20
"""Batches that pass without a return to Python, which takes longer than a step of a small head."""


class DirectSteps:
    """A compiled model's own training and test step for plain arrays; each is traced once, for any batch size.

    Args:
        model: compiled for one stage.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model: Any = model
        self._steps: dict[str, Callable[..., Any]] = {}

    def take(self, batches: Any) -> bool:
        """Whether ``batches`` are plain arrays, and the model's steps take such as they are.

        TensorFlow's do, on one device: of several, each would be given the whole batch.
        """
        if keras.backend.backend() != "tensorflow" or hasattr(batches, "element_spec"):
            return False
        if isinstance(batches, keras.utils.PyDataset | Iterator):
            return False
        return self._model.distribute_strategy.num_replicas_in_sync == 1

    def train(self, batches: Iterable[tuple], steps: int, bar: Any = None) -> dict[str, float]:
        """Trains one epoch; returns its running loss and metrics, as ``fit`` does.

        Args:
            batches: (x, y) or (x, y, weights).
            steps: batches of the epoch.
            bar: callback that is shown every step, or None.

        Raises:
            UserWarning: there are fewer batches than ``steps``; ``fit`` warns of it.
        """
        if bar is not None:
            bar.set_params({"steps": steps})
            bar.on_train_begin()
        logs, done = self._pass("train", islice(batches, steps), bar)
        if done < steps:
            raise UserWarning(f"there are {done}")
        self._model.optimizer.finalize_variable_values(self._model.trainable_weights)
        return logs

    def evaluate(self, batches: Iterable[tuple]) -> dict[str, float]:
        """Loss and metrics over all batches, as ``evaluate`` gives them."""
        return self._pass("test", batches)[0]

    def _pass(self, kind: str, batches: Iterable[tuple], bar: Any = None) -> tuple[dict[str, float], int]:
        """Running loss and metrics after all batches, and their number."""
        self._model.reset_metrics()
        logs: dict[str, Any] = {}
        done = 0
        for several in _join(batches, 0 if self._model.jit_compile else _TOGETHER_BYTES):
            first = several[0]
            if len(several) == 1:
                logs = self._step(kind, first)(*first)
            else:
                columns = [_end_to_end(column) for column in zip(*several, strict=True)]
                logs = self._steps_together(kind, first)(len(first[0]), *map(as_tensor, columns))
            for _ in several:
                if bar is not None:
                    bar.on_train_batch_end(done, logs)
                done += 1
        return {name: float(value) for name, value in logs.items()}, done

    def _step(self, kind: str, batch: tuple) -> Callable[..., Any]:
        """Keras' step as a graph of a batch without its size: that of the last batch would trace it again."""
        if kind not in self._steps:
            import tensorflow as tf  # here, because other backends need none

            model, missing = self._model, (None,) * (3 - len(batch))
            # Metrics are made by the first batch, as ``train_on_batch`` does it: a graph could not.
            model._maybe_symbolic_build(data_batch=(*map(tf.convert_to_tensor, batch), *missing))
            step = model.train_step if kind == "train" else model.test_step
            specs = [tf.TensorSpec((None, *each.shape[1:]), each.dtype) for each in map(np.asarray, batch)]
            self._steps[kind] = tf.function(
                lambda *columns: step((*columns, *missing)),
                input_signature=specs, autograph=False, jit_compile=model.jit_compile,
            )  # fmt: skip
        return self._steps[kind]

    def _steps_together(self, kind: str, batch: tuple) -> Callable[..., Any]:
        """Keras' step on one batch after another, in one graph: rows a batch, and the batches' columns end to end."""
        name = f"{kind} together"
        if name not in self._steps:
            import tensorflow as tf  # here, because other backends need none

            model, step = self._model, self._step(kind, batch)

            def run(size: tf.Tensor, *columns: tf.Tensor) -> dict[str, tf.Tensor]:
                def take_one(start: tf.Tensor) -> tuple[tf.Tensor]:
                    step(*(column[start : start + size] for column in columns))
                    return (start + size,)

                rows = tf.shape(columns[0])[0]
                tf.while_loop(lambda start: start < rows, take_one, (tf.constant(0),), parallel_iterations=1)
                return model.get_metrics_result()

            specs = [tf.TensorSpec((), tf.int32), *step.input_signature]
            self._steps[name] = tf.function(run, input_signature=specs, autograph=False)
        return self._steps[name]


def _join(batches: Iterable[tuple], most_bytes: int) -> Iterator[list[tuple]]:
    """Batches that may pass together: as many rows in each, in the last one fewer perhaps; one where they are large.

    Of maps, steps take long: nothing is gained, and whoever stops would wait for the whole call.
    """
    several: list[tuple] = []
    held = 0
    for batch in batches:
        rows, size = len(batch[0]), sum(np.asarray(column).nbytes for column in batch)
        if several:
            first, last = len(several[0][0]), len(several[-1][0])
            is_map = np.ndim(batch[0]) > 2
            if is_map or held + size > most_bytes or last < first or rows > first:
                yield several
                several, held = [], 0
        several.append(batch)
        held += size
    if several:
        yield several


def _end_to_end(parts: Sequence[Any]) -> np.ndarray:
    """Parts of one column as one array: not copied where they are rows after rows of one array already."""
    whole = getattr(parts[0], "base", None)
    if not isinstance(whole, np.ndarray) or not all(_are_rows(part, whole) for part in parts):
        return np.concatenate(parts)
    starts = [(part.ctypes.data - whole.ctypes.data) // whole[:1].nbytes for part in parts]
    if any(
        start + len(part) != following
        for start, part, following in zip(starts, parts, starts[1:], strict=False)
    ):
        return np.concatenate(parts)
    return whole[starts[0] : starts[-1] + len(parts[-1])]


def _are_rows(part: Any, whole: np.ndarray) -> bool:
    same = part.base is whole and part.dtype == whole.dtype and part.shape[1:] == whole.shape[1:]
    return same and part.flags.c_contiguous and whole.flags.c_contiguous


@dataclass(frozen=True)
class EpochRunner:
    """What every epoch of a stage has in common.

    Attributes:
        model: compiled.
        train_batches: the batches of epoch 0, 1, ...
        validation_batches: the same batches at each call, or None.
        class_weight: class index to factor of its images' loss, or None.
        steps_per_epoch: steps of an epoch; None takes all batches, whose number must then be known.
        log: of the stage.
    """

    model: keras.Model
    train_batches: Callable[[int], Batches]
    validation_batches: Callable[[], Batches] | None
    class_weight: Mapping[int, float] | None
    steps_per_epoch: int | None
    log: StageLog

    @cached_property
    def _direct(self) -> DirectSteps:
        return DirectSteps(self.model)

    def run(self, epoch: int) -> EpochRow:
        """Trains and validates epoch ``epoch`` (0 for the first).

        Raises:
            NonFiniteError: the training or validation loss is not finite.
            SettingsError: the batches are fewer than ``steps_per_epoch``, or of unknown number.
        """
        began = time.perf_counter()
        rate = read_rate(self.model)
        logs = self._train(epoch)
        _require_finite(logs)
        logs |= self._validate()
        _require_finite(logs)
        return EpochRow(
            epoch=epoch + 1,
            loss=logs["loss"],
            accuracy=logs["accuracy"],
            val_loss=logs.get("val_loss"),
            val_accuracy=logs.get("val_accuracy"),
            learning_rate=rate,
            seconds=time.perf_counter() - began,
        )

    def _train(self, epoch: int) -> dict[str, float]:
        batches = self.train_batches(epoch)
        steps = self.steps_per_epoch or count_batches(batches)
        bar = self.log.make_bar(epoch)
        try:
            with fused_batch_norm(self.model):
                if self._direct.take(batches):
                    return self._direct.train(_iterate(batches, self.class_weight), steps, bar)
                return self._train_by_keras(batches, epoch, steps, bar)
        except UserWarning as warning:
            raise SettingsError(
                f"epoch {epoch + 1} must have {steps} training batches, but its batches ended before: "
                f"correct steps_per_epoch ({warning})"
            ) from None
        finally:
            bar.close()

    def _train_by_keras(self, batches: Batches, epoch: int, steps: int, bar: Any) -> dict[str, float]:
        batches = _for_keras(batches, self.class_weight)
        # Keras takes no class weights beside a generator: ``_iterate`` has turned them into weights.
        weights = None if isinstance(batches, types.GeneratorType) else self.class_weight
        guard = NonFiniteStop()
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Your input ran out of data")
            result = self.model.fit(
                batches,
                initial_epoch=epoch,
                epochs=epoch + 1,
                steps_per_epoch=steps,
                class_weight=dict(weights) if weights else None,
                callbacks=[guard, bar],
                shuffle=False,  # the order is the batches' business
                verbose=0,
            )
        logs = {name: float(values[-1]) for name, values in result.history.items()}
        return logs | ({"loss": math.nan} if guard.seen else {})

    def _validate(self) -> dict[str, float]:
        if self.validation_batches is None:
            return {}
        batches = self.validation_batches()
        if self._direct.take(batches):
            found = self._direct.evaluate(batches)
        else:
            with warnings.catch_warnings():
                # Harmless here, unlike in training: a pass that ends a step too late changes no variable.
                warnings.filterwarnings("ignore", message="Your input ran out of data")
                found = self.model.evaluate(_for_keras(batches, None), verbose=0, return_dict=True)
        return {f"val_{name}": float(value) for name, value in found.items()}


def read_rate(model: keras.Model) -> float:
    """The learning rate of the next step; also where a variable holds it that several devices share."""
    return float(np.asarray(model.optimizer.learning_rate))


def count_batches(batches: Batches) -> int:
    """The number of batches, asked for, not counted.

    It must be known before the first step: where TensorFlow finds the end of the data only by running into
    it, the part of the training step that needs no data (``optimizer.iterations``, dropout seeds) has
    run once too often by then, and every schedule drifts by a step an epoch.

    Raises:
        SettingsError: the batches do not tell.
    """
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError as error:
        raise SettingsError(
            f"training batches must tell how many they are, but {type(batches).__name__} does not ({error}): give "
            "steps_per_epoch, or apply tf.data.experimental.assert_cardinality"
        ) from None


def _require_finite(logs: Mapping[str, float]) -> None:
    for name, value in logs.items():
        if not math.isfinite(value):
            raise NonFiniteError(f"{name} ({value})")


def _for_keras(batches: Batches, class_weight: Mapping[int, float] | None) -> Any:
    """What ``model.fit`` takes: its own kinds as they are, any other iterable as a generator."""
    if isinstance(batches, keras.utils.PyDataset) or hasattr(batches, "element_spec"):
        return batches
    return _iterate(batches, class_weight)


def _iterate(batches: Batches, class_weight: Mapping[int, float] | None) -> Iterator[tuple]:
    for batch in batches:
        if class_weight is None:
            yield tuple(batch)
            continue
        if len(batch) == 3:
            raise SettingsError(
                "class weights and weights in the batches exclude each other: drop the class weights"
            )
        factors = np.asarray([class_weight[index] for index in range(len(class_weight))], np.float32)
        yield (*batch, factors[np.argmax(np.asarray(batch[1]), axis=-1)])
