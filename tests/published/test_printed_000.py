"""Chen et al. (2021) as transcribed: every number that follows from others does."""

from __future__ import annotations

import csv
import re

import numpy as np
import pandas as pd
import pytest
from textbook_data import RESNET_ACCURACY, RESNET_CONFIRMATION, RESNET_ETA, resnet_table

from kerasall.published.papers import Table, read_paper
from kerasall.studies.tables.listed import read_listed, score_printed
from kerasall.taguchi.analysis import analyze

PAPER = read_paper("taguchi_resnet101_vote")
TABLES: dict[str, Table] = {table.name.removeprefix("Table "): table for table in PAPER.tables}


def numbers(table: str) -> np.ndarray:
    """All cells of a table of numbers."""
    return np.array([[float(cell.replace(",", "")) for cell in row.cells] for row in TABLES[table].rows])


def test_every_table_and_figure_is_there():
    assert list(TABLES) == [str(number) for number in range(1, 18)]
    assert [figure.name for figure in PAPER.figures] == ["Fig. 1", "Fig. 2", "Fig. 3"]
    assert not any(table.flags for table in PAPER.tables)


def test_counts_add_up():
    counts = numbers("1")
    assert (counts[:2].sum(axis=0) == counts[2]).all()
    assert (counts[:, :2].sum(axis=1) == counts[:, 2]).all()


def test_table_4_holds_the_values_of_table_3_at_the_levels_of_table_2():
    levels, values = TABLES["2"].rows, TABLES["3"].rows
    assert np.array_equal(numbers("2").astype(int), np.column_stack(list(resnet_table().values())))
    for row, made in zip(levels, TABLES["4"].rows, strict=True):
        assert made.cells == tuple(values[f].cells[int(level) - 1] for f, level in enumerate(row.cells))


def test_means_deviations_and_ratios_of_table_5_follow_from_its_runs():
    found = numbers("5")
    runs, (mean, sd, eta) = found[:, :3], found[:, 3:].T
    assert runs[1::2].tolist() == RESNET_ACCURACY.tolist()
    assert eta[1::2].tolist() == RESNET_ETA.tolist()
    assert np.abs(runs.mean(axis=1) - mean).max() <= 0.5e-4 + 1e-9
    assert np.abs(runs.std(axis=1, ddof=1) - sd).max() <= 0.52e-4
    assert np.abs(-20 * np.log10(1 - runs.mean(axis=1)) - eta).max() <= 0.51e-4


def test_tables_6_and_8_follow_from_table_5():
    found = analyze(resnet_table(), RESNET_ACCURACY, signal="target:1")
    cells = [row.cells for row in TABLES["6"].rows]
    for column, name in enumerate("ABCD"):
        means = found.response_table[name]
        assert [f"{mean:.4f}" for mean in means] == [row[column] for row in cells[:3]]
        assert f"{found.effects[name]:.4f}" == cells[3][column]
        assert f"{max(means):.4f}" == cells[4][column]
        assert str(found.best_levels[name]) == cells[5][column]
        assert TABLES["3"].rows[column].cells[found.best_levels[name] - 1] == cells[6][column]
    for row, printed in zip(found.anova.rows, TABLES["8"].rows, strict=False):
        made = (row.sum_of_squares, row.df, row.mean_square, row.sum_of_squares, row.contribution_percent)
        assert [f"{v:.{d}f}" for v, d in zip(made, (4, 0, 4, 4, 2), strict=True)] == list(printed.cells)
    total = sum(float(row.cells[0]) for row in TABLES["8"].rows[:5])
    assert float(TABLES["8"].rows[5].cells[0]) == pytest.approx(total, abs=1e-4)


def test_the_last_rows_of_table_7_follow_from_the_others():
    models = numbers("7")[:9]
    assert models[:, 1].tolist() == RESNET_CONFIRMATION
    mean, sd, eta = numbers("7")[9:]
    assert models.mean(axis=0) == pytest.approx(mean, abs=0.6e-4)
    assert models.std(axis=0, ddof=1) == pytest.approx(sd, abs=0.5e-4)
    assert -20 * np.log10(1 - models.mean(axis=0)) == pytest.approx(eta, abs=0.5e-4)
    assert [f"{row.name[0]}" for row in TABLES["7"].rows[:9]] == [
        f"Resnet-101-{cell[2:]} (#{k})"
        for k, cell in enumerate((r.cells[1] for r in TABLES["7"].rows[:9]), 1)
    ]


@pytest.mark.parametrize(("matrices", "scores"), [("9", "10"), ("11", "12"), ("13", "14"), ("15", "16")])
def test_scores_follow_from_the_confusion_matrices(matrices, scores):
    called_all, called_normal = numbers(matrices)[::2], numbers(matrices)[1::2]
    (tp, fp), (fn, tn) = called_all.T, called_normal.T
    assert set(tp + fn) == {1219}
    assert set(fp + tn) == {648}
    precision, recall = tp / (tp + fp), tp / 1219
    f1 = 2 * precision * recall / (precision + recall)
    made = np.column_stack([(tp + tn) / 1867, precision, recall, tn / 648, f1])
    assert np.abs(made - numbers(scores)).max() <= 0.5e-4 + 1e-9
    # A model's accuracy is its name, and each table repeats the rows of the one before.
    for row in TABLES[scores].rows[:-1]:
        assert row.name[0].removeprefix("Resnet-101-") == f"{float(row.cells[0]):.4f}".removeprefix("0.")
    rows = {row.ours: row.cells for row in TABLES["16"].rows}
    for row in TABLES[scores].rows[:-1]:
        assert [float(cell) for cell in row.cells] == [float(cell) for cell in rows[row.ours]]


def test_the_text_claims_more_than_tables_7_14_and_16_show():
    assert numbers("7")[:9, 1].min() < numbers("5")[1::2, 3].max()
    for table in ("14", "16"):
        specificity = numbers(table)[:, 3]
        assert (specificity[:-1] > specificity[-1]).sum() == 2
    assert numbers("5")[7, 0] < 1219 / 1867


def test_table_17_lists_278_images_once_each_as_many_as_the_vote_has_wrong():
    rows = TABLES["17"].rows
    listed = [[int(name) for name in row.cells[0].split(",")] for row in rows]
    assert [len(numbers) for numbers in listed] == [int(row.cells[1]) for row in rows]
    assert [int(row.cells[1]) for row in rows] == [24, 10, 16, 15, 36, 30, 27, 24, 29, 67]
    every = [number for numbers in listed for number in numbers]
    assert len(every) == len(set(every)) == len(read_listed(TABLES["17"])) == 278
    assert max(every) <= 1867
    assert all(numbers == sorted(numbers) for numbers in listed)
    vote = numbers("15")[-2:]
    assert (sum(map(len, listed[:5])), sum(map(len, listed[5:]))) == (vote[1, 0], vote[0, 1])


@pytest.mark.realdata
def test_the_packaged_interval_is_that_of_the_published_label_table(real_data):
    """All listed images have the class that the paper gives them, and 28 ids give the interval that the file states."""
    file = real_data / "C-NMC_test_prelim_phase_data_labels.csv"
    if not file.exists():
        pytest.skip(f"real data absent: {file}")
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    label = {row["new_names"].removesuffix(".bmp"): "all" if row["labels"] == "1" else "hem" for row in rows}
    for row in TABLES["17"].rows:
        wanted = "all" if row.ours.startswith("malignant") else "hem"
        assert {label[name] for name in row.cells[0].split(", ")} == {wanted}
    names = [row["new_names"] for row in rows]
    subjects = [re.match(r"UID_(H?\d+)_", row["Patient_ID"], re.I)[1].upper() for row in rows]  # type: ignore[index]
    images = pd.DataFrame({"id": names, "label": [label[n.removesuffix(".bmp")] for n in names]})
    images = images.assign(subject=subjects, group=subjects)
    found = score_printed(images, read_listed(TABLES["17"]))
    assert found.value == pytest.approx(0.8511, abs=0.5e-4)
    assert found.groups == 28
    listed = TABLES["17"].listed
    assert listed is not None
    told = [float(number) for number in re.search(r"patients: (\.\d+) to (\.\d+)", listed.fact).groups()]  # type: ignore[union-attr]
    assert [found.low, found.high] == pytest.approx(told, abs=0.5e-3)
