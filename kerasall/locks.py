"""Locks between processes: the system's own; where a disk has none, a file that its holder keeps fresh.

The system's lock falls with its process, however that ends, and is always asked for first. Some shared disks refuse it
(NFS without its lock service, many FUSE and cluster disks). There ``NAME.held`` beside the locked path stands for it:

- It is made exclusively, which NFS since version 3 and the usual shared disks do atomically, and holds machine, process
  and a token. Its holder touches it every ``BEAT_SECONDS``.
- A holder on this machine counts as gone once its process is, at once, so that the same command goes on after a kill.
  One on another machine cannot be asked for: it counts as gone when it has not touched its file for ``LOST_SECONDS`` by
  the disk's own clock. So nobody waits for ever for a process that does not exist, and two runs of one folder, or two
  makers of one artifact, never work at once while both are alive and see the disk.
- A process that was suspended, or cut off from the disk, for longer than that may find another at work when it wakes.
  Artifacts and run files are put in place by renames, so a reader sees one or the other, never half of each.
- Machines of which some have locks on that disk and others not are told apart one way only: who has the system's lock
  still respects a held file. Mount the disk alike everywhere.
- Workers of a designed experiment take no lock: their chief, which does, hands out the trials.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kerasall.files import is_alive, place
from kerasall.shown_text import tell

BEAT_SECONDS = 15.0
"""How often the holder of a file in the place of a lock touches it."""
LOST_SECONDS = 300.0
"""Age of the last touch from which a holder on another machine counts as gone."""

SYSTEM, FILE = "system", "file"
"""How a lock is held."""

_ASK_SECONDS = 0.2
_told: set[int] = set()


@contextmanager
def locked(
    path: str | Path,
    waiting: Callable[[], None] = lambda: None,
    *,
    wait: bool = True,
    descriptor: int | None = None,
    tell_seconds: float = 60.0,
) -> Iterator[str]:
    """Holds the lock of a path, alone among all threads and processes.

    Args:
        path: a file that stands for what is locked; made where it does not exist.
        waiting: called when a wait begins, and again every ``tell_seconds``.
        wait: whether to wait for who holds it.
        descriptor: of the open file or folder, where it is the locked thing itself.
        tell_seconds: how often to tell of a wait.

    Yields:
        ``SYSTEM`` or ``FILE``; "" where another holds it and ``wait`` is off.
    """
    path = Path(path)
    own = None
    if descriptor is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        own = descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        told, held = -math.inf, _try(path, descriptor)
        while wait and held is None:
            if time.monotonic() - told >= tell_seconds:
                waiting()
                told = time.monotonic()
            time.sleep(_ASK_SECONDS)
            held = _try(path, descriptor)
        try:
            yield "" if held is None else held.kind
        finally:
            if held is not None:
                held.release()
    finally:
        if own is not None:
            os.close(own)


def is_locked(path: str | Path) -> bool:
    """Whether a living process holds the lock of a path."""
    path = Path(path)
    if _read_holder(_held_file(path), path) is not None:
        return True
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or the disk has no locks: then the held file alone tells
        return False
    return False


def describe_holder(path: str | Path) -> str:
    """Which process holds the lock of a path and how it can be freed, where a held file tells; else ""."""
    file = _held_file(Path(path))
    holder = _read_holder(file, Path(path))
    if holder is None:
        return ""
    return (
        f" (process {holder.get('process', 'unknown')} on {holder.get('host', 'another machine')}, as {file} says; where "
        f"that has ended, remove the file, or wait {LOST_SECONDS / 60:.0f} minutes)"
    )


class _Held:
    """A lock that this process has, to be released."""

    kind = SYSTEM

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def release(self) -> None:
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


class _HeldFile(_Held):
    """The file in the place of a lock, and the thread that keeps it fresh."""

    kind = FILE

    def __init__(self, file: Path, content: bytes):
        self._file, self._content = file, content
        self._over = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="held file").start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with suppress(OSError):  # the disk may be away for a moment
                if self._file.read_bytes() == self._content:
                    os.utime(self._file)

    def release(self) -> None:
        self._over.set()
        with suppress(OSError):
            if self._file.read_bytes() == self._content:
                self._file.unlink()


def _try(path: Path, descriptor: int) -> _Held | None:
    """The lock, or None where another holds it."""
    file = _held_file(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        return _try_file(file, path, error)
    held = _Held(descriptor)
    if _read_holder(file, path) is None:
        return held
    held.release()
    return None


def _try_file(file: Path, path: Path, why: OSError) -> _Held | None:
    me = {
        "host": socket.gethostname(), "place": place(), "process": os.getpid(),
        "begun": _begin_of(os.getpid()), "token": uuid.uuid4().hex,
    }  # fmt: skip
    content = json.dumps(me).encode()
    for _ in range(3):
        try:
            with open(file, "xb") as opened:
                opened.write(content)
        except FileExistsError:
            with suppress(FileNotFoundError):
                there = file.read_bytes()  # before it is judged: what comes later must not be removed for it
                if _read_holder(file, path) is not None:
                    return None
                _remove_abandoned(file, there)
            continue
        except OSError:
            with suppress(OSError):  # what could not be written names nobody
                if not file.read_bytes():
                    file.unlink()
            raise
        if (disk := os.stat(file).st_dev) not in _told:
            _told.add(disk)
            tell(
                f"{file.parent} lies on a disk without locks ({why.strerror}): while a process works there, a file "
                f"{file.name} stands for its lock")  # fmt: skip
        return _HeldFile(file, content)
    return None


def _held_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.held")


def _read_holder(file: Path, path: Path) -> dict[str, Any] | None:
    """Who holds the lock by a file; None where nobody living does."""
    try:
        touched = os.stat(file).st_mtime
        told = json.loads(file.read_bytes() or b"{}")
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        told = {}
    holder = told if isinstance(told, dict) else {}
    process = holder.get("process")
    if holder.get("place") == place() and type(process) is int and process > 0:
        lives = is_alive(process) and holder.get("begun") == _begin_of(process)
    else:
        lives = _now_on_disk(path) - touched < LOST_SECONDS
    return holder if lives else None


def _begin_of(process: int) -> str:
    """When a process began, in ticks of its machine: numbers are given again. "" where it cannot be told."""
    try:
        return (
            Path(f"/proc/{process}/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
    except (OSError, IndexError):
        return ""


def _now_on_disk(path: Path) -> float:
    """Time by the clock of the disk that ``path`` lies on, which need not be this machine's."""
    probe = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.now")
    try:
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink()


def _remove_abandoned(file: Path, content: bytes) -> None:
    """Removes the file of a holder that is gone; of several who find it one wins, and none removes the winner's."""
    aside = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}")
    with suppress(OSError):
        os.rename(file, aside)
        if aside.read_bytes() != content:  # another was faster, and this is its own
            os.link(aside, file)
        aside.unlink()
