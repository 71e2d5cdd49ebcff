"""A network that was converted before answers without TensorFlow, and says the same; what cannot be proven loads it."""

from __future__ import annotations

import csv
import errno
import importlib.util
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import copy, copytree, rmtree
from types import SimpleNamespace

import numpy as np
import pytest
from test_runtimes import RUNTIMES, export_two_members
from web_server import picture

from kerasall.errors import ModelError
from kerasall.files import hash_files, read_json, sha256_of_json, write_json
from kerasall.serving import network, proof
from kerasall.serving.card import write_manifest
from kerasall.serving.graph import SavedModel
from kerasall.serving.graph_fields import saved_model_class
from kerasall.serving.predictor import Predictor
from kerasall.serving.runtimes import RuntimeChoice

KINDS = ("BMP", "PNG", "JPEG", "TIFF", "WEBP")
_FOREIGN = "assert not {'tensorflow', 'keras', 'jax', 'pandas', 'sklearn', 'matplotlib'} & set(sys.modules)"
PREDICT = f"""
import sys
from kerasall.cli.app import app
try:
    app(sys.argv[1:])
finally:
    {_FOREIGN}
"""
SERVE = f"""
import json, sys, threading, time
from pathlib import Path
import requests, uvicorn
from kerasall.serving.runtimes import RuntimeChoice
from kerasall.serving.web.limits import WebLimits
from kerasall.serving.web.server import LOOPBACK_NAMES, _configure, _listen, create_app
model, runtime, cache, *images = sys.argv[1:]
app = create_app(model, hosts=LOOPBACK_NAMES, runtime=RuntimeChoice(runtime, cache=Path(cache)))
server, listening = uvicorn.Server(_configure(app, WebLimits())), _listen("127.0.0.1", 0)
thread = threading.Thread(target=server.run, kwargs={{"sockets": [listening]}}, daemon=True)
thread.start()
address = f"http://127.0.0.1:{{listening.getsockname()[1]}}"
while requests.get(address + "/readyz").status_code != 200:
    time.sleep(0.02)
files = [("files", (Path(path).name, Path(path).read_bytes())) for path in images]
answers = requests.post(address + "/v1/predict", files=files).json()["results"]
metadata = requests.get(address + "/v1/models/tiny/metadata").json()
{_FOREIGN}
explained = requests.post(address + "/v1/explain", files=files[:1], data={{"label": "all"}}).json()
assert "tensorflow" in sys.modules
server.should_exit = True
thread.join()
print(json.dumps([answers, metadata, explained["has_evidence"]]))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    """Files of every kind and of several sizes, among them one of the network's own and a broken one."""
    folder = tmp_path_factory.mktemp("images")
    sizes = [(24, 20), (16, 16), (57, 40)]
    for number, kind in enumerate(KINDS * 3):
        (folder / f"{number:02d}.{kind.lower()}").write_bytes(
            picture(number, kind, sizes[number // len(KINDS)])
        )
    (folder / "broken.png").write_bytes(picture(0)[:300])
    return sorted(folder.iterdir())


def ask(script: str, *arguments: object, runs: Path | None = None, status: int = 0) -> str:
    """Standard output of a fresh process."""
    environment = {**os.environ, "KERASALL_RUNS": str(runs)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    return done.stdout


def require_alike(found: dict, expected: dict) -> None:
    """Equal, but for the last digits of numbers."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, float):
            assert found[name] == pytest.approx(value, abs=1e-5)
        elif isinstance(value, dict):
            require_alike(found[name], value)
        else:
            assert found[name] == value


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_second_prediction_loads_no_tensorflow_and_says_the_same(images, tmp_path, name):
    saved, runs = export_two_members(tmp_path / "tiny" / "1"), tmp_path / "runs"
    plain = Predictor(saved)
    expected = plain.predict([path.read_bytes() for path in images], list(map(str, images)))
    first = Predictor(saved, runtime=RuntimeChoice(name, cache=runs / "runtimes"))
    assert first.describe_start().startswith("converted now")
    table = ask(PREDICT, "predict", saved, *images, "--runtime", name, runs=runs, status=1)
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["error"] for row in rows] == list(expected.errors)
    assert sum(map(bool, expected.errors)) == 1
    for row, index, shares, members in zip(
        rows, expected.label_indices, expected.probabilities, expected.extras["prediction_set"], strict=True
    ):
        if not row["error"]:
            assert row["label"] == plain.labels[index]
            assert [float(row[label]) for label in plain.labels] == pytest.approx(shares.tolist(), abs=1e-5)
            assert row["prediction_set"] == "|".join(np.array(plain.labels)[members])


def test_a_server_loads_tensorflow_for_explanations_alone(web_model, web, images, tmp_path):
    name, whole = "onnxruntime", [path for path in images if path.name != "broken.png"][:6]
    pytest.importorskip("tf2onnx")
    Predictor(web_model, runtime=RuntimeChoice(name, cache=tmp_path))
    answers, metadata, has_evidence = json.loads(ask(SERVE, web_model, name, tmp_path, *whole))
    expected = web.predict(*((path.name, path.read_bytes()) for path in whole)).json["results"]
    assert "refer" in expected[0]
    for answer, other in zip(answers, expected, strict=True):
        require_alike(
            answer,
            {key: each for key, each in other.items() if key != "members"} | {"members": answer["members"]},
        )
    assert metadata == web.ask("GET", "/v1/models/tiny/metadata").json
    assert has_evidence


@pytest.fixture
def choice(tmp_path) -> RuntimeChoice:
    if importlib.util.find_spec("tf2onnx") is None:
        pytest.skip("the extra onnx is absent")
    return RuntimeChoice("onnxruntime", cache=tmp_path / "runtimes")


def start(folder: Path, choice: RuntimeChoice) -> str:
    """Why this start loaded TensorFlow; "" where it did not."""
    predictor = Predictor(folder, runtime=choice)
    assert (predictor.parity is None) == bool(predictor.describe_start())
    return predictor.describe_start()


def find_kept(choice: RuntimeChoice) -> Path:
    assert choice.cache is not None
    (kept,) = (choice.cache / choice.name).iterdir()
    return kept


def test_what_is_kept_of_another_model_or_other_versions_is_no_proof(
    web_model, choice, tmp_path, monkeypatch
):
    other = export_two_members(tmp_path / "tiny" / "1")
    start(web_model, choice)
    kept = find_kept(choice)
    assert start(other, choice).startswith("converted now")
    (own,) = set(kept.parent.iterdir()) - {kept}
    rmtree(own)
    copytree(kept, own)
    expected = Predictor(other).predict([picture(0)]).probabilities
    found = Predictor(other, runtime=choice)
    assert found.describe_start().startswith("converted now")
    np.testing.assert_allclose(found.predict([picture(0)]).probabilities, expected, atol=1e-5)
    assert start(other, choice) == ""
    saved = SavedModel(other)
    before = network._key_of(choice, saved)
    assert read_json(own / proof.PROOF)["key"] == before
    installed = network.version
    for package in ("simplejpeg", "opencv-python-headless", "pillow", "numpy"):
        with monkeypatch.context() as patch:
            patch.setattr(
                network, "version", lambda name, new=package: "9" if name == new else installed(name)
            )
            assert network._key_of(choice, saved) != before
    monkeypatch.setattr(network.platform, "machine", lambda: "other")
    assert network._key_of(choice, saved) != before


def test_a_graph_that_does_more_than_compute_is_refused_also_where_nothing_loads_it(
    web_model, choice, tmp_path
):
    start(web_model, choice)
    kept, folder = find_kept(choice), copytree(web_model, tmp_path / "tiny" / "1")
    graph = saved_model_class()()
    graph.ParseFromString((folder / "saved_model.pb").read_bytes())
    graph.meta_graphs[0].graph_def.node.add(name="more", op="ReadFile")
    (folder / "saved_model.pb").write_bytes(graph.SerializeToString())
    write_manifest(folder)
    key = network._key_of(choice, SavedModel(folder))
    planted = copytree(kept, kept.parent / sha256_of_json(key)[:20])
    _change_proof(planted, key=key)
    write_manifest(planted)
    with pytest.raises(ModelError, match="the operation ReadFile"):
        Predictor(folder, runtime=choice)


def _change_proof(kept: Path, **changes: object) -> None:
    write_json(kept / proof.PROOF, read_json(kept / proof.PROOF) | changes)


def _change_arrays(kept: Path, **changes: np.ndarray) -> None:
    with np.load(kept / "proof.npz") as arrays:
        kept_arrays = dict(arrays)
    np.savez(kept / "proof.npz", **kept_arrays | changes)


DAMAGES = {
    "no interface": lambda kept: write_json(kept / proof.PROOF, {}),
    "a list": lambda kept: write_json(kept / proof.PROOF, []),
    "another interface": lambda kept: _change_proof(kept, interface={"serving_pixels": None}),
    "another kind of reason": lambda kept: _change_proof(kept, lacking=None),
    "no proof": lambda kept: (kept / proof.PROOF).unlink(),
    "no images": lambda kept: (kept / "proof.npz").unlink(),
    "no archive": lambda kept: (kept / "proof.npz").write_bytes(b"other"),
    "a pickle": lambda kept: _change_arrays(kept, pixels=np.array([{}], object)),
    "nothing to compare by": lambda kept: _change_arrays(kept, pixels=np.zeros((0, 16, 16, 3), np.uint8)),
    "images of another size": lambda kept: _change_arrays(kept, pixels=np.zeros((4, 9, 9, 3), np.uint8)),
    "no network": lambda kept: (kept / "model.onnx").unlink(),
    "another file": lambda kept: (kept / "model.onnx").write_bytes(b"other"),
}


def test_what_is_kept_and_hashes_well_but_is_malformed_is_converted_anew(
    web_model, choice, tmp_path, monkeypatch
):
    start(web_model, choice)
    kept, whole = find_kept(choice), tmp_path / "whole"
    copytree(kept, whole)
    # As slow as a start is to convert, it need not be done a dozen times.
    row = replace(
        network.RUNTIMES[choice.name], write=lambda _, made: copy(whole / "model.onnx", made / "model.onnx")
    )
    monkeypatch.setitem(network.RUNTIMES, choice.name, row)
    monkeypatch.setattr(
        network,
        "write_proof",
        lambda *to: [copy(whole / name, to[-1] / name) for name in (proof.PROOF, "proof.npz")],
    )
    for name, damage in DAMAGES.items():
        damage(kept)
        write_manifest(kept)
        assert start(web_model, choice).startswith("converted now"), name
        assert hash_files(kept) == hash_files(whole), name
    assert start(web_model, choice) == ""


def test_what_cannot_be_kept_is_told_with_the_folder_and_the_cure(web_model, choice, monkeypatch):
    start(web_model, choice)
    kept = find_kept(choice)
    (kept / proof.PROOF).write_text("{}")

    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "proof.json")

    monkeypatch.setattr(network, "shutil", SimpleNamespace(rmtree=refuse, copytree=copytree))
    said = start(web_model, choice)
    assert said.startswith("converted now")
    assert f"not kept, as writing {kept} failed (Read-only file system): set KERASALL_RUNS to" in said


@pytest.mark.slow
def test_a_damaged_or_unproven_network_is_converted_anew(web_model, choice):
    assert start(web_model, choice).startswith("converted now")
    assert start(web_model, choice) == ""
    kept = find_kept(choice)
    for damage in (
        lambda: (kept / "model.onnx").write_bytes(b"other"),
        lambda: (kept / proof.PROOF).write_text("{}"),
        lambda: ((kept / proof.PROOF).unlink(), write_manifest(kept)),  # as before there were proofs
    ):
        damage()
        assert start(web_model, choice).startswith("converted now")
        assert start(web_model, choice) == ""
        assert find_kept(choice) == kept


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        ([{"op": "center_crop", "height": 16, "width": 16}], "are not those that the card"),
        pytest.param(
            [{"op": "resize", "height": 16, "width": 16, "method": "area"}], "it alone computes resize area", marks=pytest.mark.slow
        ),
        pytest.param(None, "card does not say", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_chain_that_cannot_be_proven_leaves_the_pixels_to_tensorflow(
    web_model, choice, images, tmp_path, chain, why
):
    folder = copytree(web_model, tmp_path / "tiny" / "1")
    write_json(folder / "card.json", read_json(folder / "card.json") | {"preprocess": chain})
    write_manifest(folder)
    for _ in range(2):
        assert why in start(folder, choice)
    expected = Predictor(folder).predict([path.read_bytes() for path in images])
    found = Predictor(folder, runtime=choice).predict([path.read_bytes() for path in images])
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    assert found.errors == expected.errors


def test_a_network_that_answers_otherwise_on_this_machine_is_refused_at_the_start(
    web_model, choice, monkeypatch
):
    start(web_model, choice)
    kept, open_lanes = find_kept(choice), network.RUNTIMES["onnxruntime"].open
    row = replace(
        network.RUNTIMES["onnxruntime"],
        open=lambda folder, bfloat16: [lambda pixels: open_lanes(folder, bfloat16)[0](255 - pixels)],
    )
    monkeypatch.setitem(network.RUNTIMES, "onnxruntime", row)
    with pytest.raises(
        ModelError, match=r"must answer as TensorFlow does within 0\.0001.*--runtime tensorflow"
    ):
        Predictor(web_model, runtime=choice)
    assert not kept.exists()


def test_nothing_is_proven_by_images_of_which_a_model_is_sure_or_torn():
    shares = np.array(
        [[0.5, 0.5], [1 - 1e-6, 1e-6], [0.7, 0.3], [0.45, 0.55], [0.50005, 0.49995]], np.float32
    )
    assert proof._find_telling({"probabilities": shares, "refer": shares[:, 0] > 0}).tolist() == [3, 2]
    members = np.stack([shares, shares[::-1]], axis=1)
    found = proof._find_telling({"mean_probabilities": shares, "member_probabilities": members})
    assert found.tolist() == [1, 3, 2]
