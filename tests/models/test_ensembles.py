from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasall.errors import ModelError, SettingsError
from kerasall.evaluation.ensemble_rules import RULES, Stacking, combine
from kerasall.models.classifier import find_parts
from kerasall.models.ensembles import build_ensemble, find_members
from kerasall.models.prediction import predict_outputs, predict_probabilities
from kerasall.models.saving import load_model, save_model
from kerasall.preprocessing.operations import Chain
from kerasall.serving.export import export_saved_model

OUTPUTS = {"probabilities", "label_index", "member_probabilities", "votes", "mean_probabilities"}


def table_member(answers: np.ndarray, name: str, size: int = 1) -> keras.Model:
    """Answers the image whose first red value is i with row i of ``answers``: any probabilities at will."""
    classes = answers.shape[1]
    image = keras.Input((size, size, 3))
    index = keras.ops.cast(keras.ops.max(keras.ops.reshape(image, (-1, size * size * 3)), axis=-1), "int32")
    rows = keras.layers.Embedding(len(answers), classes, name="answers")
    model = keras.Model(image, rows(index), name=name)
    rows.set_weights([answers])
    return model


def numbered(count: int, size: int = 1) -> np.ndarray:
    return np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, size, size, 3))


def hard_answers(members: int, classes: int, images: int = 240) -> np.ndarray:
    """Float32 probabilities [M, N, C]: random ones, ones in tenths (which tie), and near-certain ones."""
    random = np.random.default_rng(7)
    free = random.dirichlet(np.ones(classes), (members, images // 3))
    tenths = random.multinomial(10, np.ones(classes) / classes, (members, images // 3)) / 10
    certain = random.dirichlet(np.full(classes, 0.02), (members, images // 3))
    return np.concatenate([free, tenths, certain], axis=1).astype(np.float32)


def parameter_for(rule: str, members: int, classes: int) -> dict:
    random = np.random.default_rng(members)
    stacking = Stacking(random.normal(size=(members * classes, classes)) / 4, random.normal(size=classes))
    return {
        "weights": {"weights": random.uniform(0.1, 1, members)},
        "stacking": {"stacking": stacking},
    }.get(RULES[rule].parameter, {})


@pytest.fixture
def lively_classifier(small_classifier) -> Callable[..., keras.Model]:
    """As ``small_classifier``, with batch statistics of noise: without them every image gets one answer."""

    def build(**changes) -> keras.Model:
        model = small_classifier(**changes)
        norms = [
            layer
            for layer in find_parts(model).backbone.layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        for layer in norms:
            layer.momentum = 0.0
        noise = np.random.default_rng(11).integers(0, 256, (8, *model.input_shape[1:]), dtype=np.uint8)
        model(noise, training=True)
        return model

    return build


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("count", [4, 5])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("malignant", [(), (1,)])
def test_the_graph_and_the_records_agree_ties_included(rule, count, classes, malignant):
    answers = hard_answers(count, classes)
    members = [table_member(rows, f"m{k}") for k, rows in enumerate(answers)]
    parameter = parameter_for(rule, count, classes)
    parameter["malignant"] = malignant
    model = build_ensemble(members, rule, **parameter)
    found = model(numbered(answers.shape[1]))
    probabilities, decided = combine(list(answers), rule, **parameter)
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=2e-6)
    np.testing.assert_array_equal(found["label_index"], decided)
    np.testing.assert_array_equal(found["member_probabilities"], answers.transpose(1, 0, 2))
    np.testing.assert_allclose(found["mean_probabilities"], answers.mean(axis=0), atol=1e-6)
    # Of equally probable classes a member votes for a malignant one.
    preferred = 1 + np.isin(np.arange(classes), malignant)
    chosen = (preferred * (answers == answers.max(axis=-1, keepdims=True))).argmax(axis=-1)
    votes = np.stack([(chosen == c).sum(axis=0) for c in range(classes)], axis=1)
    np.testing.assert_array_equal(found["votes"], votes)
    if rule == "majority_vote" and count == 4:
        assert (np.sort(votes, axis=1)[:, -1] == np.sort(votes, axis=1)[:, -2]).sum() > 10  # ties were tried


def test_outputs_have_the_names_shapes_and_kinds_of_the_contract(small_classifier):
    model = build_ensemble([small_classifier(seed=0), small_classifier(seed=1)], "average")
    assert {name: (tuple(t.shape), t.dtype) for name, t in model.output.items()} == {
        "probabilities": ((None, 3), "float32"),
        "label_index": ((None,), "int32"),
        "member_probabilities": ((None, 2, 3), "float32"),
        "votes": ((None, 3), "int32"),
        "mean_probabilities": ((None, 3), "float32"),
    }
    assert [tensor.name for tensor in model.inputs] == ["image"]
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in model._flatten_layers())


def test_members_stay_bit_equal_and_frozen(lively_classifier, images, targets):
    members = [lively_classifier(seed=seed) for seed in range(2)]
    before = [[np.array(weight) for weight in member.weights] for member in members]
    alone = [predict_probabilities(member, [images]) for member in members]
    model = build_ensemble(members, "average")
    assert not model.trainable_variables
    found = predict_outputs(model, [images[:5], images[5:]])
    assert set(found) == OUTPUTS
    for member, weights, answer, k in zip(members, before, alone, range(2), strict=True):
        assert all(map(np.array_equal, weights, member.weights))
        np.testing.assert_allclose(found["member_probabilities"][:, k], answer, atol=1e-5)
    assert found["votes"].dtype == found["label_index"].dtype == np.int32


@pytest.fixture
def mixed_sizes(lively_classifier) -> list[keras.Model]:
    return [
        lively_classifier(seed=0, image_size=(32, 32)),
        lively_classifier(seed=1, image_size=(64, 64), backbone="mobilenet_v2", alpha=0.35),
        lively_classifier(seed=2, image_size=(48, 40)),
    ]


def test_members_of_other_sizes_see_what_their_own_chain_gives(mixed_sizes):
    photographs = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    sizes = [(32, 32), (64, 64), (48, 40)]
    alone = []
    for member, (height, width) in zip(mixed_sizes, sizes, strict=True):
        chain = Chain.from_json([{"op": "resize", "height": height, "width": width}])
        alone.append(predict_probabilities(member, [np.stack([chain(each) for each in photographs])]))
    model = build_ensemble(mixed_sizes, "average", image_size=(64, 64))
    assert model.input_shape == (None, 64, 64, 3)
    found = predict_outputs(model, [photographs])
    np.testing.assert_allclose(found["member_probabilities"], np.stack(alone, axis=1), atol=1e-5)
    assert np.ptp(found["member_probabilities"], axis=0).min() > 1e-3  # the images do differ to each member
    assert build_ensemble(mixed_sizes, "average").input_shape == (None, 64, 64, 3)  # the largest


def test_a_member_may_crop_what_another_sees_whole(lively_classifier):
    whole, middle = lively_classifier(seed=0, image_size=(48, 48)), lively_classifier(seed=1)
    crop = [{"op": "center_crop", "height": 32, "width": 32}]
    photographs = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    model = build_ensemble([whole, middle], "average", names=["whole", "middle"], steps=[None, crop])
    found = predict_outputs(model, [photographs])["member_probabilities"]
    np.testing.assert_allclose(
        found[:, 1], predict_probabilities(middle, [photographs[:, 8:40, 8:40]]), atol=1e-6
    )


def test_names_are_made_unique_and_parts_follow(small_classifier):
    members = [small_classifier(seed=seed) for seed in range(3)]
    model = build_ensemble(members, "majority_vote")
    assert [member.name for member in find_members(model)] == ["member_1", "member_2", "member_3"]
    assert find_parts(members[1]).backbone.name == "member_2_mobilenet"
    assert find_members(model) == members
    named = build_ensemble(members, "average", names=["a", "b", "c"])
    assert [member.name for member in find_members(named)] == ["a", "b", "c"]
    with pytest.raises(ModelError, match="build it with build_ensemble"):
        find_members(members[0])


def test_names_in_the_graph_do_not_depend_on_what_was_built_before(small_classifier):
    def names():
        members = [small_classifier(seed=seed, image_size=(32 + seed, 32)) for seed in range(2)]
        return [each.name for each in build_ensemble(members, "maximum").operations]

    first = names()
    keras.ops.max(keras.KerasTensor((2, 2)))
    assert names() == first


@pytest.mark.parametrize("rule", RULES)
def test_saved_and_reloaded_it_answers_the_same(rule, tmp_path):
    answers = hard_answers(3, 3, 60)
    members = [table_member(rows, f"m{k}", size=2 + k) for k, rows in enumerate(answers)]
    model = build_ensemble(members, rule, **parameter_for(rule, 3, 3))
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    images = numbered(60, 4)
    expected, found = model(images), loaded(images)
    for name in OUTPUTS:
        np.testing.assert_array_equal(found[name], expected[name])
    assert [member.name for member in find_members(loaded)] == ["m0", "m1", "m2"]
    assert not loaded.trainable_variables


def members_of(count: int, classes: int = 2) -> list[keras.Model]:
    return [table_member(np.full((2, classes), 1 / classes), f"m{k}") for k in range(count)]


@pytest.mark.parametrize(
    ("members", "rule", "more", "error", "words"),
    [
        (members_of(1), "average", {}, ModelError, "at least 2 members, but has 1"),
        ([], "average", {}, ModelError, "at least 2 members, but has 0"),
        (members_of(2), "vote", {}, SettingsError, "must be one of majority_vote"),
        (members_of(2), "weighted_average", {"weights": [1, 0]}, SettingsError, "greater than 0"),
        (members_of(2), "average", {"names": ["a", "a"]}, SettingsError, "a repeats"),
        (members_of(2), "average", {"names": ["a"]}, SettingsError, "as many names as members"),
        (members_of(2), "average", {"names": ["image", "b"]}, SettingsError, "may be called image"),
        (members_of(2), "average", {"steps": [None]}, SettingsError, "as many lists of steps"),
        (members_of(1) * 2, "average", {}, ModelError, "there twice"),
        (members_of(2, 1), "average", {}, ModelError, "one probability per class"),
        (
            [members_of(1)[0], table_member(np.eye(3), "three")],
            "average",
            {},
            ModelError,
            r"same classes apart, but have {'m0': 2, 'three': 3}",
        ),
    ],
)
def test_what_cannot_be_an_ensemble_is_refused(members, rule, more, error, words):
    with pytest.raises(error, match=words):
        build_ensemble(members, rule, **more)


def test_stock_models_of_keras_vote_and_are_loaded_by_keras_alone(tmp_path):
    alike = {"input_shape": (32, 32, 3), "classes": 3, "weights": None, "alpha": 0.25}
    members = [keras.applications.MobileNet(**alike), keras.applications.MobileNet(**alike)]
    layers = [keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    members.append(keras.Sequential([*layers, keras.layers.Dense(3, "softmax")]))
    vote = build_ensemble(members, "majority_vote")
    images = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype("float32")  # as they were trained
    answers = vote(images)
    for number, member in enumerate(members):
        np.testing.assert_allclose(answers["member_probabilities"][:, number], member(images), atol=1e-6)
        assert not member.trainable_weights
    vote.save(tmp_path / "plain.keras")
    save_model(vote, tmp_path / "vote.keras")
    for loaded in (keras.saving.load_model(tmp_path / "plain.keras"), load_model(tmp_path / "vote.keras")):
        np.testing.assert_allclose(loaded(images)["votes"], answers["votes"])
        assert not loaded.trainable_weights


def test_a_member_without_a_softmax_is_refused():
    image = keras.Input((8, 8, 3))
    logits = [keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image))) for _ in range(2)]
    for member in logits:
        member.layers[-1].bias.assign([1.0, 2.0])
    with pytest.raises(ModelError, match="values that sum to 3: end it with a softmax"):
        build_ensemble(logits)


def test_a_model_that_is_no_graph_is_refused():
    layers = [keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    with pytest.raises(ModelError, match=r"let the Sequential begin with keras\.Input"):
        build_ensemble([keras.Sequential(layers), keras.Sequential(layers)])


def test_a_model_of_features_is_no_member():
    features = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)], name="other")
    with pytest.raises(ModelError, match=r"other has the inputs and outputs \[\(None, 8\)"):
        build_ensemble([*members_of(1), features], "average")


def test_a_model_without_named_outputs_is_sent_elsewhere(small_classifier, images):
    with pytest.raises(ModelError, match="predict_probabilities"):
        predict_outputs(small_classifier(), [images])


def test_nine_voters_answer_the_same_all_the_way_to_the_saved_model(tmp_path):
    members = [linear_member(seed) for seed in range(9)]
    assert_same_all_the_way(build_ensemble(members, "majority_vote"), tmp_path)


@pytest.mark.slow
def test_nine_equal_mobilenets_vote_in_one_saved_model(lively_classifier, tmp_path):
    members = [lively_classifier(seed=seed, classes=2) for seed in range(9)]
    assert_same_all_the_way(build_ensemble(members, "majority_vote"), tmp_path)


def linear_member(seed: int) -> keras.Model:
    """The quickest classifier of 32 x 32 pixels that sees every pixel."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    return keras.Sequential([keras.Input((32, 32, 3)), *layers], name="linear")


def assert_same_all_the_way(model: keras.Model, folder: Path) -> None:
    """Built, saved, reloaded, exported, reloaded with TensorFlow alone."""
    photographs = np.random.default_rng(0).integers(0, 256, (4, 50, 40, 3), dtype=np.uint8)
    chain = Chain.from_json([{"op": "resize", "height": 32, "width": 32}])
    pixels = np.stack([chain(each) for each in photographs])
    expected = predict_outputs(model, [pixels])
    answers_of_members = expected["member_probabilities"][:, :, 0]
    assert len(np.unique(answers_of_members[0])) == 9  # nine seeds, nine networks
    assert (expected["votes"].sum(axis=1) == 9).all()

    save_model(model, folder / "nine.keras")
    loaded = load_model(folder / "nine.keras")
    exported = export_saved_model(loaded, chain, ("all", "hem"), folder / "nine")
    signatures = tf.saved_model.load(str(exported)).signatures
    files = [cv2.imencode(".png", image[:, :, ::-1])[1].tobytes() for image in photographs]
    answers = {
        "reloaded": predict_outputs(loaded, [pixels]),
        "bytes": signatures["serving_default"](image_bytes=tf.constant(files)),
        "pixels": signatures["serving_pixels"](pixels=tf.constant(pixels)),
    }
    for found in answers.values():
        assert set(found) == OUTPUTS
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-6)
    assert answers["bytes"]["label_index"].dtype == tf.int64
