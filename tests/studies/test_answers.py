"""What ``import kerasall`` joins from several rooms: answers, exports and comparisons of anybody's models."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import kerasall
from kerasall.errors import ArtifactError, DataError, ModelError, SettingsError
from kerasall.serving.card import read_card, verify_manifest
from kerasall.serving.explanation import explain_image
from kerasall.serving.predictor import Predictor, describe_verdict

LABELS = ["all", "hem"]


def build_network(top: str = "softmax", units: int = 2, side: int = 16) -> keras.Model:
    keras.utils.set_random_seed(1)
    image = keras.Input((side, side, 3))
    hidden = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(image, keras.layers.Dense(units, activation=top)(hidden), name="small")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, images) -> Path:
    """The same as PNG files, and one that is none."""
    folder = tmp_path_factory.mktemp("images")
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("models") / "mine" / "1"
    return kerasall.export(build_network(), place, LABELS, malignant="all", description="a toy")


def test_an_export_is_a_whole_model_that_says_nobody_judged_it(exported, folder):
    verify_manifest(exported)
    card = read_card(exported)
    assert card["results"] == {"labels": LABELS, "malignant": ["all"]}
    assert "neither trained nor scored" in card["data"]["notes"][0]
    assert "damaged JPEG" in card["damaged_files"]
    assert describe_verdict(exported).endswith("no verdict known")
    shown = explain_image(Predictor(exported), (folder / "0.png").read_bytes(), "0.png")
    assert shown.heatmap.shape == (16, 16)


def test_files_arrays_and_the_keras_model_get_one_answer(exported, folder, images):
    chain = kerasall.Chain.from_json(read_card(exported)["preprocess"])
    files = kerasall.predict(exported, folder)
    answers = [
        kerasall.predict(exported.parent, images, batch_size=2),
        kerasall.predict(Predictor(exported), list(images)),
        kerasall.predict(build_network(), images, chain=chain, labels=LABELS, batch_size=2),
        kerasall.predict(build_network(), np.stack([chain(each) for each in images]), labels=LABELS),
        kerasall.predict(
            build_network(), [folder / f"{n}.png" for n in range(5)], chain=chain, labels=LABELS
        ),
    ]
    for table in answers:
        np.testing.assert_allclose(table[LABELS], files[LABELS][:5], atol=1e-5)
        assert table["label"].tolist() == files["label"][:5].tolist()
    assert answers[0]["path"].tolist() == [f"image {n}" for n in range(5)]
    assert files["error"][5]
    assert files["label"][5] == ""
    assert files[LABELS].iloc[5].isna().all()
    broken = kerasall.predict(build_network(), folder / "broken.png", chain=chain, labels=LABELS)
    assert broken["error"][0]
    assert len(broken) == 1


def test_one_sigmoid_stands_for_two_classes(images):
    table = kerasall.predict(build_network("sigmoid", 1), images[:, :16, :16])
    assert (table["label"] == np.where(table["1"] > 0.5, "1", "0")).all()
    np.testing.assert_allclose(table["0"] + table["1"], 1, rtol=1e-6)


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_a_model_is_exported_with_the_scaling_it_was_trained_with(tmp_path, images, mode):
    network = build_network()
    place = kerasall.export(network, tmp_path / "scaled", LABELS, preprocess_input=mode)
    chain = kerasall.Chain.from_json(read_card(place)["preprocess"])
    pixels = np.stack([chain(each) for each in images]).astype("float32")
    scaled = keras.applications.imagenet_utils.preprocess_input(pixels.copy(), mode=mode)
    np.testing.assert_allclose(kerasall.predict(place, images)[LABELS], network(scaled), atol=1e-5)
    assert "explain" in Predictor(place).signatures


@pytest.mark.parametrize(
    ("model", "labels", "options", "error", "words"),
    [
        (build_network, ["a", "b", "c"], {}, ModelError, r"one output per label \(3\), but has 2"),
        (build_network, LABELS, {"malignant": "ALL"}, SettingsError, "among all, hem, but ALL is not"),
        (build_network, LABELS, {"preprocess_input": "tff"}, SettingsError, "did you mean 'tf'"),
        (lambda: build_network("linear"), LABELS, {}, ModelError, "end it with a softmax"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), LABELS, {}, ModelError, "must be a functional Keras model"),
        (lambda: build_network(side=None), LABELS, {}, ModelError, "images of one size"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_refused_and_leaves_nothing(
    tmp_path, model, labels, options, error, words
):
    with pytest.raises(error, match=words):
        kerasall.export(model(), tmp_path / "model", labels, **options)
    assert not list(tmp_path.iterdir())


def test_an_export_replaces_none_and_its_chain_must_fit(tmp_path, exported):
    with pytest.raises(SettingsError, match="must not exist yet"):
        kerasall.export(build_network(), exported, LABELS)
    chain = kerasall.Chain.from_json([{"op": "resize", "height": 20, "width": 20}])
    with pytest.raises(ModelError, match=r"16 x 16 pixels.*but makes 20 x 20"):
        kerasall.export(build_network(), tmp_path / "model", LABELS, chain)


def test_images_that_are_none_are_refused_with_their_cure(exported, images, tmp_path):
    for given, words in (
        (images.astype(float), "uint8 .* but image 0 is float64"),
        (images[..., 0], "but image 0 is uint8 of shape"),
        ([], "at least one image"),
        (str(tmp_path / "nothing.png"), "matches nothing"),
    ):
        with pytest.raises(DataError, match=words):
            kerasall.predict(exported, given)
    with pytest.raises(ModelError, match="prepare the images with the chain"):
        kerasall.predict(build_network(), images)
    Image.fromarray(images[0]).save(tmp_path / "x.png")
    with pytest.raises(ModelError, match="give chain="):
        kerasall.predict(build_network(), tmp_path)
    with pytest.raises(ModelError, match="each of 2 classes"):
        kerasall.predict(build_network(), images, labels=["a"])
    with pytest.raises(SettingsError, match="its own chain and labels"):
        kerasall.predict(exported, images, labels=LABELS)


def test_models_are_loaded_by_file_and_a_savedmodel_alone_says_what_it_can_do(
    exported, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    build_network().save(tmp_path / "small.keras")
    assert kerasall.load_model(tmp_path / "small.keras").output_shape == (None, 2)
    with pytest.raises(ArtifactError, match=r"must come with the run.*kerasall\.predict"):
        kerasall.load_model(exported)
    with pytest.raises(ArtifactError, match="must be a run in"):
        kerasall.load_model("nothing")


def test_systems_of_every_kind_are_compared(tmp_path):
    rng = np.random.default_rng(0)
    labels, groups = np.arange(40) % 2, np.arange(40) // 4
    first, second = (rng.dirichlet([1, 1], 40) for _ in range(2))
    first[:30] = np.eye(2)[labels[:30]]
    arrays = kerasall.compare(first, second, labels=labels, groups=groups, malignant="1", names=["a", "b"])
    ids = np.char.add("image ", np.arange(40).astype(str))
    records = [
        kerasall.Predictions(ids, groups, groups, labels, each, ("0", "1")) for each in (first, second)
    ]
    from kerasall.evaluation.predictions import write_predictions

    write_predictions(records[1], tmp_path / "b.npz")
    mixed = kerasall.compare(records[0], tmp_path / "b.npz", malignant=["1"], names=["a", "b"])
    assert arrays.to_json()["pairs"] == mixed.to_json()["pairs"]
    assert arrays.groups == 10
    assert arrays.pairs[0].flips.test == "sign flips over groups"
    alone = kerasall.compare(first, second, labels=labels, malignant="1", names=["a", "b"])
    assert alone.pairs[0].flips.test == "McNemar, exact"
    assert arrays.systems[0].missed == ((first.argmax(1) == 0) & (labels == 1)).sum()
    for systems, options, words in (
        ((first, second), {}, "pass labels="),
        ((records[0],), {}, "at least two systems"),
        ((records[0], records[1]), {"names": ["a"]}, "as many names as systems"),
    ):
        with pytest.raises(DataError, match=words):
            kerasall.compare(*systems, **options)


def test_check_takes_the_settings_of_the_data(folder, tmp_path):
    for label in ("x", "y"):
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.png").write_bytes((folder / f"{number}.png").read_bytes())
    found = kerasall.check(
        tmp_path, source="folder", malignant=["x"], checks={"near_duplicates": {"enabled": False}}
    )
    assert found.collection.malignant == ("x",)
    assert found.found["exact_duplicate_groups"] == 3
    assert [each["code"] for each in found.found["errors"]] == ["exact_duplicates_two_labels"]
    with pytest.raises(SettingsError, match=r"data\.sourc.*source"):
        kerasall.check(tmp_path, sourc="folder")
