"""Any <class>/<image> tree: what counts as a class, and what is said of the rest."""

from __future__ import annotations

import os

import pytest
from lab_images import touch

from kerasall.data.image_folder import read_image_folder
from kerasall.errors import DataError, KerasallError


def test_classes_are_the_folders_at_the_top_and_all_suffixes_count(tmp_path):
    names = ["b/1.BMP", "b/deep/er/2.tif", "a/x.jpeg", "a/y.jpg", "a/z.png", "a/w.tiff"]
    collection = read_image_folder(touch(tmp_path, *names))
    assert collection.labels == ("a", "b")
    assert list(collection.examples["id"]) == sorted(names)
    assert list(collection.examples["label"]) == [name[0] for name in sorted(names)]
    assert set(collection.examples["subject"]) == {""}
    assert (collection.subject_kind, collection.malignant) == ("none", ())
    assert collection.notes[0] == "Folders are read as in a/w.tiff: class a (1st folder), no patient known."
    assert "may be optimistic" in collection.notes[1]
    assert "folders such as deep are" not in "".join(collection.read_warnings)


def test_what_is_left_out_is_said_and_hidden_files_are_not_mentioned(tmp_path):
    root = touch(
        tmp_path, "a/1.png", "a/notes.txt", "a/.hidden.png", "a/._1.png", ".git/x.png", "__MACOSX/a/1.png"
    )
    touch(root, "b/2.png", "c/3.png", "loose.png", "table.csv", "empty/readme.md")
    collection = read_image_folder(root, classes=["b", "a"])
    assert collection.labels == ("b", "a")
    assert list(collection.examples["id"]) == ["a/1.png", "b/2.png"]
    unused, loose, table, empty, others = collection.read_warnings
    assert "1 images outside any class folder were left out: loose.png" in loose
    assert "c (1)" in unused
    assert empty.endswith("empty")
    assert "not from table.csv: to read such a table, give its path in place of the folder's" in table
    assert "2 files that are no images were left out: a/notes.txt, empty/readme.md" in others


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (["1.png", "2.png"], None, "2 images lie in it directly"),
        (["a/readme.txt"], None, "no images lie below it"),
        (["train/1.png", "Test/2.png"], None, "parts of a split"),
        (["a/1.png", "ab/2.png"], ["a", "abb"], r"'abb' \(did you mean 'ab'\?\) is not: there are a, ab"),
        (["a/1.png"], ["a", "A"], "name each once"),
    ],
)
def test_trees_without_usable_classes_are_refused_with_a_cure(tmp_path, names, classes, message):
    with pytest.raises(KerasallError, match=message):
        read_image_folder(touch(tmp_path, *names), classes=classes)


def test_a_file_or_nothing_is_no_folder(tmp_path):
    touch(tmp_path, "x.png")
    with pytest.raises(DataError, match="is a file"):
        read_image_folder(tmp_path / "x.png")
    with pytest.raises(DataError, match="does not exist"):
        read_image_folder(tmp_path / "none")


def test_names_that_are_no_text_are_left_out_and_spelt_out(tmp_path):
    root = touch(tmp_path, "a/é.png")
    try:
        os.close(os.open(os.fsencode(root / "a") + b"/\xff.png", os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes only names that are text")
    collection = read_image_folder(root)
    assert list(collection.examples["id"]) == ["a/é.png"]
    (warning,) = collection.read_warnings
    assert r"a/\udcff.png" in warning
