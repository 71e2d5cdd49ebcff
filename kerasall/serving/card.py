"""The card beside a pushed model, as far as serving reads it; whatever else it holds passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictBool, StrictStr, ValidationError

from kerasall.errors import ArtifactError
from kerasall.files import read_json

CARD = "card.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Operation(_Part):
    op: StrictStr


class _Data(_Part):
    source: StrictStr = ""
    notes: list[StrictStr] = []


class _Safeguards(_Part):
    refer_reasons: dict[str, StrictStr] | None = None


class _Results(_Part):
    labels: list[StrictStr] | None = None
    malignant: list[StrictStr] | None = None


class _Blessing(_Part):
    blessed: StrictBool
    criteria: list[tuple[StrictStr, StrictBool]]


class _Card(_Part):
    description: StrictStr = ""
    model: dict[str, Any] | None = None
    preprocess: list[_Operation] | None = None
    data: _Data | None = None
    safeguards: _Safeguards | None = None
    results: _Results | None = None
    blessing: _Blessing | None = None


def read_card(folder: Path) -> dict[str, Any]:
    """Content of a model's card without what it leaves open; empty where there is none.

    Raises:
        ArtifactError: the card is not JSON, or not made as cards are.
    """
    path = folder / CARD
    if not path.is_file():
        return {}
    card = read_json(path)
    try:
        _Card.model_validate(card)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "it"
        raise ArtifactError(
            f"{path} must be a card that kerasall wrote, but {place} is not as there "
            f"({first['msg'].lower()}): export the model again"
        ) from None
    return {name: value for name, value in card.items() if value is not None}
