"""Systems to compare, from runs or files of predictions, and the page of their comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kerasall.data.training_record import MEMBERS
from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.comparison import System, SystemComparison, compare_systems
from kerasall.evaluation.predictions import Predictions, read_predictions
from kerasall.evaluation.scores import Values, take_predictions
from kerasall.paths import as_file_name, runs_folder, shorten_name
from kerasall.report.page import write_page
from kerasall.report.pages.comparison import make_comparison_page
from kerasall.studies.finished_run import RECORD, Run, predictions_in

_MOST_NAMED = 3


def read_systems(given: Sequence[str]) -> list[System]:
    """Reads every system, and names them apart.

    Args:
        given: what ``Run.find`` takes; files of predictions (.csv, .npz); or folders that hold one, as an external
            check leaves them.

    Raises:
        ArtifactError: a run or file does not exist, or a run has no predictions yet.
        DataError: the same predictions are given twice, or a file does not hold predictions.
    """
    files = [find_predictions(text) for text in given]
    for number, file in enumerate(files):
        if file.resolve() in [other.resolve() for other in files[:number]]:
            raise DataError(f"compared systems must differ, but {given[number]} is given twice: name another")
    systems = [_read_system(file) for file in files]
    names = [system.name for system in systems]
    return [
        replace(system, name=_longer_name(file)) if names.count(system.name) > 1 else system
        for system, file in zip(systems, files, strict=True)
    ]


def read_members(given: Sequence[str]) -> list[System]:
    """Reads every member of runs of ensembles, and the ensembles themselves.

    Args:
        given: what ``Run.find`` takes; of several runs a system is called ``RUN/MEMBER``.

    Raises:
        ArtifactError: a run does not exist, has no predictions yet, or its artifacts are gone or were changed.
        DataError: a run is given twice, or has no members.
    """
    runs = [Run.find(text) for text in given]
    folders = [run.folder.resolve() for run in runs]
    if twice := next(
        (run.name for run, folder in zip(runs, folders, strict=True) if folders.count(folder) > 1), ""
    ):
        raise DataError(f"compared systems must differ, but {twice} is given twice: name another run")
    return [
        system for run in runs for system in _read_members_of(run, f"{run.name}/" if len(runs) > 1 else "")
    ]


def _read_members_of(run: Run, before: str) -> list[System]:
    whole = _read_system(run.predictions_file)
    ensemble = (run.numbers.get("results") or {}).get("ensemble")
    if not ensemble:
        raise DataError(
            f"the run {run.name} must be of an ensemble to have members, but is of one model: compare it without --members"
        )
    folder = run.output("Evaluation", MEMBERS)
    members = {name: folder / f"{name}.npz" for name in ensemble["members"]}
    found = [
        replace(whole, name=f"{before}{name}", predictions=read_predictions(file), source=str(file))
        for name, file in members.items()
    ]
    return [*found, replace(whole, name=f"{before}ensemble")]


def compare(
    *systems: Any, labels: Values | None = None, groups: Values | None = None, names: Sequence[str] | None = None,
    metric: str | None = None, classes: Sequence[str] | None = None, malignant: str | Sequence[str] | None = None,
    members: bool = False, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0,
) -> SystemComparison:  # fmt: skip
    """Compares two systems or more on the images they share: scores, paired differences with intervals, tests.

    Example:
        >>> labels, groups = [0, 0, 1, 1] * 6, [f"p{n // 2}" for n in range(24)]
        >>> right = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]] * 6
        >>> worse = [[0.4, 0.6]] * 6 + right[6:]
        >>> found = kerasall.compare(right, worse, labels=labels, groups=groups, names=["a", "b"], metric="accuracy")
        >>> difference = found.pairs[0].differences["accuracy"]
        >>> round(difference.difference, 3), difference.low < difference.difference < difference.high
        (0.167, True)
        >>> found.pairs[0].flips.test, found.pairs[0].flips.p_value  # the two differ in two groups only
        ('sign flips over groups', 0.5)
        >>> kerasall.compare("tiny", kerasall.Run.find("tiny").predictions(), names=["run", "again"]).images
        16

    Args:
        systems: each a run (its name, its folder or a ``Run``), a file of predictions, ``Predictions``, or arrays of
            probabilities float [N, C] (of two classes also [N]), which need ``labels``.
        labels, groups, classes: of the arrays, as for ``kerasall.score``; one for all systems.
        names: what to call the systems, all different; default what they are called where they lie.
        metric: the main metric; default the one their own reports agree on, else balanced accuracy.
        malignant: name or names of the malignant classes; default what the systems say.
        members: whether the members of runs of ensembles are compared, each beside the ensemble; runs alone are then given.
        confidence: of all intervals.
        resamples: draws of groups behind the scores' intervals.
        seed: of the draws.

    Raises:
        ArtifactError: there is no such run.
        DataError: the systems cannot be compared; the message says why.
        SettingsError: an unknown metric or class.
    """
    places = [each for each in systems if isinstance(each, str | Path | Run)]
    if members and len(places) < len(systems):
        raise SettingsError(
            "members must be those of runs, but arrays or predictions are given: name runs alone"
        )
    texts = [str(each.folder if isinstance(each, Run) else each) for each in places]
    found, read = (read_members(texts), iter(())) if members else ([], iter(read_systems(texts)))
    for number, each in enumerate(() if members else systems, start=1):
        if isinstance(each, str | Path | Run):
            found.append(next(read))
            continue
        record = each
        if not isinstance(each, Predictions):
            if labels is None:
                raise DataError(
                    f"system {number} must come with true labels to be compared, but they are not given: pass labels=, "
                    "or give Predictions, a file of them or a run"
                )
            record, _ = take_predictions(labels, each, groups, classes=classes, malignant=malignant)
        found.append(System(f"system {number}", record))
    if names is not None:
        if len(names) != len(found):
            raise DataError(
                f"there must be as many names as systems ({len(found)}), but there are {len(names)}: correct them"
            )
        found = [replace(each, name=str(name)) for each, name in zip(found, names, strict=True)]
    meant = (malignant,) if isinstance(malignant, str) else malignant
    return compare_systems(found, metric, meant, confidence=confidence, resamples=resamples, seed=seed)


def find_predictions(text: str) -> Path:
    """The file of predictions that an argument stands for.

    Raises:
        ArtifactError: there is none; the message names the runs there are.
    """
    path = Path(text).expanduser()
    if path.suffix in (".csv", ".npz") and path.is_file():
        return path
    for folder in (runs_folder() / text, path):
        if not (folder / RECORD).is_file() and (found := predictions_in(folder)):
            return found
    return Run.find(text).predictions_file


def write_comparison(
    found: SystemComparison, folder: Path | None, command: str, names: Sequence[str] = ()
) -> Path:
    """Writes report.html and report.json, by default into ``comparisons/A_vs_B`` below the runs folder.

    ``names`` are A, B, ...; by default those of the systems.
    """
    folder = folder or default_folder(names or [system.name for system in found.systems])
    return write_page(folder, make_comparison_page(found, command))


def default_folder(names: Sequence[str]) -> Path:
    """``comparisons/A_vs_B`` below the runs folder; of many systems the first three are named."""
    kept = [as_file_name(name, "system") for name in names[:_MOST_NAMED]]
    more = [f"{len(names) - _MOST_NAMED}_more"] if len(names) > _MOST_NAMED else []
    return runs_folder() / "comparisons" / shorten_name("_vs_".join([*kept, *more]))


def _read_system(file: Path) -> System:
    """One system from its predictions, with what report.json and run.json beside them say of it."""
    run = Run(file.parent)
    run.require_as_written(file)
    results: dict[str, Any] = run.numbers.get("results") or {}
    split = next((output["digest"] for output in run.outputs if output.get("type") == "Split"), "")
    return System(
        name=file.parent.resolve().name if file.stem == "predictions" else file.stem,
        predictions=read_predictions(file), source=str(file), scored=str(results.get("scored") or ""),
        malignant=tuple(results["malignant"]) if "malignant" in results else None,
        fingerprint=str(results.get("fingerprint") or ""), split=split,
        main_metric=str(run.settings.get("evaluate", {}).get("main_metric") or ""),
    )  # fmt: skip


def _longer_name(file: Path) -> str:
    """Enough of the path to tell two files of one name apart."""
    parts = file.resolve().with_suffix("").parts
    kept = parts[-3:-1] if file.stem == "predictions" else parts[-2:]
    return "/".join(kept) + ("" if file.stem == "predictions" else file.suffix)
