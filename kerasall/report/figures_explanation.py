"""Pictures of explanations: an image beside and under its map, and many of them on one page.

Panels are laid out in whole pixels, so that an image is shown in its own pixels, or a whole multiple
of them where it is small, and never resampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from kerasall.report.figures_style import INK, MUTED, STYLE, plot_text

DOTS_PER_INCH = 100
"""Of the figures made here: save them with it, and an image's pixels are the file's."""
_LEAST_PANEL = 224
_GAP, _MARGIN, _TITLE, _HEAD, _BAR = 12, 14, 20, 54, 92
_COLORS = matplotlib.colormaps["inferno"]
_MOST_COVER = 0.65
"""Opacity of the map over the image where it is 1."""


@dataclass(frozen=True, eq=False)
class ExplainedImage:
    """One image with its map, ready to be drawn.

    Attributes:
        title: for example the file's name.
        words: what was called with which probability, what is explained, and by which method.
        pixels: uint8 [H, W, 3], after the chain.
        heatmap: float [H, W] in 0..1.
        members: (name and weight, map [H, W]) of each member of an ensemble; empty for one network.
        evidence: whether anything speaks for the class; if not, the maps are zero and the figure says so.
    """

    title: str
    words: str
    pixels: np.ndarray
    heatmap: np.ndarray
    members: tuple[tuple[str, np.ndarray], ...] = ()
    evidence: bool = True


def overlay(pixels: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """The map over the image, the more opaque the higher it is: uint8 [H, W, 3]."""
    cover = _MOST_COVER * np.clip(heatmap, 0, 1)[..., None]
    colors = _COLORS(heatmap)[..., :3] * 255
    return np.round(pixels * (1 - cover) + colors * cover).astype(np.uint8)


def draw_explanation(image: ExplainedImage) -> tuple[Figure, str]:
    """Image, map with its scale, and map over the image; below them the members' maps.

    Returns:
        The figure, to be saved at ``DOTS_PER_INCH``, and its alternative text.
    """
    height, width = _panel_size(image.pixels)
    panels = [
        ("image as the model sees it", image.pixels),
        ("map", image.heatmap),
        ("map over the image", overlay(image.pixels, image.heatmap)),
    ]
    panels += [(name, overlay(image.pixels, heatmap)) for name, heatmap in image.members]
    rows = math.ceil(len(panels) / 3)
    page = _Page(2 * _MARGIN + 3 * width + 2 * _GAP + _BAR, _HEAD + rows * (_TITLE + height + _GAP) + _MARGIN)
    page.write(_MARGIN, 22, _shorten(image.title, page.width), size=10, weight="bold")
    page.write(_MARGIN, 41, _shorten(image.words, page.width), size=9)
    for index, (title, content) in enumerate(panels):
        left = _MARGIN + (index % 3) * (width + _GAP)
        top = _HEAD + _TITLE + (index // 3) * (_TITLE + height + _GAP)
        page.write(left, top - 6, _shorten(title, width), size=8, color=MUTED)
        _show(page.panel(left, top, width, height), content)
        if index == 1 and not image.evidence:
            page.write(left + 8, top + height // 2, "no positive evidence", size=9, color="white")
    page.add_scale(_MARGIN + 3 * (width + _GAP), _HEAD + _TITLE, height)
    return page.figure, describe_explanation(image)


def describe_explanation(image: ExplainedImage) -> str:
    """Alternative text: what is explained, and where the map is highest."""
    if not image.evidence:
        return f"{image.title}: {image.words}. No positive evidence for the class in this image."
    row, column = np.unravel_index(int(image.heatmap.argmax()), image.heatmap.shape)
    down = ("top", "middle", "bottom")[min(2, 3 * int(row) // image.heatmap.shape[0])]
    across = ("left", "centre", "right")[min(2, 3 * int(column) // image.heatmap.shape[1])]
    return (
        f"{image.title}: {image.words}. The map is highest at row {row + 1}, column {column + 1} ({down} {across}) "
        f"and covers {100 * float((image.heatmap >= 0.5).mean()):.0f}% of the image at half its height or more."
    )


def draw_explanation_grid(images: Sequence[ExplainedImage], panel: int = 160) -> tuple[Figure, str]:
    """Many images, each beside its map; of an ensemble one row an image with every member's map.

    Args:
        images: at least one; of one model.
        panel: side of a panel in pixels.

    Returns:
        The figure, to be saved at ``DOTS_PER_INCH``, and its alternative text.
    """
    pairs = 1 if images[0].members else min(3, len(images))
    panels_each = 2 + len(images[0].members)
    block = panels_each * panel + (panels_each - 1) * 4
    head = _TITLE if images[0].members else 0
    line = 30 + panel + _GAP
    rows = math.ceil(len(images) / pairs)
    page = _Page(2 * _MARGIN + pairs * block + (pairs - 1) * 2 * _GAP, _MARGIN + head + rows * line)
    for index, name in enumerate(
        ["image", *(name.split(" · ")[0] for name, _ in images[0].members), "all"] if head else []
    ):
        left = _MARGIN + index * (panel + 4)
        page.write(left, _MARGIN + 8, _shorten(name, panel), size=8, weight="bold")
    for index, image in enumerate(images):
        left = _MARGIN + (index % pairs) * (block + 2 * _GAP)
        top = _MARGIN + head + (index // pairs) * line
        _draw_row(page, image, left, top, panel, block)
    what = "its members' maps and their weighted mean" if images[0].members else "its map"
    return page.figure, f"{len(images)} images, each beside {what}. " + " ".join(
        describe_explanation(image) for image in images
    )


def _draw_row(page: _Page, image: ExplainedImage, left: int, top: int, panel: int, block: int) -> None:
    page.write(left, top + 10, _shorten(image.title, block), size=7.5, weight="bold")
    words = image.words if image.evidence else f"no positive evidence; {image.words}"
    page.write(left, top + 23, _shorten(words, block), size=7)
    maps = [*(heatmap for _, heatmap in image.members), image.heatmap]
    contents = [image.pixels, *(overlay(image.pixels, heatmap) for heatmap in maps)]
    for index, content in enumerate(contents):
        _show(page.panel(left + index * (panel + 4), top + 30, panel, panel), content)


class _Page:
    """A figure that is measured in pixels from its upper left corner."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DOTS_PER_INCH, height / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
        self.figure.set_facecolor("white")

    def panel(self, left: int, top: int, width: int, height: int) -> Axes:
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def write(
        self, left: int, base: int, text: str, size: float, color: str = INK, weight: str = "normal"
    ) -> None:
        with matplotlib.rc_context(STYLE):
            self.figure.text(
                left / self.width,
                1 - base / self.height,
                plot_text(text, 1000),
                fontsize=size,
                color=color,
                weight=weight,
            )

    def add_scale(self, left: int, top: int, height: int) -> None:
        with matplotlib.rc_context(STYLE):
            scale = ScalarMappable(Normalize(0, 1), _COLORS)
            bar = self.figure.colorbar(scale, cax=self.panel(left, top, 12, height))
            bar.set_label("evidence for the class\n(1 = the map's peak)", fontsize=7.5)
            bar.ax.tick_params(labelsize=7)


def _panel_size(pixels: np.ndarray) -> tuple[int, int]:
    """Height and width of a panel: the image's own, or the smallest multiple that leaves room for words."""
    times = max(1, math.ceil(_LEAST_PANEL / max(pixels.shape[:2])))
    return times * pixels.shape[0], times * pixels.shape[1]


def _show(axes: Axes, content: np.ndarray) -> None:
    axes.set_axis_off()
    options = {"cmap": _COLORS, "vmin": 0, "vmax": 1} if content.ndim == 2 else {}
    axes.imshow(content, interpolation="nearest", **options)


def _shorten(text: str, pixels: int) -> str:
    """``text`` with its middle left out where it would be wider than so many pixels, roughly."""
    most = max(8, int(pixels / 6.6))
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most - most // 2) :]}"
