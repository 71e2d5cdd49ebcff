"""Local workers: restarted under their own ids, given up when they die again and again, ended with their chief."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from kerasall.components import trial_search
from kerasall.components.trial_search import (
    JOB,
    chief_environment,
    find_job,
    role_of_process,
    write_job,
)
from kerasall.components.trial_training import SearchJob
from kerasall.components.trial_workers import ClusterWorkers, LocalWorkers, list_gpus
from kerasall.errors import KerasallError
from kerasall.files import read_json
from kerasall.settings import TrialSettings, TuneSettings

SAY = "import os, sys; print(os.environ['KERASTUNER_TUNER_ID'], os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)"


def start(folder: Path, script: str, count: int = 2, finished=lambda: 0, **options) -> LocalWorkers:
    return LocalWorkers(["-c", script], count, folder, finished, **options)


def wait_until(condition, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.02)


def test_a_dead_worker_is_started_again_under_its_own_id(tmp_path, capsys):
    workers = start(tmp_path, f"{SAY}; import time; time.sleep(60)")
    wait_until(lambda: (tmp_path / "worker2.log").read_text().startswith("worker2"))
    first, dead = workers.processes["worker1"], workers.processes["worker2"]
    dead.kill()
    dead.wait()
    workers.watch()
    wait_until(lambda: len((tmp_path / "worker2.log").read_text().splitlines()) == 2)
    assert workers.processes["worker1"] is first
    assert workers.processes["worker2"].pid != dead.pid
    assert "worker2 died (status -9)" in capsys.readouterr().err
    workers.end(seconds=0)
    assert all(process.poll() is not None for process in workers.processes.values())


def test_a_worker_that_dies_again_and_again_is_given_up_with_its_last_words(tmp_path, capsys):
    workers = start(tmp_path, "import sys; sys.exit('no such device')", count=1)
    for _ in range(3):
        workers.processes["worker1"].wait()
        workers.watch()
    workers.processes["worker1"].wait()
    with pytest.raises(KerasallError, match="no such device") as caught:
        workers.watch()
    assert "died 4 times" in str(caught.value)
    assert len(capsys.readouterr().err.splitlines()) == 3


class Lost(Exception):
    """As Ray's error of a task, which holds what it failed with."""

    cause = PermissionError("no such folder here")


class FakeRay:
    """A cluster without a core, where nothing starts."""

    exceptions = SimpleNamespace(RayError=Lost)
    util = SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")
    cluster_resources = dict

    def remote(self, **options):
        return lambda function: SimpleNamespace(remote=lambda *arguments: arguments)

    def wait(self, references, timeout):
        return references, []

    def get(self, reference):
        raise Lost


def test_a_cluster_where_workers_cannot_start_says_why(tmp_path, capsys):
    with chief_environment():
        workers = ClusterWorkers(FakeRay(), ["-c", SAY], 1, tmp_path, lambda: 0)
        for _ in range(3):
            workers.watch()
        with pytest.raises(KerasallError, match="PermissionError: no such folder here") as caught:
            workers.watch()
    assert f"{tmp_path / 'worker1.log'} is not there: the folder of runs must be shared" in str(caught.value)
    assert "worker1 died (PermissionError: no such folder here)" in capsys.readouterr().err


def test_a_cluster_without_a_core_yet_is_waited_for_by_one_worker(tmp_path, monkeypatch, capsys):
    started = []
    oracle = SimpleNamespace(remaining_trials=lambda: 1, save=lambda: None, end_order=[])
    for name, stand_in in {
        "joined": lambda *_: nullcontext(FakeRay()),
        "_make_tuner": lambda _: SimpleNamespace(taguchi_oracle=oracle),
        "serve_oracle": lambda oracle, watch: None,
        "ClusterWorkers": lambda ray, command, count, *_: (
            started.append(count) or SimpleNamespace(watch=None, end=lambda: None)
        ),
    }.items():
        monkeypatch.setattr(trial_search, name, stand_in)
    training = SimpleNamespace(job=job_in(tmp_path), decode=lambda _: None)
    trial_search.search_with_workers(training, 0, "10.0.0.1:6379")
    assert started == [1]
    assert "the cluster has no core yet" in capsys.readouterr().err


def test_deaths_are_forgiven_when_trials_end_in_between(tmp_path, capsys):
    ended = iter(range(100))
    workers = start(tmp_path, "import sys; sys.exit(1)", count=1, finished=lambda: next(ended))
    for _ in range(8):
        workers.processes["worker1"].wait()
        workers.watch()
    assert len(capsys.readouterr().err.splitlines()) == 8
    workers.end()


def test_a_worker_at_its_end_is_left_in_peace(tmp_path, capsys):
    workers = start(tmp_path, "pass")
    workers.end()
    workers.watch()
    assert capsys.readouterr().err == ""


def test_devices_are_dealt_out(tmp_path, monkeypatch):
    workers = start(tmp_path, SAY, count=3, gpus=["4", "7"])
    workers.end()
    found = [(tmp_path / f"worker{n}.log").read_text().split() for n in (1, 2, 3)]
    assert found == [["worker1", "4"], ["worker2", "7"], ["worker3", "4"]]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 3")
    assert list_gpus() == ["2", "3"]


def test_the_environment_of_a_chief_ends_with_it(monkeypatch):
    monkeypatch.delenv("KERASTUNER_TUNER_ID", raising=False)
    with chief_environment() as address:
        assert address.startswith("127.0.0.1:")
        assert role_of_process() == "chief"
    assert role_of_process() == "alone"
    with chief_environment("10.0.0.1:8000") as address:
        assert (address, os.environ["KERASTUNER_ORACLE_IP"]) == ("10.0.0.1:8000", "10.0.0.1")


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker1")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "10.0.0.1")
    with pytest.raises(KerasallError, match="KERASTUNER_ORACLE_PORT is not set"):
        role_of_process()


def job_in(scratch: Path, seed: int = 0) -> SearchJob:
    tune = TuneSettings(factors={"train.batch_size": (8, 16)})
    return SearchJob(Path("d"), scratch, TrialSettings(), tune, 0.1, seed, True, None, Path("c"))


def test_workers_of_other_hosts_find_the_search_of_their_settings(tmp_path):
    scratch = tmp_path / "Tuner" / "key.partial" / ".scratch"
    path = write_job(job_in(scratch), "10.0.0.1:8000")
    assert path == scratch / JOB
    assert SearchJob.from_json(read_json(path)["job"]) == job_in(scratch)
    like = job_in(Path())
    assert find_job(tmp_path, like, "10.0.0.1:8000", wait_seconds=0) == path
    for other, address in ((job_in(Path(), seed=1), "10.0.0.1:8000"), (like, "10.0.0.2:8000")):
        with pytest.raises(KerasallError, match="KERASTUNER_TUNER_ID=chief"):
            find_job(tmp_path, other, address, wait_seconds=0)


@pytest.mark.slow
def test_a_worker_ends_when_its_chief_is_killed(tmp_path):
    """The chief cannot stop it then."""
    ready = tmp_path / "ready"
    child = f"from kerasall.components.trial_search import end_with; import pathlib, time, sys; end_with(int(sys.argv[1])); pathlib.Path({str(ready)!r}).write_text(str(__import__('os').getpid())); time.sleep(300)"
    parent = (
        f"import subprocess, sys, os; subprocess.run([sys.executable, '-c', {child!r}, str(os.getpid())])"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    wait_until(ready.exists, 120)
    pid = int(json.loads(ready.read_text()))
    process.kill()
    process.wait()

    def is_gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]

    wait_until(is_gone)
