"""How `kerasall serve` holds up: right answers, throughput against the bare SavedModel, times, memory.

    python benchmarks/serving_load.py SAVEDMODEL IMAGES [--requests 2000] [--clients 50] [--batch-size 16]

The server runs as a process of its own; the clients share its cores. Throughput is compared with the
SavedModel called directly at the same batch size, before and after, in the same run. Other work on the
machine moves both, so processor time is compared as well: all that the server and the clients used for an
image against what the bare SavedModel used. Every answer is compared with the bare model's for the image alone. In the end a
server with a short queue meets the same clients: it must answer 200 or 503 with Retry-After, nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from kerasall.serving.image_files import find_images
from kerasall.serving.predictor import Predictor

BOUNDARY = b"kerasall-load"
TOLERANCE = 1e-5
WARM_SHARE = 0.2
"""Share of the requests after which memory counts as warm."""


@dataclass
class Load:
    """What came of many requests.

    Attributes:
        seconds: from the first request to the last answer.
        statuses: how often each HTTP status came.
        times: seconds of each answered request.
        wrong: answers whose label differs or whose probabilities differ by more than ``TOLERANCE``.
        largest: the largest difference of a probability.
        memory: resident bytes of the server, once warm and at the end.
        impatient: answers 503 without Retry-After.
        server_cpu: processor seconds of the server.
        client_cpu: of the clients.
    """

    seconds: float = 0.0
    statuses: Counter = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    wrong: int = 0
    largest: float = 0.0
    memory: list[int] = field(default_factory=list)
    impatient: int = 0
    server_cpu: float = 0.0
    client_cpu: float = 0.0


def main() -> None:
    """Runs the whole comparison and prints it."""
    settings = _parse()
    paths = find_images(settings.images)
    paths = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, settings.distinct).astype(int))]
    images = [path.read_bytes() for path in paths]
    if settings.bare:
        print(json.dumps(_measure_bare(settings.model, images, settings.batch_size, settings.bare)))
        return
    print(
        f"{len(images)} images of {np.mean([len(i) for i in images]) / 1024:.0f} KiB, load {os.getloadavg()}"
    )
    before = _run_bare(settings)
    print(f"bare SavedModel, batch {settings.batch_size}: {before['speed']:.1f} images/s")
    with _server(settings.model, "--batch-size", str(settings.batch_size)) as (port, process):
        load = asyncio.run(_press(port, images, before, settings.requests, settings.clients, process))
    after = _run_bare(settings)
    print(f"bare SavedModel again: {after['speed']:.1f} images/s")
    _report(load, (before["speed"] + after["speed"]) / 2, (before["cpu"] + after["cpu"]) / 2)
    with _server(settings.model, "--queue", "8", "--batch-size", "4", "--max-files", "4") as (port, process):
        flood = asyncio.run(_press(port, images, before, settings.requests, settings.clients, process))
    print(
        f"short queue (8): {dict(flood.statuses)}, {flood.impatient} of 503 without Retry-After, {flood.wrong} wrong"
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", nargs="+", help="image files, folders, patterns")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--distinct", type=int, default=64, help="different images")
    parser.add_argument("--bare-images", type=int, default=640, help="images of each bare measurement")
    parser.add_argument("--bare", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run_bare(settings: argparse.Namespace) -> dict:
    command = [
        sys.executable,
        __file__,
        str(settings.model),
        *settings.images,
        "--bare",
        str(settings.bare_images),
    ]
    command += ["--batch-size", str(settings.batch_size), "--distinct", str(settings.distinct)]
    return json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )


def _measure_bare(model: Path, images: Sequence[bytes], batch_size: int, count: int) -> dict:
    """Images a second, and the answers image by image, of the SavedModel alone."""
    import tensorflow as tf

    predictor = Predictor(model)
    predict = predictor.signatures["serving_default"]
    alone = [predictor.predict([image]) for image in images]
    batches = [
        tf.constant([images[(start + i) % len(images)] for i in range(batch_size)])
        for start in range(0, count, batch_size)
    ]
    predict(image_bytes=batches[0])
    started, used = time.perf_counter(), time.process_time()
    for batch in batches:
        predict(image_bytes=batch)["probabilities"].numpy()
    seconds, used = time.perf_counter() - started, time.process_time() - used
    return {
        "speed": len(batches) * batch_size / seconds,
        "cpu": used / (len(batches) * batch_size),
        "labels": [predictor.labels[answer.label_indices[0]] for answer in alone],
        "probabilities": [answer.probabilities[0].tolist() for answer in alone],
    }


@contextmanager
def _server(model: Path, *options: str) -> Iterator[tuple[int, psutil.Process]]:
    command = [sys.executable, "-m", "kerasall", "serve", str(model), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stderr or () if line.startswith("serving on"))
        port = int(line.split(":")[2].split("/")[0])
        while asyncio.run(_ask(port, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] != 200:
            time.sleep(0.2)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


async def _ask(port: int, request: bytes) -> tuple[int, bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await _exchange(reader, writer, request)
    finally:
        writer.close()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bytes, bytes]:
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head[9:12]), head, await reader.readexactly(length)


def _form_request(image: bytes) -> bytes:
    part = b'\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'
    body = b"--" + BOUNDARY + part + image + b"\r\n--" + BOUNDARY + b"--\r\n"
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary="
    return head + BOUNDARY + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def _press(
    port: int, images: Sequence[bytes], want: dict, requests: int, clients: int, process: psutil.Process
) -> Load:
    """Many clients, each sending its next request when its last is answered."""
    load, numbers = Load(), iter(range(requests))
    bodies = [_form_request(image) for image in images]

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            row = number % len(images)
            started = time.perf_counter()
            status, head, body = await _exchange(reader, writer, bodies[row])
            load.statuses[status] += 1
            if status == 200:
                load.times.append(time.perf_counter() - started)
                _compare(
                    json.loads(body)["results"][0], want["labels"][row], want["probabilities"][row], load
                )
            load.impatient += status == 503 and b"retry-after:" not in head
            if number == int(WARM_SHARE * requests):
                load.memory.append(process.memory_info().rss)
        writer.close()

    started, server, own = time.perf_counter(), _used(process), time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    load.seconds = time.perf_counter() - started
    load.server_cpu, load.client_cpu = _used(process) - server, time.process_time() - own
    load.memory.append(process.memory_info().rss)
    return load


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _compare(result: dict, label: str, probabilities: Sequence[float], load: Load) -> None:
    difference = float(np.abs(np.subtract(list(result["probabilities"].values()), probabilities)).max())
    load.largest = max(load.largest, difference)
    load.wrong += result["label"] != label or difference > TOLERANCE


def _report(load: Load, bare: float, bare_cpu: float) -> None:
    answered = load.statuses[200]
    speed = answered / load.seconds
    warm, end = load.memory[0], load.memory[-1]
    print(f"{sum(load.statuses.values())} requests: {dict(load.statuses)}, {load.wrong} wrong, "
          f"largest difference {load.largest:.1e}")  # fmt: skip
    print(f"served: {speed:.1f} images/s, {speed / bare:.0%} of the bare SavedModel")
    server, client = load.server_cpu / answered, load.client_cpu / answered
    print(
        f"processor time an image: server {1e3 * server:.1f} ms, clients {1e3 * client:.1f} ms, bare "
        f"{1e3 * bare_cpu:.1f} ms: the model alone is {bare_cpu / (server + client):.0%} of all"
    )
    print(
        f"time of a request: p50 {np.percentile(load.times, 50):.2f} s, p99 {np.percentile(load.times, 99):.2f} s"
    )
    print(f"memory: {warm / 2**20:.0f} MiB warm, {end / 2**20:.0f} MiB at the end, {end / warm - 1:+.1%}")


if __name__ == "__main__":
    main()
