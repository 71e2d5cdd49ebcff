"""What is kept of a finished row: its numbers as ``NAME.json``, its predictions as ``predictions/NAME.csv.gz``.

Both are the same bytes for the same run, but for seconds, hardware and commit, and name no path of any machine.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.interleaved import describe_machine
from kerasall.csv_tables import csv_line, csv_rows
from kerasall.data.splits import read_split
from kerasall.data.training_record import MEMBERS
from kerasall.errors import ArtifactError, SettingsError
from kerasall.evaluation.predictions import Predictions, read_predictions
from kerasall.files import atomic_path, read_object, write_json
from kerasall.studies.finished_run import Run
from kerasall.studies.series import REPEATS
from kerasall.studies.tables.trials import read_analysis
from results.inputs import read_inputs, read_settings
from results.rows import Places, Row, find_printed

SCHEMA_VERSION = 1

_FROM_REPORT = (
    "scored", "images", "labels", "malignant", "metrics", "by_class", "confusion_matrix", "malignant_called_benign",
    "malignant_images", "folds", "out_of_fold", "apart", "blessed", "criteria", "subject_calls", "combinations", "trust",
)  # fmt: skip
"""What is taken from report.json as it stands there."""

_OF_ENSEMBLE = ("rule", "members", "weights", "scores", "ensemble_minus_member", "first_members")

_PLACE = re.compile(
    r"(?<![\w.<>/*])/(?!/)[\w.~-]+/|(?<![\w.<>/*])/[A-Za-z][\w.~-]*(?=[\s:;,'\"]|$)|(?<!\w)(?:[A-Za-z]:\\|~/|file:/)"
)
"""The beginning of an absolute path in a text, or one of a single name, such as /data."""


@dataclass(frozen=True, eq=False)
class Kept:
    """The predictions that are kept of a row.

    Attributes:
        predictions: of the system, N images, six digits.
        folds: name of the part that each image was scored in, str [N].
        members: of an ensemble, name -> float [N, C].
    """

    predictions: Predictions
    folds: np.ndarray
    members: dict[str, np.ndarray]


def keep_run(row: Row, run: Run, places: Places, folder: Path) -> dict[str, Any]:
    """Writes what a finished run gave, each file atomically, the numbers last.

    Args:
        row: that the run is of.
        run: the finished run; of several repetitions the first.
        places: where its repetitions lie.
        folder: to write into.

    Returns:
        The document that was written.

    Raises:
        ArtifactError: the run is not whole, or a text names a path of this machine.
        SettingsError: something was chosen on the scored images, and the row does not say what.
    """
    results, split = run.evaluated, read_split(run.output("Split", "split.json"))
    _require_said(row, results)
    settings, _ = read_settings(row, places)
    file = f"predictions/{row.name}.csv.gz"
    digest = write_kept(read_from_run(run), folder / file)
    document = describe_row(row, places) | {
        "settings": settings,
        "protocol": settings["protocol"],
        "deterministic": settings["deterministic"],
        "main_metric": settings["evaluate"]["main_metric"],
        "split": {"sha256": split.sha256, "kind": split.kind, "unit": split.unit},
        "fingerprint": results["fingerprint"],
        **{name: results.get(name) for name in _FROM_REPORT},
        "ensemble": results["ensemble"] and {name: results["ensemble"].get(name) for name in _OF_ENSEMBLE},
        "designed": read_analysis(run),
        "repeats": _read_repeats(row, places),
        "seconds": _measure([Run(places.runs / name) for name in _names_of(row)]),
        "predictions": {"file": file, "sha256": digest},
    }  # fmt: skip
    write_document(document, folder)
    return document


def keep_study(row: Row, places: Places, folder: Path) -> dict[str, Any]:
    """Adds to what a study wrote into a folder which row it is, what it depends on, and the commit."""
    document = read_object(folder / f"{row.name}.json")
    head = describe_row(row, places)
    document |= {key: value for key, value in head.items() if key not in ("hardware", "versions")}
    write_document(document, folder)
    return document


def describe_row(row: Row, places: Places) -> dict[str, Any]:
    """What every result says first: the row, its command and inputs, the machine, the versions, the commit."""
    machine = describe_machine()
    return {
        "schema_version": SCHEMA_VERSION,
        "row": row.name,
        "kind": row.command,
        "data": row.data,
        **_words_of(row),
        "inputs": read_inputs(row, places),
        "hardware": {name: machine[name] for name in ("processor", "cores", "instructions")},
        "versions": {"python": platform.python_version(), **machine["packages"]},
        "commit": _describe_commit(places.folder),
    }


def renew_words(row: Row, places: Places) -> bool:
    """Puts the words of a row into its result, whose numbers stay; returns whether there was something to change.

    Raises:
        SettingsError: as ``keep_run``.
    """
    kept, words = read_object(places.result(row.name)), _words_of(row)
    if all(kept.get(key) == value for key, value in words.items()):
        return False
    _require_said(row, kept)
    write_document(kept | words, places.folder)
    return True


def _words_of(row: Row) -> dict[str, Any]:
    return {
        "says": row.says,
        "paper": row.paper,
        "printed": find_printed(row) if row.printed else None,
        "departures": list(row.departures),
        "chosen": row.chosen,
        "command": describe_command(row),
    }


def _require_said(row: Row, results: Mapping[str, Any]) -> None:
    """That a row says what was chosen on its scored images, where something was."""
    met = {each["criterion"]: each["met"] for each in results.get("criteria", ())}
    if not met.get("honest_protocol", True) and not row.chosen:
        raise SettingsError(
            f"chosen in rows/{row.name}.yaml must say in words what was chosen on the scored images, but says nothing, and "
            f"the run is no honest protocol on its {results['scored']} images (its report says why): add it, and give the "
            "command again"
        )


def describe_command(row: Row) -> str:
    """The command that a person gives from the root of the repository, with words in the places of folders."""
    if row.is_study:
        return f"python -m results.{row.name} {row.arguments}"
    words = ["kerasall", row.command, row.config or f"results/configs/{row.name}.yaml", "--name", row.name]
    words += ["--repeats", str(row.repeats)] if row.repeats > 1 else []
    words += ["--data", row.data.upper(), "--weights", "WEIGHTS"] if row.data != "rendered" else []
    return " ".join(words)


def write_document(document: Mapping[str, Any], folder: Path) -> None:
    """Writes a result as ``NAME.json``, atomically.

    Raises:
        ArtifactError: a text in it names a path of this machine.
    """
    path = folder / f"{document['row']}.json"
    if found := next(find_paths(document), ""):
        raise ArtifactError(
            f"{path} must name no path of a machine, but would hold {found!r}: see where it is from"
        )
    write_json(path, document)


def find_paths(value: Any) -> Iterator[str]:
    """Texts in a document that name an absolute path."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for each in value:
            yield from find_paths(each)
    if isinstance(value, str) and _PLACE.search(value):
        yield value


def read_from_run(run: Run) -> Kept:
    """What a run predicted for the images that it is scored on."""
    predictions = read_predictions(run.output("Evaluation", "predictions.npz"))
    table = read_split(run.output("Split", "split.json")).table
    part = dict(zip(table["id"], table["part"], strict=True))
    folder = run.output("Evaluation", "predictions.npz").parent / MEMBERS
    names = [*(run.evaluated["ensemble"] or {}).get("members", [])]
    members = {name: read_predictions(folder / f"{name}.npz").in_order(predictions.ids) for name in names}
    return Kept(
        predictions,
        np.asarray([part.get(name, run.scored) for name in predictions.ids]),
        {name: each.probabilities for name, each in members.items()},
    )


def write_kept(kept: Kept, path: Path) -> str:
    """Writes predictions as compressed CSV, the same bytes at any time; returns the SHA-256 of the CSV.

    Columns: id, subject, group, part, label, decision, ``p_CLASS`` of the system, ``MEMBER:p_CLASS`` of its members.
    """
    found, names = kept.predictions, kept.predictions.classes
    heads = ["id", "subject", "group", "part", "label", "decision", *(f"p_{name}" for name in names)]
    heads += [f"{member}:p_{name}" for member in kept.members for name in names]
    chances = np.concatenate([found.probabilities, *kept.members.values()], axis=1)
    text = io.StringIO()
    text.write(csv_line(heads, "\n"))
    for row in np.argsort(found.ids, kind="stable"):
        words = [found.ids[row], found.subjects[row], found.groups[row], kept.folds[row]]
        words += [names[found.labels[row]], names[found.decisions[row]]]
        text.write(csv_line([*map(str, words), *(f"{each:.6f}" for each in chances[row])], "\n"))
    content = text.getvalue().encode("utf-8")
    # Without name and time, which would make other bytes of the same content.
    with (
        atomic_path(path) as temporary,
        open(temporary, "wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as packed,
    ):
        packed.write(content)
    return hashlib.sha256(content).hexdigest()


def read_kept(path: Path) -> Kept:
    """Reads what ``write_kept`` wrote; its own decisions with it."""
    heads, *rows = csv_rows(gzip.decompress(path.read_bytes()).decode("utf-8").splitlines())
    columns = dict(zip(heads, zip(*rows, strict=True), strict=True))
    classes = tuple(name[2:] for name in heads if name.startswith("p_"))
    number = {name: k for k, name in enumerate(classes)}

    def chances(before: str) -> np.ndarray:
        return np.asarray([columns[f"{before}p_{name}"] for name in classes], dtype=np.float64).T

    members = dict.fromkeys(name.rpartition(":p_")[0] for name in heads if ":p_" in name)
    predictions = Predictions(
        np.asarray(columns["id"]), np.asarray(columns["subject"]), np.asarray(columns["group"]),
        np.asarray([number[name] for name in columns["label"]]), chances(""), classes,
        np.asarray([number[name] for name in columns["decision"]]),
    )  # fmt: skip
    return Kept(predictions, np.asarray(columns["part"]), {name: chances(f"{name}:") for name in members})


def _names_of(row: Row) -> list[str]:
    """The runs of a row."""
    return [row.name, *(f"{row.name}_repeat{number}" for number in range(1, row.repeats))]


def _read_repeats(row: Row, places: Places) -> dict[str, Any] | None:
    if row.repeats < 2:
        return None
    return read_object(places.runs / f"{row.name}_{REPEATS}" / f"{REPEATS}.json")["results"]


def _measure(runs: Sequence[Run]) -> dict[str, Any]:
    """Seconds of each step of the first run, and of all steps of all runs, when they were made and not found again."""
    steps: dict[str, float] = {}
    made: dict[Path, float] = {}
    for number, run in enumerate(runs):
        for step in run.steps:
            records = {Path(output["path"]).parent / "artifact.json" for output in step["outputs"].values()}
            own = {record: float(read_object(record)["seconds"]) for record in records}
            made |= own
            if number == 0:
                steps[step["step"]] = round(sum(own.values()), 1)
    return {"steps": steps, "whole": round(sum(made.values()), 1)}


def _describe_commit(folder: Path) -> dict[str, Any] | None:
    """The commit of this checkout, and whether code or configs differ from it; None outside a repository."""

    def ask(*words: str) -> str:
        found = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
        return found.stdout.strip()

    try:
        root = ask("rev-parse", "--show-toplevel")
        watched = ("kerasall", "configs", "pipelines", "results/*.py", "results/configs", "results/rows")
        changed = ask("-C", root, "status", "--porcelain", "--untracked-files=all", "--", *watched)
        return {"id": ask("rev-parse", "HEAD"), "changed": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return None
