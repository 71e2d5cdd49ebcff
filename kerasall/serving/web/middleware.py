"""The door: every request passes it before anything else looks at it, every answer on its way out.

Coming in: the host name (against DNS rebinding), the origin (against forged requests from other pages),
the token, and the body's size and time while it streams. Going out: headers that keep a browser from
running, framing, guessing or storing what it was not given for that.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from kerasall.serving.web.limits import Refusal, WebLimits, busy

SECURITY_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    # Not no-referrer: with that, browsers hide the origin of the page's own form as well.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
OPEN_PATHS = frozenset({"/livez", "/readyz"})
"""Answered without a token: they say nothing but a word, and orchestrators ask them."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DISCARD_SECONDS = 2.0

Message = dict[str, Any]
Scope = Mapping[str, Any]


class Door:
    """Wraps an ASGI application.

    Args:
        app: what lies behind.
        limits: sizes and times.
        token: what programs and people must show; None asks for none.
        hosts: names (without port) that a request may address; None allows all.
        finished: told of every answer: scope, status.
    """

    def __init__(
        self,
        app: Any,
        limits: WebLimits,
        token: str | None = None,
        hosts: frozenset[str] | None = None,
        finished: Callable[[Scope, int], None] = lambda scope, status: None,
    ):
        self.app, self.limits, self.token, self.hosts, self.finished = app, limits, token, hosts, finished
        self.held_bytes = 0
        self.requests = 0
        self.arriving: dict[_Body, None] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._pass(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _pass(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        body = _Body(self, headers, receive)
        answer, limit = _Answer(body, send), self.limits.requests
        self.requests += 1
        try:
            require_host(headers, self.hosts)
            require_same_origin(scope["method"], headers)
            if scope["path"] not in OPEN_PATHS:
                require_token(headers, self.token)
                if self.requests > limit and not self.give_up_slowest(body):
                    raise busy(f"the server has {limit} requests under way: send this again in a moment")
            body.require_length()
            await self.app(scope, body.receive, answer.send)
        except Refusal as refusal:
            await answer.refuse(refusal)
        finally:
            self.requests -= 1
            self.arriving.pop(body, None)
            self.held_bytes -= body.held
            self.finished(scope, answer.status)

    def give_up_slowest(self, newest: _Body) -> bool:
        """Makes room: the upload that has been arriving longest ends. False where it is the newest itself, or there is none.

        A client that sends slowly, or stops, so takes the place of others no longer than until it is needed.
        """
        slowest = next((body for body in self.arriving if not body.given_up), newest)
        if slowest is not newest:
            slowest.give_up()
        return slowest is not newest


def require_host(headers: Mapping[str, str], hosts: frozenset[str] | None) -> None:
    """A page that bound its own name to this address would else be of the same origin as this server."""
    if hosts is None:
        return
    host = headers.get("host", "").rpartition("@")[2]
    name = host[: host.rfind(":")] if host.rfind(":") > host.rfind("]") else host
    if name.lower().strip("[]").rstrip(".") not in hosts:
        raise Refusal(
            421, "the Host header must name this server as it was started: use the address that it printed"
        )


def require_same_origin(method: str, headers: Mapping[str, str]) -> None:
    """A browser says where a request comes from; only this server's own page may send one that acts."""
    if method in _SAFE_METHODS:
        return
    site, origin = headers.get("sec-fetch-site", "same-origin"), headers.get("origin")
    foreign = origin is not None and origin.lower().partition("://")[2] != headers.get("host", "").lower()
    if site != "same-origin" or foreign:
        raise Refusal(403, "a browser must send this request from this server's own page: open the page anew")


def require_token(headers: Mapping[str, str], token: str | None) -> None:
    """``Authorization: Bearer TOKEN``, or Basic with the token as password and any user name."""
    if token is None:
        return
    kind, _, value = headers.get("authorization", "").partition(" ")
    shown = _basic_password(value) if kind.lower() == "basic" else value.strip()
    known = kind.lower() in ("basic", "bearer")
    if not hmac.compare_digest(shown.encode("utf-8"), token.encode("utf-8")) or not known:
        raise Refusal(
            401, "a token must be shown: as Authorization: Bearer TOKEN, or as the password in a browser",
            {"WWW-Authenticate": 'Basic realm="kerasall", charset="UTF-8"'},
        )  # fmt: skip


def _basic_password(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
    except ValueError:  # no base64, no ASCII, or no UTF-8 within
        return ""


class _Body:
    """A request's body as it streams in: counted, timed, and refused the moment it is too much."""

    def __init__(self, door: Door, headers: Mapping[str, str], receive: Any):
        self._door, self._limits, self._receive = door, door.limits, receive
        self._length = headers.get("content-length")
        self.pending = "transfer-encoding" in headers or self._length not in (None, "0")
        self.held = 0
        self.given_up = False
        self._deadline: float | None = None
        self._timer: asyncio.Timeout | None = None

    def require_length(self) -> None:
        if self._length is not None and (
            not self._length.isascii() or not self._length.isdigit() or len(self._length) > 18
        ):
            raise Refusal(400, "Content-Length must be a whole number")
        if self._length is not None and int(self._length) > self._limits.max_body_bytes:
            raise self._too_large()

    async def receive(self) -> Message:
        if not self.pending:
            return await self._receive()
        loop = asyncio.get_running_loop()
        self._deadline = self._deadline or loop.time() + self._limits.body_seconds
        self._door.arriving.setdefault(self)
        try:
            async with asyncio.timeout_at(self._deadline) as self._timer:
                message = await self._receive()
        except TimeoutError:
            if self.given_up:
                raise busy(
                    "the server needed the room of a body that arrived too slowly: send it again"
                ) from None
            raise Refusal(408, f"the body must arrive within {self._limits.body_seconds:g} s") from None
        finally:
            self._timer = None
        if message["type"] == "http.disconnect":
            self.pending = False
            raise Refusal(400, "the client left")  # nobody reads this
        self._count(message)
        return message

    def give_up(self) -> None:
        """Ends the wait for the rest."""
        self.given_up = True
        self._deadline = asyncio.get_running_loop().time()
        if self._timer is not None:
            self._timer.reschedule(self._deadline)

    def _count(self, message: Message) -> None:
        self.pending = message["type"] == "http.request" and message.get("more_body", False)
        if not self.pending:
            self._door.arriving.pop(self, None)
        size = len(message.get("body", b""))
        self.held += size
        self._door.held_bytes += size
        if self.held > self._limits.max_body_bytes:
            raise self._too_large()
        given_up = sum(body.held for body in self._door.arriving if body.given_up)
        if self._door.held_bytes - given_up > self._limits.max_held_bytes and not self._door.give_up_slowest(
            self
        ):
            raise busy("the server holds as many uploads as it may: send this one again in a moment")

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            f"a request must have at most {self._limits.max_body_bytes:,} bytes: send fewer or smaller images",
        )

    async def discard(self) -> None:
        """Reads on for a moment, so that the client, still sending, gets to see its answer."""
        if self.given_up:  # what it sent must go now
            self.pending = False
            return
        deadline = asyncio.get_running_loop().time() + _DISCARD_SECONDS
        try:
            async with asyncio.timeout_at(deadline):
                while self.pending:
                    message = await self._receive()
                    self.pending = message["type"] == "http.request" and message.get("more_body", False)
        except TimeoutError:
            self.pending = False


class _Answer:
    """What goes out: with the security headers; a connection whose body was not read to its end closes."""

    def __init__(self, body: _Body, send: Any):
        self._body, self._send = body, send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = message | {"headers": self._headers(message.get("headers", []))}
        elif message["type"] == "http.response.body" and not message.get("more_body") and self._body.pending:
            await self._send(message | {"more_body": True})
            await self._body.discard()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    def _headers(self, headers: Any) -> list[tuple[bytes, bytes]]:
        own = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
        kept = [(name, value) for name, value in headers if name.decode("latin-1") not in SECURITY_HEADERS]
        closing = [(b"connection", b"close")] if self._body.pending else []
        return [*kept, *own, *closing]

    async def refuse(self, refusal: Refusal) -> None:
        if self.status:
            raise refusal
        content = json.dumps({"error": refusal.message}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content)), **refusal.headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": content, "more_body": False})
