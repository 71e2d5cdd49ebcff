"""A server under a mixed hostile load, beside one good request of one image a second; prints what it measured.

    python tests/serving/hostile_load.py 3600     an hour of it

The server is a process of its own, started as a user starts it, with the usual 1,024 open files; the attackers are
another, at low priority where the system has one, as theirs are not the server's processors.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

for folder in (Path(__file__).parent, Path(__file__).parents[1]):
    sys.path.insert(0, str(folder))

import hostile_images as hostile  # noqa: E402
from web_server import BOUNDARY, NAME, export_tiny_model, form, picture  # noqa: E402

TOKEN = "a-token-of-enough-letters"
ATTACKERS = 8
FILES = 1024
_HEAD = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
_FORM = b"Content-Type: multipart/form-data; boundary=%b\r\n" % BOUNDARY.encode()


@dataclass
class Figures:
    """What was measured.

    Attributes:
        seconds: of each good request.
        good: its statuses.
        hostile: attack and what it was answered with.
        memory: the server's, in bytes, over time.
        yardstick: seconds that a hundredth of a second of the processor took before each: 0.01 on an idle machine.
        rest: the server's memory some seconds after the last attack.
        log_bytes: what the server wrote.
        tracebacks: in it.
        processor_seconds: of the server.
    """

    seconds: list[float] = field(default_factory=list)
    good: Counter[int] = field(default_factory=Counter)
    hostile: Counter[tuple[str, str]] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)
    yardstick: list[float] = field(default_factory=list)
    rest: int = 0
    log_bytes: int = 0
    tracebacks: int = 0
    processor_seconds: float = 0.0

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[98]

    @property
    def faults(self) -> int:
        """Answers of 500, to anybody."""
        return self.good[500] + sum(count for (_, status), count in self.hostile.items() if status == "500")

    @property
    def growth(self) -> float:
        """The usual memory of the last fifth over that of the second fifth: the first fills its pools."""
        fifth = max(len(self.memory) // 5, 1)
        return statistics.median(self.memory[-fifth:]) / statistics.median(
            self.memory[fifth : 2 * fifth] or self.memory
        )


# ---- attacks: each opens its own connections and ends by itself ----------------


def send(port: int, *parts: bytes, read: bool = True, seconds: float = 20, pause: float = 0) -> str:
    """Sends bytes as they are; gives the status of the answer, or how it ended."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass
        if not read:
            return "left"
        try:
            received = connection.recv(65536)
        except OSError as error:
            return type(error).__name__
    found = re.match(rb"HTTP/1.1 (\d+)", received)
    return found[1].decode() if found else "closed"


def post(body: bytes, path: bytes = b"/v1/predict", kind: bytes = _FORM, **options) -> Callable[[int], str]:
    head = b"POST %b HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n" % (path, _HEAD, kind, len(body))
    return lambda port: send(port, head, body, **options)


def post_call(body: bytes) -> Callable[[int], str]:
    return post(body, b"/v1/models/%b:predict" % NAME.encode(), b"")


def chunked(chunks: bytes, count: int = 1) -> Callable[[int], str]:
    head = b"POST /v1/predict HTTP/1.1\r\n%b%bTransfer-Encoding: chunked\r\n\r\n" % (_HEAD, _FORM)
    return lambda port: send(port, head, *[chunks] * count)


def hold_idle(port: int) -> str:
    """More connections than the server may have files, for three seconds."""
    held = []
    with suppress(OSError):
        for _ in range(FILES + 76):
            held.append(socket.create_connection(("127.0.0.1", port), timeout=1))
    time.sleep(3)
    for connection in held:
        connection.close()
    return f"{len(held) // 100 * 100} held"


def hold_slow(port: int) -> str:
    """Many that send their headers, and then a byte of the body now and then."""
    head = b"POST /v1/predict HTTP/1.1\r\n%b%bContent-Length: 100000\r\n\r\n" % (_HEAD, _FORM)
    return _hold(port, 200, head, b"-", 4)


def hold_large(port: int) -> str:
    """Twenty that send nearly all of 16 MB, and stop."""
    head = b"POST /v1/predict HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n" % (_HEAD, _FORM, hostile.FULL + 9)
    start = form([("a.png", b"")])[: -len(BOUNDARY) - 8]
    return _hold(port, 20, head + start + bytes(hostile.FULL - len(start)), b"", 5)


def _hold(port: int, count: int, first: bytes, then: bytes, seconds: int) -> str:
    held = []
    with suppress(OSError):
        for _ in range(count):
            held.append(socket.create_connection(("127.0.0.1", port), timeout=2))
            held[-1].sendall(first)
    for _ in range(seconds):
        time.sleep(1)
        for connection in held:
            with suppress(OSError):
                connection.sendall(then)
    for connection in held:
        connection.close()
    return "held"


def read_nothing(port: int) -> str:
    """Asks for the page's script a hundred times, and reads none of it."""
    asked = b"GET /static/page.js HTTP/1.1\r\n" + _HEAD + b"\r\n"
    return send(port, asked * 100, b"", read=False, pause=2)


def odd_headers() -> list[bytes]:
    start, end = b"GET /v1/model HTTP/1.1\r\n", b"\r\n\r\n"
    named = [
        b"Authorization: Basic \xe9", b"Authorization: Basic " + base64.b64encode(b"\xff:\xff"), b"Authorization:",
        b"Authorization: Bearer \xe9\xff", b"Origin: \xe9", b"Cookie: \xe9=\xff; a", b"Host: \xe9", b"Host: a:b:c@[::1",
        b"Content-Length: \xb2", b"Content-Length: 5\r\nContent-Length: 6", b"Transfer-Encoding: gzip",
        b"Content-Encoding: klingon", b"Content-Type: \xe9", b"Upgrade: websocket\r\nConnection: Upgrade",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings", b"Expect: 100-continue", b"Range: bytes=9-1",
        b"X" * 20_000, b"\xff: \xff", b"If-Modified-Since: never",
    ]  # fmt: skip
    odd = [start + _HEAD * (not name.startswith((b"Auth", b"Host"))) + name + end for name in named]
    targets = [b"/%", b"/%ff%00", b"/%2e%2e/%2e%2e/etc/passwd", b"*", b"http://a/b", b"/\xe9", b"//", b"/" + b"a" * 9000,
               b"/v1/models/%ff:predict", b"/v1/models/a%0ab", b"/static/%00", b"/?%ff=%00"]  # fmt: skip
    odd += [b"GET " + target + b" HTTP/1.1\r\n" + _HEAD + b"\r\n" for target in targets]
    methods = [
        b"CONNECT a:1",
        b"TRACE /",
        b"PRI *",
        b"BREW /",
        b"DELETE /v1/predict",
        b"OPTIONS *",
        b"HEAD /docs",
    ]
    odd += [method + b" HTTP/1.1\r\n" + _HEAD + b"\r\n" for method in methods]
    return [
        *odd,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 9000,
    ]


def form_of(part: bytes, size: int = hostile.FULL // 2) -> bytes:
    whole = b"--%b\r\n%b\r\n" % (BOUNDARY.encode(), part)
    return whole * (size // len(whole)) + b"--%b--\r\n" % BOUNDARY.encode()


def make_attacks() -> dict[str, Callable[[int], str]]:
    """Name -> what is done; all that is sent is made here, once."""
    bombs = {name: make()[: hostile.FULL] for name, (make, _) in hostile.HOSTILE.items()}
    attacks = {name: post(form([(f"{name}.x", data)])) for name, data in bombs.items()}
    large = {
        "large_jpeg": hostile.encode("JPEG", (4000, 4000), quality=30),
        "large_progressive": hostile.jpeg_of_scans(9, 4000),
        "large_png": hostile.encode("PNG", (2100, 2100), compress_level=1),
        "large_webp": hostile.encode("WEBP", (3000, 3000), quality=1, method=0),
        "large_tiff": hostile.encode("TIFF", (1900, 1900), compression="tiff_lzw"),
    }
    attacks |= {name: post(form([(name, data)])) for name, data in large.items()}
    flat = hostile.encode_flat("PNG")
    attacks["many_large"] = post(form([(f"{i}.png", flat) for i in range(64)]), seconds=90)
    attacks["many_small"] = post(form([(f"{i}.png", picture(i)) for i in range(64)]))
    attacks["many_files"] = post(form([(f"{i}.png", picture(1)) for i in range(500)]))
    attacks["explain_large"] = post(form([("a.jpg", large["large_jpeg"])], {"label": "all"}), b"/v1/explain")
    attacks["page"] = post(form([(f"<{i}>.png", picture(i)) for i in range(64)]), b"/")
    disposition = b'Content-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    attacks |= {
        "empty_parts": post(form_of(b"\r\n")),
        "unnamed_files": post(form_of(disposition.replace(b'"a"', b'""'))),
        "semicolons": post(form_of(b"Content-Disposition: " + b";" * 2000 + b"\r\n\r\n")),
        "false_boundaries": post(form_of(disposition + b"\r\n--kerasall-test-boundar" * 1000)),
        "cut_form": post(form([("a.png", picture(1))])[:-30]),
        "one_byte_chunks": chunked(b"1\r\n-\r\n" * 10_000, 200),
        "bad_chunks": chunked(b"zz\r\n" + b"5\r\nabc\r\n" * 9),
        "chunks_then_bad": chunked(b"5\r\nabcde\r\n" * 20 + b"-1\r\n\r\n"),
        "nested": post_call(b"[" * 4_000_000),
        "nested_objects": post_call(b'{"instances":' * 500 + b"1" + b"}" * 500),
        "million_instances": post_call(b'{"instances":[' + b"{}," * 1_000_000 + b"{}]}"),
        "digits": post_call(b'{"instances":[' + b"9" * 8_000_000 + b"]}"),
        "fraction": post_call(b'{"instances":[0.' + b"9" * 8_000_000 + b"e-99999999]}"),
        "escapes": post_call(b'{"instances":[{"b64":"' + b"\\u0041" * 2_000_000 + b'"}]}'),
        "long_base64": post_call(b'{"instances":[{"b64":"' + b"A" * 15_000_000 + b'"}]}'),
        "base64_bomb": post_call(json.dumps(
            {"instances": [{"b64": base64.b64encode(bombs["png_inflating_text"][:9_000_000]).decode()}]}).encode()),
        "idle": hold_idle, "slow": hold_slow, "stopped": hold_large, "unread": read_nothing,
    }  # fmt: skip
    whole = form([("a.png", picture(1))])
    attacks["leaves_early"] = post(whole[:-9], read=False)
    attacks["leaves_before_answer"] = post(form([("a.jpg", large["large_jpeg"])]), read=False)
    for number, data in enumerate(odd_headers()):
        attacks[f"odd_{number}"] = lambda port, data=data: send(port, data, seconds=3)
    return attacks


def attack(port: int, seconds: float) -> Counter[tuple[str, str]]:
    """Attacks until the time is over, with several threads."""
    attacks, found, end = make_attacks(), Counter[tuple[str, str]](), time.monotonic() + seconds
    rest: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        while time.monotonic() < end:
            with lock:  # each once, in any order, before any comes again
                if not rest:
                    rest.extend(random.sample(sorted(attacks), len(attacks)))
                name = rest.pop()
            try:
                result = attacks[name](port)
            except OSError as error:
                result = type(error).__name__
            with lock:
                found[name, result] += 1

    threads = [threading.Thread(target=work) for _ in range(ATTACKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


# ---- the good client, and the whole -------------------------------------------


def ask(port: int, seed: int) -> tuple[int, float]:
    """One image, a connection of its own."""
    body, started = form([("cell.bmp", picture(seed % 7, "BMP", (450, 450)))]), time.monotonic()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Authorization": f"Bearer {TOKEN}",
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/predict", body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, time.monotonic() - started
    except (OSError, http.client.HTTPException):
        return 0, time.monotonic() - started
    finally:
        connection.close()


def time_processor() -> float:
    """Seconds that a hundredth of a second of the processor takes: how much of it others leave."""
    started, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < 0.01:
        pass
    return time.monotonic() - started


def start_server(folder: Path, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The command that a user types, with the usual limit of open files."""
    (folder.parent / "token").write_text(TOKEN)
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}));"
        "import sys; from kerasall.cli.app import main; sys.argv[0] = 'kerasall'; main()"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "serve",
        str(folder),
        "--port",
        "0",
        "--token-file",
        str(folder.parent / "token"),
    ]
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stderr=file, stdout=file)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (found := re.search(r"serving on http://127.0.0.1:(\d+)/", log.read_text())) and ask(
            int(found[1]), 0
        )[0] == 200:
            return process, int(found[1])
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def run_load(folder: Path, seconds: float) -> Figures:
    """Serves the model of a folder under attack for a time."""
    figures, log = Figures(), folder.parent / "server.log"
    server, port = start_server(folder, log)
    found = folder.parent / "attacks.json"
    attackers = subprocess.Popen([sys.executable, __file__, "attack", str(port), str(seconds), str(found)])
    process, end, turn = psutil.Process(server.pid), time.monotonic() + seconds, 0
    try:
        while time.monotonic() < end:
            started = time.monotonic()
            figures.yardstick.append(time_processor())
            status, took = ask(port, turn)
            figures.good[status] += 1
            figures.seconds.append(took)
            figures.memory.append(process.memory_info().rss)
            turn += 1
            time.sleep(max(0.0, 1 - (time.monotonic() - started)))
        attackers.wait(180)
        time.sleep(5)
        assert ask(port, 0)[0] == 200
        figures.rest = process.memory_info().rss
        times = process.cpu_times()
        figures.processor_seconds = times.user + times.system
    finally:
        attackers.kill()
        server.terminate()
        server.wait(60)
    figures.hostile = Counter(
        {(name, result): count for name, result, count in json.loads(found.read_text())}
    )
    written = log.read_text(errors="replace")
    figures.log_bytes, figures.tracebacks = len(written), written.count("Traceback")
    return figures


def describe(figures: Figures) -> str:
    """The figures in words, for a note."""
    results = Counter[str]()
    for (_, result), count in figures.hostile.items():
        results[result] += count
    memory = [round(value / 1e6) for value in figures.memory]
    tenth = max(len(memory) // 10, 1)
    return "\n".join([
        f"good requests {len(figures.seconds)}, statuses {dict(figures.good)}",
        f"median {statistics.median(figures.seconds):.3f} s, p99 {figures.p99:.3f} s, longest {max(figures.seconds):.3f} s",
        f"hostile {sum(results.values())}: {dict(results.most_common())}",
        f"answers of 500: {figures.faults}",
        f"yardstick of 0.01 s: median {statistics.median(figures.yardstick):.3f} s, longest {max(figures.yardstick):.3f} s",
        f"memory at start {memory[0]} MB, most {max(memory)} MB, at rest afterwards {figures.rest / 1e6:.0f} MB; medians of "
        f"tenths {[round(statistics.median(memory[at : at + tenth])) for at in range(0, len(memory), tenth)]}; "
        f"last fifth / second {figures.growth:.2f}",
        f"log {figures.log_bytes:,} bytes, {figures.tracebacks} tracebacks; processor {figures.processor_seconds:.0f} s",
    ])  # fmt: skip


def main() -> None:
    """``attack PORT SECONDS FILE`` is the attackers' process; ``SECONDS`` the whole."""
    if sys.argv[1] == "attack":
        with suppress(AttributeError):
            os.nice(10)
        found = attack(int(sys.argv[2]), float(sys.argv[3]))
        Path(sys.argv[4]).write_text(
            json.dumps([[name, result, count] for (name, result), count in found.items()])
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = run_load(export_tiny_model(Path(folder) / NAME / "1"), float(sys.argv[1]))
    for (name, result), count in sorted(figures.hostile.items()):
        print(f"  {name:32} {result:20} {count}")
    print(describe(figures))


if __name__ == "__main__":
    main()
