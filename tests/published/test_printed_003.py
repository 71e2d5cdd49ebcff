"""What Hasanaath et al. printed: golden cells, and every cell that no test part of the printed size can give is flagged."""

from __future__ import annotations

import numpy as np
import pytest
from possible_scores import count_matrices, possible_scores, rounds_to

from kerasall.published.papers import Table, read_paper

PAPER = read_paper("deep_features_svm")
TABLES = {table.name: table for table in PAPER.tables}


def cells(table: Table) -> dict[tuple[str, tuple[str, ...]], str]:
    """(First name of the row, names of the column) -> what was printed."""
    return {
        (row.name[0], column.name): cell
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
    }


def flagged(name: str) -> set[tuple[str, tuple[str, ...]]]:
    return {(flag.row[0], flag.column) for flag in TABLES[name].flags}


def scores_by_row(name: str) -> dict[str, dict[str, str]]:
    """Row -> metric -> printed, of a table with one column a metric; train and validation left out."""
    found: dict[str, dict[str, str]] = {}
    for row in TABLES[name].rows:
        for column, cell in zip(TABLES[name].columns, row.cells, strict=True):
            part, _, metric = column.ours.rpartition("/")
            if part in ("", "test"):
                found.setdefault(row.name[0], {})[metric] = cell
    return found


@pytest.mark.parametrize(
    ("table", "row", "column", "printed"),
    [
        ("Table 1", "Leukemic B-lymphoblast cells (cancer cells)", ("No. of images",), "7227"),
        ("Table 2", "VGG16", ("Train Acc.",), "0.8909"),
        ("Table 2", "InceptionResNetV2", ("Val. Acc.",), "0.8929"),
        ("Table 2", "DenseNet121", ("F1 score",), "0.8254"),
        ("Table 3", "KNN", ("VGG19", "Test Acc."), "0.8201"),
        ("Table 3", "RF", ("ResNet101", "F1 score"), "0.8303"),
        ("Table 3", "DT", ("DenseNet121", "F1 score"), "0.7660"),
        ("Table 4", "SVM", ("DenseNet121 + InceptionResNetV2", "Test Acc."), "0.9147"),
        ("Table 4", "RF", ("VGG16 + DenseNet121", "F1 score"), "0.8214"),
        ("Table 5", "SVM", ("Testing accuracy",), "0.9157"),
        ("Table 5", "DT", ("Recall",), "0.7625"),
        ("Table 6", "SVM", ("Testing accuracy",), "0.9163"),
        ("Table 6", "RF", ("F1 Score",), "0.8432"),
        ("Table 7", "Jawahar et. al (2022) [29]", ("Accuracy",), "91.13%"),
    ],
)
def test_cells_are_those_of_the_paper(table, row, column, printed):
    assert cells(TABLES[table])[row, column] == printed


def test_every_table_is_there_with_as_many_rows_and_columns_as_printed():
    sizes = {name: (len(table.rows), len(table.columns)) for name, table in TABLES.items()}
    assert sizes == {
        "Table 1": (2, 2), "Table 2": (6, 6), "Table 3": (5, 12), "Table 4": (5, 6), "Table 5": (5, 4),
        "Table 6": (5, 4), "Table 7": (10, 3),
    }  # fmt: skip
    assert [figure.name for figure in PAPER.figures] == ["Figure 1"]


def test_table_1_counts_do_not_add_up_as_flagged():
    assert 73 + 26 == 99
    assert 7227 + 3389 != 10_661 == 7272 + 3389
    assert flagged("Table 1") == {
        (TABLES["Table 1"].rows[0].name[0], c.name) for c in TABLES["Table 1"].columns
    }


def test_table_2_is_of_532_images_a_twentieth_of_each_class_cut_off():
    table = TABLES["Table 2"]
    for column in (1, 2):
        printed = [row.cells[column] for row in table.rows]
        sizes = [n for n in range(500, 600) if all(rounds_to(np.arange(n + 1) / n, p).any() for p in printed)]
        assert sizes == [532]
    assert (int(0.05 * 7272), int(0.05 * 3389)) == (363, 169)
    for cancer in range(355, 372):
        counts = [count_matrices(cancer, 532 - cancer, row) for row in scores_by_row("Table 2").values()]
        assert counts == ([1] * 6 if cancer == 363 else [0] * 6)
    assert not table.flags


@pytest.mark.parametrize("name", ["Table 3", "Table 4"])
def test_flagged_pairs_of_accuracy_and_f1_are_those_that_1067_images_cannot_give(name):
    printed = cells(TABLES[name])
    impossible = {
        (row, (networks, "F1 score"))
        for (row, (networks, what)), accuracy in printed.items()
        if what == "Test Acc."
        and not count_matrices(
            728, 339, {"accuracy": accuracy, "f1_macro": printed[row, (networks, "F1 score")]}
        )
    }
    assert impossible == flagged(name) != set()


def test_bounds_in_the_flags_are_those_of_the_program():
    scores = possible_scores(728, 339)
    forest = scores["f1_macro"][rounds_to(scores["accuracy"], "0.8332")]
    assert (f"{forest.min():.4f}", f"{forest.max():.4f}") == ("0.7675", "0.8264")
    neighbours = scores["f1_macro"][rounds_to(scores["accuracy"], "0.8416")]
    assert f"{neighbours[np.abs(neighbours - 0.8141).argmin()]:.5f}" == "0.81417"


def test_every_row_of_table_5_belongs_to_one_matrix_and_no_accuracy_of_table_6_to_any():
    assert [count_matrices(728, 339, row) for row in scores_by_row("Table 5").values()] == [1] * 5
    shares = np.arange(1068) / 1067
    rows = scores_by_row("Table 6")
    impossible = {row for row, printed in rows.items() if not rounds_to(shares, printed["accuracy"]).any()}
    assert {(row, ("Testing accuracy",)) for row in impossible} == flagged("Table 6")
    assert impossible == set(rows)


def test_f1_of_table_6_are_of_mean_precision_and_recall_those_of_table_5_are_not():
    """To one unit in the last place."""

    def harmonic(row: dict[str, str]) -> float:
        precision, recall = float(row["precision_macro"]), float(row["recall_macro"])
        return 2 * precision * recall / (precision + recall)

    off = {
        name: [abs(harmonic(row) - float(row["f1_macro"])) for row in scores_by_row(name).values()]
        for name in ("Table 5", "Table 6")
    }
    assert max(off["Table 6"]) < 1.5e-4
    assert max(off["Table 5"]) > 1e-3


def test_figures_of_ours_stand_where_the_paper_has_them():
    table = TABLES["Table 4"]
    assert table.key(table.rows[1], table.columns[3]) == (
        "classifier/linear_svm/vgg16+inception_resnet_v2/test/f1_macro"
    )
    raw, changed, first = TABLES["Table 2"], TABLES["Table 6"], TABLES["Table 1"]
    assert raw.key(raw.rows[0], raw.columns[1]) == "classifier/raw/mlp/mobilenet_v2/validation/accuracy"
    assert changed.key(changed.rows[0], changed.columns[0]).startswith("classifier/augmented/knn/vgg16+")
    assert first.key(first.rows[1], first.columns[0]) == "subjects/all/benign"
