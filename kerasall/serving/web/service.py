"""The model behind the door: loaded and warmed in a thread of its own, fed by all clients at once.

Requests of many clients share one call of the model. Counts and times for Prometheus: of requests, images and
batches; never of what an image shows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

from kerasall.decoding import read_header, to_native
from kerasall.errors import DecodingError, ModelError
from kerasall.serving.explanation import find_maps
from kerasall.serving.predictor import Predictor, Prepared
from kerasall.serving.runtimes import RuntimeChoice
from kerasall.serving.web.answers import Answer, ModelFacts, draw_explanation, read_facts
from kerasall.serving.web.limits import Refusal, WebLimits, busy
from kerasall.serving.web.uploads import Upload

Item = TypeVar("Item")
Result = TypeVar("Result")
Kind = TypeVar("Kind")

_LOGGER = logging.getLogger("uvicorn.error")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """One registry per server, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        kept: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("kerasall_requests", "Requests answered.", ["route", "status"], **kept)
        self.images = Counter("kerasall_images", "Images, by outcome.", ["outcome"], **kept)
        timed: dict[str, Any] = {**kept, "buckets": _SECONDS}
        counted: dict[str, Any] = {**kept, "buckets": _SIZES}
        whole = "From a whole request to its answer."
        self.answer_seconds = Histogram("kerasall_answer_seconds", whole, **timed)
        self.model_seconds = Histogram("kerasall_model_seconds", "One call of the model.", **timed)
        self.batch_images = Histogram("kerasall_batch_images", "Images in one call of the model.", **counted)
        self.waiting = Gauge("kerasall_waiting_images", "Images accepted and not yet answered.", **kept)
        self.ready = Gauge("kerasall_ready", "1 once the model is loaded and warm.", **kept)
        self.version = Gauge("kerasall_model_version", "Version of the model that answers.", **kept)

    def count_request(self, scope: Mapping[str, Any], status: int) -> None:
        """Counts an answer by its route's pattern: an address made up by a client must not become a label."""
        self.requests.labels(getattr(scope.get("route"), "path", "other"), str(status)).inc()

    def render(self) -> bytes:
        """The text that Prometheus collects."""
        return generate_latest(self.registry)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model that was loaded, checked and warmed."""

    predictor: Predictor
    facts: ModelFacts


class ModelService:
    """Answers uploads with one model.

    Args:
        folder: ``savedmodels/<name>[/<version>]``.
        limits: of queue, batch and time.
        metrics: where it counts.
        runtime: what computes the answers; default TensorFlow, in float32.
    """

    def __init__(
        self, folder: str | Path, limits: WebLimits, metrics: Metrics, runtime: RuntimeChoice | None = None
    ):
        self._folder, self._limits, self._metrics, self._runtime = folder, limits, metrics, runtime
        # One thread for the model: TensorFlow spreads a batch over the cores itself, and a second batch
        # beside it would only make both slower. Others read headers and decode what TensorFlow cannot.
        self._model_thread = ThreadPoolExecutor(1, "model")
        # Of these one is for large images alone, so that a small one never waits behind one that takes seconds.
        self._preparers = (ThreadPoolExecutor(1, "prepare"), ThreadPoolExecutor(1, "prepare_large"))
        self._loaded: Loaded | None = None
        self._fault = ""
        self._batcher: Batcher[tuple[Loaded, str, Prepared], Answer] = Batcher(
            self._run, self._model_thread, capacity=limits.queue_images, batch_size=limits.batch_images,
            batch_weight=limits.batch_pixels, light=limits.small_pixels, delay=limits.delay_seconds,
        )  # fmt: skip
        self._explainer: Batcher[tuple[Loaded, str, bytes, int], dict[str, Any]] = Batcher(
            self._explain, self._model_thread, capacity=limits.queue_images, batch_size=1, batch_weight=1,
            delay=0.0,
        )  # fmt: skip
        metrics.waiting.set_function(lambda: self._batcher.admitted + self._explainer.admitted)

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model.

        Raises:
            Refusal: 503 while it loads, and once it was found to answer wrongly.
        """
        return self.loaded.facts

    @property
    def loaded(self) -> Loaded:
        """The model that answers.

        Raises:
            Refusal: as ``facts``.
        """
        if self._fault:
            raise Refusal(503, self._fault)
        if self._loaded is None:
            raise busy("the model is being loaded: ask again in a moment", 2)
        return self._loaded

    @property
    def newest(self) -> Loaded | None:
        """The model that was loaded last, also where it was given up; None while the first one loads."""
        return self._loaded

    async def load(self) -> None:
        """Loads, checks and warms the model, and begins to answer.

        Raises:
            KerasallError: the model is broken or does not fit; nothing will be answered.
        """
        loaded = await asyncio.get_running_loop().run_in_executor(
            self._model_thread, self.load_version, self._folder
        )
        self._batcher.start()
        self._explainer.start()
        self.serve(loaded)

    def load_version(self, folder: str | Path) -> Loaded:
        """Loads, checks and warms a model beside the one that answers, if any does.

        Raises:
            KerasallError: it is broken or does not fit.
        """
        predictor = Predictor(folder, self._limits.image, self._runtime)
        predictor.warm_up((1, self._limits.batch_images))
        if why := predictor.describe_start():
            _LOGGER.warning("%s", why)
        return Loaded(predictor, read_facts(predictor))

    def serve(self, loaded: Loaded) -> None:
        """Answers with this model from now on; what another has begun, it ends."""
        self._loaded, self._fault = loaded, ""
        self._metrics.ready.set(1)
        self._metrics.version.set(int(loaded.facts.version))

    async def stop(self) -> None:
        """Ends the threads; a batch under way is finished."""
        self._loaded = None
        self._metrics.ready.set(0)
        await self._batcher.stop()
        await self._explainer.stop()
        self._model_thread.shutdown(wait=False, cancel_futures=True)
        for preparer in self._preparers:
            preparer.shutdown(wait=False, cancel_futures=True)

    async def predict(self, uploads: Sequence[Upload]) -> tuple[ModelFacts, list[Answer]]:
        """The facts of the model that answers, and one answer per upload, in order, all of that model.

        A bad image has an error and does not stop the others.

        Raises:
            Refusal: 503 while loading or when the queue is full, 504 when it took too long.
        """
        started = time.monotonic()
        loaded = self.loaded
        with self._batcher.admit(len(uploads)):
            async with self._in_time():
                # A batch's worth of each request is under way: none stands before all others with all that it brought.
                fair = asyncio.Semaphore(self._limits.batch_images)
                answers = await asyncio.gather(*(self._answer(loaded, upload, fair) for upload in uploads))
        for answer in answers:
            self._metrics.images.labels("refused" if answer.error else "answered").inc()
        self._metrics.answer_seconds.observe(time.monotonic() - started)
        return loaded.facts, answers

    async def explain(self, loaded: Loaded, upload: Upload, index: int) -> dict[str, Any]:
        """Where in the image the evidence for a class lies, as ``draw_explanation`` gives it.

        Args:
            loaded: the model that is asked.
            upload: the image.
            index: of the class.

        Raises:
            Refusal: 400 an image that cannot be read; 503 and 504 as ``predict``.
        """
        with self._explainer.admit(1):
            async with self._in_time():
                try:
                    data, _ = await self._prepare_beside(upload, self._to_native)
                except DecodingError as error:
                    raise Refusal(400, str(error)) from None
                return await self._explainer.answer((loaded, upload.name, data, index), 1)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                yield
        except TimeoutError:
            raise Refusal(
                504, f"no answer within {self._limits.answer_seconds:g} s: the server is overloaded"
            ) from None

    async def _answer(self, loaded: Loaded, upload: Upload, fair: asyncio.Semaphore) -> Answer:
        async with fair:
            try:
                data, pixels = await self._prepare_beside(upload, loaded.predictor.prepare)
            except DecodingError as error:
                return Answer(upload.name, str(error))
            return await self._batcher.answer((loaded, upload.name, data), pixels)

    async def _prepare_beside(
        self, upload: Upload, prepare: Callable[[bytes, str], Kind]
    ) -> tuple[Kind, int]:
        loop, (small, large), limits = asyncio.get_running_loop(), self._preparers, self._limits
        header = await loop.run_in_executor(small, read_header, upload.data, limits.image, upload.name)
        pixels = header.width * header.height
        prepared = await loop.run_in_executor(
            small if pixels <= limits.small_pixels else large, prepare, upload.data, upload.name
        )
        return prepared, pixels

    def _to_native(self, data: bytes, name: str) -> bytes:
        return to_native(data, self._limits.image, name)

    def _run(self, images: Sequence[tuple[Loaded, str, Prepared]]) -> list[Any]:
        """A batch holds images for two models where one has just followed the other."""
        answers: list[Answer | Refusal] = []
        for loaded, group in groupby(images, key=itemgetter(0)):
            answers += self._run_model(loaded, [(name, data) for _, name, data in group])
        return answers

    def _run_model(
        self, loaded: Loaded, images: Sequence[tuple[str, Prepared]]
    ) -> Sequence[Answer | Refusal]:
        started = time.monotonic()
        names = [name for name, _ in images]
        try:
            found = loaded.predictor.predict([data for _, data in images], names)
        except ModelError as error:
            return [self._give_up(loaded, error)] * len(images)
        self._metrics.model_seconds.observe(time.monotonic() - started)
        self._metrics.batch_images.observe(len(images))
        outputs = {"probabilities": found.probabilities, "label_index": found.label_indices, **found.extras}
        return [
            _check(Answer(name, error, {key: values[row] for key, values in outputs.items()}))
            for row, (name, error) in enumerate(zip(names, found.errors, strict=True))
        ]

    def _give_up(self, loaded: Loaded, error: ModelError) -> Refusal:
        """This model answers nothing from now on: the runtime's first real answers were not TensorFlow's."""
        fault = f"this server answers no more: {error}"
        if loaded is self._loaded:
            self._fault = fault
            self._metrics.ready.set(0)
        _LOGGER.error("%s", fault)
        return Refusal(503, fault)

    def _explain(self, images: Sequence[tuple[Loaded, str, bytes, int]]) -> list[Any]:
        ((loaded, name, data, index),) = images
        try:
            found = find_maps(loaded.predictor, data, name, index)
        except ModelError:
            return [
                Refusal(400, f"{name} must be a whole image with evidence to show, but none can be found")
            ]
        if not np.isfinite(found["heatmap"]).all():
            return [Refusal(400, f"{name} must have a map of numbers, but the model gave none")]
        return [draw_explanation(found["pixels"], found["heatmap"])]


def _check(answer: Answer) -> Answer:
    """An answer that is no number is none."""
    if answer.error or np.isfinite(answer.outputs["probabilities"]).all():
        return answer
    return Answer(answer.name, f"{answer.name} must have an answer, but the model gave no numbers for it")


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
        light: weight up to which items have a queue of their own. Both are served in turn: a light item waits for one
            heavy one at most, and a heavy one is never passed over for good.
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
        light: int = 0,
    ):
        self._run, self._executor = run, executor
        self.capacity, self._size, self._weight, self._delay = capacity, batch_size, batch_weight, delay
        self._light = light
        self._queues: tuple[deque[_Job[Item, Result]], ...] = (deque(), deque())  # light, heavy
        self._turn = 0
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.admitted = 0

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Holds room for ``count`` items, from before they are prepared until they are answered.

        Raises:
            Refusal: 503 with Retry-After, if there is no room. Some is kept for those who come with one item.
        """
        room = self.capacity if count == 1 or not self.admitted else self.capacity * 3 // 4
        if self.admitted + count > room:
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
        self._queues[weight > self._light].append(job)
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
        while not any(self._queues):
            await self._wait(None)
        self._turn = 1 - self._turn
        queue = self._queues[self._turn] or self._queues[1 - self._turn]
        deadline = queue[0].arrived + self._delay
        while not self._is_full(queue) and (left := deadline - loop.time()) > 0:
            await self._wait(left)
        return self._take(queue)

    async def _wait(self, seconds: float | None) -> None:
        self._arrived.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived.wait()

    def _is_full(self, queue: deque[_Job[Item, Result]]) -> bool:
        return len(queue) >= self._size or sum(job.weight for job in queue) >= self._weight

    def _take(self, queue: deque[_Job[Item, Result]]) -> list[_Job[Item, Result]]:
        batch: list[_Job[Item, Result]] = []
        weight = 0
        while queue and len(batch) < self._size:
            job = queue[0]
            if job.answer.cancelled():
                queue.popleft()
                continue
            if batch and weight + job.weight > self._weight:
                break
            batch.append(queue.popleft())
            weight += job.weight
        return batch


def _settle(job: _Job, result: object) -> None:
    if job.answer.done():  # its client has left meanwhile
        return
    if isinstance(result, Exception):
        job.answer.set_exception(result)
    else:
        job.answer.set_result(result)
