"""Repetitions of an experiment: the same data, split and settings, other seeds of training.

Repetition 0 is the experiment itself, under its own name, and alone may be pushed; repetition r is the
run ``NAME_repeat<r>``, with ``repeat: r`` in its settings. All are complete runs, resumable and reused.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasall.data.development import MEMBERS, read_facts
from kerasall.errors import SettingsError
from kerasall.evaluation.ensemble_scores import for_curves
from kerasall.evaluation.predictions import Predictions, read_predictions
from kerasall.evaluation.repeats import Judged, RepeatedScores, score_repeats
from kerasall.files import read_json
from kerasall.pipeline.runner import RunResult
from kerasall.report.evidence import GROUP_KINDS, SCORED
from kerasall.report.page import write_page
from kerasall.report.pages.repeats import Background, make_repeats_page
from kerasall.settings import Settings
from kerasall.studies.experiment import command_line, run_experiment, settle

PAGE = "repeats"
"""Name of the summary's files, and what its folder's name ends with."""

SYSTEM = "ensemble"
"""How the system itself is called beside its members."""


@dataclass(frozen=True, eq=False)
class Repeats:
    """What repetitions left.

    Attributes:
        results: one per repetition, in order.
        scores: of all of them.
        page: repeats.html; repeats.json lies beside it.
    """

    results: tuple[RunResult, ...]
    scores: RepeatedScores
    page: Path


def run_repeats(
    config: str | Path, count: int, *, overrides: Sequence[str] = (), name: str | None = None, **options: Any
) -> Repeats:
    """Runs an experiment ``count`` times with different seeds of training, and sums the scores up.

    Args:
        config: YAML file.
        count: of repetitions, the first being the plain experiment.
        overrides: ``key=value`` with dotted keys, for all of them.
        name: of the first run; default the experiment's.
        options: further ones of ``run_experiment``.

    Raises:
        SettingsError: fewer than two repetitions, or ``repeat`` set by hand.
        KerasallError: as ``run_experiment``; finished repetitions stay finished.
    """
    given = {key: options[key] for key in ("data", "weights") if key in options}
    settings, runs, _ = settle(config, overrides=overrides, name=name, **given)
    if count < 2:
        raise SettingsError(f"a spread needs at least 2 repetitions, but {count} was asked for")
    if settings.repeat:
        raise SettingsError(
            f"repetitions are numbered from 0, but repeat is set to {settings.repeat}: leave it out"
        )
    folder = runs.root / f"{runs.name}_{PAGE}"
    for kind in ("html", "json"):  # a summary of earlier settings must not be taken for this one
        (folder / f"{PAGE}.{kind}").unlink(missing_ok=True)
    results = {}
    for number in range(count):
        own = f"{runs.name}_repeat{number}" if number else runs.name
        print(f"repetition {number + 1} of {count}: run {own}", file=sys.stderr, flush=True)
        changed = [*overrides, f"repeat={number}"] if number else overrides
        results[f"repeat {number}"] = run_experiment(config, overrides=changed, name=own, **options)
    scores = _score(results, settings)
    page = make_repeats_page(scores, _background(results, settings))
    return Repeats(tuple(results.values()), scores, write_page(folder, page, name=PAGE))


def _score(results: Mapping[str, RunResult], settings: Settings) -> RepeatedScores:
    documents = {name: read_json(_evaluation(result) / "report.json") for name, result in results.items()}
    records = {
        name: read_judged(_evaluation(result), documents[name]["results"]) for name, result in results.items()
    }
    first = next(iter(documents.values()))["results"]
    return score_repeats(
        records, list(first["metrics"]), first["malignant"],
        resamples=settings.evaluate.resamples, seed=settings.seed,
    )  # fmt: skip


def read_judged(evaluation: Path, results: Mapping[str, Any]) -> dict[str, Judged]:
    """Members (where there are any) and system of one Evaluation, by name, the system last.

    Args:
        evaluation: folder of the artifact.
        results: of its report.json.
    """
    system = read_predictions(evaluation / "predictions.npz")
    ensemble = results.get("ensemble")
    names = ensemble["members"] if ensemble else []
    members = {name: read_predictions(evaluation / MEMBERS / f"{name}.npz") for name in names}
    curves = _curves(system, members, ensemble["rule"]) if ensemble else system
    found = {name: Judged(record, record) for name, record in members.items()}
    return found | {SYSTEM if ensemble else "model": Judged(system, curves)}


def _curves(system: Predictions, members: Mapping[str, Predictions], rule: str) -> Predictions:
    return for_curves(system, list(members.values()), rule)


def _evaluation(result: RunResult) -> Path:
    return result.artifacts["Evaluator", "evaluation"].path


def _background(results: Mapping[str, RunResult], settings: Settings) -> Background:
    first = next(iter(results.values()))
    facts = read_facts(first.artifacts["Transform", "development"].path)
    kind = read_json(_evaluation(first) / "report.json")["results"]["scored"]
    return Background(
        title=settings.experiment,
        subtitle=settings.description,
        protocol=settings.protocol,
        scored=SCORED[kind],
        group_kind=GROUP_KINDS[facts.subject_kind],
        # A search may choose otherwise in each repetition.
        runs={
            name: f"run {run.folder.name}: {run.metrics['ReportGen']['model']}"
            for name, run in results.items()
        },
        command=command_line(),
        weaknesses=settings.weaknesses,
    )
