"""Workers that a search's chief starts, here or on a Ray cluster, and starts again under their own ids when they die."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from kerasall.errors import KerasallError
from kerasall.shown_text import tell

_DEATHS = 3
"""A worker that dies so often without any trial having ended in between is not started again."""
_FAREWELL_SECONDS = 20.0
_TAIL_LINES = 12
_CORES = 0.5
"""Of a cluster's cores for a worker: where a host is lost, its workers find room on the others, for their trials wait."""


class Process(Protocol):
    """What is asked of a running worker, as of ``subprocess.Popen``."""

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


def start_process(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Starts Python with arguments, and this process' number behind them; what it says goes to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as said:
        # -I would hide the folder of a checkout.
        return subprocess.Popen(
            [sys.executable, *command, str(os.getpid())],
            env=os.environ | environment,
            stdout=said,
            stderr=said,
        )


class LocalWorkers:
    """Worker processes on this machine.

    Args:
        command: starts a worker, as arguments of Python; the number of the process that it ends with comes behind them.
        count: how many.
        folder: for their logs, ``worker1.log``, ...; what a worker says stands there.
        finished: () -> number of trials that have ended.
        gpus: ids of devices to deal out; without any each worker sees what this process sees.
    """

    def __init__(
        self, command: Sequence[str], count: int, folder: Path, finished: Callable[[], int],
        gpus: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._command, self._folder, self._finished, self._gpus = list(command), folder, finished, list(gpus)
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
            cause = process.fault if isinstance(process, _Task) and process.fault else f"status {status}"
            if self._deaths[name] > _DEATHS:
                raise KerasallError(
                    f"{name} must run trials, but died {self._deaths[name]} times without any trial having ended, the "
                    f"last time with {cause}; {self._last_words(name)}"
                )
            tell(f"{name} died ({cause}) and is started again; its log is {self._log(name)}")
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

    def _start(self, name: str) -> Process:
        environment = {"KERASTUNER_TUNER_ID": name}
        number = list(self._deaths).index(name)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[number % len(self._gpus)]
            environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # workers may share a device
        return start_process(self._command, environment, self._log(name))

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _last_words(self, name: str) -> str:
        log = self._log(name)
        try:
            words = log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return f"{log} is not there: the folder of runs must be shared with its host, at the same path"
        return "\n".join([f"{log} ends with:", *words[-_TAIL_LINES:]])


class ClusterWorkers(LocalWorkers):
    """Worker processes on the hosts of a Ray cluster, each the child of a task of Ray's; Ray chooses the host.

    Args:
        ray: the module, joined to the cluster.
        command, count, folder, finished: as ``LocalWorkers``; this folder, and all that is named in files there, must be
            at the same place on every host.
    """

    def __init__(
        self, ray: Any, command: Sequence[str], count: int, folder: Path, finished: Callable[[], int]
    ) -> None:
        self._ray = ray
        super().__init__(command, count, folder.absolute(), finished)

    def _start(self, name: str) -> Process:
        chief = {key: os.environ[key] for key in ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")}
        task = self._ray.remote(num_cpus=_CORES, max_retries=0, scheduling_strategy="SPREAD")(run_process)
        environment = {"KERASTUNER_TUNER_ID": name, **chief}
        return _Task(self._ray, task.remote(self._command, environment, self._log(name), Path.cwd()))


def run_process(command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path) -> int:
    """Starts Python in a folder and waits for its end; returns its status. It ends when this process is killed."""
    os.chdir(folder)
    return start_process(command, environment, log).wait()


class _Task:
    """A task of Ray's, asked as a process.

    Attributes:
        fault: what Ray says that it died of; "" where it did not, or the process has a status of its own.
    """

    def __init__(self, ray: Any, running: Any) -> None:
        self._ray, self._running = ray, running
        self.fault = ""

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if not self._ray.wait([self._running], timeout=timeout)[0]:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        try:
            return self._ray.get(self._running)
        except self._ray.exceptions.RayError as error:  # its host is lost, it was ended, or could not start
            cause = getattr(error, "cause", None) or error
            self.fault = f"{type(cause).__name__}: {cause}".strip()
            return -1

    def terminate(self) -> None:
        self._ray.cancel(self._running, force=True)

    def kill(self) -> None:
        self.terminate()


def list_gpus() -> list[str]:
    """Ids of the devices to deal out to workers: those of CUDA_VISIBLE_DEVICES, or all that TensorFlow sees."""
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return [part.strip() for part in visible.split(",") if part.strip() not in ("", "-1")]
    import tensorflow as tf

    return [str(number) for number, _ in enumerate(tf.config.list_physical_devices("GPU"))]
