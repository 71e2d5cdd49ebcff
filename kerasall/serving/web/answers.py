"""What the model says of an image, and what a reader must know of the model: as JSON that a person can read.

The classes called bodies are what the OpenAPI document describes. The map of an explanation becomes pictures: grey for
programs, in colours over the image for people.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from kerasall.evaluation.ensemble_rules import find_highest
from kerasall.evaluation.safeguards import REASONS
from kerasall.serving.card import Shapes, read_card
from kerasall.serving.predictor import Predictor, version_folder

INTENDED_USE = "Research use only: not a diagnostic device."

_COLOURS = np.array(
    [[0, 0, 4], [60, 9, 101], [130, 37, 103], [202, 70, 65], [245, 125, 21], [250, 193, 39], [252, 255, 164]],
    np.float32,
)
"""From little to much evidence; evenly growing in lightness, so that it reads without colours too."""

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

    model: ModelName
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
    no_maps: dict[str, str] = Field(
        default={},
        description="Networks whose map is missing where it looked, and why; of an ensemble members.",
    )
    data: dict[str, Any]
    blessed: bool | None
    criteria_not_met: list[str]
    caveat: str = Field(
        description="What stands in the place of patients that are not known; empty where they are."
    )
    intended_use: str
    newer: str = Field(
        default="", description="What is to say of a newer version that does not answer; empty without one."
    )


class ModelFacts(ModelBody):
    """The same, and what answers are put into words with.

    Attributes:
        name: of the experiment: the folder above the version's.
        version: number of the push.
        labels: class names in class order.
        members: names of an ensemble's members, in order; empty for a single network.
        probabilities: what the number shown as probability is.
        refer_reasons: code of ``refer_reason`` -> words: the model's own, as later versions may say more.
    """

    refer_reasons: dict[str, str] = Field(exclude=True)


@dataclass(frozen=True)
class Answer:
    """One image's answer.

    Attributes:
        name: what the client called the image.
        error: why there is none; "" where there is one.
        outputs: what the model says by name, one row each.
    """

    name: str
    error: str = ""
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)


def read_facts(predictor: Predictor) -> ModelFacts:
    """Gathers the facts of a loaded model from its folder's name, its card and its signatures."""
    folder, outputs = version_folder(predictor.folder), predictor.output_shapes
    card = read_card(folder)
    model, blessing = card.get("model", {}), card.get("blessing")
    reasons = {str(code): words for code, words in REASONS.items()}
    return ModelFacts(
        name=folder.parent.name if folder.name.isdecimal() else folder.name,
        version=folder.name if folder.name.isdecimal() else "1",
        description=card.get("description", ""),
        labels=list(predictor.labels),
        malignant=card.get("results", {}).get("malignant") or [],
        members=_name_members(outputs, model),
        probabilities=_kind_of_probabilities(outputs, model),
        refers="refer" in outputs,
        explains="explain" in predictor.interface,
        no_maps=card.get("no_maps") or {},
        data={"source": "unknown", "notes": [], **card.get("data", {})},
        blessed=blessing["blessed"] if blessing else None,
        criteria_not_met=[text for text, met in blessing["criteria"] if not met] if blessing else [],
        caveat=(blessing or {}).get("caveat", ""),
        intended_use=INTENDED_USE,
        refer_reasons=reasons | (card.get("safeguards", {}).get("refer_reasons") or {}),
    )


def _name_members(outputs: Shapes, model: Mapping[str, Any]) -> list[str]:
    count = outputs.get("member_probabilities", (None, 0))[1] or 0
    names = [str(name) for name in model.get("members") or ()]
    return names if len(names) == count else [f"member {k + 1}" for k in range(count)]


def _kind_of_probabilities(outputs: Shapes, model: Mapping[str, Any]) -> str:
    if "calibrated_probabilities" in outputs:
        return "calibrated"
    rule = (model.get("ensemble") or {}).get("rule")
    return "vote_share" if rule == "majority_vote" else "not_calibrated"


def describe_answer(answer: Answer, facts: ModelFacts) -> dict[str, Any]:
    """One item of ``results``; an image that could not be read has its name and the error."""
    if answer.error:
        return {"name": answer.name, "error": answer.error}
    outputs, labels = answer.outputs, facts.labels
    index = int(outputs["label_index"])
    shown = outputs.get("calibrated_probabilities", outputs["probabilities"])
    described: dict[str, Any] = {
        "name": answer.name,
        "label": labels[index],
        "label_index": index,
        "probability": float(shown[index]),
        "probabilities": _by_label(labels, outputs["probabilities"]),
    }
    for name in ("calibrated_probabilities", "mean_probabilities", "votes"):
        if name in outputs:
            described[name] = _by_label(labels, outputs[name])
    if "member_probabilities" in outputs:
        malignant = [labels.index(name) for name in facts.malignant if name in labels]
        described["members"] = [
            {
                "name": name,
                "label": labels[int(find_highest(np, row, malignant))],
                "probabilities": _by_label(labels, row),
            }
            for name, row in zip(facts.members, outputs["member_probabilities"], strict=True)
        ]
    return described | _referral(outputs, facts)


def _by_label(labels: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(labels, np.asarray(values).tolist(), strict=True))


def _referral(outputs: Mapping[str, np.ndarray], facts: ModelFacts) -> dict[str, Any]:
    """Whether a person should look, why, and what that rests on; each where the model says it."""
    found: dict[str, Any] = {}
    if "prediction_set" in outputs:
        members = np.asarray(outputs["prediction_set"])
        found["prediction_set"] = [label for label, kept in zip(facts.labels, members, strict=True) if kept]
    if "domain_distance" in outputs:
        found["domain_distance"] = float(outputs["domain_distance"])
    if "refer" in outputs:
        found["refer"] = bool(outputs["refer"])
        code = outputs.get("refer_reason")
        found["refer_reason"] = (
            "" if code is None else facts.refer_reasons.get(str(int(code)), f"reason {int(code)}")
        )
    return found


def draw_explanation(pixels: np.ndarray, heatmap: np.ndarray) -> dict[str, Any]:
    """Pictures of one image's map.

    Args:
        pixels: uint8 [H, W, 3], what the model was shown.
        heatmap: float32 [H, W] in 0..1.

    Returns:
        ``picture``, ``heatmap`` (grey, 255 where the map is 1) and ``overlay`` as base64 of PNG files, and
        ``has_evidence``, false where the map is zero throughout.
    """
    shares = np.clip(heatmap, 0, 1)
    grey = np.round(255 * shares).astype(np.uint8)
    return {
        "has_evidence": bool(heatmap.max() > 0),
        "picture": _png(pixels),
        "heatmap": _png(grey),
        "overlay": _png(_blend(pixels, shares)),
    }


def _blend(pixels: np.ndarray, shares: np.ndarray) -> np.ndarray:
    positions = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(shares, positions, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    strength = 0.65 * np.sqrt(shares)[..., None]  # where there is no evidence the image stays as it is
    return np.round((1 - strength) * pixels + strength * colours).astype(np.uint8)


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode("ascii")
