"""Scores many images with `kerasall predict`, here and on Beam's direct runner, each killed once and resumed.

    python benchmarks/batch_scoring.py savedmodels/demo IMAGES --files 20000 --beam

IMAGES are repeated under new names (links) until there are enough. The first run is unbroken. Prints, for every
run, the time, files a second, and the resident memory of all its processes over the run; then whether every
image has one row, and how far the answers are from those of the unbroken run. Exit status 1 where one is left
out, stands twice, or differs by more than 1e-6.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from kerasall.serving.batch import find_images

TOLERANCE = 1e-6
SAMPLE_SECONDS = 0.5
MIB = 1 << 20


@dataclass
class Watched:
    """A run of the command and the memory of its process tree."""

    seconds: float = 0.0
    killed: bool = False
    memory: list[tuple[float, float]] = field(default_factory=list)

    def describe(self) -> str:
        """Time, and memory in thirds of the time after warm-up (the first fifth)."""
        late = [mib for at, mib in self.memory if at > 0.2 * self.seconds] or [0.0]
        thirds = [late[i * len(late) // 3 : (i + 1) * len(late) // 3] or late for i in range(3)]
        means = ", ".join(f"{sum(part) / len(part):,.0f}" for part in thirds)
        state = "killed after" if self.killed else "finished in"
        return f"{state} {self.seconds:.0f} s; memory {means} MiB in thirds, {max(late):,.0f} MiB at most"


def link_images(sources: list[Path], folder: Path, count: int) -> None:
    """Links ``count`` names in ``folder`` to the sources, over and over."""
    folder.mkdir()
    for number in range(count):
        source = sources[number % len(sources)].absolute()
        (folder / f"cell_{number:07d}{source.suffix}").symlink_to(source)


def run(command: list[str], kill_when=None) -> Watched:
    """Runs a command to its end, or kills it and its children without warning once ``kill_when()`` holds."""
    watched, start = Watched(), time.monotonic()
    process = subprocess.Popen(command, start_new_session=True)
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        time.sleep(SAMPLE_SECONDS)
        watched.memory.append((time.monotonic() - start, _resident(tree)))
        if kill_when is not None and kill_when():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            watched.killed = True
    watched.seconds = time.monotonic() - start
    if process.returncode and not watched.killed:
        sys.exit(f"the command failed with status {process.returncode}")
    return watched


def _resident(tree: psutil.Process) -> float:
    total = 0
    try:
        for process in (tree, *tree.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total / MIB


def read_tables(paths: list[Path]) -> list[dict[str, str]]:
    """Rows of all tables, one after another."""
    rows = []
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    return rows


def compare(name: str, rows: list[dict[str, str]], reference: dict[str, dict[str, str]]) -> bool:
    """Prints and returns whether ``rows`` answer like ``reference``, each image once."""
    paths = [row["path"] for row in rows]
    twice, missing = len(paths) - len(set(paths)), len(set(reference) - set(paths))
    columns = list(rows[0])
    classes = columns[2 : columns.index("error")]
    far = max(abs(float(row[c]) - float(reference[row["path"]][c])) for row in rows for c in classes)
    labels = sum(row["label"] != reference[row["path"]]["label"] for row in rows)
    print(
        f"{name}: {len(rows)} rows, {twice} twice, {missing} left out; {labels} other labels, largest difference "
        f"of a probability {far:.1e}"
    )
    return not (twice or missing or labels or far > TOLERANCE or len(rows) != len(reference))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--beam", action="store_true", help="also on Beam's direct runner (extra beam)")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder, files = Path(work) / "images", arguments.files
        link_images(find_images([arguments.images]), folder, files)
        predict = [sys.executable, "-m", "kerasall.cli", "predict", arguments.model, str(folder), "--out"]
        whole = Path(work) / "whole.csv"
        print(
            f"unbroken: {(found := run([*predict, str(whole)])).describe()}, {files / found.seconds:.0f} files a second"
        )
        reference = {row["path"]: row for row in read_tables([whole])}
        print(f"unbroken: {len(reference)} images have a row")
        size = whole.stat().st_size
        broken = Path(work) / "broken.csv"
        half = lambda: broken.exists() and broken.stat().st_size > 0.4 * size  # noqa: E731
        print(
            f"first part: {run([*predict, str(broken)], half).describe()}, {len(read_tables([broken]))} lines written"
        )
        print(f"resumed: {run([*predict, str(broken)]).describe()}")
        good = compare("resumed", read_tables([broken]), reference) and len(reference) == files
        if arguments.beam:
            out = Path(work) / "beam" / "scores.csv"
            job = [*predict, str(out), "--runner", "direct", "--workers", str(arguments.workers)]
            job += ["--part-files", str(-(-files // 4))]
            second = lambda: bool(list(out.parent.glob("scores.parts/00002.names.jsonl")))  # noqa: E731
            begun: list[float] = []
            late = lambda: second() and (begun.append(time.monotonic()) or time.monotonic() - begun[0] > 15)  # noqa: E731
            print(f"Beam, first part: {run(job, late).describe()}")
            print(f"Beam, resumed: {run(job).describe()}")
            good &= compare("Beam", read_tables(sorted(out.parent.glob("scores-*.csv"))), reference)
    sys.exit(not good)


if __name__ == "__main__":
    main()
