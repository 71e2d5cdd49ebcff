"""What other systems send by habit: TensorFlow Serving's clients, proxies, orchestrators, browsers and curl."""

from __future__ import annotations

import base64
import gzip
import json
import random
import zlib

import numpy as np
import pytest
from test_web_door import KIND, raw
from web_server import BOUNDARY, LIMITS, NAME, Reply, Running, form, picture, serving

from kerasall.errors import SettingsError
from kerasall.serving.web.middleware import host_name
from kerasall.serving.web.rest_api import decode_base64
from kerasall.serving.web.server import LOOPBACK_NAMES, read_host, read_root
from kerasall.serving.web.uploads import read_disposition

IMAGE = picture(1, size=(40, 30))
BASE64 = base64.b64encode(IMAGE).decode()


def call(web: Running, body: bytes | str, path: str = f"/v1/models/{NAME}:predict", **headers: str) -> Reply:
    return web.ask("POST", path, body, headers)


@pytest.fixture(scope="module")
def want(web) -> dict:
    """The answer to ``IMAGE`` in the usual form."""
    return web.call(IMAGE).json["predictions"][0]


# ---- base64 -------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        base64.encodebytes(IMAGE).decode(),
        base64.encodebytes(IMAGE).decode().replace("\n", "\r\n"),
        BASE64.rstrip("="),
        base64.urlsafe_b64encode(IMAGE).decode(),
        base64.urlsafe_b64encode(IMAGE).decode().rstrip("="),
        f"  {BASE64[:7]} {BASE64[7:]}\t\n",
        "\n".join(BASE64),
    ],
    ids=["rfc_2045", "crlf", "unpadded", "for_addresses", "for_addresses_unpadded", "blanks", "letters"],
)
def test_base64_as_tensorflow_serving_takes_it(web, want, text):
    for instance in ({"b64": text}, {"image_bytes": {"b64": text}}):
        assert web.call(body={"instances": [instance]}).json["predictions"] == [want]
    outputs = web.call(body={"inputs": {"image_bytes": [{"b64": text}]}}).json["outputs"]
    assert {name: values[0] for name, values in outputs.items()} == want


@pytest.mark.parametrize("size", range(7))
def test_every_length_is_read_with_and_without_padding(size):
    data = bytes(range(249, 249 + size)) if size < 7 else b""
    for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes):
        text = encode(data).decode()
        assert decode_base64(text) == decode_base64(text.rstrip("=\n")) == data


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "QQ=",
        "QQ=Q",
        "Q",
        "QQQQQ",
        "=",
        "QQ===",
        "Q=Q=",
        "é",
        "A+B_",
        "data:image/png;base64,QUJD",
        "QQ..",
    ],
)
def test_wrong_base64_is_refused_with_the_number_of_its_instance(web, text):
    with pytest.raises(ValueError):  # noqa: PT011  of several kinds
        decode_base64(text)
    reply = web.call(body={"instances": [{"b64": BASE64}, {"b64": text}]})
    assert reply.status == 400
    assert "instance 1 must be" in reply.json["error"]


def test_json_as_shells_and_editors_write_it(web, want):
    wrapped = base64.encodebytes(IMAGE).decode()
    for body in (
        b"\xef\xbb\xbf" + json.dumps({"instances": [{"b64": BASE64}]}).encode(),
        f'{{"instances": [{{"b64": "{wrapped}"}}]}}\r\n',  # line ends as they are, inside of the text
    ):
        assert call(web, body).json["predictions"] == [want]
    kinds = ("application/json", "application/x-www-form-urlencoded", "text/plain", "")
    for kind in kinds:
        assert call(web, json.dumps({"instances": [{"b64": BASE64}]}), **{"Content-Type": kind}).status == 200


def test_what_tensorflow_serving_refuses_is_refused_with_words(web):
    named = {"signature_name": "nonsense", "instances": [{"b64": BASE64}]}
    assert '"nonsense"' in web.call(body=named).json["error"]
    for name in (None, 3, ["serving_default"]):
        assert web.call(body=named | {"signature_name": name}).status == 400
    for name in ("", "serving_default"):
        assert web.call(body=named | {"signature_name": name}).status == 200
    for base in (f"/v1/models/{NAME}", f"/v1/models/{NAME}/versions/1"):
        for verb in ("classify", "regress"):
            reply = call(web, json.dumps({"examples": [{}]}), f"{base}:{verb}")
            assert (reply.status, f":{verb}" in reply.json["error"]) == (400, True)
        shown = web.ask("GET", f"{base}:predict")
        assert (shown.status, shown.headers["allow"]) == (405, "POST")
        assert web.ask("GET", base).json["model_version_status"][0]["state"] == "AVAILABLE"
        assert "serving_default" in web.ask("GET", f"{base}/metadata").body.decode()
    for path in (
        "/v1/models/other:predict",
        f"/v1/models/{NAME}/versions/7:predict",
        "/v1/models/other:classify",
    ):
        assert call(web, "{}", path).status == 404


def test_no_images_in_columns_are_answered_by_no_rows(web, want):
    for inputs in ([], {"image_bytes": []}):
        outputs = web.call(body={"inputs": inputs}).json["outputs"]
        assert outputs == {name: [] for name in want}
    assert web.call(body={"instances": []}).status == 400  # as there


# ---- compressed bodies --------------------------------------------------------


def test_gzip_is_opened_everywhere_and_chunked_too(web, want):
    body = json.dumps({"instances": [{"b64": BASE64}]}).encode()
    for coding in ("gzip", "GZIP", "x-gzip", "identity, gzip"):
        assert call(web, gzip.compress(body), **{"Content-Encoding": coding}).json["predictions"] == [want]
    for coding in ("identity", ""):
        assert call(web, body, **{"Content-Encoding": coding}).json["predictions"] == [want]
    packed = gzip.compress(form([("a.png", IMAGE)]))
    pieces = (packed[start : start + 100] for start in range(0, len(packed), 100))
    headers = KIND | {"Content-Encoding": "gzip"}
    assert web.ask("POST", "/v1/predict", pieces, headers, encode_chunked=True).status == 200
    assert web.ask("POST", "/", packed, headers).status == 200
    web.require_nothing_held()


@pytest.mark.parametrize(
    "coding", ["deflate", "br", "zstd", "compress", "gzip, gzip", "gzip, br", "nonsense"]
)
def test_other_codings_are_refused_by_name(web, coding):
    for path in ("/v1/predict", f"/v1/models/{NAME}:predict"):
        reply = call(web, b"some bytes", path, **{"Content-Encoding": coding})
        assert (reply.status, reply.headers["accept-encoding"]) == (415, "gzip")
        assert coding in reply.json["error"]


def test_gzip_keeps_to_the_limit_of_a_body(web):
    zeros = bytes(40 * LIMITS.max_body_bytes)
    bombs = [("/v1/predict", form([("a.png", zeros)]), KIND), (f"/v1/models/{NAME}:predict", zeros, {})]
    for path, body, headers in bombs:
        bomb = gzip.compress(body, 1)
        assert len(bomb) < LIMITS.max_body_bytes
        reply = web.ask("POST", path, bomb, headers | {"Content-Encoding": "gzip"})
        assert (reply.status, "gzip opened" in reply.json["error"]) == (413, True)
    web.require_nothing_held()


def test_what_is_opened_counts_among_what_the_server_holds(web_model):
    with serving(web_model, max_held_bytes=100_000) as running:
        packed = gzip.compress(bytes(200_000))
        assert call(running, packed, **{"Content-Encoding": "gzip"}).status == 503
        running.require_nothing_held()
        assert running.predict(("a.png", IMAGE)).status == 200


def broken_streams() -> dict[str, bytes]:
    whole = gzip.compress(random.Random(0).randbytes(5000))
    flipped = bytearray(whole)
    flipped[-6] ^= 1
    header = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    return {
        "cut": whole[:-3], "begun": whole[:5], "none": b"plain text", "tail": whole + b"x", "twice": whole * 2,
        "crc": bytes(flipped), "zlib": zlib.compress(b"{}"), "endless_name": header[:3] + b"\x08" + header[4:] + b"a" * 99_999,
        "empty_blocks": header + b"\x00\x00\x00\xff\xff" * 99_999,
    }  # fmt: skip


@pytest.mark.parametrize("name", broken_streams())
def test_broken_gzip_is_refused_with_words(web, name):
    reply = call(web, broken_streams()[name], **{"Content-Encoding": "gzip"})
    assert (reply.status, "gzip" in reply.json["error"]) == (400, True)


# ---- proxies ------------------------------------------------------------------

NGINX = (
    b"POST %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\nContent-Type: %s\r\n%s\r\n%s"
)


def through_nginx(web: Running, host: str, more: str = "", path: str = "/v1/predict") -> tuple[int, dict]:
    """A form as nginx passes it on when nothing is set: HTTP/1.0, Connection: close, its own name for the server."""
    body = form([("a.png", IMAGE)])
    sent = NGINX % (
        path.encode(),
        host.encode(),
        len(body),
        KIND["Content-Type"].encode(),
        more.encode(),
        body,
    )
    head, _, content = raw(web.port, sent).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)


def test_what_nginx_changed_is_named_with_the_cure(web):
    own = f"127.0.0.1:{web.port}"
    assert through_nginx(web, own)[0] == 200  # a program sends no Origin
    status, body = through_nginx(web, own, "Origin: https://cells.example.org\r\n")
    assert status == 403
    for said in (
        "Origin",
        "https://cells.example.org",
        own,
        "proxy_set_header Host $http_host;",
        "--allow-host",
    ):
        assert said in body["error"]
    status, body = through_nginx(web, "kerasall_backend")
    assert status == 421
    for said in ("Host", '"kerasall_backend"', "localhost", "--allow-host"):
        assert said in body["error"]
    status, body = through_nginx(web, own, "Sec-Fetch-Site: cross-site\r\n")
    assert (status, "Sec-Fetch-Site" in body["error"], "cross-site" in body["error"]) == (403, True, True)


def test_with_the_name_handed_on_the_page_works_behind_a_proxy(web_model):
    with serving(web_model, hosts=LOOPBACK_NAMES | {"cells.example.org"}) as running:
        for host, origin in (
            ("cells.example.org", "https://cells.example.org"), ("cells.example.org:443", "https://cells.example.org"),
            ("cells.example.org", "http://cells.example.org:80"), ("Cells.Example.org:8080", "http://cells.example.org:8080"),
            ("[::1]:9", "http://[::1]:9"),
        ):  # fmt: skip
            assert (
                through_nginx(running, host, f"Origin: {origin}\r\nSec-Fetch-Site: same-origin\r\n")[0] == 200
            )
        for origin in (
            "https://cells.example.org:444",
            "null",
            "cells.example.org",
            "https://",
            "https://a.cells.example.org",
        ):
            assert through_nginx(running, "cells.example.org", f"Origin: {origin}\r\n")[0] == 403


def test_what_a_client_says_was_forwarded_counts_for_nothing(web):
    told = (
        "X-Forwarded-Host: localhost\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 127.0.0.1\r\n"
        "X-Forwarded-Prefix: //evil.example\r\nForwarded: host=localhost\r\nX-Real-IP: 127.0.0.1\r\n"
    )
    assert through_nginx(web, "evil.example", told)[0] == 421
    own = f"127.0.0.1:{web.port}"
    assert (
        through_nginx(
            web, own, told.replace("localhost", "evil.example") + "Origin: http://evil.example\r\n"
        )[0]
        == 403
    )
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "//evil.example"}
    assert "evil.example" not in web.ask("GET", "/", headers=headers).body.decode()


@pytest.mark.parametrize("prefix", ["", "/lab/kerasall"], ids=["taken_off", "left_on"])
def test_below_a_path_page_links_and_api_work_whatever_the_proxy_does(web_model, prefix):
    root = "/lab/kerasall"
    with serving(web_model, root=root) as running:
        for path in (
            "/",
            "",
            "/docs",
            "/docs/",
            "/static/page.js",
            "/v1/model",
            "/readyz",
            f"/v1/models/{NAME}/metadata",
        ):
            assert running.ask("GET", (prefix + path) or "/").status == 200, path
        page = running.ask("GET", f"{prefix}/").body.decode()
        links = [
            part.partition('"')[0]
            for mark in ("href=", "src=", "action=")
            for part in page.split(f'{mark}"')[1:]
        ]
        assert all(link.startswith((f"{root}/", "#", "data:")) for link in links)
        assert f'data-root="{root}"' in page
        assert running.ask("GET", f"{prefix}/openapi.json").json["servers"] == [{"url": root}]
        assert f"{root}/v1/predict" in running.ask("GET", f"{prefix}/docs").body.decode()
        assert running.predict(("a.png", IMAGE), path=f"{prefix}/v1/predict").status == 200
        assert f'action="{root}/"' in running.predict(("a.png", IMAGE), path=f"{prefix}/").body.decode()
        assert running.ask("GET", "/lab/kerasallies").status == 404


def test_the_path_and_names_of_a_proxy_are_checked_at_the_start():
    for given, read in {"": "", "/": "", "/kerasall": "/kerasall", "/lab/k.a-l_1~/": "/lab/k.a-l_1~"}.items():
        assert read_root(given) == read
    for wrong in (
        "kerasall",
        "//evil.example",
        "/a//b",
        "/a b",
        '/"',
        "/a/../b",
        "/ü",
        "https://x/y",
        "/a?b",
        "/<b>",
    ):
        with pytest.raises(SettingsError, match="--root-path"):
            read_root(wrong)
    for given, read in {
        "Cells.example.org": "cells.example.org",
        "h:8501": "h",
        "h.": "h",
        "[::1]:80": "::1",
        "::1": "::1",
    }.items():
        assert read_host(given) == read
    for wrong in ("", "https://h/", "h/x", "a b", "*"):
        with pytest.raises(SettingsError, match="--allow-host"):
            read_host(wrong)
    assert [host_name(text) for text in ("a@H:1", "[::1]:5", "")] == ["h", "::1", ""]


# ---- names of files -----------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("filename*=UTF-8''caf%C3%A9%20%E7%99%BD.png", "café 白.png"),
        ("filename*=utf-8'en'a.png", "a.png"),
        ("filename*=iso-8859-1''caf%E9.png", "café.png"),
        ("FileName*=UTF-8''a.png", "a.png"),
        ("filename*=\"UTF-8''a%20b.png\"", "a b.png"),
        ("filename*=a.png", "a.png"),
        ("filename=\"=?utf-8?B?Y2Fm?=\"; filename*=utf-8''caf.png", "caf.png"),
        ("filename*=utf-8''caf.png; filename=plain.png", "caf.png"),
        ("filename*=UTF-8''; filename=plain.png", "plain.png"),
        ("filename*0=\"long \"; filename*1=\"name.png\"", "long name.png"),
        ("filename*=UTF-8''..%2F..%5Cetc%2Fa%00%0D%0A.png", "a\ufffd\ufffd\ufffd.png"),
        ("filename*=UTF-8''%22q%22;x.png", '"q"'),
        ("filename*=UTF-8''%FF%FE", "\ufffd\ufffd"),
        ("filename*=klingon''a.png", "a.png"),
        ("filename*=UTF-8''", "image 1"),
        ("filename=\"a; filename*=UTF-8''evil.png\"", "a; filename*=UTF-8''evil.png"),
        ('filename="a\\"b.png"', 'a"b.png'),
    ],
)  # fmt: skip
def test_names_after_rfc_5987_alone_and_beside_a_plain_one(web, header, name):
    body = form([("x", IMAGE)]).replace(b'filename="x"', header.encode())
    reply = web.ask("POST", "/v1/predict", body, KIND)
    assert [result["name"] for result in reply.json["results"]] == [name]


def test_a_field_without_a_file_name_is_no_file():
    assert read_disposition(b'form-data; name="label"') == ("label", None)
    assert read_disposition(b'form-data; name="files"; note="filename*=UTF-8\'\'x"') == ("files", None)
    assert read_disposition(b"") == ("", None)


@pytest.mark.parametrize("kind", ["image/png", "image/x-anything; q=1", "application/octet-stream"])
def test_an_image_as_the_whole_body(web, want, kind):
    result = web.ask("POST", "/v1/predict", IMAGE, {"Content-Type": kind}).json["results"][0]
    assert list(result["probabilities"].values()) == want["probabilities"]
    assert web.ask("POST", "/v1/predict", b"", {"Content-Type": kind}).status == 400
    assert web.ask("POST", "/v1/explain", IMAGE, {"Content-Type": kind}).status == 415


# ---- orchestrators, browsers, curl --------------------------------------------

READABLE = ("/", "/docs", "/livez", "/readyz", "/metrics", "/v1/model", "/openapi.json", "/static/page.css",
            f"/v1/models/{NAME}", f"/v1/models/{NAME}/metadata")  # fmt: skip


@pytest.mark.parametrize("path", READABLE)
def test_head_is_get_without_a_body_and_a_slash_at_the_end_is_passed_over(web, path):
    shown, head, slash = (
        web.ask(*asked) for asked in (("GET", path), ("HEAD", path), ("GET", f"{path.rstrip('/')}/?a=b"))
    )
    assert (shown.status, head.status, slash.status) == (200, 200, 200)
    assert head.body == b""
    for name in ("content-type", *(["content-length"] if path != "/metrics" else [])):
        assert head.headers[name] == shown.headers[name] == slash.headers[name]


def test_head_while_loading_of_nothing_and_with_a_token(web, web_model):
    assert web.ask("HEAD", "/nothing").status == 404
    assert web.ask("HEAD", "/v1/predict").status == 405
    with serving(web_model, token="a-token-of-enough-letters", hosts=None, ready=False) as running:
        assert running.ask("HEAD", "/livez").status == 200
        assert running.ask("HEAD", "/").status == 401
        assert running.ask("HEAD", "/readyz").status in (200, 503)
        running.wait_until_ready()
    one = raw(
        web.port,
        b"HEAD /readyz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    assert one.count(b"HTTP/1.1 200") == 2  # nothing of a body came between them
    assert one.endswith(b"alive\n")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("GET /favicon.ico HTTP/1.1", 404), ("GET /robots.txt HTTP/1.1", 404), ("OPTIONS / HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 404), ("OPTIONS /v1/predict HTTP/1.1", 405), ("post /v1/predict HTTP/1.1", 405),
        ("get / HTTP/1.1", 405), ("PUT /v1/model HTTP/1.1", 405), ("TRACE / HTTP/1.1", 405), ("GET //readyz HTTP/1.1", 404),
        ("GET /%2e%2e/ HTTP/1.1", 404), ("GET /readyz?verbose=1&x=%ff HTTP/1.1", 200), ("GET /readyz HTTP/1.0", 200),
        ("GET http://localhost/readyz HTTP/1.1", 404), ("GET /readyz#x HTTP/1.1", 404), ("GET /v1/models HTTP/1.1", 404),
        ("GET /healthz HTTP/1.1", 404), ("CONNECT localhost:1 HTTP/1.1", 404),
    ],
)  # fmt: skip
def test_odd_requests_get_a_sensible_answer(web, asked, status):
    headers = "\r\nHost: localhost\r\nAccept: text/html,*/*;q=0.1\r\nAccept-Encoding: gzip, br\r\nConnection: close\r\n\r\n"
    reply = raw(web.port, (asked + headers).encode())
    assert int(reply.split()[1]) == status, reply
    assert web.failures == []


def test_curl_waits_for_a_word_before_it_sends_much(web):
    body = form([("a.png", IMAGE)])
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        "Expect: 100-continue\r\nConnection: close\r\nContent-Length: "
    )
    reply = raw(web.port, f"{head}{len(body)}\r\n\r\n".encode(), body)
    assert reply.startswith(b"HTTP/1.1 100")
    assert b"HTTP/1.1 200" in reply
    refused = raw(web.port, f"{head}{LIMITS.max_body_bytes + 1}\r\n\r\n".encode(), until=0.5)
    assert refused.startswith(b"HTTP/1.1 413")  # without the word to go on
    foreign = raw(web.port, f"{head}{len(body)}\r\nOrigin: http://evil.example\r\n\r\n".encode(), until=0.5)
    assert foreign.startswith(b"HTTP/1.1 403")


def test_answers_of_the_same_image_are_the_same_in_every_form(web, want):
    usual = web.predict(("a.png", IMAGE)).json["results"][0]
    np.testing.assert_allclose(list(usual["probabilities"].values()), want["probabilities"], atol=1e-6)
