"""The report's section on an ensemble: its rule, its members beside it, their votes.

The section on views: whether averaging mirrored and turned images is worth its time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kerasall.evaluation.ensemble_scores import EnsembleScores, ViewGain
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.metrics import METRICS, find_metric
from kerasall.report.document import (
    Alert,
    Block,
    Cell,
    Column,
    Fact,
    Heading,
    KeyValues,
    List,
    Section,
    Table,
)
from kerasall.report.format import format_value
from kerasall.report.trust import FITTED
from kerasall.report.wording import difference_words, is_percent


def views_section(found: ViewGain) -> Section:
    """Scores with one view and with the mean of all, the paired difference, and the time an answer takes."""
    columns = (
        Column("Score"), Column("One view", "right"), Column(f"Mean of {found.views}", "right"), Column("Gain", "right")
    )  # fmt: skip
    rows = []
    for name, gain in found.gain.items():
        value, ends = difference_words(name, gain)
        sides = (_cell_of_views_section(name, each[name]) for each in (found.one, found.mean))
        rows.append((METRICS[name].title, *sides, Cell(value, ends)))
    first, last = (1000 * seconds for seconds in found.seconds)
    notes = (
        "Gain: mean of views less one view on the same images, with a 95% interval that leaves out one group at a time; "
        "one that holds 0 does not show a gain.",
        f"An answer takes {last:.0f} ms an image instead of {first:.0f} ms ({found.cost:.1f} times as long) on the "
        "machine that exported the model.",
    )
    intro = (
        f"The exported model answers every image by the mean of {found.views} views of it, mirrored"
        f"{' and turned by quarters' if found.views == 8 else ''}. Measured on {FITTED[found.predicted_on]} "
        f"({found.images:,} images): {found.changed:,} are called otherwise than by one view. Maps and the distance to the "
        "training images are those of the image as it is."
    )
    table = Table("With and without", columns, tuple(rows), notes)
    return Section("views", f"Is the mean of {found.views} views worth it?", intro, (table,))


def _cell_of_views_section(name: str, found: Interval) -> Cell:
    percent = is_percent(name)
    if found.value is None or found.low is None:
        return Cell("–")
    return Cell(
        format_value(found.value, percent),
        f"{format_value(found.low, percent)} to {format_value(found.high, percent)}",
    )


_INTRO = "What each member reaches alone, and what they reach together, on the same images."

_CURVES = (
    "Areas under curves and log loss of the majority vote are computed from the members' mean probabilities: vote "
    "shares take only few values."
)


def ensemble_section(
    scores: EnsembleScores, classes: Sequence[str], percent: set[str], chosen_on_scored: bool = False
) -> Section:
    """Rule and weights, scores with intervals, paired differences, votes, agreement and growth.

    Args:
        scores: of ``score_ensemble``.
        classes: names in class order.
        percent: metrics that read as percentages.
        chosen_on_scored: whether the weights come from the very images that are scored.
    """
    made = scores.description
    blocks: list[Block] = [_rule(scores)]
    if chosen_on_scored:
        text = "The members were weighed by their scores on the images that the ensemble is scored on."
        blocks.append(Alert("warning", "Weights chosen on the scored images", text))
    blocks.append(_score_table(scores, classes, percent))
    notes = [note for note in (made["tie_note"], _CURVES * (made["rule"] == "majority_vote")) if note]
    if notes:
        blocks.append(List(tuple(notes)))
    blocks += [Heading("Votes"), _vote_table(scores), _agreement_table(scores)]
    if scores.first:
        blocks.append(_growth_table(scores, classes, percent))
    return Section("ensemble", "The ensemble and its members", _INTRO, tuple(blocks))


def _rule(scores: EnsembleScores) -> KeyValues:
    made = scores.description
    facts = [Fact("Rule", made["title"]), Fact("Equation", made["equation"])]
    if made["decided_by"]:
        facts.append(Fact("Decided by", made["decided_by"]))
    return KeyValues(tuple(facts))


def _score_table(scores: EnsembleScores, classes: Sequence[str], percent: set[str]) -> Table:
    names = list(scores.ensemble)
    weights = scores.description["weights"]
    titles = [find_metric(name, classes).title for name in names]
    first, *others = [Column(title, "right") for title in titles]
    columns = [Column("Model"), first, Column("Ensemble less member", "right"), *others]
    rows = []
    for member, intervals in scores.members.items():
        first, *others = [_cell(intervals[name], name in percent) for name in names]
        rows.append([member, first, _difference(scores, member, scores.main in percent), *others])
    first, *others = [_cell(scores.ensemble[name], name in percent) for name in names]
    rows.append(["ensemble", first, None, *others])
    if weights is not None:
        columns.insert(1, Column("Weight", "right"))
        for row, weight in zip(rows, [*(f"{each:.3f}" for each in weights), None], strict=True):
            row.insert(1, weight)
    notes = (
        "Below each score its 95% interval. Ensemble less member is the paired difference in the first score: its "
        "interval, over the same groups, is narrower than the two scores' own suggest.",
        "Which member is best was not known before: the best of several scores is too high by chance.",
    )
    return Table("Members and ensemble", tuple(columns), tuple(map(tuple, rows)), notes)


def _cell(interval: Interval, percent: bool) -> Cell:
    ends = (interval.low, interval.high)
    note = "" if None in ends else " to ".join(format_value(end, percent) for end in ends)
    return Cell(format_value(interval.value, percent), note)


def _difference(scores: EnsembleScores, member: str, percent: bool) -> Cell | None:
    found = scores.differences[member]
    if found.difference is None:
        return None
    scale = 100 if percent else 1
    values = [None if v is None else f"{scale * v:+.1f}" if percent else f"{v:+.3f}" for v in (
        found.difference, found.low, found.high)]  # fmt: skip
    note = "" if None in values else f"{values[1]} to {values[2]}"
    return Cell(str(values[0]), note)


def _vote_table(scores: EnsembleScores) -> Table:
    total = max(1, sum(each.images for each in scores.votes))
    rows = tuple(
        (
            f"{each.right} of {len(scores.members)}",
            Cell(f"{each.images:,}", share=each.images / total),
            f"{each.ensemble_right:,}",
        )
        for each in scores.votes
    )
    columns = (Column("Members right"), Column("Images", "right"), Column("Ensemble right", "right"))
    notes = ("Images that most members get wrong are the ones to show an expert.",)
    return Table("How many members are right", columns, rows, notes, width="half")


def _agreement_table(scores: EnsembleScores) -> Table:
    names = list(scores.members)
    columns = (Column("Same call"), *(Column(name, "right") for name in names))
    rows = tuple(
        (name, *(None if i == j else format_value(float(scores.agreement[i, j])) for j in range(len(names))))
        for i, name in enumerate(names)
    )
    pairs = scores.agreement[np.triu_indices(len(names), 1)]
    notes = (f"Two members call {format_value(float(pairs.mean()))} of the images alike, on average.",)
    return Table("Agreement of members", columns, rows, notes, width="half" if len(names) < 3 else "full")


def _growth_table(scores: EnsembleScores, classes: Sequence[str], percent: set[str]) -> Table:
    title = find_metric(scores.main, classes).title
    rows = []
    for size, interval in scores.first.items():
        cell = _cell(interval, scores.main in percent)
        rows.append((f"first {size}", cell))
    columns = (Column("Members"), Column(title, "right"))
    notes = ["Members are added in the order of the config, not by their scores."]
    if "out-of-fold" in scores.description["decided_by"]:
        notes.append("Weights are those of all folds together here.")
    return Table("Ensembles of the first members", columns, tuple(rows), tuple(notes), width="half")
