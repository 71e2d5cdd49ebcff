"""Where the class or the patient of an image stands, as ``data.label`` and ``data.subject`` say it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from kerasall.errors import DataError, SettingsError
from kerasall.listing.folders import list_some

_FORMS = "auto, folder, folder:N (1 is the folder right below data.path), column:NAME, pattern:REGEX"


@dataclass(frozen=True)
class Location:
    """A place that somebody named.

    Attributes:
        setting: dotted key of the setting.
        kind: what it is.
        folder: number of a folder in the relative path, 1 at the top; None where none is named.
        column: name of a table's column.
        pattern: searched in the relative path; has a group named as the setting.
    """

    setting: str
    kind: Literal["auto", "folder", "column", "pattern", "none"]
    folder: int | None = None
    column: str = ""
    pattern: re.Pattern[str] | None = None

    def search(self, paths: Iterable[str]) -> dict[str, str]:
        """Path -> what the pattern's group holds, for the paths it matches.

        Raises:
            DataError: it matches none.
        """
        assert self.pattern is not None
        paths = list(paths)
        matches = {path: self.pattern.search(path) for path in paths}
        group = self.setting.rpartition(".")[2]
        found = {path: (match[group] or "").strip() for path, match in matches.items() if match}
        if not any(found.values()):
            raise DataError(
                f"{self.setting} must be a pattern that matches the images' relative paths, but "
                f"{self.pattern.pattern} matches none of {len(paths)}, such as {list_some(paths, 2)}: correct the pattern"
            )
        return {path: value for path, value in found.items() if value}


def parse_location(text: str, setting: str) -> Location:
    """Reads auto, folder, folder:N, column:NAME, pattern:REGEX and, for a subject, none.

    Args:
        text: the value of the setting.
        setting: ``data.label`` or ``data.subject``.

    Raises:
        SettingsError: another word, or a pattern that cannot be used.
    """
    kind, colon, rest = text.strip().partition(":")
    if not colon and kind in ("auto", "folder", "none") and (kind, setting) != ("none", "data.label"):
        return Location(setting, kind)
    if kind == "folder" and re.fullmatch(r"\s*0*[1-9]\d{0,3}\s*", rest):
        return Location(setting, "folder", folder=int(rest))
    if kind == "column" and rest.strip():
        return Location(setting, "column", column=rest.strip())
    if kind == "pattern" and rest:
        return Location(setting, "pattern", pattern=_compile(rest, setting))
    waiver = ", or none (a waiver)" if setting == "data.subject" else ""
    raise SettingsError(
        f"{setting} must be one of {_FORMS}{waiver}, but is {text!r}: for example --set {setting}=folder:1"
    )


def _compile(text: str, setting: str) -> re.Pattern[str]:
    group = setting.rpartition(".")[2]
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise SettingsError(
            f"{setting} must be pattern: and a regular expression, but {text} is none ({error}): correct it"
        ) from None
    if group not in pattern.groupindex:
        raise SettingsError(
            f"{setting} must be a pattern with a group named {group}, but {text} has none: put (?P<{group}>...) around "
            f"the part that names the {'patient' if group == 'subject' else 'class'}"
        )
    return pattern
