"""Rendered blood cells: data for demonstrations and tests, with subjects, stains and planted faults.

Classes differ as blasts differ from normal lymphoid cells: in nucleus-to-cytoplasm ratio, contour
and chromatin. Stain, cell size and camera vary by subject and by cell but not by class, and each
cell's mean colour is set to its stain's; so area and mean colour tell nothing of the class.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kerasall.data.cell_drawing import KINDS, Kind, draw_image, random_stream
from kerasall.data.examples import Collection, make_examples
from kerasall.errors import DataError, SettingsError
from kerasall.files import atomic_path, read_json, write_json
from kerasall.runtime import show_progress

MARKER = "synthetic.json"
"""File in a rendered folder that holds the settings it was rendered with."""

_RENDERER = 1  # raise it when the same settings give other pixels: stored folders are then not reused


@dataclass(frozen=True)
class SyntheticSettings:
    """What to render; the same settings give the same bytes.

    Attributes:
        kind: a key of ``KINDS``: "cnmc" (all, hem; one cell on black) or "aria" (four classes, smear).
        subjects_per_class: 1 or more; each subject has one class.
        images_per_subject: mean over subjects; a subject has between half and one and a half of it.
        size: side of an image in pixels, 32 to 2048; None takes the kind's (450, 224).
        seed: 0 or more.
        shuffle_labels: permutes the labels over all images, so that nothing can be learnt: a model
            that scores above chance then has seen its answers.
        exact_copies, near_copies: images (at most a third of a class) repeated under another subject of the class, byte by byte
            or mirrored, turned by a quarter and a little brighter.
        truncated: images whose file ends in the middle.
    """

    kind: str = "cnmc"
    subjects_per_class: int = 16
    images_per_subject: int = 30
    size: int | None = None
    seed: int = 0
    shuffle_labels: bool = False
    exact_copies: int = 0
    near_copies: int = 0
    truncated: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SettingsError(
                f"synthetic.kind must be one of {list(KINDS)}, but is {self.kind!r}: correct it"
            )
        _require("subjects_per_class", self.subjects_per_class, 1, 10_000)
        _require("images_per_subject", self.images_per_subject, 1, 10_000)
        _require("size", self.side, 32, 2048)
        _require("seed", self.seed, 0, 2**63 - 1)
        images = self.subjects_per_class * self.images_per_subject
        for name in ("exact_copies", "near_copies", "truncated"):
            _require(name, getattr(self, name), 0, images // 3)
        if self.subjects_per_class < 2 and self.exact_copies + self.near_copies:
            raise SettingsError(
                "synthetic copies need a second subject of the class, but synthetic.subjects_per_class is 1: raise it"
            )

    @property
    def side(self) -> int:
        """Side of an image in pixels."""
        return KINDS[self.kind].size if self.size is None else self.size


def _require(name: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SettingsError(
            f"synthetic.{name} must be a whole number from {low} to {high}, but is {value!r}: correct it"
        )


@dataclass(frozen=True)
class _Picture:
    """One file to write: whose it is, which cell it shows, and what is wrong with it."""

    subject: str
    number: int
    label: str
    shows: tuple[int, int, int]  # class, subject in it, number: the key of all that is drawn
    flaw: str = ""

    def id(self, kind: Kind) -> str:
        return f"{self.label}/{self.subject}_{self.number:03d}{kind.suffix}"


def render_cells(folder: str | Path, settings: SyntheticSettings, workers: int | None = None) -> Collection:
    """Renders a data set into ``folder``, or reuses what the same settings put there before.

    Files are ``<label>/<subject>_<number>``, beside ``synthetic.json`` with the settings. The folder
    appears complete or not at all.

    Args:
        folder: where the images shall lie; absent, empty, or rendered with the same settings.
        settings: what to render.
        workers: threads; None takes one per core. They do not change a byte.

    Returns:
        The examples with their subjects, and notes on what they are.

    Raises:
        DataError: the folder holds something else, or lacks files it was rendered with.
    """
    folder = Path(folder).resolve()
    pictures = _plan(settings)
    if not _is_rendered(folder, settings, pictures):
        with atomic_path(folder) as temporary:
            _write_pictures(temporary, settings, pictures, workers)
            write_json(temporary / MARKER, _marker(settings))
    return _collection(folder, settings, pictures)


def list_cells(folder: str | Path, settings: SyntheticSettings) -> Collection:
    """What ``render_cells`` would give; nothing is rendered, and no file need exist."""
    return _collection(Path(folder), settings, _plan(settings))


def read_synthetic(path: str | Path) -> Collection:
    """Reads a rendered folder by the settings that it was rendered with."""
    stored = read_json(Path(path) / MARKER).get("settings")
    if not stored:
        raise DataError(
            f"{path}/{MARKER} must hold the settings the cells were rendered with, but holds none: "
            "delete the folder and render again"
        )
    known = [field.name for field in fields(SyntheticSettings)]
    if unknown := sorted(set(stored) - set(known)):
        raise SettingsError(f"settings of rendered cells must be among {known}, but {unknown} are not")
    return render_cells(path, SyntheticSettings(**stored))


def is_synthetic(path: str | Path) -> bool:
    """Whether ``path`` is a folder that ``render_cells`` wrote."""
    return (Path(path) / MARKER).is_file()


def _marker(settings: SyntheticSettings) -> dict[str, Any]:
    return {"renderer": _RENDERER, "settings": asdict(settings)}


def _is_rendered(folder: Path, settings: SyntheticSettings, pictures: list[_Picture]) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not is_synthetic(folder) or read_json(folder / MARKER) != _marker(settings):
        raise DataError(
            f"{folder} must be absent, empty, or hold cells rendered with the same settings, "
            "but holds something else: name another folder or delete this one"
        )
    kind = KINDS[settings.kind]
    if missing := [picture.id(kind) for picture in pictures if not (folder / picture.id(kind)).is_file()]:
        raise DataError(
            f"{folder} must hold {len(pictures)} rendered images, but {len(missing)} are missing, "
            f"first {missing[0]}: delete the folder, it will be rendered again"
        )
    return True


def _collection(folder: Path, settings: SyntheticSettings, pictures: list[_Picture]) -> Collection:
    kind = KINDS[settings.kind]
    rows = [
        {"id": p.id(kind), "path": str(folder / p.id(kind)), "label": p.label, "subject": p.subject}
        for p in pictures
    ]
    notes = ["These are rendered cells, not patients' images: the scores say nothing of any disease."]
    if settings.shuffle_labels:
        notes.append(
            "The labels were permuted over all images on purpose: subjects carry several labels, "
            "and an honest score is chance."
        )
    return Collection(
        source="synthetic",
        root=folder,
        examples=make_examples(sorted(rows, key=lambda row: row["id"])),
        labels=tuple(kind.morphologies),
        malignant=kind.malignant,
        subject_kind="subject",
        notes=tuple(notes),
    )


def _plan(settings: SyntheticSettings) -> list[_Picture]:
    """All files to write, in a fixed order: the images, then the planted copies."""
    classes = range(len(KINDS[settings.kind].morphologies))
    pictures = [picture for index in classes for picture in _class_plan(settings, index)]
    rng = random_stream(settings.seed, "faults")
    order = rng.permutation(len(pictures))
    flaws = ["exact"] * settings.exact_copies + ["near"] * settings.near_copies
    drawn = enumerate(zip(order, flaws, strict=False))
    copies = [_copy(pictures[i], flaw, settings, number) for number, (i, flaw) in drawn]
    for i in order[len(order) - settings.truncated :]:
        pictures[i] = replace(pictures[i], flaw="truncated")
    pictures += copies
    if settings.shuffle_labels:
        labels = rng.permutation([picture.label for picture in pictures])
        pictures = [replace(p, label=str(label)) for p, label in zip(pictures, labels, strict=True)]
    return pictures


def _class_plan(settings: SyntheticSettings, index: int) -> list[_Picture]:
    """The images of one class; every class has as many, spread unevenly over its subjects."""
    kind = KINDS[settings.kind]
    label, classes = list(kind.morphologies)[index], len(kind.morphologies)
    subjects = settings.subjects_per_class
    weight = random_stream(settings.seed, "counts", index).uniform(0.5, 1.5, subjects)
    ends = np.rint(np.cumsum(weight) / weight.sum() * subjects * settings.images_per_subject)
    counts = np.diff(ends.astype(int), prepend=0)
    return [
        _Picture(_name_subject(member, index, classes), number, label, (index, member, number))
        for member, count in enumerate(counts)
        for number in range(1, count + 1)
    ]


def _copy(original: _Picture, flaw: str, settings: SyntheticSettings, number: int) -> _Picture:
    """The same cell under the next subject of its class, numbered above that subject's own images."""
    index, member, _ = original.shows
    classes = len(KINDS[settings.kind].morphologies)
    other = _name_subject((member + 1) % settings.subjects_per_class, index, classes)
    return replace(original, subject=other, number=10_000 + number, flaw=flaw)


def _name_subject(member: int, index: int, classes: int) -> str:
    return f"S{1 + member * classes + index:03d}"


def _write_pictures(
    folder: Path, settings: SyntheticSettings, pictures: list[_Picture], workers: int | None
) -> None:
    kind = KINDS[settings.kind]
    for label in kind.morphologies:
        (folder / label).mkdir(parents=True)

    def write(picture: _Picture) -> None:
        (folder / picture.id(kind)).write_bytes(_encoded(settings, picture))

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for _ in show_progress(pool.map(write, pictures), len(pictures), "rendering cells"):
            pass


def _encoded(settings: SyntheticSettings, picture: _Picture) -> bytes:
    pixels = draw_image(settings.kind, settings.seed, picture.shows, settings.side)
    if picture.flaw == "near":
        brighter = np.minimum(pixels.astype(np.float32) * 1.04, 255.0)
        pixels = np.rot90(brighter.astype(np.uint8)[:, ::-1]).copy()
    _, data = cv2.imencode(KINDS[settings.kind].suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    content = data.tobytes()
    return content[: len(content) // 2] if picture.flaw == "truncated" else content
