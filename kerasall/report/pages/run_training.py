"""How a run trained: what its settings say, and the curves of every stage and fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kerasall.evaluation.ensemble_rules import RULES
from kerasall.report.evidence import Evidence
from kerasall.report.figures_style import MUTED, STYLE, color_of, legend_above, percent_axis, plot_text
from kerasall.report.page import Section, draw_picture, render_section
from kerasall.settings import ModelSettings, Settings, StageSettings, TrainSettings

_KEPT = {"val_loss": "lowest validation loss", "val_accuracy": "highest validation accuracy"}
"""What a stage watches -> of which epoch its weights are."""

_RING: dict[str, Any] = {"marker": "o", "linestyle": "none", "markerfacecolor": "white"}


@dataclass(frozen=True)
class TrainingRun:
    """Curves of one fit over E epochs (one fold of one stage).

    Attributes:
        label: which run, for example ``fold 1``.
        loss: E training losses.
        validation_loss: E validation losses, or empty.
        accuracy: E training accuracies in [0, 1], or empty.
        validation_accuracy: E validation accuracies in [0, 1], or empty.
        best_epoch: the epoch (from 1) whose weights were kept, or None.
    """

    label: str
    loss: Sequence[float]
    validation_loss: Sequence[float] = ()
    accuracy: Sequence[float] = ()
    validation_accuracy: Sequence[float] = ()
    best_epoch: int | None = None


Stage = tuple[str, Mapping[str, str], list[TrainingRun]]
"""Name, settings (label -> value) and curves of a stage."""


def describe_exported(e: Evidence) -> str:
    """The model that is exported: what a search chose, or what the settings state."""
    return e.training.get("model") or describe_model(e.settings)


def describe_model(settings: Settings) -> str:
    """The backbone, or the rule with its members, in words."""
    if not settings.members:
        return _backbone_words(settings.model)
    head = f"{RULES[settings.ensemble.rule].title} of {len(settings.members)} members"
    backbones = {member.name: _backbone_words(member.model) for member in settings.members}
    if len(set(backbones.values())) == 1:
        return f"{head}, each {next(iter(backbones.values()))}"
    return f"{head} ({', '.join(f'{name}: {words}' for name, words in backbones.items())})"


def _backbone_words(model: ModelSettings) -> str:
    width = f" (alpha {model.alpha:g})" if model.alpha != 1 else ""
    weights = "ImageNet" if model.weights == "imagenet" else model.weights
    return f"{model.backbone}{width} from {weights} weights"


def training_facts(e: Evidence) -> dict[str, Any]:
    """What the summary says of the training: parameters, how (of a search), stages, and the epochs of the final fits."""
    facts = {"parameters": e.training["parameters"], "how": e.training.get("how")}
    if "model" in e.training:
        return facts
    fits = [record["fits"] for _, record in _list_trainings(e.training)]
    final = [[stage["best_epoch"] for stage in each["final"]] for each in fits if "final" in each]
    counts = {len(_train_of(e.settings, name).stages) for name in _member_names(e.settings)}
    refitted = final if len(final) == len(fits) else []
    return facts | {"stages": sorted(counts), "each": bool(e.settings.members), "final": refitted}


def _list_trainings(training: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and record of every member's training; one empty name for a single classifier."""
    members = training.get("members")
    return list(members.items()) if members else [("", training)]


def _member_names(settings: Settings) -> list[str]:
    """Names of the members; one empty name for a single classifier."""
    return [member.name for member in settings.members] or [""]


def _train_of(settings: Settings, name: str) -> TrainSettings:
    """Stages, batches and loss of a member, or of the single classifier."""
    own = {member.name: member.training(settings.train) for member in settings.members}
    return own.get(name, settings.train)


def make_training(e: Evidence) -> Section | None:
    """Settings and curves of every stage and fit."""
    stages = list_stages(e.training, e.settings)
    if e.training.get("tables"):
        return training_section(stages, "The held-out images were watched, and decided no weight.")
    if not _is_watched(stages):
        return training_section(
            stages, "No images were kept apart to watch it: the last epoch's weights were kept."
        )
    kept = [stage for name in _member_names(e.settings) for stage in _train_of(e.settings, name).stages]
    rules = {
        f"of the epoch with the {_KEPT[stage.monitor]}" if stage.keep == "best" else "of the last epoch"
        for stage in kept
    }
    return training_section(stages, f"The weights {' or '.join(sorted(rules))} were kept.")


def _list_backbones(training: Mapping[str, Any]) -> Iterator[Stage]:
    """Of a sweep: for every backbone the curves of its optimizers."""
    runs: dict[str, list[TrainingRun]] = {}
    for name, stages in training["fits"].items():
        backbone, _, optimizer = name.partition(" ")
        runs.setdefault(backbone, []).append(_read_run(optimizer, stages[0]))
    for backbone, of_backbone in runs.items():
        yield backbone, training.get("curves", {}), of_backbone


def _is_watched(stages: Sequence[Stage]) -> bool:
    return any(len(run.validation_loss) for _, _, runs in stages for run in runs)


def training_section(stages: Sequence[Stage], note: str) -> Section | None:
    """Settings and curves of stages.

    Args:
        stages: in order.
        note: one sentence on which weights were kept.
    """
    shown = []
    for number, (name, facts, runs) in enumerate(stages, start=1):
        stage: dict[str, Any] = {"name": name, "settings": facts}
        for measure in ("loss", "accuracy"):
            known = any(len(getattr(run, measure)) for run in runs)
            file = f"training-{number}-{measure}"
            stage[measure] = known and draw_picture(
                file, draw_training_curves, runs, measure, height=3.3, of=name
            )
        shown.append(stage)
    return render_section("training", stages=shown, watched=_is_watched(stages), note=note)


def list_stages(training: Mapping[str, Any], settings: Settings) -> list[Stage]:
    """The stages of every member, or of the one classifier, with the curves of all their fits; of a sweep its backbones.

    Args:
        training: the content of a record's training.json.
        settings: of the experiment, with the members that a designed experiment made.
    """
    if training.get("tables"):
        return list(_list_backbones(training))
    return [
        stage
        for name, own in _list_trainings(training)
        for stage in _list_stages(name, own, _train_of(settings, name))
    ]


def _list_stages(member: str, training: Mapping[str, Any], train: TrainSettings) -> list[Stage]:
    """The stages of one classifier with the curves of all its fits."""
    stages = []
    for index, stage in enumerate(train.stages):
        fits = training["fits"].items()
        runs = [_read_run(name, histories[index]) for name, histories in fits if index < len(histories)]
        title = f"{member}, stage {index + 1}" if member else f"Stage {index + 1}"
        watched = any(len(run.validation_loss) for run in runs)
        stages.append((f"{title}: {stage.name}", _stage_facts(stage, train, training, watched), runs))
    return stages


def _stage_facts(
    stage: StageSettings, train: TrainSettings, training: Mapping[str, Any], watched: bool
) -> dict[str, str]:
    parts = {"head": "the head alone", "all": "the whole network"}
    schedule = stage.schedule.get("name", "constant")
    facts = {
        "Trained": parts.get(stage.trainable, f"from {stage.trainable} on"),
        "Optimizer": f"{stage.optimizer.name}, learning rate {stage.optimizer.learning_rate:g}"
        + (f", {schedule}" if schedule != "constant" else ""),
        "Epochs": f"up to {stage.epochs}, patience {stage.patience}"
        if stage.patience and watched
        else str(stage.epochs),
        "Batch": str(train.batch_size),
    }
    if train.oversample != "none":
        visited, found = training["classes"]["visited_an_epoch"], training["classes"]["images"]
        shown = ", ".join(f"{name} {count:,} (of {found[name]:,})" for name, count in visited.items())
        facts["Images an epoch, oversampled"] = shown
    return facts


def _read_run(name: str, history: Mapping[str, Any]) -> TrainingRun:
    def column(key: str) -> tuple[float, ...]:
        values = [row[key] for row in history["epochs"]]
        return () if any(value is None for value in values) else tuple(values)

    watched = column("val_loss")
    best = history["best_epoch"] if watched else None
    return TrainingRun(name, column("loss"), watched, column("accuracy"), column("val_accuracy"), best)


@matplotlib.rc_context(STYLE)
def draw_training_curves(axes: Axes, runs: Sequence[TrainingRun], measure: str = "loss") -> str:
    """``loss`` or ``accuracy`` over epochs; training dashed, validation solid, a ring on the kept epoch.

    Args:
        axes: where to draw.
        runs: runs of one stage, for example one a fold.
        measure: ``loss`` or ``accuracy``.

    Returns:
        Alternative text with the epochs and last values of every run.
    """
    for index, run in enumerate(runs):
        color = color_of(index)
        _draw_epochs(axes, getattr(run, measure), color, (0, (3, 2)))
        _draw_epochs(axes, getattr(run, f"validation_{measure}"), color, "-", run.best_epoch)
    axes.set(xlabel="epoch", ylabel=plot_text(measure))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if measure == "accuracy":
        percent_axis(axes.yaxis)
    _training_legend(axes, runs)
    return f"Training curves, {measure}. " + " ".join(_describe_run(run, measure) for run in runs)


def _draw_epochs(axes: Axes, values: Sequence[float], color: str, dash, best: int | None = None) -> None:
    if not len(values):
        return
    single, width = "." if len(values) == 1 else "", 1.5 if best else 1.1
    axes.plot(
        np.arange(1, len(values) + 1), values, color=color, linestyle=dash, linewidth=width, marker=single
    )
    if best is not None and best <= len(values):
        axes.plot(
            [best], [values[best - 1]], **_RING, markersize=7, markeredgecolor=color, markeredgewidth=1.6
        )


def _training_legend(axes: Axes, runs: Sequence[TrainingRun]) -> None:
    for index, run in enumerate(runs):
        axes.plot([], [], color=color_of(index), label=plot_text(run.label))
    axes.plot([], [], color=MUTED, linestyle=(0, (3, 2)), linewidth=1.1, label="training")
    if any(len(run.validation_loss) or len(run.validation_accuracy) for run in runs):
        axes.plot([], [], color=MUTED, label="validation")
    if any(run.best_epoch is not None for run in runs):
        axes.plot([], [], **_RING, markeredgecolor=MUTED, markersize=6, label="kept epoch")
    legend_above(axes, 4)


def _describe_run(run: TrainingRun, measure: str) -> str:
    trained, validated = getattr(run, measure), getattr(run, f"validation_{measure}")
    parts = [f"{run.label}: {len(trained)} epochs"]
    parts += [f"last training {measure} {trained[-1]:.3f}"] if len(trained) else []
    parts += [f"last validation {measure} {validated[-1]:.3f}"] if len(validated) else []
    parts += [f"kept epoch {run.best_epoch}"] if run.best_epoch else []
    return ", ".join(parts) + "."
