"""Tables of images: columns, paths, and rows that say too little."""

from __future__ import annotations

from pathlib import Path

import pytest

from kerasall.data.image_table import read_csv
from kerasall.errors import DataError


def _write(root: Path, text: str, images=("img/1.png", "img/2.png", "img/3.png"), encoding="utf-8") -> Path:
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    path = root / "cells.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_all_columns_are_read_with_paths_relative_to_the_table(tmp_path, monkeypatch):
    text = "path,label,subject,fold\nimg/2.png,hem,H1,a\n./img/1.png,all,07,\nimg/../img/3.png,all,NA,b\n"
    path = _write(tmp_path, text)
    monkeypatch.chdir(tmp_path.parent)
    collection = read_csv(Path(tmp_path.name) / path.name)
    examples = collection.examples
    assert list(examples["id"]) == ["img/1.png", "img/2.png", "img/3.png"]
    assert list(examples["path"]) == [str(tmp_path / name) for name in examples["id"]]
    assert list(examples["label"]) == ["all", "hem", "all"]
    assert list(examples["subject"]) == ["07", "H1", ""]  # text, no numbers; NA is nobody
    assert list(examples["fold"]) == ["", "a", "b"]
    assert (collection.labels, collection.subject_kind) == (("all", "hem"), "subject")
    assert collection.read_warnings == ()
    assert "'NA' (1)" in collection.notes[0]
    assert "1 of 3 images no patient" in collection.notes[1]


def test_without_subjects_the_note_says_so_and_with_some_it_counts(tmp_path):
    none = read_csv(_write(tmp_path, "path,label\nimg/1.png,a\nimg/2.png,b\n"))
    assert none.subject_kind == "none"
    assert "may be optimistic" in none.notes[0]
    some = read_csv(_write(tmp_path, "path,label,subject\nimg/1.png,a,x\nimg/2.png,b,\n"))
    assert some.subject_kind == "subject"
    assert some.notes[0].startswith("For 1 of 2 images no patient is known")


def test_spreadsheet_habits_are_understood(tmp_path):
    text = "Label , Path,stain\r\n a ,img\\1.png,x\r\nb,img/2.png,y\r\n"
    collection = read_csv(_write(tmp_path, text, encoding="utf-8-sig"))
    assert list(collection.examples["id"]) == ["img/1.png", "img/2.png"]
    assert list(collection.examples["label"]) == ["a", "b"]
    assert collection.read_warnings == ("columns without a use here were left out: stain",)


def test_absolute_paths_outside_the_folder_keep_their_whole_name(tmp_path):
    far = tmp_path / "far" / "9.png"
    path = _write(
        tmp_path / "near", f"path,label\n{far},a\nimg/1.png,b\n", images=("img/1.png", "../far/9.png")
    )
    examples = read_csv(path).examples
    assert set(examples["id"]) == {far.as_posix(), "img/1.png"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,class\nimg/1.png,a\n", r"\['label'\] are missing: its columns are \['path', 'class'\]"),
        ("path;label\nimg/1.png;a\n", "separated by commas"),
        ("path,label\nimg/1.png,a\nimg/2.png,\n", "label in every row, but not in line 3"),
        ("path,label\n,a\n", "path in every row, but not in line 2"),
        ("path,label\nimg/1.png,a\nimg/1.png,b\n", "occur more than once"),
        ("path,label,Label\nimg/1.png,a,b\n", "more than once"),
        (
            "path,label\nimg/1.png,a\nimg/8.png,a\nimg/9.png,a\n",
            r"2 of 3 do not: \S*img/8\.png, \S*img/9\.png",
        ),
        ("path,label\n", "at least one image"),
        (
            "path,label\n\nimg/1.png,a\nimg/2.png,b,c\n",
            "2 fields in every line, but has another number in line 4",
        ),
        ('path,label\n"img/1.png,a\n', "reading it failed"),
        ("", r"\['path', 'label'\] are missing"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_csv(_write(tmp_path, text))


def test_a_missing_table_and_one_that_is_no_text(tmp_path):
    with pytest.raises(DataError, match="reading it failed"):
        read_csv(tmp_path / "none.csv")
    path = _write(tmp_path, "")
    path.write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(DataError, match="reading it failed"):
        read_csv(path)
