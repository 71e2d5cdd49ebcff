"""Writes RESULTS.md, its figure and the numbers of README.md from the results alone: no figure is typed by hand.

    python -m results.page

In README.md and docs, `<!-- results:summary -->` holds a row a line, `<!-- results:ROW/METRIC -->` one score,
`<!-- results:ROW/missed -->` how many malignant images were called benign, `ROW/calibration`, `ROW/thresholds`, `ROW/unlike` and
`ROW/referral` what its safeguards are worth,
`<!-- results:STUDY -->` the ``table`` of a study that has one, all up to `<!-- end -->`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import fill
from kerasall.evaluation.findings import Criterion
from kerasall.evaluation.intervals import Interval
from kerasall.files import read_object, write_text
from kerasall.report.evidence import SCORED
from kerasall.report.format import beside, difference_words, format_duration, interval_words, title_of
from kerasall.report.verdict import describe_verdict
from results.forest import draw_forest
from results.pages import in_short, with_ends
from results.pages.designed import describe_experiment
from results.pages.trust import (
    UNLIKE,
    describe_calibration,
    describe_threshold,
    describe_trust,
    tabulate_referral,
)
from results.rows import FOLDER, read_rows

PAGE, FIGURE = "RESULTS.md", "forest.svg"
MARK = "results:"

Result = Mapping[str, Any]

_SETS = {
    "cnmc": "C-NMC 2019: single cells, classes all and hem; intervals over patients",
    "aria": "The four-class set: fields of blood smears; intervals over blocks of file numbers",
    "rendered": "Rendered cells; they say nothing about leukaemia",
}

_STUDIES = ("leakage", "printed", "ensembles", "trust", "full_size")
"""Their order on the page; any other stands behind them."""

_HEAD = """# Results

> **Research use only. Nothing here is a diagnostic device.** A missed leukaemia can cost a child's life; a score is a
> statement about the images it was measured on.

Written by `python -m results.page` from the files in `results/` alone. Every row was made by the command that stands
below it, or by `make results CNMC=PATH ARIA=PATH LABELS=FILE WEIGHTS=DIR` with all others; `python -m results.make --check ROW`,
given the same places (`--cnmc PATH` and so on), makes it again and compares. In the commands `CNMC` and `ARIA` stand for the folders
of images, `LABELS` for C-NMC's table of labels of the preliminary part, `WEIGHTS` for the folder of weights, `RUNS` for that of runs.

## What these numbers are

- **The images are samples.** C-NMC: 2,928 of its 10,661 labelled training cells, 36 of 73 subject ids of two of the three folds, at
  most 100 cells an id, those first that recur under another id. So copies are more frequent than in the whole set, and an effect of
  copies is of this sample alone. Four-class set: 2,603 of its 3,256 images, four fifths of every class; it names no patient, and
  blocks of consecutive file numbers stand in: no score on it speaks of new patients.
- **What was made smaller** than in the paper or the shipped config (pixels, width, epochs, members) stands in each row. A paper's
  number stands beside ours with the paper's own protocol; other images, patients and seeds: a difference is no error by itself,
  and a higher number no advantage.
- **Nothing was chosen on a scored image** unless the row says so.
- **Intervals** are 95%, from resampling whole groups (patients, ids that are one patient joined; or blocks), with half a group more
  than was seen, wholly wrong at the lower and wholly right at the upper end. Those of paired differences come from leaving out one
  group after another (Student's t). Over few groups both are rough. The spread over seeds is another thing: how far a score moves when
  nothing but the seeds of training change.
- Every run names the SHA-256 of its split and of its predictions (`results/predictions/`, one line an image, whose ids are those of
  the sample; the hash is that of the unpacked text: `gzip -dc FILE | sha256sum`), its settings and the SHA-256 of weights and images
  in `results/ROW.json`. A study names its splits there, and keeps no predictions: its command makes them
  again; `results/leakage_SET.csv` says of each image how often the linear head was right.
- Where a row has been made, `kerasall tables ROW` sets it beside the paper that it rebuilds, cell by cell, and `kerasall compare ROW ROW`
  gives paired differences.
"""


def main() -> None:
    for page in write_pages(FOLDER):
        print(f"written: {page}")


def write_pages(folder: Path) -> list[Path]:
    """Writes all pages from the results in a folder; those beside it that hold marks are filled.

    Args:
        folder: of the results; RESULTS.md is written beside it, its figure into it.
    """
    results, root = read_results(folder), folder.parent
    pages = {
        root / PAGE: make_page(results, list(read_rows(folder))),
        folder / FIGURE: draw_forest(list(results.values())),
    }
    for page in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        if f"<!-- {MARK}" in text:
            pages[page] = fill_marks(text, results)
    for page, text in pages.items():
        write_text(page, text)
    return list(pages)


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Every result by its row's name, by data, paper and name; studies last, in their order on the page."""
    found = [read_object(path) for path in sorted(folder.glob("*.json"))]
    order = list(_SETS)
    runs = [each for each in found if "study" not in each]
    runs.sort(key=lambda each: (order.index(each["data"]), each["paper"] or "~", each["row"]))
    studies = {each["study"]: each for each in found if "study" in each}
    ordered = sorted(studies, key=lambda name: _STUDIES.index(name) if name in _STUDIES else len(_STUDIES))
    return {each["row"]: each for each in runs} | {name: studies[name] for name in ordered}


def fill_marks(text: str, results: Mapping[str, Result]) -> str:
    """A page with the numbers of the results at its marks; marks of rows that are not made stay as they are."""

    def find(name: str) -> str | None:
        if name == "summary":
            runs = [each for each in results.values() if "study" not in each]
            return "".join(f"{line}\n" for line in _summary(runs, PAGE)) if runs else None
        if "study" in results.get(name, {}):
            return "".join(f"{line}\n" for line in find_page(name).table(results[name]))
        row, _, metric = name.partition("/")
        if metric in _PARTS and row in results:
            return _PARTS[metric](results[row])
        found = results.get(row, {}).get("metrics", {}).get(metric)
        return found and score_words(metric, found)

    return fill(text, find, MARK)


def make_page(results: Mapping[str, Result], stated: Sequence[str] = ()) -> str:
    """RESULTS.md.

    Args:
        results: name of row -> what it wrote.
        stated: names of all rows; those that are not made are named.
    """
    runs = [each for each in results.values() if "study" not in each]
    studies = [each for each in results.values() if "study" in each]
    lines = [_HEAD, *in_short.section({each["study"]: each for each in studies})]
    if any(each["metrics"] for each in runs):
        lines += [f"![Main scores with their intervals, and what the papers printed](results/{FIGURE})", ""]
    for data, title in _SETS.items():
        if chosen := [each for each in runs if each["data"] == data]:
            lines += [f"## {title}", "", *_summary(chosen), "", _describe_floors(chosen), ""]
    for each in studies:
        lines += [*find_page(each["study"]).section(each), ""]
    if runs:
        lines += ["## Every row that is made", ""]
        if lacking := [name for name in stated if name not in results]:
            lines += [f"Stated in `results/rows/` and not made: {', '.join(lacking)}.", ""]
        lines += [line for each in runs for line in _describe_run(each)]
    return "\n".join(lines).rstrip() + "\n"


def find_page(study: str) -> Any:
    """The module that writes of a study."""
    return importlib.import_module(f"results.pages.{study}")


def score_words(metric: str, found: Mapping[str, Any]) -> str:
    """For example ``96.7% (88.8% to 97.9%; 33 groups)``."""
    interval = Interval(**found)
    value, ends = interval_words(metric, interval)
    return beside((value, f"{ends}; {interval.over}" if ends else ""))


def _summary(runs: Sequence[Result], page: str = "") -> Iterator[str]:
    yield "| row | what it is for | main score | malignant called benign | over seeds | the paper printed |"
    yield "|---|---|---|---|---|---|"
    for run in runs:
        metric = run["main_metric"]
        cells = [
            f"[{run['row']}]({page}#{run['row'].lower()})",
            run["says"],
            f"{_title(run, metric)} {score_words(metric, run['metrics'][metric])}, {_scored(run)}",
            _missed(run),
            _seeds(run, metric),
            _printed(run),
        ]
        yield f"| {' | '.join(_cell(each) for each in cells)} |"


def _describe_floors(runs: Sequence[Result]) -> str:
    """What one and the same answer would reach on every set of images that a row is scored on."""
    floors = []
    for run in runs:
        counts = [sum(row) for row in run["confusion_matrix"]]  # rows are true classes
        label = run["labels"][int(np.argmax(counts))]
        floors.append(f"{100 * max(counts) / sum(counts):.1f}% of {sum(counts):,} images, always `{label}`")
    return (
        f"Right without a look at any image, by one and the same answer: {'; '.join(dict.fromkeys(floors))}."
    )


def _missed(run: Result) -> str:
    if run["malignant_called_benign"] is None:
        return "not counted"
    found = score_words("malignant_sensitivity", run["metrics"]["malignant_sensitivity"])
    return f"{_missed_words(run)}; sensitivity {found}"


def _missed_words(run: Result) -> str:
    return f"{run['malignant_called_benign']:,} of {run['malignant_images']:,}"


def _trusted(describe: Callable[[Any], str]) -> Callable[[Result], str | None]:
    """What is told of the safeguards of a row that kept them."""
    return lambda run: describe(run["trust"]) if run.get("trust") else None


_PARTS: dict[str, Callable[[Result], str | None]] = {
    "missed": _missed_words,
    "calibration": _trusted(describe_calibration),
    "thresholds": _trusted(lambda trust: f"{'; '.join(map(describe_threshold, trust['operating_points']))}."),
    "unlike": _trusted(lambda trust: with_ends(trust["referral"]["reasons"].get(UNLIKE))),
    "referral": _trusted(lambda trust: "".join(f"{line}\n" for line in tabulate_referral(trust))),
}
"""Behind a row's name in a mark -> what stands there."""


def _scored(run: Result) -> str:
    words = run["scored"].replace("-", " ")
    marks = ["something was chosen there"] * bool(run["chosen"]) + ["not blessed"] * (not run["blessed"])
    return f"{words}, {run['images']:,} images" + (f" ({'; '.join(marks)})" if marks else "")


def _seeds(run: Result, metric: str) -> str:
    if not run["repeats"]:
        return "one seed"
    spread = _spread(run, metric)
    if spread["mean"] is None:
        return "not defined"
    mean, ends = interval_words(metric, _interval(spread["mean"], spread["low"], spread["high"]))
    lowest, highest = (interval_words(metric, _interval(spread[end]))[0] for end in ("lowest", "highest"))
    return f"{len(spread['values'])} seeds: {lowest} to {highest}; their mean {beside((mean, ends))}"


def _printed(run: Result) -> str:
    printed = run["printed"]
    if not printed:
        return ""
    return f"{printed['column']} {printed['value']} ({printed['table']}, {printed['row']}; {printed['authors'].split(',')[0]} et al.)"


def _describe_run(run: Result) -> Iterator[str]:
    metric, seconds = run["main_metric"], run["seconds"]
    yield from (f"### {run['row']}", "", run["says"], "", "```", run["command"], "```", "")
    yield f"- Scored: {SCORED[run['scored']]}; protocol: {run['protocol']}."
    yield f"- Chosen on the scored images: {run['chosen'] or 'nothing'}."
    yield f"- Verdict: {_describe_verdict(run)}."
    if departures := [*run["settings"]["departures"], *run["departures"]]:
        yield from (
            "- Smaller, or otherwise than in the paper or the shipped config:",
            *(f"  - {each}" for each in departures),
        )
    if run["printed"]:
        yield f"- The paper's number: {_printed(run)}; {run['printed']['protocol']}"
    if run["paper"]:
        yield f"- Beside the paper, cell by cell: `kerasall tables {run['row']}`."
    yield f"- Split `{run['split']['sha256']}`; predictions `results/{run['predictions']['file']}`, unpacked `{run['predictions']['sha256']}`."
    yield f"- {'Deterministic' if run['deterministic'] else 'Not deterministic'}; {_made(run)}"
    yield f"- Seconds: {', '.join(f'{step} {taken:g}' for step, taken in seconds['steps'].items())}; in all{_of_repeats(run)} {format_duration(seconds['whole'])}."
    yield from ("", "| score | of these images |", "|---|---|")
    for name, found in run["metrics"].items():
        yield f"| {_title(run, name)} | {score_words(name, found)} |"
    if run.get("designed"):
        yield from ("", *describe_experiment(run["designed"]))
    elif run["kind"] == "tune":
        yield from ("", "- The designed experiment was not kept when this row was made.")
    yield from _describe_parts(run, metric)
    if run.get("trust"):
        yield from ("", *(f"- {told}" for told in describe_trust(run["trust"])))
        if curve := run["trust"]["decision_curve"]:
            gains = "; ".join(f"{with_ends(each['over_all'])} from {each['threshold']:.2f}" for each in curve)
            share = run["malignant_images"] / run["images"]
            yield (
                f"- Net benefit over calling every image malignant, where {100 * share:.0f}% of them are, by the probability called malignant "
                f"from: {gains}."
            )
    else:
        yield from ("", "- Calibration, referral and net benefit were not kept when this row was made.")
    yield ""


def _describe_parts(run: Result, metric: str) -> Iterator[str]:
    """Members of an ensemble, combinations of a sweep or of classifiers, and images whose patients were not trained on."""
    if run["ensemble"]:
        yield from (
            "",
            f"| member | {_title(run, metric)} | the ensemble less this member |",
            "|---|---|---|",
        )
        for name, scores in run["ensemble"]["scores"].items():
            less = run["ensemble"]["ensemble_minus_member"][name]
            yield f"| {name} | {score_words(metric, scores[metric])} | {_difference(metric, less)} |"
    if run["combinations"]:
        compared = run["combinations"]["compared_on"]
        rows = run["combinations"]["rows"]
        # What names a combination stands before its main score.
        parts = [
            key
            for key in list(rows[0])[: list(rows[0]).index("main")]
            if not isinstance(rows[0][key], float | dict)
        ]
        chosen = ", ".join(
            f"{key} {_name_part(value)}" for key, value in (run["combinations"]["chosen"] or {}).items()
        )
        yield from ("", f"Combinations, compared on {compared} images:", "")
        yield f"| {' | '.join(parts)} | {_title(run, metric)} |"
        yield "|---" * (len(parts) + 1) + "|"
        for row in rows:
            yield f"| {' | '.join(_cell(_name_part(row[key])) for key in parts)} | {score_words(metric, row['main'])} |"
        if chosen and compared == run["scored"] and not run["chosen"]:
            yield (
                f"\nThe row is the one that its settings named beforehand: {chosen}. A higher score here was picked by nobody; to quote it would "
                "be to choose on the scored images."
            )
    for key, words in (
        ("apart", "of patients none of whose images was trained on"),
        ("out_of_fold", "out of fold"),
    ):
        if run[key]:
            score = score_words(metric, run[key]["metrics"][metric])
            yield from ("", f"{_title(run, metric)} of the {run[key]['images']:,} images {words}: {score}.")


def _name_part(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)


def _describe_verdict(run: Result) -> str:
    judged = ({**each} for each in run["criteria"])
    return describe_verdict([Criterion(each.pop("criterion"), each.pop("met"), each) for each in judged])


def _of_repeats(run: Result) -> str:
    return f" {len(_spread(run, run['main_metric'])['values'])} repetitions" if run["repeats"] else ""


def _spread(run: Result, metric: str) -> Mapping[str, Any]:
    """A score of the system over its repetitions."""
    return list(run["repeats"]["models"].values())[-1][metric]  # the system stands last


def _difference(metric: str, found: Mapping[str, Any]) -> str:
    """For example ``-1.2 points (-2.5 to +0.1)``."""
    return beside(difference_words(metric, _interval(found["difference"], found["low"], found["high"])))


def _interval(value: float | None, low: float | None = None, high: float | None = None) -> Interval:
    return Interval(value, low, high, 0.95, "", 0)


def _made(result: Result) -> str:
    hardware, commit = result["hardware"], result["commit"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    at = (
        f"commit {commit['id'][:12]}{' and changes to it' if commit['changed'] else ''}"
        if commit
        else "no commit known"
    )
    instructions = " ".join(hardware["instructions"]) or "neither AVX2 nor more"
    return f"on {hardware['processor']}, {hardware['cores']} cores ({instructions}); {at}; {versions}."


def _title(run: Result, metric: str) -> str:
    return title_of(metric, run["labels"])


def _cell(text: str) -> str:
    """A text as a cell of a table: one line, no bars."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
