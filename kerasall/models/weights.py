"""Where pretrained weights come from, and the proof that they are what they say.

A weights folder serves work without a network; without one Keras' own download and its cache are
used. Either way a file is taken only if one of the hashes known for it fits.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kerasall.errors import WeightsError
from kerasall.files import sha256_of_file
from kerasall.models.backbones import Backbone, WeightsFile
from kerasall.runtime import quiet_tensorflow
from kerasall.shown_text import tell

FOLDER_VARIABLE = "KERASALL_WEIGHTS"
KINDS = (".h5", ".keras")
"""Accepted endings of a weights file (``.weights.h5`` is one of them). Never a pickle: it could run code."""


CACHE = "models"
"""Folder of weights below Keras' own folder."""
SECONDS = 30
"""Longest silence of a server of weights; without a limit a firewall would let a run wait for ever."""


def resolve_weights(
    backbone: Backbone, alpha: float = 1.0, weights: str | Path = "imagenet", folder: str | Path | None = None
) -> Path | None:
    """Finds and checks the file that ``weights`` means.

    Args:
        backbone: a row of ``BACKBONES``.
        alpha: width multiplier of the MobileNets, 1.0 for all others.
        weights: ``"imagenet"``, ``"random"``, or the path of a weights file. A path is taken as it
            is: what it holds is checked when it is loaded.
        folder: folder of ImageNet weights; by default the one ``KERASALL_WEIGHTS`` names. With a
            folder nothing is ever downloaded.

    Returns:
        The file to load, or None for random weights.

    Raises:
        WeightsError: no such file, a changed file, a file of a kind that is not accepted, or a
            download that failed. The message names the file and where to put it.
    """
    if str(weights) == "random":
        return None
    if str(weights) != "imagenet":
        return _given_file(Path(weights).expanduser())
    if alpha not in backbone.weights:
        known = ", ".join(map(str, backbone.weights))
        raise WeightsError(
            f"ImageNet weights of {backbone.name} exist for alpha {known}, but alpha is {alpha}: "
            "choose one of these, or weights 'random'"
        )
    file = backbone.weights[alpha]
    folder = folder or os.environ.get(FOLDER_VARIABLE)
    path = _find(file, Path(folder).expanduser()) if folder else _download(file, backbone.constructor)
    verify_weights(path, file)
    return path


def verify_weights(path: Path, file: WeightsFile) -> None:
    """Checks that ``path`` holds what ``file`` describes. Passes where no hash of it is known.

    Raises:
        WeightsError: no known hash fits; the message names expected and found ones and the cure.
    """
    if not (file.md5 or file.sha256 or file.arrays):
        return
    found = sha256_of_file(path)
    if found in file.sha256:
        return
    with open(path, "rb") as opened:
        md5 = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if file.md5 and md5 == file.md5:
        return
    if file.arrays and sha256_of_arrays(path) == file.arrays:
        return
    expected = [f"md5 {file.md5}"] * bool(file.md5) + [f"sha256 {digest}" for digest in file.sha256]
    raise WeightsError(
        f"{path} must be the ImageNet weights {file.name} ({' or '.join(expected)}), but its md5 is {md5} and "
        f"its sha256 {found}: fetch it again from {file.url}, or give its path as the weights to use it all the same"
    )


def sha256_of_arrays(path: str | Path) -> str:
    """SHA-256 over the arrays of a Keras ``.h5`` weights file in layer order; "" if it is none.

    Names, compression and layout of the file do not enter, so a repacked copy keeps its hash.
    """
    digest = hashlib.sha256()
    try:
        with h5py.File(path, "r") as opened:
            file: Any = opened
            for layer in file.attrs["layer_names"]:
                for weight in file[layer].attrs["weight_names"]:
                    array = np.ascontiguousarray(file[layer][weight])
                    digest.update(f"{array.shape}{array.dtype.str}".encode())
                    digest.update(array.tobytes())
    except (OSError, KeyError, TypeError, AttributeError):
        return ""
    return digest.hexdigest()


def _given_file(path: Path) -> Path:
    if path.suffix not in KINDS:
        raise WeightsError(
            f"weights must be 'imagenet', 'random' or the path of a file ending in {' or '.join(KINDS)}, but are {path}"
        )
    if not path.is_file():
        raise WeightsError(f"the weights file {path} must exist, but does not: correct the path")
    return path


def _find(file: WeightsFile, folder: Path) -> Path:
    for name in (file.name, *file.aliases):
        if (folder / name).is_file():
            return folder / name
    state = "does not hold it" if folder.is_dir() else "does not exist"
    raise WeightsError(
        f"the weights folder {folder} must hold {file.name}, but {state}: download it from {file.url} into that "
        f"folder, or unset the folder (setting, --weights, {FOLDER_VARIABLE}) to let Keras download it"
    )


def find_stored(file: WeightsFile, folder: str | Path | None = None) -> Path | None:
    """A file of ImageNet weights that is on this machine, unchecked; None where it is not.

    Args:
        file: of a row of ``BACKBONES``.
        folder: folder of ImageNet weights; None for the one that ``KERASALL_WEIGHTS`` names, else Keras' own cache.
    """
    folder = folder or os.environ.get(FOLDER_VARIABLE)
    cache = Path(os.environ.get("KERAS_HOME") or "~/.keras") / CACHE
    names = (file.name, *file.aliases) if folder else (file.name,)
    paths = (Path(folder or cache).expanduser() / name for name in names)
    return next((path for path in paths if path.is_file()), None)


def _download(file: WeightsFile, network: str) -> Path:
    with quiet_tensorflow():  # here, because the table of backbones must not load TensorFlow
        from keras.utils import get_file

    if find_stored(file) is None:
        line = f"{network}'s ImageNet weights are not at hand: Keras downloads them now ({file.url})"
        tell(line)
    waited = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        # Keras shows its progress on standard output, which belongs to results.
        with contextlib.redirect_stdout(sys.stderr):
            path = get_file(file.name, file.url, cache_subdir=CACHE, file_hash=file.md5 or None)
    except Exception as error:  # get_file raises a bare Exception for every network fault
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{file.name} must be downloaded, but {file.url} could not be read ({reason}): download it on "
            f"another machine into a folder and name that folder (setting, --weights or {FOLDER_VARIABLE})"
        ) from None
    finally:
        socket.setdefaulttimeout(waited)
    return Path(path)
