"""Times two or more ways to the same result in turn, and says their ratio with its spread.

Every benchmark of speed here goes through ``compare``: each side is warmed up once, then all sides run one
after the other, round after round, so that whatever else the machine does meets them alike. The ratio is taken
within each round; its median and its range over the rounds are printed. Nothing is kept from one side to the
other: a side that may not find its own leftovers makes itself a new folder.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "tensorflow",
    "keras",
    "jax",
    "numpy",
    "opencv-python-headless",
    "openvino",
    "onnxruntime",
    "torch",
)
CONSOLE = Console(width=130)


@dataclass(frozen=True)
class Timing:
    """Seconds of one side, one entry a round."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: that is compared.
        unit: of ``speeds``, for example "images/s".
        ours: our way's name.
        alternative: the other way's name.
        speeds: median amount a second of ours and of the alternative.
        ratio: median over the rounds of the alternative's seconds to ours: above 1 means ours is faster.
        spread: least and greatest ratio of a round.
        goal: ratio to reach, or None.
        note: what a reader must know, for example why a goal is missed.
        facts: whatever else was measured.
    """

    what: str
    unit: str
    ours: str
    alternative: str
    speeds: tuple[float, float]
    ratio: float
    spread: tuple[float, float]
    goal: float | None
    note: str
    facts: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        return f"goal {self.goal:g}: " + ("met" if self.ratio >= self.goal else "MISSED")


def measure(sides: Mapping[str, Callable[[], Any]], rounds: int, warm_up: bool = True) -> dict[str, Timing]:
    """Seconds of every side, in turn, ``rounds`` times; the order turns about from round to round."""
    if warm_up:
        for run in sides.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    gc.collect()
    gc.freeze()  # what there is by now, all of TensorFlow, is not looked through again and again
    for number in range(rounds):
        names = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in names:
            gc.collect()
            start = time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - start)
    gc.unfreeze()
    return {name: Timing(name, tuple(taken)) for name, taken in seconds.items()}


def compare(
    what: str,
    ours: tuple[str, Callable[[], Any]],
    alternative: tuple[str, Callable[[], Any]],
    *,
    amount: float,
    unit: str = "images/s",
    rounds: int = 5,
    goal: float | None = None,
    note: str = "",
    warm_up: bool = True,
    **facts: Any,
) -> Row:
    """Times both sides; each runs over ``amount`` of something (images, steps) at every call."""
    timings = measure(dict([ours, alternative]), rounds, warm_up)
    return row_of(what, timings[ours[0]], timings[alternative[0]], amount, unit, goal, note, **facts)


def row_of(
    what: str, ours: Timing, alternative: Timing, amount: float, unit: str = "images/s",
    goal: float | None = None, note: str = "", **facts: Any,
) -> Row:  # fmt: skip
    """The comparison of two timings that were taken in the same rounds."""
    ratios = [theirs / mine for mine, theirs in zip(ours.seconds, alternative.seconds, strict=True)]
    return Row(
        what=what,
        unit=unit,
        ours=ours.name,
        alternative=alternative.name,
        speeds=(amount / ours.median, amount / alternative.median),
        ratio=statistics.median(ratios),
        spread=(min(ratios), max(ratios)),
        goal=goal,
        note=note,
        facts={"rounds": len(ratios), "seconds": [ours.seconds, alternative.seconds], **facts},
    )


def report(name: str, rows: Sequence[Row], **facts: Any) -> None:
    """Prints the table of one benchmark and writes ``results/<name>.json`` beside the benchmarks."""
    table = Table(title=name, title_justify="left", show_lines=False)
    for heading in ("what", "ours", "alternative", "ratio (range)", "goal"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        mine, theirs = row.speeds
        table.add_row(
            row.what,
            f"{row.ours}: {mine:.3g} {row.unit}",
            f"{row.alternative}: {theirs:.3g} {row.unit}",
            f"{row.ratio:.2f} ({row.spread[0]:.2f}-{row.spread[1]:.2f})",
            row.verdict,
        )
    CONSOLE.print(table)
    for row in rows:
        if row.note:
            CONSOLE.print(f"  {row.what}: {row.note}", highlight=False)
    for fact, value in facts.items():
        CONSOLE.print(f"  {fact}: {value}", highlight=False)
    machine = describe_machine()
    CONSOLE.print(f"  machine: {machine['processor']}, {machine['cores']} cores", highlight=False)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"name": name, "machine": machine, "rows": [asdict(row) for row in rows], "facts": facts}
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    temporary.replace(path)
    CONSOLE.print(f"  written: {path}", highlight=False)


def describe_machine() -> dict[str, Any]:
    """Processor, cores, what it computes in, versions, and what else it was doing."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    flags = next((line.split(":")[1].split() for line in lines if line.startswith("flags")), [])
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "instructions": [flag for flag in wanted if flag in flags],
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def parse(description: str | None, *options: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    """The options all benchmarks of speed share, and more. Every round traces anew: TensorFlow shall not warn of it."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="the form that `make bench` runs")
    parser.add_argument("--rounds", type=int, help="interleaved repeats; 3 in the short form, else 5")
    for name, settings in options:
        parser.add_argument(name, **settings)
    parsed = parser.parse_args()
    parsed.rounds = parsed.rounds or (3 if parsed.short else 5)
    return parsed


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
