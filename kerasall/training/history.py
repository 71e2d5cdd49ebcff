"""What a training stage did: one row per epoch, and the rules that read the best epoch and the stop from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kerasall.errors import ArtifactError

MONITORS: dict[str, int] = {"val_loss": -1, "val_accuracy": +1}
"""What may choose the best epoch, and the sign under which larger is better."""


@dataclass(frozen=True)
class EpochRow:
    """One epoch.

    Attributes:
        epoch: 1 for the first.
        loss: mean training loss over the epoch's images, while the weights moved.
        accuracy: share of training images classified rightly, likewise.
        val_loss: mean validation loss after the epoch; None without validation.
        val_accuracy: share of validation images classified rightly, in [0, 1]; None without validation.
        learning_rate: rate of the epoch's first optimizer step.
        seconds: wall time of training and validation.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class History:
    """A training stage's record.

    Attributes:
        stage: name of the stage.
        monitor: key of ``MONITORS`` that chose the best epoch; None where nothing did.
        epochs: one row per epoch, in order.
        best_epoch: the epoch whose weights the model has (1 for the first).
        stopped_early: whether patience ended the stage before its last epoch.
    """

    stage: str
    monitor: str | None
    epochs: tuple[EpochRow, ...]
    best_epoch: int
    stopped_early: bool

    @property
    def seconds(self) -> float:
        """Wall time of all epochs."""
        return sum(row.seconds for row in self.epochs)

    @property
    def best(self) -> EpochRow:
        """The row of the best epoch."""
        return self.epochs[self.best_epoch - 1]

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it back exactly."""
        return asdict(self) | {"epochs": [asdict(row) for row in self.epochs], "seconds": self.seconds}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> History:
        """Reads what ``to_json`` gave.

        Raises:
            ArtifactError: keys are missing or unknown.
        """
        try:
            fields: dict[str, Any] = {name: value[name] for name in value if name != "seconds"}
            fields["epochs"] = tuple(EpochRow(**row) for row in value["epochs"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                f"a training history must hold {list(cls.__dataclass_fields__)}: {error}"
            ) from None


def find_best_epoch(rows: Sequence[EpochRow], monitor: str | None, min_delta: float = 0.0) -> int:
    """The epoch (1 for the first) that was best when it was made; 0 without rows.

    An epoch is better only if it improves on the best so far by more than ``min_delta``, so of equal
    epochs the first wins. Without a monitor the last epoch is the best.
    """
    if monitor is None:
        return len(rows)
    best_epoch, best = 0, float("-inf")
    for row in rows:
        value = MONITORS[monitor] * getattr(row, monitor)
        if best_epoch == 0 or value > best + min_delta:
            best_epoch, best = row.epoch, value
    return best_epoch


def has_lost_patience(
    rows: Sequence[EpochRow], monitor: str | None, patience: int | None, min_delta: float = 0.0
) -> bool:
    """Whether the last ``patience`` epochs brought no improvement. A pure function of the rows: a resumed
    stage stops where the unbroken one does."""
    if patience is None or not rows:
        return False
    return len(rows) - find_best_epoch(rows, monitor, min_delta) >= patience
