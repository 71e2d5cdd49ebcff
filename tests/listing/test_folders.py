"""The one walk: order, loops, what is passed over, and that what is left out is told."""

from __future__ import annotations

import pytest
from lab_images import touch

from kerasall.errors import DataError
from kerasall.listing.folders import FoundFiles, find_files, list_some, walk_files, walk_images


def test_files_come_in_the_order_of_their_paths(tmp_path):
    names = ["b/x", "b.png", "a/y/z", "a/k", "c", "a-b/1"]
    assert list(walk_files(touch(tmp_path, *names))) == ["a/k", "a/y/z", "a-b/1", "b/x", "b.png", "c"]


@pytest.mark.parametrize(
    "name",
    [".hidden.png", ".trash/1.png", "@eaDir/1.png", "__MACOSX/a/._1.png", "a/Thumbs.db", "DESKTOP.INI", "$RECYCLE.BIN/1.png"],
)  # fmt: skip
def test_what_systems_leave_is_passed_over_without_a_word(tmp_path, name):
    assert list(walk_files(touch(tmp_path, name, "a.png"))) == ["a.png"]


def test_linked_folders_are_followed_once_and_loops_end(tmp_path):
    store = touch(tmp_path / "store", "1.png")
    root = touch(tmp_path / "root", "z.png")
    for link, target in (
        (root / "a", store),
        (root / "b", store),
        (store / "up", root),
        (store / "self", store),
    ):
        link.symlink_to(target)
    assert list(walk_files(root)) == ["a/1.png", "z.png"]


def test_links_that_lead_to_themselves_are_files_that_cannot_be_read(tmp_path):
    touch(tmp_path, "a/1.png", "z.png")
    links = {
        "loop.png": "loop.png",
        "a/self": "self",
        "x": "y",
        "y": "x",
        "through.png": "loop.png/1.png",
        "up": ".",
        "gone": "no",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    assert list(find_files(tmp_path).images) == ["a/1.png", "loop.png", "through.png", "z.png"]
    told = []
    assert len(list(walk_images(tmp_path, told.append))) == 4
    assert "4 files that are no images were left out: a/self, gone, x, y" in told[0]


def test_links_that_lead_nowhere_stay(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "away.png")
    assert list(walk_images(tmp_path, pytest.fail)) == ["gone.png"]


def test_suffixes_of_images_in_any_case(tmp_path):
    names = [
        f"{i}{suffix}"
        for i, suffix in enumerate(
            (".bmp", ".PNG", ".jpg", ".Jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp")
        )
    ]
    assert list(find_files(touch(tmp_path, *names)).images) == names


def test_both_ways_tell_the_same_of_what_is_left_out(tmp_path):
    touch(tmp_path, "a/1.png", *(f"a/{i}.txt" for i in range(7)))
    for name, content in (
        ("cell", b"\x89PNG\r\n\x1a\n"),
        ("b.dat", b"RIFF\0\0\0\0WEBPVP8 "),
        ("BMW.txt", b"BMW is no image"),
    ):
        (tmp_path / name).write_bytes(content)
    found, told = find_files(tmp_path), []
    assert list(walk_images(tmp_path, told.append)) == list(found.images) == ["a/1.png"]
    others, misnamed = found.warnings()
    assert others.endswith(
        "8 files that are no images were left out: BMW.txt, a/0.txt, a/1.txt, a/2.txt, a/3.txt and 3 more"
    )
    assert misnamed.endswith("were left out; rename them: b.dat, cell")
    assert told == [f"{tmp_path}: {others}", f"{tmp_path}: {misnamed}"]


def test_expected_files_are_no_matter_for_a_warning():
    found = FoundFiles((), ("labels.csv", "x.txt"), ("\\udcff.png",))
    others, undecodable = found.warnings(expected=lambda name: name == "labels.csv")
    assert others == "1 file that is no image was left out: x.txt"
    assert "not valid UTF-8" in undecodable


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none must be a folder that can be listed, but is not: No such"):
        list(walk_files(tmp_path / "none"))


def test_list_some_names_a_few_and_counts_the_rest():
    assert list_some(["a", "b"], 2) == "a, b"
    assert list_some(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert list_some(["a", "b"], 2, count=9) == "a, b and 7 more"
