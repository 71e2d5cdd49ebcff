"""One line on standard error for every trial that begins or ends, with the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from kerasall.taguchi.trials import CONFIRMATION, read_place


class TrialLog:
    """Takes the place of keras-tuner's display, which prints to standard output and cannot be resumed.

    Args:
        objective: name of the response.
        count: () -> (finished, all) trials.
        pace: () -> (seconds of the finished trials, trials running at once).
    """

    def __init__(
        self,
        objective: str,
        count: Callable[[], tuple[int, int]],
        pace: Callable[[], tuple[Sequence[float], int]],
    ) -> None:
        self.verbose = 1
        self._objective = objective
        self._count = count
        self._pace = pace

    def on_trial_begin(self, trial: Any) -> None:
        """Says which trial begins."""
        self.write(f"{self._describe(trial)} begins")

    def on_trial_end(self, trial: Any) -> None:
        """Says what a trial gave and how long the rest will take."""
        if trial.score is None:
            told = f"{trial.status}: {_last_line(trial.message)}"
        else:
            told = f"{self._objective} {trial.score:.4f}"
        done, planned = self._count()
        self.write(
            "  ".join([self._describe(trial), told, f"{done}/{planned} done", self._time_left()]).rstrip()
        )

    def write(self, text: str) -> None:
        """Writes a line unless the search is silent."""
        if self.verbose:
            print(text, file=sys.stderr, flush=True)

    def _describe(self, trial: Any) -> str:
        place = read_place(trial.hyperparameters.values)
        row = place.row if place.row == CONFIRMATION else f"row {place.row}"
        return f"trial {trial.trial_id}  {row} repeat {place.repeat} fold {place.fold}"

    def _time_left(self) -> str:
        done, planned = self._count()
        seconds, at_once = self._pace()
        if done == planned or not seconds:
            return ""
        left = round((planned - done) * sum(seconds) / len(seconds) / max(at_once, 1))
        return f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"


def _last_line(message: str | None) -> str:
    lines = (message or "no message").strip().splitlines()
    return lines[-1]
