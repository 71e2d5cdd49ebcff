"""Scores many images with `kerasall predict`, here and on Beam's direct runner, each killed once and resumed.

    python benchmarks/batch_scoring.py savedmodels/demo IMAGES --files 20000 --beam

IMAGES are repeated under new names (links) until there are enough. Prints, for every run, its time and the
resident memory of all its processes; then whether every image has one row, and how far Beam's answers are from
those of the command alone. Exit status 1 where an image is left out, stands twice, or differs by more than 1e-6.
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

from kerasall.serving.image_files import find_images

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


def score_with_beam(
    predict: list[str], out: Path, arguments: argparse.Namespace, reference: dict[str, dict[str, str]]
) -> bool:
    """Four jobs, killed 15 seconds into the second one and resumed; whether the answers are the same."""
    job = [*predict, str(out), "--runner", "direct", "--workers", str(arguments.workers)]
    job += ["--part-files", str(-(-arguments.files // 4))]
    begun: list[float] = []

    def is_in_second_job() -> bool:
        if not begun and (out.parent / "scores.parts" / "00002.names.jsonl").exists():
            begun.append(time.monotonic())
        return bool(begun) and time.monotonic() - begun[0] > 15

    print(f"Beam, first part: {run(job, is_in_second_job).describe()}")
    print(f"Beam, resumed: {run(job).describe()}")
    return compare("Beam", read_tables(sorted(out.parent.glob("scores-0*.csv"))), reference)


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
        predict = [sys.executable, "-m", "kerasall", "predict", arguments.model, str(folder), "--out"]
        out = Path(work) / "scores.csv"

        def is_part_written() -> bool:
            return out.exists() and out.read_bytes().count(b"\n") > 0.4 * files

        print(f"here, first part: {run([*predict, str(out)], is_part_written).describe()}")
        print(f"here, killed with {len(read_tables([out]))} lines of {files} rows written")
        print(f"here, resumed: {run([*predict, str(out)]).describe()}")
        rows = read_tables([out])
        reference = {row["path"]: row for row in rows}
        named = {str(path) for path in find_images([str(folder)])}
        print(
            f"here: {len(rows)} rows, {len(rows) - len(reference)} twice, {len(named - set(reference))} left out"
        )
        good = len(rows) == files and named == set(reference)
        if arguments.beam:
            good &= score_with_beam(predict, Path(work) / "beam" / "scores.csv", arguments, reference)
    sys.exit(not good)


if __name__ == "__main__":
    main()
