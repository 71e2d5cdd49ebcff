"""Connections: how many, how long each may take, what each may cost the event loop; and a log that no client can fill.

uvicorn counts requests and not connections, waits without end for headers and for a client to read its answer, and tells
of every broken request.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import math
import time
from contextlib import suppress
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from kerasall.serving.web.limits import WebLimits

BACKLOG = 64
"""Connections that the event loop takes in one go, before it looks at any of them."""
_OTHER_FILES = 128
_FREE_CHUNKS, _CHUNK_BYTES = 256, 512
_MINUTE = 60.0
_M_MMAP_THRESHOLD = -3
_LOGGER = logging.getLogger("uvicorn.error")


def find_room(wanted: int) -> int:
    """How many connections may be open, of those wanted, so that the process never runs out of files.

    Raises the process' own limit of open files first, as far as it may.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    reserve = _OTHER_FILES + 4 * BACKLOG  # those just taken, and those just closed, have their files still
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + reserve
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    most = math.inf if soft == resource.RLIM_INFINITY else max(soft - reserve, soft // 4)
    return int(min(wanted, most))


def make_protocol(limits: WebLimits) -> type[H11Protocol]:
    """A protocol whose connections, over all of one server, keep to the limits."""
    places = {"limits": limits, "room": Room(find_room(limits.connections))}
    return type("GuardedProtocol", (GuardedProtocol,), places)


class Room:
    """The open connections of a server: those with a request under way, and idle ones in the order in which they became so.

    Where one is too many, that which has waited longest without a request is closed for it: a client that opens many and
    holds them loses its own.

    Args:
        most: connections open at once.
    """

    def __init__(self, most: int):
        self.most = most
        self.idle: dict[GuardedProtocol, None] = {}
        self.busy: set[GuardedProtocol] = set()

    def enter(self, newest: GuardedProtocol) -> None:
        """Takes one in, and closes another, or itself, where there are too many."""
        self.idle[newest] = None
        if len(self.idle) + len(self.busy) > self.most:
            _LOGGER.warning("more than %d connections: the longest idle are closed", self.most)
            oldest = next(iter(self.idle))
            self.leave(oldest)
            oldest.transport.abort()

    def note(self, connection: GuardedProtocol, answering: bool) -> None:
        """Notes whether a connection has a request under way; one that was closed to make room stays out."""
        if connection not in self.busy and connection not in self.idle:
            return
        if answering:
            self.idle.pop(connection, None)
            self.busy.add(connection)
        else:
            self.busy.discard(connection)
            self.idle.setdefault(connection)

    def leave(self, connection: GuardedProtocol) -> None:
        """Forgets a connection that is closed."""
        self.idle.pop(connection, None)
        self.busy.discard(connection)


class GuardedProtocol(H11Protocol):
    """uvicorn's protocol with a clock on headers and on reading, a count of chunks, and a place in the room."""

    limits: WebLimits
    room: Room
    _headers_timer: asyncio.TimerHandle | None = None
    _reading_timer: asyncio.TimerHandle | None = None
    _chunks = 0
    _chunk_bytes = 0
    _problem = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._next_event, self.conn.next_event = self.conn.next_event, self._count_chunks  # type: ignore[method-assign]
        self.room.enter(self)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.room.leave(self)
        for timer in (self._headers_timer, self._reading_timer):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        """The client does not read: its answer is kept for so long and no longer."""
        super().pause_writing()
        if self._reading_timer is None:
            self._reading_timer = self.loop.call_later(self.limits.reading_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reading_timer is not None:
            self._reading_timer.cancel()
            self._reading_timer = None

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: what asks for HTTP/2 or a socket by habit is answered in HTTP/1.1 all the same."""

    def send_400_response(self, msg: str) -> None:
        """Also in the middle of a request, of which the application then hears that its client left."""
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
                return
        super().send_400_response(self._problem or msg)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        self.room.note(self, self._is_answering())
        if not self._is_answering():
            if self._headers_timer is None and not self.transport.is_closing():
                self._headers_timer = self.loop.call_later(self.limits.header_seconds, self._give_up)
        elif self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _give_up(self) -> None:
        self._headers_timer = None
        if not self._is_answering():
            self.transport.close()

    def _count_chunks(self) -> Any:
        """A chunk costs the event loop as much as a packet, though it may hold one byte."""
        event = self._next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._chunk_bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._chunk_bytes += len(event.data)
            if self._chunks > _FREE_CHUNKS + self._chunk_bytes / _CHUNK_BYTES:
                self._problem = f"chunks must have {_CHUNK_BYTES} bytes or more where they are many"
                raise h11.RemoteProtocolError(self._problem)
        return event


class OncePerMinute(logging.Filter):
    """Lets each kind of message pass once a minute, with the number of those held back since the last."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = str(record.msg).split(":")[0], time.monotonic()
        if now - self._shown.get(kind, -math.inf) < _MINUTE:
            self._held[kind] = self._held.get(kind, 0) + 1
            return False
        self._shown[kind] = now
        if held := self._held.pop(kind, 0):
            record.msg, record.args = f"{record.getMessage().rstrip()} ({held:,} more since the last)", ()
        return True


def give_memory_back() -> None:
    """Has glibc map each large piece of memory by itself, and so give it back when it is freed.

    It would raise the size from which it does so to that of the uploads, which then lie among small pieces that stay.
    """
    with suppress(AttributeError, OSError, TypeError):  # another libc
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def spare_log() -> None:
    """What clients can provoke is told once a minute; of a fault the first trace is kept whole."""
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        if not any(isinstance(each, OncePerMinute) for each in logger.filters):
            logger.addFilter(OncePerMinute())
