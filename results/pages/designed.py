"""The designed experiment of a row: its array with the responses, what each level gave, what was predicted and confirmed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kerasall.report.format import Table, format_number
from kerasall.report.taguchi import lay_out
from results.pages import tabulate


def describe_experiment(found: Mapping[str, Any]) -> Iterator[str]:
    """Lines of Markdown.

    Args:
        found: the analysis as the Tuner writes it, with ``experiment``.
    """
    made, laid = found["experiment"], lay_out(found)
    names = [factor["name"] for factor in made["factors"]]
    runs = max(len(row["responses"]) for row in made["rows"])
    title = made["response"]["title"]
    yield (
        f"The designed experiment, {made['array']}: {title.lower()} on {made['scored_on']} images, by which the levels were chosen. "
        f"Maximised: {laid.ratio}."
    )
    heads = ["row", *names, *(f"run {number}" for number in range(1, runs + 1)), made["unit"] or "ratio"]
    yield ""
    yield from tabulate(
        heads,
        (
            [
                row["row"],
                *(row["levels"][name] for name in names),
                *(_digits(value) for value in row["responses"]),
                format_number(row["ratio"]) or "–",
            ]
            for row in made["rows"]
        ),
    )
    for table in laid.tables:
        yield from ("", f"{table.caption}:", "", *_markdown(table), *(f"\n{note}" for note in table.notes))
    yield ""
    yield from (f"- {label}: {told}." for label, told in laid.optimum.items())
    responses = made["confirmation"]["responses"]
    if responses:
        yield f"- {title} of the runs there, on the same images: {', '.join(map(_digits, responses))}."
    yield from (f"- {told}" for told in (laid.doubt, *laid.warnings) if told)


def _markdown(table: Table) -> list[str]:
    rows = ([_tell_cell(each) for each in row] for row in table.rows)
    return tabulate([head.removeprefix(">") for head in table.columns], rows)


def _tell_cell(found: str | dict[str, Any] | None) -> str:
    if isinstance(found, dict):
        return f"{found['text']} ({found['note']})" if found["note"] else found["text"]
    return found or "–"


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
