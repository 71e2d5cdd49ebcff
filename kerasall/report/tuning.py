"""What a record says of the designed experiment behind its ensemble: the members' settings, the report's section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerasall.data.development import ANALYSIS, MEMBERS_FILE
from kerasall.files import read_json
from kerasall.report.document import Section
from kerasall.report.taguchi_section import taguchi_section
from kerasall.settings import MemberSettings, Settings


def with_tuned_members(settings: Settings, record: Path) -> Settings:
    """The settings with the members that a designed experiment made, as if they had been stated.

    Args:
        settings: as stated.
        record: folder of a TrainingRecord.
    """
    path = record / MEMBERS_FILE
    if not settings.tune or not path.is_file():
        return settings
    members = tuple(MemberSettings.model_validate(member) for member in read_json(path))
    return settings.model_copy(update={"members": members})


def as_stated(settings: Settings) -> Settings:
    """The settings without the members that ``with_tuned_members`` added: the two exclude one another."""
    return settings.model_copy(update={"members": ()}) if settings.tune else settings


def read_tuning(record: Path) -> dict[str, Any] | None:
    """The analysis of the experiment with its figures' content under ``contents``, or None."""
    path = record / ANALYSIS
    if not path.is_file():
        return None
    found = read_json(path)
    files = [figure["file"] for figure in found["experiment"]["figures"]]
    return found | {"contents": {file: (record / file).read_bytes() for file in files}}


def tuning_sections(tuning: dict[str, Any] | None) -> list[Section]:
    """The report's section on the experiment; none where there was none."""
    return [] if tuning is None else [taguchi_section(tuning, tuning["contents"])]


def analysis_of(tuning: dict[str, Any] | None) -> dict[str, Any] | None:
    """The analysis for programs, without figures."""
    return None if tuning is None else {name: value for name, value in tuning.items() if name != "contents"}
