"""Newer versions of the model that answers: seen while it does, and followed where that was asked for.

A new version is loaded, checked and warmed beside the old one, which answers until then. One that is broken is told
of and left alone until its files change.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kerasall.errors import KerasallError, ModelError
from kerasall.serving.predictor import list_versions, version_folder
from kerasall.serving.web.answers import ModelFacts
from kerasall.serving.web.service import Loaded, ModelService

_LOGGER = logging.getLogger("uvicorn.error.versions")
"""Of its own: what clients can provoke may be held back on its parent, what becomes of a version never."""

_Files = tuple[tuple[str, int, int], ...]
"""Name, size and time of every file of a version: a copy that goes on, or a repaired one, has others."""


@dataclass(frozen=True)
class Newer:
    """A version beside the one that answers.

    Attributes:
        version: its number.
        words: what becomes of it.
        loading: whether it is being loaded.
        error: why it was refused; "" where it was not.
    """

    version: str
    words: str
    loading: bool = False
    error: str = ""


class Watch:
    """Looks for newer versions every few seconds.

    Args:
        service: answers with one of them.
        follow: whether a newer one takes over; else it is only told of.
        seconds: between two looks.
    """

    def __init__(self, service: ModelService, follow: bool, seconds: float):
        self._service, self._follow, self._seconds = service, follow, seconds
        self._seen: dict[Path, _Files] = {}
        self._refused: dict[Path, tuple[_Files, str]] = {}
        self._replaced: weakref.ref[Loaded] | None = None
        self.newer: Newer | None = None
        """The newest version that does not answer; None where the one that answers is it."""

    async def run(self) -> None:
        """Looks on until it is cancelled."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, "follow")  # the model's goes on answering
        try:
            while True:
                await asyncio.sleep(self._seconds)
                serving = self._service.newest
                if serving is None:
                    continue
                loaded = None
                with suppress(
                    OSError
                ):  # a shared disk that is away for the moment: the next look may find it
                    loaded = await loop.run_in_executor(thread, self._look, serving)
                if loaded is not None:
                    self._take(serving, loaded)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def _take(self, old: Loaded, new: Loaded) -> None:
        self._service.serve(new)
        self._replaced, self.newer = weakref.ref(old), None
        _LOGGER.warning(
            "version %s of %s answers now, in place of %s",
            new.facts.version,
            new.facts.name,
            old.facts.version,
        )

    def _look(self, serving: Loaded) -> Loaded | None:
        """What is to take over, loaded and warm; notes what is not."""
        if self._replaced is not None and self._replaced() is None:
            self._replaced = None
            gc.collect()  # TensorFlow's functions hold each other: without it the old model's weights would stay
        folder, facts = version_folder(serving.predictor.folder), serving.facts
        others = find_newer(folder)
        if not others:
            self.newer = None
        elif not self._follow:
            self._tell(Newer(
                others[0].name,
                f"version {others[0].name} of {facts.name} is there, but version {facts.version} answers: start the server "
                "anew, or with --follow",
            ))  # fmt: skip
        else:
            return self._load_first(others, facts)
        return None

    def _load_first(self, others: Sequence[Path], facts: ModelFacts) -> Loaded | None:
        """The highest version that is whole; of refused ones the highest is told."""
        for path in others:
            files = _list_files(path)
            if self._seen.get(path) != files:  # it may still be copied: wait until nothing changes
                self._seen[path] = files
                continue
            known, error = self._refused.get(path, (None, ""))
            if known != files:
                told = (
                    f"version {path.name} is being loaded; version {facts.version} answers until it is warm"
                )
                self.newer = Newer(path.name, told, loading=True)
                try:
                    return self._load(path, facts)
                except Exception as caught:  # whatever a broken model does, the one that answers goes on
                    if (
                        _list_files(path) != files
                    ):  # it changed, or went, while it was read: no word on what comes next
                        continue
                    error = str(caught).replace(f"{path.parent}/", "")  # clients need not know where it lies
                    if not isinstance(caught, KerasallError):
                        error = f"{type(caught).__name__}: {error}"
                    self._refused[path] = files, error
            words = f"version {path.name} of {facts.name} was refused, version {facts.version} answers on: {error}"
            if path == others[0]:
                self._tell(Newer(path.name, words, error=error))
            elif known != files:
                _LOGGER.error("%s", words)
        return None

    def _load(self, path: Path, facts: ModelFacts) -> Loaded:
        loaded = self._service.load_version(path)
        for what in ("labels", "malignant"):
            old, new = getattr(facts, what), getattr(loaded.facts, what)
            if new != old:
                raise ModelError(
                    f"{path} must have the {what} of the version before it, {', '.join(old) or 'none'}, but has "
                    f"{', '.join(new) or 'none'}: serve it as a model of its own"
                )
        return loaded

    def _tell(self, newer: Newer) -> None:
        told, self.newer = self.newer, newer
        if told != newer:
            _LOGGER.log(logging.ERROR if newer.error else logging.WARNING, "%s", newer.words)


def find_newer(serving: Path) -> list[Path]:
    """Versions beside the one in ``serving`` that should answer in its place, the best first.

    Those of a higher number; all of them once its own folder is gone, which is how a bad version is taken back.
    """
    if not serving.name.isdecimal():
        return []
    others = [path for path in list_versions(serving.parent) if path != serving]
    gone = not serving.exists()
    return [path for path in reversed(others) if gone or int(path.name) > int(serving.name)]


def _list_files(folder: Path) -> _Files:
    try:
        found = [(path, path.stat()) for path in sorted(folder.rglob("*"))]
    except OSError:  # a file went while it was looked at
        return ()
    return tuple((str(path), stated.st_size, stated.st_mtime_ns) for path, stated in found)
