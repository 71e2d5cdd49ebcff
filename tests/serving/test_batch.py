"""Scoring many files: tables that can be gone on with wherever they end, manifests, Parquet parts."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import keras
import numpy as np
import openpyxl
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from kerasall.csv_tables import csv_rows
from kerasall.decoding import read_image_bytes
from kerasall.errors import DataError
from kerasall.preprocessing.operations import Chain
from kerasall.serving import predictor as predictor_module
from kerasall.serving import table_files
from kerasall.serving.batch import predict_files, resume_predictions
from kerasall.serving.card import write_manifest
from kerasall.serving.export import export_saved_model
from kerasall.serving.image_files import ImageNames, NameSet, as_written, find_images
from kerasall.serving.predictor import Predictor
from kerasall.serving.table_files import clear_table, open_table

LABELS = ("all", "hem")


def export_tiny(folder: Path, seed: int = 1) -> Path:
    """A SavedModel of one convolution."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((16, 16, 3), name="image")
    pooled = keras.layers.GlobalAveragePooling2D()(
        keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 32)(image))
    )
    model = keras.Model(image, keras.layers.Dense(2, "softmax")(pooled))
    chain = Chain.from_json([{"op": "resize", "height": 16, "width": 16}])
    return export_saved_model(model, chain, LABELS, folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return export_tiny(tmp_path_factory.mktemp("batch") / "tiny" / "1")


@pytest.fixture(scope="module")
def predictor(saved) -> Predictor:
    return Predictor(saved)


def write_images(folder: Path, names: list[str]) -> None:
    noise = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bright = int(noise.integers(60, 255))
        path.write_bytes(cv2.imencode(".png", noise.integers(0, bright, (20, 20, 3), np.uint8))[1].tobytes())


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    write_images(folder, ["a.png", 'b, "b".png', "c\nc.png", "sub/d.png", "z.png"])
    (folder / "broken.png").write_bytes(b"nothing")
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as file:
        file.write((folder / "a.png").read_bytes())
    return folder


def read_rows(out: Path) -> list[dict]:
    if out.is_dir():
        return [row for part in sorted(out.iterdir()) for row in pyarrow.parquet.read_table(part).to_pylist()]
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) if out.suffix == ".csv" else [json.loads(line) for line in file]


def as_numbers(rows: list[dict]) -> np.ndarray:
    return np.asarray([[float(row[label] or "nan") for label in LABELS] for row in rows])


def require_same(rows: list[dict], expected: list[dict]) -> None:
    for column in ("path", "label", "error"):
        assert [row[column] for row in rows] == [row[column] for row in expected]
    np.testing.assert_allclose(as_numbers(rows), as_numbers(expected), atol=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_table_cut_anywhere_is_gone_on_with_to_the_same_end(
    predictor, images, tmp_path, suffix, monkeypatch
):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # some disks take a fifth of a second, sixty times
    names = ImageNames((str(images),))
    whole = tmp_path / f"whole{suffix}"
    tally = resume_predictions(predictor, names, whole, batch_size=3)
    assert (tally.files, tally.held, tally.failed) == (7, 0, 1)
    expected, content = read_rows(whole), whole.read_bytes()
    assert len(expected) == 7
    ends = [i + 1 for i in range(len(content)) if content[i : i + 1] == b"\n"]
    inside_quotes = content.find(b"c\nc.png") + 2
    cuts = {0, 1, 10, inside_quotes, *ends, *(end - 1 for end in ends), *range(5, len(content), 97)}
    cut = tmp_path / f"cut{suffix}"
    for length in sorted(cuts):
        cut.write_bytes(content[:length])
        tally = resume_predictions(predictor, names, cut, batch_size=3)
        require_same(read_rows(cut), expected)
        assert (tally.files, tally.failed) == (7, 1)
    assert tally.held == 7
    assert cut.read_bytes() == content


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_files_that_failed_are_tried_again_in_their_places(predictor, images, tmp_path, name):
    sound = {path: path.read_bytes() for path in (images / "a.png", images / "sub" / "d.png")}
    odd = os.fsencode(images) + b"/caf\xe9.png"
    for path in (*sound, odd):
        with open(path, "wb"):
            pass  # as on a disk that is half away
    names, out = ImageNames((str(images),)), tmp_path / name
    assert resume_predictions(predictor, names, out, batch_size=2).failed == 4
    before = out.stat().st_ino if out.is_file() else None
    if before:
        out.chmod(0o600)
    again = resume_predictions(predictor, names, out, batch_size=2)
    assert (again.held, again.again, again.failed) == (7, 4, 4)
    assert before is None or out.stat().st_ino == before  # nothing changed, nothing was written
    for path, content in sound.items():
        path.write_bytes(content)
    with open(odd, "wb") as file:
        file.write(sound[images / "a.png"])
    one = resume_predictions(predictor, ImageNames((str(images / "a.png"),)), out)
    # The others were not asked for, and keep their rows; who may read them stays as it was.
    assert before is None or out.stat().st_mode & 0o777 == 0o600
    assert (one.files, one.again, one.failed) == (1, 1, 3)
    last = resume_predictions(predictor, names, out, batch_size=1)
    assert (last.files, last.held, last.again, last.failed) == (7, 7, 3, 1)
    predict_files(predictor, names, tmp_path / f"fresh{name}")
    require_same(read_rows(out), read_rows(tmp_path / f"fresh{name}"))


def test_a_stop_while_failed_files_are_tried_again_keeps_what_was_answered(predictor, images, tmp_path):
    (images / "a.png").rename(images / "kept")
    sound = (images / "kept").read_bytes()
    (images / "a.png").write_bytes(b"")
    names, out = ImageNames((str(images),)), tmp_path / "out.csv"
    resume_predictions(predictor, names, out)
    (images / "a.png").write_bytes(sound)

    class Stopped(Predictor):
        def predict(self, images, names=None):
            if names and names[0].endswith("broken.png"):
                raise KeyboardInterrupt
            return super().predict(images, names)

    with pytest.raises(KeyboardInterrupt):
        resume_predictions(Stopped(predictor.folder), names, out, batch_size=1)
    rows = read_rows(out)
    assert [bool(row["error"]) for row in rows].count(True) == 1
    assert len(rows) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out.csv"]


def test_a_table_for_excel_says_that_it_is_utf8_and_is_gone_on_with(predictor, images, tmp_path):
    out, plain = tmp_path / "out.csv", tmp_path / "plain.csv"
    names = ImageNames((str(images),))
    resume_predictions(predictor, ImageNames((str(images / "a.png"),)), out, excel=True)
    resume_predictions(predictor, names, out)  # stays as it is
    resume_predictions(predictor, names, plain)
    resume_predictions(predictor, names, plain, excel=True)  # becomes one
    mark = b"\xef\xbb\xbf"
    assert out.read_bytes()[:3] == plain.read_bytes()[:3] == mark
    assert out.read_bytes().count(mark) == 1
    require_same(read_marked(out), read_marked(plain))
    (tmp_path / "cut.csv").write_bytes(mark[:2])
    resume_predictions(predictor, names, tmp_path / "cut.csv", excel=True)
    assert (tmp_path / "cut.csv").read_bytes() == plain.read_bytes()
    listed = list(ImageNames((), out))  # as a manifest
    assert listed[0] == str(images / "a.png")


def read_marked(out: Path) -> list[dict]:
    with out.open(encoding="utf-8-sig", newline="") as file:
        return sorted(csv.DictReader(file), key=lambda row: row["path"])


def test_more_files_are_added_to_what_is_there(predictor, images, tmp_path):
    out = tmp_path / "out.csv"
    resume_predictions(predictor, ImageNames((str(images / "a.png"),)), out)
    tally = resume_predictions(predictor, ImageNames((str(images), str(images / "*.png"))), out)
    assert (tally.files, tally.held) == (7, 1)
    assert len({row["path"] for row in read_rows(out)}) == len(read_rows(out)) == 7


def test_the_next_files_are_read_while_the_model_answers_and_no_more(saved, images, tmp_path, monkeypatch):
    named, read = [], {}

    def names():
        for name in ImageNames((str(images),)):
            named.append(name)
            read[name] = threading.Event()
            yield name

    class Slow(Predictor):
        def predict(self, images, names=None):
            last = named.index(names[-1]) + 1
            assert len(named) == min(last + 2, 7)  # one batch ahead
            assert all(read[name].wait(20) for name in named)
            return super().predict(images, names)

    def read_one(path, limits):
        try:
            return read_image_bytes(path, limits)
        finally:
            read[str(path)].set()

    monkeypatch.setattr(predictor_module, "read_image_bytes", read_one)
    out = tmp_path / "out.csv"
    assert predict_files(Slow(saved), names(), out, batch_size=2) == 1
    assert [row["path"] for row in read_rows(out)] == [as_written(name) for name in named]


def test_parquet_is_gone_on_with_by_parts(predictor, images, tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "PART_ROWS", 2)
    names, out = ImageNames((str(images),)), tmp_path / "out.parquet"
    resume_predictions(predictor, names, tmp_path / "out.csv")
    resume_predictions(predictor, names, out, batch_size=2)
    parts = sorted(out.iterdir())
    assert [part.name for part in parts] == [f"part-{i:05d}.parquet" for i in range(4)]
    expected = read_rows(tmp_path / "out.csv")
    rows = read_rows(out)
    assert [row["error"] for row in rows] == [row["error"] for row in expected]
    require_same(rows, expected)
    assert rows[[bool(row["error"]) for row in rows].index(True)]["all"] is None
    for part in parts[2:]:
        part.unlink()
    tally = resume_predictions(predictor, names, out, batch_size=2)
    assert tally.held == 4
    require_same(read_rows(out), expected)


def test_what_a_killed_process_left_in_a_parquet_folder_is_removed(predictor, images, tmp_path):
    out = tmp_path / "out.parquet"
    script = (
        "import os, sys; from kerasall.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as path: path.write_text('half'); os.kill(os.getpid(), 9)"
    )
    out.mkdir()
    killed = subprocess.run([sys.executable, "-c", script, str(out / "part-00000.parquet")], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(out.iterdir())) == 1
    resume_predictions(predictor, ImageNames((str(images),)), out)
    assert [path.name for path in out.iterdir()] == ["part-00000.parquet"]


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_answers_of_two_models_never_stand_in_one_table(predictor, images, tmp_path, name):
    out, names = tmp_path / name, ImageNames((str(images),))
    other = Predictor(export_tiny(tmp_path / "other" / "1", seed=2))
    resume_predictions(other, names, out)
    before = read_rows(out)
    with pytest.raises(DataError, match="another model wrote it, or the image was changed"):
        resume_predictions(predictor, names, out)
    assert read_rows(out) == before


@pytest.mark.parametrize("content", ["hello", "name,score\na,1\n", "path,label,all\n", '{"a": 1}\n', '{"a'])
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_a_foreign_file_is_left_alone(predictor, images, tmp_path, name, content):
    out = tmp_path / name
    out.write_text(content)
    with pytest.raises(DataError, match="must be a table of this model's predictions"):
        resume_predictions(predictor, ImageNames((str(images),)), out)
    assert out.read_text() == content


def test_only_one_process_writes_to_a_table(tmp_path):
    for name in ("out.csv", "out.parquet"):
        with open_table(tmp_path / name, {"path": str}), pytest.raises(DataError, match="only one process"):  # noqa: SIM117
            with open_table(tmp_path / name, {"path": str}):
                pass
        kept = sorted(tmp_path.rglob("*"))
        with open_table(tmp_path / name, {"path": str}):
            with pytest.raises(DataError, match="only one process"):
                clear_table(tmp_path / name)
            assert sorted(tmp_path.rglob("*")) == kept


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", "{0}/a.png\n\nimages/z.png\r\n{0}/a.png\nimages/gone.png"),
        ("list.csv", "id,path\n1,{0}/a.png\n2,images/z.png\n3,images/gone.png\n"),
        (
            "list.jsonl",
            '{{"path": "{0}/a.png"}}\n{{"path": "images/z.png"}}\n{{"path": "images/gone.png"}}\n',
        ),
        ("list.tsv", "Datei\tKlasse\n{0}/a.png\tx\nimages\\z.png\ty\nimages/gone.png\tz\n"),
        ("list.txt", "filename;note\n{0}/a.png;x\nimages/z.png;\nimages/gone.png;z\n"),
    ],
)
def test_a_manifest_names_files_once_and_those_that_are_gone(predictor, images, tmp_path, name, content):
    manifest = tmp_path / name
    manifest.write_text(content.format(images))
    names = ImageNames(manifest=manifest)
    assert list(names) == [str(images / n) for n in ("a.png", "z.png", "gone.png")] == list(names)
    tally = resume_predictions(predictor, names, tmp_path / "out.csv")
    assert (tally.files, tally.failed) == (3, 1)
    assert "does not exist" in read_rows(tmp_path / "out.csv")[2]["error"]


@pytest.mark.parametrize("content", ["a.png\nsub/d.png\n", "path;x\na.png;1\nsub/d.png;2\n", '{"path": "a.png"}\n{"path": "sub/d.png"}\n'])  # fmt: skip
def test_a_manifest_that_comes_through_a_pipe_is_read_twice_and_starts_here(images, monkeypatch, content):
    monkeypatch.chdir(images)
    ending, begun = os.pipe()
    os.write(begun, content.encode())
    os.close(begun)
    names = ImageNames(manifest=f"/dev/fd/{ending}")
    assert list(names) == list(names) == ["a.png", "sub/d.png"]
    os.close(ending)


def test_manifests_of_spreadsheets_and_frames_are_read(images, tmp_path):
    rows = ["images/a.png", "images/z.png", "images/gone.png"]
    book = openpyxl.Workbook()
    for row in ["Image path", *rows]:
        book.active.append([row])
    book.save(tmp_path / "list.xlsx")
    frame = pyarrow.table({"image_path": rows})
    pyarrow.parquet.write_table(frame, tmp_path / "list.parquet")
    for name in ("list.xlsx", "list.parquet"):
        assert list(ImageNames(manifest=tmp_path / name)) == [str(tmp_path / row) for row in rows]


def test_paths_of_another_machine_lose_the_same_folders_and_it_is_told(images, tmp_path):
    manifest, told = tmp_path / "list.csv", []
    manifest.write_bytes(
        b"path\n" + b"".join(b"C:\\lab\\images\\%s\n" % n for n in (b"a.png", b"gone.png", b"sub\\d.png"))
    )
    found = list(ImageNames(manifest=manifest, tell=told.append))
    assert found == [str(images / name) for name in ("a.png", "gone.png", "sub/d.png")]
    assert told == [
        f"{manifest}: 3 paths of another machine were read below its folder, such as C:\\lab\\images\\a.png as {found[0]}"
    ]
    manifest.write_text("path\nC:\\lab\\images\\sub\\d.png\nC:\\lab\\d.png\n")
    assert list(ImageNames(manifest=manifest)) == [str(images / "sub/d.png"), str(tmp_path / "d.png")]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "\n\n", "names none"),
        ("a.csv", "score\n1\n", r"must have one column path, but its columns are \['score'\]"),
        ("a.csv", "file,image\na.png,b.png\n", "file and image may both be it: rename"),
        ("a.csv", "path,label\na.png,x\n,y\n", "path in every row, but not in line 3"),
        ("a.jsonl", '{"path": "a.png"}\n{"file": 1}\n', "not in line 2"),
        ("a.jsonl", "{", "must be a manifest"),
        ("a.txt", "caf\0.png", "must be a manifest"),
        ("gone.txt", None, "must be a manifest"),
        ("gone.xlsx", None, "must be a manifest"),
    ],
)
def test_a_manifest_that_is_none_is_named(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        list(ImageNames(manifest=tmp_path / name))


def test_folders_are_walked_in_the_order_of_their_paths(tmp_path):
    write_images(tmp_path, ["b/x.png", "b.png", "a/y/z.png", "a/k.png", "c.png"])
    (tmp_path / "loop").symlink_to(tmp_path)
    found = find_images([str(tmp_path)])
    assert found == sorted(found)
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "a/k.png", "a/y/z.png", "b/x.png", "b.png", "c.png",
    ]  # fmt: skip


def test_what_systems_leave_is_passed_over_and_what_is_left_out_is_told(tmp_path):
    kept = ["1.jpe", "a/2.JFIF", "a/3.webp", "linked/4.png"]
    left = [".trash/x.png", "@eaDir/a.png/x.jpg", "__MACOSX/y.png", "#recycle/z.png", "Thumbs.db", ".hid.png"]
    write_images(tmp_path / "images", [*kept[:3], *left, "notes.txt", "a/cell_7", "a/table.csv"])
    write_images(tmp_path / "far", ["4.png"])
    (tmp_path / "images/linked").symlink_to(tmp_path / "far")
    (tmp_path / "images/a/gone.png").symlink_to(tmp_path / "nowhere.png")
    for name in ("notes.txt", "a/table.csv"):
        (tmp_path / "images" / name).write_text("path\n")
    told = []
    found = find_images([str(tmp_path / "images")], told.append)
    assert [path.relative_to(tmp_path / "images").as_posix() for path in found] == sorted(
        [*kept, "a/gone.png"]
    )
    others, misnamed = told
    assert "2 files that are no images were left out: a/table.csv, notes.txt" in others
    assert "1 files that hold images, but do not end in" in misnamed
    assert misnamed.endswith("rename them: a/cell_7")


def test_names_are_remembered_in_little_room():
    names = NameSet()
    assert all(names.add(f"{'folder/' * 40}{i}.png") for i in range(1000))
    assert not names.add(f"{'folder/' * 40}7.png")
    assert f"{'folder/' * 40}999.png" in names


def test_predict_files_begins_anew(predictor, images, tmp_path):
    for name in ("out.csv", "out.parquet"):
        for chosen in (["a.png", "z.png"], ["z.png"]):
            predict_files(predictor, [images / n for n in chosen], tmp_path / name)
        assert [Path(row["path"]).name for row in read_rows(tmp_path / name)] == ["z.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"images", "out.csv", "out.parquet"}


def test_the_command_goes_on_overwrites_and_says_what_it_did(saved, images, tmp_path):
    from kerasall.cli.app import app

    out = tmp_path / "out.csv"
    (images / "notes.txt").touch()
    command = ["predict", str(saved), str(images), "--out", str(out)]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 1
    assert first.output.count("1 file that is no image was left out: notes.txt") == 1
    assert "7 files, 1 failed" in first.output
    shown = "7 files, 6 of them passed over, 1 that failed before tried again, 1 failed"
    assert shown in CliRunner().invoke(app, command).output
    out.write_text("something else\n")
    assert isinstance(CliRunner().invoke(app, command).exception, DataError)
    assert "7 files, 1 failed" in CliRunner().invoke(app, [*command, "--overwrite"]).output
    assert len(read_rows(out)) == 7


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_killed_command_leaves_none_out_and_none_twice(saved, images, tmp_path, name):
    folder, out = tmp_path / "many", tmp_path / name
    folder.mkdir()
    for i in range(30_000):
        (folder / f"{i:05d}.png").symlink_to(images / "a.png")
    command = [
        sys.executable,
        "-m",
        "kerasall.cli.app",
        "predict",
        str(saved),
        str(folder),
        "--out",
        str(out),
    ]

    def has_begun() -> bool:
        return any(out.glob("part-*")) if out.is_dir() else out.is_file() and out.stat().st_size > 50_000

    for _ in range(2):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 240
        while not has_begun() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.poll() is None
        time.sleep(0.3)
        process.kill()
        process.wait(timeout=60)
    held = len(read_rows(out)) if out.is_dir() else out.read_bytes().count(b"\n")
    assert 0 < held < 30_000
    finished = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert finished.returncode == 0
    assert "of them passed over" in finished.stderr
    paths = [row["path"] for row in read_rows(out)]
    assert paths == [str(folder / f"{i:05d}.png") for i in range(30_000)]


FORMULAS = ["=1+1.png", "@b.png", "-x.png", "+y.png", "'=q.png", "a\x1b[2K.png", "c\rd.png", "\tt.png", "-5"]


def test_names_that_a_spreadsheet_would_run_are_texts_and_come_back(predictor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path, [*FORMULAS[:-1], "x.png"])
    (tmp_path / "-5").write_bytes((tmp_path / "x.png").read_bytes())
    (tmp_path / "=bad.png").write_bytes(b"nothing")
    names, table = [*FORMULAS, "=bad.png"], tmp_path / "found.csv"
    assert resume_predictions(predictor, names[:5], table).held == 0
    table.write_bytes(table.read_bytes()[:-9])  # killed within a row
    tally = resume_predictions(predictor, names, table)
    assert (tally.files, tally.held, tally.failed) == (10, 4, 1)
    with table.open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    starts = [row[column][:1] for row in written for column in ("path", "error", "label")]
    assert not set(starts) & set("=+@\t\r\n")
    assert [row["path"] for row in written if row["path"].startswith("-")] == ["-5"]
    with table.open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv_rows(file)] == ["path", *names]
    assert [Path(name).name for name in ImageNames(manifest=table)] == names
    predict_files(predictor, names, tmp_path / "found.jsonl")
    assert [row["path"] for row in read_rows(tmp_path / "found.jsonl")] == names


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_on_a_terminal_is_only_seen(predictor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "a\n0 failed\x1b[2K.png"
    (tmp_path / name).write_bytes(b"nothing")
    terminal, pipe = Terminal(), io.StringIO(newline="")
    for stream in (terminal, pipe):
        assert predict_files(predictor, [name], stream) == 1
    assert len(terminal.getvalue().splitlines()) == 2
    assert r"a\n0 failed\x1b[2K.png" in terminal.getvalue()
    pipe.seek(0)
    assert [row[0] for row in csv_rows(pipe)] == ["path", name]


def test_a_model_of_names_that_are_refused_today_is_still_served(web_model, tmp_path, images):
    folder = tmp_path / "old" / "1"
    shutil.copytree(web_model, folder)
    (folder / "labels.txt").write_text("refer\nlabel\n", encoding="utf-8")
    (folder / "card.json").unlink(missing_ok=True)
    write_manifest(folder)
    old = Predictor(folder)
    assert old.labels == ("refer", "label")
    out = tmp_path / "old.csv"
    predict_files(old, [images / "a.png", images / "broken.png"], out)
    good, bad = read_rows(out)
    answer = old.predict([(images / "a.png").read_bytes()])
    assert [float(good[f"class_{name}"]) for name in old.labels] == pytest.approx(
        answer.probabilities[0], abs=1e-6
    )
    assert good["label"] in old.labels
    assert (good["refer"], bad["refer"]) == (str(bool(answer.extras["refer"][0])).lower(), "")
    assert resume_predictions(old, [str(images / "a.png"), str(images / "z.png")], out).held == 1
