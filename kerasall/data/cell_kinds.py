"""The kinds of rendered data sets: the looks of each class, and how slides, subjects and cells vary.

Slides (stain, cell size, camera) are drawn alike for all classes, and the cells of a slide differ about
as much as slides do: a few subjects' stains that happen to go with a class do not carry far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from kerasall.data.cell_drawing import Cell, Morphology, Range, Stain, draw_cell, draw_cut_out, draw_field


@dataclass(frozen=True)
class Kind:
    """One sort of rendered data set.

    Attributes:
        morphologies: class name -> looks of its cells, in class order.
        malignant: the class names that mean leukaemia.
        size: side of an image in pixels unless the settings say otherwise.
        suffix: file format by its suffix; lossless.
        stain: name of a ``Stain`` field -> range the subjects' slides are drawn from.
        cells: fewest and most white cells in an image.
        scene: how the cells of an image are laid out.
    """

    morphologies: dict[str, Morphology]
    malignant: tuple[str, ...]
    size: int
    suffix: str
    stain: dict[str, Range]
    cells: tuple[int, int]
    scene: Callable[[np.random.Generator, Sequence[Cell], Stain, int], np.ndarray]


_CUT_OUT_STAIN: dict[str, Range] = {
    "hue": (0.775, 0.825),
    "saturation": (0.58, 0.70),
    "value": (0.29, 0.36),
    "contrast": (1.35, 1.65),
    "diameter": (0.42, 0.48),
    "blur": (0.004, 0.010),
    "noise": (0.8, 2.5),
}
_SMEAR_STAIN: dict[str, Range] = {
    "hue": (0.74, 0.80),
    "saturation": (0.35, 0.44),
    "value": (0.63, 0.71),
    "contrast": (1.25, 1.40),
    "diameter": (0.20, 0.23),
    "blur": (0.006, 0.012),
    "noise": (1.0, 3.0),
}

KINDS: dict[str, Kind] = {
    "cnmc": Kind(
        morphologies={
            "all": Morphology((0.78, 0.92), (0.025, 0.06), (0.1, 0.4), (0.0, 0.06), (0.8, 2.4)),
            "hem": Morphology((0.50, 0.68), (0.010, 0.025), (0.0, 0.05), (0.2, 0.36), (0.0, 0.1)),
        },
        malignant=("all",),
        size=450,
        suffix=".bmp",
        stain=_CUT_OUT_STAIN,
        cells=(1, 1),
        scene=draw_cut_out,
    ),
    "aria": Kind(
        morphologies={
            "Benign": Morphology((0.45, 0.60), (0.010, 0.02), (0.0, 0.05), (0.22, 0.36), (0.0, 0.1)),
            "Early": Morphology((0.68, 0.78), (0.015, 0.03), (0.0, 0.10), (0.12, 0.20), (0.0, 0.2)),
            "Pre": Morphology((0.72, 0.85), (0.040, 0.07), (0.3, 0.50), (0.04, 0.10), (0.3, 1.0)),
            "Pro": Morphology((0.84, 0.94), (0.020, 0.04), (0.0, 0.15), (0.00, 0.04), (2.0, 3.0)),
        },
        malignant=("Early", "Pre", "Pro"),
        size=224,
        suffix=".png",
        stain=_SMEAR_STAIN,
        cells=(3, 6),
        scene=draw_field,
    ),
}
"""The sorts of rendered data sets; a further one is a further row."""


def random_stream(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """A stream of its own for each purpose and key: no order of work changes what it gives."""
    return np.random.default_rng([seed, *purpose.encode(), 0, *key])


def draw_image(kind_name: str, seed: int, shows: tuple[int, int, int], side: int) -> np.ndarray:
    """Draws one image, a pure function of its arguments.

    Args:
        kind_name: a key of ``KINDS``.
        seed: the data set's seed, 0 or more.
        shows: number of the class, of the subject in it, and of the image; together they name a cell.
        side: side of the image in pixels.

    Returns:
        RGB uint8 [side, side, 3].
    """
    index, member, number = shows
    kind = KINDS[kind_name]
    morphology = list(kind.morphologies.values())[index]
    subject = random_stream(seed, "subject", index, member).uniform(size=len(fields(Morphology)))
    slide = _slide(kind, random_stream(seed, "slide", index, member))
    rng = random_stream(seed, "image", index, member, number)
    cells = [
        draw_cell(rng, _traits(morphology, subject, rng), _jittered(slide, rng), side)
        for _ in range(rng.integers(kind.cells[0], kind.cells[1] + 1))
    ]
    return kind.scene(rng, cells, slide, side)


def _slide(kind: Kind, rng: np.random.Generator) -> Stain:
    """Stain, cell size and camera of one subject, drawn alike for every class."""
    return Stain(**{name: rng.uniform(*limits) for name, limits in kind.stain.items()})


def _jittered(slide: Stain, rng: np.random.Generator) -> Stain:
    """The stain of one cell: cells of a slide differ in colour and size too."""
    hue, saturation, value, diameter = rng.normal(0.0, (0.015, 0.06, 0.12, 0.08)).tolist()
    return replace(
        slide,
        hue=slide.hue + hue,
        saturation=min(slide.saturation * math.exp(saturation), 0.95),
        value=min(slide.value * math.exp(value), 0.95),
        diameter=slide.diameter * math.exp(diameter),
    )


def _traits(morphology: Morphology, subject: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Traits of one cell: half its subject's place in the range of the class, half its own."""
    position = 0.5 * subject + 0.5 * rng.uniform(size=subject.size)
    names = (field.name for field in fields(Morphology))
    return morphology.between(dict(zip(names, position.tolist(), strict=True)))
