"""How long the command line takes to start, and to answer one image.

    python benchmarks/start.py [--short]

``kerasall --help`` against half a second; ``kerasall predict SAVEDMODEL one-image`` against the shortest Python script
that answers the same image: ``import tensorflow``, ``tf.saved_model.load``, one call of the signature. With ``--runtime``
(each that is installed, the network converted beforehand) against 1.5 s, with the peak of its memory; the long form also
starts ``kerasall serve`` and waits for the first answer. Every time is a fresh process, taken in turn; ``predict`` also
checks every file of the model against its manifest. The model is a MobileNet of 224 px with random weights. Before
timing, all must give the same probabilities; that ``--help`` loads no TensorFlow is held by
tests/test_architecture.py::test_light_modules_load_no_tensorflow, that the runtimes do not by
tests/serving/test_light_start.py.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import psutil
from interleaved import Row, Timing, measure, parse, report, row_of

HELP, LIGHT, MEBIBYTES = 0.5, 1.5, 400
"""Allowed: seconds of --help, seconds and memory of an answer without TensorFlow."""
RUNTIMES = {"openvino": "openvino", "onnxruntime": "tf2onnx"}
"""Runtime -> a package of its extra."""
BARE = """
import sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
with open(sys.argv[2], "rb") as file:
    answer = model.signatures["serving_default"](image_bytes=tf.constant([file.read()]))
print(answer["probabilities"].numpy()[0].tolist())
"""


def export_model(folder: Path, image: Path) -> None:
    """A MobileNet with random weights as a SavedModel, and a rendered cell; in a process of their own."""
    import cv2
    from runtimes import export, read_files

    from kerasall.data.cell_drawing import draw_image

    export("mobilenet", folder, read_files(None, 8))
    cv2.imwrite(str(image), cv2.cvtColor(draw_image("cnmc", 0, (0, 0, 0), 450), cv2.COLOR_RGB2BGR))


def run(*command: str) -> str:
    """Standard output of a fresh process."""
    return subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True).stdout


def find_peak(*command: str) -> float:
    """Most memory of a fresh process, MiB resident."""
    # The kernel's own figure of a child that ended also counts the parent, whose memory it shares until it begins.
    peak = 0
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak = max(peak, watched.memory_info().rss)
            time.sleep(0.002)
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}")
    return peak / 2**20


def serve_one(model: str, image: str, *options: str) -> None:
    """Starts a server and asks it until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "kerasall", "serve", model, "--port", str(port), *options]
    body = json.dumps({"instances": [{"b64": base64.b64encode(Path(image).read_bytes()).decode()}]}).encode()
    address = f"http://127.0.0.1:{port}/v1/models/mobilenet:predict"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while server.poll() is None:
                try:
                    with urllib.request.urlopen(address, body):
                        return
                except OSError:  # not there yet, or 503 while it loads
                    time.sleep(0.01)
            sys.exit("the server ended before it answered")
        finally:
            server.terminate()


def require_same(predicted: str, bare: str, tolerance: float = 1e-6) -> None:
    """Stops where the two answers differ."""
    row = next(csv.DictReader(io.StringIO(predicted)))
    far = max(abs(float(row[label]) - p) for label, p in zip(("all", "hem"), json.loads(bare), strict=True))
    if far > tolerance:
        sys.exit(f"both sides must answer alike, but differ by {far}")


def main() -> None:
    options = parse(__doc__, ("--export", {"nargs": 2, "type": Path, "help": "only write MODEL and IMAGE"}))
    if options.export:
        export_model(*options.export)
        return
    rounds = options.rounds if options.short else max(options.rounds, 15)
    runtimes = [name for name, package in RUNTIMES.items() if find_spec(package)]
    with tempfile.TemporaryDirectory(prefix="kerasall-") as work:
        os.environ["KERASALL_RUNS"] = f"{work}/runs"
        model, image = f"{work}/mobilenet/1", f"{work}/cell.bmp"
        run(__file__, "--export", model, image)
        predict, bare = ("-m", "kerasall", "predict", model, image), ("-c", BARE, model, image)
        commands = {
            "kerasall --help": ("-m", "kerasall", "--help"),
            "kerasall predict": predict,
            "TensorFlow alone": bare,
            **{f"kerasall predict, {name}": (*predict, "--runtime", name) for name in runtimes},
        }
        require_same(run(*predict), run(*bare))  # warms up, too: from now on all files are in memory
        for name in runtimes:
            run(*predict, "--runtime", name)  # converts
            require_same(run(*predict, "--runtime", name), run(*bare), 1e-5)
        peaks = {name: find_peak(*predict, "--runtime", name) for name in runtimes}
        sides = {name: partial(run, *command) for name, command in commands.items()}
        if not options.short:
            sides |= {
                f"kerasall serve, {name}": partial(serve_one, model, image, "--runtime", name)
                for name in runtimes
            }
        taken = measure(sides, rounds, warm_up=False)
    report("start", [*list_plain(taken, rounds), *list_light(taken, peaks, rounds)])


def list_plain(taken: Mapping[str, Timing], rounds: int) -> list[Row]:
    """Of the command itself, and of TensorFlow."""
    shown, predicted, alone = (
        taken[name] for name in ("kerasall --help", "kerasall predict", "TensorFlow alone")
    )
    return [
        row_of(
            "kerasall --help", shown, allow(HELP, rounds), 1, "starts/s", goal=1, note=f"median {shown.median:.2f} s of {HELP} s"
        ),
        row_of(
            "one image, fresh process", predicted, alone, 1, "starts/s", goal=1 / 1.2,
            note=f"medians {predicted.median:.2f} and {alone.median:.2f} s; goal: at most a fifth more",
        ),
    ]  # fmt: skip


def list_light(taken: Mapping[str, Timing], peaks: Mapping[str, float], rounds: int) -> list[Row]:
    """Of the runtimes that need no TensorFlow."""
    rows = []
    for side, timing in taken.items():
        command, _, name = side.partition(", ")
        if name:
            what = (
                "one image, fresh process" if command.endswith("predict") else "server, start to first answer"
            )
            memory = f"; at most {peaks[name]:.0f} MiB of {MEBIBYTES}" if command.endswith("predict") else ""
            rows.append(
                row_of(
                    f"{what}, {name}", timing, allow(LIGHT, rounds), 1, "starts/s", goal=1,
                    note=f"median {timing.median:.2f} s of {LIGHT} s, with TensorFlow {taken['kerasall predict'].median:.2f} s{memory}",
                    mebibytes=peaks[name],
                )
            )  # fmt: skip
    return rows


def allow(seconds: float, rounds: int) -> Timing:
    return Timing(f"{seconds} s", (seconds,) * rounds)


if __name__ == "__main__":
    main()
