"""Sentences of a report about the model, the training and the split."""

from __future__ import annotations

from typing import Any

from kerasall.components.evidence import Evidence
from kerasall.data.splits import read_split
from kerasall.evaluation.ensemble_rules import RULES
from kerasall.settings import ModelSettings, Settings, TrainSettings

SCORED = {
    "test": "the test part, opened once, after every choice was made",
    "out-of-fold": "every image once, by a model that saw neither its group nor its duplicates",
    "validation": "the validation part, which also decided when training stopped: too good to be trusted",
    "selection": "the part on which the paper's protocol also chose its settings",
}


def describe_model(settings: Settings) -> str:
    """The backbone, or the rule with its members, in words."""
    if settings.members:
        head = f"{RULES[settings.ensemble.rule].title} of {len(settings.members)} members"
        backbones = {member.name: _backbone_words(member.model) for member in settings.members}
        if len(set(backbones.values())) == 1:
            return f"{head}, each {next(iter(backbones.values()))}"
        return f"{head} ({', '.join(f'{name}: {words}' for name, words in backbones.items())})"
    return _backbone_words(settings.model)


def _backbone_words(model: ModelSettings) -> str:
    width = f" (alpha {model.alpha:g})" if model.alpha != 1 else ""
    return (
        f"{model.backbone}{width} from {'ImageNet' if model.weights == 'imagenet' else model.weights} weights"
    )


def describe_stages(settings: Settings) -> str:
    """How many stages the training has."""
    counts = {len(train_of(settings, name).stages) for name in member_names(settings)}
    noun = "stage" if counts == {1} else "stages"
    return f"{' or '.join(map(str, sorted(counts)))} {noun}" + (" each" if settings.members else "")


def describe_refit(evidence: Evidence) -> str:
    """How the exported model came of cross-validation; "" where it was not trained once more."""
    records = [training for _, training in list_trainings(evidence)]
    if not all("final" in training["fits"] for training in records):
        return ""
    words = " The exported model was trained once more on all images, for the folds' median number of epochs "
    epochs = [[stage["best_epoch"] for stage in training["fits"]["final"]] for training in records]
    shown = "; ".join(", ".join(map(str, each)) for each in epochs)
    return f"{words}({shown}); the score is that of the folds' models."


def list_trainings(evidence: Evidence) -> list[tuple[str, dict[str, Any]]]:
    """Name and record of every member's training; one empty name for a single classifier."""
    members = evidence.training.get("members")
    return list(members.items()) if members else [("", evidence.training)]


def member_names(settings: Settings) -> list[str]:
    """Names of the members; one empty name for a single classifier."""
    return [member.name for member in settings.members] or [""]


def train_of(settings: Settings, name: str) -> TrainSettings:
    """Stages, batches and loss of a member, or of the single classifier."""
    own = {member.name: member.training(settings.train) for member in settings.members}
    return own.get(name, settings.train)


def describe_split(evidence: Evidence) -> str:
    """How the images were divided, and what was never torn apart."""
    split = read_split(evidence.split_folder / "split.json")
    whole = "Patients and duplicates" if evidence.facts.subject_kind == "subject" else "Blocks and duplicates"
    whole = "Duplicates" if evidence.facts.subject_kind == "none" else whole
    whole = f"{whole} were never divided."
    if split.unit == "image":
        whole = "Single images were dealt out, whichever patient or smear they come from, as in the paper."
    kind = f"{len(split.folds)}-fold cross-validation" if split.folds else "One split"
    return f"{kind} over {split.table['group'].nunique():,} groups. {whole}"
