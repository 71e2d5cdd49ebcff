"""Repetitions of an experiment: the same data, split and settings, other seeds of training.

Repetition 0 is the experiment itself, under its own name, and alone may be pushed; repetition r is the
run ``NAME_repeat<r>``, with ``repeat: r`` in its settings. All are complete runs, resumable and reused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kerasall.data.development import read_facts
from kerasall.data.training_record import MEMBERS
from kerasall.errors import SettingsError
from kerasall.evaluation.ensemble_scores import for_curves
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.predictions import read_predictions
from kerasall.evaluation.repeats import RepeatedScores, score_repeats
from kerasall.pipeline.runner import RunResult
from kerasall.report.evidence import GROUP_KINDS, SCORED
from kerasall.report.page import write_page
from kerasall.report.pages.repeats import Background, make_repeats_page
from kerasall.settings import Settings
from kerasall.studies.experiment import command_line, run_variants, settle
from kerasall.studies.finished_run import Run

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
    settings, places, _ = settle(config, overrides=overrides, name=name, **given)
    if count < 2:
        raise SettingsError(f"a spread needs at least 2 repetitions, but {count} was asked for")
    if settings.repeat:
        raise SettingsError(
            f"repetitions are numbered from 0, but repeat is set to {settings.repeat}: leave it out"
        )
    folder = places.root / f"{places.name}_{PAGE}"
    for kind in ("html", "json"):  # a summary of earlier settings must not be taken for this one
        (folder / f"{PAGE}.{kind}").unlink(missing_ok=True)
    variants = [
        (f"repetition {n + 1} of {count}", f"{places.name}_repeat{n}" if n else places.name, [f"repeat={n}"] if n else [])
        for n in range(count)
    ]  # fmt: skip
    results = run_variants(config, variants, overrides=overrides, **options)
    runs = {f"repeat {number}": Run(result.folder) for number, result in enumerate(results)}
    scorers = {title: _read_scorers(run, settings) for title, run in runs.items()}
    scores = score_repeats(scorers, list(runs["repeat 0"].report["results"]["metrics"]))
    page = make_repeats_page(scores, _background(runs, settings))
    return Repeats(tuple(results), scores, write_page(folder, page, name=PAGE))


def _read_scorers(run: Run, settings: Settings) -> dict[str, Scorer]:
    """Members (where there are any) and system of one run, by name, the system last."""
    file, results = run.output("Evaluation", "predictions.npz"), run.report["results"]
    system, ensemble = read_predictions(file), results.get("ensemble")
    scorer = Scorer(system, results["malignant"], settings.evaluate.resamples, settings.seed)
    if not ensemble:
        return {"model": scorer}
    members = {name: read_predictions(file.parent / MEMBERS / f"{name}.npz") for name in ensemble["members"]}
    graded = for_curves(system, list(members.values()), ensemble["rule"])
    return {name: scorer.of(each) for name, each in members.items()} | {
        SYSTEM: replace(scorer, graded=graded)
    }


def _background(runs: dict[str, Run], settings: Settings) -> Background:
    first = runs["repeat 0"]
    facts = read_facts(first.output("Development", "."))
    return Background(
        title=settings.experiment,
        subtitle=settings.description,
        protocol=settings.protocol,
        scored=SCORED[first.report["results"]["scored"]],
        group_kind=GROUP_KINDS[facts.subject_kind],
        # A search may choose otherwise in each repetition.
        runs={title: f"run {run.name}: {run.exported_words}" for title, run in runs.items()},
        command=command_line(),
        weaknesses=settings.weaknesses,
    )
