"""The commands ``kerasall runs`` and ``kerasall status``. Heavy imports stand inside them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from kerasall.cli.console import JsonOption, note, print_found

_LEAST = 8
"""Characters that a shortened cell keeps."""


def runs(
    sort: Annotated[str, typer.Option(help="started, score, name or data.")] = "started",
    as_json: JsonOption = False,
) -> None:
    """List the runs with data, classes, score and verdict, newest first."""
    from kerasall.studies.run_list import list_runs

    rows = list_runs(sort)
    empty = "No runs yet. Begin with: kerasall run demo"
    print_found(as_json, rows, lambda: _make_table(rows) if rows else empty)
    for row in rows:
        if row["fault"]:
            note(f"{row['name']} cannot be read: {row['fault']}")


def status(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, or its folder.")],
    as_json: JsonOption = False,
) -> None:
    """Show the steps of a run, what they left, what is missing, and how far a live one is."""
    from kerasall.studies.finished_run import Run
    from kerasall.studies.run_list import read_progress

    run = Run.find(run_name)
    found = run.describe() | read_progress(run)
    print_found(as_json, found, lambda: _describe(found))


def _describe(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['name']}: {found['state']}{_where(found)}" + (
        f" ({found['error']})" if found["error"] else ""
    )
    for step in found["steps"]:
        yield f"  {step['step']:<18} {step['state']:<9} {step['seconds']:8.1f} s  {', '.join(step['paths'])}"
    if found["state"] == "running" and found["at"]:
        at = found["at"]
        yield f"  {at['step']:<18} {'at work':<9} {time.time() - at['since']:8.1f} s  {_tell(found['progress'])}".rstrip()
    for label, path in found["results"].items():
        yield f"{label}: {path}"


def _where(found: dict[str, Any]) -> str:
    """Of a live run since when, and which process; of another that has not ended well, where it stopped."""
    at = found["at"]
    step = f" in step {at['number']} of {at['steps']}, {at['step']}" if at else ""
    if found["state"] != "running" or found.get("process") is None:
        return step
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(found["started"]))
    return f"{step}, since {since}, process {found['process']} on {found['host']}"


def _tell(told: dict[str, Any] | None) -> str:
    """What a step says of itself in words."""
    if told is None:
        return ""
    parts = [told["doing"]]
    for what in ("epoch", "step"):
        if told.get(what):
            parts.append(
                f"{what} {told[what]:,}" + (f" of {told[what + 's']:,}" if told.get(f"{what}s") else "")
            )
    if told.get("done") is not None:
        parts.append(f"{told['done']:,} of {told['total']:,}")
    if told.get("seconds_left") is not None:
        seconds = round(told["seconds_left"])
        parts.append(f"about {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left of this")
    return ", ".join(parts)


def _make_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of plain text that fit into the terminal, or into 100 columns."""
    from kerasall.report.format import COLUMN_GAP, align_rows

    metrics = {row["metric"] for row in rows}
    head = ["name", "data", "classes", "backbone", metrics.pop() if len(metrics) == 1 else "score"]
    cells = [
        [row["name"], row["data"], ", ".join(row["labels"]), row["backbone"], _spell_score(row)]
        for row in rows
    ]
    table = [[str(text or "") for text in line] for line in [head, *cells]]
    ends = [["state", "started"], *([_judge(row), _spell_time(row["started"])] for row in rows)]
    table = [[*line, *end] for line, end in zip(table, ends, strict=True)]
    width = max(shutil.get_terminal_size((100, 24)).columns, 80)
    _shorten(table, width - len(COLUMN_GAP) * (len(table[0]) - 1))
    return align_rows(table, [False] * len(table[0]))


def _spell_score(row: dict[str, Any]) -> str:
    """The score with its interval, and what it is of where that is no test part."""
    if row["score"] is None:
        return ""
    low, high = (f"{row[end]:.3f}".lstrip("0") if row[end] is not None else "?" for end in ("low", "high"))
    on = {"test": "", "out-of-fold": " oof", "validation": " val", "selection": " sel"}
    return f"{row['score']:.3f}".lstrip("0") + f" ({low}-{high})" + on.get(row["scored"], "")


def _judge(row: dict[str, Any]) -> str:
    """The verdict on a run that is complete, the state of another."""
    if row["state"] != "complete" or row["blessed"] is None:
        return row["state"]
    return "blessed" if row["blessed"] else "not blessed"


def _spell_time(started: str) -> str:
    """Month, day and time; of other years the date."""
    return started[5:] if started[:4] == time.strftime("%Y") else started[:10]


def _shorten(table: list[list[str]], most: int) -> None:
    """Cuts paths, classes and backbones in the middle, the longest first, until no row has over ``most`` characters."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    while sum(widths) > most:
        column = max((1, 2, 3), key=lambda each: widths[each])
        if widths[column] <= _LEAST:
            break
        widths[column] -= 1
    for line in table:
        for column in (1, 2, 3):
            line[column] = _cut_middle(line[column], widths[column])


def _cut_middle(text: str, width: int) -> str:
    """A text of at most ``width`` characters; of a path the end says more than the beginning."""
    end = (2 * width) // 3
    return text if len(text) <= width else f"{text[: width - end - 1]}…{text[-end:]}"
