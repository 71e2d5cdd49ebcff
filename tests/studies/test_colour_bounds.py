"""Bounds for the real four-class set: what they reach of the publisher's masks, and what no bounds can reach."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from kerasall.data.aria import read_aria
from kerasall.data.examples import Collection, make_examples
from kerasall.studies.masks import StatedMasks
from kerasall.studies.segmentation import segment


def test_ids_that_are_one_patient_stand_in_one_half(tmp_path):
    """Both ids of the patient are fitted to, and the third subject's images are scored."""
    rows = []
    for subject in ("S1", "S2", "S3"):
        image = np.full((12, 12, 3), 240, np.uint8)
        image[3:9, 3:9] = (120, 60, 170)
        path = tmp_path / "images" / f"{subject}.png"
        for folder, pixels in (("images", image), ("masks", np.where(image < 200, 255, 0).astype(np.uint8))):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f"{subject}.png"), pixels)
        rows.append({"id": f"{subject}.png", "path": str(path), "label": "blast", "subject": subject})
    collection = Collection("folder", tmp_path, make_examples(rows), ("blast",), subject_kind="subject", joined_subjects=(("S1", "S2"),))  # fmt: skip
    found = segment(collection, StatedMasks(tmp_path / "masks"))
    assert set(found.fitted["subject"]) == {"S1", "S2"}
    assert set(found.scored["subject"]) == {"S3"}
    assert found.classes[0].overlap.value == 1
    assert found.classes[0].overlap.low is None  # one group alone has no interval


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
