"""Messages of the system name what a person wrote, never a temporary path; what cannot be written is found before."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kerasall.errors import KerasallError
from kerasall.files import atomic_path, explain_os_error, require_readable, require_writable, write_text


def test_an_error_while_writing_names_the_destination(tmp_path):
    destination = tmp_path / "report.html"

    def write(how):
        with pytest.raises(OSError, match=r"report\.html") as caught, atomic_path(destination) as temporary:
            how(temporary)
        assert ".kerasall-" not in f"{caught.value} {caught.value.args} {explain_os_error(caught.value)}"
        return caught.value

    assert write(lambda path: (path / "page").write_text("x")).filename == str(destination / "page")
    assert write(lambda path: os.replace(path, tmp_path / "other")).filename == str(destination)

    def in_words(path: Path):
        raise OSError(f"Unable to create file (name = '{path}')")

    write(in_words)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_way_is_named(tmp_path):
    (tmp_path / "report.html" / "inside").mkdir(parents=True)
    with pytest.raises(IsADirectoryError) as caught:
        write_text(tmp_path / "report.html", "x")
    assert explain_os_error(caught.value) == (
        f"{tmp_path / 'report.html'}: Is a directory: give the path of a file"
    )


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOTDIR])
def test_errors_of_the_system_come_with_a_cure(number):
    error = OSError(number, os.strerror(number), "/lab/cells")
    path, said, cure = explain_os_error(error).split(": ")
    assert (path, said) == ("/lab/cells", os.strerror(number))
    assert cure


def test_what_can_be_written_passes_and_leaves_nothing(tmp_path):
    (tmp_path / "there.csv").touch()
    for name in ("new", "new/deep/er.html", "there.csv", "."):
        require_writable(tmp_path / name, "the output")
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]


def test_below_a_file_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        KerasallError, match=r"the runs folder .*/file/runs must be writable, but is not \(.*a file"
    ):
        require_writable(tmp_path / "file" / "runs", "the runs folder", "set KERASALL_RUNS")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(KerasallError, match="a broken link"):
        require_writable(tmp_path / "link" / "x", "the output")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that even root may not write to")
def test_a_folder_that_refuses_root_is_found():
    with pytest.raises(KerasallError, match=r"the output /proc/x/y\.csv must be writable, but is not"):
        require_writable("/proc/x/y.csv", "the output")


def test_without_the_rights_the_path_is_named(tmp_path):
    """In a process of a user to whom rights apply: root may do everything."""
    (tmp_path / "shut").mkdir(mode=0o000)
    (tmp_path / "weights.h5").touch(mode=0o000)
    (tmp_path / "read_only").mkdir(mode=0o555)
    script = """
import os, sys
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
from kerasall.errors import KerasallError
for check, path in ((require_readable, "shut"), (require_readable, "weights.h5"), (require_writable, "read_only/out/x")):
    try:
        check(path, "it")
    except KerasallError as error:
        print(error)
"""
    for folder in (tmp_path, *tmp_path.parents[:2]):  # pytest's own are for the caller alone
        folder.chmod(folder.stat().st_mode | 0o055)
    imported = "from kerasall.files import require_readable, require_writable\n"
    done = subprocess.run(
        [sys.executable, "-c", imported + script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    for line, name, what in zip(
        lines, ("shut", "weights.h5", "read_only/out/x"), ("read", "read", "writ"), strict=True
    ):
        assert f"it {tmp_path / name} must be {what}able, but is not (" in line
        assert "Permission denied" in line


def test_of_what_is_not_there_reading_says_nothing(tmp_path):
    require_readable(tmp_path / "none", "the data")
    require_readable(tmp_path, "the data")
