"""What stands before all tables of RESULTS.md is what the studies' files say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results.pages import points
from results.pages.in_short import section

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def studies():
    return {
        name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("leakage", "ensembles", "printed", "trust")
    }


def test_every_study_has_its_line_and_its_own_numbers(studies):
    page = "\n".join(section(studies))
    for source, found in studies["leakage"]["sets"].items():
        rows = [row for row in found["heads"]["linear"]["effects"] if row["images"] == "all"]
        widest = rows[1]["metrics"]["accuracy"]  # the loosest protocol less the strictest
        assert (rows[1]["first"], rows[1]["second"]) == (
            next(iter(found["protocols"])),
            list(found["protocols"])[-1],
        )
        assert points(widest) in page, source
    for found in studies["ensembles"]["sets"].values():
        highest = max(each["accuracy"]["mean"] for each in found["members"].values())
        assert f"{highest:.3f}" in page
        gain = found["gains"]["average"]["over_chosen_member"]
        assert points(gain["accuracy"]) in page
        assert points(gain["roc_auc"]) in page
    for found in studies["trust"]["sets"].values():
        assert f"{found['colour_alone']['groups']['value']:.3f}" in page
    assert f"{studies['printed']['vote']['accuracy']:.4f}" in page
    assert "None" not in page


def test_without_studies_there_is_nothing_to_say(studies):
    assert section({}) == []
    page = "\n".join(section({"printed": studies["printed"]}))
    assert "**One batch of 32**" in page
    assert "Protocol" not in page
