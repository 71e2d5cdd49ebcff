"""Serves an oracle to the workers of a distributed search.

Takes the place of keras-tuner's server, which ends up to twenty seconds late, waits for ever for a worker
that died after its last trial, and hangs when the oracle raises.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from kerasall.errors import KerasallError, SettingsError
from kerasall.taguchi.oracle import TaguchiOracle

_PAUSE_SECONDS = 0.2
_LINGER_SECONDS = 3.0


class _Servicer(OracleServicer):
    """keras-tuner's servicer, which notes when a worker last asked for a trial or ended one."""

    def __init__(self, oracle: TaguchiOracle) -> None:
        super().__init__(oracle)
        self.last_request = time.monotonic()

    def CreateTrial(self, request: Any, context: Any) -> Any:
        self.last_request = time.monotonic()
        return super().CreateTrial(request, context)

    def EndTrial(self, request: Any, context: Any) -> Any:
        self.last_request = time.monotonic()
        return super().EndTrial(request, context)


def serve_oracle(
    oracle: TaguchiOracle, grace_seconds: float = 60.0, watch: Callable[[], None] | None = None
) -> None:
    """Answers workers at KERASTUNER_ORACLE_IP:KERASTUNER_ORACLE_PORT until the experiment is done.

    A trial stays with its worker until that ends it: restart a dead worker under its own
    KERASTUNER_TUNER_ID. A worker that has no trial and is not heard of for ``grace_seconds`` is not waited for.

    Args:
        oracle: of the experiment.
        grace_seconds: how long a worker without a trial may be silent.
        watch: called several times a second; what it raises ends the service.

    Raises:
        SettingsError: the address cannot be served.
        KerasallError: the search was stopped, for example by trials that failed.
    """
    address = chief_address()
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    servicer = _Servicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise SettingsError(f"the chief must be able to listen at {address}, but cannot: choose another port")
    server.start()
    try:
        while not _is_over(oracle, servicer, grace_seconds):
            time.sleep(_PAUSE_SECONDS)
            if watch is not None:
                watch()
    finally:
        server.stop(grace=_LINGER_SECONDS).wait()
    if oracle.halted:
        raise KerasallError(oracle.halted)


def _is_over(oracle: TaguchiOracle, servicer: _Servicer, grace_seconds: float) -> bool:
    if oracle.ongoing_trials or not oracle.all_handed_out:
        return False
    everyone_knows = servicer.stop_triggered and not oracle.tuner_ids
    silence = time.monotonic() - servicer.last_request
    return silence > (_LINGER_SECONDS if everyone_knows else grace_seconds)


def wait_for_chief(timeout_seconds: float) -> None:
    """Waits until the chief answers, instead of the hour that keras-tuner waits.

    Raises:
        KerasallError: it does not.
    """
    address = chief_address()
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=timeout_seconds)
        except grpc.FutureTimeoutError:
            raise KerasallError(
                f"a chief must answer at {address}, but none did for {timeout_seconds:g} s: start it with "
                "KERASTUNER_TUNER_ID=chief, unless it has ended because every trial is done"
            ) from None


def chief_address() -> str:
    """Where the chief listens, as keras-tuner's environment variables say."""
    return f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
