"""A filled-in checklist as a page and as Markdown: item, answer, where it stands in the report, or who has to state it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kerasall.published.checklists import Checklist
from kerasall.report.page import Page, Section, render_section
from kerasall.shown_text import one_line

ANSWERED, PARTLY, BY_AUTHORS, ABSENT = (
    "answered",
    "answered in part: the rest is to be stated by the authors",
    "to be stated by the authors",
    "does not apply",
)
"""States of an item."""

_MARKS = re.compile(r"([\\`*_{}\[\]<>|#~$&!])")
"""What Markdown, or mathematics in it, would take for code."""


@dataclass(frozen=True)
class Answer:
    """The answer to one item.

    Attributes:
        number, asks: of the item.
        known: sentences that the run knows.
        stated: setting of ``study`` -> what the authors state.
        wanted: setting of ``study`` -> what the authors have yet to state.
        sections: anchor -> title of the sections of the report that hold it.
        written: whether the authors have to write something that no setting holds.
        absent: why the item does not apply, or "".
    """

    number: str
    asks: str
    known: tuple[str, ...] = ()
    stated: Mapping[str, str] = field(default_factory=dict)
    wanted: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)
    written: bool = False
    absent: str = ""

    @property
    def state(self) -> str:
        """One of the four states."""
        if self.absent:
            return ABSENT
        if not self.wanted and not self.written:
            return ANSWERED if self.known or self.stated else BY_AUTHORS
        return PARTLY if self.stated or (self.known and not self.written) else BY_AUTHORS

    @property
    def open(self) -> bool:
        """Whether the authors have to write what no setting holds, or the run cannot tell any more."""
        return self.state == BY_AUTHORS and not self.wanted

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "item": self.number,
            "asks": self.asks,
            "state": self.state,
            "known": list(self.known),
            "stated": dict(self.stated),
            "to_be_stated": dict(self.wanted),
            "where": list(self.sections.values()),
            "does_not_apply": self.absent,
        }


def describe_left_out(checklist: Checklist) -> str:
    """How many items of the list are not here."""
    if not checklist.left_out:
        return f"All {checklist.rows} items of the list were checked against a source."
    return (
        f"{checklist.left_out} of {checklist.rows} items of the list could not be verified and are left out."
    )


def make_checklist_page(
    checklist: Checklist, answers: Sequence[Answer], run: str, protocol: str, *, beside_report: bool
) -> Page:
    """The page of a filled-in list.

    Args:
        checklist: its items.
        answers: one an item, in order.
        run: its name.
        protocol: of the run: honest or faithful.
        beside_report: whether report.html lies in the same folder, so that it can be linked to.
    """
    left = iter(answers)
    topics = {topic.title: [next(left) for _ in topic.items] for topic in checklist.topics}
    counts = {
        state: sum(each.state == state for each in answers)
        for state in (ANSWERED, PARTLY, BY_AUTHORS, ABSENT)
    }
    summary = render_section(
        "checklist_summary",
        checklist=checklist, counts=counts, left_out=describe_left_out(checklist), total=len(answers),
    )  # fmt: skip
    sections = [
        render_section(
            "checklist", topic=title, number=number, answers=found, beside_report=beside_report,
            tones={ANSWERED: "good", PARTLY: "warning", BY_AUTHORS: "bad", ABSENT: ""},
        )
        for number, (title, found) in enumerate(topics.items())
    ]  # fmt: skip
    return Page(
        title=f"{checklist.title}: {run}",
        subtitle="Filled in from what the run knows of itself, and from what its authors state.",
        protocol=protocol,
        facts={"List": checklist.printed_in, "DOI": checklist.doi, "Items": f"{len(answers)} of {checklist.rows}"},
        sections=[summary, *_number_anchors(sections)],
        kicker="kerasall · checklist",
        footer="Written by kerasall. Questions are in its own words: the list itself has the last one. For research use "
        "only: not a diagnostic device.",
    )  # fmt: skip


def _number_anchors(sections: Sequence[Section | None]) -> list[Section]:
    return [replace(each, id=f"{each.id}-{number}") for number, each in enumerate(sections, 1) if each]


def write_markdown(checklist: Checklist, answers: Sequence[Answer], run: str) -> str:
    """The same as Markdown: a table for every topic; texts of people are shown as what they are.

    Args:
        checklist: its items.
        answers: one an item, in order.
        run: its name.
    """
    lines = [
        f"# {escape_markdown(f'{checklist.title}: {run}')}", "",
        f"{escape_markdown(checklist.printed_in)}, doi:{checklist.doi}. {checklist.about} Questions in our own words.", "",
        describe_left_out(checklist), "",
    ]  # fmt: skip
    left = iter(answers)
    for topic in checklist.topics:
        lines += [
            f"## {escape_markdown(topic.title)}",
            "",
            "| item | asked | answer | in the report |",
            "|---|---|---|---|",
        ]
        lines += [_row(next(left)) for _ in topic.items]
        lines.append("")
    lines += ["Checked against:", ""]
    lines += [
        f"- {escape_markdown(each.at)}: {escape_markdown(each.checked)} ({each.on})"
        for each in checklist.sources
    ]
    return "\n".join([*lines, ""])


def _row(answer: Answer) -> str:
    parts = [escape_markdown(each) for each in (*filter(None, [answer.absent]), *answer.known)]
    parts += [f"The authors state: {escape_markdown(text)}" for text in answer.stated.values()]
    parts += [
        f"**To be stated by the authors** (`study.{name}`): {escape_markdown(words)}."
        for name, words in answer.wanted.items()
    ]
    if answer.open:
        parts.append("**To be stated by the authors.**")
    where = ", ".join(map(escape_markdown, answer.sections.values())) or "–"
    return f"| {answer.number} | {escape_markdown(answer.asks)} | {'<br>'.join(parts)} | {where} |"


def escape_markdown(text: str) -> str:
    r"""A text on one line that Markdown shows as it is, in a cell of a table as elsewhere.

    >>> escape_markdown("<b>a|b</b>\n$x$")
    '\\<b\\>a\\|b\\</b\\> \\$x\\$'
    """
    return _MARKS.sub(r"\\\1", one_line(re.sub(r"\s+", " ", text.strip())))
