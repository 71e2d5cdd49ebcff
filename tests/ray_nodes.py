"""Nodes of a Ray cluster as processes of their own on this machine, which a test starts, kills and adds to."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

STORE_BYTES = 80_000_000


class Nodes:
    """A head without cores and, as they are started, workers of one core each.

    Args:
        folder: short, for Ray's sockets lie below it; also gets what the nodes say.
        environment: beside the usual.

    Attributes:
        address: of the head.
        environment: of whoever joins it; holds the token that it asks for.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        (folder / "ray_bootstrap_config.yaml").write_text("{}")
        self.environment = (
            os.environ
            | environment
            | {
                # As docs/cluster.md says: a head would tell that nothing shall be told, and ask whose cloud this is.
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
                "HOME": str(folder),
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": secrets.token_hex(32),
                "RAY_raylet_start_wait_time_s": "240",  # of a machine that is busy with other things
                "TF_CPP_MIN_LOG_LEVEL": "3",
            }
        )
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.address = ""
        head = ["--head", "--port=0", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}/ray"]
        self._start("head", *head)
        log = (folder / "head.log").read_text()
        self.address = next(part.split("'")[1] for part in log.split("--address=")[1:] if part[0] == "'")

    def start_worker(self, name: str) -> None:
        """Starts a worker; returns when it has joined."""
        self._start(name, f"--address={self.address}", "--num-cpus=1")

    def _start(self, name: str, *options: str) -> None:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        log = self._folder / f"{name}.log"
        with open(log, "wb") as file:
            self._processes[name] = subprocess.Popen(
                [*command, f"--object-store-memory={STORE_BYTES}", *options],
                env=self.environment, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + 300
        while b"Ray runtime started" not in log.read_bytes():
            assert self._processes[name].poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """Ends a node and all that it started, without warning."""
        process = self._processes.pop(name)
        tree = psutil.Process(process.pid)
        for each in (tree, *tree.children(recursive=True)):
            try:
                each.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        process.wait()

    def memory(self, name: str) -> int:
        """Bytes that a node and all that it started have resident."""
        tree, total = psutil.Process(self._processes[name].pid), 0
        for each in (tree, *tree.children(recursive=True)):
            try:
                total += each.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def end(self) -> None:
        """Ends all nodes, the head last."""
        for name in reversed(list(self._processes)):
            self.kill(name)
