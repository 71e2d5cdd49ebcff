"""What a training stage did: a row and a line per epoch, and the rules that read the best epoch and the stop from it.

Beside them what watches a stage: a bar of its steps, and a stop at a loss that is not finite.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kerasall.errors import ArtifactError, first_fault
from kerasall.runtime import is_note_due, note_progress
from kerasall.shown_text import one_line, tell

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
            ArtifactError: keys are missing or unknown, or values are of another kind.
        """
        fields = {name: each for name, each in value.items() if name != "seconds"}
        try:
            found = TypeAdapter(cls).validate_json(json.dumps(fields), strict=True, extra="forbid")
            fault = "" if found.best_epoch <= len(found.epochs) else "best_epoch comes after the last"
        except (TypeError, ValueError) as error:
            fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
        if fault:
            raise ArtifactError(f"a training history must hold {list(cls.__dataclass_fields__)}, but {fault}")
        return found


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


class NonFiniteError(ArithmeticError):
    """A loss or a variable is NaN or infinite; ``fit`` turns it into words for the user."""


class NonFiniteStop(keras.callbacks.Callback):
    """Ends the epoch once the running loss is NaN or infinite.

    Attributes:
        seen: whether it was.
    """

    # Keras may then call it from another thread, so that no step waits for the loss to come off the device.
    async_safe = True

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Reads the running loss."""
        if not self.seen and not math.isfinite((logs or {}).get("loss", 0.0)):
            self.seen = True
            self.model.stop_training = True  # pyright: ignore[reportOptionalMemberAccess]


class StepProgress(keras.callbacks.Callback):
    """A bar of the epoch's steps with the time left, on standard error; it vanishes at the epoch's end.

    Args:
        title: what stands before the bar.
        notes: told of every step, too.
        console: where to draw; the caller makes this callback only for a terminal.
    """

    async_safe = True

    def __init__(self, title: str, notes: StepNotes, console: Console) -> None:
        super().__init__()
        self._notes = notes
        title_column, loss_column = (
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[loss]}"),
        )
        columns = (title_column, BarColumn(), MofNCompleteColumn(), loss_column, TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._title = one_line(title)
        self._task: Any = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Draws the empty bar."""
        self._notes.set_params(self.params)
        self._progress.start()
        self._task = self._progress.add_task(self._title, total=(self.params or {}).get("steps"), loss="")

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Moves the bar by one step."""
        self._notes.on_train_batch_end(batch)
        self._progress.update(self._task, advance=1, loss=f"loss {(logs or {}).get('loss', math.nan):.4f}")

    def close(self) -> None:
        """Takes the bar off the screen; also called when the epoch was broken off."""
        self._progress.stop()


class StepNotes(keras.callbacks.Callback):
    """Writes the epoch's steps down for ``kerasall status``, now and then; draws nothing.

    Args:
        log: of the stage.
        epoch: 0 for the first.
    """

    async_safe = True

    def __init__(self, log: StageLog, epoch: int) -> None:
        super().__init__()
        self._log, self._epoch, self._begun = log, epoch, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Notes the step, if the last note is old enough."""
        if is_note_due():
            steps = (self.params or {}).get("steps")
            self._log.note(self._epoch, batch + 1, steps, time.perf_counter() - self._begun)

    def close(self) -> None:
        """Nothing was drawn."""


class StageLog:
    """Progress of one stage on standard error: a line per epoch, and a bar inside it on a terminal.

    Inside a run ``kerasall status`` tells of it, too.

    Args:
        label: what the lines begin with.
        epochs: of the stage, at most.
        patience: of the stage, or None.
        min_delta: of the stage: what an epoch must gain to be the best so far.
    """

    def __init__(self, label: str, epochs: int, patience: int | None, min_delta: float = 0.0) -> None:
        self.label = label
        self._epochs = epochs
        self._patience = patience
        self._min_delta = min_delta
        self._console = Console(stderr=True)
        self._epoch_seconds: float | None = None

    def make_bar(self, epoch: int) -> StepProgress | StepNotes:
        """What follows the steps of ``epoch`` (0 for the first): a bar, if standard error is a terminal."""
        if not self._console.is_terminal:
            return StepNotes(self, epoch)
        return StepProgress(
            f"{self.label}  epoch {epoch + 1}/{self._epochs}", StepNotes(self, epoch), self._console
        )

    def note(self, epoch: int, step: int, steps: int | None, seconds: float) -> None:
        """Writes down how far the stage is.

        Args:
            epoch: 0 for the first.
            step: of the epoch, that has ended.
            steps: of the epoch; None where that is not known.
            seconds: since the epoch began.
        """
        each = self._epoch_seconds or (seconds / step * steps if steps and step else None)
        left = None if each is None else max(0.0, (self._epochs - epoch) * each - seconds)
        note_progress(
            doing=self.label, epoch=epoch + 1, epochs=self._epochs, step=step, steps=steps, seconds_left=left
        )

    def write_stored(self, history: History | None, what: str) -> None:
        """Writes how many epochs are stored, where there are any.

        Args:
            history: as stored.
            what: what follows from it: it "goes on after", "was finished in", "stopped; stored up to".
        """
        if history is not None and history.epochs:
            line = f"{self.label}  {what} epoch {len(history.epochs)}/{self._epochs}"
            tell(line)

    def write(self, history: History) -> None:
        """Writes the line of the history's last epoch."""
        row = history.epochs[-1]
        names = ("loss", "accuracy", "val_loss", "val_accuracy")
        numbers = [(name, getattr(row, name)) for name in names]
        parts = [f"{self.label}  epoch {row.epoch}/{self._epochs}"]
        parts += [f"{name} {value:.4f}" for name, value in numbers if value is not None]
        parts += [f"lr {row.learning_rate:.2e}", f"{row.seconds:.1f} s", self._time_left(history)]
        # Not history.best_epoch: where the last epoch is kept, that is every epoch, however it went.
        best = find_best_epoch(history.epochs, history.monitor, self._min_delta)
        if history.monitor is not None and best == row.epoch:
            parts.append("best so far")
        tell("  ".join(filter(None, parts)))
        if is_note_due() and len(history.epochs) < self._epochs:
            self.note(len(history.epochs), 0, None, 0.0)

    def _time_left(self, history: History) -> str:
        left = self._epochs - len(history.epochs)
        if history.stopped_early:
            return f"stopped: {self._patience} epochs without improvement"
        if not left:
            return ""
        # The median: an epoch that compiled, or was measured on a busier machine, says little about the rest.
        self._epoch_seconds = statistics.median(row.seconds for row in history.epochs[-5:])
        seconds = round(left * self._epoch_seconds)
        bound = "at most " if self._patience else ""
        return f"{bound}{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"
