"""What several commands print."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

RESEARCH_ONLY = "Research use only: not a diagnostic device."
LOG_SECONDS = 60
"""How often a line tells of the progress where there is no terminal for a bar."""


def print_plan(settings, smoke: bool) -> None:
    from kerasall.runtime import quiet_tensorflow

    with quiet_tensorflow():
        from kerasall.studies.planning import count_images, format_plan, plan_experiment

        images = count_images(settings)
    note(f"images: {'unknown (give --data)' if images is None else f'{images:,}'}")
    print(format_plan(plan_experiment(settings, smoke)))
    note("Memory and hours are estimates; hours are for every image passed once per epoch on this machine.")


def print_outcome(result) -> None:
    """The last lines of a run: score, verdict, where its results lie."""
    from kerasall.studies.finished_run import summarize_result

    for label, value in summarize_result(result).items():
        print(f"{label + ':':<14} {value}")


def note(line: str) -> None:
    """A line for the person at the terminal, on standard error: standard output is for results."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def show_progress(total: int | None = None, doing: str = "predicting") -> Iterator[Callable[..., None]]:
    """Yields a function that counts files up: a bar with the time left, or a line a minute without a terminal.

    The function takes how many more are done and, where that was not known before, how many there are in all.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _LoggedProgress(total or 0).advance
        return
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda count, total=None: bar.update(task, advance=count, total=total)


class _LoggedProgress:
    """Tells the time left by the speed since it last spoke: files passed over at the start cost none."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._said, self._done_then = time.monotonic(), 0

    def advance(self, count: int, total: int | None = None) -> None:
        self._total = total or self._total
        self._done += count
        seconds = time.monotonic() - self._said
        if seconds < LOG_SECONDS:
            return
        speed = (self._done - self._done_then) / seconds
        left = max(self._total - self._done, 0) / speed
        note(
            f"{self._done:,} of {self._total:,} files, {speed:,.1f} a second, about {left / 60:,.1f} minutes left"
        )
        self._said, self._done_then = time.monotonic(), self._done
