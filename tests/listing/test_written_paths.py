"""Paths of other systems and machines: split, found, and never taken for another file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasall.listing.written_paths import FolderIndex, find_as_written, find_moved, is_absolute, split_path


@pytest.mark.parametrize(
    ("written", "parts", "absolute"),
    [
        (r"C:\data\cells\a.png", ("data", "cells", "a.png"), True),
        ("c:/data/a.png", ("data", "a.png"), True),
        (r"\\server\share\a.png", ("server", "share", "a.png"), True),
        ("file:///C:/data/a.png", ("data", "a.png"), True),
        ("file:///data/a.png", ("data", "a.png"), True),
        ("/data/./x/../a.png", ("data", "a.png"), True),
        (r".\cells\a b.png", ("cells", "a b.png"), False),
        ("a.png", ("a.png",), False),
        ("x:y.png", ("x:y.png",), False),
        ("/", (), True),
        (".", (), False),
    ],
)
def test_paths_of_any_system_are_split(written, parts, absolute):
    assert (split_path(written), is_absolute(written)) == (parts, absolute)


def test_files_are_found_as_written_and_moved(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/a.png").touch()
    for written in ("cells/a.png", r"cells\a.png", str(tmp_path / "cells/a.png"), "./cells/../cells/a.png"):
        assert find_as_written(tmp_path, written) == str(tmp_path / "cells/a.png")
    for written in ("cells", "a.png", "b\0.png", r"C:\cells\a.png"):
        assert find_as_written(tmp_path, written) is None
    assert find_moved(tmp_path, r"C:\x\cells\a.png") == (("x",), str(tmp_path / "cells/a.png"))
    assert find_moved(tmp_path, "x/cells/a.png") is None


FOLDERS = st.lists(st.sampled_from("pqr"), max_size=3)
IMAGES = st.lists(st.tuples(FOLDERS, st.sampled_from(["1.png", "2.png"])), min_size=1, max_size=8)


@settings(deadline=None)
@given(images=IMAGES, front=FOLDERS)
def test_paths_that_lost_one_front_never_mean_one_file(images, front):
    """Whatever lies below the folder, whatever stands in the table: different paths stay different images."""
    index = FolderIndex()
    for folders, name in images:
        index.add((*folders, name))
    written = [(*front, *folders, name) for folders, name in {(tuple(f), n) for f, n in images}]
    dropped = index.find_prefix(written)
    assert dropped is not None
    found = [index.find(parts[len(dropped) :]) for parts in written if parts[: len(dropped)] == dropped]
    certain = [hits[0] for hits in found if len(set(hits)) == 1]
    assert len(set(certain)) == len(certain)


def test_a_name_without_suffix_and_in_another_case_is_found(tmp_path):
    for name in ("x/Müller 1.PNG", "y/b.png", "y/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    index = FolderIndex.of(tmp_path)
    for parts in (("x", "mu\u0308ller 1.png"), ("MÜLLER 1",), ("X", "Müller 1")):
        assert index.find(parts) == [("x", "Müller 1.PNG")]
    assert index.find(("b",)) == [("y", "b.jpg"), ("y", "b.png")]
    assert index.find(("y", "b.png")) == [("y", "b.png")]
    assert index.find(("x", "b.png")) == index.find(("c",)) == index.find(()) == []
    assert FolderIndex.of(tmp_path / "none").whole == {}
