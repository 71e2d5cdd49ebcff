"""Runs every benchmark of speed, one process each, in its short form: `make bench`.

python benchmarks/run_all.py [--long] [NAME ...]
"""

from __future__ import annotations

import argparse
import os
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
    "machine_limit",
    "growth",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="which; default all")
    parser.add_argument("--long", action="store_true", help="full form: hours")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(BENCHMARKS)):
        sys.exit(f"benchmarks must be among {', '.join(BENCHMARKS)}, but found {', '.join(unknown)}")
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    started, failed = time.monotonic(), []
    for name in arguments.names or BENCHMARKS:
        begun = time.monotonic()
        script = Path(__file__).parent / f"{name}.py"
        command = [sys.executable, str(script), *([] if arguments.long else ["--short"])]
        status = subprocess.run(command, env=environment)
        if status.returncode:
            failed.append(name)
        print(f"  {name}: {time.monotonic() - begun:.0f} s\n", flush=True)
    print(f"all: {(time.monotonic() - started) / 60:.1f} min; results in {Path(__file__).parent / 'results'}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
