"""An experiment trained on nested shares of its training groups, and the curve of its scores."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasall.data.development import read_facts
from kerasall.data.splits import count_training, read_split
from kerasall.errors import SettingsError
from kerasall.evaluation.learning_curve import LearningCurve, Trained, score_curve
from kerasall.evaluation.predictions import read_predictions
from kerasall.files import read_json
from kerasall.pipeline.runner import RunResult
from kerasall.report.evidence import GROUP_KINDS, SCORED
from kerasall.report.page import write_page
from kerasall.report.pages.learning_curve import describe_curve, make_curve_page
from kerasall.studies.experiment import command_line, run_experiment, settle

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Shares of the training groups, each twice the one before."""

PAGE = "learning_curve"
"""Name of the page's files, and what its folder's name ends with."""


@dataclass(frozen=True, eq=False)
class CurveResult:
    """What a learning curve left: the runs, the scored curve, and its page."""

    results: tuple[RunResult, ...]
    curve: LearningCurve
    page: Path


def run_learning_curve(
    config: str | Path,
    shares: Sequence[float] = SHARES,
    *,
    overrides: Sequence[str] = (),
    name: str | None = None,
    **options: Any,
) -> CurveResult:
    """Trains an experiment on each share of its training groups; the whole is the plain experiment itself.

    Every share is a complete run ``NAME_share<percent>``, resumable and reused; only the whole may be pushed.

    Args:
        config: YAML file.
        shares: ascending, in (0, 1], at least two.
        overrides: ``key=value`` with dotted keys, for all of them.
        name: of the plain run; default the experiment's.
        options: further ones of ``run_experiment``.

    Raises:
        SettingsError: shares out of order or range, or ``split.training_share`` set by hand.
        KerasallError: as ``run_experiment``; finished runs stay finished.
    """
    if len(shares) < 2 or sorted(set(shares)) != list(shares) or not 0 < shares[0] <= shares[-1] <= 1:
        raise SettingsError(
            f"a learning curve needs two or more ascending shares in (0, 1], but got {list(shares)}"
        )
    given = {key: options[key] for key in ("data", "weights") if key in options}
    settings, runs, _ = settle(config, overrides=overrides, name=name, **given)
    if settings.split.training_share != 1:
        raise SettingsError("a learning curve sets split.training_share itself: leave it out")
    results: list[RunResult] = []
    for number, share in enumerate(shares, start=1):
        own = runs.name if share == 1 else f"{runs.name}_share{100 * share:g}".replace(".", "_")
        print(f"share {number} of {len(shares)}, {100 * share:g}%: run {own}", file=sys.stderr, flush=True)
        changed = overrides if share == 1 else [*overrides, f"split.training_share={share}"]
        results.append(run_experiment(config, overrides=changed, name=own, **options))
    last = read_json(_evaluation(results[-1]) / "report.json")["results"]
    trained = [_read(result, share) for result, share in zip(results, shares, strict=True)]
    curve = score_curve(
        trained, settings.evaluate.main_metric, last["malignant"],
        resamples=settings.evaluate.resamples, seed=settings.seed,
    )  # fmt: skip
    facts = read_facts(results[-1].artifacts["Transform", "development"].path)
    page = make_curve_page(
        curve, title=settings.experiment, scored=SCORED[last["scored"]],
        group_kind=GROUP_KINDS[facts.subject_kind], protocol=settings.protocol, command=command_line(),
    )  # fmt: skip
    return CurveResult(tuple(results), curve, write_page(runs.root / f"{runs.name}_{PAGE}", page, name=PAGE))


def _evaluation(result: RunResult) -> Path:
    return result.artifacts["Evaluator", "evaluation"].path


def _read(result: RunResult, share: float) -> Trained:
    split = read_split(result.artifacts["Transform", "frozen_split"].path / "split.json")
    groups, images = count_training(split)
    predictions = read_predictions(_evaluation(result) / "predictions.npz")
    return Trained(result.folder.name, share, groups, images, predictions)


def run_and_print(config: Path, **options: Any) -> None:
    """Runs the shares and prints the curve, and where its page lies."""
    done = run_learning_curve(config, **options)
    for line in describe_curve(done.curve):
        print(line)
    print(f"{'report:':<14} {done.page}")
