"""What all settings are made of: strict and frozen rows, common kinds of numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator


def _fits(number: int) -> int:
    if number >= 2**63:
        raise ValueError("must be a whole number of at most 18 digits")
    return number


Positive = Annotated[int, Field(gt=0), AfterValidator(_fits)]
Seed = Annotated[int, Field(ge=0), AfterValidator(_fits)]
Share = Annotated[float, Field(ge=0, le=1)]
Protocol = Literal["honest", "faithful"]

_NUMBER = re.compile(r"[-+]?(?:\d{1,300}\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_YES_NO = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}


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
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _take_one_word_for_a_list_of_one(cls, value: Any, info: ValidationInfo) -> Any:
        wanted = cls.model_fields[info.field_name or ""].annotation
        return _as_values(value) if _is_free(wanted) else _as_words(value, wanted)

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
    if isinstance(value, bool | float) or value is None:
        shown = {True: "true", False: "false", None: "null"}.get(value, value)
        raise ValueError(
            f"must be words, but {shown} is none: if it names something, put it in quotation marks"
        )
    return str(value) if isinstance(value, int) else value


def _is_free(wanted: Any) -> bool:
    """Whether these are constants of an operation, a schedule or an augmentation, whose kinds only its room knows."""
    return wanted == dict[str, Any] or any(_is_free(kind) for kind in get_args(wanted))


def _as_values(value: Any) -> Any:
    """Constants with the numbers and the yes and no that are written as words, as every typed setting takes them."""
    if isinstance(value, dict):
        return {key: _as_values(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_values(each) for each in value]
    if not isinstance(value, str):
        return value
    if _NUMBER.fullmatch(value):
        return int(value) if value.lstrip("+-").isdigit() else float(value)
    return _YES_NO.get(value.lower(), value)
