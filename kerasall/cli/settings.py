"""The command ``kerasall settings``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasall.cli.console import JsonOption, note, print_found, show_block

if TYPE_CHECKING:
    from kerasall.studies.setting_reference import Choice, Setting

_WIDTH = 112


def settings(
    key: Annotated[
        str | None,
        typer.Argument(metavar="KEY", help="A setting or block, its last word, or a word to look for."),
    ] = None,
    as_json: JsonOption = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print every setting as a page of Markdown.")
    ] = False,
) -> None:
    """Show what can be set in a config: meaning, range and default of every setting."""
    from kerasall.studies.setting_reference import find_settings, list_settings

    if markdown:
        show_block("\n".join(_page()))
        return
    if key is None:
        found = [each for each in list_settings() if "." not in each.key]
        print_found(as_json, [asdict(each) for each in found], lambda: _overview(found))
        note(
            "Look closer: kerasall settings data, or data.malignant, or malignant. Write a setting into a config, or "
            "set it once: --set data.malignant=ALL"
        )
        return
    found = find_settings(key)
    closely = len(found) == 1
    print_found(as_json, [_as_json(each, closely) for each in found], lambda: _describe(found, closely))


def _overview(found: Iterable[Setting]) -> Iterator[str]:
    for each in found:
        yield from _indented(f"{each.key:<14}", each.words, 14)


def _describe(found: Iterable[Setting], closely: bool) -> Iterator[str]:
    from kerasall.studies.setting_reference import has_choices, list_choices

    for each in found:
        yield f"{each.key}: {_facts(each)}"
        yield from _indented("    ", each.words, 4)
        if closely:
            yield from _list(list_choices(each.key), "    ")
        elif has_choices(each.key):
            yield f"    names it takes: kerasall settings {'.'.join(each.named)}"


def _list(choices: Iterable[Choice], margin: str) -> Iterator[str]:
    for each in choices:
        facts = ", ".join(filter(None, [each.values, f"default {each.default}" if each.default else ""]))
        words = ": ".join(filter(None, [facts, each.words]))
        yield from _indented(f"{margin}{each.name:<20}  ", words, len(margin) + 4)
        yield from _list(each.arguments, margin + "    ")


def _facts(each: Setting) -> str:
    if each.like:
        return f"{each.values}, as below {each.like}"
    given = f"default {each.default}" if each.default else "" if each.block else "must be given"
    return ", ".join(filter(None, [each.values, given]))


def _indented(head: str, text: str, margin: int) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=head, subsequent_indent=" " * margin) or [head.rstrip()]


def _as_json(each: Setting, closely: bool) -> dict[str, Any]:
    from kerasall.studies.setting_reference import to_json

    return to_json(each) if closely else asdict(each)


# --- the page of the docs -------------------------------------------------------------------------


def _page() -> Iterator[str]:
    from kerasall.studies.setting_reference import has_choices, list_choices, list_settings

    known = list_settings()
    yield from (
        "# Settings",
        "",
        "What a config may hold, made by `kerasall settings --markdown`; `kerasall settings WORD` finds one. A dot",
        "stands for a level of the YAML, `*` for every entry of a list. `--set KEY=VALUE` sets one for one run.",
    )
    blocks = [each.key for each in known if each.block and "." not in each.key]
    plain = [each for each in known if each.named[0] not in blocks]
    told: dict[tuple[Choice, ...], str] = {}
    for title, inner in {
        "Of the experiment": plain,
        **{b: [s for s in known if s.named[0] == b] for b in blocks},
    }.items():
        yield from ("", f"## {title}", "", "| setting | values | default | meaning |", "|---|---|---|---|")
        yield from map(_row, inner)
        for each in filter(lambda each: has_choices(each.key), inner):
            choices = list_choices(each.key)
            first = told.setdefault(choices, each.key)
            bullets = _bullets(choices) if first == each.key else (f"As `{first}`.",)
            yield from ("", f"### Names of `{each.key}`", "", *bullets)


def _row(each: Setting) -> str:
    values = f"as `{each.like}`" if each.like else each.values
    given = f"`{each.default}`" if each.default else "" if each.block else "must be given"
    return f"| `{each.key}` | {_cell(values)} | {_cell(given)} | {_cell(each.words)} |"


def _bullets(choices: Iterable[Choice], margin: str = "") -> Iterator[str]:
    for each in choices:
        facts = ", ".join(filter(None, [each.values, f"default `{each.default}`" if each.default else ""]))
        yield f"{margin}- " + ": ".join(
            filter(None, [f"`{each.name}`", facts, each.words.replace("<", "&lt;")])
        )
        yield from _bullets(each.arguments, margin + "  ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
