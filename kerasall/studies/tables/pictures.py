"""Our pictures beside a paper's figures, each made of what a run keeps.

The first word of a figure's key says what is drawn and has a row in ``PICTURES``; what follows says of what:
``member/NAME`` (by its name, backbone or number), ``ensemble`` or ``fold/N``; without it all members and the ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from kerasall.data.training_record import TRAINING, TrainingRecord
from kerasall.errors import ArtifactError
from kerasall.evaluation.curves import BandedCurve, roc_curves
from kerasall.evaluation.ensemble_scores import WEIGHTINGS
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import confusion_matrix
from kerasall.report.figures_comparison import draw_scores_by_epochs
from kerasall.report.figures_scores import (
    draw_confusion_matrix,
    draw_roc_curves,
    draw_roc_lines,
    roc_lines_height,
)
from kerasall.report.figures_taguchi import draw_main_effects
from kerasall.report.format import is_percent, title_of
from kerasall.report.page import draw_picture
from kerasall.report.pages.run_training import draw_training_curves, list_stages
from kerasall.studies.finished_run import Run
from kerasall.studies.tables.combinations import read_combinations
from kerasall.studies.tables.images import draw_maps, show_gallery, show_segmented
from kerasall.studies.tables.ours import Ours
from kerasall.studies.tables.parts import Draw, Drawn, find_parts
from kerasall.studies.tables.scored import read_scored
from kerasall.studies.tables.settings import read_settings
from kerasall.studies.tables.sweep import find_backbones
from kerasall.studies.tables.trials import analyze_eta
from kerasall.studies.tables.weightings import SIZES, find_at_size, side_of, weigh_members

_CURVE_RESAMPLES = 1000
"""Most draws for the areas below curves."""


def draw_matrices(run: Run, words: Sequence[str]) -> Drawn:
    """``confusion``: confusion matrices."""
    parts = find_parts(run, words)
    if isinstance(parts, str):
        return Drawn(reason=parts)
    side = min(3.1 + 0.24 * max(len(parts[0].predictions.classes) - 2, 0), 5.6)
    return Drawn(
        [
            (
                draw_picture(
                    "confusion", draw_confusion_matrix, confusion_matrix(part.predictions), part.predictions.classes,
                    part.scorer.malignant, height=side, of=part.title,
                ),
                part.title,
            )
            for part in parts
        ]
    )  # fmt: skip


def draw_curves(run: Run, words: Sequence[str]) -> Drawn:
    """``roc``: ROC curves; of several parts one curve each, of more than two classes the mean over them."""
    parts = find_parts(run, words)
    if isinstance(parts, str):
        return Drawn(reason=parts)
    found = {part.name: roc_curves(_for_curves(part.scorer)) for part in parts}
    if not all(found.values()):
        return Drawn(reason="the scored images are all of one class")
    if len(parts) == 1:
        picture = draw_picture("roc", draw_roc_curves, found[parts[0].name], height=3.8, of=parts[0].title)
        return Drawn([(picture, parts[0].title)])
    curves: list[BandedCurve] = [replace(each[-1], label=name) for name, each in found.items()]
    picture = draw_picture("roc", draw_roc_lines, curves, height=roc_lines_height(len(curves)))
    return Drawn([(picture, "Members and ensemble")])


def draw_weightings(run: Run, _: Sequence[str]) -> Drawn:
    """``roc_weightings``: ROC curves of the members and of their weightings, a panel for each printed size of the images."""
    plots, reason = [], ""
    for side in reversed(SIZES):
        found = find_at_size(run, side)
        if found is None:
            continue
        try:
            scored = read_scored(found)
        except ArtifactError as error:  # of the run beside this one, which need not be whole
            reason = str(error)
            continue
        scorers: dict[str, Scorer | Ours] = {
            name: scored.scorer.of(each) for name, each in scored.members.items()
        }
        scorers |= {f"weighed by {name}": weigh_members(found, name) for name in WEIGHTINGS}
        curves = {
            name: roc_curves(_for_curves(each)) for name, each in scorers.items() if isinstance(each, Scorer)
        }
        reason = next((each.reason for each in scorers.values() if isinstance(each, Ours)), reason)
        if any(name.startswith("weighed by") and each for name, each in curves.items()):
            named: list[BandedCurve] = [replace(each[-1], label=name) for name, each in curves.items()]
            picture = draw_picture("roc", draw_roc_lines, named, height=roc_lines_height(len(named)))
            plots.append((picture, f"Images of {side_of(found.settings)} pixels (run {found.name})"))
    return Drawn(plots, reason="" if plots else reason or "the scored images are all of one class")


def _for_curves(scorer: Scorer) -> Scorer:
    scorer = scorer.of(scorer.graded) if scorer.graded is not None else scorer
    return replace(scorer, resamples=min(scorer.resamples, _CURVE_RESAMPLES))


def draw_training(run: Run, words: Sequence[str]) -> Drawn:
    """``training``: loss and accuracy by epochs, of every stage; of a sweep by its backbones, which words then name."""
    try:
        settings = read_settings(run)
    except ValidationError:
        return Drawn(reason="the run's settings are those of another version of kerasall")
    stages = list_stages(TrainingRecord(run.output("TrainingRecord", TRAINING).parent).training, settings)
    if words and settings.sweep:
        wanted = find_backbones(run.settings["sweep"], words[-1])
        stages = [stage for stage in stages if stage[0] in wanted]
    elif words:
        name = read_scored(run).find_member(words[-1])
        if isinstance(name, Ours):
            return Drawn(reason=name.reason)
        stages = [stage for stage in stages if not settings.members or stage[0].startswith(f"{name},")]
    plots = [
        (
            draw_picture("training", draw_training_curves, runs, measure, height=3.3, of=name),
            f"{name}: {measure}",
        )
        for name, _, runs in stages
        for measure in ("loss", "accuracy")
        if any(len(getattr(each, measure)) for each in runs)
    ]
    return Drawn(plots, reason="" if plots else "this run kept no such history of a training")


def draw_by_epochs(run: Run, _: Sequence[str]) -> Drawn:
    """``by_epochs``: the main score of every backbone and optimizer of a sweep at every number of epochs."""
    found = read_combinations(run, "optimizer")
    if isinstance(found, Ours):
        return Drawn(reason=found.reason)
    runs: dict[str, dict[int, Any]] = {}
    for row in found.rows:
        runs.setdefault(f"{row['backbone']} {row['optimizer']}", {})[row["epochs"]] = row["main"]
    title = title_of(found.main, found.labels)
    picture = draw_picture("by-epochs", draw_scores_by_epochs, runs, title, is_percent(found.main))
    return Drawn([(picture, f"{title}, with 95% intervals{f': {found.whose}' if found.whose else ''}")])


def draw_factor_effects(run: Run, _: Sequence[str]) -> Drawn:
    """``factor_effects``: mean η at every level of every factor, the numbers of the response table."""
    analyzed = analyze_eta(run)
    if isinstance(analyzed, Ours):
        return Drawn(reason=analyzed.reason)
    made, found = analyzed
    whose = f"; {made.whose}" if made.whose else ""
    width = max(4.2, 0.3 * sum(map(len, found.response_table.values())))
    picture = draw_picture(
        "factor-effects", draw_main_effects, found.response_table, found.level_names, "mean η (dB)",
        float(found.model.response.mean()), width=width,
    )  # fmt: skip
    return Drawn([(picture, f"Mean η (dB) at each level; filled: the best{whose}")])


PICTURES: Mapping[str, Draw] = {
    "roc": draw_curves,
    "roc_weightings": draw_weightings,
    "confusion": draw_matrices,
    "gallery": show_gallery,
    "segmented": show_segmented,
    "training": draw_training,
    "by_epochs": draw_by_epochs,
    "factor_effects": draw_factor_effects,
    "gradcam": draw_maps,
}
"""First word of a figure's key -> how it is drawn."""

NEEDS_MODEL = ("gradcam", "segmented")
"""Pictures for which TensorFlow is loaded."""


def draw(run: Run, key: str) -> Drawn:
    """What stands beside a printed figure; nothing, without a word, where its key is ""."""
    if not key:
        return Drawn()
    kind, *words = key.split("/")
    if kind not in PICTURES:
        return Drawn(reason=f"there is no picture of the kind {kind}")
    return PICTURES[kind](run, words)
