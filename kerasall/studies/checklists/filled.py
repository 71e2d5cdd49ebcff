"""A checklist filled in from a run: its answers, and the files that hold them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasall.errors import count_of
from kerasall.files import write_text
from kerasall.published.checklists import Checklist, Item, read_checklist
from kerasall.report.page import write_page
from kerasall.report.pages.checklist import Answer, describe_left_out, make_checklist_page, write_markdown
from kerasall.settings import StudySettings
from kerasall.studies.checklists.facts import RunFacts
from kerasall.studies.checklists.rules import RULES
from kerasall.studies.finished_run import Run


@dataclass(frozen=True, eq=False)
class FilledChecklist:
    """A list with an answer to every item.

    Attributes:
        run: that was asked.
        checklist: its items.
        answers: one an item, in order.
        folder: of what is written.
    """

    run: Run
    checklist: Checklist
    answers: tuple[Answer, ...]
    folder: Path

    @property
    def stem(self) -> str:
        """Name of both files, without suffix."""
        return f"checklist_{self.checklist.name}"

    @property
    def files(self) -> tuple[Path, Path]:
        """The page and the Markdown."""
        return self.folder / f"{self.stem}.html", self.folder / f"{self.stem}.md"

    def write(self) -> None:
        """Writes both files."""
        page = make_checklist_page(
            self.checklist, self.answers, self.run.name, self.run.numbers.get("protocol", "honest"),
            beside_report=self.folder == self.run.folder,
        )  # fmt: skip
        write_page(self.folder, page, self.stem, numbers=False)
        write_text(self.files[1], write_markdown(self.checklist, self.answers, self.run.name))

    def describe(self) -> list[str]:
        """How many items are answered, and by whom, in lines for a terminal."""
        counts = Counter(answer.state for answer in self.answers)
        lines = [f"{self.checklist.title}: {count_of(len(self.answers), 'item')}"]
        lines += [f"{count:>4}  {state}" for state, count in counts.items()]
        return [*lines, describe_left_out(self.checklist)]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "run": self.run.name,
            "checklist": self.checklist.name,
            "printed_in": self.checklist.printed_in,
            "left_out": self.checklist.left_out,
            "items": [answer.to_json() for answer in self.answers],
            "page": str(self.files[0]),
            "markdown": str(self.files[1]),
        }


def fill_in(run: Run, name: str, folder: Path | None = None) -> FilledChecklist:
    """Answers every item of a list from a finished run.

    Args:
        run: a finished one.
        name: of the list.
        folder: of what is written; by default the run's.

    Raises:
        SettingsError: there is no such list.
        ArtifactError: the run has not been evaluated yet, or a file of it was changed.
    """
    checklist, facts = read_checklist(name), RunFacts(run)
    _ = facts.results  # a run that is not so far is refused before anything is read
    answers = tuple(answer_item(item, facts) for item in checklist.items)
    return FilledChecklist(run, checklist, answers, folder or run.folder)


def answer_item(item: Item, facts: RunFacts) -> Answer:
    """The answer to one item, by its rule."""
    rule = RULES[item.rule]
    if rule.absent and (reason := rule.absent(facts)):
        return Answer(item.number, item.asks, absent=reason)
    fields = StudySettings.model_fields
    stated = {name: getattr(facts.study, name) for name in rule.states}
    wanted = {name: fields[name].description or name for name, text in stated.items() if not text}
    sections = {anchor: facts.sections[anchor] for anchor in rule.where if anchor in facts.sections}
    if any(stated.values()) and "study" in facts.sections:
        sections["study"] = facts.sections["study"]
    return Answer(
        item.number, item.asks,
        known=tuple(rule.tells(facts)) if rule.tells else (),
        stated={name: text for name, text in stated.items() if text},
        wanted=wanted, sections=sections, written=rule.written,
    )  # fmt: skip
