"""Whether the parts of a pushed model belong together; asked at load, so that no answer is ever wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasall.errors import ModelError

_PER_CLASS = ("probabilities", "calibrated_probabilities", "mean_probabilities", "votes")
_SIZED = ("center_crop", "resize")

Shapes = Mapping[str, Sequence[int | None]]


def require_fitting(
    folder: Path,
    labels: Sequence[str],
    outputs: Shapes,
    pixels: Sequence[int | None] | None,
    card: Mapping[str, Any],
) -> None:
    """Compares the labels, the card and the graph with one another.

    Args:
        folder: named in messages.
        labels: class names of labels.txt.
        outputs: shapes of the signature's outputs by name, the batch first.
        pixels: [None, H, W, 3] that ``serving_pixels`` takes; None where there is no such signature.
        card: content of card.json; empty where there is none.

    Raises:
        ModelError: an output that is missing or of another number of classes, another order of the
            classes, a missing member, another size of images.
    """
    _require_classes(folder, labels, outputs)
    told = (card.get("results") or {}).get("labels")
    if told is not None and list(told) != list(labels):
        raise ModelError(
            f"{folder}: labels.txt must name the classes in the card's order, {list(told)}, but names "
            f"{list(labels)}: copy the whole folder again"
        )
    _require_members(folder, outputs, card)
    _require_size(folder, pixels, card.get("preprocess") or [])


def _require_classes(folder: Path, labels: Sequence[str], outputs: Shapes) -> None:
    for name in ("probabilities", "label_index"):
        if name not in outputs:
            raise ModelError(
                f"{folder} must give {name}, but gives {sorted(outputs)}: export the model again"
            )
    counts = {name: outputs[name][-1] for name in (*_PER_CLASS, "member_probabilities") if name in outputs}
    for name, count in counts.items():
        if count != len(labels):
            raise ModelError(
                f"{folder}: labels.txt must name {count} classes, but names {len(labels)} "
                f"({name} has {count}): copy the whole folder again"
            )


def _require_members(folder: Path, outputs: Shapes, card: Mapping[str, Any]) -> None:
    model = card.get("model")
    members = model.get("members") if isinstance(model, Mapping) else None
    shape = outputs.get("member_probabilities")
    if (
        not isinstance(members, Mapping | list)
        or not members
        or (shape is not None and shape[1] == len(members))
    ):
        return
    found = "none" if shape is None else shape[1]
    raise ModelError(
        f"{folder} must hold the {len(members)} members that its card names ({', '.join(members)}), "
        f"but holds {found}: export the ensemble again"
    )


def _require_size(
    folder: Path, pixels: Sequence[int | None] | None, preprocess: Sequence[Mapping[str, Any]]
) -> None:
    if pixels is None or not preprocess or preprocess[-1].get("op") not in _SIZED:
        return
    made = (preprocess[-1].get("height"), preprocess[-1].get("width"))
    if tuple(pixels[1:3]) != made:
        raise ModelError(
            f"{folder}: the model takes images of {pixels[1]} x {pixels[2]} pixels, but the card's last "
            f"operation makes {made[0]} x {made[1]}: copy the whole folder again"
        )
