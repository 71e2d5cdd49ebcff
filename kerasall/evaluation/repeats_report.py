"""The page of repetitions: means with their spread over seeds, and what that spread does not say."""

from __future__ import annotations

from kerasall.evaluation.figure_style import new_figure
from kerasall.evaluation.repeats import DDOF, RepeatedScores, Spread
from kerasall.evaluation.repeats_figure import draw_repeats
from kerasall.evaluation.repeats_wording import (
    Background,
    groups_words,
    interval_words,
    meanings,
    percent_words,
    show_length,
    show_score,
    title_of,
)
from kerasall.evaluation.report_document import (
    Alert,
    Block,
    Cell,
    Check,
    Code,
    Column,
    Fact,
    FigureBlock,
    KeyValues,
    Range,
    Report,
    Scores,
    ScoreTile,
    Section,
    Table,
)
from kerasall.evaluation.report_sections import figure_block

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
