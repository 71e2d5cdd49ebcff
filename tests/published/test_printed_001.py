"""What Mondal et al. printed: golden cells, and what follows from the printed numbers."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from possible_scores import rounds_to

from kerasall.evaluation import confusion_scores as of_matrix
from kerasall.evaluation.metrics import METRICS
from kerasall.published.papers import Row, Table, printed_number, read_paper

PAPER = read_paper("weighted_ensemble")
HEM, ALL = 648, 1219
RUNS = 5
SCORES = ("precision_weighted", "recall_weighted", "f1_weighted", "accuracy", "balanced_accuracy")
NONE = np.zeros(2, bool)


def table(name: str) -> Table:
    return next(each for each in PAPER.tables if each.name == name)


def rows(name: str) -> dict[tuple[str, ...], tuple[str, ...]]:
    return {row.name: row.cells for row in table(name).rows}


def matrix_of(hem: float, leukemia: float) -> np.ndarray:
    """Rows are the true classes, Hem first."""
    return np.array([[hem, HEM - hem], [ALL - leukemia, leukemia]], float)


def counted() -> dict[str, np.ndarray]:
    """Model -> its confusion matrix at 300 pixels, of the counts in section 5."""
    cells = {name[0]: row for name, row in rows("Section 5, images called rightly").items()}
    return {name: matrix_of(float(row[0]), float(row[2])) for name, row in cells.items()}


def flagged(name: str) -> set[tuple[str, str]]:
    return {(flag.row[-1], flag.column[-1]) for flag in table(name).flags}


def at(side: int) -> dict[str, Row]:
    return {row.name[2]: row for row in table("Table 4").rows if row.name[1] == f"{side} x {side}"}


def test_every_table_and_figure_is_there():
    numbered = [each.name for each in PAPER.tables if each.name.startswith("Table") and "," not in each.name]
    assert numbered == [f"Table {number}" for number in range(1, 8)]
    assert [each.name for each in PAPER.figures] == [f"Fig. {number}" for number in range(1, 11)]


@pytest.mark.parametrize(
    ("name", "row", "cells"),
    [
        ("Table 1", ("2019 [7]",), ("Color conversion and thresholding for segmentation",)),
        ("Table 2", ("2019 [66]",), ("Center cropping, normalization, and resizing", "No", "MobileNet-V2")),
        ("Table 3", ("2nd", "Preliminary Test"), ("13", "15", "1219", "648")),
        ("Table 4", ("Individual CNN models", "450 x 450", "MobileNet"), ("0.837", "0.830", "0.820", "0.830", "0.774")),
        ("Table 4", ("Our ensemble models", "300 x 300", "WEN kappa"), ("0.897", "0.898", "0.897", "0.898", "0.883")),
        ("Table 5", ("Individual CNN models", "DenseNet-121"), ("0.818", "0.38", "0.821", "0.62", "0.792", "3.00")),
        ("Table 6", ("ALL", "images"), ("173", "1046", "82", "1137")),
        ("Table 7", ("Our Classifier",), ("Adamax", "0.0002", "Cross-entropy", "8")),
    ],
)  # fmt: skip
def test_golden_cells(name, row, cells):
    assert rows(name)[row][: len(cells)] == cells


def test_the_totals_of_table_3_are_sums():
    numbers = np.array([[printed_number(cell) for cell in cells] for cells in rows("Table 3").values()])
    assert (numbers[:-1].sum(axis=0) == numbers[-1]).all()
    assert numbers[0, 2] / numbers[0, 3] == pytest.approx(2.15, abs=0.005)  # as section 4.1.1 says


def test_table_4_at_300_pixels_follows_from_the_counts_but_for_the_flagged_cells():
    wrong = set()
    for name, matrix in counted().items():
        row = at(300)[name]
        for column, cell in zip(table("Table 4").columns, row.cells, strict=True):
            found = METRICS[column.ours].formula(matrix, NONE)
            if abs(found - float(cell)) > 5.2e-4:  # Xception's 0.86546 is printed as 0.865
                wrong.add((name, column.name[-1]))
                (flag,) = [each for each in table("Table 4").flags if each.row == row.name]
                assert rounds_to(np.array([found]), flag.likely).all()
    assert wrong == {("WEN kappa", "BA"), ("InceptionResNet-V2", "BA")}
    assert {
        (flag.row[2], flag.column[0]) for flag in table("Table 4").flags if flag.row[1] == "300 x 300"
    } == wrong


def test_every_row_of_table_4_is_that_of_some_confusion_matrix_but_for_its_flagged_cell():
    right = np.stack(np.meshgrid(np.arange(HEM + 1.0), np.arange(ALL + 1.0), indexing="ij")).reshape(2, -1)
    matrices = np.moveaxis(np.array([[right[0], HEM - right[0]], [ALL - right[1], right[1]]]), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = {name: METRICS[name].formula(matrices, NONE) for name in SCORES}
    flags = {flag.row: flag for flag in table("Table 4").flags}
    for row in table("Table 4").rows:
        assert row.cells[1] == row.cells[3]  # weighted recall is accuracy
        fits = {name: rounds_to(scores[name], cell) for name, cell in zip(SCORES, row.cells, strict=True)}
        if row.name[2] == "InceptionResNet-V2":
            assert not np.logical_and.reduce(list(fits.values())).any()
            assert flags[row.name].column == ("BA",)
            del fits["balanced_accuracy"]
        assert np.logical_and.reduce(list(fits.values())).any(), row.name
        if row.name[1:] == ("450 x 450", "InceptionResNet-V2"):
            found = scores["balanced_accuracy"][np.logical_and.reduce(list(fits.values()))]
            assert sorted(found.round(4)) == [0.7234, 0.7237]  # as the flag says


def test_table_6_is_the_counts_and_shares_of_its_rows():
    cells, shares = rows("Table 6"), rows("Table 6, percentages")
    for place, name in ((0, "Xception"), (2, "WEN kappa")):
        matrix = np.array([cells[label, "images"][place : place + 2] for label in ("Hem", "ALL")], float)
        np.testing.assert_array_equal(matrix, counted()[name])
        printed = [
            [printed_number(cell) for cell in shares[label, "share"][place : place + 2]]
            for label in ("Hem", "ALL")
        ]
        np.testing.assert_allclose(100 * matrix / matrix.sum(axis=1, keepdims=True), printed, atol=5.1e-3)


def test_the_shares_of_section_5_follow_from_its_counts_but_for_one():
    wrong = set()
    for (name,), cells in rows("Section 5, images called rightly").items():
        for place, column, images in ((0, "Hem", HEM), (2, "ALL", ALL)):
            if abs(100 * float(cells[place]) / images - printed_number(cells[place + 1])) > 0.051:
                wrong.add((name, column))
    assert wrong == {("VGG-16", "Hem")}
    assert {row for row, _ in flagged("Section 5, images called rightly")} == {"VGG-16"}
    assert round(100 * 481 / HEM, 1) == 74.2


def test_the_printed_weights_are_the_kappas_of_the_scored_images():
    for (name,), (cell,) in list(rows("Section 5, weights").items())[:5]:
        model = name.partition("(")[2].rstrip(")")
        assert f"{of_matrix.kappa(counted()[model], NONE):.3f}" == cell


def test_table_4_is_no_further_from_the_means_of_table_5_than_their_variances_allow():
    """Of n values with variance s^2 none lies further than s (n - 1) / sqrt(n) from their mean (Samuelson's inequality)."""
    places = {"f1_weighted": (2, 0), "accuracy": (3, 2), "balanced_accuracy": (4, 4)}
    for (_, name), cells in rows("Table 5").items():
        for single, mean in places.values():
            distance = abs(float(at(300)[name].cells[single]) - float(cells[mean]))
            deviation = sqrt(float(cells[mean + 1])) / 100  # squared percentage points
            assert distance <= deviation * (RUNS - 1) / sqrt(RUNS) + 0.001, (name, mean)


def test_the_flagged_scores_of_others_contradict_the_margins_of_the_text():
    margins = {"2019 [53]": 1.83, "2019 [57]": 2.82, "2019 [66]": 2.70, "2019 [67]": 8.02}
    cells = {name: printed_number(row[-1]) for (name,), row in rows("Table 2").items()}
    wrong = {name for name, margin in margins.items() if abs(89.72 - margin - cells[name]) > 0.06}
    assert wrong == {row for row, _ in flagged("Table 2")}
    for flag in table("Table 2").flags:
        assert printed_number(flag.likely) == pytest.approx(89.72 - margins[flag.row[0]], abs=0.051)
