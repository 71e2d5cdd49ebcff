"""Who holds a lock is alone, on disks with locks and without; nobody waits for a process that does not exist."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import pytest

from kerasall import locks
from kerasall.errors import DataError, KerasallError
from kerasall.locks import FILE, LOST_SECONDS, SYSTEM, describe_holder, is_locked, locked
from kerasall.pipeline.component import Output, Pipeline, component
from kerasall.pipeline.runner import RunPlaces, is_running, run_pipeline

REFUSALS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.EACCES, errno.ENOSYS, errno.EBADF, errno.EIO, errno.EINVAL]
HOLDS = """
import errno, fcntl, sys, time
from pathlib import Path
def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")
if sys.argv[2] == "none":
    fcntl.flock = refuse
from kerasall.locks import locked
with locked(sys.argv[1]):
    Path(sys.argv[1] + ".begun").touch()
    time.sleep(60)
"""
COUNTS = """
import errno, fcntl, sys
from pathlib import Path
def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = refuse
from kerasall.locks import locked
count = Path(sys.argv[1])
for _ in range(20):
    with locked(count.with_name("lock")):
        count.write_text(str(int(count.read_text()) + 1))
"""


@pytest.fixture
def no_locks(monkeypatch):
    """A disk that refuses locks."""
    monkeypatch.setattr(locks, "_told", set())

    def refuse_with(number: int) -> None:
        def refuse(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuse)

    refuse_with(errno.ENOLCK)
    return refuse_with


def held_elsewhere(path: Path, kind: str) -> subprocess.Popen[bytes]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(path), kind])
    until = time.monotonic() + 60
    while not path.with_name(path.name + ".begun").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    return process


def claim_for(path: Path, age: float = 0.0, **more: object) -> Path:
    """The file that a holder on another machine left, last touched so many seconds ago."""
    file = path.with_name(path.name + ".held")
    file.write_text(json.dumps({"host": "far", "place": "ffffffff", "process": 7, "token": "x"} | more))
    os.utime(file, (time.time() - age, time.time() - age))
    return file


@pytest.mark.parametrize("number", REFUSALS)
def test_a_disk_without_locks_is_worked_on_with_a_note(tmp_path, no_locks, capsys, number):
    no_locks(number)
    for _ in range(2):
        with locked(tmp_path / "lock") as held:
            assert held == FILE
            assert is_locked(tmp_path / "lock")
            with locked(tmp_path / "lock", wait=False) as again:
                assert not again
        assert not is_locked(tmp_path / "lock")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert capsys.readouterr().err.count("lies on a disk without locks") == 1


@pytest.mark.parametrize("kind", ["system", "none"])
def test_a_living_process_is_waited_for_and_a_killed_one_is_not(tmp_path, monkeypatch, kind):
    lock = tmp_path / "lock"
    process = held_elsewhere(lock, kind)
    try:
        if kind == "none":
            monkeypatch.setattr(fcntl, "flock", _refuse)
            assert f"process {process.pid} on" in describe_holder(lock)
        assert is_locked(lock)
        with locked(lock, wait=False) as held:
            assert not held
    finally:
        process.kill()
        process.wait()
    assert not is_locked(lock)
    with locked(lock) as held:
        assert held == (SYSTEM if kind == "system" else FILE)


def _refuse(*_: object) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_who_has_the_systems_lock_respects_a_file_of_one_who_has_none(tmp_path):
    process = held_elsewhere(tmp_path / "lock", "none")
    try:
        with locked(tmp_path / "lock", wait=False) as held:
            assert not held
    finally:
        process.kill()
        process.wait()
    with locked(tmp_path / "lock", wait=False) as held:
        assert held == SYSTEM


def test_processes_on_a_disk_without_locks_work_one_after_another(tmp_path):
    count = tmp_path / "count"
    count.write_text("0")
    working = [
        subprocess.Popen([sys.executable, "-c", COUNTS, str(count)], stderr=subprocess.DEVNULL)
        for _ in range(3)
    ]
    assert [process.wait(120) for process in working] == [0, 0, 0]
    assert count.read_text() == "60"
    assert not list(tmp_path.glob("*.held*"))


def test_threads_on_a_disk_without_locks_work_one_after_another(tmp_path, no_locks):
    inside, most = [0], [0]

    def work() -> None:
        with locked(tmp_path / "lock"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_machine_far_away_is_waited_for_as_long_as_it_shows_life(tmp_path, no_locks):
    lock = tmp_path / "lock"
    file = claim_for(lock)
    assert is_locked(lock)
    assert "process 7 on far" in describe_holder(lock)
    assert str(file) in describe_holder(lock)
    with locked(lock, wait=False) as held:
        assert not held
    claim_for(lock, age=LOST_SECONDS + 60)
    assert not is_locked(lock)
    assert describe_holder(lock) == ""
    with locked(lock, wait=False) as held:
        assert held == FILE


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b'{"process": "x"}', b"[" * 9_999])
def test_a_file_that_names_nobody_counts_by_its_age(tmp_path, no_locks, content):
    file = tmp_path / "lock.held"
    file.write_bytes(content)
    assert is_locked(tmp_path / "lock")
    os.utime(file, (0, 0))
    with locked(tmp_path / "lock", wait=False) as held:
        assert held == FILE


def test_a_number_that_another_process_has_by_now_is_not_waited_for(tmp_path, no_locks):
    claim_for(tmp_path / "lock", place=locks.place(), process=os.getppid(), begun="1")
    with locked(tmp_path / "lock", wait=False) as held:
        assert held == FILE


def test_the_holder_keeps_its_file_fresh(tmp_path, no_locks, monkeypatch):
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.02)
    file = tmp_path / "lock.held"
    with locked(tmp_path / "lock"):
        os.utime(file, (0, 0))
        until = time.monotonic() + 30
        while file.stat().st_mtime == 0:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_what_another_took_over_is_not_removed(tmp_path, no_locks):
    with locked(tmp_path / "lock"):
        file = claim_for(tmp_path / "lock")
    assert file.exists()


def test_a_folder_that_may_not_be_written_is_told(tmp_path, no_locks, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "lock.held"))

    monkeypatch.setattr(locks, "open", refuse, raising=False)
    with pytest.raises(PermissionError, match=r"lock\.held"), locked(tmp_path / "lock"):
        pass


def test_a_whole_run_works_on_a_disk_without_locks(tmp_path, no_locks):
    places = RunPlaces(tmp_path / "runs", "one")
    seen: list[bool] = []

    @component
    def make(made: Annotated[Path, Output("Made")]) -> None:
        seen.append(is_running(places.folder))
        with pytest.raises(KerasallError, match=r"going on in another process \(process .*lock\.held says"):
            run_pipeline(Pipeline((), {}), places, experiment="e", settings={})
        (made / "x").write_text("x")

    run_pipeline(Pipeline((make(),), {}), places, experiment="e", settings={}, say=lambda _: None)
    assert seen == [True]
    assert not is_running(places.folder)
    assert not list(tmp_path.rglob("*.held*"))


def test_predictions_go_to_one_table_on_a_disk_without_locks(tmp_path, no_locks):
    from kerasall.serving.table_files import open_table

    columns = {"path": str, "label": str, "error": str}
    out = tmp_path / "scores.csv"
    with open_table(out, columns) as table:
        assert list(table.held()) == []
        table.append([{"path": "a", "label": "all", "error": ""}])
        with pytest.raises(DataError, match="only one process may write"), open_table(out, columns):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
