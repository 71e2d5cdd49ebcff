"""What the model says of an image, as JSON that a person can read.

The map of an explanation as pictures: grey for programs, in colours over the image for people.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from kerasall.evaluation.safeguards import REASONS
from kerasall.serving.card import read_card
from kerasall.serving.predictor import Predictor

_COLOURS = np.array(
    [[0, 0, 4], [60, 9, 101], [130, 37, 103], [202, 70, 65], [245, 125, 21], [250, 193, 39], [252, 255, 164]],
    np.float32,
)

"""From little to much evidence; evenly growing in lightness, so that it reads without colours too."""


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


INTENDED_USE = "Research use only: not a diagnostic device."


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


@dataclass(frozen=True)
class ModelFacts:
    """What a reader of answers must know of the model.

    Attributes:
        name: of the experiment: the folder above the version's.
        version: number of the push.
        labels: class names in class order.
        members: names of an ensemble's members, in order; empty for a single network.
        outputs: names of the model's outputs.
        explains: whether the model can say where it looked.
        card: content of card.json; empty where there is none.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    members: tuple[str, ...]
    outputs: frozenset[str]
    explains: bool
    card: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """For ``GET /v1/model``."""
        results, blessing = self.card.get("results", {}), self.card.get("blessing")
        return {
            "name": self.name,
            "version": self.version,
            "description": self.card.get("description", ""),
            "labels": list(self.labels),
            "malignant": list(results.get("malignant") or []),
            "members": list(self.members),
            "probabilities": self.probability_kind,
            "refers": "refer" in self.outputs,
            "explains": self.explains,
            "data": {"source": "unknown", "notes": [], **self.card.get("data", {})},
            "blessed": blessing["blessed"] if blessing else None,
            "criteria_not_met": [text for text, met in blessing["criteria"] if not met] if blessing else [],
            "intended_use": INTENDED_USE,
        }

    @property
    def probability_kind(self) -> str:
        """What the number shown as probability is: calibrated, not calibrated, or a share of votes."""
        if "calibrated_probabilities" in self.outputs:
            return "calibrated"
        rule = (_member_part(self.card).get("ensemble") or {}).get("rule")
        return "vote_share" if rule == "majority_vote" else "not_calibrated"


def read_facts(predictor: Predictor) -> ModelFacts:
    """Gathers the facts of a loaded model from its folder's name, its card and its signatures."""
    folder = predictor.folder.resolve()
    card = read_card(folder)
    name, version = (folder.parent.name, folder.name) if folder.name.isdigit() else (folder.name, "1")
    return ModelFacts(
        name, version, predictor.labels, _members(predictor, card), frozenset(predictor.output_shapes),
        "explain" in predictor.signatures, card,
    )  # fmt: skip


def _members(predictor: Predictor, card: Mapping[str, Any]) -> tuple[str, ...]:
    shape = predictor.output_shapes.get("member_probabilities")
    if shape is None:
        return ()
    names = tuple(_member_part(card).get("members") or ())
    return names if len(names) == shape[1] else tuple(f"member {k + 1}" for k in range(shape[1] or 0))


def _member_part(card: Mapping[str, Any]) -> Mapping[str, Any]:
    model = card.get("model")
    return model if isinstance(model, Mapping) else {}


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
        described["members"] = [
            {"name": name, "label": labels[int(row.argmax())], "probabilities": _by_label(labels, row)}
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
        found["refer_reason"] = _reason(outputs.get("refer_reason"), facts.card)
    return found


def _reason(code: np.ndarray | None, card: Mapping[str, Any]) -> str:
    """The words for a code of ``refer_reason``: those of the model's card, as later versions may say more."""
    if code is None:
        return ""
    words = {str(key): words for key, words in REASONS.items()}
    words |= (card.get("safeguards") or {}).get("refer_reasons") or {}
    return words.get(str(int(code)), f"reason {int(code)}")
