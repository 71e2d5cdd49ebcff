"""Bodies of answers and requests, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

_Shares = dict[str, float]


class ErrorBody(BaseModel):
    """What every refused request is answered with."""

    error: str = Field(description="What must hold and what was found.")


class MemberAnswer(BaseModel):
    """What one member of an ensemble says."""

    name: str
    label: str
    probabilities: _Shares


class ImageAnswer(BaseModel):
    """One image's answer: label and probabilities, or an error."""

    name: str
    error: str | None = None
    label: str | None = None
    label_index: int | None = None
    probability: float | None = Field(None, description="Of the label; calibrated where the model is.")
    probabilities: _Shares | None = None
    calibrated_probabilities: _Shares | None = None
    mean_probabilities: _Shares | None = None
    votes: _Shares | None = None
    members: list[MemberAnswer] | None = None
    prediction_set: list[str] | None = Field(None, description="Classes that cannot be ruled out.")
    domain_distance: float | None = Field(
        None, description="To the training images, about 1 at the limit beyond which images are referred."
    )
    refer: bool | None = Field(None, description="Whether a person should look at this image.")
    refer_reason: str | None = None


class ModelName(BaseModel):
    """Which model answered."""

    name: str
    version: str


class PredictBody(BaseModel):
    """Answers in the order of the images."""

    model: ModelName
    intended_use: str
    results: list[ImageAnswer]


class ExplainBody(BaseModel):
    """Base64 of PNG files of what the model was shown, the map, and both together."""

    name: str
    label: str
    has_evidence: bool = Field(description="False where nothing in the image speaks for the class.")
    picture: str
    heatmap: str
    overlay: str


class ModelBody(ModelName):
    """What a reader of answers must know of the model."""

    description: str
    labels: list[str]
    malignant: list[str]
    members: list[str]
    probabilities: str = Field(description="calibrated, not_calibrated or vote_share.")
    refers: bool
    explains: bool
    data: dict[str, Any]
    blessed: bool | None
    criteria_not_met: list[str]
    intended_use: str


_BASE64 = {
    "type": "object",
    "required": ["b64"],
    "properties": {"b64": {"type": "string", "minLength": 4, "description": "Base64 of an image file."}},
}


def _form(files: dict[str, Any], **fields: Any) -> dict[str, Any]:
    schema = {
        "type": "object", "required": ["files", *fields], "properties": {"files": files, **fields},
    }  # fmt: skip
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


_FILE = {"type": "string", "format": "binary"}
FORM_REQUEST = _form({"type": "array", "minItems": 1, "items": _FILE})
EXPLAIN_REQUEST = _form(_FILE, label={"type": "string"})
CALL_REQUEST = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["instances"],
                    "properties": {
                        "signature_name": {"type": "string", "enum": ["serving_default"]},
                        "instances": {"type": "array", "minItems": 1, "items": _BASE64},
                    },
                }
            }
        },
    }
}

_REFUSALS = {
    400: "Not an image that can be read, or not such a request.",
    401: "A token must be shown.",
    403: "Sent by a page that is not this server's.",
    404: "There is no such model.",
    408: "The body took too long.",
    413: "Too many bytes, pixels or images.",
    415: "Another kind of content.",
    421: "Addressed to another host.",
    503: "Loading, or busy; see Retry-After.",
    504: "The answer took too long.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Descriptions of the given refusals, for a route."""
    return {status: {"model": ErrorBody, "description": _REFUSALS[status]} for status in statuses}
