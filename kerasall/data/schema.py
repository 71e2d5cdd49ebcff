"""What data of one kind look like: inferred once, then held against new data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from kerasall.errors import ArtifactError, DataError


@dataclass(frozen=True)
class Schema:
    """What data of one kind look like.

    Attributes:
        labels: class names in class order.
        width, height: least and greatest, in pixels.
        formats: kinds of file: BMP, PNG, JPEG, TIFF.
    """

    labels: tuple[str, ...]
    width: tuple[int, int]
    height: tuple[int, int]
    formats: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The schema as a JSON object."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Schema:
        """Reads what ``to_json`` gave.

        Raises:
            ArtifactError: keys are missing or unknown.
        """
        wanted = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or set(value) != wanted:
            raise ArtifactError(
                f"a schema must have the keys {sorted(wanted)}, but is {value!r:.200}: infer it again"
            )
        return cls(**{name: tuple(entry) for name, entry in value.items()})


def infer_schema(statistics: dict[str, Any]) -> Schema:
    """The schema that the data behind ``summarize``'s result keep.

    Raises:
        DataError: no image could be read.
    """
    if not statistics["readable"]:
        raise DataError("a schema needs at least one readable image, but none was: see `kerasall check`")
    return Schema(
        labels=tuple(statistics["labels"]),
        width=tuple(statistics["width"]),
        height=tuple(statistics["height"]),
        formats=tuple(sorted(statistics["formats"])),
    )
