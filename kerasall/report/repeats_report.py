"""The page of repetitions: means with their spread over seeds, and what that spread does not say.

The figure of repetitions: every score as a dot, with mean and interval.

Repetitions in words: lines of a terminal, and the sentences and figures that the page shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes

from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.repeats import DDOF, RepeatedScores, Spread
from kerasall.report.document import (
    Alert,
    Block,
    Cell,
    Check,
    Code,
    Column,
    Fact,
    FigureBlock,
    KeyValues,
    Protocol,
    Range,
    Report,
    Scores,
    ScoreTile,
    Section,
    Table,
    figure_block,
)
from kerasall.report.figure_style import INK, MUTED, STYLE, color_of, new_figure, percent_axis, show_legend
from kerasall.report.format import format_value, is_percent


@dataclass(frozen=True)
class Background:
    """What the page says besides the scores.

    Attributes:
        title, subtitle: of the experiment.
        protocol: honest or faithful.
        scored: what the images are, in words.
        group_kind: what the intervals resample, in the plural.
        runs: repetition -> what it trained, in words.
        command: that made the page.
        weaknesses: of the experiment.
    """

    title: str
    subtitle: str
    protocol: Protocol
    scored: str
    group_kind: str
    runs: dict[str, str]
    command: str = ""
    weaknesses: tuple[str, ...] = ()


def meanings(scores: RepeatedScores, background: Background) -> list[str]:
    """What may and what may not be read from the spread: sentences for page and terminal."""
    spread = list(scores.spreads.values())[-1][scores.main]
    name, count = list(scores.spreads)[-1], len(scores.repetitions)
    found = [
        "All repetitions share one split, and are scored on the same images. Only the seeds of training differ: first "
        "weights, order of batches, augmentation, repeated images.",
        "The spread over seeds is not the uncertainty over patients. The interval below each mean resamples "
        f"{groups_words(scores, background)}; {count} trainings on the same patients say nothing about others.",
    ]
    if spread.mean is not None and spread.lowest == spread.highest:
        found.append(f"{name} scores the same in every repetition: no seed changes its decisions.")
    elif spread.mean is not None:
        found.append(_compare_widths(scores, name, spread))
    found.append(
        "Quote the mean. Which repetition would be highest was not known before; it is highest on these images, by "
        "chance, and taking it would choose on the scored images."
    )
    return found


def _compare_widths(scores: RepeatedScores, name: str, spread: Spread) -> str:
    lengths = [
        None if high is None or low is None else high - low
        for low, high in ((spread.lowest, spread.highest), (spread.low, spread.high))
    ]
    seeds, patients = (show_length(scores.main, length) for length in lengths)
    return (
        f"{name}: the repetitions lie within {seeds} of one another, the interval over groups is {patients} wide. "
        "Another system's score must differ by more than both before it is better."
    )


def describe_repeats(scores: RepeatedScores) -> list[str]:
    """Lines for a terminal: mean, standard deviation and range of the main score per model."""
    width = max(map(len, scores.spreads))
    lines = [f"{title_of(scores, scores.main)} over {len(scores.repetitions)} repetitions:"]
    for model, spreads in scores.spreads.items():
        spread = spreads[scores.main]
        if spread.mean is None:
            lines.append(f"  {model:<{width}}  not defined in every repetition")
            continue
        seeds = f"standard deviation {show_length(scores.main, spread.deviation)} over seeds"
        ends = f"{show_score(scores.main, spread.low)} to {show_score(scores.main, spread.high)}"
        lines.append(
            f"  {model:<{width}}  mean {show_score(scores.main, spread.mean)}, {seeds}, interval over groups {ends}"
        )
    return lines


def interval_words(scores: RepeatedScores, spread: Spread) -> str:
    """For example ``95% interval 0.871 to 0.902``."""
    return f"{percent_words(scores)} interval {show_score(scores.main, spread.low)} to {show_score(scores.main, spread.high)}"


def percent_words(scores: RepeatedScores) -> str:
    """Nominal coverage of the intervals."""
    return f"{100 * scores.confidence:g}%"


def groups_words(scores: RepeatedScores, background: Background) -> str:
    """What the intervals resample, with its number."""
    if not scores.known_groups:
        return f"{scores.groups:,} single images, as no group is known"
    return f"{scores.groups:,} {background.group_kind}"


def title_of(scores: RepeatedScores, metric: str) -> str:
    """Words for a metric."""
    return find_metric(metric, scores.classes).title


def show_score(metric: str, value: float | None) -> str:
    """A value as text; undefined: a dash."""
    return format_value(value, is_percent(metric))


def show_length(metric: str, length: float | None) -> str:
    """A difference: in percentage points, or plain."""
    if length is None:
        return "–"
    return f"{100 * length:.1f} points" if is_percent(metric) else f"{length:.3f}"


@matplotlib.rc_context(STYLE)
def draw_repeats(axes: Axes, rows: dict[str, Spread], title: str, metric: str) -> str:
    """One line a model: a dot per repetition, a tick at the mean, a bar for the interval over groups.

    Args:
        axes: where to draw.
        rows: model -> spread, from top to bottom.
        title: what the values are.
        metric: its name, which says whether it reads as a percentage.

    Returns:
        Alternative text with every value.
    """
    for place, (model, spread) in enumerate(rows.items()):
        _draw_row(axes, place, model, spread, metric)
    axes.set(xlabel=title, ylim=(len(rows) - 0.45, -0.75), yticks=[])
    axes.margins(x=0.06)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    if is_percent(metric):
        percent_axis(axes.xaxis)
    show_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.32 / (0.4 + 0.2 * len(rows))), ncols=3)
    return f"{title} of every repetition. " + "; ".join(
        f"{model} {', '.join(show_score(metric, value) for value in spread.values)}"
        for model, spread in rows.items()
    )


def _draw_row(axes: Axes, place: int, model: str, spread: Spread, metric: str) -> None:
    first = place == 0
    if spread.low is not None and spread.high is not None:
        label = "interval over groups" if first else None
        axes.plot([spread.low, spread.high], [place] * 2, color=MUTED, linewidth=6, alpha=0.25, label=label)
    values = [value for value in spread.values if value is not None]
    label = "repetition" if first else None
    axes.plot(values, [place] * len(values), "o", color=color_of(0), markersize=5, alpha=0.6, label=label)
    if spread.mean is not None:
        label = "mean" if first else None
        axes.plot([spread.mean], [place], "|", color=INK, markersize=15, markeredgewidth=1.8, label=label)
    options = {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "va": "bottom",
        "fontsize": 8.5,
    }
    text = (
        "–"
        if spread.mean is None
        else f"{show_score(metric, spread.mean)} ± {show_length(metric, spread.deviation)}"
    )
    axes.annotate(model, (0, place), (0, 9), ha="left", weight="bold", **options)
    axes.annotate(text, (1, place), (0, 9), ha="right", **options)


_MOST_TILES = 3

"""More models than this are not all told above the fold: the last one, the system itself, is."""


_VARIANCE = (
    f"Variance and standard deviation divide by the number of repetitions less {DDOF}. Variances are in units of "
    "0.0001, the square of one percentage point."
)


def make_repeats_report(scores: RepeatedScores, background: Background) -> Report:
    """The document, ready for ``write_report``; ``results`` holds the JSON form of the scores."""
    count = len(scores.repetitions)
    return Report(
        title=f"{background.title}: {count} repetitions",
        subtitle=background.subtitle,
        protocol=background.protocol,
        facts=(
            Fact("Repetitions", str(count)),
            Fact("Images", f"{scores.images:,}"),
            Fact("Groups", f"{scores.groups:,}" if scores.known_groups else "not known"),
            Fact("Main score", title_of(scores, scores.main)),
        ),
        results=scores.to_json(),
        sections=(
            _summary(scores, background),
            _main_section(scores, background),
            _all_section(scores),
            _runs_section(scores, background),
        ),
    )


# --- summary -----------------------------------------------------------------------------------------


def _summary(scores: RepeatedScores, background: Background) -> Section:
    models = list(scores.spreads)
    shown = models if len(models) <= _MOST_TILES else models[-1:]
    blocks: list[Block] = [Scores(tuple(_tile(scores, model, background) for model in shown))]
    blocks.append(
        Alert("note", "What the spread says", items=tuple(map(Check, meanings(scores, background))))
    )
    if background.protocol == "faithful":
        blocks.append(
            Alert(
                "warning",
                "A copy of a published protocol",
                "Settings were chosen on the very images that are scored. Repeating it makes the mean steadier and "
                "leaves it too high.",
            )
        )
    blocks.append(
        Alert(
            "warning",
            "Research use only: not a diagnostic device",
            "A steady score is not a right one: all repetitions share their data, and its faults.",
        )
    )
    return Section("summary", "Summary", f"Scored on {background.scored}.", tuple(blocks))


def _tile(scores: RepeatedScores, model: str, background: Background) -> ScoreTile:
    spread = scores.spreads[model][scores.main]
    if spread.mean is None:
        detail = f"{title_of(scores, scores.main)} is not defined in every repetition."
        return ScoreTile(f"{model}, mean", "–", detail)
    detail = (
        f"{title_of(scores, scores.main)}, mean of {len(scores.repetitions)} repetitions. Standard deviation over seeds "
        f"{show_length(scores.main, spread.deviation)}. {interval_words(scores, spread)} over {groups_words(scores, background)}."
    )
    ends = (spread.mean, spread.low, spread.high)
    fits = all(0 <= value <= 1 for value in ends if value is not None)
    return ScoreTile(
        f"{model}, mean", show_score(scores.main, spread.mean), detail, range=Range(*ends) if fits else None
    )


# --- tables ------------------------------------------------------------------------------------------


def _main_section(scores: RepeatedScores, background: Background) -> Section:
    title = title_of(scores, scores.main)
    columns = [Column("Model"), Column("Mean", "right"), *_spread_columns()]
    columns += [Column(name, "right") for name in scores.repetitions]
    rows = []
    for model, spreads in scores.spreads.items():
        spread = spreads[scores.main]
        values = [show_score(scores.main, value) for value in spread.values]
        rows.append((model, _mean_cell(scores.main, spread), *_spread_cells(scores.main, spread), *values))
    notes = (
        f"Below each mean its {percent_words(scores)} interval over {groups_words(scores, background)}.",
        _VARIANCE,
    )
    table = Table("Each model over all repetitions", tuple(columns), tuple(rows), notes)
    return Section("main", title, "", (table, _figure(scores, background)))


def _all_section(scores: RepeatedScores) -> Section:
    columns = (Column("Score"), Column("Model"), Column("Mean", "right"), *_spread_columns())
    rows = []
    for metric in scores.metrics:
        for number, (model, spreads) in enumerate(scores.spreads.items()):
            name = title_of(scores, metric) if number == 0 else ""
            spread = spreads[metric]
            rows.append((name, model, _mean_cell(metric, spread), *_spread_cells(metric, spread)))
    notes = [_VARIANCE]
    if any(spread.mean is None for spreads in scores.spreads.values() for spread in spreads.values()):
        notes.append(
            "A dash: the score is not defined in every repetition, as kappa of a model that calls all images alike."
        )
    table = Table("Every score of every model", columns, tuple(rows), tuple(notes), tall=len(rows) > 24)
    return Section("scores", "All scores", blocks=(table,))


def _spread_columns() -> tuple[Column, ...]:
    names = ("Variance (0.0001)", "Standard deviation", "Lowest", "Highest")
    return tuple(Column(name, "right") for name in names)


def _spread_cells(metric: str, spread: Spread) -> tuple[str, ...]:
    if spread.variance is None:
        return ("–",) * 4
    ends = (show_score(metric, spread.lowest), show_score(metric, spread.highest))
    return f"{1e4 * spread.variance:.2f}", show_length(metric, spread.deviation), *ends


def _mean_cell(metric: str, spread: Spread) -> Cell:
    if spread.low is None or spread.high is None:
        return Cell(show_score(metric, spread.mean))
    return Cell(
        show_score(metric, spread.mean),
        f"{show_score(metric, spread.low)} to {show_score(metric, spread.high)}",
    )


def _runs_section(scores: RepeatedScores, background: Background) -> Section:
    facts = tuple(Fact(name, background.runs.get(name, "")) for name in scores.repetitions)
    blocks: list[Block] = [KeyValues(facts)]
    if background.weaknesses:
        blocks.append(
            Alert("note", "Weaknesses of the experiment", items=tuple(map(Check, background.weaknesses)))
        )
    if background.command:
        blocks.append(Code(background.command, "Command"))
    intro = "Each repetition is a run of its own, with its own report. Only the first may be pushed."
    return Section("runs", "The repetitions", intro, tuple(blocks))


def _figure(scores: RepeatedScores, background: Background) -> FigureBlock:
    figure, axes = new_figure(height=1.15 + 0.55 * len(scores.spreads))
    rows = {model: spreads[scores.main] for model, spreads in scores.spreads.items()}
    alt = draw_repeats(axes[0, 0], rows, title_of(scores, scores.main), scores.main)
    caption = (
        "Each dot is a repetition, the tick their mean, the bar its interval over "
        f"{groups_words(scores, background)}."
    )
    return figure_block("repeats", figure, alt, caption)
