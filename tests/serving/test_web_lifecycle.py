"""From start to stop: ready only when warm, full queues, stopping in the middle, nothing sent elsewhere."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from web_server import BOUNDARY, LIMITS, Reply, Running, form, picture, serving

from kerasall.errors import ArtifactError, ModelError
from kerasall.serving.predictor import Predictor
from kerasall.serving.web.server import _configure


class Gate:
    """Holds every call of the model until it is opened, so that what happens meanwhile can be looked at."""

    def __init__(self, monkeypatch):
        self.open, self.entered = threading.Event(), threading.Event()
        predict = Predictor.predict

        def held(predictor, images, names=None):
            self.entered.set()
            assert self.open.wait(30)
            return predict(predictor, images, names)

        monkeypatch.setattr(Predictor, "predict", held)


def test_alive_at_once_and_ready_only_when_warm(web_model, monkeypatch):
    gate = Gate(monkeypatch)
    with serving(web_model, ready=False) as running:
        assert gate.entered.wait(60)  # the model is loaded, and warming up
        assert running.ask("GET", "/livez").status == 200
        refused = [running.ask("GET", "/readyz"), running.ask("GET", "/v1/model"), running.call(picture(1))]
        refused.append(running.predict(("a.png", picture(1))))
        assert [(reply.status, int(reply.headers["retry-after"]) > 0) for reply in refused] == [
            (503, True)
        ] * 4
        page = running.ask("GET", "/")
        assert page.status == 503
        assert "is being loaded" in page.body.decode()
        gate.open.set()
        running.wait_until_ready()
        assert running.predict(("a.png", picture(1))).status == 200
        assert "kerasall_ready 1.0" in running.ask("GET", "/metrics").body.decode()


def test_a_broken_model_is_never_ready(web_model, tmp_path):
    broken = shutil.copytree(web_model, tmp_path / "1")
    weights = next(Path(broken).glob("variables/*.data*"))
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    with serving(broken, ready=False) as running:
        deadline = time.monotonic() + 30
        while not running.failures and time.monotonic() < deadline:
            time.sleep(0.02)
        assert isinstance(running.failures[0], ArtifactError)
        assert running.ask("GET", "/readyz").status == 503
        assert running.ask("GET", "/livez").status == 200


def test_a_runtime_whose_answers_are_wrong_is_told_and_not_ready_any_more(web_model, monkeypatch):
    def wrong(predictor, images, names=None):
        raise ModelError("onnxruntime must answer as TensorFlow does: use --runtime tensorflow")

    with serving(web_model) as running:
        assert running.predict(("a.png", picture(1))).status == 200
        monkeypatch.setattr(Predictor, "predict", wrong)
        first = running.predict(("a.png", picture(1)))
        monkeypatch.undo()
        replies = [
            running.predict(("a.png", picture(1))),
            running.call(picture(1)),
            running.ask("GET", "/v1/model"),
        ]
        for reply in (first, *replies):
            assert reply.status == 503
            assert "use --runtime tensorflow" in reply.json["error"]
        assert running.ask("GET", "/readyz").status == 503
        assert "kerasall_ready 0.0" in running.ask("GET", "/metrics").body.decode()
        page = running.ask("GET", "/")
        assert page.status == 503
        assert "use --runtime tensorflow" in page.body.decode()
        assert "is being loaded" not in page.body.decode()


def test_a_full_queue_answers_503_and_loses_nothing(web_model, monkeypatch):
    with serving(web_model, queue_images=6, batch_images=2) as running, ThreadPoolExecutor(30) as clients:
        gate = Gate(monkeypatch)
        replies = [clients.submit(running.predict, (f"{i}", picture(i))) for i in range(30)]
        deadline = time.monotonic() + 20
        while sum(reply.done() for reply in replies) < 24 and time.monotonic() < deadline:
            time.sleep(0.02)
        gate.open.set()
        answers = [reply.result() for reply in replies]
        refused = [answer for answer in answers if answer.status == 503]
        assert len(refused) == 24
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert [answer.status for answer in answers if answer.status != 503] == [200] * 6
        assert (
            running.predict(*((f"{i}", picture(i)) for i in range(7))).status == 503
        )  # more than it can hold
        assert running.predict(("again", picture(1))).status == 200


def test_uploads_held_at_once_are_bounded(web_model, monkeypatch):
    with serving(web_model, max_held_bytes=300_000) as running, ThreadPoolExecutor(8) as clients:
        gate = Gate(monkeypatch)
        image = picture(1, "BMP", (200, 200))  # 120 kB
        replies = [clients.submit(running.predict, (f"{i}", image)) for i in range(8)]
        deadline = time.monotonic() + 20
        while sum(reply.done() for reply in replies) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
        gate.open.set()
        assert sorted(reply.result().status for reply in replies) == [200] * 2 + [503] * 6
        running.require_nothing_held()


def test_requests_under_way_are_bounded_and_health_is_still_told(web_model, monkeypatch):
    with serving(web_model, requests=3) as running, ThreadPoolExecutor(10) as clients:
        gate = Gate(monkeypatch)
        replies = [clients.submit(running.predict, (f"{i}", picture(i))) for i in range(10)]
        deadline = time.monotonic() + 20
        while sum(reply.done() for reply in replies) < 7 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert running.ask("GET", "/livez").status == 200
        gate.open.set()
        answers = [reply.result() for reply in replies]
        assert sorted(answer.status for answer in answers) == [200] * 3 + [503] * 7
        refused = next(answer for answer in answers if answer.status == 503)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-content-type-options"] == "nosniff"


def test_an_answer_that_takes_too_long_is_given_up(web_model, monkeypatch):
    with serving(web_model, answer_seconds=0.3) as running:
        gate = Gate(monkeypatch)
        assert running.predict(("a.png", picture(1))).status == 504
        gate.open.set()
        assert running.predict(("a.png", picture(1))).status == 200


def test_a_heavy_image_does_not_take_others_with_it(web_model, monkeypatch):
    sizes: list[int] = []
    predict = Predictor.predict

    def counted(predictor, images, names=None):
        sizes.append(len(images))
        return predict(predictor, images, names)

    with serving(web_model, batch_pixels=1000, delay_seconds=0.1) as running:
        monkeypatch.setattr(Predictor, "predict", counted)
        light, heavy = picture(1, size=(10, 10)), picture(2, size=(60, 60))
        reply = running.predict(*((f"{i}", image) for i, image in enumerate([light, light, heavy, light])))
        assert reply.status == 200
    assert sum(sizes) == 4
    assert len(sizes) >= 2


def test_a_stopping_server_finishes_what_it_began(web_model, monkeypatch):
    with serving(web_model) as running, ThreadPoolExecutor(2) as clients:
        gate = Gate(monkeypatch)
        begun = clients.submit(running.predict, ("a.png", picture(1)))
        assert gate.entered.wait(10)
        running.server.should_exit = True
        time.sleep(0.4)
        with pytest.raises(OSError):  # noqa: PT011  refused or reset: no new work is taken
            running.ask("GET", "/livez")
        gate.open.set()
        assert begun.result(10).status == 200


def test_nothing_is_asked_of_another_machine(web_model, monkeypatch):
    """Start, answers, page and stop with every way to another machine closed."""
    asked: list[object] = []
    own = ("127.0.0.1", "::1", "localhost", None)
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def guarded(self, address):
        if self.family != socket.AF_UNIX and address[0] not in own:
            asked.append(address)
            raise OSError("no way out")
        return connect(self, address)

    def guarded_look_up(host, *arguments, **options):
        if host not in own:
            asked.append(host)
            raise OSError("no way out")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://203.0.113.1:4318")
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    with serving(web_model) as running:
        assert running.ask("GET", "/").status == 200
        assert running.predict(("a.png", picture(1))).status == 200
        assert running.call(picture(1)).status == 200
    assert asked == []


# ---- as a process of its own --------------------------------------------------


@contextlib.contextmanager
def command(*arguments: str):
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        [sys.executable, "-m", "kerasall", "serve", *arguments],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_port(process) -> int:
    for line in process.stderr:
        if line.startswith("serving on http://127.0.0.1:"):
            return int(line.split(":")[2].split("/")[0])
    raise AssertionError("the server did not start")


@pytest.mark.slow
def test_the_command_serves_and_sigterm_ends_it_with_work_done(web_model):
    with command(str(web_model.parent), "--port", "0") as process:
        running = Running(read_port(process), None, None, []).wait_until_ready()
        assert running.predict(("a.png", picture(1))).status == 200
        with ThreadPoolExecutor(20) as clients:
            replies = [clients.submit(running.predict, (f"{i}", picture(i))) for i in range(40)]
            time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            statuses = []
            for reply in replies:
                with contextlib.suppress(OSError):  # came after the door was shut
                    statuses.append(reply.result().status)
        assert set(statuses) <= {200, 503}
        assert process.wait(LIMITS.drain_seconds + 20) == 0
        assert "Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_the_command_fails_with_words(web_model, tmp_path):
    broken = shutil.copytree(web_model, tmp_path / "1")
    (Path(broken) / "labels.txt").write_text("all\n")
    with command(str(broken), "--port", "0") as process:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "labels.txt" in said
        assert "Traceback" not in said
    with command(str(web_model), "--host", "0.0.0.0") as process:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "a token must guard a public address" in said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with command(str(web_model), "--port", str(taken.getsockname()[1])) as process:
            _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "must be free to listen on" in said


def explain(running: Running, image: bytes) -> Reply:
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return running.ask("POST", "/v1/explain", form([("x", image)], {"label": "hem"}), kind)


@pytest.mark.slow
def test_memory_of_the_command_stays_flat(web_model):
    """Two thousand requests of ten clients: after the first fifth memory grows by less than a twentieth."""
    images = [picture(seed, kind, (200, 150)) for seed in range(5) for kind in ("BMP", "PNG", "JPEG", "TIFF")]
    with command(str(web_model), "--port", "0") as process, ThreadPoolExecutor(10) as clients:
        running = Running(read_port(process), None, None, []).wait_until_ready()
        sizes = []
        for part in range(5):
            asked = [images[(part + i) % len(images)] for i in range(400)]
            replies = list(clients.map(lambda data: running.predict(("x", data)).status, asked))
            assert set(replies) == {200}
            sizes.append(psutil.Process(process.pid).memory_info().rss)
        assert max(sizes) < 1.05 * sizes[0]


@pytest.mark.slow
def test_flipped_bytes_never_break_the_server(web_model):
    """Ten thousand damaged files: answered 200 or 400 each, the process sound, its memory flat.

    KERASALL_FUZZ_MINUTES=60 goes on for an hour, with other files each time.
    """
    minutes = float(os.environ.get("KERASALL_FUZZ_MINUTES", 0))
    end = time.monotonic() + 60 * minutes
    chance = np.random.default_rng(time.time_ns() if minutes else 2024)
    originals = [picture(i, kind, (40, 30)) for i, kind in enumerate(("BMP", "PNG", "JPEG", "TIFF"))]
    originals += [picture(5, "JPEG", (40, 30), progressive=True), picture(6, "TIFF", compression="tiff_lzw")]

    def damaged() -> bytes:
        data = bytearray(originals[chance.integers(len(originals))])
        for _ in range(chance.integers(1, 12)):
            place = chance.integers(0, min(len(data), 400) if chance.random() < 0.6 else len(data))
            data[place] = chance.integers(256)
        if chance.random() < 0.2:
            start = chance.integers(0, len(data))
            del data[start : start + chance.integers(1, 200)]
        return bytes(data)

    seen: set[int] = set()
    with serving(web_model) as running, ThreadPoolExecutor(4) as clients:
        for part in itertools.count():
            if part >= 20 and time.monotonic() > end:
                break
            files = [damaged() for _ in range(500)]
            forms = [[("x", data) for data in files[start : start + 5]] for start in range(0, 500, 5)]
            seen |= {reply.status for reply in clients.map(lambda each: running.predict(*each), forms)}
            seen |= {running.predict(("x", data)).status for data in files[:20]}
            seen |= {running.call(data).status for data in files[20:40]}
            seen |= {explain(running, data).status for data in files[40:60]}
            if part == 4:
                warm = psutil.Process().memory_info().rss
        assert seen == {200, 400}
        # In a long run: TensorFlow itself keeps some 400 bytes of every JPEG that it refuses.
        assert psutil.Process().memory_info().rss - warm < (50 << 20) + 400 * 500 * (part - 20)
        assert running.predict(("whole", originals[0])).status == 200
    print(f"{500 * part:,} damaged files")


def test_what_a_request_brings_along_makes_no_lines_in_the_log():
    config = _configure(lambda: None, LIMITS)
    formatter = logging.getLogger("uvicorn").handlers[0].formatter
    assert config.log_config is not None
    assert formatter is not None
    try:
        raise ValueError("bad name\nINFO:     all is well\x1b[2K")
    except ValueError:
        record = logging.LogRecord(
            "uvicorn.error", logging.ERROR, "", 0, "of %s", ("a\nb\x9b",), sys.exc_info()
        )
    first, *others = formatter.format(record).split("\n")
    assert first == "ERROR:    of a"
    assert all(line.startswith("  ") and line.isprintable() for line in others)
