"""What all settings are made of: strict and frozen rows, common kinds of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Protocol = Literal["honest", "faithful"]


def require_different(what: str, names: Sequence[str]) -> None:
    """Raises a ValueError, which pydantic collects, where two have one name."""
    if len(set(names)) != len(names):
        raise ValueError(f"{what} must have different names, but are {list(names)}")


class Strict(BaseModel):
    """Base of all settings: no unknown key, no change after reading.

    The text below a setting is its description, which ``kerasall settings`` shows. It stands there and not in
    ``Field``, so that a better sentence does not change the meaning of the code, and with it the key of every step.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )

    def keyed(self) -> dict[str, Any]:
        """The values that enter a step's key: of a file of weights its content does, and not where it lies."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        if isinstance(weights := values.get("weights"), str) and Path(weights).is_absolute():
            values["weights"] = "a file"
        return values
