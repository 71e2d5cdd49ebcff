"""The figure of RESULTS.md: every row's main score with its interval, beside what the paper printed. Text SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from kerasall.published.papers import printed_number
from kerasall.report.format import format_value, is_percent, title_of
from results.pages import NAMES

_WIDTH, _LEFT, _RIGHT, _STEP, _TOP = 900, 330, 20, 26, 30
_INK, _FAINT, _PRINTED = "#1f2933", "#9aa5b1", "#b45309"

_SETS = NAMES | {"rendered": "Rendered cells, nothing about leukaemia"}
"""A row's data -> heading above its rows: scores of different sets are not to be compared."""


def draw_forest(results: Sequence[Mapping[str, Any]]) -> str:
    """The figure as SVG, the same text for the same results.

    Args:
        results: of rows; studies, and rows whose main score is not a share of 1 or not defined, are left out.
    """
    rows = [each for each in results if "study" not in each and _is_drawn(each)]
    places: list[str | Mapping[str, Any]] = []
    for data, title in _SETS.items():
        chosen = [each for each in rows if each["data"] == data]
        places += [title, *chosen] if chosen else []
    lows = [_main(each)["low"] for each in rows] + [p for each in rows if (p := _printed(each)) is not None]
    floor = math.floor(10 * min([0.9, *lows])) / 10
    scale = (_WIDTH - _LEFT - _RIGHT) / (1 - floor)

    def x(value: float) -> str:
        return f"{_LEFT + scale * (value - floor):.1f}"

    bottom = _TOP + _STEP * len(places)
    height = bottom + 62
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12" role="img">',
        "<title>Main score of every row with its 95% interval over groups, and the number its paper printed</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for tick in range(round(10 * floor), 11):
        at = x(tick / 10)
        lines.append(f'<path d="M{at} {_TOP - 8}V{bottom}" stroke="{_FAINT}" stroke-width="0.5"/>')
        lines.append(
            f'<text x="{at}" y="{bottom + 16}" text-anchor="middle" fill="{_INK}">{tick / 10:.1f}</text>'
        )
    for number, each in enumerate(places):
        y = _TOP + _STEP * number + 8
        if isinstance(each, str):
            lines.append(f'<text x="10" y="{y + 4}" font-weight="bold" fill="{_INK}">{escape(each)}</text>')
        else:
            lines += _draw_row(each, y, x)
    words = "dot and line: ours, 95% interval over the groups in brackets; diamond: printed by the paper, other images and another protocol"
    lines.append(f'<text x="10" y="{bottom + 44}" fill="{_INK}">{words}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _draw_row(result: Mapping[str, Any], y: int, x: Any) -> list[str]:
    metric, found, printed = result["main_metric"], _main(result), _printed(result)
    label = f"{result['row']}: {title_of(metric, result['labels']).lower()} {format_value(found['value'], is_percent(metric))} ({found['groups']})"
    lines = [
        f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end" fill="{_INK}">{escape(label)}</text>',
        f'<path d="M{x(found["low"])} {y}H{x(found["high"])}" stroke="{_INK}" stroke-width="2"/>',
        f'<circle cx="{x(found["value"])}" cy="{y}" r="4" fill="{_INK}"/>',
    ]
    if printed is not None:
        lines.append(
            f'<path d="M{x(printed)} {y - 6}l6 6l-6 6l-6 -6z" fill="none" stroke="{_PRINTED}" stroke-width="2"/>'
        )
    return lines


def _main(result: Mapping[str, Any]) -> Mapping[str, Any]:
    return result["metrics"][result["main_metric"]]


def _is_drawn(result: Mapping[str, Any]) -> bool:
    ends = [_main(result)[end] for end in ("value", "low", "high")]
    return all(end is not None and 0 <= end <= 1 for end in ends)


def _printed(result: Mapping[str, Any]) -> float | None:
    """What the paper printed of the same score, as a share; None where it printed another one."""
    printed = result["printed"]
    if not printed or printed["metric"] not in ("", result["main_metric"]):
        return None
    number = printed_number(printed["value"])
    return number and (number / 100 if printed["scale"] == "percent" else number)
