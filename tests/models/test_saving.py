from __future__ import annotations

import json
import pickle
import warnings
import zipfile

import keras
import numpy as np
import pytest

from kerasall.errors import ModelError
from kerasall.models.base import HeadSettings, build_preprocess
from kerasall.models.classifier import build_classifier, find_parts
from kerasall.models.saving import load_model, save_model


def _change_config(path, change):
    """Rewrites config.json of a .keras archive, as an attacker would."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


LARGE = ("densenet121", "inception_resnet_v2", "nasnet_large")


@pytest.mark.parametrize(
    "name", ["mobilenet", "vgg16", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
)
def test_a_classifier_comes_back_without_code_of_ours(name, tmp_path):
    size = (75, 75) if name == "inception_resnet_v2" else (32, 32)
    model = build_classifier(name, 2, size, HeadSettings((4,), 0.5), weights="random", name="x")
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))
    assert find_parts(loaded).row.name == name
    assert "kerasall" not in zipfile.ZipFile(tmp_path / "model.keras").read("config.json").decode()


def test_a_model_is_replaced_whole_or_not_at_all(small_classifier, tmp_path):
    path = tmp_path / "model.keras"
    save_model(small_classifier(), path)
    before = path.read_bytes()

    class Failing(keras.layers.Layer):
        def get_config(self):
            raise RuntimeError("cannot be written")

    with pytest.raises(RuntimeError):
        save_model(keras.Sequential([keras.Input((2,)), Failing()]), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_preprocessing_comes_back_without_code_of_ours(mode, tmp_path):
    part = build_preprocess(mode, (4, 4))
    save_model(part, tmp_path / "part.keras")
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    np.testing.assert_array_equal(load_model(tmp_path / "part.keras")(pixels), part(pixels))


@pytest.mark.parametrize("name", ["model.h5", "model.pkl", "model", "model.keras.zip"])
def test_other_kinds_are_neither_written_nor_read(small_classifier, tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps("anything"))
    for attempt in (
        lambda: save_model(small_classifier(), tmp_path / name),
        lambda: load_model(tmp_path / name),
    ):
        with pytest.raises(ModelError, match=r"kept as \.keras files"):
            attempt()


def test_lambda_is_refused_on_both_ways(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    with pytest.raises(ModelError, match="Lambda"):
        save_model(model, tmp_path / "model.keras")
    model.save(tmp_path / "other.keras")
    with pytest.raises(ModelError, match="could run code"):
        load_model(tmp_path / "other.keras")


@pytest.mark.parametrize("module", ["os", "builtins", "kerasall.models.saving", "keras_evil"])
def test_classes_that_are_not_of_keras_are_refused(small_classifier, tmp_path, module):
    path = tmp_path / "model.keras"
    save_model(small_classifier(), path)
    _change_config(
        path, lambda config: config["config"]["layers"][1].update(module=module, class_name="system")
    )
    with pytest.raises(ModelError, match=f"names {module}.system"):
        load_model(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.keras must be a \.keras archive"):
        load_model(path)


def test_truncated_at_any_tenth_is_refused(small_classifier, tmp_path):
    path = tmp_path / "model.keras"
    save_model(small_classifier(), path)
    content = path.read_bytes()
    for tenth in range(1, 10):
        path.write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(ModelError, match=r"model\.keras must"):
            load_model(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"absent\.keras must exist"):
        load_model(tmp_path / "absent.keras")


def test_members_that_are_no_part_of_a_model_are_refused(small_classifier, tmp_path):
    path = tmp_path / "inner" / "deep" / "model.keras"
    save_model(small_classifier(), path)
    whole = path.read_bytes()
    for name in ("../../escaped.txt", "/tmp/escaped.txt", "assets/../../x", "run.py", "config.json"):
        path.write_bytes(whole)
        with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of a name that comes twice
            archive.writestr(name, "content")
        with pytest.raises(ModelError, match="and nothing else, but holds"):
            load_model(path)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["model.keras"]


def test_an_archive_that_unpacks_to_far_more_is_refused(small_classifier, tmp_path):
    path = tmp_path / "model.keras"
    save_model(small_classifier(), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] += bytes(50 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    del members
    with pytest.raises(ModelError, match="must unpack to at most 10 times"):
        load_model(path)
