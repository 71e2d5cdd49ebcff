"""A model on the processes of a Ray cluster: each loads it once, is given files as it has room, and answers with rows.

These are Ray's actors, not Ray Data: names are taken from their list only as fast as they are answered, one set of
processes serves the whole command, and a process that comes or goes at any time is taken in or done without.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from socket import gethostname
from typing import Any

from kerasall.decoding import with_limits
from kerasall.errors import KerasallError, ModelError
from kerasall.files import sha256_of_file
from kerasall.ray_cluster import count_cpus, joined
from kerasall.serving.batch import Answering
from kerasall.serving.card import MANIFEST
from kerasall.serving.prediction_tables import Kind, Row
from kerasall.serving.predictor import Predictor, read_labels

BATCHES = 4
"""Calls of the model for one message: while it computes, the files of the next call are read."""
AHEAD = 2
"""Messages that a process holds: the next is there when one is done, and no more wait."""
DEATHS = 3
"""Processes that the same files may take with them: then they are asked for one by one, and the one is given up."""
LIVES = 4 * DEATHS
"""How often a process may die without an answer in between: then it is done without."""
PATIENCE_SECONDS = 60.0
"""How long nobody may answer before that is told."""


@dataclass(frozen=True)
class Scoring:
    """What a process of the cluster loads, and how it answers.

    Attributes:
        model: folder of one version of a SavedModel, at the same path on every host.
        folder: where relative names start.
        batch_size: files per call of the model.
        max_side: width and height of an image at most; None for the model's own limit.
        max_pixels: pixels of an image at most; None for the model's own limit.
    """

    model: Path
    folder: Path
    batch_size: int
    max_side: int | None
    max_pixels: int | None


@contextmanager
def on_cluster(
    scoring: Scoring, address: str, count: int | None, tell: Callable[[str], None]
) -> Iterator[Answering]:
    """The model on a cluster, for the time of one command.

    Args:
        scoring: what is loaded there.
        address: as ``kerasall.ray_cluster.joined``.
        count: processes there shall be; default one a core. Those for which there is no room come when there is.
        tell: told in a sentence who answers, and when nobody does.

    Raises:
        KerasallError: there is no such cluster, or the model cannot be loaded there.
    """
    with joined(address, count) as ray:
        workers = _Workers(ray, scoring, count or count_cpus(ray) or 1, tell)
        columns = workers.start()
        files = workers.count * AHEAD * BATCHES * scoring.batch_size
        yield Answering(scoring.model, read_labels(scoring.model), columns, workers.ask, files)


class _Scorer:
    """The model in a process of the cluster."""

    def __init__(self, scoring: Scoring, digest: str) -> None:
        self._scoring, self._digest = scoring, digest

    def load(self) -> dict[str, Kind]:
        """Loads the model; returns the columns of its rows.

        Raises:
            ModelError: it is not the one that the command was given.
        """
        # Ray counts this process as one core: more threads would only be in the way of others.
        os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        from kerasall.runtime import quiet_tensorflow

        with suppress(OSError):  # names that are not relative do without
            os.chdir(self._scoring.folder)
        if sha256_of_file(self._scoring.model / MANIFEST) != self._digest:
            raise ModelError(
                f"{self._scoring.model} must be the same model on every host, but is another on {gethostname()}: "
                "copy it there"
            )
        with quiet_tensorflow():
            predictor = Predictor(self._scoring.model)
        predictor.limits = with_limits(predictor.limits, self._scoring.max_side, self._scoring.max_pixels)
        self._model = Answering.here(predictor, self._scoring.batch_size)
        return dict(self._model.columns)

    def answer(self, names: Sequence[str]) -> list[Row]:
        return self._model.in_order(names)


@dataclass(eq=False)
class _Files:
    """Files of one message, and how many processes died with them."""

    names: list[str]
    deaths: int = 0


@dataclass(eq=False)
class _Life:
    """A process from one start to its death, and how often it died before without an answer in between."""

    worker: Any
    deaths: int = 0


class _Workers:
    """Processes of a cluster that answer files, some of which may be away.

    One that comes back has another life: what was asked of an earlier one and not answered is asked again, and changes
    nothing else. ``_room`` holds a life once for every message it may be given.
    """

    def __init__(self, ray: Any, scoring: Scoring, count: int, tell: Callable[[str], None]) -> None:
        self.ray, self.count, self._tell, self._scoring = ray, count, tell, scoring
        self._loading: dict[Any, _Life] = {}
        self._room: deque[_Life] = deque()
        self._alive: dict[Any, _Life] = {}
        self._columns: dict[str, Kind] = {}

    def start(self) -> dict[str, Kind]:
        """Starts them; returns the columns of their rows when the first has loaded the model."""
        # What a dead one was asked is asked of another, not of its successor once there is room for that.
        made = self.ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=0)(_Scorer)
        digest = sha256_of_file(self._scoring.model / MANIFEST)
        for _ in range(self.count):
            self._load(_Life(made.remote(self._scoring, digest)))
        while not self._columns:
            self._wait([])
        return self._columns

    def ask(self, names: Iterable[str]) -> Iterator[list[Row]]:
        """Rows of the files, each once whoever dies meanwhile; names are taken as there is room for them."""
        waiting, size = iter(names), BATCHES * self._scoring.batch_size
        fresh = map(_Files, iter(lambda: list(islice(waiting, size)), []))
        again: deque[_Files] = deque()
        asked: dict[Any, tuple[_Life, _Files]] = {}
        while True:
            while self._room and (files := again.popleft() if again else next(fresh, None)):
                life = self._room.popleft()
                asked[life.worker.answer.remote(files.names)] = life, files
            if not asked and self._room:
                return
            for answer in self._wait(list(asked)):
                life, files = asked.pop(answer)
                rows = self._take(answer, life)
                if rows is None:
                    rows = self._put_back(files, again)
                elif self._alive.get(life.worker) is life:
                    life.deaths = 0
                    self._room.append(life)
                if rows:
                    yield rows

    def _load(self, life: _Life) -> None:
        self._alive[life.worker] = life
        self._loading[life.worker.load.remote()] = life

    def _wait(self, asked: list[Any]) -> list[Any]:
        """Waits for an answer, or for a process to be ready; returns the answers."""
        waiting = [*asked, *self._loading]
        done, _ = self.ray.wait(waiting, timeout=PATIENCE_SECONDS)
        if not done and self._loading:
            self._tell(
                f"no answer for {PATIENCE_SECONDS:.0f} s: {len(self._loading)} of {self.count} processes load the "
                "model, or wait for a free core of the cluster"
            )
        for loaded in [each for each in done if each in self._loading]:
            life = self._loading.pop(loaded)
            if columns := self._take(loaded, life):
                self._columns = columns
                self._room.extend([life] * AHEAD)
        return [each for each in done if each in asked]

    def _take(self, answer: Any, life: _Life) -> Any:
        """What a process answered; None where it has died: it loads the model again once it is back."""
        try:
            return self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, KerasallError):
                raise type(error.cause)(str(error.cause)) from None
            raise
        except self.ray.exceptions.RayError as error:
            if self._alive.get(life.worker) is life:
                self._bury(life, error)
            return None

    def _bury(self, life: _Life, error: Exception) -> None:
        self._room = deque(each for each in self._room if each is not life)
        del self._alive[life.worker]
        if life.deaths < LIVES:
            self._load(_Life(life.worker, life.deaths + 1))
        elif not self._alive:
            raise KerasallError(
                f"processes of the cluster must stay alive, but each died {LIVES} times without an answer in between, "
                f"the last time with: {error}"
            )

    def _put_back(self, files: _Files, again: deque[_Files]) -> list[Row]:
        """Asks another for files that a process died with; a row with an error of a file that every process dies with."""
        files.deaths += 1
        if files.deaths < DEATHS:
            again.append(files)
        elif len(files.names) > 1:
            again.extend(_Files([name]) for name in files.names)
        else:
            (name,) = files.names
            error = f"{name} must be readable, but {DEATHS} processes that read it died: see Ray's logs"
            return [dict.fromkeys(self._columns) | {"path": name, "label": "", "error": error}]
        return []
