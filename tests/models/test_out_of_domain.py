"""Distance to the training images: worked numbers, one pass for answer and features, the exported graph."""

from __future__ import annotations

import csv
from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasall.components.exporter import answer_with_safeguards
from kerasall.errors import ArtifactError, DataError, ModelError
from kerasall.evaluation.safeguards import (
    KEPT,
    REASONS,
    UNLIKE,
    Calibration,
    DomainLimit,
    PredictionSets,
    Safeguards,
    refer_reasons,
)
from kerasall.models.classifier import build_classifier, split_at
from kerasall.models.deep_features import build_extractor, build_feature_model
from kerasall.models.ensembles import build_ensemble
from kerasall.models.feature_classifiers import fit_feature_classifier
from kerasall.models.out_of_domain import (
    FEATURES,
    SMALLEST_VARIANCE,
    DomainDistance,
    build_statistics_model,
    fit_feature_distance,
    measure_pictures,
    with_features,
)
from kerasall.models.prediction import predict_activations
from kerasall.preprocessing.operations import Chain
from kerasall.serving.batch import predict_files
from kerasall.serving.export import export_saved_model
from kerasall.serving.predictor import Predictor

RNG = np.random.default_rng


def cloud(count: int, width: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes 6 apart along the first axis, three wide directions, the rest narrow."""
    rng, labels = RNG(seed), np.arange(count) % 2
    scales = np.r_[5.0, 4.0, 3.0, np.full(width - 3, 0.5)]
    features = rng.normal(size=(count, width)) * scales
    features[:, 5] += 6 * labels
    return features, labels


def test_with_all_axes_it_is_the_mahalanobis_distance_to_the_nearer_mean():
    features, labels = cloud(400, width=6)
    distance = fit_feature_distance(features, labels, axes=5)
    means = np.stack([features[labels == c].mean(axis=0) for c in (0, 1)])
    centred = features - means[labels]
    inverse = np.linalg.inv(centred.T @ centred / 398)
    asked = RNG(1).normal(size=(30, 6)) * 4
    squares = [np.einsum("nd,de,ne->n", asked - m, inverse, asked - m) for m in means]
    assert distance.measure(np, asked) == pytest.approx(np.sqrt(np.min(squares, axis=0) / 6), rel=1e-4)


def test_the_covariance_is_that_of_probabilistic_principal_components():
    features, labels = cloud(400)
    distance = fit_feature_distance(features, labels, axes=3)
    centred = features - np.stack([features[labels == c].mean(axis=0) for c in (0, 1)])[labels]
    variances = np.sort(np.linalg.eigvalsh(centred.T @ centred / 398))[::-1]
    assert 1 / distance.precisions == pytest.approx(variances[:3], rel=1e-4)
    assert 1 / distance.rest == pytest.approx(variances[3:].mean(), rel=1e-4)
    assert distance.measure(np, features).mean() == pytest.approx(1, abs=0.05)


def test_new_images_of_the_classes_are_near_and_others_far():
    distance = fit_feature_distance(*cloud(400))
    limit = np.quantile(distance.measure(np, cloud(400, seed=1)[0]), 0.95)
    assert np.mean(distance.measure(np, cloud(2000, seed=2)[0]) > limit) == pytest.approx(0.05, abs=0.03)
    # Between the two classes, out along a narrow direction, and far along a wide one.
    for axis, shift in ((7, 5.0), (0, 60.0)):
        strange = cloud(100, seed=3)[0]
        strange[:, axis] += shift
        assert (distance.measure(np, strange) > limit).all()


def test_it_is_kept_exactly_and_the_same_features_give_the_same(tmp_path):
    first, again = (fit_feature_distance(*cloud(100)) for _ in range(2))
    distance = DomainDistance(first, fit_feature_distance(*cloud(100, width=7)), (1.5, 0.25))
    distance.write(tmp_path / "distance.npz")
    read = DomainDistance.read(tmp_path / "distance.npz")
    for part in ("features", "pictures"):
        for name in ("means", "axes", "precisions", "rest"):
            assert np.all(getattr(getattr(read, part), name) == getattr(getattr(distance, part), name))
    assert read.scales == (1.5, 0.25)
    for name in ("means", "axes", "precisions"):
        assert (getattr(again, name) == getattr(first, name)).all()
    (tmp_path / "other.npz").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="must hold"):
        DomainDistance.read(tmp_path / "other.npz")


def test_the_larger_of_both_distances_counts_in_its_own_scale():
    distance = DomainDistance(
        fit_feature_distance(*cloud(100)), fit_feature_distance(*cloud(100, width=7)), (2.0, 0.5)
    )
    features, statistics = cloud(30, seed=4)[0], cloud(30, width=7, seed=5)[0]
    own = distance.features.measure(np, features) / 2.0
    looks = distance.pictures.measure(np, statistics) / 0.5
    found = distance.measure(np, features, statistics)
    assert found == pytest.approx(np.where(own > looks, own, looks), rel=1e-6)
    assert (found[:5] > 0).all()


def test_a_direction_that_never_varies_may_vary_a_little():
    features, labels = cloud(400)
    features[:, 9] = 0.3
    distance = fit_feature_distance(features, labels, axes=19, smallest_variance=SMALLEST_VARIANCE)
    asked = np.repeat(features[:1], 3, axis=0)
    asked[:, 9] += (0, 0.05, 10)
    near, little, far = distance.measure(np, asked)
    assert little == pytest.approx(near, rel=0.05)
    assert far > 10 * near


def test_too_few_images_and_features_that_say_nothing_are_refused():
    with pytest.raises(DataError, match="more images than classes"):
        fit_feature_distance(*cloud(3))
    with pytest.raises(DataError, match="differ"):
        fit_feature_distance(np.ones((20, 4)), np.arange(20) % 2)
    features, labels = cloud(100)
    with pytest.raises(DataError, match="differ"):  # by less than the inverse of which float32 holds
        fit_feature_distance(features * 1e-21, labels)
    with pytest.raises(DataError, match="finite"):
        fit_feature_distance(np.full((20, 4), np.nan), np.arange(20) % 2)


def pictures(count: int, seed: int = 0, size: int = 32) -> np.ndarray:
    rng = RNG(seed)
    ground = rng.uniform(60, 200, (count, 1, 1, 3))
    return np.clip(ground + rng.normal(0, 20, (count, size, size, 3)), 0, 255).astype(np.uint8)


def statistics_of(images: np.ndarray) -> np.ndarray:
    return np.asarray(measure_pictures(keras.ops, images.astype(np.float32)))


def test_pictures_are_told_by_colour_and_detail_but_not_by_how_they_lie():
    images = cv2.GaussianBlur(pictures(1, size=64)[0], (0, 0), 1.5)[None]
    own = statistics_of(images)
    for turned in (images[:, ::-1], images[:, :, ::-1], np.rot90(images, axes=(1, 2))):
        np.testing.assert_allclose(statistics_of(turned), own, atol=2e-3)
    blurred = cv2.GaussianBlur(images[0], (0, 0), 2)[None]
    for other in (images[..., [1, 0, 2]], images // 2, blurred, 255 - images):
        assert np.abs(statistics_of(other) - own).max() > 1


def test_statistics_of_one_colour_and_of_small_and_odd_images_are_finite():
    for shape in ((224, 224), (33, 21), (8, 8)):
        for value in (0, 128, 255):
            found = statistics_of(np.full((2, *shape, 3), value, np.uint8))
            assert np.isfinite(found).all()
            assert (found[0] == found[1]).all()


def test_the_model_of_statistics_gives_those_of_the_exported_graph_to_the_last_bit():
    images = RNG(8).integers(0, 256, (40, 64, 48, 3), np.uint8)
    images[3], images[5, :30] = 77, 255  # values that are equal
    graph = tf.function(
        lambda pixels: measure_pictures(keras.ops, tf.cast(pixels, tf.float32)), autograph=False
    )
    found = predict_activations(build_statistics_model((64, 48)), [images])
    np.testing.assert_array_equal(found, graph(images).numpy())


def test_the_model_of_statistics_gives_the_same_for_any_batch():
    images = pictures(3, size=48)
    found = np.asarray(build_statistics_model((48, 48))(images.astype(np.float32)))
    np.testing.assert_allclose(found, statistics_of(images), atol=1e-4)


def test_quantiles_and_correlations_by_hand():
    rows = (4 * np.arange(64, dtype=np.uint8)).repeat(64).reshape(1, 64, 64, 1)
    found = statistics_of(np.concatenate([rows, rows, 0 * rows], axis=-1))[0]
    # Grey is 2/3 of the value, red less green is 0, and both less blue is half the value.
    assert found[2:5] * 0.2 == pytest.approx([0, 1, 0], abs=0.05)
    medians = found[5 + 3 * 3 : 5 + 4 * 3]
    assert medians * 0.05 * 255 == pytest.approx([2 / 3 * 126, 0, 126 / 2], rel=0.08, abs=1e-4)
    # In 2 x 2 pixels two rows differ by 4: grey by 8/3, each 4/3 from the mean.
    assert found[0] * 0.3 == pytest.approx(np.log(4 / 3 / 255 + 2e-3), abs=0.02)


def test_features_of_a_classifier_are_those_of_its_cut(settled_classifier):
    model, images = settled_classifier(), pictures(3).astype(np.float32)
    outputs = with_features(model)(images, training=False)
    assert set(outputs) == {"probabilities", FEATURES}
    np.testing.assert_allclose(outputs["probabilities"], model(images, training=False), atol=1e-6)
    np.testing.assert_allclose(outputs[FEATURES], split_at(model)[0](images, training=False), atol=1e-5)


def test_features_of_an_ensemble_stand_side_by_side_and_its_answers_stay(settled_classifier):
    members = [settled_classifier(seed=seed, name=f"m{seed}") for seed in (1, 2)]
    images = pictures(3).astype(np.float32)
    own = [np.asarray(split_at(each)[0](images, training=False)) for each in members]
    ensemble = build_ensemble(members, "average")
    expected, outputs = ensemble(images, training=False), with_features(ensemble)(images, training=False)
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-6)
    np.testing.assert_allclose(outputs[FEATURES], np.concatenate(own, axis=1), atol=1e-5)


def test_features_of_deep_feature_classifiers_are_found_too():
    extractor = build_extractor("mobilenet", (32, 32), "random", 0.25, seed=1)
    images, labels = pictures(60).astype(np.float32), np.arange(60) % 2
    features = np.asarray(extractor(images, training=False)) + RNG(0).normal(size=(60, 256)) * 1e-3
    classifier = fit_feature_classifier("mlp", features, labels, 2)
    model = build_feature_model([extractor], classifier)
    outputs = with_features(model)(images, training=False)
    np.testing.assert_allclose(outputs[FEATURES], extractor(images, training=False), atol=1e-5)
    np.testing.assert_allclose(
        outputs["probabilities"], model(images, training=False)["probabilities"], atol=1e-6
    )


def test_models_without_pooled_features_are_refused():
    image = keras.Input((8, 8, 3))
    plain = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    with pytest.raises(ModelError, match="preprocess, backbone and head"):
        with_features(plain)
    with pytest.raises(ModelError, match="pool their features"):
        with_features(keras.Model(image, {"probabilities": plain(image)}))


LIMIT = DomainLimit(1.4, 0.05, 100, 30, "validation images")
SAFEGUARDS = Safeguards(
    Calibration(2.5, (0.0, 0.0, 0.0), ("a", "b", "c"), 100, 0.9, 0.7), "probabilities", "validation", (),
    PredictionSets(0.9, 0.34, 30, True), LIMIT,
)  # fmt: skip
ASKED = pictures(12, seed=5)


def measure(distance: DomainDistance, model: keras.Model, images: np.ndarray) -> np.ndarray:
    features = np.asarray(split_at(model)[0](images.astype(np.float32), training=False))
    return distance.measure(np, features, statistics_of(images))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A random network with batch statistics of coloured noise, exported with safeguards."""
    model = build_classifier("mobilenet", 3, (32, 32), weights="random", alpha=0.25)
    norms = [each for each in model.layers[2].layers if isinstance(each, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    model(pictures(16, seed=9).astype(np.float32), training=True)
    features = np.asarray(split_at(model)[0](pictures(200).astype(np.float32), training=False))
    labels = np.arange(200) % 3
    looks = fit_feature_distance(statistics_of(pictures(200)), labels, smallest_variance=SMALLEST_VARIANCE)
    distance = DomainDistance(fit_feature_distance(features, labels), looks, (1.3, 1.2))
    # The limit lies in the middle of the images that are asked about: some are beyond it, some are not.
    asked = measure(distance, model, ASKED)
    safeguards = replace(SAFEGUARDS, domain=replace(LIMIT, limit=float(np.median(asked)) + 1e-4))
    chain = Chain.from_json([{"op": "resize", "height": 32, "width": 32}])
    answers = answer_with_safeguards(model, safeguards, distance)
    place = tmp_path_factory.mktemp("models") / "1"
    export_saved_model(model, chain, ("a", "b", "c"), place, answer=answers)
    return model, distance, safeguards.domain.limit, place


def test_the_exported_model_says_what_numpy_computes(exported):
    model, distance, limit, folder = exported
    images = ASKED
    signature = tf.saved_model.load(str(folder)).signatures["serving_pixels"]
    found = {name: value.numpy() for name, value in signature(pixels=tf.constant(images)).items()}
    plain = np.asarray(model(images.astype(np.float32), training=False))
    np.testing.assert_allclose(found["probabilities"], plain, atol=1e-6)
    assert (found["label_index"] == plain.argmax(axis=1)).all()
    calibrated = SAFEGUARDS.calibration.apply(plain)
    np.testing.assert_allclose(found["calibrated_probabilities"], calibrated, atol=1e-6)
    assert (found["prediction_set"] == SAFEGUARDS.sets.contains(found["calibrated_probabilities"])).all()
    np.testing.assert_allclose(found["domain_distance"], measure(distance, model, images), rtol=1e-3)
    reasons = refer_reasons(np, found["prediction_set"].sum(axis=1), found["domain_distance"], limit)
    assert (found["refer_reason"] == reasons).all()
    assert (found["refer"] == (reasons != KEPT)).all()
    assert (reasons == UNLIKE).sum() == 6
    assert found["refer"].dtype == bool
    assert found["refer_reason"].dtype == np.int64
    assert FEATURES not in found


def test_predict_writes_what_it_would_refer_after_the_error(exported, tmp_path):
    model, distance, _, folder = exported
    asked = measure(distance, model, ASKED)
    paths = [tmp_path / "near.png", tmp_path / "far.png", tmp_path / "broken.png"]
    for path, row in ((paths[0], asked.argmin()), (paths[1], asked.argmax())):
        path.write_bytes(tf.io.encode_png(ASKED[row]).numpy())
    paths[2].write_bytes(b"nothing")
    predict_files(Predictor(folder), paths, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "path", "label", "a", "b", "c", "error", "calibrated_a", "calibrated_b", "calibrated_c",
        "prediction_set", "domain_distance", "refer", "refer_reason",
    ]  # fmt: skip
    assert sum(float(rows[0][f"calibrated_{name}"]) for name in "abc") == pytest.approx(1, abs=1e-6)
    assert rows[0]["refer_reason"] != REASONS[UNLIKE]
    assert rows[1]["refer"] == "true"
    assert rows[1]["refer_reason"] == REASONS[UNLIKE]
    assert rows[2]["error"]
    assert not any(rows[2][name] for name in list(rows[2])[6:])


def test_models_exported_without_safeguards_still_answer(tmp_path):
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    plain = keras.Model(image, keras.layers.Dense(3, activation="softmax")(pooled))
    chain = Chain.from_json([{"op": "resize", "height": 32, "width": 32}])
    folder = export_saved_model(plain, chain, ("a", "b", "c"), tmp_path / "1")
    path = tmp_path / "cell.png"
    path.write_bytes(tf.io.encode_png(pictures(1)[0]).numpy())
    predict_files(Predictor(folder), [path], tmp_path / "out.csv")
    header = (tmp_path / "out.csv").read_text().splitlines()[0]
    assert header == "path,label,a,b,c,error"


def test_without_a_distance_nothing_is_called_unlike(settled_classifier):
    answer = answer_with_safeguards(settled_classifier(), replace(SAFEGUARDS, domain=None))
    outputs = answer(pictures(4).astype(np.float32))
    assert "domain_distance" not in outputs
    assert (np.asarray(outputs["refer_reason"]) != UNLIKE).all()


def test_votes_are_calibrated_by_the_members_mean(settled_classifier):
    members = [settled_classifier(seed=seed, name=f"m{seed}") for seed in (1, 2, 3)]
    ensemble = build_ensemble(members, "majority_vote")
    images = pictures(6, seed=2).astype(np.float32)
    safeguards = replace(SAFEGUARDS, source="mean_probabilities", domain=None)
    outputs = answer_with_safeguards(ensemble, safeguards)(images)
    plain = ensemble(images, training=False)
    expected = safeguards.calibration.apply(np.asarray(plain["mean_probabilities"]))
    np.testing.assert_allclose(outputs["calibrated_probabilities"], expected, atol=1e-6)
    assert (np.asarray(outputs["label_index"]) == np.asarray(plain["label_index"])).all()
