"""The door: hosts, origins, tokens, sizes, times, headers; nothing kept, nothing sent elsewhere."""

from __future__ import annotations

import base64
import gc
import io
import re
import socket
import struct
import tempfile
import threading
import time
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image, PngImagePlugin
from web_server import BOUNDARY, LIMITS, NAME, form, picture, serving

from kerasall.errors import SettingsError
from kerasall.serving.web.middleware import SECURITY_HEADERS
from kerasall.serving.web.server import is_loopback, read_token, require_token_for
from kerasall.serving.web.uploads import display_name

KIND = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
TOKEN = "a-token-of-enough-letters"
RESET = Path("/proc/self/clear_refs")


@contextmanager
def little_memory(most: int = 50 << 20):
    """What happens inside may at no moment take more memory than this; client and server are one process."""
    if not RESET.exists():  # only Linux tells the peak
        yield
        return
    gc.collect()
    gc.freeze()  # the next test's collection need not go through all of TensorFlow again
    before = psutil.Process().memory_info().rss
    RESET.write_text("5")  # the peak counts from here
    yield
    told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert told
    assert int(told[1]) * 1024 - before < most


@pytest.fixture(scope="module", autouse=True)
def _unfrozen():
    yield
    gc.unfreeze()


@pytest.fixture
def nothing_kept(web, tmp_path, monkeypatch):
    """After the test the server still answers, memory never grew much, and no folder holds anything new."""
    monkeypatch.chdir(tmp_path)  # folders that no other process writes into
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    web.predict(("warm.png", picture(1)))
    opened = {file.path for file in psutil.Process().open_files()}
    with little_memory():
        yield
    assert web.predict(("good.png", picture(3))).status == 200
    assert not list(tmp_path.iterdir())
    assert not {file.path for file in psutil.Process().open_files()} - opened


def raw(port: int, *parts: bytes, pause: float = 0, until: float = 5) -> bytes:
    """Sends bytes as they are and reads until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=until) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except OSError:
            pass
        return received


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header promises more than a server should decode."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bmp_claiming(width: int, height: int) -> bytes:
    data = bytearray(picture(0, "BMP"))
    struct.pack_into("<ii", data, 18, width, height)
    return bytes(data[:2048])


# ---- uploads (hostile inputs 1 to 9) ----------------------------------------


@pytest.mark.parametrize(
    "image",
    [bmp_claiming(60_000, 60_000), png_claiming(30_000, 30_000), png_claiming(13_000, 13_000),
     png_claiming(4097, 10)],
    ids=["bmp", "png_30000", "png_13000", "png_4097"],
)  # fmt: skip
def test_bombs_are_refused_by_their_header(web, nothing_kept, image):
    started = time.monotonic()
    reply = web.predict(("bomb.x", image))
    assert time.monotonic() - started < 0.5  # the bar is 0.1 on an idle machine
    assert reply.status == 400
    assert "bomb.x must have at most 4,096 pixels a side" in reply.json["error"]


def test_a_body_over_the_limit_is_refused_however_it_comes(web, nothing_kept):
    body = form([("a.bmp", bytes(LIMITS.max_body_bytes + 1000))])
    assert web.ask("POST", "/v1/predict", body, KIND).status == 413
    chunks = (body[start : start + 65536] for start in range(0, len(body), 65536))
    assert web.ask("POST", "/v1/predict", chunks, KIND, encode_chunked=True).status == 413
    assert web.ask("POST", f"/v1/models/{NAME}:predict", body).status == 413
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND['Content-Type']}\r\n".encode()
    )
    for length in (b"99999999999", b"-5", b"1e9", b"9" * 5000):
        answer = raw(web.port, head + b"Content-Length: " + length + b"\r\n\r\n")
        assert re.match(rb"HTTP/1.1 4(00|13)", answer), answer


def test_a_lying_content_length_is_answered(web, nothing_kept):
    body = form([("a.png", picture(1))])
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND['Content-Type']}\r\n".encode()
    )
    short = raw(web.port, head + b"Content-Length: %d\r\n\r\n" % (len(body) - 40), body)
    assert short.startswith(b"HTTP/1.1 400")
    long = raw(web.port, head + b"Content-Length: %d\r\n\r\n" % (len(body) + 40), body)
    assert long.startswith(b"HTTP/1.1 408")


def test_too_many_files_in_one_form_are_refused(web, nothing_kept):
    reply = web.predict(*((f"{i}.png", picture(i)) for i in range(200)))
    assert reply.status == 413
    assert "at most 8 images" in reply.json["error"]


@pytest.mark.parametrize("kind", ["BMP", "PNG", "JPEG", "TIFF"])
def test_truncated_files_are_refused_by_name(web, nothing_kept, kind):
    whole = picture(2, kind, (60, 50))
    cuts = [0, 8, 30, *(len(whole) * tenth // 10 for tenth in range(1, 10))]
    for cut in cuts:
        reply = web.predict((f"cut_{cut}.x", whole[:cut]))
        assert reply.status == 400, cut
        assert f"cut_{cut}.x" in reply.json["error"]


def test_a_jpeg_cut_and_closed_again_is_refused_in_answers_and_explanations(web, nothing_kept):
    whole = picture(2, "JPEG", quality=95)
    for name, data, status in (
        ("half.jpg", whole[:-200] + b"\xff\xd9", 400),
        ("whole.jpg", whole, 200),
    ):
        body = form([(name, data)], {"label": "hem"})
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        replies = web.predict((name, data)), web.ask("POST", "/v1/explain", body, kind)
        assert [reply.status for reply in replies] == [status, status]
        assert status == 200 or all(name in reply.json["error"] for reply in replies)


def animated(kind: str, frames: int) -> bytes:
    images = [Image.new("RGB", (8, 8), (i % 256, 0, 0)) for i in range(frames)]
    file = io.BytesIO()
    images[0].save(file, kind, save_all=True, append_images=images[1:])
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "SVG"),
        (animated("GIF", 1000), "a GIF"),
        (animated("TIFF", 3), "several pages"),
        (animated("PNG", 3), "animated"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\x03\x04", "a ZIP"),
        (bytes(128) + b"DICM" + b"PatientName", "a DICOM"),
        (b"\x00" * 500, "unknown kind"),
    ],
    ids=["svg", "gif", "pages", "apng", "pdf", "zip", "dicom", "zeros"],
)
def test_other_kinds_are_refused_by_their_content(web, nothing_kept, data, said):
    reply = web.predict(("cell.png", data))
    assert reply.status == 400
    assert said in reply.json["error"]
    assert "PatientName" not in reply.body.decode()


def test_a_jpeg_of_endless_scans_is_refused(web, nothing_kept):
    image = picture(3, "JPEG", (64, 64), progressive=True)
    start = image.rindex(b"\xff\xda")
    many = image[:start] + image[start:-2] * 500 + image[-2:]
    reply = web.predict(("slow.jpg", many))
    assert reply.status == 400
    assert "slow.jpg must have at most 100 scans" in reply.json["error"]


def test_extension_content_type_and_tail_do_not_decide(web, nothing_kept):
    image = picture(4, "JPEG")
    plain = web.predict(("a.jpg", image)).json["results"][0]["probabilities"]
    polyglot = image + b"<html><script>alert(1)</script></html>"
    for name, data in (("a.exe", image), ("a.png", image), ("a.html", polyglot)):
        assert web.predict((name, data)).json["results"][0]["probabilities"] == plain


def test_kinds_that_mean_the_same_pixels_get_the_same_answer(web):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)
    upright = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    bmp = bytearray(encode(upright, "BMP"))
    struct.pack_into("<i", bmp, 22, -20)  # rows from the top
    row = 24 * 3
    bmp[54:] = b"".join(bytes(bmp[54:])[start : start + row] for start in range(19 * row, -1, -row))
    same = [encode(upright.convert("RGBA"), "PNG"), encode(turned, "PNG", exif=exif), bytes(bmp),
            encode(upright, "TIFF")]  # fmt: skip
    want = web.predict(("a", encode(upright, "PNG"))).json["results"][0]["probabilities"]
    for data in same:
        assert web.predict(("a", data)).json["results"][0]["probabilities"] == want
    grey = upright.convert("L")
    alike = [encode(grey, "PNG"), encode(grey, "BMP"), encode(grey.convert("RGB"), "PNG"),
             encode(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG")]  # fmt: skip
    assert len({str(web.predict(("a", d)).json["results"][0]["probabilities"]) for d in alike}) == 1
    for mode, kind in (("1", "PNG"), ("1", "BMP"), ("P", "PNG"), ("P", "BMP"), ("CMYK", "TIFF")):
        other = upright.convert(mode)
        reference = encode(other.convert("RGB"), "PNG")
        shown = [web.predict(("a", data)).json["results"][0] for data in (encode(other, kind), reference)]
        assert shown[0] == shown[1]


def encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "name",
    ["../../x.png", "/etc/passwd", "C:\\\\x\\\\y.png", "n\0ul.png", "x" * 300, "\u202egnp.exe", "<script>alert(1)</script>",
     "caf\udce9.png", "%2e%2e%2f", "a'; DROP TABLE", ""],
    ids=["dots", "absolute", "windows", "nul", "long", "rtl", "script", "latin1", "percent", "sql", "empty"],
)  # fmt: skip
def test_names_are_shown_and_never_used(web, nothing_kept, name):
    reply = web.predict((name, picture(1)))
    assert reply.status == 200
    shown = reply.json["results"][0]["name"]
    assert not set(shown) & set("/\\\0\u202e")
    assert 0 < len(shown) <= 153
    page = web.predict((name, picture(1)), path="/").body.decode()
    assert "<script>alert" not in page


def test_display_names():
    assert display_name("C:\\fakepath\\a.png", 1) == "a.png"
    assert display_name("", 7) == "image 7"
    assert display_name("a\r\nSet-Cookie: x", 1) == "a\ufffd\ufffdSet-Cookie: x"


def test_metadata_of_images_is_neither_echoed_nor_logged(web, nothing_kept, capfd):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("PatientName", "Hippocrates-of-Kos")
    exif = Image.Exif()
    exif[0x010E] = "Hippocrates-of-Kos"
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (20, 24, 3), np.uint8))
    for kind, options in (("PNG", {"pnginfo": notes}), ("JPEG", {"exif": exif}), ("TIFF", {"exif": exif})):
        data = encode(image, kind, **options)
        assert b"Hippocrates" in data
        for sent in (data, data[:-30]):
            assert b"Hippocrates" not in web.predict(("Hippo.png", sent)).body
            assert b"Hippocrates" not in web.predict(("Hippo.png", sent), path="/").body
    assert "Hippo" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "body",
    [
        b"", b"nonsense", b"--" + BOUNDARY.encode(), form([("a.png", picture(1))])[:-10], form([]),
        form([], {"x": "1"}), form([], {"x": "1" * 2000}), form([], {f"f{i}": "1" for i in range(20)}),
        form([("a.png", picture(1))]).replace(b'name="files"', b'name="other"'),
        form([("a.png", picture(1))]).replace(b"Content-Type: text/plain", b"X: " + b"y" * 9000),
        form([("a.png", b"x")]).replace(b"Content-Disposition", b"Content-Disposal"),
        b"\r\n--" * 20_000,
    ],
)  # fmt: skip
def test_broken_forms_are_refused(web, nothing_kept, body):
    reply = web.ask("POST", "/v1/predict", body, KIND)
    assert reply.status == 400
    assert reply.json["error"]


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=", "application/json",
             f"multipart/form-data; boundary={'b' * 300}"]
)  # fmt: skip
def test_other_content_is_refused(web, kind):
    assert web.ask("POST", "/v1/predict", b"x", {"Content-Type": kind}).status == 415


# ---- hosts, origins, tokens, headers (16) -----------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8501",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "",
        "[::2]",
        "a@evil",
    ],
)
def test_other_host_names_are_refused(web, host):
    assert web.ask("GET", "/", headers={"Host": host}).status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8501", "localhost."])
def test_own_host_names_are_taken(web, host):
    assert web.ask("GET", "/livez", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
    ],
)  # fmt: skip
def test_posts_of_other_pages_are_refused(web, headers):
    host = f"127.0.0.1:{web.port}"
    given = {name: value.replace("{host}", host) for name, value in headers.items()}
    for path in ("/v1/predict", "/"):
        assert web.predict(("a.png", picture(1)), path=path, **given).status == 403
    assert web.ask("POST", f"/v1/models/{NAME}:predict", b"{}", given).status == 403


def test_posts_of_the_own_page_and_of_programs_are_answered(web):
    own = {"Origin": f"http://127.0.0.1:{web.port}", "Sec-Fetch-Site": "same-origin"}
    assert web.predict(("a.png", picture(1)), **own).status == 200
    assert web.predict(("a.png", picture(1))).status == 200


def test_a_token_guards_everything_but_health(web_model):
    basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
    with serving(web_model, token=TOKEN, hosts=None) as running:
        for shown in (
            "",
            f"Bearer {TOKEN}x",
            "Bearer",
            f"Other {TOKEN}",
            "Basic !!",
            "Basic " + basic[:-8],
            TOKEN,
        ):
            for path in ("/", "/v1/model", "/metrics", "/openapi.json", "/static/page.js"):
                reply = running.ask("GET", path, headers={"Authorization": shown})
                assert reply.status == 401
                assert reply.headers["www-authenticate"].startswith("Basic")
            assert running.predict(("a.png", picture(1)), Authorization=shown).status == 401
        for shown in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Basic {basic}"):
            assert running.ask("GET", "/", headers={"Authorization": shown}).status == 200
            assert running.predict(("a.png", picture(1)), Authorization=shown).status == 200
        foreign = {"Authorization": f"Basic {basic}", "Origin": "http://evil.example"}
        assert running.predict(("a.png", picture(1)), **foreign).status == 403
        assert running.ask("GET", "/livez").status == 200


def test_every_answer_carries_the_security_headers(web):
    asked = [web.ask("GET", path) for path in ("/", "/docs", "/v1/model", "/nope", "/metrics", "/livez")]
    asked += [
        web.predict(("a.png", b"x")),
        web.ask("GET", "/", headers={"Host": "evil"}),
        web.ask("OPTIONS", "/"),
    ]
    for reply in asked:
        assert {name: reply.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert "access-control-allow-origin" not in reply.headers
        assert "server" not in reply.headers
    assert "unsafe-inline" not in SECURITY_HEADERS["content-security-policy"]


def test_a_public_address_needs_a_token(tmp_path):
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert is_loopback(host)
        require_token_for(host, None)
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.org", ""):
        with pytest.raises(SettingsError, match="token"):
            require_token_for(host, None)
        require_token_for(host, TOKEN)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file) == TOKEN
    for bad in ("", "short", "two words of enough letters", "ümlaute-von-genügender-länge"):
        file.write_text(bad)
        with pytest.raises(SettingsError, match="16 ASCII"):
            read_token(file)
    with pytest.raises(SettingsError, match="must hold the token"):
        read_token(tmp_path / "none")


def test_a_fault_inside_shows_no_trace(web, monkeypatch, capfd):
    def fail(*_):
        raise RuntimeError("secret inner state")

    monkeypatch.setattr("kerasall.serving.web.rest_api.describe_answer", fail)
    reply = web.predict(("a.png", picture(1)))
    assert reply.status == 500
    assert "secret" not in reply.body.decode()
    assert "Traceback" not in reply.body.decode()
    assert reply.headers["x-content-type-options"] == "nosniff"


# ---- time (12, 13) ----------------------------------------------------------


def test_slow_headers_and_slow_bodies_are_cut_off(web, nothing_kept):
    started = time.monotonic()
    assert raw(web.port, b"GET / HTTP/1.1\r\nHost: local", until=10) == b""
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\nContent-Type: "
    begun = form([("a.png", picture(1))])[:150]
    slow = raw(
        web.port,
        head + KIND["Content-Type"].encode() + b"\r\n\r\n" + begun,
        *[b"x"] * 12,
        pause=0.1,
        until=10,
    )
    assert slow.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < 12


def test_clients_that_leave_in_the_middle_leave_nothing_behind(web, nothing_kept):
    body = form([("a.bmp", picture(1, "BMP", (300, 300)))])
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nContent-Type: " % len(body)
    threads = threading.active_count()
    for cut in (0, 100, len(body) // 2, len(body)):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", web.port)) as connection:
                connection.sendall(head + KIND["Content-Type"].encode() + b"\r\n\r\n" + body[:cut])
    web.require_nothing_held()
    assert "kerasall_waiting_images 0.0" in web.ask("GET", "/metrics").body.decode()
    assert threading.active_count() <= threads + 1


def test_garbage_instead_of_http_is_answered_400(web, nothing_kept):
    for garbage in (b"\x16\x03\x01\x02\x00" * 10 + b"\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"G" * 70_000):
        assert b" 400 " in raw(web.port, garbage)[:40]
    upgrade = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n"
    assert b" 200 " in raw(web.port, upgrade)[:40]
