"""An epoch over arrays that are at hand, step by step, without ``model.fit``.

``fit`` and ``evaluate`` build a dataset, an iterator and callbacks at every call, which takes many times what
an epoch of a small head does. The steps are Keras' own, so the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import keras
import numpy as np


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
        self._model.reset_metrics()
        logs: dict[str, Any] = {}
        done = 0
        for batch in islice(batches, steps):
            logs = self._step("train", batch)(*batch)
            if bar is not None:
                bar.on_train_batch_end(done, logs)
            done += 1
        if done < steps:
            raise UserWarning(f"there are {done}")
        self._model.optimizer.finalize_variable_values(self._model.trainable_weights)
        return {name: float(value) for name, value in logs.items()}

    def evaluate(self, batches: Iterable[tuple]) -> dict[str, float]:
        """Loss and metrics over all batches, as ``evaluate`` gives them."""
        self._model.reset_metrics()
        logs: dict[str, Any] = {}
        for batch in batches:
            logs = self._step("test", batch)(*batch)
        return {name: float(value) for name, value in logs.items()}

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
