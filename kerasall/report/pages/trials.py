"""The trials of a designed experiment as a page, trials.html: self-contained, no request to anywhere.

Its script sorts and filters the table and finds a trial's line from its row; without it the page says the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

import matplotlib
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kerasall.files import write_text
from kerasall.report.figures_style import INK, MUTED, STYLE, figure_to_svg, new_figure, plot_text, plot_texts
from kerasall.report.figures_taguchi import draw_analysis
from kerasall.report.format import format_duration
from kerasall.report.page import Page, Picture, Section, render_page, render_section
from kerasall.report.taguchi import lay_out, list_columns, make_document
from kerasall.taguchi.trial_events import TrialListing
from kerasall.taguchi.trials import read_place

_MOST_CURVES = 4
_RESPONSES = LinearSegmentedColormap.from_list("responses", ["#8a9aaa", "#0b5c8f"])
"""Colours of trials from the worst response to the best; the best trial has one of its own."""
_BEST = "#c84e00"
_AXIS = "#8793a0"
_SPREAD = 0.68
"""Share of the distance between two levels over which the lines through one level are spread."""


def write_trial_page(path: str | Path, listing: TrialListing, title: str) -> None:
    """Writes the page, atomically."""
    write_text(path, render_trial_page(listing, title))


def render_trial_page(listing: TrialListing, title: str) -> str:
    """The page as one string.

    Args:
        listing: of the trials.
        title: name of the run or project.
    """
    design = listing.design
    facts = {"Array": design.plan.array} | ({"Folds": str(design.folds)} if design.folds else {})
    facts |= {status.capitalize(): str(count) for status, count in listing.statuses.items()}
    side = "larger" if design.direction == "max" else "smaller"
    times = {1: "once", 2: "twice"}.get(design.repeats, f"{design.repeats} times")
    page = Page(
        title=title,
        subtitle=f"{listing.statuses.get('COMPLETED', 0)} of {listing.planned} trials completed: the "
        f"{len(design.plan.levels)} rows of {design.plan.array}, each run {times}; response {design.objective}, "
        f"{side} is better.",
        facts=facts | {"Time of all trials": format_duration(float(listing.table["seconds"].sum()))},
        sections=[
            render_section(
                "trials", listing=listing, columns=list_columns(listing), twins=design.plan.dummy_factors
            ),
            render_section("trial_factors", drawing=_parallel(listing)),
            render_section("trial_curves", curves=_curves(listing)),
            _analysis_section(listing),
        ],
        kicker="kerasall · trials of a designed experiment",
        footer="Written by kerasall. For research use only: not a diagnostic device. The same rows for programs: "
        "trials.csv.",
    )
    return render_page(page, "trials.html")


def _analysis_section(listing: TrialListing) -> Section | None:
    laid, pictures = None, []
    if listing.analysis is not None:
        laid = lay_out(make_document(listing.analysis))
        drawn = draw_analysis(listing.analysis).items()
        pictures = [Picture(f"{stem}.svg", text, svg) for stem, (svg, text) in drawn]
    return render_section("trial_analysis", laid=laid, pictures=pictures, reason=listing.unanalysed)


def _parallel(listing: TrialListing) -> Markup | None:
    """None before any trial is completed."""
    if listing.best is None:
        return None
    figure, axes = new_figure(1.6 * (len(listing.design.plan.factors) + 1), 3.6)
    return inline_svg(figure, "parallel", draw_parallel_coordinates(axes, listing))


def _curves(listing: TrialListing) -> dict[str, Markup]:
    """Title -> drawing: what was measured on validation images first, the objective before others."""
    rows = [row for epochs in listing.epochs.values() for row in epochs]
    kept = {name for row in rows for name, value in row.items() if math.isfinite(value)}
    order = sorted(kept, key=lambda n: (not n.startswith("val_"), n != listing.design.objective, n))
    curves = {}
    for place, name in enumerate(order[:_MOST_CURVES], start=1):
        figure, axes = new_figure(4.6, 3.0)
        text = draw_learning_curves(axes, listing, name)
        title = f"{name} (training)" if f"val_{name}" in kept else name
        curves[title] = inline_svg(figure, f"curve-{place}", text)
    return curves


@matplotlib.rc_context(STYLE)
def draw_parallel_coordinates(axes: Axes, listing: TrialListing) -> str:
    """Every completed trial as a line through its levels to its response, which the upright scale is of.

    Dummy levels keep a place of their own. Lines through one level are spread, the better the higher.

    Args:
        axes: where to draw.
        listing: of the trials, one completed at least.

    Returns:
        Alternative text with the range of the responses and the best levels.
    """
    factors, table = listing.design.plan.factors, listing.table.set_index("trial")
    shares = response_shares(listing)
    done = table[shares.notna()]
    low, high = _widen(done["objective"])
    heights = []
    for name, values in factors.items():
        own = shares[done.index].groupby(done[f"{name} level"])
        spread = (own.rank(method="first") - 0.5) / own.transform("size") - 0.5
        heights.append(low + (done[f"{name} level"] - 0.5 + _SPREAD * spread) / len(values) * (high - low))
    lines = pd.concat([*heights, done["objective"]], axis=1)
    for trial, y in zip(lines.index, lines.to_numpy().tolist(), strict=True):
        _draw_trial(
            axes, listing, trial, range(len(y)), y, shares[trial], f"{done.loc[trial, 'objective']:.4g}"
        )
    for x, values in enumerate(factors.values()):
        names = [str(value) for value in values]
        for level, name in enumerate(names, start=1):
            text = f"{name} ({level})" if names.count(name) > 1 else name
            axes.annotate(
                plot_text(text, 16), (x, low + (level - 0.5) / len(names) * (high - low)), (-5, 0), zorder=4,
                textcoords="offset points", ha="right", va="center", color=MUTED, fontsize=8.5,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
            )  # fmt: skip
    titles = [*factors, listing.response]
    axes.set_xticks(range(len(titles)), plot_texts(titles, 20), weight="bold", color=INK)
    axes.tick_params(length=0)
    axes.tick_params("x", labeltop=True, labelbottom=False)
    axes.tick_params("y", labelleft=False, labelright=True)
    axes.set(xlim=(0, len(factors)), ylim=(low, high))
    axes.spines[:].set_visible(False)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x", color=_AXIS, linewidth=1.1)
    best = done.loc[listing.best]
    levels = ", ".join(f"{name} = {best[name]}" for name in factors)
    return (
        f"Parallel coordinates of {len(done)} trials; {listing.response} from {done['objective'].min():.4g} to "
        f"{done['objective'].max():.4g}, best at {levels}. The table holds the same values."
    )


@matplotlib.rc_context(STYLE)
def draw_learning_curves(axes: Axes, listing: TrialListing, metric: str) -> str:
    """A metric of every trial over its epochs.

    Args:
        axes: where to draw.
        listing: of the trials, one of which kept the metric at least.
        metric: a key of their epochs.

    Returns:
        Alternative text with the range of the last values.
    """
    shares, finals, last = response_shares(listing), [], 1
    for trial, epochs in listing.epochs.items():
        points = [
            (n, row[metric]) for n, row in enumerate(epochs, 1) if math.isfinite(row.get(metric, math.nan))
        ]
        if points:
            x, y = zip(*points, strict=True)
            _draw_trial(axes, listing, trial, x, y, shares[trial], f"{y[-1]:.4g} after epoch {x[-1]}")
            finals.append(y[-1])
            last = max(last, x[-1])
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return (
        f"{metric} of {len(finals)} trials over up to {last} epochs; last values from {min(finals):.4g} to "
        f"{max(finals):.4g}."
    )


def response_shares(listing: TrialListing) -> pd.Series:
    """Where each trial's response stands between the worst, 0, and the best, 1; nan where there is none."""
    scores = listing.table.set_index("trial")["objective"].astype(float)
    span = scores.max() - scores.min()
    shares = (scores - scores.min()) / span if span else scores * 0 + 0.5
    return shares if listing.design.direction == "max" else 1 - shares


def inline_svg(figure: Figure, name: str, text: str) -> Markup:
    """A figure of trials as an element of a page, whose lines the page's script finds by ``data-trial``.

    Args:
        figure: its lines carry a trial's id and a label.
        name: what its own ids begin with: a page holds several figures.
        text: alternative text.
    """
    drawn = {str(line.get_gid()): line for axes in figure.axes for line in axes.lines if line.get_gid()}

    def group(found: re.Match[str]) -> str:
        line = drawn[found[1]]
        best = " best" if line.get_color() == _BEST else ""
        label = escape(str(line.get_label()))
        return f'<g class="trial{best}" data-trial="{found[1]}"><title>{label}</title>'

    svg = figure_to_svg(figure).decode("utf-8")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(rf'<g id="({"|".join(drawn)})">', group, svg)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    head, _, rest = svg.removeprefix("<svg").partition(">")
    titled = f'<svg class="lines" role="img" aria-labelledby="{name}-alt"{head}>'
    return Markup(f'{titled}<title id="{name}-alt">{escape(text)}</title>{rest}')


def _draw_trial(
    axes: Axes, listing: TrialListing, trial: str, x: Sequence[float], y: Sequence[float], share: float,
    value: str,
) -> None:  # fmt: skip
    """One line, the better the darker and the further in front; its label is what a reader sees on pointing at it."""
    best, known = trial == listing.best, math.isfinite(share)
    place = read_place(listing.trials[trial].hyperparameters.values)
    axes.plot(
        x, y, gid=trial, label=f"trial {plot_text(trial)}, {plot_text(place)}: {plot_text(value)}", marker="o" if len(x) == 1 else None, markersize=5,
        color=_BEST if best else to_hex(_RESPONSES(share if known else 0.0)), linewidth=3 if best else 1.4,
        zorder=3 if best else 2 + share / 2 if known else 1.9, clip_on=False,
    )  # fmt: skip


def _widen(values: pd.Series) -> tuple[float, float]:
    """Ends of a scale a little beyond the values."""
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 0.05 * max(abs(low), 1.0)
    return low - margin, high + margin
