"""Worker processes of a search on this machine: started, watched, restarted under their own ids, ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kerasall.errors import KerasallError

_DEATHS = 3
"""A worker that dies so often without any trial having ended in between is not started again."""
_FAREWELL_SECONDS = 20.0
_TAIL_LINES = 12


class LocalWorkers:
    """Worker processes on this machine.

    Args:
        command: starts a worker.
        count: how many.
        folder: for their logs, ``worker1.log``, ...; what a worker says stands there.
        finished: () -> number of trials that have ended.
        gpus: ids of devices to deal out; without any each worker sees what this process sees.
        say: receives a line when a worker is started again.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        folder: Path,
        finished: Callable[[], int],
        gpus: Sequence[str] = (),
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._command, self._folder, self._finished, self._gpus = list(command), folder, finished, list(gpus)
        self._say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        self._deaths = dict.fromkeys((f"worker{number + 1}" for number in range(count)), 0)
        self._seen = finished()
        self.processes = {name: self._start(name) for name in self._deaths}

    def watch(self) -> None:
        """Starts again, under its own id, whatever worker has died.

        Raises:
            KerasallError: one dies again and again.
        """
        if (now := self._finished()) != self._seen:
            self._seen, self._deaths = now, dict.fromkeys(self._deaths, 0)
        for name, process in self.processes.items():
            status = process.poll()
            if not status:  # alive, or at its end
                continue
            self._deaths[name] += 1
            if self._deaths[name] > _DEATHS:
                raise KerasallError(
                    f"{name} must run trials, but died {self._deaths[name]} times without any trial having ended, the "
                    f"last time with status {status}; {self._log(name)} ends with:\n{self._tail(name)}"
                )
            self._say(f"{name} died (status {status}) and is started again; its log is {self._log(name)}")
            self.processes[name] = self._start(name)

    def end(self, seconds: float = _FAREWELL_SECONDS) -> None:
        """Waits for the workers to end by themselves, then ends them."""
        for process in self.processes.values():
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"KERASTUNER_TUNER_ID": name}
        number = list(self._deaths).index(name)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[number % len(self._gpus)]
            environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # workers may share a device
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._log(name), "ab") as log:
            return subprocess.Popen(self._command, env=environment, stdout=log, stderr=log)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _tail(self, name: str) -> str:
        lines = self._log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])


@contextmanager
def chief_environment(address: str | None = None) -> Iterator[str]:
    """Makes this process the chief of a search; yields its address.

    Args:
        address: ``host:port``; None listens on this machine alone, at a free port.
    """
    ip, _, port = (address or f"127.0.0.1:{_free_port()}").rpartition(":")
    given = {"KERASTUNER_TUNER_ID": "chief", "KERASTUNER_ORACLE_IP": ip, "KERASTUNER_ORACLE_PORT": port}
    former = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield f"{ip}:{port}"
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def list_gpus() -> list[str]:
    """Ids of the devices to deal out to workers: those of CUDA_VISIBLE_DEVICES, or all that TensorFlow sees."""
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return [part.strip() for part in visible.split(",") if part.strip() not in ("", "-1")]
    import tensorflow as tf

    return [str(number) for number, _ in enumerate(tf.config.list_physical_devices("GPU"))]
