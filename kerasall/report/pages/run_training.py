"""How a run trained: what its settings say, what became of every stage and fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerasall.evaluation.ensemble_rules import RULES
from kerasall.report.evidence import Evidence
from kerasall.report.figures_data import TrainingRun, draw_training_curves
from kerasall.report.page import Section, draw_picture, render_section
from kerasall.settings import ModelSettings, Settings, StageSettings, TrainSettings

_KEPT = {"val_loss": "lowest validation loss", "val_accuracy": "highest validation accuracy"}
"""What a stage watches -> of which epoch its weights are."""

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
    fits = [record["fits"] for _, record in _list_trainings(e)]
    final = [[stage["best_epoch"] for stage in each["final"]] for each in fits if "final" in each]
    counts = {len(_train_of(e.settings, name).stages) for name in _member_names(e.settings)}
    each = bool(e.settings.members)
    return facts | {
        "stages": sorted(counts),
        "each": each,
        "final": final if len(final) == len(fits) else [],
    }


def _list_trainings(e: Evidence) -> list[tuple[str, dict[str, Any]]]:
    """Name and record of every member's training; one empty name for a single classifier."""
    members = e.training.get("members")
    return list(members.items()) if members else [("", e.training)]


def _member_names(settings: Settings) -> list[str]:
    """Names of the members; one empty name for a single classifier."""
    return [member.name for member in settings.members] or [""]


def _train_of(settings: Settings, name: str) -> TrainSettings:
    """Stages, batches and loss of a member, or of the single classifier."""
    own = {member.name: member.training(settings.train) for member in settings.members}
    return own.get(name, settings.train)


def make_training(e: Evidence) -> Section | None:
    """Settings and curves of every stage and fit."""
    if e.training.get("tables"):
        runs = [_read_run(name, stages[0]) for name, stages in e.training["fits"].items()]
        stages = [("All runs", e.training.get("curves", {}), runs)] if runs else []
        return training_section(stages, "The held-out images were watched, and decided no weight.")
    stages = []
    for name, training in _list_trainings(e):
        stages += _list_stages(name, training, _train_of(e.settings, name))
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
        pictures = {
            measure: draw_picture(
                f"training-{number}-{measure}", draw_training_curves, runs, measure, height=3.3, of=name
            )
            if any(len(getattr(run, measure)) for run in runs)
            else None
            for measure in ("loss", "accuracy")
        }
        shown.append({"name": name, "settings": facts, **pictures})
    return render_section("training", stages=shown, watched=_is_watched(stages), note=note)


def _list_stages(member: str, training: Mapping[str, Any], train: TrainSettings) -> list[Stage]:
    """The stages of one classifier with the curves of all its fits."""
    stages = []
    for index, stage in enumerate(train.stages):
        fits = training["fits"].items()
        runs = [_read_run(name, histories[index]) for name, histories in fits if index < len(histories)]
        title = f"{member}, stage {index + 1}" if member else f"Stage {index + 1}"
        stages.append((f"{title}: {stage.name}", _stage_facts(stage, train, training), runs))
    return stages


def _stage_facts(stage: StageSettings, train: TrainSettings, training: Mapping[str, Any]) -> dict[str, str]:
    parts = {"head": "the head alone", "all": "the whole network"}
    schedule = stage.schedule.get("name", "constant")
    facts = {
        "Trained": parts.get(stage.trainable, f"from {stage.trainable} on"),
        "Optimizer": f"{stage.optimizer.name}, learning rate {stage.optimizer.learning_rate:g}"
        + (f", {schedule}" if schedule != "constant" else ""),
        "Epochs": f"up to {stage.epochs}" + (f", patience {stage.patience}" if stage.patience else ""),
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
