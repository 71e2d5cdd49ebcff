"""Holds the scores that shipped configs promise (their lines `expect:`) against finished runs of them.

    python benchmarks/expected_scores.py [NAME ...] [--run]

A promise is `METRIC VALUE (LOW to HIGH) on N ... images`, right behind `expect:`. It holds where the run scored as many images and
its score lies in the promised interval; another processor may round to another score inside it. Without names: every config
that promises a score and of which there is a finished run. With --run those that have none are run first.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kerasall.settings.loading import load_settings
from kerasall.settings.shipped import find_config, shipped_files
from kerasall.studies.finished_run import Run

_PROMISE = re.compile(
    r"^#\s+expect:\s+(?P<metric>[\w:]+) (?P<value>\d\.\d+) \((?P<low>\d\.\d+) to (?P<high>\d\.\d+)\) on (?P<images>[\d,]+) ",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Promise:
    """A score with its interval, of how many images."""

    metric: str
    value: float
    low: float
    high: float
    images: int

    def fault(self, run: Run) -> str:
        """What of the run is otherwise, in words; "" where the promise holds."""
        found, images = find_score(run, self.metric), run.numbers["results"]["images"]
        if found is None or found["value"] is None:
            return f"promises {self.metric}, of which the run has none"
        if images != self.images:
            return f"promises {self.images:,} scored images, but there are {images:,}"
        if not self.low <= round(found["value"], 3) <= self.high:
            return f"promises {self.metric} {self.low} to {self.high}, gave {_words(found)}"
        return ""


def find_score(run: Run, metric: str) -> dict | None:
    """A metric of a finished run with its interval."""
    return run.numbers["results"]["metrics"].get(metric)


def read_promise(config: Path) -> Promise | None:
    """What a config's comment promises; None where it names no score."""
    found = _PROMISE.search(config.read_text(encoding="utf-8"))
    if found is None:
        return None
    numbers = {name: float(found[name]) for name in ("value", "low", "high")}
    return Promise(found["metric"], images=int(found["images"].replace(",", "")), **numbers)


def _words(metric: dict) -> str:
    ends = "" if metric["low"] is None else f" ({metric['low']:.3f} to {metric['high']:.3f})"
    return f"{metric['value']:.3f}{ends}"


def check(name: str, promise: Promise, run_first: bool) -> bool | None:
    """Prints how a config's promise stands; None where there is no finished run of it."""
    run = Run.look_up(name)
    if run_first and not (run and run.numbers):
        tuned = load_settings(name).tune is not None
        words = ["tune" if tuned else "run", name]
        subprocess.run([sys.executable, "-m", "kerasall", *words], check=True)
        run = Run.look_up(name)
    if run is None or not run.numbers:
        print(f"{name}: not run here")
        return None
    fault = promise.fault(run)
    found = find_score(run, promise.metric)
    print(f"{name}: {fault or 'holds: ' + promise.metric + ' ' + _words(found or {})}")
    return not fault


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="of configs; default all that promise a score")
    parser.add_argument("--run", action="store_true", help="run what has not been run: minutes each")
    arguments = parser.parse_args()
    promises = {
        name: promise for name in arguments.names or shipped_files("configs") if (promise := read_promise(find_config(name)))
    }  # fmt: skip
    if silent := set(arguments.names) - set(promises):
        sys.exit(
            f"a config must promise a score to be held to it, but {', '.join(sorted(silent))} promises none"
        )
    held = [check(name, promise, arguments.run) for name, promise in promises.items()]
    sys.exit(f"{held.count(False)} do not hold" if False in held else None)


if __name__ == "__main__":
    main()
