"""What clients can do to the server besides sending images: parts, chunks, headers, connections, and what the log says."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import hostile_load
import pytest
from hostile_load import TOKEN, form_of, hostile, odd_headers
from web_server import BOUNDARY, form, picture, serving

from kerasall.serving.web import uploads
from kerasall.serving.web.connections import OncePerMinute
from kerasall.serving.web.limits import Refusal
from kerasall.serving.web.service import Batcher, ModelService

KIND = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def guarded(web_model):
    """A server that asks for a token and has little patience."""
    with serving(web_model, token=TOKEN, header_seconds=1, reading_seconds=0.5, connections=40) as running:
        yield running


@pytest.fixture
def log():
    """What the server tells, unspared."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    kept = [(logger, logger.filters[:]) for logger in loggers]
    for logger in loggers:
        logger.filters.clear()
        logger.addHandler(handler)
    yield records
    for logger, filters in kept:
        logger.filters[:] = filters
        logger.removeHandler(handler)


def wait_until(true, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def test_odd_headers_methods_and_addresses_are_no_faults(guarded, log):
    for data in odd_headers():
        status = hostile_load.send(guarded.port, data, seconds=3)
        assert (
            status in ("closed", "ConnectionResetError", "TimeoutError")
            or 100 <= int(status) < 500
            or status == "501"
        ), data
    assert guarded.ask("GET", "/livez").status == 200
    assert not [record for record in log if record.exc_info or record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    "shown", [b"Basic \xe9", b"Basic /////w==", b"Basic a", b"Bearer \xe9", b"Basic", b"", b"\xff \xff"]
)
def test_a_token_that_is_no_text_is_refused(guarded, shown):
    assert hostile_load.send(
        guarded.port, b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + shown + b"\r\n\r\n"
    ) == "401"  # fmt: skip


@pytest.mark.parametrize(
    "parts",
    [
        b"zz\r\n",
        b"5\r\nabc\r\n5",
        b"5\r\nabcde\r\n" * 3 + b"-1\r\n\r\n",
        b"FFFFFFFFFFFFFFFFFFFFF\r\n",
        b"5;" + b"x" * 20_000,
    ],
)
def test_malformed_chunks_and_clients_that_leave_are_no_faults(guarded, log, parts):
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n" % TOKEN.encode()
    kind = b"Content-Type: multipart/form-data; boundary=%b\r\n" % BOUNDARY.encode()
    for path in (b"/v1/predict", b"/", b"/v1/models/tiny:predict"):
        begun = head.replace(b"/v1/predict", path) + kind
        assert hostile_load.send(guarded.port, begun + b"Transfer-Encoding: chunked\r\n\r\n", parts, pause=0.02) in (
            "400", "closed", "ConnectionResetError")  # fmt: skip
        body = form([("a.png", picture(1))])
        for sent in (b"", body[:100], body):
            hostile_load.send(
                guarded.port, begun + b"Content-Length: %d\r\n\r\n" % len(body) + sent, read=False
            )
    assert wait_until(lambda: guarded.app.requests == 0)
    assert not [record for record in log if record.exc_info or record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    "part",
    [b"\r\n", b'Content-Disposition: form-data; name="files"; filename=""\r\n\r\n', b'Content-Disposition: form-data; name="a"\r\n\r\n',
     b"Content-Disposition: " + b";" * 2000 + b"\r\n\r\n", b"Content-Disposition: form-data" + b"; a=b" * 300 + b"\r\n\r\n"],
    ids=["empty", "unnamed_files", "one_field", "semicolons", "parameters"],
)  # fmt: skip
def test_parts_are_counted_whatever_they_hold(guarded, monkeypatch, part):
    asked = []
    read = uploads.parse_options_header
    monkeypatch.setattr(uploads, "parse_options_header", lambda value: asked.append(value) or read(value))
    reply = guarded.ask("POST", "/v1/predict", form_of(part, 1 << 20), KIND)
    assert reply.status in (400, 413)
    assert len(asked) < 30
    assert all(
        value is None or value.count(b";" if isinstance(value, bytes) else ";") <= 64 for value in asked
    )


def test_a_content_type_of_many_parameters_is_not_taken_apart(guarded, monkeypatch):
    """That takes quadratic time, in the event loop."""
    asked = []
    read = uploads.parse_options_header
    monkeypatch.setattr(uploads, "parse_options_header", lambda value: asked.append(value) or read(value))
    body, kind = form([("a.png", picture(1))]), {"Content-Type": KIND["Content-Type"] + ";" * 60_000}
    assert (guarded.ask("POST", "/v1/predict", body, KIND | kind).status, asked) == (415, [""])


def test_a_form_as_browsers_send_it_is_no_matter(guarded):
    """Seven images, each beside an input where no file was chosen."""
    files = [pair for i in range(7) for pair in ((f"{i}.png", picture(i)), ("", b""))]
    assert len(guarded.ask("POST", "/v1/predict", form(files), KIND).json["results"]) == 7


def test_chunks_of_a_byte_are_refused_and_usual_ones_taken(guarded):
    body = form([("a.bmp", picture(1, "BMP", (300, 300)))])
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n" % TOKEN.encode()
    head += b"Content-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % KIND["Content-Type"].encode()

    def in_chunks(size: int) -> bytes:
        pieces = (body[at : at + size] for at in range(0, len(body), size))
        return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"

    assert hostile_load.send(guarded.port, head + in_chunks(1)) == "400"
    assert hostile_load.send(guarded.port, head + in_chunks(16)) == "400"
    for size in (512, 1460, 8192, len(body)):
        assert hostile_load.send(guarded.port, head + in_chunks(size)) == "200"
    body = form([("a.png", picture(1, size=(4, 4)))])
    assert hostile_load.send(guarded.port, head + in_chunks(3)) == "200"


@contextmanager
def held(port: int, count: int, first: bytes = b""):
    connections = []
    for _ in range(count):
        connections.append(socket.create_connection(("127.0.0.1", port), timeout=5))
        connections[-1].sendall(first)
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(2)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_connections_are_bounded_and_the_longest_idle_make_room(guarded, log):
    with held(guarded.port, 39) as old, held(guarded.port, 30) as new:
        assert guarded.ask("GET", "/livez").status == 200
        assert guarded.ask("POST", "/v1/predict", form([("a.png", picture(1))]), KIND).status == 200
        assert len(guarded.server.server_state.connections) <= 40
        assert is_closed(old[0])
        new[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert new[-1].recv(20).startswith(b"HTTP/1.1 200")
    assert not [record for record in log if record.exc_info]
    assert any("more than 40 connections" in record.getMessage() for record in log)


def test_a_connection_with_a_request_is_not_closed_for_idle_ones(guarded):
    body = form([("a.png", picture(1))])
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n" % TOKEN.encode()
    head += b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n" % (KIND["Content-Type"].encode(), len(body))
    with held(guarded.port, 1, head) as (busy,):
        assert wait_until(lambda: len(guarded.app.arriving) == 1)
        with held(guarded.port, 60):
            guarded.ask("GET", "/livez")
            busy.sendall(body)
            assert busy.recv(20).startswith(b"HTTP/1.1 200")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files")
@pytest.mark.parametrize(
    ("soft", "hard", "most"), [(1024, 1024, (256, 900)), (256, 256, (64, 128)), (1024, 4096, (1024, 1024))]
)
def test_there_are_fewer_connections_than_files(soft, hard, most):
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}));"
        "from kerasall.serving.web.connections import find_room; print(find_room(1024))"
    )
    found = int(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )
    assert most[0] <= found <= most[1]


def test_a_client_that_does_not_read_loses_its_connection(guarded):
    asked = (
        b"GET /static/page.js HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n"
        % TOKEN.encode()
    )
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", guarded.port))
        connection.settimeout(1)
        with suppress(OSError):
            for _ in range(5000):
                connection.sendall(asked)
        assert wait_until(lambda: guarded.app.requests == 0 and not guarded.server.server_state.connections)


def slow_head(length: int = 100_000) -> bytes:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
    return head + b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n" % (KIND["Content-Type"].encode(), length)


def test_bodies_that_do_not_come_make_room_for_one_that_does(web_model):
    with (
        serving(web_model, requests=5, body_seconds=20) as running,
        held(running.port, 5, slow_head()) as slow,
    ):
        assert wait_until(lambda: len(running.app.arriving) == 5)
        assert running.predict(("a.png", picture(1))).status == 200
        assert slow[0].recv(4096).startswith(b"HTTP/1.1 503")
        assert wait_until(lambda: len(running.app.arriving) == 4)


def test_memory_of_stopped_uploads_makes_room_too(web_model):
    begun = slow_head(1_000_000) + form([("a.bmp", bytes(900_000))])[:-60]
    limits = {"max_held_bytes": 2_000_000, "body_seconds": 20}
    with serving(web_model, **limits) as running, held(running.port, 2, begun) as slow:
        assert wait_until(lambda: running.app.held_bytes > 1_700_000)
        assert running.predict(("a.bmp", picture(1, "BMP", (400, 400)))).status == 200
        assert slow[0].recv(4096).startswith(b"HTTP/1.1 503")
        assert not is_closed(slow[1])


_UPLOADS = """
import asyncio, gc, psutil
from kerasall.serving.web.connections import give_memory_back
give_memory_back()
kept = []

async def arrive():
    body = bytearray()
    for i in range(240):
        body += bytes(65536)
        if i % 7 == 0:
            kept.append(bytes(700))
        await asyncio.sleep(0)
    return bytes(body)

async def work():
    before = psutil.Process().memory_info().rss
    for _ in range(4):
        bodies = await asyncio.gather(*(arrive() for _ in range(10)))
        del bodies
        await asyncio.sleep(0.05)
        gc.collect()
    print(psutil.Process().memory_info().rss - before)

asyncio.run(work())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's memory")
def test_memory_of_uploads_is_given_back():
    """Ten of 16 MB at once, four times: without the call some 70 MB stay."""
    grown = subprocess.run(
        [sys.executable, "-c", _UPLOADS], capture_output=True, text=True, check=True
    ).stdout
    assert int(grown) < 50e6


# ---- what is told --------------------------------------------------------------


def test_what_clients_provoke_is_told_once_a_minute(monkeypatch):
    spare, now = OncePerMinute(), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def tell(text: str, *values) -> str:
        record = logging.LogRecord("uvicorn.error", logging.WARNING, "", 1, text, values, None)
        return record.getMessage() if spare.filter(record) else ""

    assert tell("Invalid HTTP request") == "Invalid HTTP request"
    assert [tell("Invalid HTTP request") for _ in range(50)] == [""] * 50
    assert tell("more than %d connections: closed", 7) == "more than 7 connections: closed"
    now[0] += 61
    assert tell("Invalid HTTP request") == "Invalid HTTP request (50 more since the last)"


# ---- who waits for whom --------------------------------------------------------


def batches_of(weights: list[int], light: int) -> list[list[int]]:
    """How a batcher puts waiting items together."""
    seen: list[list[int]] = []

    def run(items):
        seen.append(list(items))
        return items

    async def work() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(
                run, executor, capacity=99, batch_size=4, batch_weight=10, light=light, delay=0.0
            )
            waiting = [asyncio.ensure_future(batcher.answer(weight, weight)) for weight in weights]
            await asyncio.sleep(0)
            batcher.start()
            await asyncio.gather(*waiting)
            await batcher.stop()

    asyncio.run(work())
    return seen


def test_a_light_image_waits_for_one_heavy_one_at_most_and_a_heavy_one_is_not_passed_over():
    seen = batches_of([10, 10, 10, 10, *[1] * 12], light=1)
    assert sorted(map(tuple, seen)) == sorted([(10,)] * 4 + [(1, 1, 1, 1)] * 3)
    kinds = [items[0] for items in seen]
    assert kinds[:6] in ([1, 10] * 3, [10, 1] * 3)


def test_those_who_bring_many_leave_room_for_those_who_bring_one():
    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher(list, executor, capacity=8, batch_size=4, batch_weight=10, delay=0.0)
        with batcher.admit(8):  # alone, it may fill all
            pass
        with batcher.admit(4):
            with pytest.raises(Refusal), batcher.admit(3):
                pass
            with batcher.admit(2), batcher.admit(1), batcher.admit(1):
                pass


def test_one_request_does_not_stand_before_all_others(web_model, monkeypatch):
    """Of many images of one request a batch's worth is under way at a time: another client's comes in between."""
    run = ModelService._run

    there = []

    def run_slowly(self, images):
        if there:  # the second client shall be there, however busy the machine
            assert wait_until(lambda: there[0].app.requests > 1)
            there.clear()
        time.sleep(0.1)
        return run(self, images)

    monkeypatch.setattr(ModelService, "_run", run_slowly)
    with serving(web_model, max_files=64, batch_images=4) as running:
        order: list[str] = []
        there.append(running)

        def many() -> None:
            running.predict(*((f"{i}.png", picture(i)) for i in range(60)))
            order.append("many")

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(many)
            assert wait_until(lambda: running.app.requests > 0)
            assert running.predict(("one.png", picture(1))).status == 200
            order.append("one")
            first.result()
        assert order == ["one", "many"]


def test_an_image_may_have_more_bytes_once_it_is_prepared(web_model):
    """19 MB of pixels out of some kilobytes, in a kind that TensorFlow does not read."""
    with serving(web_model) as running:
        reply = running.predict(("large.webp", hostile.encode_flat("WEBP", (2500, 2500))))
    assert reply.status == 200, reply.json


@pytest.mark.slow
def test_a_good_request_is_answered_under_a_mixed_hostile_load(web_model, tmp_path, capsys):
    """20 minutes, or KERASALL_TEST_LOAD_SECONDS."""
    import os
    import shutil

    folder = tmp_path / "tiny" / "1"
    shutil.copytree(web_model, folder)
    figures = hostile_load.run_load(folder, float(os.environ.get("KERASALL_TEST_LOAD_SECONDS", "1200")))
    with capsys.disabled():
        print("\n" + hostile_load.describe(figures))
    assert figures.faults == 0
    assert set(figures.good) == {200}
    assert figures.p99 < 2
    assert figures.growth < 1.15
    assert figures.tracebacks == 0
    assert figures.log_bytes < 100_000
