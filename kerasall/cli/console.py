"""What several commands print."""

from __future__ import annotations

import sys

from kerasall.runtime import quiet_tensorflow


def print_plan(settings, smoke: bool) -> None:
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
