"""What all settings are made of: strict and frozen rows, common kinds of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]


Share = Annotated[float, Field(ge=0, le=1)]


Protocol = Literal["honest", "faithful"]


class Strict(BaseModel):
    """Base of all settings: no unknown key, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    def keyed(self) -> dict[str, Any]:
        """The values that enter a step's key: of a file of weights its content does, and not where it lies."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        if isinstance(weights := values.get("weights"), str) and Path(weights).is_absolute():
            values["weights"] = "a file"
        return values
