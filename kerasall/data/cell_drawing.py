"""Draws white blood cells, one cut out or several in a field of a smear, by the looks of their class.

A cell is drawn in units of its own diameter, so its looks do not depend on the image's size. The
colour averaged over the whole cell is set last, to the value its stain asks for: whatever the
nucleus and its chromatin look like, area and mean colour of a cell do not follow from them.

Slides (stain, cell size, camera) are drawn alike for all classes, and the cells of a slide differ about
as much as slides do: a few subjects' stains that happen to go with a class do not carry far.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

Range = tuple[float, float]
Cell = tuple[np.ndarray, np.ndarray]
"""Colour float32 [w, w, 3] in 0..255 and coverage float32 [w, w] in 0..1 of one drawn cell."""
_ANGLES = np.linspace(0.0, 2.0 * np.pi, 240, endpoint=False)
_UNIT_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Morphology:
    """What a kind of cell looks like; each pair is the range that subjects and cells are drawn from.

    Attributes:
        nuclear_share: area of the nucleus over area of the cell (nucleus-to-cytoplasm ratio).
        irregularity: relative amplitude of the waves of the nucleus' contour.
        cleft: depth of the nucleus' one indentation in nuclear radii.
        clumping: relative contrast of coarse chromatin blocks; about 0 is fine, open chromatin.
        nucleoli: how many pale nucleoli; the fraction is a chance.
    """

    nuclear_share: Range
    irregularity: Range
    cleft: Range
    clumping: Range
    nucleoli: Range

    def between(self, position: dict[str, float]) -> dict[str, float]:
        """The traits at ``position`` (0 low end, 1 high end) of each range."""
        return {name: low + (high - low) * position[name] for name, (low, high) in self.__dict__.items()}


@dataclass(frozen=True)
class Stain:
    """How a slide was stained and seen; says nothing of the kind of cell.

    Attributes:
        hue, saturation, value: mean colour of a cell (HSV, 0..1).
        contrast: brightness of the cytoplasm over that of the nucleus.
        diameter: diameter of a cell's disc of equal area, as a share of the image's side.
        blur: standard deviation of the optics' blur in cell diameters.
        noise: standard deviation of the camera's noise in grey levels.
    """

    hue: float
    saturation: float
    value: float
    contrast: float
    diameter: float
    blur: float
    noise: float

    def mean_colour(self) -> np.ndarray:
        """Mean RGB of a cell, float32 [3] in 0..255."""
        colour = colorsys.hsv_to_rgb(self.hue % 1.0, self.saturation, self.value)
        return np.array(colour, np.float32) * np.float32(255.0)


def draw_cell(rng: np.random.Generator, traits: dict[str, float], stain: Stain, side: int) -> Cell:
    """Draws one cell on its own canvas.

    Args:
        rng: source of the cell's shape and texture.
        traits: one value for each field of ``Morphology``.
        stain: colour, size and optics; its mean colour is met exactly before rounding.
        side: side of the whole image in pixels; the canvas just holds the cell.

    Returns:
        Its colour, and its coverage with an antialiased edge.
    """
    diameter = stain.diameter * side
    cell_radii = _contour(rng, irregularity=rng.uniform(0.02, 0.06))
    cell = _scaled(cell_radii, np.pi / 4.0)
    width = 2 * int(np.ceil(np.abs(cell).max() * diameter)) + 3  # the outline just fits
    nucleus = _nucleus_outline(rng, cell_radii, traits)
    coverage = _fill(cell, width, diameter)
    inside = _fill(nucleus, width, diameter) * _fill(cell * 0.97, width, diameter)
    chromatin = _chromatin(rng, inside, nucleus, traits, diameter)
    colour = _blend(_cytoplasm(rng, coverage, diameter), chromatin, inside, stain)
    colour = cv2.GaussianBlur(colour, (0, 0), max(stain.blur * diameter, 0.3))
    colour *= cv2.merge([_illumination(rng, width)] * 3)
    # OpenCV's sums run in one fixed order and several times faster than numpy's over these axes.
    covered = cv2.sumElems(cv2.multiply(colour, cv2.merge([coverage] * 3)))[:3]
    seen = np.array(covered, np.float32) / np.float32(cv2.sumElems(coverage)[0])
    return colour * (stain.mean_colour() / seen), coverage


def _contour(rng: np.random.Generator, irregularity: float) -> np.ndarray:
    """Radii [240] of a closed smooth curve about 1: waves 2 to 9, finer ones weaker."""
    waves = np.arange(2, 10)
    amplitude = irregularity * rng.normal(size=waves.size) * (2.0 / waves)
    phase = rng.uniform(0.0, 2.0 * np.pi, waves.size)
    return np.exp(amplitude @ np.cos(np.outer(waves, _ANGLES) + phase[:, None]))


def _scaled(radii: np.ndarray, area: float) -> np.ndarray:
    """Points [240, 2] of the polar curve ``radii``, scaled to enclose ``area`` exactly."""
    x, y = (radii[:, None] * _UNIT_CIRCLE).T
    enclosed = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    return np.stack([x, y], axis=1) * np.sqrt(area / enclosed)


def _nucleus_outline(
    rng: np.random.Generator, cell_radii: np.ndarray, traits: dict[str, float]
) -> np.ndarray:
    share = traits["nuclear_share"]
    turn = (_ANGLES - rng.uniform(0.0, 2.0 * np.pi) + np.pi) % (2.0 * np.pi) - np.pi
    cleft = 1.0 - traits["cleft"] * np.exp(-((turn / rng.uniform(0.2, 0.4)) ** 2))
    # A nucleus that fills its cell takes the cell's shape; a small one is free of it.
    radii = cell_radii**share * _contour(rng, traits["irregularity"]) * cleft
    room = 0.5 * (1.0 - np.sqrt(share))
    direction = rng.uniform(0.0, 2.0 * np.pi)
    offset = rng.uniform(0.1, 0.7) * room * np.array([np.cos(direction), np.sin(direction)])
    return _scaled(radii, share * np.pi / 4.0) + offset


def _fill(outline: np.ndarray, width: int, diameter: float) -> np.ndarray:
    """Coverage [width, width] in 0..1 of an outline given in diameters about the centre."""
    # OpenCV paints the border of a polygon too, half a pixel outside it.
    points = (outline * (diameter - 1.2) + (width - 1) / 2.0) * 2**_SUBPIXEL_BITS
    mask = np.zeros((width, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return mask.astype(np.float32) / np.float32(255.0)


def _noise(rng: np.random.Generator, grains: float, width: int, diameter: float) -> np.ndarray:
    """Smooth noise [width, width], variance about 0.5, with ``grains`` grains along a cell's diameter."""
    step = diameter / grains
    lattice = rng.standard_normal((int(1.5 * width / step) + 4,) * 2, dtype=np.float32)
    # Turned by a random angle: the lattice's axes must not be the image's.
    turn = cv2.getRotationMatrix2D(((lattice.shape[0] - 1) / 2.0,) * 2, rng.uniform(0.0, 90.0), step)
    turn[:, 2] += (width - lattice.shape[0]) / 2.0
    return cv2.warpAffine(lattice, turn, (width, width), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def _chromatin(
    rng: np.random.Generator,
    inside: np.ndarray,
    nucleus: np.ndarray,
    traits: dict[str, float],
    diameter: float,
) -> np.ndarray:
    """Brightness [w, w] of the nucleus about 1: fine grain, clumps, a dark membrane, pale nucleoli."""
    width = inside.shape[0]
    clumps = np.tanh(2.5 * _noise(rng, 11.0, width, diameter))
    brightness = 1.0 + traits["clumping"] * clumps + 0.07 * _noise(rng, 26.0, width, diameter)
    membrane = inside * (1.0 - cv2.GaussianBlur(inside, (0, 0), 0.03 * diameter))
    brightness -= (0.15 + 0.5 * traits["clumping"]) * membrane
    for _ in range(int(traits["nucleoli"] + rng.uniform())):
        brightness += _nucleolus(rng, nucleus, width, diameter)
    return np.maximum(brightness, 0.3)


def _nucleolus(rng: np.random.Generator, nucleus: np.ndarray, width: int, diameter: float) -> np.ndarray:
    """What one nucleolus adds [w, w]: a pale round body in a slightly darker ring."""
    centre = nucleus.mean(axis=0) + rng.uniform(-0.2, 0.2, 2)
    body = centre + rng.uniform(0.05, 0.085) * _contour(rng, 0.06)[:, None] * _UNIT_CIRCLE
    disc = cv2.GaussianBlur(_fill(body, width, diameter), (0, 0), 0.012 * diameter)
    return 0.55 * disc - 0.25 * cv2.GaussianBlur(disc, (0, 0), 0.04 * diameter)


def _cytoplasm(rng: np.random.Generator, coverage: np.ndarray, diameter: float) -> np.ndarray:
    """Brightness [w, w] of the cytoplasm about 1: faint granules, a darker outer edge."""
    edge = 1.0 - cv2.GaussianBlur(coverage, (0, 0), 0.03 * diameter)
    return 1.0 + 0.06 * _noise(rng, 16.0, coverage.shape[0], diameter) - 0.35 * edge


def _blend(cytoplasm: np.ndarray, chromatin: np.ndarray, inside: np.ndarray, stain: Stain) -> np.ndarray:
    """Colours [w, w, 3] up to a factor: both parts share the stain's hue, the cytoplasm is paler and bluer."""
    base = stain.mean_colour()
    channels = []
    for own, absorbs, paler in zip(base, (1.0, 1.3, 0.8), (0.95, 1.25, 1.0), strict=True):
        nucleus = (1.0 + absorbs * (chromatin - 1.0)) * own
        around = cytoplasm * (own * np.float32(paler * stain.contrast))
        channels.append(around + inside * (nucleus - around))
    return cv2.merge(channels)


def _illumination(rng: np.random.Generator, width: int) -> np.ndarray:
    """A slight slope of the light across the canvas, [w, w] about 1."""
    slope_x, slope_y = rng.normal(0.0, 0.06, 2).astype(np.float32)
    position = np.linspace(-1.0, 1.0, width, dtype=np.float32)
    return 1.0 + slope_x * position[None, :] + slope_y * position[:, None]


def draw_cut_out(rng: np.random.Generator, cells: Sequence[Cell], stain: Stain, side: int) -> np.ndarray:
    """One cell in the middle of a black image, as C-NMC shows cells: uint8 [side, side, 3].

    The black is exactly black: noise and blur end at the cell's edge, which a person cut.
    """
    colour, coverage = cells[0]
    cell = _exposed(rng, colour * coverage[..., None], stain) * (coverage > 0.0)[..., None]
    image = np.zeros((side, side, 3), np.uint8)
    rows, columns, own = _overlap(cell.shape[0], (side / 2.0, side / 2.0), side)
    image[rows, columns] = cell[own]
    return image


def draw_field(rng: np.random.Generator, cells: Sequence[Cell], stain: Stain, side: int) -> np.ndarray:
    """Cells among red cells on a light background, as in a blood smear: uint8 [side, side, 3].

    Each cell lies where it overlaps no other, if room is found; the border may cut it.
    """
    image = _red_cells(rng, stain, side)
    apart = max(coverage.shape[0] for _, coverage in cells)
    centres: list[np.ndarray] = []
    for colour, coverage in cells:
        tries = rng.uniform(0.1 * side, 0.9 * side, (50, 2))
        free = [t for t in tries if all(np.hypot(*(t - centre)) > apart for centre in centres)]
        centres.append(free[0] if free else tries[0])
        rows, columns, own = _overlap(coverage.shape[0], tuple(centres[-1]), side)
        weight = coverage[own][..., None]
        image[rows, columns] = image[rows, columns] * (1.0 - weight) + colour[own] * weight
    return _exposed(rng, image, stain)


def _exposed(rng: np.random.Generator, image: np.ndarray, stain: Stain) -> np.ndarray:
    """What a camera makes of an image: noise, rounding, uint8."""
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + np.float32(stain.noise) * noise + 0.5, 0.0, 255.0).astype(np.uint8)


def _overlap(width: int, centre: tuple[float, float], side: int) -> tuple[slice, slice, tuple[slice, slice]]:
    """Rows and columns of the image that a canvas about ``centre`` meets, and the same in the canvas."""
    starts = [round(middle - width / 2.0) for middle in centre]
    rows, columns = (slice(max(start, 0), min(start + width, side)) for start in starts)
    top, left = starts
    own = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    return rows, columns, own


def _red_cells(rng: np.random.Generator, stain: Stain, side: int) -> np.ndarray:
    """A smear without white cells, float32 [side, side, 3]: grey discs, paler in the middle."""
    light = 244.0 - 12.0 * rng.uniform(size=3)
    red, pale = np.zeros((2, side, side), np.uint8)
    scale = side * 2**_SUBPIXEL_BITS
    for x, y, size in rng.uniform(size=(rng.integers(25, 60), 3)):
        centre = (round(x * scale), round(y * scale))
        radius = (0.26 + 0.09 * size) * stain.diameter * scale
        cv2.circle(red, centre, round(radius), 255, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
        cv2.circle(pale, centre, round(0.45 * radius), 255, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
    pale = cv2.min(cv2.GaussianBlur(pale, (0, 0), 0.008 * side), red)
    density = (red.astype(np.float32) * 0.22 - pale.astype(np.float32) * 0.15) / 255.0
    image = light * (1.0 - density[..., None] * np.array([1.0, 1.0, 0.6], np.float32))
    return cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.004 * side)


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
    "hue": (0.775, 0.825), "saturation": (0.58, 0.70), "value": (0.29, 0.36), "contrast": (1.35, 1.65),
    "diameter": (0.42, 0.48), "blur": (0.004, 0.010), "noise": (0.8, 2.5),
}  # fmt: skip
_SMEAR_STAIN: dict[str, Range] = {
    "hue": (0.74, 0.80), "saturation": (0.35, 0.44), "value": (0.63, 0.71), "contrast": (1.25, 1.40),
    "diameter": (0.20, 0.23), "blur": (0.006, 0.012), "noise": (1.0, 3.0),
}  # fmt: skip

_CUT_OUTS = {
    "all": Morphology((0.78, 0.92), (0.025, 0.06), (0.1, 0.4), (0.0, 0.06), (0.8, 2.4)),
    "hem": Morphology((0.50, 0.68), (0.010, 0.025), (0.0, 0.05), (0.2, 0.36), (0.0, 0.1)),
}
_SMEARS = {
    "Benign": Morphology((0.45, 0.60), (0.010, 0.02), (0.0, 0.05), (0.22, 0.36), (0.0, 0.1)),
    "Early": Morphology((0.68, 0.78), (0.015, 0.03), (0.0, 0.10), (0.12, 0.20), (0.0, 0.2)),
    "Pre": Morphology((0.72, 0.85), (0.040, 0.07), (0.3, 0.50), (0.04, 0.10), (0.3, 1.0)),
    "Pro": Morphology((0.84, 0.94), (0.020, 0.04), (0.0, 0.15), (0.00, 0.04), (2.0, 3.0)),
}
KINDS: dict[str, Kind] = {
    "cnmc": Kind(_CUT_OUTS, ("all",), 450, ".bmp", _CUT_OUT_STAIN, cells=(1, 1), scene=draw_cut_out),
    "aria": Kind(_SMEARS, ("Early", "Pre", "Pro"), 224, ".png", _SMEAR_STAIN, cells=(3, 6), scene=draw_field),
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
    drawn = random_stream(seed, "slide", index, member)
    # Stain, cell size and camera of the subject, drawn alike for every class.
    slide = Stain(**{name: drawn.uniform(*limits) for name, limits in kind.stain.items()})
    rng = random_stream(seed, "image", index, member, number)
    cells = [
        draw_cell(rng, _traits(morphology, subject, rng), _jittered(slide, rng), side)
        for _ in range(rng.integers(kind.cells[0], kind.cells[1] + 1))
    ]
    return kind.scene(rng, cells, slide, side)


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
