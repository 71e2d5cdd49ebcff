"""A newer version of the model beside the one that answers: told, followed, refused, taken back."""

from __future__ import annotations

import logging
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from web_server import (
    BOUNDARY,
    CARD,
    LABELS,
    NAME,
    Running,
    export_plain_model,
    export_tiny_model,
    form,
    picture,
    serving,
)

from kerasall.errors import SettingsError
from kerasall.files import write_json, write_text
from kerasall.serving.card import write_manifest
from kerasall.serving.predictor import Predictor
from kerasall.serving.web.following import find_newer
from kerasall.serving.web.server import serve

IMAGE = picture(1, size=(40, 30))


@pytest.fixture(scope="module")
def other_model(tmp_path_factory) -> Path:
    """As ``web_model``, with other weights."""
    return export_tiny_model(tmp_path_factory.mktemp("other") / "2", seed=8)


@pytest.fixture
def home(web_model, tmp_path) -> Path:
    """The folder of a model with one version."""
    shutil.copytree(web_model, tmp_path / NAME / "1")
    return tmp_path / NAME


@contextmanager
def logged() -> Iterator[list[str]]:
    """What the server logs from now on; it sets its loggers anew when it starts."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("uvicorn.error").addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger("uvicorn.error").removeHandler(handler)


def push(model: Path, home: Path, version: str) -> Path:
    """As the Pusher does: whole at once."""
    return shutil.copytree(model, home / f".{version}").rename(home / version)


def wait_for(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def shares(running: Running) -> tuple[str, list[float]]:
    """Version and probabilities of an answer."""
    body = running.predict(("a.png", IMAGE)).json
    return body["model"]["version"], list(body["results"][0]["probabilities"].values())


def states(running: Running) -> list[tuple[str, str]]:
    found = running.ask("GET", f"/v1/models/{NAME}").json["model_version_status"]
    return [(each["version"], each["state"]) for each in found]


def explain(running: Running, **fields: str):
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return running.ask("POST", "/v1/explain", form([("x", IMAGE)], {"label": LABELS[0], **fields}), kind)


def test_a_new_version_takes_over_once_it_is_warm(home, other_model, monkeypatch):
    want = {str(number): Predictor(folder).predict([IMAGE]).probabilities[0] for number, folder in
            ((1, home / "1"), (2, other_model))}  # fmt: skip
    warm, entered = threading.Event(), threading.Event()
    warm_up = Predictor.warm_up

    def held(predictor, sizes):
        if predictor.folder.name == "2":
            entered.set()
            assert warm.wait(60)
        else:
            loaded.append(weakref.ref(predictor))
        return warm_up(predictor, sizes)

    loaded: list[weakref.ref] = []
    monkeypatch.setattr(Predictor, "warm_up", held)
    with serving(home, follow=True, look_seconds=0.05) as running, logged() as log:
        assert (states(running), shares(running)[0]) == ([("1", "AVAILABLE")], "1")
        push(other_model, home, "2")
        assert entered.wait(60)
        assert states(running) == [("2", "LOADING"), ("1", "AVAILABLE")]
        assert "version 2 is being loaded" in running.ask("GET", "/v1/model").json["newer"]
        answers = [shares(running)]
        warm.set()
        while answers[-1][0] == "1":
            answers.append(shares(running))
        answers += [shares(running) for _ in range(3)]
        for version, found in answers:  # each is of the model that it names
            np.testing.assert_allclose(found, want[version], atol=1e-6)
        assert {version for version, _ in answers[-3:]} == {"2"}
        assert states(running) == [("2", "AVAILABLE")]
        assert running.ask("GET", "/v1/model").json["newer"] == ""
        assert "kerasall_model_version 2.0" in running.ask("GET", "/metrics").body.decode()
        assert "tiny, version 2" in running.ask("GET", "/").body.decode()
        assert running.call(IMAGE, model=f"{NAME}/versions/1").status == 404
        assert running.call(IMAGE, model=f"{NAME}/versions/2").status == 200
        assert explain(running, version="2").json["model"] == {"name": NAME, "version": "2"}
        assert explain(running, version="1").status == 409
        assert sum("answers now" in line for line in log) == 1
        wait_for(lambda: loaded[0]() is None, 20)  # its weights are given back


def test_a_broken_version_is_told_once_and_the_old_one_answers_until_it_is_whole(home, other_model):
    with serving(home, follow=True, look_seconds=0.05) as running, logged() as log:
        broken = push(other_model, home, "2")
        weights = next(broken.glob("variables/*.data*"))
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1])
        wait_for(lambda: states(running) == [("2", "END"), ("1", "AVAILABLE")])
        told = running.ask("GET", f"/v1/models/{NAME}").json["model_version_status"][0]["status"]
        assert told["error_code"] == "FAILED_PRECONDITION"
        assert told["error_message"].startswith("2/variables/")  # and not where the server keeps its files
        assert "version 2 of tiny was refused, version 1 answers on" in running.ask("GET", "/").body.decode()
        assert running.ask("GET", "/readyz").status == 200
        assert shares(running)[0] == "1"
        time.sleep(0.5)
        assert sum("version 2 of tiny was refused" in line for line in log) == 1
        weights.write_bytes(whole)
        wait_for(lambda: states(running) == [("2", "AVAILABLE")])
        assert shares(running)[0] == "2"
        # A bad version is taken back by removing it.
        shutil.rmtree(home / "2")
        wait_for(lambda: states(running) == [("1", "AVAILABLE")])
        assert shares(running)[0] == "1"


def test_a_link_with_a_number_is_a_version_of_its_own(home):
    """So is taken back what proved bad: ``ln -s 1 3``. Known as version 1, it would be loaded anew at every look."""
    with serving(home, follow=True, look_seconds=0.05) as running, logged() as log:
        (home / "3").symlink_to("1")
        wait_for(lambda: states(running) == [("3", "AVAILABLE")])
        time.sleep(1)
        assert (shares(running)[0], len([line for line in log if "answers now" in line])) == ("3", 1)
        (home / "3").unlink()
        wait_for(lambda: states(running) == [("1", "AVAILABLE")])


def test_a_version_that_went_while_it_loaded_is_tried_again(home, other_model, monkeypatch):
    """Also where a copy with the same times comes back: what failed was not it."""
    entered, gone = threading.Event(), threading.Event()
    warm_up = Predictor.warm_up

    def held(predictor, sizes):
        if predictor.folder.name == "2" and not gone.is_set():
            entered.set()
            assert gone.wait(60)
        return warm_up(predictor, sizes)

    monkeypatch.setattr(Predictor, "warm_up", held)
    with serving(home, follow=True, look_seconds=0.05) as running, logged() as log:
        pushed = push(other_model, home, "2")
        assert entered.wait(60)
        pushed.rename(home / "away")
        gone.set()
        wait_for(lambda: states(running) == [("1", "AVAILABLE")])
        (home / "away").rename(pushed)
        wait_for(lambda: states(running) == [("2", "AVAILABLE")])
        assert not [line for line in log if "refused" in line]


@pytest.mark.parametrize(
    "change", [{"labels": ["hem", "all"]}, {"malignant": ["hem"]}], ids=["labels", "malignant"]
)
def test_a_version_of_other_classes_is_never_followed(home, other_model, change):
    with serving(home, follow=True, look_seconds=0.05) as running:
        other = shutil.copytree(other_model, home / "x")
        results = CARD["results"] | change
        write_json(other / "card.json", CARD | {"results": results})
        write_text(other / "labels.txt", "".join(f"{label}\n" for label in results["labels"]))
        write_manifest(other)
        other.rename(home / "2")
        wait_for(lambda: states(running)[0] == ("2", "END"))
        assert "of the version before it" in running.ask("GET", "/v1/model").json["newer"]
        assert shares(running)[0] == "1"


def test_without_follow_a_newer_version_is_told_once(home, other_model):
    with serving(home, look_seconds=0.05) as running, logged() as log:
        push(other_model, home, "2")
        wait_for(lambda: "--follow" in running.ask("GET", "/v1/model").json["newer"])
        assert "version 2 of tiny is there, but version 1 answers" in running.ask("GET", "/").body.decode()
        time.sleep(0.3)
        assert sum("version 2 of tiny is there" in line for line in log) == 1
        assert (states(running), shares(running)[0]) == ([("1", "AVAILABLE")], "1")


def test_which_versions_are_newer(tmp_path):
    for name in ("1", "2", "10", "11", "x", "³"):
        (tmp_path / name).mkdir()
    for name in ("1", "2", "10", "x", "³"):
        (tmp_path / name / "saved_model.pb").touch()

    def newer(version: str) -> list[str]:
        return [path.name for path in find_newer(tmp_path / version)]

    assert (newer("1"), newer("2"), newer("10"), newer("x")) == (["10", "2"], ["10"], [], [])
    shutil.rmtree(tmp_path / "10")
    assert newer("10") == ["2", "1"]


def test_a_model_without_versions_cannot_be_followed(tmp_path):
    plain = export_plain_model(tmp_path / "plain")
    with pytest.raises(SettingsError, match="numbered versions"):
        serve(plain, "127.0.0.1", 0, follow=True)
