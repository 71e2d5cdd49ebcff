"""Where runs, models and weights live, unless a setting says otherwise."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import stat
import tempfile
from functools import cache
from hashlib import blake2b
from pathlib import Path

from kerasall.errors import KerasallError
from kerasall.files import require_readable

_MOST_PIPED = 2 << 30


def runs_folder() -> Path:
    """Folder of runs: ``KERASALL_RUNS`` or ``runs`` below the working directory."""
    return _place("KERASALL_RUNS", "runs")


def savedmodels_folder() -> Path:
    """Folder of pushed models: ``KERASALL_SAVEDMODELS`` or ``savedmodels`` below the working directory."""
    return _place("KERASALL_SAVEDMODELS", "savedmodels")


def weights_folder(given: str | Path | None = None) -> Path | None:
    """Folder of pretrained weights: as given, else ``KERASALL_WEIGHTS``, else None (Keras' own download).

    Raises:
        KerasallError: the folder does not exist, or may not be read.
    """
    chosen = given or os.environ.get("KERASALL_WEIGHTS")
    if not chosen:
        return None
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise KerasallError(
            f"the weights folder {folder} must exist, but does not: correct --weights or KERASALL_WEIGHTS"
        )
    require_readable(folder, "the weights folder", "allow it, or correct --weights or KERASALL_WEIGHTS")
    return folder.resolve()


def as_file_name(text: str, otherwise: str) -> str:
    """A name for a file or folder, of letters, digits, ``_``, ``.`` and ``-``; ``otherwise`` where nothing is left."""
    return shorten_name(re.sub(r"[^\w.-]+", "-", text).strip(".-") or otherwise)


def shorten_name(name: str, suffix: str = "", most_bytes: int = 200) -> str:
    """A file's name that leaves room for what is added to it: file systems take 255 bytes.

    A name that is cut keeps its beginning and gets eight digits of its hash, so that two that differ only behind the cut
    stay two.

    Args:
        name: what the name is made of.
        suffix: its end, such as ".png", which is kept whole.
        most_bytes: of the whole name in UTF-8.
    """
    data = os.fsencode(name)
    if len(data) + len(suffix) <= most_bytes:
        return name + suffix
    end = f"~{blake2b(data, digest_size=4).hexdigest()}{suffix}"
    return data[: most_bytes - len(end)].decode("utf-8", "ignore") + end


def is_pipe(path: str | Path) -> bool:
    """Whether what lies there can be read once only: a pipe, as ``/dev/stdin`` and ``<(command)`` are, or a terminal."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # told by whoever reads it
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def as_file(path: str | Path) -> Path:
    """A file that can be read as often as needed: the path itself, or what came through a pipe, kept till the end.

    Raises:
        OSError: the pipe cannot be read.
        KerasallError: it holds more than any table.
    """
    if not is_pipe(path):
        return Path(path)
    status = os.stat(path)
    return _keep(Path(path), status.st_dev, status.st_ino)


def folder_of(path: str | Path) -> Path:
    """What relative paths in a file start from: its folder; of ``/dev/stdin`` and pipes the working directory."""
    return (
        Path()
        if is_pipe(path) or Path(path).parts[:2] in (("/", "dev"), ("/", "proc"))
        else Path(path).parent
    )


def require_lasting(path: str | Path, what: str) -> None:
    """For what is read again when the same command goes on, perhaps by another process.

    Raises:
        KerasallError: a pipe lies there.
    """
    if is_pipe(path):
        raise KerasallError(
            f"{what} must be a file that is still there when a run goes on, but {path} is a pipe: save it as a file"
        )


@cache
def _keep(path: Path, device: int, number: int) -> Path:
    kept = _folder_of_pipes() / f"{device}-{number}" / path.name
    kept.parent.mkdir()
    with open(path, "rb") as pipe, open(kept, "wb") as file:
        while data := pipe.read(1 << 20):
            file.write(data)
            if file.tell() > _MOST_PIPED:
                raise KerasallError(
                    f"what comes through {path} must hold at most {_MOST_PIPED >> 30} GiB, but holds more: give a file"
                )
    return kept


@cache
def _folder_of_pipes() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="kerasall-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _place(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default).expanduser().absolute()
