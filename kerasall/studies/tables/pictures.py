"""Our pictures beside a paper's figures, each made of what a run keeps.

The first word of a figure's key says what is drawn and has a row in ``PICTURES``; what follows says of what:
``member/NAME`` (by its name, backbone or number), ``ensemble`` or ``fold/N``; without it all members and the ensemble.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from kerasall.data.splits import read_split
from kerasall.data.training_record import TRAINING, TrainingRecord
from kerasall.decoding import decode, read_image_bytes
from kerasall.errors import KerasallError
from kerasall.evaluation.curves import BandedCurve, roc_curves
from kerasall.evaluation.ensemble_scores import WEIGHTINGS
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import confusion_matrix
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.review import REVIEW, read_review_record
from kerasall.report.figures_comparison import draw_scores_by_epochs
from kerasall.report.figures_data import GalleryImage
from kerasall.report.figures_scores import draw_confusion_matrix, draw_roc_curves, draw_roc_lines, roc_lines_height
from kerasall.report.figures_taguchi import draw_main_effects
from kerasall.report.format import is_percent, title_of
from kerasall.report.page import Picture, draw_picture, encode_picture, read_picture
from kerasall.report.pages.run_training import draw_training_curves, list_stages
from kerasall.report.sections import choose_gallery
from kerasall.runtime import quiet_tensorflow
from kerasall.studies.finished_run import Run
from kerasall.studies.tables.combinations import read_combinations
from kerasall.studies.tables.members import NO_ENSEMBLE
from kerasall.studies.tables.ours import Ours
from kerasall.studies.tables.scored import Scored, read_scored
from kerasall.studies.tables.settings import read_settings
from kerasall.studies.tables.sweep import find_backbones
from kerasall.studies.tables.trials import analyze_eta
from kerasall.studies.tables.weightings import SIZES, find_at_size, side_of, weigh_members

_IMAGES = 8
"""Images of one gallery."""
_MAPS = 3
"""Images of which heat maps are drawn."""
_PAIRS = 2
"""Images of a class that are shown as they are and as operations leave them."""
_CURVE_RESAMPLES = 1000
"""Most draws for the areas below curves."""
_ENSEMBLE = "ensemble"


@dataclass(frozen=True, eq=False)
class Drawn:
    """What stands beside a figure: plots with captions, images of a gallery; or why nothing does."""

    plots: Sequence[tuple[Picture, str]] = ()
    gallery: Sequence[Mapping[str, Any]] = ()
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Part:
    """A member, the ensemble or a fold: its name and the scorer of its predictions."""

    name: str
    scorer: Scorer = field(repr=False)

    @property
    def predictions(self) -> Predictions:
        """Of the part."""
        return self.scorer.predictions

    @property
    def title(self) -> str:
        """The name with a capital."""
        return f"{self.name[:1].upper()}{self.name[1:]}"


Draw = Callable[[Run, Sequence[str]], Drawn]
"""Draws what the words of a figure's key, after the first, mean."""


def find_parts(run: Run, words: Sequence[str]) -> list[Part] | str:
    """The parts that a figure is of; or why there are none.

    Args:
        run: an evaluated one.
        words: ``member`` and its name, ``ensemble``, ``fold``, its number and perhaps ``member`` and its name, or nothing
            for all members and the ensemble.
    """
    scored = read_scored(run)
    if not words:
        names = list(scored.members) if scored.made else []
        return [_part(scored, name) for name in [*names, _ENSEMBLE]]
    what, *which = words
    if what == "fold":
        return _find_fold(run, scored, *which)
    if what == _ENSEMBLE:
        return [_part(scored, _ENSEMBLE)] if scored.made else NO_ENSEMBLE
    name = scored.find_member(which[0] if which else what)
    return name.reason if isinstance(name, Ours) else [_part(scored, name)]


def _part(scored: Scored, name: str) -> Part:
    if name in scored.members:
        return Part(name, scored.scorer.of(scored.members[name]))
    return Part(_ENSEMBLE if scored.made else "model", scored.scorer)


def _find_fold(run: Run, scored: Scored, number: str, _: str = "", member: str = "") -> list[Part] | str:
    name = scored.find_member(member) if member else ""
    if isinstance(name, Ours):
        return name.reason
    predictions = scored.members[name] if name else scored.predictions
    split = read_split(run.output("Split", "split.json"))
    if scored.kind != "out-of-fold" or not number.isdigit() or not 0 < int(number) <= len(split.folds):
        return f"this run scored {len(split.folds) if scored.kind == 'out-of-fold' else 'no'} folds"
    ids = split.ids(split.folds[int(number) - 1])
    held_out = predictions.take(np.isin(predictions.ids, ids))
    return [Part(f"{name}, fold {number}" if name else f"fold {number}", scored.scorer.of(held_out))]


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
        scored = read_scored(found)
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
    found = analyzed[1]
    width = max(4.2, 0.3 * sum(map(len, found.response_table.values())))
    picture = draw_picture(
        "factor-effects", draw_main_effects, found.response_table, found.level_names, "mean η (dB)",
        float(found.model.response.mean()), width=width,
    )  # fmt: skip
    return Drawn([(picture, "Mean η (dB) at each level; filled: the best")])


def show_gallery(run: Run, words: Sequence[str]) -> Drawn:
    """``gallery``: images with their true and called class, half of them wrong where there are as many."""
    parts = find_parts(run, words) if words else [_part(read_scored(run), _ENSEMBLE)]
    if isinstance(parts, str):
        return Drawn(reason=parts)
    own, paths, items = parts[0].predictions, read_paths(run), []
    for row in choose_gallery(own, _IMAGES, int(run.settings.get("seed", 0))):
        name, called = str(own.ids[row]), own.classes[own.decisions[row]]
        true = own.classes[own.labels[row]]
        picture = read_picture(
            "gallery", f"Cell {name}: true class {true}, called {called}", paths.get(name, name)
        )
        if picture is not None:
            told = GalleryImage(name, np.empty(0), true, called, float(own.confidences[row]))
            tone = "good" if told.right else "bad"
            items.append({"picture": picture, "title": told.title, "text": told.sure, "tone": tone})
    return Drawn(gallery=items, reason="" if items else "the scored images cannot be read where they lay")


def show_segmented(run: Run, words: Sequence[str]) -> Drawn:
    """``segmented/CLASS``: images of a class as their files hold them, and as the run's operations hand them on.

    Loads TensorFlow.
    """
    scored = read_scored(run)
    named = scored.find_classes(words[0])
    if not named:
        return Drawn(reason=f"this run has the classes {', '.join(scored.classes)}")
    with quiet_tensorflow():
        from kerasall.preprocessing.operations import Chain
    try:
        chain = Chain.from_json(run.settings["preprocess"])
    except KerasallError as error:
        return Drawn(reason=str(error))
    own, paths, items = scored.predictions, read_paths(run), []
    rows = np.flatnonzero(np.isin(own.labels, [scored.classes.index(name) for name in named]))
    for name in own.ids[rows][:: max(1, len(rows) // _PAIRS)][:_PAIRS]:
        try:
            pixels = decode(read_image_bytes(paths.get(name, name)), name=name)
        except (KerasallError, OSError):
            continue
        shown = {
            "Original": pixels,
            f"After {', '.join(each.name for each in chain.operations)}": chain(pixels).numpy(),
        }
        for title, each in shown.items():
            picture = encode_picture("segmented", f"{title}: {name}", each)
            items.append({"picture": picture, "title": title, "text": Path(name).name, "tone": ""})
    return Drawn(gallery=items, reason="" if items else "the scored images cannot be read where they lay")


def draw_maps(run: Run, words: Sequence[str]) -> Drawn:
    """``gradcam/CLASS``: where the members and the ensemble see the class, first in images that a member gets wrong.

    Loads TensorFlow and the exported model.
    """
    scored = read_scored(run)
    named = scored.find_classes(words[0]) if words else scored.classes
    if not named:
        return Drawn(reason=f"this run has the classes {', '.join(scored.classes)}")
    try:
        predictor = run.predictor()
        from kerasall.serving.explanation import require_explainable

        require_explainable(predictor, run.no_maps)
    except KerasallError as error:
        return Drawn(reason=str(error))
    paths = read_paths(run)
    rows = choose_explained(scored, named)
    left_out = "".join(f"; without {name}: {why}" for name, why in run.no_maps.items())
    plots = [
        (picture, f"{words}{left_out}")
        for row in rows
        for picture, words in [_explain(predictor, scored, row, paths)]
        if picture is not None
    ]
    return Drawn(plots, reason="" if plots else "the scored images cannot be read where they lay")


def choose_explained(scored: Scored, named: Sequence[str]) -> list[int]:
    """Rows of the classes to explain: right by the ensemble, those that most members get wrong first."""
    own = scored.predictions
    wrong = sum((~each.in_order(own.ids).right for each in scored.members.values()), np.zeros(len(own), int))
    chosen = np.flatnonzero(np.isin(own.labels, [scored.classes.index(name) for name in named]) & own.right)
    return chosen[np.argsort(-wrong[chosen], kind="stable")][:_MAPS].tolist()


def _explain(
    predictor: Any, scored: Scored, row: int, paths: Mapping[str, str]
) -> tuple[Picture | None, str]:
    """The maps of one image with a caption; None where there is no map or no file, for nothing is made up."""
    from kerasall.report.figures_explanation import DOTS_PER_INCH, ExplainedImage, draw_explanation
    from kerasall.report.figures_style import figure_to_png
    from kerasall.serving.explanation import explain_image

    own = scored.predictions
    name, true = str(own.ids[row]), own.classes[own.labels[row]]
    try:
        data = read_image_bytes(paths.get(name, name), predictor.limits)
        found = explain_image(predictor, data, name, predictor.labels.index(true))
    except (KerasallError, OSError):
        return None, ""
    votes = [
        f"{member} {'right' if each.in_order(own.ids).right[row] else 'wrong'}"
        for member, each in scored.members.items()
    ]
    words = f"true class {true}; {', '.join(votes)}"
    several = len(found.names) > 1
    members = tuple(zip(found.names, found.member_heatmaps, strict=True)) if several else ()
    figure, text = draw_explanation(
        ExplainedImage(
            Path(name).name, words, found.pixels, found.heatmap, members, bool(found.has_evidence.any())
        )
    )
    return Picture(
        "figures/map.png", text, figure_to_png(figure, DOTS_PER_INCH)
    ), f"Evidence for {true} in {Path(name).name}"


def read_paths(run: Run) -> dict[str, str]:
    """Id of an image -> where its file lay when the run was evaluated."""
    images = read_review_record(run.output("Evaluation", REVIEW)).images
    return dict(zip(images["id"], images["path"], strict=True))


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
