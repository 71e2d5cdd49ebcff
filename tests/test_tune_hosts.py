"""The trials of one experiment on several hosts: workers that a Ray cluster starts, and chief and workers by the environment.

python -m pytest -n 0 -m slow tests/test_tune_hosts.py                               # 7 trials
KERASALL_CLUSTER_TRIALS=27 python -m pytest -n 0 -m slow tests/test_tune_hosts.py    # 27

Hosts of their own are network namespaces with a name, processes and a network of their own, and a shared folder: that needs
the rights of root and the tool ip (iproute2), and is left out with its reason where they are not given.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from pandas.testing import assert_frame_equal
from ray_nodes import Nodes
from test_taguchi_system import ROOT, TINY, Workshop

from kerasall.files import read_json

TRIALS = int(os.environ.get("KERASALL_CLUSTER_TRIALS", "7"))
TRAINED = {
    "train.stages.0.optimizer.name": ["adam", "sgdm", "rmsprop"],
    "train.batch_size": [8, 12, 16],
    "train.stages.0.epochs": [2, 3, 4],
}
TUNES = {
    7: TINY["tune"],  # an L4, and three confirmations
    27: TINY["tune"] | {"factors": TRAINED, "repeats": 2, "confirmations": 9},  # an L9, twice
}
PORT = 8917

pytestmark = pytest.mark.slow


class Shared(Workshop):
    """A folder that all hosts see, and the processes that work in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.config.write_text(yaml.safe_dump(TINY | {"tune": TUNES[TRIALS]}))

    def begin(
        self, name: str, *options: str, host: tuple[str, ...] = (), **variables: str
    ) -> subprocess.Popen:
        """Starts the command, on a host; what it says is appended to ``NAME.log``."""
        places = {
            "PYTHONPATH": str(ROOT),
            "KERASALL_RUNS": str(self.folder / "runs"),
            "KERASALL_SAVEDMODELS": str(self.folder / "savedmodels"),
        }
        command = [
            *host,
            sys.executable,
            "-u",
            "-m",
            "kerasall",
            "tune",
            str(self.config),
            "--force",
            *options,
        ]
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(command, env=os.environ | places | variables, stdout=log, stderr=log)

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def state(self) -> dict:
        """What the oracle has written down."""
        found = list(self.folder.glob("runs/artifacts/Tuner/*/.scratch/project/oracle.json"))
        return read_json(found[0]) if found else {"end_order": [], "ongoing_trials": {}}

    def ended(self) -> int:
        return len(self.state()["end_order"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Shared:
    """The same experiment in one process."""
    shop = Shared(tmp_path_factory.mktemp("alone"))
    assert shop.begin("alone").wait(3000) == 0, shop.said("alone")
    assert len(shop.table()) == TRIALS
    return shop


def wait_for(condition: Callable[[], object], running: Callable[[], bool], said: Callable[[], str]) -> None:
    until = time.monotonic() + 3000
    while not condition():
        assert running(), said()
        assert time.monotonic() < until, said()
        time.sleep(0.2)


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def require_same(shop: Shared, alone: Shared) -> None:
    """Every raw response is a trial of its own, none lost or doubled, and bit-equal to that of one process."""
    assert_frame_equal(shop.table(), alone.table())
    assert shop.analysis() == alone.analysis()
    assert shop.report()["results"]["metrics"] == alone.report()["results"]["metrics"]


def test_trials_on_a_ray_cluster_that_loses_and_gains_a_worker_and_its_chief(alone, tmp_path):
    pytest.importorskip("ray", reason="the extra ray is absent: pip install -c constraints.txt -e '.[ray]'")
    shop = Shared(tmp_path)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as short:
        nodes = Nodes(Path(short), {"PYTHONPATH": str(ROOT)})
        variables = {key: nodes.environment[key] for key in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
        options = ("--cluster", nodes.address, "--workers", "2")
        try:
            nodes.start_worker("first")
            nodes.start_worker("second")
            chief = shop.begin("chief", *options, **variables)

            def until(condition):
                wait_for(condition, lambda: chief.poll() is None, lambda: shop.said("chief"))

            until(lambda: shop.ended() >= 1 and len(shop.state()["ongoing_trials"]) == 2)
            nodes.kill("second")
            until(lambda: ") and is started again" in shop.said("chief"))  # and why it died
            nodes.start_worker("third")
            seen = shop.ended()
            until(lambda: shop.ended() >= seen + 1)
            kill(chief)
            seen = shop.ended()
            assert seen < TRIALS
            chief = shop.begin("chief", *options, **variables)
            assert chief.wait(3000) == 0, shop.said("chief")
        finally:
            nodes.end()
    require_same(shop, alone)


@pytest.fixture
def hosts() -> Iterator[Callable[[int], tuple[str, ...]]]:
    """Number of a host -> what a command there begins with; host 0 has the address 10.77.0.1."""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("hosts of their own need the tools ip and unshare: apt-get install iproute2 util-linux")
    mark = f"kerasall{os.getpid()}"
    made = []

    def run(*words: str) -> None:
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(
                f"hosts of their own are not permitted here: {' '.join(words)}: {done.stderr.strip()}"
            )

    try:
        for number in range(4):
            run("ip", "netns", "add", f"{mark}-{number}")
            made.append(f"{mark}-{number}")
            run("ip", "-n", made[-1], "link", "set", "lo", "up")
        run("ip", "-n", made[0], "address", "add", "10.77.0.1/32", "dev", "lo")
        for number in (1, 2, 3):  # a cable from host 0 to each of the others
            run("ip", "-n", made[0], "link", "add", f"to{number}", "type", "veth", "peer", "name", "uplink", "netns", made[number])  # fmt: skip
            for place, device, address in ((0, f"to{number}", 1), (number, "uplink", 2)):
                run("ip", "-n", made[place], "address", "add", f"10.77.{number}.{address}/24", "dev", device)
                run("ip", "-n", made[place], "link", "set", "dev", device, "up")
            run("ip", "-n", made[number], "route", "add", "default", "via", f"10.77.{number}.1")

        def on(number: int) -> tuple[str, ...]:
            own = ("unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
            named = ("sh", "-c", f'hostname host{number}; exec "$@"', "host")
            return ("ip", "netns", "exec", made[number], *own, *named)

        run(*on(0), "true")
        yield on
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=True)


def test_chief_and_workers_are_hosts_of_their_own_of_which_one_is_lost_and_the_chief_killed(
    hosts, alone, tmp_path
):
    shop = Shared(tmp_path)
    place = {"KERASTUNER_ORACLE_IP": "10.77.0.1", "KERASTUNER_ORACLE_PORT": str(PORT)}
    running: dict[str, subprocess.Popen] = {}

    def begin(name: str, host: int) -> None:
        running[name] = shop.begin(name, host=hosts(host), KERASTUNER_TUNER_ID=name, **place)

    def until(condition):
        names = list(running)
        wait_for(
            condition,
            lambda: all(running[name].poll() is None for name in names),
            lambda: "\n".join(map(shop.said, names)),
        )

    try:
        begin("chief", 0)
        begin("worker1", 1)
        begin("worker2", 2)
        until(lambda: shop.ended() >= 1 and len(shop.state()["ongoing_trials"]) == 2)
        kill(running.pop("worker2"))
        lost = shop.state()["ongoing_trials"]["worker2"]
        begin("worker2", 3)  # on another host, under the same name
        until(lambda: lost in shop.state()["end_order"])
        for name in ("chief", "worker1", "worker2"):
            kill(running.pop(name))
        seen = shop.ended()
        assert seen < TRIALS
        begin("chief", 0)
        begin("worker1", 1)
        begin("worker2", 2)
        assert running["chief"].wait(3000) == 0, shop.said("chief")
        assert [running[name].wait(60) for name in ("worker1", "worker2")] == [0, 0]
    finally:
        for process in running.values():
            if process.poll() is None:
                kill(process)
    require_same(shop, alone)
