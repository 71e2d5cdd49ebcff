"""Atomic writes, hashes and JSON. Below everything: imports nothing of kerasall but its errors."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from kerasall.errors import ArtifactError, KerasallError
from kerasall.shown_text import tell

UNKEYED = "unkeyed"
"""Folder inside an output for what differs from machine to machine and changes no result, such as where
images lie. It does not enter the output's digest, so steps that read the output are not run again for it."""

_TEMPORARY = re.compile(r"\.kerasall-(?P<place>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.")

_CURES = {
    errno.EACCES: ": allow it (see its rights and those of the folders above), or give another path",
    errno.EPERM: ": allow it (see its rights and those of the folders above), or give another path",
    errno.EROFS: ": give a path on a file system that may be written to",
    errno.ENOENT: ": correct the path",
    errno.ENOTDIR: ": correct the path, in which a file stands for a folder",
    errno.EISDIR: ": give the path of a file",
    errno.ENOSPC: ": make room there, or give a path on another disk",
    errno.EDQUOT: ": make room there, or give a path on another disk",
    errno.EFBIG: ": allow larger files there, or give a path on another disk",
}
"""Error number -> what to do."""

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_FOREIGN_SECONDS = 7 * 86_400
"""Age after which a temporary of another machine, whose processes cannot be asked for, counts as abandoned."""


@contextmanager
def atomic_path(destination: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside ``destination`` and renames it into place on success.

    The caller writes a file or makes a folder at the yielded path. On any exception the temporary
    path is removed and ``destination`` is left as it was, so a reader never sees half a file. Errors of the system
    name the destination, never the temporary path.

    Args:
        destination: where the finished file or folder shall lie. A folder must not exist yet;
            a file is replaced.

    Yields:
        A path in the same folder (so that the rename is atomic), not yet existing.
    """
    destination = Path(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    # The name keeps its suffix: several writers choose their format by it.
    own = f".kerasall-{place()}-{os.getpid()}-{uuid.uuid4().hex[:8]}."
    # The end of a long one is enough: file systems take names of 255 bytes.
    temporary = destination.with_name(own + os.fsdecode(os.fsencode(destination.name)[-150:]))
    try:
        yield temporary
        _sync([temporary] if temporary.is_file() else (p for p in temporary.rglob("*") if p.is_file()))
        os.replace(temporary, destination)
        _sync([destination.parent])
    except OSError as error:
        _speak_of(destination, temporary, error)
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _speak_of(destination: Path, temporary: Path, error: OSError) -> None:
    """Puts the destination where an error names the temporary path: the one is the user's, the other nobody's."""

    def name_again(told: Any) -> Any:
        return told.replace(temporary.name, destination.name) if isinstance(told, str) else told

    if error.filename is None and error.errno in _OF_THE_DISK:  # a write does not say where
        error.filename = str(destination)
    error.args = tuple(name_again(each) for each in error.args)
    for name in ("filename", "filename2"):
        told = getattr(error, name)
        if told is not None:
            setattr(error, name, name_again(os.fsdecode(told) if not isinstance(told, int) else told))


def explain_os_error(error: OSError) -> str:
    """An error of the system in words: the path, what it says, and the cure where there is one."""
    said = (error.strerror or str(error)).rstrip(".")
    path = f"{error.filename}: " if error.filename is not None else ""
    cure = _CURES.get(error.errno or 0, "")
    return f"{path}{said}{cure}"


def require_writable(path: str | Path, what: str, cure: str = "give another path") -> None:
    """Finds before the work that its result could not be written.

    Args:
        path: a file or folder that will be written; neither it nor the folders above need exist yet.
        what: subject of the message, such as "the runs folder".
        cure: what to do.

    Raises:
        KerasallError: it could not be written; the message names ``path`` and why.
    """
    path = Path(path).expanduser().absolute()
    existing = path
    while not os.path.lexists(existing):
        existing = existing.parent
    reason = _why_not_writable(existing, existing == path)
    if reason:
        raise KerasallError(f"{what} {path} must be writable, but is not ({reason}): {cure}")


def _why_not_writable(existing: Path, is_itself: bool) -> str:
    """Why nothing can be written to a path that exists, or made below it; "" where it can."""
    if not existing.is_dir():
        if not is_itself or not existing.exists():
            return f"{existing} is {'a file' if existing.exists() else 'a broken link'}, no folder"
        # A file is replaced by a new one beside it.
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            return ""
    except OSError as error:
        return f"{existing}: {error.strerror}"


def require_readable(path: str | Path, what: str, cure: str = "allow it, or give another path") -> None:
    """Finds before the work that a file or folder which exists may not be read; of others nothing is said.

    Args:
        path: of a file or folder.
        what: subject of the message, such as "the weights folder".
        cure: what to do.

    Raises:
        KerasallError: it may not be read.
    """
    path = Path(path).expanduser().absolute()
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                next(entries, None)
        elif path.exists():
            with open(path, "rb"):
                pass
    except OSError as error:
        raise KerasallError(
            f"{what} {path} must be readable, but is not ({error.strerror}): {cure}"
        ) from None


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that ``atomic_path`` gave."""
    return _TEMPORARY.match(name) is not None


def is_abandoned(path: Path) -> bool:
    """Whether the process that ``atomic_path`` gave this temporary path to has ended."""
    match = _TEMPORARY.match(path.name)
    if match is None:
        return False
    if match["place"] == place():
        return not is_alive(int(match["process"]))
    try:
        return time.time() - path.lstat().st_mtime > _FOREIGN_SECONDS
    except FileNotFoundError:
        return False


@cache
def place() -> str:
    """Eight hexadecimal digits for this machine, and this container on it: process numbers mean nothing elsewhere."""
    names = [socket.gethostname()]
    with suppress(OSError):
        names.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256(" ".join(names).encode()).hexdigest()[:8]


def is_alive(process: int) -> bool:
    """Whether a process of this machine and container has not ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def require_room(folder: str | Path, needed_bytes: int, what: str) -> None:
    """Stops a large write before it fills the disk.

    Args:
        folder: on the disk that will be written to; it need not exist yet.
        needed_bytes: what will be written.
        what: subject of the message, such as "the activations".

    Raises:
        KerasallError: there is less room.
    """
    existing = Path(folder).absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if needed_bytes > free:
        raise KerasallError(
            f"{what} need {needed_bytes / 2**30:.1f} GiB in {folder}, but {free / 2**30:.1f} GiB are free: make room, "
            "or set KERASALL_RUNS to another disk"
        )


def _sync(paths: Iterable[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Writes ``text`` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes ``value`` as indented JSON, atomically. NaN and infinity are refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        ArtifactError: the file is missing, cannot be read, or is not JSON; the message names it.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} must exist, but does not: make it again or correct the path") from None
    except OSError as error:
        raise ArtifactError(
            f"{path} must be a file that can be read, but reading it failed ({error.strerror}): make it again or "
            "correct the path"
        ) from None
    except RecursionError:
        raise ArtifactError(f"{path} must be JSON, but is nested too deeply: make it again") from None
    except ValueError as error:  # not JSON, not UTF-8, numbers of thousands of digits
        raise ArtifactError(f"{path} must be JSON, but reading it failed ({error}): make it again") from None


def is_plain(value: Any) -> bool:
    """Whether ``write_json`` takes what JSON was read as: Python also reads NaN, infinity and half a character there."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError):  # the one of letters is a ValueError, too
        return False
    return True


def read_object(path: str | Path) -> dict[str, Any]:
    """As ``read_json``, of a file that must hold one JSON object."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise ArtifactError(
            f"{path} must hold a JSON object, but holds {type(found).__name__} {str(found)[:40]!r}: make it again"
        )
    return found


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


_SEAL_DIGITS = 32
_whole: set[tuple[str, int, int, int, int]] = set()
"""Sealed files as this process found them whole: it does not hash one again that nobody has touched since."""


def seal_file(path: str | Path) -> Path:
    """Puts a finished file's SHA-256 into its name, by which ``find_sealed`` knows it again; returns its new path."""
    path = Path(path)
    try:
        sealed = path.with_name(f"{path.stem}-{sha256_of_file(path)[:_SEAL_DIGITS]}{path.suffix}")
        os.replace(path, sealed)
    except FileNotFoundError:  # another process made the same, and sealed it first
        if (found := find_sealed(path)) is None:
            raise
        return found
    return sealed


def find_sealed(path: str | Path) -> Path | None:
    """The file that was sealed under this path, if it is there and is what was written, bit by bit.

    For caches, which are made again at the price of time: one that was changed is removed, and a line tells.
    """
    path = Path(path)
    for found in sorted(
        path.parent.glob(f"{glob.escape(path.stem)}-{'[0-9a-f]' * _SEAL_DIGITS}{path.suffix}")
    ):
        try:
            state = os.stat(found)
        except FileNotFoundError:
            continue
        known = (str(found), state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if known in _whole:
            return found
        if found.stem.endswith(sha256_of_file(found)[:_SEAL_DIGITS]):
            _whole.add(known)
            return found
        tell(f"{found} is not as it was kept, and is made again")
        found.unlink(missing_ok=True)
    return None


def hash_files(folder: str | Path) -> dict[str, str]:
    """SHA-256 of every file below ``folder`` by its path from there, in order.

    A link counts as a link, with where it leads to; nothing is walked or read through a link to a folder.
    What is neither file nor link nor folder (a pipe, a socket) is named and not opened.
    """
    folder = Path(folder)
    found: dict[str, str] = {}
    for parent, folders, files in os.walk(folder, onerror=_raise):
        for name in [*files, *(name for name in folders if os.path.islink(os.path.join(parent, name)))]:
            path = Path(parent, name)
            digest = "no file"
            if path.is_symlink():
                digest = f"link to {os.readlink(path)}"
                if path.is_file():
                    digest += f" {sha256_of_file(path)}"
            elif path.is_file():
                digest = sha256_of_file(path)
            found[path.relative_to(folder).as_posix()] = digest
    return dict(sorted(found.items()))


def _raise(error: OSError) -> None:
    raise error


def sha256_of_folder(folder: str | Path, without: str = "") -> str:
    """SHA-256 over the names and contents of all files below ``folder``; times do not enter.

    Args:
        folder: any folder.
        without: name of a folder right below it whose files do not enter either.
    """
    return digest_of_files(hash_files(folder), without)


def digest_of_files(files: Mapping[str, str], without: str = "") -> str:
    """The SHA-256 that ``sha256_of_folder`` gives, from what ``hash_files`` gave."""
    return sha256_of_json(
        [
            [n, files[n]]
            for n in sorted(files, key=lambda n: Path(n).parts)
            if not without or n.split("/")[0] != without
        ]
    )
