from __future__ import annotations

import shutil

import h5py
import keras
import numpy as np
import pytest

from kerasall.errors import WeightsError
from kerasall.files import sha256_of_file
from kerasall.models.backbones import BACKBONES, WeightsFile
from kerasall.models.base import build_backbone
from kerasall.models.saving import save_model
from kerasall.models.weights import resolve_weights, sha256_of_arrays, verify_weights

SMALL = "mobilenet_2_5_224_tf_no_top.h5"
MOBILENET = BACKBONES["mobilenet"]


@pytest.fixture(autouse=True)
def _no_folder_set(monkeypatch):
    monkeypatch.delenv("KERASALL_WEIGHTS", raising=False)


def _arrays(model: keras.Model) -> list[np.ndarray]:
    return [np.array(weight) for weight in model.weights]


@pytest.mark.parametrize(
    ("name", "alpha"), [("mobilenet", 1.0), ("mobilenet", 0.25), ("mobilenet_v2", 0.35), ("vgg16", 1.0)]
)
def test_real_files_are_found_checked_and_loaded(real_weights, name, alpha):
    path = resolve_weights(BACKBONES[name], alpha, "imagenet", real_weights)
    assert path.parent == real_weights
    model = build_backbone(name, (64, 64), "imagenet", alpha, real_weights)
    with h5py.File(path) as file:
        layers = [file[layer] for layer in file.attrs["layer_names"]]
        stored = [layer[weight][()] for layer in layers for weight in layer.attrs["weight_names"]]
    found = _arrays(model)
    assert len(stored) == len(found)
    assert all(map(np.array_equal, stored, found))


def test_folder_of_the_environment_is_used(real_weights, monkeypatch):
    monkeypatch.setenv("KERASALL_WEIGHTS", str(real_weights))
    assert resolve_weights(MOBILENET, 0.25) == real_weights / SMALL


def test_random_needs_no_file(tmp_path):
    assert resolve_weights(MOBILENET, 0.25, "random", tmp_path / "absent") is None


def test_a_folder_without_the_file_is_an_error_not_a_download(tmp_path):
    with pytest.raises(
        WeightsError, match=f"must hold {SMALL}, but does not hold it: download it from https://"
    ):
        resolve_weights(MOBILENET, 0.25, "imagenet", tmp_path)
    with pytest.raises(WeightsError, match="but does not exist"):
        resolve_weights(MOBILENET, 0.25, "imagenet", tmp_path / "absent")


def test_one_flipped_byte_is_found(real_weights, tmp_path):
    content = bytearray((real_weights / SMALL).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / SMALL).write_bytes(content)
    found = sha256_of_file(tmp_path / SMALL)
    with pytest.raises(WeightsError) as caught:
        resolve_weights(MOBILENET, 0.25, "imagenet", tmp_path)
    for part in (SMALL, MOBILENET.weights[0.25].sha256[0], found, "fetch it again", "give its path"):
        assert part in str(caught.value)
    assert resolve_weights(MOBILENET, 0.25, tmp_path / SMALL, tmp_path) == tmp_path / SMALL


def test_a_repacked_file_of_the_same_numbers_is_accepted(real_weights, tmp_path):
    with h5py.File(real_weights / SMALL) as old, h5py.File(tmp_path / SMALL, "w") as new:
        new.attrs["layer_names"] = old.attrs["layer_names"]
        for layer in old.attrs["layer_names"]:
            group = new.create_group(layer)
            group.attrs["weight_names"] = old[layer].attrs["weight_names"]
            for weight in old[layer].attrs["weight_names"]:
                group.create_dataset(weight, data=old[layer][weight][()], compression="gzip")
    assert sha256_of_file(tmp_path / SMALL) != sha256_of_file(real_weights / SMALL)
    assert resolve_weights(MOBILENET, 0.25, "imagenet", tmp_path) == tmp_path / SMALL


def test_md5_of_keras_is_accepted_and_arrays_of_no_h5_file_are_none(tmp_path):
    path = tmp_path / "hello.h5"
    path.write_text("hello")
    verify_weights(
        path, WeightsFile("hello.h5", "https://x/hello.h5", md5="5d41402abc4b2a76b9719d911017c592")
    )
    assert sha256_of_arrays(path) == ""
    with pytest.raises(WeightsError, match="but its md5 is 5d41402abc4b2a76b9719d911017c592"):
        verify_weights(path, WeightsFile("hello.h5", "https://x/hello.h5", md5="0" * 32, arrays="0" * 64))


def test_the_other_name_of_a_file_is_found(tmp_path):
    row = BACKBONES["nasnet_large"]
    (tmp_path / "NASNet-large-no-top.h5").write_text("not the weights")
    with pytest.raises(WeightsError, match=r"NASNet-large-no-top\.h5 must be the ImageNet weights"):
        resolve_weights(row, 1.0, "imagenet", tmp_path)


def test_an_alpha_without_weights_is_refused():
    with pytest.raises(WeightsError, match=r"exist for alpha 1\.0, 0\.75, 0\.5, 0\.25, but alpha is 0\.3"):
        resolve_weights(MOBILENET, 0.3)


@pytest.mark.parametrize("name", ["weights.pkl", "weights.npz", "imagenett"])
def test_other_kinds_of_files_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"ending in \.h5 or \.keras"):
        resolve_weights(MOBILENET, 1.0, tmp_path / name)


def test_an_absent_path_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.h5 must exist"):
        resolve_weights(MOBILENET, 1.0, tmp_path / "absent.h5")


def test_without_a_network_the_message_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    # Port 9 of this machine refuses connections at once: the download fails as without a network.
    file = WeightsFile("lost.h5", "http://127.0.0.1:9/lost.h5")
    row = MOBILENET.__class__(**{**vars(MOBILENET), "weights": {1.0: file}})
    with pytest.raises(
        WeightsError, match=r"lost\.h5 must be downloaded.*into a folder and name that folder"
    ):
        resolve_weights(row, 1.0)


def test_weights_of_another_architecture_are_refused(real_weights):
    for name, alpha in (("mobilenet", 0.5), ("vgg16", 1.0)):
        with pytest.raises(WeightsError, match=f"must hold weights of {name}"):
            build_backbone(name, (32, 32), real_weights / SMALL, alpha)


def test_a_file_that_is_no_weights_is_refused(tmp_path):
    path = tmp_path / "text.h5"
    path.write_text("no weights at all")
    with pytest.raises(WeightsError, match=r"text\.h5 must hold weights of mobilenet"):
        build_backbone("mobilenet", (32, 32), path, 0.25)


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_own_files_are_loaded_by_path(small_classifier, tmp_path, ending):
    model = small_classifier(seed=3)
    path = tmp_path / f"mine{ending}"
    if ending == ".keras":
        save_model(model, path)  # a whole classifier: its backbone is taken
    else:
        model.layers[2].save_weights(path)
    loaded = build_backbone("mobilenet", (32, 32), path, 0.25)
    assert all(map(np.array_equal, _arrays(loaded), _arrays(model.layers[2])))


def test_a_folder_of_weights_may_be_copied(real_weights, tmp_path):
    shutil.copy(real_weights / SMALL, tmp_path)
    model = build_backbone("mobilenet", (32, 32), "imagenet", 0.25, str(tmp_path))
    assert np.isfinite(_arrays(model)[0]).all()
