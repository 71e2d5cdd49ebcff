"""Pooled features come from stored activations where there are some, and equal those of the whole pass."""

import keras
import numpy as np
import pytest

from kerasall.components.calibrator import pooled_features
from kerasall.models.classifier import build_classifier, freeze, frozen_cut, split_at
from kerasall.models.deep_features import build_extractor, build_feature_model, extract_features
from kerasall.models.ensembles import build_ensemble
from kerasall.models.feature_classifiers import fit_feature_classifier
from kerasall.models.out_of_domain import FEATURES, with_features
from kerasall.models.prediction import cached_activations, predict_activations
from kerasall.models.saving import load_model

SIZE = (32, 32)
ROWS = np.array([1, 4, 5, 9])


def make_network(name, backbone="mobilenet", seed=0):
    options = {"alpha": 0.25} if backbone == "mobilenet" else {}
    return build_classifier(backbone, 2, SIZE, weights="random", seed=seed, name=name, **options)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(4).integers(0, 256, (12, *SIZE, 3), dtype=np.uint8)


def store(network, block, pixels, tmp_path):
    freeze(network, unfreeze_from=block)
    prefix, _ = split_at(network, frozen_cut(network))
    cached_activations(prefix, pixels, "key", tmp_path / "activations")


def whole_pass(model, pixels):
    outputs = with_features(model)
    return predict_activations(keras.Model(outputs.inputs[0], outputs.output[FEATURES]), [pixels])


@pytest.mark.parametrize("block", [None, "block_12"])
def test_a_classifier_goes_on_from_what_is_stored(pixels, tmp_path, block):
    model = make_network("one")
    store(model, block, pixels, tmp_path)
    wanted = whole_pass(model, pixels)[ROWS]
    # Other pixels show that none is passed again.
    found = pooled_features(model, np.zeros_like(pixels[ROWS]), ROWS, "key", 12, tmp_path)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_without_fitting_storage_the_pixels_are_passed(pixels, tmp_path):
    model, other = make_network("one"), make_network("other", seed=9)
    store(other, "block_12", pixels, tmp_path)
    wanted = whole_pass(model, pixels)[ROWS]
    np.testing.assert_allclose(
        pooled_features(model, pixels[ROWS], ROWS, "key", 12, tmp_path), wanted, atol=1e-6
    )


def test_members_stand_in_the_ensembles_order(pixels, tmp_path):
    members = [make_network("first"), make_network("second", seed=1), make_network("third", seed=2)]
    store(members[1], "block_12", pixels, tmp_path)
    store(members[2], None, pixels, tmp_path)
    model = build_ensemble(members, "average")
    wanted = whole_pass(model, pixels)[ROWS]
    found = pooled_features(model, pixels[ROWS], ROWS, "key", 12, tmp_path)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_frozen_members_of_one_saved_ensemble_pass_no_image_again(pixels, tmp_path):
    members = [make_network("first"), make_network("second", seed=1)]
    for member in members:
        store(member, None, pixels, tmp_path)
    build_ensemble(members, "majority_vote").save(tmp_path / "model.keras")
    model = load_model(tmp_path / "model.keras")
    wanted = whole_pass(model, pixels)[ROWS]
    found = pooled_features(model, np.zeros_like(pixels[ROWS]), ROWS, "key", 12, tmp_path)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_extractors_of_deep_features_pass_no_image_again(pixels, tmp_path):
    extractors = [
        build_extractor("mobilenet", SIZE, "random", alpha=0.25, seed=seed, name=f"number_{seed}")
        for seed in (0, 1)
    ]
    features = extract_features(extractors, pixels, "key", tmp_path / "activations")
    labels, folds = np.arange(12) % 2, np.arange(12) // 6
    classifier = fit_feature_classifier("linear_svm", features, labels, 2, folds=folds)
    build_feature_model(extractors, classifier).save(tmp_path / "model.keras")
    model = load_model(tmp_path / "model.keras")
    found = pooled_features(model, np.zeros_like(pixels[ROWS]), ROWS, "key", 12, tmp_path)
    np.testing.assert_allclose(found, features[ROWS], atol=1e-6)
    np.testing.assert_allclose(found, whole_pass(model, pixels)[ROWS], atol=1e-6)


def test_a_backbone_that_one_system_passed_serves_another(pixels, tmp_path):
    store(make_network("classifier"), None, pixels, tmp_path)
    extractor = build_extractor("mobilenet", SIZE, "random", alpha=0.25)
    wanted = predict_activations(extractor, [pixels])
    found = extract_features([extractor], np.zeros_like(pixels), "key", tmp_path / "activations")
    np.testing.assert_allclose(found, wanted, atol=1e-6)
