"""The listening socket, the process' signals and the clock on connections: uvicorn, set up tightly."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kerasall.errors import SettingsError
from kerasall.serving.runtimes import RuntimeChoice
from kerasall.serving.web.app import create_app
from kerasall.serving.web.limits import WebLimits

_SHORTEST_TOKEN = 16
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def serve(
    folder: str | Path,
    host: str,
    port: int,
    *,
    token: str | None = None,
    hosts: tuple[str, ...] = (),
    limits: WebLimits | None = None,
    runtime: RuntimeChoice | None = None,
) -> None:
    """Serves one SavedModel until SIGTERM or SIGINT, then finishes what is under way and returns.

    Args:
        folder: ``savedmodels/<experiment>[/<version>]``.
        host: address to listen on.
        port: 0 takes a free one.
        token: what clients must show; needed where ``host`` is not a loopback address.
        hosts: further names under which clients reach a loopback address, through a proxy for example.
        limits: sizes, counts and times.
        runtime: what computes the answers; default TensorFlow, in float32.

    Raises:
        SettingsError: a public address without a token, or an address that cannot be listened on.
        KerasallError: the model is broken or does not fit.
    """
    limits = limits or WebLimits()
    require_token_for(host, token)
    names = LOOPBACK_NAMES | {host.lower(), *map(str.lower, hosts)} if is_loopback(host) else None
    listening = _listen(host, port)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it tells of every broken form
    faults: list[BaseException] = []

    def stop_failed(error: BaseException) -> None:
        faults.append(error)
        server.should_exit = True

    app = create_app(folder, limits=limits, token=token, hosts=names, runtime=runtime, failed=stop_failed)
    server = uvicorn.Server(_configure(app, limits))
    # uvicorn ends by raising the signal anew: a stop that was asked for shall end with status 0.
    kept = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        print(f"serving on {describe_address(listening)} (Ctrl+C stops)", file=sys.stderr, flush=True)
        server.run(sockets=[listening])
    finally:
        listening.close()
        for number, handler in kept.items():
            signal.signal(number, handler)
    if faults:
        raise faults[0]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def require_token_for(host: str, token: str | None) -> None:
    """Refuses to open a public address to everybody.

    Raises:
        SettingsError: ``host`` is no loopback address and there is no token.
    """
    if token is None and not is_loopback(host):
        raise SettingsError(
            f"a token must guard a public address, but --host {host} came without one: give --token-file, "
            "or listen on 127.0.0.1"
        )


def read_token(path: Path) -> str:
    """The token in a file: one line of at least 16 visible ASCII characters.

    Raises:
        SettingsError: it is not such a line.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} must hold the token, but reading it failed: {error}") from None
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(
            f"{path} must hold one word of at least {_SHORTEST_TOKEN} ASCII characters: "
            "make one with `openssl rand -hex 32`"
        )
    return token


def describe_address(listening: socket.socket) -> str:
    """``http://...`` of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise SettingsError(
            f"port {port} of {host} must be free to listen on, but is not ({error.strerror or error}): "
            "stop what listens there, or give another --port"
        ) from None


def _configure(app: Any, limits: WebLimits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_timed_protocol(limits.header_seconds),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,  # addresses and file names are nobody's business
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,  # the door refuses before, with words and headers
        timeout_keep_alive=5,
        timeout_graceful_shutdown=int(limits.drain_seconds),
    )


def _timed_protocol(seconds: float) -> type[H11Protocol]:
    class TimedProtocol(H11Protocol):
        """Closes a connection that takes its time with the headers; uvicorn alone would wait for ever."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._unwatch()

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._unwatch()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self._give_up)

        def _unwatch(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return TimedProtocol
