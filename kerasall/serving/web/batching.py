"""Requests of many clients share one call of the model."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from kerasall.serving.web.limits import busy

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Job(Generic[Item, Result]):
    item: Item
    weight: int
    arrived: float
    answer: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Collects items for a moment and runs them together, one batch at a time.

    Args:
        run: N items -> N results; called in ``executor``.
        executor: where ``run`` may take its time.
        capacity: items admitted and not yet answered.
        batch_size: items in one call.
        batch_weight: sum of the items' weights in one call; an item that is heavier goes alone.
        delay: seconds that an item waits for others at most. Items that arrived while the model was
            busy have waited already.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        executor: Executor,
        *,
        capacity: int,
        batch_size: int,
        batch_weight: int,
        delay: float,
    ):
        self._run, self._executor = run, executor
        self.capacity, self._size, self._weight, self._delay = capacity, batch_size, batch_weight, delay
        self._queue: deque[_Job[Item, Result]] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.admitted = 0

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Holds room for ``count`` items, from before they are prepared until they are answered.

        Raises:
            Refusal: 503 with Retry-After, if there is no room.
        """
        if self.admitted + count > self.capacity:
            raise busy(f"the server has {self.admitted} images waiting: send this again in a moment")
        self.admitted += count
        try:
            yield
        finally:
            self.admitted -= count

    async def answer(self, item: Item, weight: int) -> Result:
        """Queues an admitted item and waits for its result. Cancelled, it is not run any more."""
        loop = asyncio.get_running_loop()
        job: _Job[Item, Result] = _Job(item, weight, loop.time(), loop.create_future())
        self._queue.append(job)
        self._arrived.set()
        return await job.answer

    def start(self) -> None:
        """Begins to work, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Ends the work; a batch under way is finished."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not (batch := await self._collect(loop)):
                continue
            try:
                results: Sequence[Result | Exception] = await loop.run_in_executor(
                    self._executor, self._run, [job.item for job in batch]
                )
            except Exception as error:
                results = [error] * len(batch)
            for job, result in zip(batch, results, strict=True):
                _settle(job, result)

    async def _collect(self, loop: asyncio.AbstractEventLoop) -> list[_Job[Item, Result]]:
        while not self._queue:
            await self._wait(None)
        deadline = self._queue[0].arrived + self._delay
        while not self._is_full() and (left := deadline - loop.time()) > 0:
            await self._wait(left)
        return self._take()

    async def _wait(self, seconds: float | None) -> None:
        self._arrived.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived.wait()

    def _is_full(self) -> bool:
        return len(self._queue) >= self._size or sum(job.weight for job in self._queue) >= self._weight

    def _take(self) -> list[_Job[Item, Result]]:
        batch: list[_Job[Item, Result]] = []
        weight = 0
        while self._queue and len(batch) < self._size:
            job = self._queue[0]
            if job.answer.cancelled():
                self._queue.popleft()
                continue
            if batch and weight + job.weight > self._weight:
                break
            batch.append(self._queue.popleft())
            weight += job.weight
        return batch


def _settle(job: _Job, result: object) -> None:
    if job.answer.done():  # its client has left meanwhile
        return
    if isinstance(result, Exception):
        job.answer.set_exception(result)
    else:
        job.answer.set_result(result)
