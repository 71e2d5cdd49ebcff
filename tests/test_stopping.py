"""Ctrl-C, SIGTERM, and two processes at once, as scenes of real commands: what is said, and that nothing is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import command_line
import pytest
from test_experiment import TINY, House

from kerasall.errors import KerasallError
from kerasall.studies.experiment import settle

PIPELINE = """
import threading
from pathlib import Path
from typing import Annotated

from kerasall.pipeline.component import Output, Pipeline, Unkeyed, component


@component
def wait(seed: int, made: Annotated[Path, Output("Made")], gate: Annotated[Path, Unkeyed()]) -> None:
    (gate / f"waiting_{{seed}}").touch()
    while not (gate / "open").exists():
        try:
            threading.Event().wait(0.02)
        except KeyboardInterrupt:
            if not {deaf}:
                raise
    (made / "made").touch()


def build_pipeline(settings, places):
    gate = Path({gate!r})
    return Pipeline((wait(seed=settings.data.synthetic.seed, gate=gate),), publish={{}})
"""
"""One step that waits until a file is there. A deaf one takes no notice of Ctrl-C, as compiled code does."""


def make_house(folder: Path, deaf: bool = False) -> tuple[House, Path]:
    house = House(folder)
    (folder / "script.py").write_text(PIPELINE.format(gate=str(folder), deaf=deaf))
    return house, house.config("cells", pipeline=str(folder / "script.py"))


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def words_of(process: subprocess.Popen, status: int) -> str:
    out, err = process.communicate(timeout=200)
    assert process.returncode == status, err
    assert "Traceback" not in err
    return out + err


def test_a_second_one_ends_at_once_whatever_is_at_work(tmp_path):
    house, config = make_house(tmp_path, deaf=True)
    process = house.start("run", config)
    wait_for((tmp_path / "waiting_5").exists, process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any("stopping ..." in line for line in process.stderr)  # reads no further than that line
    process.send_signal(signal.SIGINT)
    assert "ended at once; the same command goes on from what is stored" in words_of(process, 130)


def test_two_at_once_each_keep_their_run_stop_safely_and_go_on(tmp_path):
    house, config = make_house(tmp_path)
    one = house.start("run", config)
    wait_for((tmp_path / "waiting_5").exists, one)
    other = house.start("run", config, "--set", "data.synthetic.seed=6")
    _, err = house.call("run", config, status=1)
    assert "the run cells is going on in another process: wait for it, or give --name for a second run" in err
    _, err = house.call("run", config, "--set", "data.synthetic.seed=7", "--name", "cells", status=1)
    assert "data.synthetic.seed: there 5, here 7" in err
    wait_for((tmp_path / "waiting_6").exists, other)
    out, _ = house.call("runs", "--json")
    assert {row["name"]: row["state"] for row in json.loads(out)} == dict.fromkeys(
        ("cells", "cells-2"), "running"
    )
    one.send_signal(signal.SIGINT)
    err = words_of(one, 130)
    assert "kerasall: stopping ... (a second Ctrl-C ends at once)" in err
    kept = f"finished steps and stored epochs are kept in {tmp_path / 'runs'}"
    assert f"stopped in step 1 of 1, Wait; {kept}" in err
    assert f"the same command goes on from there:\n  python -m kerasall run {config}\n" in err
    other.send_signal(signal.SIGTERM)
    err = words_of(other, 130)
    assert "this is the run cells-2" in err
    assert "stopped in step 1 of 1, Wait" in err
    (tmp_path / "open").touch()
    _, err = house.call("run", config)
    assert "the run cells goes on: it was stopped in step 1 of 1, Wait" in err
    for name, state, seed in (("cells", "complete", 5), ("cells-2", "interrupted", 6)):
        record = house.run(name)
        assert (record["state"], record["settings"]["data"]["synthetic"]["seed"]) == (state, seed)


def test_where_nothing_can_be_written_is_found_at_the_door(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "place"
    for variable, what in (("KERASALL_RUNS", "the runs folder"), ("KERASALL_SAVEDMODELS", "pushed models")):
        with monkeypatch.context() as patch:
            patch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
            patch.setenv(variable, str(place))
            with pytest.raises(
                KerasallError, match=f"{what} {place} must be writable.*set {variable} to a folder"
            ):
                settle("demo")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(KerasallError, match=f"the output {place} must be writable, but is not"):
        command_line.invoke("check", tmp_path, "--report", place)


@pytest.mark.slow
def test_a_training_that_is_stopped_goes_on_from_a_stored_epoch(tmp_path):
    house = House(tmp_path)
    stage = TINY["train"]["stages"][0] | {"epochs": 80}
    config = house.config("cells", train=TINY["train"] | {"stages": [stage]})
    process = house.start("run", config, "--force")
    folder = tmp_path / "runs" / "artifacts" / "Trainer"

    def is_stored() -> bool:
        return any(
            json.loads(file.read_text())["history"] for file in folder.glob("*/.scratch/**/progress.json")
        )

    wait_for(is_stored, process)
    process.send_signal(signal.SIGINT)
    err = words_of(process, 130)
    assert "holdout all  is stopped; stored up to epoch " in err
    assert "stopped in step 6 of 11, Trainer" in err
    stored = err.partition("stored up to epoch ")[2].split("/")[0]
    _, err = house.call("run", config, "--force")
    assert "the run cells goes on: it was stopped in step 6 of 11, Trainer" in err
    assert f"holdout all  goes on after epoch {stored}/80" in err
    assert house.run("cells")["state"] == "complete"
    assert (tmp_path / "savedmodels" / "cells" / "1").is_dir()
