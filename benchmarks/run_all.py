"""Runs every benchmark of speed, one process each, in its short form: `make bench`.

    python benchmarks/run_all.py [--long] [--rounds N] [NAME ...]

On Linux the processes are forks of one that has read TensorFlow and not used it: to read it twelve times takes a
minute.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

BENCHMARKS = (
    "frozen_sweep",
    "late_blocks",
    "augmentation",
    "input_pipeline",
    "training_step",
    "ensemble_prediction",
    "runtimes",
    "designed_experiment",
    "bfloat16",
    "start",
    "batch_scoring",
    "machine_limit",
    "growth",
    "whole_run",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="which; default all")
    parser.add_argument("--long", action="store_true", help="full form: hours")
    parser.add_argument("--rounds", type=int, help="interleaved repeats of each; 3 in the short form, else 5")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(BENCHMARKS)):
        sys.exit(f"benchmarks must be among {', '.join(BENCHMARKS)}, but found {', '.join(unknown)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = [] if arguments.long else ["--short"]
    if arguments.rounds:
        options += ["--rounds", str(arguments.rounds)]
    started, failed = time.monotonic(), []
    for name in arguments.names or BENCHMARKS:
        begun = time.monotonic()
        script = Path(__file__).parent / f"{name}.py"
        if run(script, options):
            failed.append(name)
        print(f"  {name}: {time.monotonic() - begun:.0f} s\n", flush=True)
    print(f"all: {(time.monotonic() - started) / 60:.1f} min; results in {Path(__file__).parent / 'results'}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run(script: Path, options: list[str]) -> int:
    """Exit status of a script in a process of its own."""
    if sys.platform != "linux":
        return subprocess.run([sys.executable, str(script), *options]).returncode
    importlib.import_module("tensorflow")
    process = multiprocessing.get_context("fork").Process(target=run_here, args=(script, options))
    process.start()
    process.join()
    return process.exitcode or 0


def run_here(script: Path, options: list[str]) -> None:
    """Becomes the script."""
    sys.argv = [str(script), *options]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
