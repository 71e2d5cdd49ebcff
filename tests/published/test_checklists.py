"""The lists of reviewers: whole, numbered as printed, each item answered by one rule, every rule and every text used."""

from __future__ import annotations

import pytest

from kerasall.errors import SettingsError
from kerasall.published.checklists import Checklist, checklist_names, read_checklist
from kerasall.settings import StudySettings
from kerasall.studies.checklists.rules import RULES

LETTERED = {
    "claim": {},
    "stard": {10: "ab", 12: "ab", 13: "ab", 21: "ab"},
    "stard-ai": {15: "abcd", 16: "abc", 17: "ab", 26: "ab", 40: "ab"},
    "tripod": {
        3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc",
    },
}  # fmt: skip
"""List -> number -> letters below it, as the publications print them."""
LAST = {"claim": 44, "stard": 30, "stard-ai": 40, "tripod": 27}


def printed_numbers(name: str) -> list[str]:
    return [f"{n}{letter}" for n in range(1, LAST[name] + 1) for letter in LETTERED[name].get(n, [""])]


def test_these_lists_are_there():
    assert checklist_names() == tuple(sorted(LAST))


@pytest.mark.parametrize("name", LAST)
def test_items_have_the_numbers_of_the_publication_in_its_order(name):
    found, printed = read_checklist(name), printed_numbers(name)
    assert found.rows == len(printed)
    assert [item.number for item in found.items] == printed
    assert found.left_out == 0


@pytest.mark.parametrize("name", LAST)
def test_a_list_says_where_it_was_checked(name):
    found = read_checklist(name)
    assert found.sources
    assert all(source.at and source.checked and source.on for source in found.sources)
    assert found.doi.startswith("10.")
    assert all(item.asks.endswith("?") for item in found.items)


def test_every_item_has_a_rule_and_every_rule_an_item():
    used = {item.rule for name in checklist_names() for item in read_checklist(name).items}
    assert used == set(RULES)


def test_every_text_of_a_study_answers_an_item():
    stated = {name for rule in RULES.values() for name in rule.states}
    assert stated == set(StudySettings.model_fields)


def test_every_rule_answers_by_something():
    silent = [name for name, rule in RULES.items() if not (rule.states or rule.tells or rule.written)]
    assert silent == []


def test_an_unknown_list_names_the_near_ones():
    with pytest.raises(
        SettingsError, match=r"must be one of claim, stard, stard-ai, tripod, but is 'tripode'.*tripod"
    ):
        read_checklist("tripode")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": 1}, "must have at most 1 items, but has 2"),
        (
            {"topics": [{"title": "t", "items": [{"number": "1", "asks": "a?", "rule": "r"}] * 2}]},
            "different names",
        ),
    ],
)
def test_a_list_that_is_not_whole_is_refused(changes, told):
    items = [{"number": n, "asks": "a?", "rule": "r"} for n in ("1", "2")]
    plain = {
        "name": "x", "title": "X", "printed_in": "p", "doi": "10.1/x", "about": "a", "rows": 3, "sources": [],
        "topics": [{"title": "t", "items": items}],
    }  # fmt: skip
    assert Checklist.model_validate(plain).left_out == 1
    with pytest.raises(ValueError, match=told):
        Checklist.model_validate(plain | changes)
