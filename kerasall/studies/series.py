"""One experiment run several times with some settings changed: other seeds, or other shares of its training groups.

All are complete runs, resumable and reused. Repetition 0 is the experiment itself, under its own name, and alone may be
pushed; repetition r is the run ``NAME_repeat<r>``, with ``repeat: r`` in its settings. A learning curve trains on nested
shares of the training groups, in runs ``NAME_share<percent>``; only the whole, the plain experiment, may be pushed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kerasall.data.development import read_facts
from kerasall.data.splits import count_training, read_split
from kerasall.data.training_record import MEMBERS
from kerasall.errors import SettingsError
from kerasall.evaluation.ensemble_scores import for_curves
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.predictions import read_predictions
from kerasall.evaluation.repeats import LearningCurve, RepeatedScores, Trained, score_curve, score_repeats
from kerasall.pipeline.runner import RunPlaces
from kerasall.report.evidence import GROUP_KINDS, SCORED
from kerasall.report.page import write_page
from kerasall.report.pages.series import Background, make_curve_page, make_repeats_page
from kerasall.settings import Settings
from kerasall.shown_text import tell
from kerasall.studies.experiment import command_line, run_experiment, settle
from kerasall.studies.finished_run import Run
from kerasall.studies.run_names import describe_name

REPEATS, CURVE = "repeats", "learning_curve"
"""Names of the pages' files, and what their folders' names end with."""

SYSTEM = "ensemble"
"""How the system itself is called beside its members."""

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Shares of the training groups, each twice the one before."""


@dataclass(frozen=True, eq=False)
class Repeats:
    """What repetitions left.

    Attributes:
        results: one per repetition, in order.
        scores: of all of them.
        page: repeats.html; repeats.json lies beside it.
    """

    results: tuple[Run, ...]
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
    settings, places = _settle(config, overrides, name, options)
    if count < 2:
        raise SettingsError(f"a spread needs at least 2 repetitions, but {count} was asked for")
    if settings.repeat:
        raise SettingsError(
            f"repetitions are numbered from 0, but repeat is set to {settings.repeat}: leave it out"
        )
    folder = places.root / f"{places.name}_{REPEATS}"
    for kind in ("html", "json"):  # a summary of earlier settings must not be taken for this one
        (folder / f"{REPEATS}.{kind}").unlink(missing_ok=True)
    variants = [
        (f"repetition {n + 1} of {count}", f"{places.name}_repeat{n}" if n else places.name, [f"repeat={n}"] if n else [])
        for n in range(count)
    ]  # fmt: skip
    results = _run_variants(config, variants, overrides, options)
    runs = {f"repeat {number}": run for number, run in enumerate(results)}
    scorers = {title: _read_scorers(run, settings) for title, run in runs.items()}
    scores = score_repeats(scorers, list(runs["repeat 0"].numbers["results"]["metrics"]))
    # A search may choose otherwise in each repetition.
    trained = {title: f"run {run.name}: {run.exported_words}" for title, run in runs.items()}
    page = make_repeats_page(scores, _background(runs["repeat 0"], settings, trained))
    return Repeats(tuple(results), scores, write_page(folder, page, name=REPEATS))


def run_learning_curve(
    config: str | Path, shares: Sequence[float] = SHARES, *, overrides: Sequence[str] = (),
    name: str | None = None, **options: Any,
) -> tuple[LearningCurve, Path]:  # fmt: skip
    """Trains an experiment on each share of its training groups; the whole is the plain experiment itself.

    Every share is a complete run ``NAME_share<percent>``, resumable and reused; only the whole may be pushed.

    Args:
        config: YAML file.
        shares: ascending, in (0, 1], at least two.
        overrides: ``key=value`` with dotted keys, for all of them.
        name: of the plain run; default the experiment's.
        options: further ones of ``run_experiment``.

    Returns:
        The scored curve, and its page.

    Raises:
        SettingsError: shares out of order or range, or ``split.training_share`` set by hand.
        KerasallError: as ``run_experiment``; finished runs stay finished.
    """
    if len(shares) < 2 or sorted(set(shares)) != list(shares) or not 0 < shares[0] <= shares[-1] <= 1:
        raise SettingsError(
            f"a learning curve needs two or more ascending shares in (0, 1], but got {list(shares)}"
        )
    settings, places = _settle(config, overrides, name, options)
    if settings.split.training_share != 1:
        raise SettingsError("a learning curve sets split.training_share itself: leave it out")
    variants = []
    for number, share in enumerate(shares, start=1):
        own = f"{places.name}_share{100 * share:g}".replace(".", "_") if share < 1 else places.name
        changes = [f"split.training_share={share}"] if share < 1 else []
        variants.append((f"share {number} of {len(shares)}, {100 * share:g}%", own, changes))
    runs = _run_variants(config, variants, overrides, options)
    trained = [_read_point(run, share, settings) for run, share in zip(runs, shares, strict=True)]
    curve = score_curve(trained, settings.evaluate.main_metric)
    page = make_curve_page(curve, _background(runs[-1], settings))
    return curve, write_page(places.root / f"{places.name}_{CURVE}", page, name=CURVE)


def _settle(
    config: str | Path, overrides: Sequence[str], name: str | None, options: dict[str, Any]
) -> tuple[Settings, RunPlaces]:
    given = {key: options[key] for key in ("data", "weights") if key in options}
    settings, places, _ = settle(config, overrides=overrides, name=name, **given)
    if line := describe_name(places, settings, name):
        tell(line)
    return settings, places


def _run_variants(
    config: str | Path,
    variants: Sequence[tuple[str, str, Sequence[str]]],
    overrides: Sequence[str],
    options: dict[str, Any],
) -> list[Run]:
    """Runs an experiment several times; a variant is what it is told as, the run's name, and its own ``key=value``."""
    results = []
    for title, name, changes in variants:
        tell(f"{title}: run {name}")
        results.append(run_experiment(config, overrides=[*overrides, *changes], name=name, **options))
    return results


def _read_scorers(run: Run, settings: Settings) -> dict[str, Scorer]:
    """Members (where there are any) and system of one run, by name, the system last."""
    file, results = run.output("Evaluation", "predictions.npz"), run.numbers["results"]
    system, ensemble = read_predictions(file), results.get("ensemble")
    scorer = Scorer(system, results["malignant"], settings.evaluate.resamples, settings.seed)
    if not ensemble:
        return {"model": scorer}
    members = {name: read_predictions(file.parent / MEMBERS / f"{name}.npz") for name in ensemble["members"]}
    graded = for_curves(system, list(members.values()), ensemble["rule"])
    return {name: scorer.of(each) for name, each in members.items()} | {
        SYSTEM: replace(scorer, graded=graded)
    }


def _read_point(run: Run, share: float, settings: Settings) -> Trained:
    groups, images = count_training(read_split(run.output("Split", "split.json")))
    predictions, malignant = (
        read_predictions(run.output("Evaluation", "predictions.npz")),
        run.numbers["results"]["malignant"],
    )
    scorer = Scorer(predictions, malignant, settings.evaluate.resamples, settings.seed)
    return Trained(run.name, share, groups, images, scorer)


def _background(run: Run, settings: Settings, runs: dict[str, str] | None = None) -> Background:
    """What a page says of the experiment; what was scored, and by which groups, as ``run`` reports it."""
    facts, scored = read_facts(run.output("Development", ".")), run.numbers["results"]["scored"]
    return Background(
        settings.experiment, settings.description, settings.protocol, SCORED[scored], GROUP_KINDS[facts.subject_kind],
        runs or {}, command_line(), settings.weaknesses,
    )  # fmt: skip
