"""What ``kerasall run --repeats`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def run_and_print(config: Path, count: int, **options: Any) -> None:
    """Runs the repetitions and prints mean and spread of every model, and where the page lies."""
    from kerasall.evaluation.repeats_wording import describe_repeats
    from kerasall.repeats import run_repeats

    done = run_repeats(config, count, **options)
    for line in describe_repeats(done.scores):
        print(line)
    print(f"{'report:':<14} {done.page}")
