"""Repetitions in words: lines of a terminal, and the sentences and figures that the page shows."""

from __future__ import annotations

from dataclasses import dataclass

from kerasall.evaluation.comparison_wording import is_percent
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.repeats import RepeatedScores, Spread
from kerasall.evaluation.report_document import Protocol
from kerasall.evaluation.report_summary import format_value


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
