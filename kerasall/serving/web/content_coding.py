"""Bodies that come compressed: gzip is opened while it streams in, within the limits; other codings are refused by name."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from kerasall.serving.web.limits import Refusal

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]

_GZIP = frozenset({"gzip", "x-gzip"})
_PIECE = 1 << 16
_SLACK = 1 << 12
_SLOWEST = 48 << 20


def open_body(
    headers: Iterable[tuple[bytes, bytes]], receive: Receive, hold: Callable[[int], None], most: int
) -> Receive:
    """What receives the body as it was before the client compressed it.

    Args:
        headers: of the request, names in small letters.
        receive: gives the body's messages as they came.
        hold: told of the bytes that come out, before they are handed on; refuses what is too much at once.
        most: bytes of an opened body.

    Raises:
        Refusal: 415 a coding other than gzip, or several.
    """
    named = (
        b",".join(value for name, value in headers if name == b"content-encoding").decode("latin-1").lower()
    )
    codings = [
        coding for coding in (part.strip() for part in named.split(",")) if coding not in ("", "identity")
    ]
    if not codings:
        return receive
    if len(codings) > 1 or codings[0] not in _GZIP:
        raise Refusal(
            415,
            f"Content-Encoding must be gzip or be left out, but is {', '.join(codings)[:80]}: send the body as it is",
            {"Accept-Encoding": "gzip"},
        )
    return _Gunzip(receive, hold, most).receive


class _Gunzip:
    """Opens one gzip stream in pieces, each handed on before the next is made: a bomb costs no more than its limit."""

    def __init__(self, receive: Receive, hold: Callable[[int], None], most: int):
        self._receive, self._hold, self._most = receive, hold, most
        self._stream = zlib.decompressobj(wbits=31)
        self._waiting, self._more = b"", True
        self._full = False  # the last piece was: the stream may have more to give without more input
        self._came, self._made, self._seconds = 0, 0, 0.0
        self._told = False

    async def receive(self) -> Message:
        while self._more or self._waiting or self._full:
            if not self._waiting and not self._full:
                message = await self._receive()
                if message["type"] != "http.request":
                    return message
                self._waiting, self._more = message.get("body", b""), message.get("more_body", False)
                self._came += len(self._waiting)
            if piece := self._open():
                await asyncio.sleep(0)  # others get their turn between the pieces of a large body
                return {"type": "http.request", "body": piece, "more_body": True}
        if self._told:
            return await self._receive()
        if self._came and not self._stream.eof:
            raise _broken("is cut off")
        self._told = True
        return {"type": "http.request", "body": b"", "more_body": False}

    def _open(self) -> bytes:
        if self._stream.eof and self._waiting:
            raise _broken("goes on after its end")
        begun = time.thread_time()
        try:
            piece = self._stream.decompress(self._waiting, _PIECE)
        except zlib.error:
            raise _broken("is damaged") from None
        self._seconds += time.thread_time() - begun
        self._waiting = self._stream.unconsumed_tail or self._stream.unused_data
        self._full = len(piece) == _PIECE
        self._made += len(piece)
        self._hold(len(piece))
        self._require_bounds()
        return piece

    def _require_bounds(self) -> None:
        if self._made > self._most:
            raise Refusal(
                413, f"a request must have at most {self._most:,} bytes with its gzip opened, but has more"
            )
        # Packing makes nothing longer by more than a hundredth, and opens some hundred megabytes a second: what does
        # not was made to cost time.
        longer = self._came - len(self._waiting) > 1.01 * self._made + _SLACK
        if longer or self._seconds > 0.05 + self._most / _SLOWEST:
            raise _broken("costs more than what it holds")


def _broken(found: str) -> Refusal:
    return Refusal(
        400, f"the body must be one whole gzip stream, as Content-Encoding says, but {found}: send it again"
    )
