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
        lowest = min(each["accuracy"]["mean"] for each in found["members"].values())
        assert f"{highest:.3f}) and the lowest (" in page
        assert f"{lowest:.3f}) lie {100 * (highest - lowest):.1f} points apart" in page
        gain = found["gains"]["average"]["over_chosen_member"]
        assert f"accuracy {points(gain['accuracy'])}, AUROC {points(gain['roc_auc'])}, malignant" in page
        assert f"sensitivity {points(gain['malignant_sensitivity'])};" in page
        assert f"less honest stacking: {points(found['optimism']['stacking']['accuracy'])}." in page
    for found in studies["trust"]["sets"].values():
        assert f"{found['colour_alone']['groups']['value']:.3f}" in page
        assert f"the network's head {found['scores']['balanced_accuracy']['value']:.3f}" in page
    batch = studies["printed"]["batch"]["protocols"]["blocks"]
    assert f"{100 * batch['reach_printed']:.1f}% reach the 31 of 32 that" in page
    assert f"right in {batch['accuracy']:.3f} of all images, with folds over blocks" in page
    assert f"{studies['printed']['vote']['accuracy']:.4f}" in page
    assert "None" not in page


def test_without_studies_there_is_nothing_to_say(studies):
    assert section({}) == []
    page = "\n".join(section({"printed": studies["printed"]}))
    assert "**One batch of 32, Four-class set**" in page
    assert "Protocol" not in page
