"""The summary: what it is, how good with which uncertainty, and whether and for what it may be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kerasall.report.document import (
    Alert,
    Block,
    Check,
    Fact,
    KeyValues,
    Range,
    Scores,
    ScoreTile,
    Section,
    Tone,
)
from kerasall.report.format import Score, format_value

USES = (
    "Compare methods, settings and data sets in research.",
    "Teach, and reproduce published protocols.",
    "Sort archived images for a reader who looks at every one of them.",
)
MISUSES = (
    "Do not diagnose, exclude, grade or monitor leukaemia with it, in patients or in donors.",
    "Do not let it replace or shorten the reading of a smear by a trained person.",
    "Do not trust it on other stains, microscopes, cameras, species or cell types: it was not tested there.",
)
"""What every report says unless the evaluation knows better."""


@dataclass(frozen=True)
class MissedMalignant:
    """Malignant images called benign, of all malignant images, the sensitivity they leave, and its price."""

    called_benign: int
    total: int
    sensitivity: Score
    specificity: Score | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether the model may be exported, with every criterion and whether it was met."""

    blessed: bool
    criteria: tuple[tuple[str, bool], ...]
    forced: bool = False


def summary_section(
    *,
    trained: str,
    data: str,
    split: str,
    main: Score,
    resampled: str,
    verdict: Verdict,
    missed: MissedMalignant | None = None,
    others: Sequence[Score] = (),
    data_notes: Sequence[str] = (),
    protocol: str = "honest",
    uses: Sequence[str] = USES,
    misuses: Sequence[str] = MISUSES,
) -> Section:
    """What it is, how good with which uncertainty, and what it may be used for.

    Args:
        trained: one sentence on the model and its training.
        data: one sentence on the images.
        split: one sentence on which images were held out, and how.
        main: the score the report is about.
        resampled: what the interval resampled, for example ``40 blocks of images``.
        verdict: outcome of the export criteria.
        missed: malignant images called benign, where the classes are known to be malignant.
        others: one or two further scores for the first row.
        data_notes: what these data cannot tell, for example that no patient ids exist.
        protocol: ``honest`` or ``faithful``.
        uses: what it may be used for.
        misuses: what it must not be used for.
    """
    tiles = [_main_tile(main, resampled), *([_missed_tile(missed)] if missed else []), *map(_tile, others)]
    blocks: list[Block] = [Alert("bad", _SELECTED_TITLE, _SELECTED)] if protocol != "honest" else []
    facts = (
        Fact("What was trained", trained),
        Fact("On which data", data),
        Fact("How it was split", split),
        Fact("What it is good for", " ".join(uses)),
    )
    warning = Alert(
        "warning",
        "Research use only: not a diagnostic device",
        items=tuple(map(Check, misuses)),
        width="half",
    )
    blocks += [Scores(tuple(tiles)), _verdict_alert(verdict), warning, KeyValues(facts)]
    if data_notes:
        blocks.append(Alert("note", "What these data cannot tell", items=tuple(map(Check, data_notes))))
    return Section("summary", "Summary", blocks=tuple(blocks))


_SELECTED_TITLE = "These scores are not a fair test"
_SELECTED = (
    "To copy a published protocol, settings were chosen on the very images the scores are reported on. "
    "Expect lower scores on new patients. The model is not for export."
)


def _main_tile(score: Score, resampled: str) -> ScoreTile:
    detail = (
        f"95% interval {score.interval}, from resampling {resampled}." if score.interval else "No interval."
    )
    if score.chance is not None:
        detail += f" Guessing reaches {format_value(score.chance, score.percent)} (dashed line)."
    return ScoreTile(score.label, score.text, detail, range=_range(score))


def _missed_tile(missed: MissedMalignant) -> ScoreTile:
    share = missed.called_benign / missed.total if missed.total else 0.0
    sensitivity = missed.sensitivity
    detail = f"About {1000 * share:.0f} in 1,000 malignant cells are missed. Sensitivity {sensitivity.text}"
    detail += f" (95% interval {sensitivity.interval})." if sensitivity.interval else "."
    tone: Tone = "bad" if missed.called_benign else "good"
    specificity = missed.specificity
    if specificity and specificity.value is not None and specificity.value <= 0.5 < (sensitivity.value or 0):
        # To miss none by calling everything malignant is no merit.
        detail += f" But of the benign images only {specificity.text} are called benign."
        tone = "bad" if missed.called_benign else "warning"
    value = f"{missed.called_benign:,} of {missed.total:,}"
    return ScoreTile("Malignant cells called benign", value, detail, tone, _range(sensitivity))


def _tile(score: Score) -> ScoreTile:
    interval = f"95% interval {score.interval}." if score.interval else ""
    meaning = f"{score.meaning[0].upper()}{score.meaning[1:].rstrip('.')}." if score.meaning else ""
    return ScoreTile(score.label, score.text, f"{interval} {meaning}".strip(), range=_range(score))


def _range(score: Score) -> Range | None:
    ends = (score.low, score.high, score.chance)
    if score.value is None or not all(0 <= v <= 1 for v in (score.value, *ends) if v is not None):
        return None  # also where a value is NaN
    return Range(float(score.value), *(None if v is None else float(v) for v in ends))


def _verdict_alert(verdict: Verdict) -> Alert:
    items = tuple(Check(text, met) for text, met in verdict.criteria)
    if verdict.blessed:
        return Alert("good", "Passed every check for export, as a research model", items=items, width="half")
    title = "Did not pass the checks for export"
    text = (
        "It was exported by force all the same; its card says so."
        if verdict.forced
        else "The model is not exported."
    )
    return Alert("bad", title, text, items, "half")
