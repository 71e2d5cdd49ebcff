"""Other runtimes answer like TensorFlow on the same SavedModel, say how closely, and leave the model's folder alone."""

from __future__ import annotations

import csv
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from kerasall.errors import ModelError, SettingsError
from kerasall.evaluation.ensemble_rules import count_votes, decide
from kerasall.files import read_json, sha256_of_file, sha256_of_folder, write_json
from kerasall.preprocessing.operations import Chain
from kerasall.serving import conversion, runtimes
from kerasall.serving.card import write_manifest
from kerasall.serving.export import export_saved_model
from kerasall.serving.network import spread
from kerasall.serving.predictor import Answers, Predictor
from kerasall.serving.runtimes import RuntimeChoice

LABELS = ("all", "hem")


def needs(package: str, extra: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"the extra {extra} is absent: pip install -c constraints.txt -e '.[test,{extra}]'",
    )


OPENVINO = needs("openvino", "openvino")
RUNTIMES = [
    pytest.param("openvino", marks=OPENVINO),
    pytest.param("onnxruntime", marks=needs("tf2onnx", "onnx")),
]


def export_two_members(folder: Path) -> Path:
    """Two small networks that vote, with named outputs of several kinds."""
    keras.utils.set_random_seed(3)
    image = keras.Input((24, 24, 3), name="image")

    def member() -> keras.KerasTensor:
        hidden = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
        for filters in (8, 16):
            hidden = keras.layers.ReLU(6.0)(keras.layers.DepthwiseConv2D(3, padding="same")(hidden))
            hidden = keras.layers.BatchNormalization()(keras.layers.Conv2D(filters, 1, strides=2)(hidden))
        pooled = keras.layers.GlobalAveragePooling2D()(hidden)
        return keras.layers.Dense(2, "softmax")(keras.layers.Rescaling(20.0)(pooled))

    both = keras.ops.stack([member(), member()], axis=1)
    outputs = {"probabilities": keras.ops.mean(both, axis=1), "member_probabilities": both}
    outputs["prediction_set"] = keras.ops.greater(outputs["probabilities"], 0.2)
    outputs["votes"] = count_votes(keras.ops, both)
    outputs["label_index"] = decide(keras.ops, outputs["votes"] / 2, outputs["probabilities"])
    steps = [{"op": "resize", "height": 24, "width": 24}]
    export_saved_model(keras.Model(image, outputs), Chain.from_json(steps), LABELS, folder)
    write_json(folder / "card.json", {"experiment": "tiny", "preprocess": steps, "limits": {"max_side": 60}})
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return export_two_members(tmp_path_factory.mktemp("models") / "tiny" / "1")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs") / "runtimes"


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Every kind of file, among them a broken one and one over the limits."""
    folder, noise = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number, suffix in enumerate((".bmp", ".png", ".jpg", ".tif") * 3):
        low, high = sorted(noise.integers(0, 255, 2))
        cv2.imwrite(
            str(folder / f"{number:02d}{suffix}"), noise.integers(low, high + 1, (30, 26, 3), np.uint8)
        )
    (folder / "03_broken.png").write_bytes((folder / "01.png").read_bytes()[:900])
    cv2.imwrite(str(folder / "05_large.png"), np.zeros((70, 10, 3), np.uint8))
    return folder


@pytest.fixture
def inverts(monkeypatch) -> Callable[[Callable[[bool], bool]], None]:
    """Lets OpenVINO see negatives where a function of "in bfloat16" says so."""
    row = runtimes.RUNTIMES["openvino"]

    def invert_where(wanted: Callable[[bool], bool]) -> None:
        def open_lanes(folder: Path, bfloat16: bool) -> list:
            lanes = row.open(folder, bfloat16)
            return (
                [lambda pixels, own=lane: own(255 - pixels) for lane in lanes] if wanted(bfloat16) else lanes
            )

        monkeypatch.setitem(runtimes.RUNTIMES, "openvino", replace(row, open=open_lanes))

    return invert_where


def answer(predictor: Predictor, folder: Path) -> Answers:
    paths = sorted(folder.iterdir())
    return predictor.predict([path.read_bytes() for path in paths], [path.name for path in paths])


@pytest.mark.parametrize("name", RUNTIMES)
def test_another_runtime_answers_every_image_like_tensorflow(saved, images, cache, name):
    before, root = sha256_of_folder(saved), logging.getLogger()
    logging_before = root.level, list(root.handlers), list(root.filters)
    expected = answer(Predictor(saved), images)
    predictor = Predictor(saved, runtime=RuntimeChoice(name, cache=cache))
    assert predictor.parity is None
    found = answer(predictor, images)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_array_equal(found.label_indices, expected.label_indices)
    assert found.errors == expected.errors
    assert sum(bool(error) for error in found.errors) == 2
    assert set(found.extras) == set(expected.extras) == {"member_probabilities", "prediction_set", "votes"}
    for extra, values in expected.extras.items():
        assert found.extras[extra].dtype == values.dtype
        np.testing.assert_allclose(found.extras[extra], values, atol=1e-5)
    assert predictor.parity is not None
    assert predictor.parity.labels_changed == 0
    assert predictor.parity.largest["member_probabilities"] < 1e-5
    assert sha256_of_folder(saved) == before
    assert (root.level, list(root.handlers), list(root.filters)) == logging_before


@pytest.mark.slow
@OPENVINO
def test_a_converted_network_is_kept_and_a_damaged_one_made_again(saved, images, cache, tmp_path):
    choice = RuntimeChoice("openvino", cache=tmp_path)
    expected = answer(Predictor(saved, runtime=choice), images)
    (kept,) = (tmp_path / "openvino").iterdir()
    weights = kept / "model.bin"
    made = weights.stat().st_mtime_ns
    Predictor(saved, runtime=choice)
    assert weights.stat().st_mtime_ns == made
    damaged = bytearray(weights.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    weights.unlink()  # a network under way may still read the old one
    weights.write_bytes(damaged)
    found = answer(Predictor(saved, runtime=choice), images)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    assert read_json(kept / "manifest.json")["files"]["model.bin"] == sha256_of_file(weights)
    assert [path.name for path in (tmp_path / "openvino").iterdir()] == [kept.name]


@OPENVINO
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_other_answers_are_refused(saved, images, cache, inverts, monkeypatch, precision):
    monkeypatch.setattr(runtimes, "has_amx", lambda: False)
    inverts(lambda bfloat16: True)
    with pytest.raises(
        ModelError, match=r"must answer as TensorFlow does within 0\.0001.*--runtime tensorflow"
    ):
        answer(Predictor(saved, runtime=RuntimeChoice("openvino", precision, cache)), images)


@OPENVINO
@pytest.mark.slow
def test_too_coarse_answers_are_told_and_auto_leaves_them(saved, images, cache, inverts, monkeypatch):
    monkeypatch.setattr(runtimes, "has_amx", lambda: True)
    inverts(lambda bfloat16: bfloat16)
    expected = answer(Predictor(saved), images)
    forced = Predictor(saved, runtime=RuntimeChoice("openvino", "bfloat16", cache))
    forced.warm_up()
    assert forced.parity is None  # a blank image says little
    assert np.nanmax(np.abs(answer(forced, images).probabilities - expected.probabilities)) > 0.02
    assert forced.describe_parity().startswith("on 8 images the largest difference of a probability is 0.")
    automatic = Predictor(saved, runtime=RuntimeChoice("openvino", "auto", cache))
    assert automatic.describe_parity() == ""
    np.testing.assert_allclose(answer(automatic, images).probabilities, expected.probabilities, atol=1e-5)
    assert "bfloat16 was left, as on 12 images the largest" in automatic.describe_parity()
    assert "now in float32 on 12 images the largest" in automatic.describe_parity()


@pytest.mark.parametrize("name", ["tensorflow", pytest.param("openvino", marks=[OPENVINO, pytest.mark.slow])])
def test_bfloat16_stays_near_and_leaves_the_rest_of_the_process_in_float32(saved, images, cache, name):
    plain = Predictor(saved)
    expected = answer(plain, images)
    predictor = Predictor(saved, runtime=RuntimeChoice(name, "bfloat16", cache))
    found = answer(predictor, images)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=0.02)
    assert found.errors == expected.errors
    np.testing.assert_array_equal(answer(plain, images).probabilities, expected.probabilities)


def test_auto_is_plain_float32_where_the_processor_gains_nothing(monkeypatch):
    monkeypatch.setattr(runtimes, "has_amx", lambda: False)
    assert RuntimeChoice("tensorflow", "auto").is_plain
    assert "float32 (bfloat16 gains only" in RuntimeChoice("tensorflow", "auto").describe()
    monkeypatch.setattr(runtimes, "has_amx", lambda: True)
    assert RuntimeChoice("tensorflow", "auto").in_bfloat16
    assert not RuntimeChoice("tensorflow").in_bfloat16


@pytest.mark.parametrize(("count", "lanes"), [(1, 1), (1, 2), (3, 2), (9, 2), (32, 3), (5, 8)])
def test_pieces_are_answered_once_each_and_in_order(count, lanes):
    seen: list[int] = []

    def lane(pixels: np.ndarray) -> dict[str, np.ndarray]:
        seen.extend(pixels[:, 0].tolist())
        return {"doubled": pixels * 2, "flat": pixels[:, 0] > 3}

    pixels = np.arange(count)[:, None]
    found = spread([lane] * lanes)(pixels)
    np.testing.assert_array_equal(found["doubled"], pixels * 2)
    np.testing.assert_array_equal(found["flat"], pixels[:, 0] > 3)
    assert sorted(seen) == list(range(count))


def test_what_cannot_be_chosen_is_said_with_its_cure(monkeypatch):
    with pytest.raises(SettingsError, match="one of tensorflow, openvino, onnxruntime, but is 'tensorrt'"):
        RuntimeChoice("tensorrt")
    with pytest.raises(SettingsError, match="one of float32, auto, bfloat16, but is 'int8'"):
        RuntimeChoice("tensorflow", "int8")
    monkeypatch.setattr(conversion, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"needs the extra openvino.*pip install 'kerasall\[openvino\]'"):
        RuntimeChoice("openvino")
    monkeypatch.setattr(conversion, "find_spec", lambda name: name)
    with pytest.raises(SettingsError, match="must compute in float32"):
        RuntimeChoice("onnxruntime", "bfloat16")


@pytest.mark.slow
@OPENVINO
def test_a_model_of_an_earlier_export_is_refused_with_its_cure(saved, tmp_path):
    model, folder = tf.saved_model.load(str(saved)), tmp_path / "1"
    kept = {name: model.signatures[name] for name in ("serving_default", "serving_pixels")}
    tf.saved_model.save(model, str(folder), kept)
    (folder / "labels.txt").write_bytes((saved / "labels.txt").read_bytes())
    write_manifest(folder)
    Predictor(folder)
    with pytest.raises(ModelError, match=r"signature preprocess .* export the model again"):
        Predictor(folder, runtime=RuntimeChoice("openvino"))


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_operation_that_a_runtime_lacks_is_named(tmp_path, name):
    image = keras.Input((4, 4, 3), name="image")
    scores = keras.layers.GlobalAveragePooling2D()(image)[:, :2]
    outputs = {"probabilities": keras.ops.softmax(scores), "label_index": keras.ops.argmax(scores, axis=-1)}
    chain = Chain.from_json([{"op": "resize", "height": 4, "width": 4}])
    folder = export_saved_model(keras.Model(image, outputs), chain, LABELS, tmp_path / "1")
    with pytest.raises(ModelError, match=r"must hold only operations that .* knows.*Bit"):
        Predictor(folder, runtime=RuntimeChoice(name))


def predict(saved: Path, images: Path, out: Path, *options: str):
    from kerasall.cli.app import app

    command = ["predict", str(saved), str(images), "--out", str(out), *options]
    return CliRunner().invoke(app, command, catch_exceptions=True)


@OPENVINO
def test_the_command_writes_the_same_rows_and_tells_the_parity(saved, images, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    tables = []
    for number, options in enumerate(([], ["--runtime", "openvino", "--batch-size", "5"])):
        out = tmp_path / f"{number}.csv"
        done = predict(saved, images, out, *options)
        assert done.exit_code == 1, done.output  # two files are bad
        with open(out, encoding="utf-8", newline="") as file:
            tables.append(list(csv.DictReader(file)))
    assert "runtime openvino 20" in done.output
    assert "compared with TensorFlow in float32: on " in done.output
    assert "0 labels differ" in done.output
    for row, other in zip(*tables, strict=True):
        numbers = {name for name in LABELS if row[name]}
        assert {k: v for k, v in row.items() if k not in numbers} == {
            k: v for k, v in other.items() if k not in numbers
        }
        for name in numbers:
            assert float(other[name]) == pytest.approx(float(row[name]), abs=1e-5)
    assert list((tmp_path / "runs" / "runtimes" / "openvino").iterdir())
    refused = predict(saved, images, tmp_path / "x.csv", "--runtime", "openvino", "--cluster", "auto")
    assert isinstance(refused.exception, SettingsError)


@pytest.mark.slow
@OPENVINO
def test_the_server_answers_and_explains_with_another_runtime(web_model, cache):
    from web_server import BOUNDARY, form, picture, serving

    images = [(f"{seed}.png", picture(seed)) for seed in range(5)]
    plain = Predictor(web_model)
    expected = plain.predict([data for _, data in images]).probabilities
    with serving(web_model, runtime=RuntimeChoice("openvino", cache=cache)) as running:
        results = running.predict(*images).json["results"]
        body = form(images[:1], {"label": plain.labels[0]})
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        explained = running.ask("POST", "/v1/explain", body, kind)
    for result, row in zip(results, expected, strict=True):
        found = [result["probabilities"][label] for label in plain.labels]
        np.testing.assert_allclose(found, row, atol=1e-5)
    assert explained.status == 200


@OPENVINO
def test_openvino_tells_its_maker_nothing(tmp_path):
    script = (
        "import socket, sys, threading\n"
        "def refuse(*given): raise AssertionError(given)\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from kerasall.runtime import import_openvino\n"
        "openvino = import_openvino()\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "assert telemetry_utils.tm.__name__.endswith('telemetry_stub'), telemetry_utils.tm\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]\n"
        "print(len(threading.enumerate()))\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@OPENVINO
def test_openvino_may_first_be_asked_from_several_threads():
    """Without the two calls in ``import_openvino`` they wait for each other for ever."""
    script = (
        "import os, sys, threading\n"
        "import numpy as np\n"
        "from kerasall.runtime import import_openvino\n"
        "sys.setswitchinterval(1e-6)\n"
        "openvino, together = import_openvino(), threading.Barrier(4)\n"
        "def ask():\n"
        "    together.wait()\n"
        "    openvino.Type.u8.to_dtype()\n"
        "    openvino.Tensor(np.zeros(1, np.uint8))\n"
        "threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]\n"
        "[each.start() for each in threads]\n"
        "[each.join(20) for each in threads]\n"
        "os._exit(any(each.is_alive() for each in threads))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0
