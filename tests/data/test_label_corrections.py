"""Corrected labels: every fault named, every change on record, frozen splits kept."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from kerasall.csv_tables import write_csv
from kerasall.data.examples import Collection, make_examples
from kerasall.data.label_corrections import (
    add_parts,
    apply_corrections,
    read_corrected_split,
    read_corrections,
    write_corrections,
)
from kerasall.data.splits import write_split
from kerasall.data.stratification import fold_split, holdout_split
from kerasall.errors import ArtifactError, DataError, SettingsError
from kerasall.files import sha256_of_file
from kerasall.shown_text import to_cell

LABELS = ("all", "hem")


@pytest.fixture
def cells() -> Collection:
    """Twelve subjects of two images each; the even ones are of class all."""
    rows = [
        {"id": f"{LABELS[s % 2]}/{s}_{n}.bmp", "path": f"/none/{s}_{n}", "label": LABELS[s % 2], "subject": f"s{s}"}
        for s in range(12)
        for n in range(2)
    ]  # fmt: skip
    return Collection("folder", Path("/none"), make_examples(rows), LABELS, subject_kind="subject")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def labels_of(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["id"], table["label"], strict=True))


def test_changes_confirmations_and_exclusions_are_applied_and_kept_on_record(cells, tmp_path):
    path = write(
        tmp_path / "corrections.csv",
        "rank,id,label,corrected_label,reviewer,comment\n"
        '1,all/0_0.bmp,all,hem,Dr. Ada,"small, round"\n'
        "2,all/2_0.bmp,all,all,Dr. Ada,\n"
        "3,hem/1_1.bmp,hem,exclude,Dr. Bo,blurred\n"
        "4,hem/3_1.bmp,hem,,,not looked at\n",
    )
    corrected, files = apply_corrections(cells, [path])
    before, after = labels_of(cells.examples), labels_of(corrected.examples)
    assert after == {
        **{name: label for name, label in before.items() if name != "hem/1_1.bmp"},
        "all/0_0.bmp": "hem",
    }
    (file,) = files
    assert file.sha256 == sha256_of_file(path)
    assert [(c.id, c.label, c.corrected_label, c.kind) for c in file.corrections] == [
        ("all/0_0.bmp", "all", "hem", "changed"),
        ("all/2_0.bmp", "all", "all", "confirmed"),
        ("hem/1_1.bmp", "hem", "exclude", "excluded"),
    ]
    assert (file.corrections[0].reviewer, file.corrections[0].comment) == ("Dr. Ada", "small, round")
    assert "1 changed, 1 left out, 1 confirmed" in corrected.notes[-1]
    assert file.sha256[:12] in corrected.notes[-1]
    assert any("all/2_0.bmp" in warning for warning in corrected.read_warnings)
    assert labels_of(cells.examples) == before
    write_corrections(files, tmp_path)
    assert read_corrections(tmp_path) == files


def test_no_file_changes_nothing_and_leaves_no_record(cells, tmp_path):
    corrected, files = apply_corrections(cells, [])
    assert corrected is cells
    write_corrections(files, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert read_corrections(tmp_path) == []


def test_a_second_round_sees_the_labels_of_the_first(cells, tmp_path):
    first = write(tmp_path / "a.csv", "id,label,corrected_label\nall/0_0.bmp,all,hem\n")
    second = write(tmp_path / "b.csv", "id,label,corrected_label\nall/0_0.bmp,hem,all\n")
    corrected, files = apply_corrections(cells, [first, second])
    assert labels_of(corrected.examples) == labels_of(cells.examples)
    assert [file.corrections[0].label for file in files] == ["all", "hem"]
    with pytest.raises(DataError, match="labelled otherwise now"):
        apply_corrections(cells, [second, first])


def test_tables_of_spreadsheets_are_read(cells, tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes(b"\xef\xbb\xbfID;Corrected_Label;Reviewer\r\nall/0_0.bmp;hem;M\xc3\xbcller\r\n;;\r\n")
    _, (file,) = apply_corrections(cells, [path])
    assert (file.corrections[0].corrected_label, file.corrections[0].reviewer) == ("hem", "Müller")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,corrected_label\nall/0_0.bpm,hem\n", r"did you mean all/0_0\.bmp"),
        ("id,corrected_label\nall/0_0.bmp,blast\n", r"must be among \['all', 'hem', 'exclude'\]"),
        ("id,corrected_label\nall/0_0.bmp,hem\nall/0_0.bmp,exclude\n", "every image once"),
        ("id,corrected_label\nall/0_0.bmp,\n", "holds none"),
        ("id,new\nall/0_0.bmp,hem\n", r"has not \['corrected_label'\]"),
        ("id,corrected_label\nall/0_0.bmp,hem,Dr. Ada, MD\n", "quotation marks"),
        ("id,label,corrected_label\nall/0_0.bmp,hem,hem\n", "was 'hem', is 'all'"),
        ("", "columns"),
    ],
)
def test_faults_are_named_with_their_cure(cells, tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        apply_corrections(cells, [write(tmp_path / "faulty.csv", text)])


def test_missing_and_binary_files_are_refused(cells, tmp_path):
    with pytest.raises(DataError, match="must exist"):
        apply_corrections(cells, [tmp_path / "none.csv"])
    (tmp_path / "image.csv").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    with pytest.raises(DataError, match="reading it failed"):
        apply_corrections(cells, [tmp_path / "image.csv"])


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_names_that_a_spreadsheet_would_run_come_back(tmp_path, suffix):
    names = ["=1+1.png", "@b.png", "-c.png", "'=d.png", "e\rf.png", "-7"]
    rows = [{"id": name, "path": "/none", "label": "=1+1"} for name in names]
    collection = Collection("folder", Path("/none"), make_examples(rows), ("=1+1", "-"))
    table = pd.DataFrame({"id": names, "label": "=1+1", "corrected_label": "-", "comment": "+1"})
    if suffix == ".csv":
        write_csv(table, tmp_path / "c.csv")
    else:
        names.pop(4)  # no Excel file holds a carriage return
        table = table.drop(index=4).map(to_cell).rename(columns=to_cell)
        table.to_excel(tmp_path / "c.xlsx", index=False)
    corrected, files = apply_corrections(collection, [tmp_path / f"c{suffix}"])
    assert [each.id for each in files[0].corrections] == names
    assert {each.comment for each in files[0].corrections} == {"+1"}
    assert (corrected.examples["label"] == "-").sum() == len(names)


@pytest.mark.parametrize("kind", ["holdout", "folds"])
def test_a_split_frozen_before_the_corrections_keeps_every_part(cells, tmp_path, kind):
    split = (
        holdout_split(
            cells.examples, [], shares={"validation": 0.25, "test": 0.25}, seed=3, fingerprint="old"
        )
        if kind == "holdout"
        else fold_split(cells.examples, [], folds=3, seed=3, fingerprint="old")
    )
    write_split(split, tmp_path / "split.json")
    path = write(tmp_path / "c.csv", "id,corrected_label\nall/0_0.bmp,hem\nhem/1_1.bmp,exclude\n")
    corrected, files = apply_corrections(cells, [path])
    drawn, with_parts = read_corrected_split(tmp_path / "split.json", corrected.examples, files, "new")
    part = dict(zip(split.table["id"], split.table["part"], strict=True))
    assert labels_of(drawn.table) == labels_of(corrected.examples)
    assert drawn.fingerprint == "new"
    assert {n: part[n] for n in drawn.table["id"]} == dict(
        zip(drawn.table["id"], drawn.table["part"], strict=True)
    )
    assert [c.part for c in with_parts[0].corrections] == [part["all/0_0.bmp"], part["hem/1_1.bmp"]]
    # Frozen again, it is the split of the corrected data.
    write_split(drawn, tmp_path / "again.json")
    again, _ = read_corrected_split(tmp_path / "again.json", corrected.examples, files, "new")
    assert again.sha256 == drawn.sha256


def test_a_split_of_other_data_stays_refused(cells, tmp_path):
    other = cells.examples[cells.examples["subject"] != "s3"]
    write_split(holdout_split(other, [], shares={"test": 0.3}, seed=0), tmp_path / "split.json")
    path = write(tmp_path / "c.csv", "id,corrected_label\nall/0_0.bmp,hem\n")
    corrected, files = apply_corrections(cells, [path])
    with pytest.raises(DataError, match="images of the data are not in the split"):
        read_corrected_split(tmp_path / "split.json", corrected.examples, files, "")
    with pytest.raises(ArtifactError, match="must exist"):
        read_corrected_split(tmp_path / "none.json", corrected.examples, files, "")


def test_parts_of_a_split_drawn_on_corrected_data_are_noted(cells, tmp_path):
    path = write(tmp_path / "c.csv", "id,corrected_label\nall/0_0.bmp,hem\nhem/1_1.bmp,exclude\n")
    corrected, files = apply_corrections(cells, [path])
    split = fold_split(corrected.examples, [], folds=3, seed=0)
    (file,) = add_parts(files, split)
    part = dict(zip(split.table["id"], split.table["part"], strict=True))
    assert [c.part for c in file.corrections] == [part["all/0_0.bmp"], ""]


def test_the_key_of_example_gen_follows_the_files_content(tmp_path):
    from kerasall.components.example_gen import list_files
    from kerasall.settings import DataSettings

    path = write(tmp_path / "c.csv", "id,corrected_label\na,hem\n")
    data = DataSettings(source="synthetic", corrections=str(path))
    assert data.corrections == (str(path),)
    first = list_files(data)
    write(path, "id,corrected_label\na,all\n")
    assert list_files(data) not in (first, None)
    assert list_files(DataSettings(source="synthetic")) is None


def test_settings_refuse_what_is_no_path():
    from kerasall.settings.loading import validate

    with pytest.raises(SettingsError, match=r"data\.corrections"):
        validate({"experiment": "x", "pipeline": "x", "data": {"corrections": {"file": 3}}}, "config")
