"""The engine on small components: caching, resume after SIGKILL, refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Annotated

import pytest

from kerasall.errors import ArtifactError, KerasallError
from kerasall.files import hash_files, read_json
from kerasall.pipeline.artifacts import ArtifactStore
from kerasall.pipeline.component import Input, Output, Pipeline, Scratch, Unkeyed, component
from kerasall.pipeline.metadata import MetadataStore
from kerasall.pipeline.runner import RunPlaces, is_running, run_pipeline


def listing(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


@component(fingerprint=listing)
def read_names(folder: str, names: Annotated[Path, Output("Names")]) -> dict[str, int]:
    found = listing(folder)
    (names / "names.txt").write_text("\n".join(found))
    return {"count": len(found)}


@component
def shout(
    names: Annotated[Path, Input("Names")],
    mark: str,
    loud: Annotated[Path, Output("Loud")],
    scratch: Annotated[Path, Scratch()],
    workers: Annotated[int, Unkeyed()] = 1,
) -> None:
    (scratch / "begun").touch()
    text = (names / "names.txt").read_text()
    if "broken" in text:
        raise KerasallError("names must not be broken")
    (loud / "loud.txt").write_text(text.upper() + mark)


def make_pipeline(folder: Path, mark: str = "!", workers: int = 1) -> Pipeline:
    names = read_names(folder=str(folder))
    loud = shout(names=names.outputs["names"], mark=mark, workers=workers)
    return Pipeline((names, loud), publish={"loud.txt": (loud.outputs["loud"], "loud.txt")})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "input"
    folder.mkdir()
    (folder / "a").touch()
    return folder


def run(pipeline: Pipeline, tmp_path: Path, name: str = "one"):
    return run_pipeline(
        pipeline, RunPlaces(tmp_path / "runs", name), experiment="shouting", settings={}, say=lambda _: None
    )


def test_a_second_run_is_cached_and_a_change_reruns_only_what_follows(tmp_path, folder):
    assert set(run(make_pipeline(folder), tmp_path).states.values()) == {"complete"}
    again = run(make_pipeline(folder, workers=7), tmp_path, name="two")
    assert set(again.states.values()) == {"cached"}
    assert again.metrics["ReadNames"] == {"count": 1}
    changed = run(make_pipeline(folder, mark="?"), tmp_path)
    assert changed.states == {"ReadNames": "cached", "Shout": "complete"}
    assert (tmp_path / "runs" / "one" / "loud.txt").read_text() == "A?"


def test_a_change_outside_is_noticed_and_equal_content_cuts_the_rerun_short(tmp_path, folder):
    run(make_pipeline(folder), tmp_path)
    (folder / "b").touch()
    assert run(make_pipeline(folder), tmp_path).states["Shout"] == "complete"
    elsewhere = tmp_path / "moved"
    folder.rename(elsewhere)
    assert run(make_pipeline(elsewhere), tmp_path).states == {"ReadNames": "complete", "Shout": "cached"}


def test_a_damaged_artifact_is_made_again(tmp_path, folder):
    first = run(make_pipeline(folder), tmp_path)
    path = first.artifacts["Shout", "loud"].path
    (path / "loud.txt").unlink()
    assert run(make_pipeline(folder), tmp_path).states == {"ReadNames": "cached", "Shout": "complete"}
    assert (path / "loud.txt").read_text() == "A!"


def test_a_failure_is_noted_and_finished_steps_stay(tmp_path, folder):
    (folder / "broken").touch()
    with pytest.raises(KerasallError, match="must not be broken"):
        run(make_pipeline(folder), tmp_path)
    content = read_json(tmp_path / "runs" / "one" / "run.json")
    assert (content["state"], content["error"]) == ("failed", "names must not be broken")
    assert [step["step"] for step in content["steps"]] == ["ReadNames"]
    (newest,) = MetadataStore(tmp_path / "runs" / "metadata.sqlite").runs()
    assert newest["state"] == "failed"
    assert not list((tmp_path / "runs").glob("artifacts/Shout/*/artifact.json"))


def test_another_experiment_may_not_take_a_runs_name(tmp_path, folder):
    run(make_pipeline(folder), tmp_path)
    with pytest.raises(ArtifactError, match="--name"):
        run_pipeline(
            make_pipeline(folder), RunPlaces(tmp_path / "runs", "one"), experiment="other", settings={}
        )


def test_two_processes_may_not_write_one_run(tmp_path, folder):
    started = tmp_path / "started"
    process = subprocess.Popen([sys.executable, "-c", _SLOW.format(started=str(started)), str(tmp_path)])
    try:
        wait_for(started)
        assert is_running(tmp_path / "runs" / "one")
        with pytest.raises(KerasallError, match="going on in another process"):
            run(make_pipeline(folder), tmp_path)
    finally:
        process.kill()
        process.wait()
    assert not is_running(tmp_path / "runs" / "one")


def test_a_killed_step_resumes_from_its_scratch_and_leaves_no_half_artifact(tmp_path):
    started = tmp_path / "started"
    process = subprocess.Popen([sys.executable, "-c", _SLOW.format(started=str(started)), str(tmp_path)])
    wait_for(started)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.glob("runs/artifacts/Slow/*/artifact.json"))
    subprocess.run(
        [sys.executable, "-c", _SLOW.format(started=str(started)), str(tmp_path)], check=True, timeout=60
    )
    (text,) = tmp_path.glob("runs/artifacts/Slow/*/result/text")
    assert text.read_text() == "resumed"


_SLOW = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from typing import Annotated
    from kerasall.pipeline.component import Output, Pipeline, Scratch, component
    from kerasall.pipeline.runner import RunPlaces, run_pipeline

    @component
    def slow(result: Annotated[Path, Output("Text")], scratch: Annotated[Path, Scratch()]) -> None:
        done = scratch / "half"
        (result / "text").write_text("resumed" if done.exists() else "fresh")
        if not done.exists():
            done.touch()
            Path({started!r}).touch()
            time.sleep(60)

    run_pipeline(Pipeline((slow(),), publish={{}}), RunPlaces(Path(sys.argv[1]) / "runs", "one"),
                 experiment="slow", settings={{}})
    """
)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_wrong_wiring_is_refused_before_anything_runs(folder):
    names = read_names(folder=str(folder))
    with pytest.raises(TypeError, match="channel of type Names"):
        shout(names=folder, mark="!")
    with pytest.raises(TypeError, match="mark"):
        shout(names=names.outputs["names"])
    loud = shout(names=names.outputs["names"], mark="!")
    with pytest.raises(TypeError, match="must stand after"):
        Pipeline((loud, names), publish={})
    with pytest.raises(TypeError, match="occurs twice"):
        Pipeline((names, read_names(folder="x")), publish={})


def test_an_output_left_empty_is_an_error(tmp_path):
    @component
    def lazy(result: Annotated[Path, Output("Nothing")]) -> None: ...

    with pytest.raises(ArtifactError, match=r"left \['result'\] empty"):
        run(Pipeline((lazy(),), publish={}), tmp_path)


def test_store_refuses_another_schema_version(tmp_path):
    import sqlite3

    MetadataStore(tmp_path / "m.sqlite")
    with sqlite3.connect(tmp_path / "m.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ArtifactError, match="schema version 1, but has 99"):
        MetadataStore(tmp_path / "m.sqlite")


def test_find_ignores_a_key_never_made(tmp_path):
    assert ArtifactStore(tmp_path).find("Anything", "0" * 64) is None


def test_a_kill_while_outputs_are_hashed_leaves_what_the_step_resumes_from(tmp_path, folder, monkeypatch):
    from kerasall.pipeline import artifacts

    def killed(_: Path) -> str:
        raise SystemExit

    monkeypatch.setattr(
        artifacts, "hash_files", lambda path: killed(path) if path.name == "loud" else hash_files(path)
    )
    with pytest.raises(SystemExit):
        run(make_pipeline(folder), tmp_path)
    (scratch,) = tmp_path.glob("runs/artifacts/Shout/*.partial/.scratch/begun")
    monkeypatch.undo()
    assert run(make_pipeline(folder), tmp_path).states["Shout"] == "complete"
    assert not scratch.exists()


def test_a_refused_name_leaves_the_other_run_as_it_was(tmp_path, folder):
    run(make_pipeline(folder), tmp_path)
    places = RunPlaces(tmp_path / "runs", "one")
    before = {p.name: p.read_bytes() for p in places.folder.iterdir()}
    with pytest.raises(ArtifactError):
        run_pipeline(
            make_pipeline(folder), places, experiment="other", settings={}, texts={"settings.yaml": "x"}
        )
    assert {p.name: p.read_bytes() for p in places.folder.iterdir()} == before
    assert [r["state"] for r in MetadataStore(places.metadata).runs()] == ["complete"]


def test_a_failed_run_does_not_show_the_result_of_an_earlier_one(tmp_path, folder):
    run(make_pipeline(folder), tmp_path)
    (folder / "broken").touch()
    with pytest.raises(KerasallError):
        run(make_pipeline(folder), tmp_path)
    assert not (tmp_path / "runs" / "one" / "loud.txt").exists()
    (folder / "broken").unlink()
    assert set(run(make_pipeline(folder), tmp_path).states.values()) == {"cached"}
    assert (tmp_path / "runs" / "one" / "loud.txt").read_text() == "A!"
