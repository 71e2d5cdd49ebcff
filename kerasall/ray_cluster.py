"""A cluster of Ray's, joined for the time of one command; Ray is an extra and is imported here alone.

Its reports of usage are turned off before it is imported. A cluster of this machine's own listens on loopback, asks for
a token that is made for it, and speaks to nobody else; one that is there already does as whoever started it said.
"""

# Ray is an extra: without it there is nothing here to check types against.
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from kerasall.errors import KerasallError, SettingsError

AUTO = "auto"
"""This machine's own cores, for this command alone, whatever RAY_ADDRESS says."""
_ADDRESS = re.compile(r"([\w.-]+|\[[\da-fA-F:]+\]):(\d{1,5})", re.ASCII)
_CONNECT_SECONDS = 5.0
"""Ray itself tries a port at which nobody listens for minutes."""

_STORE_BYTES = 80_000_000
"""Memory of a node's object store, where only names and rows lie; Ray's least is 75 MB, its default a third of the machine's."""


def require_address(address: str) -> tuple[str, int] | None:
    """The host and port of a head; None for ``AUTO``.

    Raises:
        SettingsError: it is neither: what else Ray takes would start a cluster without a token, or join any.
    """
    if address == AUTO:
        return None
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65536:
        raise SettingsError(
            f"--cluster must be {AUTO}, for this machine's own cores, or HOST:PORT of a head, but is {address!r}"
        )
    return found[1].strip("[]"), int(found[2])


@contextmanager
def joined(address: str, processes: int | None = None) -> Iterator[Any]:
    """Joins a cluster; yields the module ``ray``.

    Args:
        address: ``HOST:PORT`` of a head, or ``AUTO``.
        processes: of a cluster of this machine's own; by default as many as it has cores.

    Raises:
        SettingsError: the address is of another kind, or Ray is not installed.
        KerasallError: nothing of Ray's answers at the address, or it asks for another token.
    """
    head = require_address(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    options: dict[str, Any] = {"address": address}
    if head is None:
        own = {
            "RAY_worker_niceness": "0",  # as the command without a cluster; Ray's default is 15
            "RAY_AUTH_MODE": "token",
            # Ray reads it once a process: a second cluster has that of the first.
            "RAY_AUTH_TOKEN": os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux, too, what keeps a node on loopback
        }
        os.environ.update(own)
        options = {
            "address": "local", "num_cpus": processes, "include_dashboard": False,
            "object_store_memory": _STORE_BYTES, "_node_ip_address": "127.0.0.1",
        }  # fmt: skip
    try:
        import ray
        from ray.exceptions import RayError
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"--cluster needs the extra ray, but {error.name} is missing: pip install 'kerasall[ray]'"
        ) from None
    main = threading.current_thread() is threading.main_thread()
    stop = signal.getsignal(signal.SIGTERM)
    try:
        if head is not None:
            socket.create_connection(head, _CONNECT_SECONDS).close()
        with _without_dashboard() if head is None else nullcontext():
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError, RayError) as error:
        raise KerasallError(
            f"a cluster must answer at {address}, but joining it failed: {error}; start one as docs/cluster.md says, "
            "and give its token"
        ) from None
    if main:
        signal.signal(signal.SIGTERM, stop)  # Ray's own would end this process before it has tidied up
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _without_dashboard() -> Iterator[None]:
    """No process for Ray's web page: without a page it still asks for the cloud's metadata, reports of usage off or not."""
    from ray._private import services

    start = services.start_api_server
    services.start_api_server = lambda *_, **__: ("", None)
    try:
        yield
    finally:
        services.start_api_server = start


def count_cpus(ray: Any) -> int:
    """Processor cores of the cluster, as its nodes state them."""
    return int(ray.cluster_resources().get("CPU", 0))


def find_host(ray: Any) -> str:
    """The address of this machine by which other hosts of the cluster reach it."""
    return ray.util.get_node_ip_address()
