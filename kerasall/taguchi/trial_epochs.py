"""What a trial keeps of its epochs, so that one that was killed goes on where it was.

A trial's folder holds

    epochs.json              the metrics of every finished epoch
    epoch_0007.weights.h5    weights and optimizer after the last of them; removed when the trial ends
    checkpoint.weights.h5    weights of the best epoch, which keras-tuner loads

``epochs.json`` is written last and by a rename: the one moment at which an epoch counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from kerasall.files import atomic_path, read_json, write_text

CHECKPOINT = "checkpoint.weights.h5"
"""keras-tuner's name for the weights of a trial's best epoch."""


class TrialEpochs(keras.callbacks.Callback):
    """Stores every epoch of a trial, and restores the last one when training begins again.

    Optimizer and weights go on as they were. The state of other callbacks and the order of shuffled
    arrays do not; give the tuner a ``run`` function of your own where that matters.

    Args:
        folder: of the trial.
        objective: whose best epoch is the checkpoint; every epoch's is, where it is no metric of ``fit``.

    Attributes:
        rows: metrics of the finished epochs, in order.
    """

    def __init__(self, folder: str | Path, objective: keras_tuner.Objective) -> None:
        super().__init__()
        self._folder = Path(folder)
        self._objective = objective
        path = self._folder / "epochs.json"
        self.rows: list[dict[str, float]] = read_json(path) if path.exists() else []
        if self.rows and not self._state(len(self.rows)).exists():
            self.rows = []  # the trial had ended before: this is another run of it

    def best(self) -> int | None:
        """Index of the best finished epoch; None if the objective is no metric of theirs."""
        found = None
        for index, row in enumerate(self.rows):
            if not self._objective.has_value(row):
                return None
            if found is None or self._better(row, self.rows[found]):
                found = index
        return found

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Restores the last finished epoch, if there is one."""
        if not self.rows:
            return
        model: Any = self.model
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        model.load_weights(self._state(len(self.rows)))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Makes an epoch count."""
        self.rows.append({name: float(value) for name, value in (logs or {}).items()})
        if self.best() in (None, len(self.rows) - 1):
            self._save_weights(self._folder / CHECKPOINT)
        self._save_weights(self._state(len(self.rows)))
        write_text(self._folder / "epochs.json", json.dumps(self.rows))
        remove_epoch_states(self._folder, keep=self._state(len(self.rows)))

    def _better(self, row: Mapping[str, float], other: Mapping[str, float]) -> bool:
        return self._objective.better_than(self._objective.get_value(row), self._objective.get_value(other))

    def _state(self, epochs: int) -> Path:
        return self._folder / f"epoch_{epochs:04d}.weights.h5"

    def _save_weights(self, path: Path) -> None:
        model: Any = self.model
        with atomic_path(path) as temporary:
            model.save_weights(temporary)


def remove_epoch_states(folder: str | Path, keep: Path | None = None) -> None:
    """Removes the stored states of a trial's epochs, but for one; their metrics stay."""
    for path in Path(folder).glob("*.weights.h5"):
        # Names that begin with a dot are halves that a kill left behind.
        if path != keep and path.name.startswith(("epoch_", ".")):
            path.unlink(missing_ok=True)
