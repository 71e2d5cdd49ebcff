"""The data card of rendered cells: duplicates side by side, a planted subject, and a page that stands alone."""

from __future__ import annotations

import csv
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from page_tables import read_tables, texts
from typer.testing import CliRunner

from kerasall.cli.app import app
from kerasall.components.example_validator import examine
from kerasall.data.sources import read_source
from kerasall.data.synthetic import SyntheticSettings, render_cells
from kerasall.report.page import render_page
from kerasall.report.pages.data_card import make_data_card
from kerasall.settings import CheckSettings


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """22 subjects of two classes; one is much darker, one image stands under both classes."""
    folder = tmp_path_factory.mktemp("cells")
    cells = render_cells(
        folder / "rendered", SyntheticSettings(subjects_per_class=11, images_per_subject=4, size=64, seed=3)
    )
    rows = cells.examples.to_dict("records")
    dark = rows[0]["subject"]
    for row in rows:
        if row["subject"] == dark:
            pixels = cv2.imread(row["path"])
            cv2.imwrite(row["path"], (pixels * 0.4).astype(np.uint8))
    other = next(row for row in rows if row["label"] != rows[-1]["label"])
    shutil.copyfile(rows[-1]["path"], folder / "copy.bmp")
    rows.append({"path": str(folder / "copy.bmp"), "label": other["label"], "subject": other["subject"]})
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "subject"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return folder / "table.csv", str(dark)


def test_the_page_stands_alone_and_names_what_was_planted(table):
    path, dark = table
    page = path.with_name("card.html")
    result = CliRunner().invoke(app, ["check", str(path), "--report", str(page), "--json"])
    assert result.exit_code == 1  # one cell under two classes is an error
    assert json.loads(result.stdout)["exact_duplicate_groups"] == 1
    text = page.read_text(encoding="utf-8")
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", re.sub(r"data:[^\"]*", "", text))
    assert "<script" not in text
    assert "data card" in text
    assert re.search(r"Group 1: 2 byte-identical files · different labels · 2 subjects", text)
    assert f"Subject {dark}, and beside it others" in text
    assert text.count("<img") >= 12
    assert all(re.search(r'alt="[^"]+"', tag) for tag in re.findall(r"<img[^>]*>", text))


@pytest.mark.slow
def test_the_document_counts_as_check_does(table):
    path, dark = table
    examined = examine(read_source("csv", path), CheckSettings())
    report = make_data_card(examined, "kerasall check")
    assert report.results == examine(read_source("csv", path), CheckSettings()).found
    sections = {section.id: section for section in report.sections}
    odd = texts(read_tables(sections["by-subject"].body)["Every subject unlike the rest"])[1:]
    assert {row[0] for row in odd} == {dark}
    assert "Green" in {row[3] for row in odd}


@pytest.mark.slow
def test_a_folder_without_subjects_says_so(table, tmp_path):
    path, _ = table
    tree = tmp_path / "tree"
    shutil.copytree(path.parent / "rendered", tree, ignore=shutil.ignore_patterns("*.json"))
    examined = examine(read_source("folder", tree), CheckSettings())
    report = make_data_card(examined, "kerasall check")
    words = render_page(report)
    assert "No subject is known of these images." in words
    assert "not stated" in words


def test_published_folds_have_a_column_each(tmp_path):
    cells = render_cells(
        tmp_path / "cells", SyntheticSettings(subjects_per_class=4, images_per_subject=3, size=48, seed=3)
    )
    for number, row in enumerate(cells.examples.to_dict("records")):
        subject, fold = number // 3, number // 3 % 2
        name = f"UID_{'H' * (row['label'] == 'hem')}{60 + subject}_{number % 3 + 1}_1_{row['label']}.bmp"
        folder = tmp_path / "C-NMC_training_data" / f"fold_{fold}" / row["label"]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(row["path"], folder / name)
    collection = read_source("cnmc", tmp_path / "C-NMC_training_data")
    page = render_page(make_data_card(examine(collection, CheckSettings()), "kerasall check"))
    tables = [texts(each) for each in read_tables(page).values()]
    (counts,) = [table for table in tables if {"fold_0", "fold_1"} <= set(table[0])]
    assert ["6", "6"] in [row[-2:] for row in counts[1:]]


def test_a_wrong_page_name_is_refused_before_anything_is_read(table, tmp_path):
    result = CliRunner().invoke(app, ["check", str(table[0]), "--report", str(tmp_path / "card.pdf")])
    assert result.exit_code != 0
    assert "must name an .html file" in str(result.exception)
