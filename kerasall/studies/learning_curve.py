"""An experiment trained on nested shares of its training groups, and the curve of its scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasall.data.development import read_facts
from kerasall.data.splits import count_training, read_split
from kerasall.errors import SettingsError
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.predictions import read_predictions
from kerasall.evaluation.repeats import LearningCurve, Trained, score_curve
from kerasall.report.evidence import GROUP_KINDS, SCORED
from kerasall.report.page import write_page
from kerasall.report.pages.learning_curve import make_curve_page
from kerasall.settings import Settings
from kerasall.studies.experiment import command_line, run_variants, settle
from kerasall.studies.finished_run import Run

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Shares of the training groups, each twice the one before."""

PAGE = "learning_curve"
"""Name of the page's files, and what its folder's name ends with."""


def run_learning_curve(
    config: str | Path,
    shares: Sequence[float] = SHARES,
    *,
    overrides: Sequence[str] = (),
    name: str | None = None,
    **options: Any,
) -> tuple[LearningCurve, Path]:
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
    given = {key: options[key] for key in ("data", "weights") if key in options}
    settings, places, _ = settle(config, overrides=overrides, name=name, **given)
    if settings.split.training_share != 1:
        raise SettingsError("a learning curve sets split.training_share itself: leave it out")
    variants = []
    for number, share in enumerate(shares, start=1):
        own = f"{places.name}_share{100 * share:g}".replace(".", "_") if share < 1 else places.name
        changes = [f"split.training_share={share}"] if share < 1 else []
        variants.append((f"share {number} of {len(shares)}, {100 * share:g}%", own, changes))
    results = run_variants(config, variants, overrides=overrides, **options)
    runs = [Run(result.folder) for result in results]
    last = runs[-1].report["results"]
    trained = [_read(run, share, settings) for run, share in zip(runs, shares, strict=True)]
    curve = score_curve(trained, settings.evaluate.main_metric)
    facts = read_facts(runs[-1].output("Development", "."))
    page = make_curve_page(
        curve, title=settings.experiment, scored=SCORED[last["scored"]],
        group_kind=GROUP_KINDS[facts.subject_kind], protocol=settings.protocol, command=command_line(),
    )  # fmt: skip
    return curve, write_page(places.root / f"{places.name}_{PAGE}", page, name=PAGE)


def _read(run: Run, share: float, settings: Settings) -> Trained:
    groups, images = count_training(read_split(run.output("Split", "split.json")))
    predictions = read_predictions(run.output("Evaluation", "predictions.npz"))
    malignant = run.report["results"]["malignant"]
    scorer = Scorer(predictions, malignant, settings.evaluate.resamples, settings.seed)
    return Trained(run.name, share, groups, images, scorer)
