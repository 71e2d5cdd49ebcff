"""What Samyuktha et al. printed: golden cells, and what follows from the printed numbers."""

from __future__ import annotations

from math import floor

import numpy as np
import pytest

from kerasall.published.papers import Table, printed_number, read_paper

PAPER = read_paper("four_stage_vote")
BATCH = 32
SHARES = {"Train": 0.7, "Validation": 0.2, "Test": 0.1}
IMAGES = {"Benign": 504, "Early": 985, "Pre": 963, "Pro": 804}


def table(number: int) -> Table:
    return next(each for each in PAPER.tables if each.name == f"Table {number}")


def column(number: int, *name: str) -> dict[tuple[str, ...], float]:
    """Row -> number of a column."""
    found = table(number)
    index = [each.name for each in found.columns].index(name)
    numbers = {row.name: printed_number(row.cells[index]) for row in found.rows}
    return {name: number for name, number in numbers.items() if number is not None}


def divided(images: int) -> dict[str, int]:
    """A class dealt 70/20/10: training and validation cut to whole images, the rest for the test part."""
    train, validation = floor(0.7 * images + 1e-9), floor(0.2 * images + 1e-9)
    return {"Train": train, "Validation": validation, "Test": images - train - validation}


def test_every_table_and_figure_is_there():
    assert [each.name for each in PAPER.tables] == [f"Table {number}" for number in range(1, 6)]
    assert [each.name for each in PAPER.figures] == [f"Figure {number}" for number in range(1, 32)]
    assert all(each.ours or each.note for each in PAPER.figures)


@pytest.mark.parametrize(
    ("number", "row", "cells"),
    [
        (1, ("CNN with VGG-16, VGG-19, and Xception",), ("Yes", "92.48%", "C-NMC dataset")),
        (2, ("Train",), ("2263",)),
        (3, ("Test", "Benign"), ("98", "385")),
        (3, ("Validation", "Pro"), ("180", "")),
        (4, ("4", "Pro"), ("804", "903")),
        (4, ("Total", ""), ("3256", "3826", "")),
        (5, ("1", "MobileNet"), ("0.96", "0.97", "0.95", "0.96")),
        (5, ("6", "Ensemble"), ("0.96", "0.97", "0.95", "0.96")),
        (5, ("8", "MobileNet after cross validation (model 2)"), ("0.96", "0.97", "0.95", "0.95")),
    ],
)
def test_golden_cells(number, row, cells):
    found = next(each for each in table(number).rows if each.name == row)
    assert found.cells[: len(cells)] == cells


def test_keys_name_the_part_the_class_and_the_member():
    found = table(3)
    first, second = found.rows[:2]
    assert [found.key(first, each) for each in found.columns] == ["images/test/Benign", "images/test/all"]
    assert [found.key(second, each) for each in found.columns] == ["images/test/Early", ""]  # nothing printed
    assert table(4).key(table(4).rows[0], table(4).columns[0]) == "images/all/Benign"
    compared = table(5)
    assert compared.key(compared.rows[4], compared.columns[3]) == "member/nasnet_large/f1_macro"


def test_the_training_images_of_table_2_are_fourteen_short():
    printed = column(2, "Total")
    assert sum(printed.values()) == 3256 - 14 == sum(IMAGES.values()) - 14
    parts = [divided(images) for images in IMAGES.values()]
    sums = {part: sum(each[part] for each in parts) for part in SHARES}
    assert sums == {"Train": 2277, "Validation": 649, "Test": 330}
    assert [(flag.row, flag.likely) for flag in table(2).flags] == [(("Train",), "2277")]


def test_sums_of_tables_3_and_4_are_right_and_copies_stand_in_every_part():
    images, totals = column(3, "Number of Images"), column(3, "Total")
    augmented, original = (
        column(4, "Number of Images", "Data Augmented"),
        column(4, "Number of Images", "Original"),
    )
    for part in SHARES:
        own = {label: count for (where, label), count in images.items() if where == part}
        assert sum(own.values()) == totals[part, "Benign"]
        for label in ("Early", "Pre"):
            assert own[label] == divided(IMAGES[label])[part]
    for (_, label), count in augmented.items():
        if label:
            assert count == sum(each for (_, name), each in images.items() if name == label)
    assert augmented["Total", ""] == sum(totals.values()) == 3826
    assert original["Total", ""] == sum(IMAGES.values())
    copies = {
        part: totals[part, "Benign"] - sum(divided(n)[part] for n in IMAGES.values()) for part in SHARES
    }
    assert copies == {"Train": 400, "Validation": 115, "Test": 55}


def test_accuracies_are_counts_of_one_batch_cut_after_two_digits():
    cut = {floor(100 * k / BATCH) / 100 for k in range(BATCH + 1)}
    rounded = {round(k / BATCH + 1e-9, 2) for k in range(BATCH + 1)}
    printed = column(5, "Accuracy")
    assert set(printed.values()) <= cut
    impossible = {row for row, accuracy in printed.items() if accuracy not in rounded}
    assert impossible == {flag.row for flag in table(5).flags}
    for flag in table(5).flags:
        assert float(flag.likely) in rounded
        assert float(flag.likely) == pytest.approx(printed[flag.row] + 0.01)


def test_the_ensembles_scores_are_one_image_of_a_class_of_6_called_one_of_11():
    matrix = np.diag([6, 11, 7, 8])
    matrix[0, 0], matrix[0, 1] = 5, 1
    precision, recall = matrix.diagonal() / matrix.sum(axis=0), matrix.diagonal() / matrix.sum(axis=1)
    f1 = 2 * precision * recall / (precision + recall)
    scores = [matrix.trace() / BATCH, precision.mean(), recall.mean(), f1.mean()]
    # Printed in the text: 96.87%, 97.91%, 95.83%, 96.64%.
    assert [floor(10000 * score) / 100 for score in scores] == [96.87, 97.91, 95.83, 96.64]
    row = next(each for each in table(5).rows if each.ours == "ensemble")
    assert [printed_number(cell) for cell in row.cells] == [floor(100 * score) / 100 for score in scores]


def test_the_protocol_says_which_mobilenet():
    assert "MobileNetV2" in PAPER.protocol
    assert "MobileNetV2" in table(5).protocol
