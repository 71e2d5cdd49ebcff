"""Settings of a run in words, as a paper's table of settings prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from kerasall.data.training_record import TRAINING, TrainingRecord
from kerasall.settings import MemberSettings, Settings, TrainSettings
from kerasall.settings.yaml_text import write_line
from kerasall.studies.finished_run import Run
from kerasall.studies.tables.ours import Ours, none_as
from kerasall.studies.tables.scored import read_scored


def read_setting(run: Run, words: Sequence[str]) -> Ours:
    """``setting/train.batch_size``, or ``setting/members.vgg16.epochs`` of a member by its name or backbone.

    Of a member everything is as it was trained: what it does not set itself is the experiment's; ``epochs`` are those of
    its stages, one after the other.
    """
    path = [part for word in words for part in word.split(".")]
    try:
        settings = read_settings(run)
    except ValidationError:
        return none_as("the run's settings are those of another version of kerasall")
    if path[0] == "members" and len(path) > 1:
        name = read_scored(run).find_member(path[1])
        if isinstance(name, Ours):
            return name
        return _describe(_member(settings, name), path[2:])
    return _describe(settings.model_dump(mode="json"), path)


def read_settings(run: Run) -> Settings:
    """The settings of a run, with the members that a designed experiment made.

    Raises:
        ValidationError: another version of kerasall wrote them.
    """
    settings = Settings.model_validate(run.settings)
    tuned = (
        TrainingRecord(run.output("TrainingRecord", TRAINING).parent).tuned_members if settings.tune else None
    )
    members = tuple(map(MemberSettings.model_validate, tuned or ()))
    return settings.model_copy(update={"members": members}) if members else settings


def _member(settings: Settings, name: str) -> dict[str, Any]:
    """A member's settings, or one classifier's, as it was trained."""
    found = {each.name: each for each in settings.members}
    member = found.get(name) or MemberSettings(name="model", model=settings.model)
    train: TrainSettings = member.training(settings.train)
    epochs = " + ".join(str(stage.epochs) for stage in train.stages)
    return {**member.model_dump(mode="json"), "train": train.model_dump(mode="json"), "epochs": epochs}


def _describe(values: Any, path: Sequence[str]) -> Ours:
    for number, word in enumerate(path):
        if isinstance(values, list) and word.isdigit() and int(word) < len(values):
            values = values[int(word)]
        elif isinstance(values, Mapping) and word in values:
            values = values[word]
        else:
            return none_as(f"this run has no setting {'.'.join(path[: number + 1])}")
    if values is None:
        return none_as(f"{'.'.join(path)} is not set")
    if isinstance(values, str) or (isinstance(values, int | float) and not isinstance(values, bool)):
        return Ours(values)
    return Ours(write_line(values))
