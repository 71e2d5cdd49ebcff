"""What killed processes leave is swept, and nothing that a living one holds; waiting is told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kerasall.errors import KerasallError
from kerasall.files import atomic_path, is_abandoned, is_temporary, require_room
from kerasall.pipeline import artifacts
from kerasall.pipeline.artifacts import KEPT_DAYS, ArtifactStore, sweep_leftovers

KILLED = """
import os, signal, sys
from kerasall.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    if sys.argv[2] == "folder":
        temporary.mkdir()
        (temporary / "half").write_text("half")
    else:
        temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def grow_old(folder: Path, days: float) -> None:
    then = time.time() - days * 86_400
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (then, then))


def make_partial(store: ArtifactStore, key: str, days: float) -> Path:
    """A step that was killed so many days ago."""
    with store.locked("Trainer", key):
        _, scratch = store.open("Trainer", key, ["trained"])
        (scratch / "epoch").write_text("1")
    grow_old(scratch.parent, days)
    return scratch.parent


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_temporaries_of_a_killed_process_are_swept(tmp_path, kind):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "below" / "x.npy", kind], timeout=60)
    assert done.returncode == -9
    (left,) = (tmp_path / "below").iterdir()
    assert is_temporary(left.name)
    (line,) = sweep_leftovers(tmp_path / "artifacts", [tmp_path])
    assert str(left) in line
    assert not left.exists()


def test_a_living_process_keeps_its_temporaries_and_other_hidden_files_stay(tmp_path):
    (tmp_path / ".12345678.mine").touch()
    (tmp_path / ".lock").touch()
    with atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("half")
        assert sweep_leftovers(tmp_path / "artifacts", [tmp_path]) == []
        assert temporary.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"x", ".12345678.mine", ".lock"}


def test_a_temporary_of_another_machine_goes_when_it_is_old(tmp_path):
    foreign = tmp_path / f".kerasall-00000000-{os.getpid()}-abcdef01.x"
    foreign.touch()
    assert not is_abandoned(foreign)
    grow_old(foreign, 8)
    assert is_abandoned(foreign)


def test_only_old_half_made_artifacts_are_swept(tmp_path):
    store = ArtifactStore(tmp_path)
    young, old = make_partial(store, "a" * 64, KEPT_DAYS - 1), make_partial(store, "b" * 64, KEPT_DAYS + 1)
    (line,) = sweep_leftovers(tmp_path, [])
    assert str(old) in line
    assert young.is_dir()
    assert not old.exists()


def test_a_half_made_artifact_that_is_held_stays_however_old(tmp_path):
    store = ArtifactStore(tmp_path)
    old = make_partial(store, "b" * 64, KEPT_DAYS + 1)
    with store.locked("Trainer", "b" * 64):
        assert sweep_leftovers(tmp_path, []) == []
    assert old.is_dir()


def test_finished_artifacts_are_never_swept(tmp_path):
    store = ArtifactStore(tmp_path)
    folders, _ = store.open("Trainer", "c" * 64, ["trained"])
    (folders["trained"] / "x").write_text("1")
    found = store.commit("Trainer", "c" * 64, {"trained": "Model"}, {})
    grow_old(tmp_path, 1000)
    assert sweep_leftovers(tmp_path, [tmp_path]) == []
    assert store.find("Trainer", "c" * 64) == found


def test_folders_that_do_not_exist_have_no_leftovers(tmp_path):
    assert sweep_leftovers(tmp_path / "none", [tmp_path / "none"]) == []


def test_who_waits_says_so_at_once_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "TELL_SECONDS", 0.5)
    store = ArtifactStore(tmp_path)
    told: list[float] = []
    held = threading.Event()

    def hold() -> None:
        with store.locked("Trainer", "d"):
            held.set()
            time.sleep(1.5)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    with store.locked("Trainer", "d", lambda: told.append(time.monotonic())):
        assert not other.is_alive() or other.join(5) is None
    assert 2 <= len(told) <= 4
    assert told[1] - told[0] >= 0.5


def test_nobody_who_is_alone_says_that_it_waits(tmp_path):
    told: list[int] = []
    with ArtifactStore(tmp_path).locked("Trainer", "d", lambda: told.append(1)):
        pass
    assert told == []


def test_a_large_write_that_the_disk_cannot_hold_is_refused(tmp_path):
    require_room(tmp_path, 1, "the activations")
    with pytest.raises(KerasallError, match=r"the activations need .* GiB are free: make room"):
        require_room(tmp_path, 1 << 60, "the activations")
