"""Ctrl-C and SIGTERM: the first lets the work come to a safe stop, the second ends the process at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kerasall.cli.console import note

STOPPED = 130
"""Exit status of a process that was stopped: 128 and the number of SIGINT, as shells have it."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping_safely() -> Iterator[None]:
    """Inside, the first Ctrl-C or SIGTERM raises KeyboardInterrupt, once; a second ends the process.

    A thread listens: Python itself hears of a signal only when the call that is at work, which may be minutes of
    compiled code, has come back. Whoever sets handlers of their own meanwhile, as a server does, is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    stop = _Stop()
    former = {number: signal.signal(number, stop.interrupt) for number in _SIGNALS}
    former_mouth = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=stop.leave_to_parent)
    threading.Thread(target=stop.listen, args=(ear,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former_mouth)
        for number, handler in former.items():
            if signal.getsignal(number) == stop.interrupt:
                signal.signal(number, handler)
        stop.over = True
        os.close(mouth)


class _Stop:
    def __init__(self) -> None:
        self.over = self._interrupted = False

    def interrupt(self, number: int, frame: Any) -> None:
        # Once: a second one would break off the clean end, and show where.
        if not self._interrupted:
            self._interrupted = True
            raise KeyboardInterrupt

    def listen(self, ear: int) -> None:
        heard = 0
        while came := os.read(ear, 1):
            if came[0] not in _SIGNALS or signal.getsignal(came[0]) != self.interrupt:
                continue
            heard += 1
            if heard > 1:
                for child in multiprocessing.active_children():
                    child.kill()
                note("kerasall: ended at once; the same command goes on from what is stored")
                os._exit(STOPPED)
            note("kerasall: stopping ... (a second Ctrl-C ends at once)")
        os.close(ear)

    def leave_to_parent(self) -> None:
        """In a forked child: a Ctrl-C reaches it, too, and is the parent's business."""
        if not self.over:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
