"""What lies beside a pushed model: its card, as far as serving reads it, and its manifest.

Whether the parts of a pushed model belong together is asked at load, so that no answer is ever wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, StrictBool, StrictStr, ValidationError

from kerasall.errors import ArtifactError, ModelError, first_fault
from kerasall.files import is_plain, read_json, read_object, sha256_of_file, write_json

CARD = "card.json"
MANIFEST = "manifest.json"
LABELS = "labels.txt"
SCHEMA_VERSION = 1
"""Of the manifest."""
DAMAGED_FILES = (
    "Loaded without kerasall (TensorFlow, TensorFlow Serving), the model answers damaged JPEG files as if they were whole; "
    "kerasall's commands and server refuse them."
)
"""Sentence of every card."""

MOST_BYTES = 8 << 20
"""Of a card, a manifest and a list of labels: those that kerasall writes have some ten thousand."""
_MOST_CLASSES = 4_096
_MOST_ROWS = 1_000
"""Of a list in a card that is walked or shown."""

Shapes = Mapping[str, Sequence[int | None]]

_PER_CLASS = ("probabilities", "calibrated_probabilities", "mean_probabilities", "votes")
_SIZED = ("center_crop", "resize")


class _Operation(BaseModel):
    op: StrictStr


class _Data(BaseModel):
    source: StrictStr = ""
    notes: list[StrictStr] = Field([], max_length=_MOST_ROWS)


class _Safeguards(BaseModel):
    refer_reasons: dict[str, StrictStr] | None = Field(None, max_length=_MOST_ROWS)


class _Results(BaseModel):
    labels: list[StrictStr] | None = Field(None, max_length=_MOST_CLASSES)
    malignant: list[StrictStr] | None = Field(None, max_length=_MOST_CLASSES)


class _Blessing(BaseModel):
    blessed: StrictBool
    caveat: StrictStr = ""
    criteria: list[tuple[StrictStr, StrictBool]] = Field(max_length=_MOST_ROWS)


class _Card(BaseModel):
    """What serving reads of a card; whatever else it holds passes."""

    description: StrictStr = ""
    model: dict[str, Any] | None = None
    preprocess: list[_Operation] | None = Field(None, max_length=_MOST_ROWS)
    data: _Data | None = None
    no_maps: dict[str, StrictStr] | None = Field(None, max_length=_MOST_ROWS)
    safeguards: _Safeguards | None = None
    results: _Results | None = None
    blessing: _Blessing | None = None


def read_card(folder: Path) -> dict[str, Any]:
    """Content of a model's card without what it leaves open; empty where there is none.

    Raises:
        ArtifactError: the card is not JSON, or not made as cards are, or larger than any.
    """
    path = folder / CARD
    if not os.path.lexists(path):
        return {}
    require_small(path)
    card = read_json(path)
    if not is_plain(card):
        raise ArtifactError(
            f"{path} must hold numbers and text, but holds NaN, infinity or half a character: export the model again"
        )
    try:
        _Card.model_validate(card)
    except ValidationError as error:
        raise ArtifactError(
            f"{path} must be a card that kerasall wrote, but {first_fault(error)}: export the model again"
        ) from None
    return {name: value for name, value in card.items() if value is not None}


def require_small(path: Path) -> None:
    """Refuses a file beside a model that is larger than any that kerasall writes, before it is read.

    Raises:
        ArtifactError: it is, or it is no file.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} must be a file, but is missing or none: copy the whole folder again")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ArtifactError(
            f"{path} must have at most {MOST_BYTES:,} bytes, but has {size:,}: export the model again"
        )


def require_same_classes(
    folder: str | Path, labels: Sequence[str], malignant: Sequence[str] | None = None
) -> None:
    """Refuses a model of other classes as the next version of the models in a folder.

    Who serves ``folder`` goes over to its newest version, and would read one class for another.

    Args:
        folder: of numbered versions; it need not exist.
        labels: class names of the new model, in class order.
        malignant: those of them that mean leukaemia; None where that is not known yet.

    Raises:
        ModelError: the newest version has other classes, or another order of them, or other malignant ones.
    """
    versions = [p for p in Path(folder).glob("*") if p.name.isdecimal() and (p / LABELS).is_file()]
    if not versions:
        return
    newest = max(versions, key=lambda path: int(path.name))
    there = [line for line in (newest / LABELS).read_text(encoding="utf-8").splitlines() if line]
    if there != list(labels):
        raise ModelError(
            f"a version of {folder} must have the classes of version {newest.name}, {there}, but has {list(labels)}: "
            "give another --name"
        )
    known = (read_card(newest).get("results") or {}).get("malignant")
    if malignant is not None and known is not None and set(known) != set(malignant):
        raise ModelError(
            f"a version of {folder} must have the malignant classes of version {newest.name}, {known}, but has "
            f"{list(malignant)}: give another --name"
        )


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
    if twice := [label for label in labels if list(labels).count(label) > 1]:
        raise ModelError(
            f"{folder}: labels.txt must name every class once, but names {twice[0]!r} twice: export the model again"
        )
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
    named = list(members) if isinstance(members, Mapping | list) else []
    shape = outputs.get("member_probabilities")
    if not named or (shape is not None and shape[1] == len(named)):
        return
    found = "none" if shape is None else shape[1]
    raise ModelError(
        f"{folder} must hold the {len(named)} members that its card names ({', '.join(map(str, named))}), "
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


def write_manifest(folder: str | Path) -> None:
    """Writes the SHA-256 of every file below ``folder`` into its manifest.json."""
    folder = Path(folder)
    hashes = {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in _list_files(folder)}
    write_json(folder / MANIFEST, {"schema_version": SCHEMA_VERSION, "files": hashes})


def verify_manifest(folder: str | Path) -> None:
    """Compares every file below ``folder`` with its manifest.

    Raises:
        ArtifactError: naming the first file that is missing, changed, or not listed, or a link that leads out of the
            folder; or the manifest, if it is none.
    """
    folder = Path(folder)
    expected = read_manifest(folder)
    present = {path.relative_to(folder).as_posix() for path in _list_files(folder)}
    for name in sorted(present - set(expected)):
        raise ArtifactError(f"{folder / name} is not in the manifest: remove it, or export the model again")
    for name, digest in expected.items():
        if name not in present:
            raise ArtifactError(
                f"{folder / name} is in the manifest, but missing: copy the whole folder again"
            )
        if sha256_of_file(folder / name) != digest:
            raise ArtifactError(
                f"{folder / name} must have SHA-256 {digest[:12]}..., but was changed: copy the whole folder again"
            )


def read_manifest(folder: str | Path) -> dict[str, str]:
    """SHA-256 of the files of a model by their paths inside it, as its manifest states them.

    Raises:
        ArtifactError: there is no manifest, or it is none.
    """
    path = Path(folder) / MANIFEST
    manifest: Any = None
    if path.is_file():
        require_small(path)
        manifest = read_object(path)
    files = manifest.get("files") if manifest else None
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise ArtifactError(
            f"{path} must be the manifest that was exported with the model, but is missing or of another make: "
            "copy the whole folder again"
        )
    return files


def _list_files(folder: Path) -> list[Path]:
    """The files of a model.

    Raises:
        ArtifactError: a link leads out of the folder, or something is neither file nor folder.
    """
    return sorted(path for path in _walk(folder) if path != folder / MANIFEST)


def _walk(folder: Path) -> Iterator[Path]:
    inside = os.path.realpath(folder)
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in [*folders, *files]):
            # Not Path.resolve, which ends at a link to itself.
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
                raise ArtifactError(
                    f"{path} must lie in the model's folder, but is a link to {os.readlink(path)}: put the file itself "
                    "there (cp -rL copies a folder so)"
                )
            if path.is_file():
                yield path
            elif not path.is_dir():
                raise ArtifactError(
                    f"{path} must be a file, but is none: remove it, or export the model again"
                )
