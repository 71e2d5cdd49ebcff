"""The flow of patients: every number is that of the split and the lists, no image is lost on the way, and all are drawn."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
import pytest

from kerasall.data.splits import Split
from kerasall.report.figures_style import figure_to_svg, new_figure
from kerasall.report.patient_flow import MOST_PARTS, count_flow, draw_flow, height_of


def make_split(parts: dict[str, list[str]], kind="holdout", **options) -> Split:
    """Part -> patient of each image in it."""
    rows = [
        {"id": f"{part}/{n}.png", "label": "a", "subject": subject, "group": subject, "part": part}
        for part, subjects in parts.items()
        for n, subject in enumerate(subjects)
    ]
    return Split(kind, pd.DataFrame(rows), 0, **options)


HOLDOUT = make_split(
    {"train": ["p1", "p1", "p2"], "validation": ["p3"], "test": ["p4", "p4"], "dropped": ["p1", "p5"]}
)


def test_images_and_patients_of_every_box():
    lost = pd.DataFrame({"id": ["x.png"], "label": "a", "subject": ["p6"], "error": "truncated"})
    ids = ["test/0.png", "test/1.png"]
    flow = count_flow(
        HOLDOUT, "test", ids, "subject", left_out=lost, excluded=3, copies=["train/0.png", "train/1.png"]
    )
    assert (flow.found.images, flow.found.patients) == (12, 6)
    assert [(box.title, box.images, box.patients) for box in flow.losses] == [
        ("Could not be read", 1, 1), ("Taken out by corrections", 3, None), ("Dropped by the split", 2, 2),
    ]  # fmt: skip
    assert (flow.used.images, flow.used.patients) == (6, 4)
    assert (flow.copies.images, flow.copies.patients) == (2, 1)
    assert {box.title: (box.images, box.patients) for box in flow.parts} == {
        "train": (3, 2), "validation": (1, 1), "test": (2, 1),
    }  # fmt: skip
    assert (flow.scored.images, flow.scored.patients) == (2, 1)
    assert flow.found.images == sum(box.images for box in flow.losses) + flow.used.images
    assert flow.used.images == sum(box.images for box in flow.parts)


def test_nothing_left_out_makes_no_box_and_says_so():
    split = make_split({"fold 1": ["p1"], "fold 2": ["p2"]}, "folds")
    flow = count_flow(split, "out-of-fold", split.table["id"], "subject")
    assert flow.losses == ()
    assert "Left out: no image." in flow.describe()
    assert "No image has a known copy among the others." in flow.describe()
    assert "Scored (out-of-fold): 2 images of 2 patients." in flow.describe()


@pytest.mark.parametrize(
    ("kind", "said"),
    [("subject", "2 images of 1 patient"), ("block", "2 images of 1 block"), ("none", "2 images")],
)
def test_blocks_are_no_patients_and_unknown_ones_are_not_counted(kind, said):
    flow = count_flow(HOLDOUT, "test", ["test/0.png", "test/1.png"], kind)
    assert flow.words(flow.scored) == said
    assert "patient" not in " ".join(flow.describe()) or kind == "subject"


def test_copies_that_were_dealt_out_are_not_called_kept_together():
    ids = ["test/0.png"]
    one_by_one = make_split({"train": ["a"], "test": ["b"]}, unit="image")
    flow = count_flow(one_by_one, "test", ids, "subject", copies=["train/0.png", "test/0.png"])
    told = " ".join(flow.describe())
    assert "dealt out one by one, on whichever side" in told
    assert "kept on one side" not in told
    unknown = count_flow(one_by_one, "test", ids, "subject", copies=None)
    assert "cop" not in " ".join(unknown.describe())


@pytest.mark.parametrize("folds", [2, MOST_PARTS, MOST_PARTS + 3])
def test_every_box_is_drawn_and_told(folds):
    split = make_split(
        {f"<fold> {n}": [f"p{n}", f"q{n}"] for n in range(folds)} | {"dropped": ["p0"]}, "folds"
    )
    flow = count_flow(split, "out-of-fold", split.table["id"][:-1], "subject", copies=split.table["id"][:2])
    figure, axes = new_figure(5.6, height_of(flow))
    alt = draw_flow(axes, flow)
    drawn = [text.get_text() for text in axes.texts]
    boxes = 5 + (folds if folds <= MOST_PARTS else 1)
    assert len(axes.patches) == boxes
    assert all(
        any(f"{box.images:,} image" in text for text in drawn) for box in (flow.found, flow.used, flow.scored)
    )
    assert f"{2 * folds + 1} images of {2 * folds} patients" in alt
    assert all(
        text in figure_to_svg(figure).decode()
        for text in ("Found", "Parted", "Scored", "Dropped by the split")
    )


def test_boxes_of_one_row_do_not_overlap():
    split = make_split({f"fold {n}": [f"p{n}"] for n in range(MOST_PARTS)}, "folds")
    flow = count_flow(split, "out-of-fold", split.table["id"], "subject")
    _, axes = new_figure(5.6, height_of(flow))
    draw_flow(axes, flow)
    spans = sorted((box.get_y(), box.get_x(), box.get_x() + box.get_width()) for box in axes.patches)
    for (row, _, end), (other, start, _) in pairwise(spans):
        assert row != other or end <= start
    assert all(0 <= start < end <= 1 for _, start, end in spans)


def test_ids_that_are_one_patient_are_not_counted_as_patients():
    split = make_split({"fold 1": ["20", "21", "21"], "fold 2": ["5"]}, "folds")
    split.table["group"] = split.table["group"].replace({"20": "20+21", "21": "20+21"})
    flow = count_flow(split, "out-of-fold", split.table["id"], "subject")
    told = " ".join(flow.describe())
    assert "Found: 4 images of 3 patient ids." in told
    assert "those that were parted make 2 groups" in told
    assert " patients" not in told
    alone = count_flow(make_split({"fold 1": ["20"], "fold 2": ["5"]}, "folds"), "out-of-fold", [], "subject")
    assert "of 2 patients" in " ".join(alone.describe())


def test_copies_on_two_sides_are_not_said_to_be_kept_together():
    flow = count_flow(
        HOLDOUT, "test", ["test/0.png"], "subject", copies=["train/0.png", "test/0.png"], leaks=1
    )
    assert "Known copies of each other, not all kept on one side: 2 images of 2 patients." in flow.describe()
