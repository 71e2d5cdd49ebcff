"""Section of a report on the training: stages, curves."""

from __future__ import annotations

from typing import Any

from kerasall.components.evidence import Evidence
from kerasall.components.report_words import list_trainings, member_names, train_of
from kerasall.evaluation.data_figures import TrainingRun
from kerasall.evaluation.report_background import Stage, training_section
from kerasall.evaluation.report_document import Section
from kerasall.settings import StageSettings, TrainSettings


def make_training(evidence: Evidence) -> list[Section]:
    """Curves of every stage and fit."""
    if evidence.training.get("tables"):
        return curve_sections(evidence.training)
    stages = [
        stage
        for name, training in list_trainings(evidence)
        for stage in _stages(name, training, train_of(evidence.settings, name))
    ]
    if not any(len(run.validation_loss) for stage in stages for run in stage.runs):
        return [
            training_section(
                stages, "No images were kept apart to watch it: the last epoch's weights were kept."
            )
        ]
    monitors = {"val_loss": "lowest validation loss", "val_accuracy": "highest validation accuracy"}
    names = member_names(evidence.settings)
    kept = [stage for name in names for stage in train_of(evidence.settings, name).stages]
    rules = {monitors[stage.monitor] if stage.keep == "best" else "" for stage in kept}
    words = {f"of the epoch with the {rule}" if rule else "of the last epoch" for rule in rules}
    note = f"The weights {' or '.join(sorted(words))} were kept."
    return [training_section(stages, note)]


def curve_sections(training: dict[str, Any]) -> list[Section]:
    """Curves of a sweep's runs; none where nothing was trained in epochs."""
    runs = tuple(_training_run(name, stages[0]) for name, stages in training["fits"].items())
    stage = Stage("All runs", training.get("curves", {}), runs)
    return (
        [training_section([stage], "The held-out images were watched, and decided no weight.")]
        if runs
        else []
    )


def _stages(member: str, training: dict[str, Any], train: TrainSettings) -> list[Stage]:
    """The stages of one classifier with the curves of all its fits."""
    stages = []
    for index, stage in enumerate(train.stages):
        runs = [
            _training_run(name, histories[index])
            for name, histories in training["fits"].items()
            if index < len(histories)
        ]
        title = f"{member}, stage {index + 1}" if member else f"Stage {index + 1}"
        stages.append(Stage(f"{title}: {stage.name}", _stage_facts(stage, train, training), tuple(runs)))
    return stages


def _stage_facts(stage: StageSettings, train: TrainSettings, training: dict[str, Any]) -> dict[str, str]:
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
        visited = training["classes"]["visited_an_epoch"]
        found = training["classes"]["images"]
        facts["Images an epoch, oversampled"] = ", ".join(
            f"{name} {count:,} (of {found[name]:,})" for name, count in visited.items()
        )
    return facts


def _training_run(name: str, history: dict[str, Any]) -> TrainingRun:
    epochs = history["epochs"]

    def column(key: str) -> tuple[float, ...]:
        values = [row[key] for row in epochs]
        return () if any(value is None for value in values) else tuple(values)

    return TrainingRun(
        name,
        column("loss"),
        column("val_loss"),
        column("accuracy"),
        column("val_accuracy"),
        history["best_epoch"] if column("val_loss") else None,
    )
