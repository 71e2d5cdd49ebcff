"""The command ``kerasall compare``. Heavy imports stand inside it."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

_MOST_NAMED = 3


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN RUN...", help="Names of runs, run folders, or predictions (.csv, .npz)."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of report.html and report.json; default runs/comparisons/A_vs_B."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")] = False,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", metavar="NAME", help="Main score; default that of the runs, else balanced_accuracy."
        ),
    ] = None,
    malignant: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS", help="A malignant class, where no report says so; repeat it."),
    ] = None,
) -> None:
    """Compare systems on the images they share: scores, paired differences, tests, and a report."""
    from kerasall.evaluation.comparison import compare_systems
    from kerasall.report.page import write_page
    from kerasall.report.pages.comparison import describe_comparison, make_comparison_page
    from kerasall.studies.finished_run import read_systems

    found = compare_systems(read_systems(runs), metric, malignant)
    if as_json:
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(describe_comparison(found))
    folder = out or default_folder([system.name for system in found.systems])
    page = write_page(folder, make_comparison_page(found, _command(runs, out, metric, malignant)))
    print(f"report: {page}", file=sys.stderr)


def default_folder(names: list[str]) -> Path:
    """``comparisons/A_vs_B`` below the runs folder; of many systems the first three are named."""
    from kerasall.paths import runs_folder

    kept = [re.sub(r"[^\w.-]+", "-", name).strip(".-") or "system" for name in names[:_MOST_NAMED]]
    more = [f"{len(names) - _MOST_NAMED}_more"] if len(names) > _MOST_NAMED else []
    return runs_folder() / "comparisons" / "_vs_".join([*kept, *more])


def _command(runs: list[str], out: Path | None, metric: str | None, malignant: list[str] | None) -> str:
    words = ["kerasall", "compare", *runs]
    words += ["--out", str(out)] if out else []
    words += ["--metric", metric] if metric else []
    words += [word for name in malignant or [] for word in ("--malignant", name)]
    return shlex.join(words)
