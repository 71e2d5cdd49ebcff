"""Export, reload with TensorFlow alone, predict files: equal answers, named faults, flat writes."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasall.decoding import Limits
from kerasall.errors import ArtifactError, DataError, KerasallError, ModelError
from kerasall.files import read_json, write_json, write_text
from kerasall.preprocessing.operations import Chain
from kerasall.serving.batch import predict_files
from kerasall.serving.card import read_card, verify_manifest, write_manifest
from kerasall.serving.export import export_saved_model
from kerasall.serving.image_files import find_images
from kerasall.serving.predictor import Predictor, describe_verdict, newest_version
from kerasall.serving.table_files import require_destination

LABELS = ("all", "hem")


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain.from_json([{"op": "resize", "height": 16, "width": 16}])


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 16, 3), name="image")
    features = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(image, keras.layers.Dense(2, activation="softmax")(pooled))


@pytest.fixture(scope="module")
def saved(model, chain, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "demo" / "1"
    return export_saved_model(model, chain, LABELS, folder)


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for name in ("a.bmp", "b.png", "c.jpg", "d.tif", "e.PNG"):
        cv2.imwrite(str(folder / name), noise.integers(0, 255, (20, 30, 3), np.uint8))
    return folder


def expected(model, chain, path: Path) -> np.ndarray:
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return model(chain(tf.constant(pixels))[None].numpy().astype(np.float32)).numpy()[0]


def test_signatures_keep_their_names(saved):
    signatures = tf.saved_model.load(str(saved)).signatures
    assert set(signatures) == {"serving_default", "serving_pixels", "preprocess"}
    _, inputs = signatures["serving_default"].structured_input_signature
    assert {(k, v.dtype.name, tuple(v.shape)) for k, v in inputs.items()} == {
        ("image_bytes", "string", (None,))
    }
    outputs = signatures["serving_default"].structured_outputs
    assert {k: (v.dtype.name, tuple(v.shape)) for k, v in outputs.items()} == {
        "probabilities": ("float32", (None, 2)),
        "label_index": ("int64", (None,)),
    }


def test_bytes_pixels_and_keras_agree(saved, model, chain, images):
    path = images / "a.bmp"
    answers = Predictor(saved).predict([path.read_bytes()])
    np.testing.assert_allclose(answers.probabilities[0], expected(model, chain, path), atol=1e-6)
    pixels = chain(tf.constant(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)))[None]
    direct = tf.saved_model.load(str(saved)).signatures["serving_pixels"](pixels=pixels)
    np.testing.assert_allclose(direct["probabilities"].numpy(), answers.probabilities, atol=1e-6)


def test_loads_in_a_process_without_keras(saved, images):
    script = (
        "import sys, tensorflow as tf; sys.modules['keras'] = None\n"
        "f = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "print(f(image_bytes=tf.constant([open(sys.argv[2], 'rb').read()]))['probabilities'].numpy().sum())"
    )
    command = [sys.executable, "-c", script, str(saved), str(images / "b.png")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert float(shown) == pytest.approx(1, abs=1e-5)


def read_rows(path: Path) -> list[dict]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(lines)) if path.suffix == ".csv" else [json.loads(line) for line in lines]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_one_row_a_file_and_bad_files_do_not_stop_the_rest(saved, model, chain, images, tmp_path, suffix):
    (images / "broken.png").write_bytes((images / "b.png").read_bytes()[:60])
    (images / "empty.bmp").touch()
    out = tmp_path / f"out{suffix}"
    paths = find_images([str(images)])
    failed = predict_files(Predictor(saved), paths, out, batch_size=3)
    assert failed == 2
    rows = read_rows(out)
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    for row in rows:
        if "broken" in row["path"] or "empty" in row["path"]:
            assert row["path"] in row["error"]
            assert not row["label"]
            assert not row["all"]
        elif not row["path"].endswith((".jpg", ".tif")):
            want = expected(model, chain, Path(row["path"]))
            assert row["label"] == LABELS[int(want.argmax())]
            np.testing.assert_allclose([float(row["all"]), float(row["hem"])], want, atol=1e-6)


def test_rows_do_not_depend_on_the_batch_size(saved, images, tmp_path):
    paths = find_images([str(images)])
    texts = []
    for size in (1, 2, 5):
        predict_files(Predictor(saved), paths, tmp_path / f"{size}.csv", batch_size=size)
        rows = read_rows(tmp_path / f"{size}.csv")
        texts.append([[float(row["all"]), float(row["hem"])] for row in rows])
    np.testing.assert_allclose(texts[0], texts[1], atol=1e-6)
    np.testing.assert_allclose(texts[0], texts[2], atol=1e-6)


def test_files_folders_and_patterns_are_found_once(images):
    everything = find_images([str(images), str(images / "*.png"), str(images / "a.bmp")])
    assert [p.name for p in everything] == ["a.bmp", "b.png", "c.jpg", "d.tif", "e.PNG"]
    with pytest.raises(DataError, match="matches nothing"):
        find_images([str(images / "*.gif")])
    (images.parent / "list.csv").write_text("path\na.bmp\n", encoding="utf-8")
    with pytest.raises(DataError, match="is a table: give the images that it lists by --manifest"):
        find_images([str(images.parent / "list.csv")])


def test_a_link_that_leads_nowhere_gets_a_row_with_an_error(saved, images, tmp_path):
    (images / "gone.png").symlink_to(tmp_path / "away.png")
    (images / "alive.png").symlink_to(images / "b.png")
    for arguments in (
        [str(images)],
        [str(images / "*.png"), str(images / "a.bmp")],
        [str(images / "gone.png")],
    ):
        paths = find_images(arguments)
        assert images / "gone.png" in paths
        out = tmp_path / "out.csv"
        assert predict_files(Predictor(saved), paths, out) == 1
        (failed,) = [row for row in read_rows(out) if row["error"]]
        assert failed["path"] == str(images / "gone.png")
        assert f"is a link to {tmp_path / 'away.png'}, which does not exist" in failed["error"]


def test_limits_are_those_of_the_card_or_as_given(saved, images, tmp_path):
    folder = tmp_path / "limited"
    shutil.copytree(saved, folder)
    write_json(folder / "card.json", {"limits": {"max_side": 25}})
    write_manifest(folder)
    image = (images / "b.png").read_bytes()
    assert "at most 25 pixels a side" in Predictor(folder).predict([image]).errors[0]
    assert Predictor(folder, Limits(max_side=30)).predict([image]).errors == ("",)
    assert Predictor(saved).predict([image]).errors == ("",)


def test_an_unknown_kind_of_output_is_refused(saved, images, tmp_path):
    with pytest.raises(DataError, match=r"\.csv, \.jsonl or \.parquet"):
        predict_files(Predictor(saved), find_images([str(images)]), tmp_path / "out.xlsx")


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    import shutil

    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_a_changed_byte_a_missing_and_a_foreign_file_are_named(copy):
    verify_manifest(copy)
    weights = next(copy.glob("variables/*.data*"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"variables\.data.* was changed"):
        Predictor(copy)
    weights.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        Predictor(copy)
    (copy / "extra.so").touch()
    with pytest.raises(ArtifactError, match=r"extra\.so is not in the manifest"):
        Predictor(copy)


def damage(data: bytes) -> list[bytes | None]:
    """A file's content changed in one byte, cut off, emptied; None: taken away."""
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    return [flipped, data[:middle], b"", None]


def put(path: Path, content: bytes | None) -> None:
    path.unlink() if content is None else path.write_bytes(content)


def test_damage_to_any_file_is_found_at_load(copy):
    for path in sorted(p for p in copy.rglob("*") if p.is_file()):
        whole = path.read_bytes()
        for content in damage(whole):
            put(path, content)
            with pytest.raises(ArtifactError):
                Predictor(copy)
            path.write_bytes(whole)
    Predictor(copy)


def test_damage_that_the_manifest_was_made_to_fit_is_found_all_the_same(copy):
    for path in (copy / "saved_model.pb", *sorted(copy.glob("variables/*"))):
        whole = path.read_bytes()
        for content in (whole[: len(whole) // 2], b"", b"\xff\xfe\0" * 99):
            path.write_bytes(content)
            write_manifest(copy)
            with pytest.raises(ArtifactError, match="must be a whole SavedModel"):
                Predictor(copy)
        path.write_bytes(whole)


@pytest.mark.parametrize("text", ["{}", "[]", "3", "null", '{"files": 3}', '{"files": []}', '{"files": {}}'])
def test_a_manifest_of_another_make_is_refused(copy, text):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError):
        Predictor(copy)


@pytest.mark.parametrize(
    ("card", "place"),
    [
        ([], "it"), ({"results": {"labels": 3}}, "results.labels"), ({"preprocess": [3]}, "preprocess.0"),
        ({"blessing": {"blessed": True}}, "blessing.criteria"), ({"data": {"notes": "x"}}, "data.notes"),
        ({"safeguards": {"refer_reasons": []}}, "safeguards.refer_reasons"),
    ],
)  # fmt: skip
def test_a_card_of_another_make_is_refused(tmp_path, card, place):
    write_json(tmp_path / "card.json", card)
    with pytest.raises(ArtifactError, match=f"but {place} is not as there"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("blessing", "words"),
    [
        (None, "no verdict known"),
        ({"blessed": True, "criteria": []}, "its card says blessed"),  # as 0.1.0 wrote it
        ({"blessed": True, "caveat": "", "criteria": []}, "its card says blessed"),
        (
            {"blessed": True, "caveat": "patients waived", "criteria": []},
            "its card says blessed; patients waived",
        ),
        (
            {"blessed": False, "caveat": "blocks", "criteria": [["A", True], ["B", False]]},
            "NOT BLESSED, as this does not hold: B; blocks",
        ),
    ],
)
def test_the_verdict_of_a_card_in_one_line(tmp_path, blessing, words):
    write_json(tmp_path / "card.json", {"blessing": blessing})
    assert describe_verdict(tmp_path) == f"model {tmp_path}: {words}"


def test_a_card_without_what_is_open(tmp_path):
    assert read_card(tmp_path) == {}
    write_json(tmp_path / "card.json", {"safeguards": None, "limits": None, "version": "1", "unknown": [1]})
    assert read_card(tmp_path) == {"version": "1", "unknown": [1]}


def test_labels_that_do_not_fit_are_refused_at_load(copy):
    write_text(copy / "labels.txt", "all\nhem\nthird\n")
    write_manifest(copy)
    with pytest.raises(ModelError, match="must name 2 classes, but names 3"):
        Predictor(copy)


def test_newest_version_is_the_highest_number(saved, tmp_path):
    for number in (2, 10):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "saved_model.pb").touch()
    assert newest_version(tmp_path).name == "10"
    assert newest_version(saved) == saved
    with pytest.raises(ArtifactError, match="must be a SavedModel"):
        newest_version(tmp_path / "nothing")


def test_a_network_is_traced_once_for_all_signatures(model, chain, images, tmp_path):
    traced = []

    def answer(pixels):
        traced.append(pixels)
        return {"probabilities": model(pixels, training=False)}

    export_saved_model(model, chain, LABELS, tmp_path / "m", answer=answer)
    assert len(traced) == 1
    signatures = tf.saved_model.load(str(tmp_path / "m")).signatures
    files = tf.constant([path.read_bytes() for path in sorted(images.glob("*.[bpj]*"))])
    from_files = signatures["serving_default"](image_bytes=files)
    from_pixels = signatures["serving_pixels"](**signatures["preprocess"](image_bytes=files))
    for name, values in from_files.items():
        np.testing.assert_array_equal(values, from_pixels[name])


def test_export_refuses_wrong_labels_and_open_sizes(model, chain, tmp_path):
    with pytest.raises(ModelError, match=r"one output per label \(3\), but has 2"):
        export_saved_model(model, chain, ("a", "b", "c"), tmp_path / "m")
    with pytest.raises(ModelError, match="is there twice: rename them"):
        export_saved_model(model, chain, ("a", "a"), tmp_path / "m")
    open_size = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()])
    with pytest.raises(ModelError, match="one size"):
        export_saved_model(open_size, chain, LABELS, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_manifest_lists_every_file(saved):
    listed = read_json(saved / "manifest.json")["files"]
    assert {"saved_model.pb", "labels.txt"} <= set(listed)


def test_a_destination_that_cannot_be_written_is_refused_beforehand(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.csv" / "notes.csv").touch()
    (tmp_path / "file").touch()
    for out in ("folder.csv", "file/out.csv", "out.xlsx"):
        with pytest.raises(KerasallError):
            require_destination(tmp_path / out)
    require_destination(tmp_path / "new" / "out.JSONL")
    with pytest.raises(KerasallError, match="that fsspec knows"):
        require_destination("nosuch://bucket/out.csv")


def test_a_file_name_that_is_not_utf8_does_not_cost_the_table(saved, images, tmp_path):
    import os

    name = os.fsencode(images) + b"/caf\xe9.png"
    with open(name, "wb") as file:
        file.write((images / "b.png").read_bytes())
    failed = predict_files(Predictor(saved), find_images([str(images)]), tmp_path / "out.csv")
    assert failed == 0
    assert len(read_rows(tmp_path / "out.csv")) == 6
