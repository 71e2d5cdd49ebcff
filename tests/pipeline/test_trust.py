"""What lies on the disk is trusted only as far as it is what was written: artifacts, records, published files."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest

from kerasall.errors import ArtifactError, KerasallError
from kerasall.files import explain_os_error, find_sealed, read_json, seal_file, write_text
from kerasall.pipeline import artifacts
from kerasall.pipeline.component import Input, Output, Pipeline, component
from kerasall.pipeline.metadata import MetadataStore, read_keys
from kerasall.pipeline.runner import RunPlaces, RunResult, read_record, run_pipeline

MADE: list[str] = []
"""Which steps ran."""


@component
def first(made: Annotated[Path, Output("Made")]) -> dict[str, int]:
    MADE.append("first")
    write_text(made / "deep" / "weights.bin", "0123456789" * 100)
    write_text(made / "labels.txt", "all\nhem\n")
    write_text(made / "unkeyed" / "paths.json", "[]")
    return {"count": 2}


@component
def second(made: Annotated[Path, Input("Made")], copied: Annotated[Path, Output("Copied")]) -> None:
    MADE.append("second")
    write_text(copied / "copy.txt", (made / "deep" / "weights.bin").read_text())


def run(folder: Path, name: str = "one", said: list[str] | None = None) -> RunResult:
    MADE.clear()
    one = first()
    two = second(made=one.outputs["made"])
    pipeline = Pipeline((one, two), {"copy.txt": (two.outputs["copied"], "copy.txt")})
    say = (said if said is not None else []).append
    return run_pipeline(pipeline, RunPlaces(folder / "runs", name), experiment="e", settings={}, say=say)


def flip(path: Path, place: int = 0, bit: int = 0) -> None:
    """Turns one bit over; size and times stay."""
    state, data = path.stat(), bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def swap(folder: Path) -> None:
    one, two = folder / "deep" / "weights.bin", folder / "labels.txt"
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


def link(folder: Path) -> None:
    kept = folder.parents[3] / "elsewhere"
    (folder / "labels.txt").rename(kept)
    (folder / "labels.txt").symlink_to(kept)


def pipe(folder: Path) -> None:
    (folder / "labels.txt").unlink()
    os.mkfifo(folder / "labels.txt")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a bit": lambda folder: flip(folder / "deep" / "weights.bin", 500, 3),
    "unkeyed": lambda folder: flip(folder / "unkeyed" / "paths.json"),
    "emptied": lambda folder: (folder / "labels.txt").write_bytes(b""),
    "missing": lambda folder: (folder / "labels.txt").unlink(),
    "renamed": lambda folder: (folder / "labels.txt").rename(folder / "Labels.txt"),
    "swapped": swap,
    "a link to the same": link,
    "a pipe": pipe,
}
RECORDS: dict[str, bytes] = {
    "empty": b"", "cut": b'{"schema_version": 1, "key": "', "no text": b"\xff\xfe\x00", "a list": b"[]", "null": b"null",
    "deep": b"[" * 100_000, "a long number": b'{"key": ' + b"9" * 9_999 + b"}", "another": b'{"schema_version": 1}',
    "not a number": b'{"schema_version": 1, "x": NaN}', "infinity": b'{"schema_version": 1, "x": 1e999}',
    "half a character": b'{"schema_version": 1, "x": "\\ud800"}',
    "wrong kinds": b'{"schema_version": 1, "key": 1, "outputs": 3, "metrics": null}',
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_an_artifact_that_was_changed_is_made_again_with_a_note(tmp_path, change):
    folder = run(tmp_path).artifacts["First", "made"].path
    CHANGES[change](folder)
    said: list[str] = []
    assert run(tmp_path, said=said).states == {"First": "complete", "Second": "cached"}
    assert MADE == ["first"]
    (note,) = [line for line in said if "made again" in line]
    assert str(folder.parent) in note
    assert ".damaged" in note
    assert (folder / "labels.txt").read_text() == "all\nhem\n"
    assert run(tmp_path).states == {"First": "cached", "Second": "cached"}


@pytest.mark.parametrize("content", RECORDS)
def test_a_broken_record_costs_that_artifact_only(tmp_path, content):
    folder = run(tmp_path).artifacts["First", "made"].path
    (folder.parent / "artifact.json").write_bytes(RECORDS[content])
    said: list[str] = []
    assert run(tmp_path, said=said).states == {"First": "complete", "Second": "cached"}
    assert any("artifact.json" in line and "made again" in line for line in said)


def test_every_bit_of_a_record_counts(tmp_path):
    record = run(tmp_path).artifacts["First", "made"].path.parent / "artifact.json"
    store, content = artifacts.ArtifactStore(tmp_path / "runs" / "artifacts"), record.read_bytes()
    inside = [place for place in range(0, len(content), 97) if content[place : place + 1].isalnum()]
    for place in inside:
        flip(record, place)
        with pytest.raises(ArtifactError):
            store.record("First", record.parent.name)
        record.write_bytes(content)


def test_a_record_that_is_a_folder_or_a_link_costs_that_artifact_only(tmp_path):
    record = run(tmp_path).artifacts["First", "made"].path.parent / "artifact.json"
    record.unlink()
    record.mkdir()
    assert run(tmp_path).states["First"] == "complete"
    record.unlink()
    record.symlink_to("nowhere")
    assert run(tmp_path).states["First"] == "complete"


def test_a_file_that_lies_there_besides_loses_nothing(tmp_path):
    folder = run(tmp_path).artifacts["First", "made"].path
    write_text(folder / "deep" / "note.txt", "mine")
    with pytest.raises(ArtifactError, match=r"note\.txt must not lie in an artifact.*move it elsewhere"):
        run(tmp_path)
    assert (folder / "deep" / "note.txt").read_text() == "mine"
    (folder / "deep" / "note.txt").unlink()
    for name in (".DS_Store", "Thumbs.db", "deep/._weights.bin", ".nfs0001"):
        write_text(folder / name, "")
    assert run(tmp_path).states == {"First": "cached", "Second": "cached"}


def test_an_input_that_changes_while_a_run_goes_on_is_refused(tmp_path, monkeypatch):
    step = second.function

    def spoil(**arguments):
        flip(arguments["made"] / "labels.txt")
        return step(**arguments)

    @component
    def third(made: Annotated[Path, Input("Made")], more: Annotated[Path, Output("More")]) -> None:
        raise AssertionError

    monkeypatch.setattr(second, "function", spoil)
    one = first()
    two, three = second(made=one.outputs["made"]), third(made=one.outputs["made"])
    with pytest.raises(ArtifactError, match=r"labels\.txt was changed .*give the command of the run again"):
        run_pipeline(
            Pipeline((one, two, three), {}), RunPlaces(tmp_path / "runs", "x"), experiment="e", settings={},
            say=lambda _: None,
        )  # fmt: skip


def test_the_outputs_of_a_run_are_hashed_before_they_are_read(tmp_path):
    artifact = run(tmp_path).artifacts["First", "made"]
    artifacts.require_unchanged(artifact.path, artifact.digest)
    with pytest.raises(ArtifactError, match="made again since"):
        artifacts.require_unchanged(artifact.path, "0" * 64)
    flip(artifact.path / "labels.txt")
    with pytest.raises(ArtifactError, match=r"labels\.txt was changed"):
        artifacts.require_unchanged(artifact.path, artifact.digest)
    (artifact.path.parent / "artifact.json").unlink()
    with pytest.raises(ArtifactError, match="is not what the run left there"):
        artifacts.require_unchanged(artifact.path, artifact.digest)


def test_what_a_run_publishes_is_written_down(tmp_path):
    result = run(tmp_path)
    record = read_record(result.folder / "run.json")
    assert set(record["published"]) == {"copy.txt"}
    flip(result.folder / "copy.txt")
    run(tmp_path)
    assert (result.folder / "copy.txt").read_text() == "0123456789" * 100


@pytest.mark.parametrize(
    "content",
    [*(RECORDS[name] for name in ("empty", "cut", "no text", "a list", "null", "deep", "a long number")),
     b'{"steps": [1]}', b'{"steps": [{"step": "a", "outputs": {"x": 1}}]}', b'{"settings": []}', b'{"at": "x"}',
     b'{"settings": {"data": "x"}}', b'{"settings": {"model": true}}', b'{"settings": {"members": [{"model": 1}]}}',
     b'{"settings": {"model": {"backbone": true}}}', b'{"steps": [{"step": "a", "metrics": {"main_score": NaN}}]}',
     b'{"experiment": "\\ud800"}', b'{"error": null, "x": 1e999}', b'{"started": "x"}', b'{"started": 1e300}', b'{"started": NaN}', b'{"published": {"a": 1}}'],
)  # fmt: skip
def test_a_broken_record_of_a_run_is_told_with_its_cure(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    cure = r"run\.json .*move it away, and give the command of the run again"
    with pytest.raises(ArtifactError, match=cure):
        read_record(tmp_path / "run.json")
    with pytest.raises(ArtifactError, match=cure):
        _run_in(tmp_path)


def _run_in(folder: Path) -> None:
    write_text(folder / "runs" / "one" / "x", "")
    (folder / "run.json").rename(folder / "runs" / "one" / "run.json")
    run(folder)


STORES: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"not a database, " * 300),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5_000]),
    "other tables": lambda path: path.write_bytes(path.read_bytes().replace(b"executions", b"EXECUTI0NS")),
    "zeros inside": lambda path: path.write_bytes(
        path.read_bytes()[:200] + bytes(len(path.read_bytes()) - 200)
    ),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", STORES)
def test_a_broken_store_is_told_with_its_cure_and_may_be_moved_away(tmp_path, capfd, damage):
    run(tmp_path)
    store = tmp_path / "runs" / "metadata.sqlite"
    STORES[damage](store)
    keys = read_keys(store, "one")
    assert keys == [] or damage == "cut"
    assert keys or "metadata.sqlite must be the SQLite file" in capfd.readouterr().err
    if damage in ("no database", "zeros inside", "a folder"):
        with pytest.raises(ArtifactError, match=r"metadata\.sqlite must be the SQLite file"):
            run(tmp_path)
    store.rename(tmp_path / "away")
    assert set(run(tmp_path).states.values()) == {"cached"}
    assert [component for component, _ in read_keys(store, "one")] == ["First", "Second"]


def test_a_store_that_breaks_meanwhile_stops_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(MetadataStore, "_connection", _failing_after(1, MetadataStore._connection))
    said: list[str] = []
    assert run(tmp_path, said=said).states == {"First": "complete", "Second": "complete"}
    assert any("database or disk is full" in line and "make room" in line for line in said)
    assert read_json(tmp_path / "runs" / "one" / "run.json")["state"] == "complete"


def _failing_after(count: int, real: Callable) -> Callable:
    calls = []

    def connect(self: MetadataStore):
        calls.append(1)
        if len(calls) <= count + 1:
            return real(self)
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        from kerasall.pipeline.metadata import describe_fault

        raise ArtifactError(describe_fault(self.path, error))

    return connect


def test_a_store_that_may_not_be_written_is_still_read(tmp_path):
    run(tmp_path)
    store = tmp_path / "runs" / "metadata.sqlite"
    store.chmod(0o444)
    assert len(read_keys(store, "one")) == 2
    assert read_keys(tmp_path / "none.sqlite", "one") == []
    assert not (tmp_path / "none.sqlite").exists()


def test_a_full_disk_is_told_by_the_name_of_the_file(tmp_path, monkeypatch):
    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_text(tmp_path / "run.json", "x")
    said = explain_os_error(caught.value)
    assert said.startswith(f"{tmp_path / 'run.json'}: No space left on device: make room there")
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_fails_on_a_full_disk_keeps_its_error(tmp_path, monkeypatch):
    def fail(**_: object) -> None:
        monkeypatch.setattr(Path, "write_text", _no_room)
        raise KerasallError("the step's own fault")

    monkeypatch.setattr(second, "function", fail)
    with pytest.raises(KerasallError, match="the step's own fault"):
        run(tmp_path)


def _no_room(self: Path, *_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_cache_file_is_taken_only_as_it_was_sealed(tmp_path, capsys):
    path = tmp_path / "pixels-1.npy"
    assert find_sealed(path) is None
    path.write_bytes(b"x" * 999)
    assert find_sealed(path) is None
    sealed = seal_file(path)
    (tmp_path / "pixels-12.npy").write_bytes(b"another's")
    assert find_sealed(path) == find_sealed(path) == sealed
    for change in (flip, lambda file: os.truncate(file, 998), lambda file: file.write_bytes(b"")):
        change(sealed)
        assert find_sealed(path) is None
        assert f"{sealed} is not as it was kept, and is made again" in capsys.readouterr().err
        path.write_bytes(b"x" * 999)
        assert seal_file(path) == sealed
    assert find_sealed(path) == sealed
