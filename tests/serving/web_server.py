"""A tiny ensemble as a SavedModel, and a whole server around it in a thread: sockets, uvicorn, door."""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import uvicorn
from PIL import Image

from kerasall.evaluation.ensemble_rules import find_highest
from kerasall.files import write_json
from kerasall.preprocessing.operations import Chain
from kerasall.serving.card import write_manifest
from kerasall.serving.export import export_saved_model
from kerasall.serving.web.limits import WebLimits
from kerasall.serving.web.server import LOOPBACK_NAMES, _configure, _listen, create_app

LABELS = ("all", "hem")
NAME = "tiny"
LIMITS = WebLimits(
    max_body_bytes=2 << 20, max_files=8, queue_images=64, batch_images=8, header_seconds=0.6, body_seconds=0.8,
    answer_seconds=20, drain_seconds=5,
)  # fmt: skip
TOLERANT_LIMITS = replace(LIMITS, header_seconds=10, body_seconds=30)
"""For clients that are slow without fault, as a browser on a busy machine."""
BOUNDARY = "kerasall-test-boundary"


def export_tiny_model(folder: Path, explains: bool = True, seed: int = 3) -> Path:
    """Two random members whose answers differ from image to image, with votes and a referral."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((16, 16, 3), name="image")
    members = [_member(image) for _ in range(2)]
    joined = keras.ops.stack(members, axis=1)
    mean = keras.ops.mean(joined, axis=1)
    outputs = {
        "probabilities": mean,
        "label_index": find_highest(keras.ops, mean),
        "member_probabilities": joined,
        "calibrated_probabilities": keras.ops.softmax(keras.ops.log(mean) / 2),
        "prediction_set": mean > 0.4,
        "refer": keras.ops.max(mean, axis=-1) < 0.6,
        "refer_reason": keras.ops.cast(keras.ops.max(mean, axis=-1) < 0.6, "int64"),
    }
    chain = Chain.from_json([{"op": "resize", "height": 16, "width": 16}])
    model = keras.Model(image, outputs)
    export_saved_model(model, chain, LABELS, folder, _brightness if explains else None)
    write_json(folder / "card.json", CARD)
    write_manifest(folder)
    return folder


def export_plain_model(folder: Path) -> Path:
    """One network that says label and probabilities and nothing else, without a card."""
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    plain = keras.Model(image, keras.layers.Dense(2, activation="softmax")(pooled))
    chain = Chain.from_json([{"op": "resize", "height": 8, "width": 8}])
    return export_saved_model(plain, chain, LABELS, folder)


CARD: dict[str, Any] = {
    "experiment": NAME,
    "description": "Two random networks.",
    "model": {"ensemble": {"rule": "average"}, "members": {"first": {}, "second": {}}},
    "preprocess": [{"op": "resize", "height": 16, "width": 16}],
    "data": {"source": "synthetic", "notes": ["Rendered cells."]},
    "results": {"labels": list(LABELS), "malignant": ["all"]},
    "blessing": {"blessed": False, "criteria": [["Above chance", False]]},
}


def _member(image: Any) -> Any:
    layers = keras.layers
    features = layers.Conv2D(6, 3, strides=2, activation="relu")(layers.Rescaling(1 / 40)(image))
    return layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(features))


def _brightness(pixels: tf.Tensor, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
    heat = tf.reduce_mean(pixels, axis=-1) / 255 * tf.cast(class_index + 1, tf.float32)[:, None, None] / 2
    return {"heatmap": heat}


def picture(seed: int, kind: str = "PNG", size: tuple[int, int] = (24, 20), **options: Any) -> bytes:
    """An image file of noise, darker or brighter by its seed."""
    noise = np.random.default_rng(seed)
    pixels = noise.integers(0, 40 + 215 * (seed % 7 + 1) // 8, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def form(files: list[tuple[str, bytes]], fields: dict[str, str] | None = None) -> bytes:
    """The body of a multipart form; names go in as they are."""
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
        for name, value in (fields or {}).items()
    ]
    parts += [
        f'Content-Disposition: form-data; name="files"; filename="{name}"\r\nContent-Type: text/plain\r\n\r\n'.encode(
            "utf-8", "surrogateescape"
        )
        + data
        for name, data in files
    ]
    mark = BOUNDARY.encode()
    return b"".join(b"--" + mark + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + mark + b"--\r\n"


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server that answers at ``port``."""

    port: int
    server: uvicorn.Server
    app: Any
    failures: list[BaseException]

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **options: Any
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {}, **options)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def predict(self, *files: tuple[str, bytes], path: str = "/v1/predict", **headers: str) -> Reply:
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self.ask("POST", path, form(list(files)), kind | headers)

    def call(self, *images: bytes, model: str = NAME, body: Any = None) -> Reply:
        instances = [{"b64": base64.b64encode(image).decode()} for image in images]
        content = json.dumps(body if body is not None else {"instances": instances})
        return self.ask("POST", f"/v1/models/{model}:predict", content)

    def wait_until_ready(self) -> Running:
        deadline = time.monotonic() + 60
        while self.ask("GET", "/readyz").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return self

    def require_nothing_held(self) -> None:
        """An upload's room is given back a moment after its client has the answer."""
        deadline = time.monotonic() + 10
        while self.app.held_bytes and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.app.held_bytes == 0


@contextmanager
def serving(
    folder: Path, limits: WebLimits = LIMITS, ready: bool = True, **changes: Any
) -> Iterator[Running]:
    """Runs a server of ``folder`` in a thread until the block ends."""
    token, hosts = changes.pop("token", None), changes.pop("hosts", LOOPBACK_NAMES)
    options = {name: changes.pop(name) for name in ("runtime", "root", "follow") if name in changes}
    limits = replace(limits, **changes)
    failures: list[BaseException] = []
    app = create_app(folder, limits=limits, token=token, hosts=hosts, failed=failures.append, **options)
    server = uvicorn.Server(_configure(app, limits))
    listening = _listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    running = Running(listening.getsockname()[1], server, app, failures)
    try:
        yield running.wait_until_ready() if ready else running
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
