"""What all settings are made of: strict and frozen rows, common kinds of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Protocol = Literal["honest", "faithful"]


def require_different(what: str, names: Sequence[str]) -> None:
    """Raises a ValueError, which pydantic collects, where two have one name."""
    if len(set(names)) != len(names):
        raise ValueError(f"{what} must have different names, but are {list(names)}")


class Strict(BaseModel):
    """Base of all settings: no unknown key, no change after reading; one word is a list of one.

    The text below a setting is its description, which ``kerasall settings`` shows. It stands there and not in
    ``Field``, so that a better sentence does not change the meaning of the code, and with it the key of every step.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _take_one_word_for_a_list_of_one(cls, value: Any, info: ValidationInfo) -> Any:
        return _as_words(value, cls.model_fields[info.field_name or ""].annotation)

    def keyed(self) -> dict[str, Any]:
        """The values that enter a step's key: of a file of weights its content does, and not where it lies."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        if isinstance(weights := values.get("weights"), str) and Path(weights).is_absolute():
            values["weights"] = "a file"
        return values


def _as_words(value: Any, wanted: Any) -> Any:
    """``value`` with one word in a list where ``wanted`` are words, and numbers that name things (a class 0) as words."""
    kinds = get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)
    if isinstance(value, dict):
        own = [get_args(kind)[1] for kind in kinds if get_origin(kind) is dict]
        return {key: _as_words(each, own[0]) for key, each in value.items()} if own else value
    if not any(get_origin(kind) is tuple and get_args(kind)[0] is str for kind in kinds):
        return value
    if isinstance(value, list | tuple):
        return [_as_word(each) for each in value]
    return (_as_word(value),) if isinstance(value, str | int) and str not in kinds else value


def _as_word(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
