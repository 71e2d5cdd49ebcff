"""Pusher: a blessed SavedModel, its card and its report go to ``savedmodels/<name>/<version>``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Annotated, Any

from kerasall.components.exporter import MODEL
from kerasall.data.statistics import SEEN
from kerasall.errors import ArtifactError, ModelError
from kerasall.files import (
    atomic_path,
    read_json,
    sha256_of_file,
    sha256_of_folder,
    sha256_of_json,
    write_json,
)
from kerasall.locks import locked
from kerasall.pipeline.component import Input, Output, component
from kerasall.serving.card import (
    CARD,
    MANIFEST,
    read_card,
    read_manifest,
    require_same_classes,
    verify_manifest,
    write_manifest,
)
from kerasall.serving.predictor import read_labels
from kerasall.shown_text import tell

PUSHED = "pushed.json"
"""File of a Pushed: where the model lies, and the SHA-256 of its manifest."""
VERDICT = "verdict.json"
"""File of a Report: blessed, what the verdict says of unknown patients, and every criterion as (sentence, met), for
the card."""


def still_pushed(outputs: Mapping[str, Path]) -> bool:
    """Whether what an earlier run pushed still lies, whole, where it was put."""
    pushed = read_json(outputs["pushed"] / PUSHED)
    return pushed["path"] is None or _is_whole(Path(pushed["path"]), pushed["manifest"])


def _is_whole(folder: Path, manifest: str) -> bool:
    """Whether a pushed model is the one whose manifest has this SHA-256, file by file."""
    try:
        verify_manifest(folder)
        return sha256_of_file(folder / MANIFEST) == manifest
    except (ArtifactError, OSError):
        return False


def _is_pushed(folder: Path, exported: Mapping[str, str], origin: str) -> bool:
    """Whether an export already lies in this folder, whole; where it does and was changed since, that is told."""
    try:
        stated = read_card(folder).get("origin")
        if stated not in (origin, None):
            return False
        verify_manifest(folder)
        if read_manifest(folder).items() >= exported.items():
            return stated == origin
        fault = "" if stated is None else f"{folder} is no longer what was pushed there"
    except (ArtifactError, OSError) as error:
        fault = str(error)
    if fault:
        tell(f"{fault}; it is left as it is, and the next number is taken")
    return False


@component(still_valid=still_pushed)
def pusher(
    saved_model: Annotated[Path, Input("SavedModel")],
    evaluation: Annotated[Path, Input("Evaluation")],
    blessing: Annotated[Path, Input("Blessing")],
    report: Annotated[Path, Input("Report", keyed=False)],
    name: str,
    force: bool,
    destination: str,
    pushed: Annotated[Path, Output("Pushed")],
) -> dict[str, Any]:
    """Copies the model under the next version number of ``name``, if it is blessed or ``force`` is set.

    A model of other classes than the versions that are there never becomes one of them: it goes to ``name``-2, -3, ...

    A model that is pushed without a blessing says so in its card. The report goes along as it reads now; one that
    only reads otherwise later makes no new version.
    """
    verdict = read_json(blessing / "blessing.json")
    if not (verdict["blessed"] or force):
        write_json(pushed / PUSHED, {"path": None, "blessed": False, "forced": False})
        return {"pushed": False}
    card = read_json(evaluation / CARD)
    parent = _with_these_classes(
        Path(destination), name, read_labels(saved_model / MODEL), card["results"]["malignant"]
    )
    folder = _push(saved_model / MODEL, evaluation, report, verdict, parent)
    forced = not verdict["blessed"]
    told = {"path": str(folder), "blessed": verdict["blessed"], "forced": forced}
    write_json(pushed / PUSHED, told | {"manifest": sha256_of_file(folder / MANIFEST)})
    return {"pushed": True, "path": str(folder), "forced": forced}


def _with_these_classes(models: Path, name: str, labels: Sequence[str], malignant: Sequence[str]) -> Path:
    """The folder of that name, or the first counted up whose models have the same classes."""
    for number in count(1):
        folder = models / (f"{name}-{number}" if number > 1 else name)
        try:
            require_same_classes(folder, labels, malignant)
        except (ModelError, ArtifactError) as error:  # or what lies there cannot be told
            tell(f"{error}; for this one a name is counted up")
            continue
        return folder
    raise AssertionError  # numbers do not end


def _require_copied(copy: Path, model: Path) -> None:
    """What is pushed must be what was exported, and not what a disk made of it meanwhile."""
    try:
        verify_manifest(copy)
    except ArtifactError as error:
        raise ArtifactError(str(error).replace(str(copy), str(model))) from None


def _push(model: Path, evaluation: Path, report: Path, verdict: dict[str, Any], parent: Path) -> Path:
    origin = sha256_of_json([sha256_of_file(model / MANIFEST), sha256_of_folder(evaluation), verdict])
    verdicts = {"blessing": read_json(report / VERDICT), "forced": not verdict["blessed"]}
    exported = read_manifest(model)
    parent.mkdir(parents=True, exist_ok=True)
    # Two runs that push to one name must not take the same number.
    with locked(parent.with_name(f".{parent.name}.lock")):
        versions = sorted((p for p in parent.glob("*") if p.name.isdecimal()), key=lambda p: int(p.name))
        for folder in versions:
            # A push that was killed before its step was noted down is found again, not repeated.
            if _is_pushed(folder, exported, origin):
                return folder
        folder = parent / str(int(versions[-1].name) + 1 if versions else 1)
        card = read_json(evaluation / CARD) | verdicts | {"version": folder.name, "origin": origin}
        with atomic_path(folder) as temporary:
            shutil.copytree(model, temporary, symlinks=True)
            _require_copied(temporary, model)
            shutil.copyfile(report / "report.html", temporary / "report.html")
            shutil.copyfile(evaluation / SEEN, temporary / SEEN)
            write_json(temporary / CARD, card)
            write_manifest(temporary)
    return folder
