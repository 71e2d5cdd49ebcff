"""How every figure looks, and how it becomes bytes. Object API only: no pyplot, no global state.

Figures are small (4.2 inches wide) so that their 9-point text stays readable when a phone shrinks
them to its width. Line plots become SVG with real text; pictures become PNG.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from kerasall.shown_text import one_line

PALETTE = ("#0072b2", "#c84e00", "#00805d", "#a84c86", "#7a6200", "#3d7ea6")
"""Colours of classes and curves. The first four are Okabe and Ito's (2008) colour-blind-safe blue,
vermilion, green and purple, the last three darkened to reach a contrast of 4.5 on white."""

RIGHT, WRONG = "#1a7f37", "#b42318"
"""Title colours of right and wrong predictions; a tick or a cross always goes with them."""

INK, MUTED, GRID = "#1d2733", "#566373", "#e3e8ed"

DASHES = ("-", "--", "-.", ":")

LONGEST = 30
"""Characters of a name in a figure; of a longer one the middle is left out."""

_LEGEND_WIDTH = 66
"""Characters beside one another in a legend that is as wide as a figure."""

STYLE: dict[Any, Any] = {
    # Names of people are no formulas, whatever the matplotlibrc of this machine says.
    "text.usetex": False,
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],  # shipped with matplotlib: the layout is the same everywhere
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8793a0",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "svg.fonttype": "none",  # text stays text: small, sharp, searchable
    "svg.hashsalt": "kerasall",  # element names do not change from run to run
}

GUIDE: dict[str, Any] = {"color": MUTED, "linestyle": (0, (2, 3)), "linewidth": 1}
"""A line that is compared with: guessing, zero, the mean."""
MARK: dict[str, Any] = {"color": INK, "linestyle": (0, (3, 2)), "linewidth": 1}
"""A line of the data: the value of all images, a threshold."""
BAND: dict[str, Any] = {"alpha": 0.14, "linewidth": 0}
"""An interval along a curve."""
SMALL: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8}
"""A small text beside a point."""

_SCREEN_FONTS = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


def new_figure(width: float = 4.2, height: float = 3.4) -> tuple[Figure, Axes]:
    """An empty figure of so many inches in the report's style, and its panel."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def plot_text(text: object, longest: int = LONGEST) -> str:
    r"""A text as a figure can only show it: one line, whose signs are no formula, and which no legend leaves out.

    >>> plot_text("$\\frac$\n"), len(plot_text("x" * 99))
    ('$\\frac$\\n', 30)
    """
    line = one_line(str(text))
    if len(line) > longest:
        line = f"{line[: longest // 2]}…{line[len(line) - (longest - longest // 2 - 1) :]}"
    # A legend passes over what begins with an underscore: a hair space stands before it.
    return f"\u200a{line}" if line.startswith("_") else line


def plot_texts(texts: Iterable[object], longest: int = LONGEST, width: int | None = None) -> list[str]:
    """``plot_text`` of each, in lines of ``width`` letters; different ones that would read alike once they are shortened are numbered."""
    names = list(map(str, texts))
    shown = {name: plot_text(name, longest) for name in names}
    alike = Counter(shown.values())
    for number, name in enumerate(shown, 1):
        if alike[shown[name]] > 1:
            shown[name] = f"{plot_text(name, longest - 5)} ({number})"
    return [fill(shown[name], width) if width else shown[name] for name in names]


def color_of(index: int) -> str:
    """Colour of class or curve ``index``; repeats after six, when ``dash_of`` changes."""
    return PALETTE[index % len(PALETTE)]


def dash_of(index: int) -> str:
    """Line style of class or curve ``index``: the second cue where colours repeat."""
    return DASHES[(index // len(PALETTE)) % len(DASHES)]


def percent_axis(*axes: Axis) -> None:
    """Shows the shares on axes (``axes.xaxis``, ``axes.yaxis``) as percentages."""
    for axis in axes:
        axis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")


def square_of_shares(axes: Axes, **options: Any) -> None:
    """Both axes run over shares, in the same scale."""
    axes.set(**options)
    axes.set_aspect("equal")
    percent_axis(axes.xaxis, axes.yaxis)


def row_axis(axes: Axes, names: Sequence[str], label: str) -> None:
    """One named row a bar, from top to bottom; ``label`` is of the axis along them."""
    axes.set_yticks(range(len(names)), plot_texts(names))
    axes.set(xlabel=plot_text(label, 120), ylim=(len(names) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)


def show_legend(axes: Axes, **options: Any) -> None:
    """A legend on a plain white ground, so that lines below it do not disturb the text."""
    axes.legend(**({"frameon": True, "framealpha": 0.9, "edgecolor": "none", "handlelength": 1.6} | options))


def legend_above(axes: Axes, columns: int, middle: float = 0.5, **options: Any) -> None:
    """A legend above the panel, in fewer columns where the names are long."""
    widest = max(map(len, axes.get_legend_handles_labels()[1]), default=0)
    columns = max(1, min(columns, _LEGEND_WIDTH // (widest + 5)))
    show_legend(axes, loc="lower center", bbox_to_anchor=(middle, 1.0), ncols=columns, **options)


def figure_to_svg(figure: Figure) -> bytes:
    """The figure as SVG (UTF-8). The same figure gives the same bytes: no date, no random names."""
    buffer = io.BytesIO()
    with _saving():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    # The layout was measured with the wide DejaVu; the reader's own fonts are narrower and fit.
    return re.sub(
        r"'DejaVu Sans'(?:, '[^']+')*(?:, [a-z-]+)?", _SCREEN_FONTS, buffer.getvalue().decode()
    ).encode()


def figure_to_png(figure: Figure, dots_per_inch: int = 144) -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with _saving():
        figure.savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def _saving() -> Iterator[None]:
    """The report's style; letters that its font lacks are no fault: in an SVG the reader's own fonts have them."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield
