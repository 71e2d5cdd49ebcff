"""Bounds for the real four-class set: what they reach of the publisher's masks, and what no bounds can reach."""

from __future__ import annotations

import pytest

from kerasall.data.aria import read_aria
from kerasall.studies.segmentation import StatedMasks, segment


@pytest.mark.slow
@pytest.mark.realdata
def test_bounds_reach_the_published_masks_of_three_classes_and_nothing_reaches_those_of_pro(real_data):
    collection = read_aria(real_data / "aria", "Original", 10)
    found = segment(collection, StatedMasks(real_data / "aria" / "Segmented"))
    assert found.held_out
    assert not set(found.fitted["subject"]) & set(found.scored["subject"])
    overlaps = {each.label: each.overlap.value or 0 for each in found.classes}
    for label in ("Benign", "Early", "Pre"):
        assert overlaps[label] >= 0.8, overlaps
    pro = found.classes[-1]
    assert pro.label == "Pro"
    # Of the masks themselves known, a choice of colours would keep half: no set of bounds can be asked for more.
    assert pro.limit is not None
    assert overlaps["Pro"] <= pro.limit < 0.6
    assert pro.tells > 0.95
    assert "no bounds reach an IoU of 0.80 on Pro" in "\n".join(found.describe())
