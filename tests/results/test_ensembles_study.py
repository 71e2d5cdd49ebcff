"""The study of ensembles: nothing that decides has seen what is scored, and fitting to the scored images shows as optimism."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from small_images import make_features, make_images

from kerasall.errors import WeightsError
from kerasall.evaluation.metrics import METRICS
from results import ensembles
from results.ensembles import (
    BEST,
    RULES,
    combine_nested,
    combine_on_scored,
    compare_rules,
    predict_members,
)
from results.leakage import PROTOCOLS, draw_split, number_parts
from results.pages.ensembles import section
from results.provenance import round_numbers

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def images():
    return make_images()


@pytest.fixture(scope="module")
def parts(images):
    return number_parts(images, draw_split(images, PROTOCOLS["cnmc"][-1], 0))


@pytest.fixture(scope="module")
def draw(images, parts):
    features = {f"m{k}": make_features(images, 2, 0.5, seed=k) for k in range(3)}
    return predict_members(images, features, parts)


def test_what_decides_has_seen_neither_the_fold_nor_its_own_answers(images, parts, monkeypatch):
    """A head that tells which images it was fitted to."""

    def remember(features, labels, asked):
        assert not set(features[:, 0]) & set(asked[:, 0])
        fitted.append((set(features[:, 0].astype(int)), set(asked[:, 0].astype(int))))
        return np.tile([0.6, 0.4], (len(asked), 1))

    fitted: list = []
    monkeypatch.setitem(ensembles.HEADS, "linear", remember)
    numbers = np.arange(len(images.ids))[:, None].astype(float)
    draw = predict_members(images, {"m": numbers}, parts)
    assert len(fitted) == 5 + 10
    for fold, validation in zip(draw.folds, draw.validation, strict=True):
        assert set(validation["m"].ids) == set(images.ids[~fold])
    folds = [set(np.flatnonzero(fold)) for fold in draw.folds]
    for seen, _ in fitted[5:]:
        assert sum(not fold & seen for fold in folds) == 2


def test_nested_and_peeking_predictions_are_of_all_images_in_their_order(images, draw):
    for rule in RULES.values():
        for combine in (combine_nested, combine_on_scored):
            assert combine(draw, rule, ["all"]).ids.tolist() == images.ids.tolist()


def test_the_answers_of_a_fold_do_not_depend_on_its_labels(images, parts):
    """Labels of one fold are turned: what is said of its images must not change under the honest rules."""
    features = {f"m{k}": make_features(images, 2, 0.5, seed=k) for k in range(3)}
    turned = make_images()
    object.__setattr__(turned, "labels", np.where(parts == 0, 1 - images.labels, images.labels))
    first, second = (predict_members(each, features, parts) for each in (images, turned))
    for name, rule in RULES.items():
        one, two = (
            rule(
                [each.take(parts == 0) for each in draw.scored.values()],
                list(draw.validation[0].values()),
                ["all"],
            )
            for draw in (first, second)
        )
        np.testing.assert_array_equal(one.probabilities, two.probabilities, err_msg=name)
    one, two = (combine_on_scored(each, RULES["stacking"], ["all"]) for each in (first, second))
    assert np.abs(one.probabilities - two.probabilities)[parts == 0].max() > 0.01


def test_fitting_to_the_scored_images_is_never_told_as_a_gain(draw):
    found = compare_rules([draw, draw], ["all"])
    assert set(found["gains"]) == set(RULES) - {BEST}
    assert found["optimism"][BEST]["balanced_accuracy"]["difference"] >= 0
    assert sum(found["chosen_members"].values()) == 10
    for name, gain in found["gains"].items():
        over = gain["over_chosen_member"]["accuracy"]["difference"]
        expected = found["rules"][name]["accuracy"]["mean"] - found["rules"][BEST]["accuracy"]["mean"]
        assert over == pytest.approx(expected)
    best = max(each["balanced_accuracy"]["mean"] for each in found["members"].values())
    assert found["fitted_to_scored"][BEST]["balanced_accuracy"]["mean"] == pytest.approx(best)


def test_members_of_pure_noise_show_optimism_in_stacking(images, parts):
    noise = {f"m{k}": np.random.default_rng(k).normal(size=(len(images.ids), 8)) for k in range(4)}
    draw, area = predict_members(images, noise, parts), METRICS["roc_auc"]
    honest, peeking = (
        combine(draw, RULES["stacking"], ["all"]) for combine in (combine_nested, combine_on_scored)
    )
    assert area(honest) < 0.62
    assert area(peeking) > area(honest) + 0.02


def test_the_page_is_written_from_the_document(images, draw):
    network = {"parameters": 3.2e6, "operations": 1.1e9}
    found = {
        **images.describe(),
        "networks": dict.fromkeys(draw.scored, network),
        **compare_rules([draw, draw], ["all"]),
    }
    document = {"command": "COMMAND", "settings": {"seeds": [0, 1]}, "sets": {"cnmc": round_numbers(found)}}
    page = "\n".join(section(json.loads(json.dumps(document, allow_nan=False))))
    assert page.count("| best member |") == 1
    assert "take 3.3 billion operations an image: 3.0 times" in page
    assert "None" not in page
    assert not re.search(r"\bnan\b", page)


def test_the_stored_gains_are_the_differences_of_the_stored_scores():
    document = json.loads((RESULTS / "ensembles.json").read_text(encoding="utf-8"))
    for found in document["sets"].values():
        for name, gain in found["gains"].items():
            for metric, told in gain["over_chosen_member"].items():
                expected = found["rules"][name][metric]["mean"] - found["rules"][BEST][metric]["mean"]
                assert told["difference"] == pytest.approx(expected, abs=3e-6)
        for name, told in found["optimism"].items():
            expected = (
                found["fitted_to_scored"][name]["accuracy"]["mean"] - found["rules"][name]["accuracy"]["mean"]
            )
            assert told["accuracy"]["difference"] == pytest.approx(expected, abs=3e-6)
    assert "None" not in "\n".join(section(document))


def test_a_study_of_fewer_members_than_were_named_fails(images, monkeypatch, tmp_path):
    """As a row of RESULTS.md it would else pass for done."""

    def lack(*_):
        raise WeightsError("no weights here")

    monkeypatch.setattr(ensembles, "read_images", lambda *_: images)
    monkeypatch.setattr(ensembles, "compute_features", lack)
    words = [
        "x",
        "--cnmc",
        "c",
        "--weights",
        "w",
        "--cache",
        "k",
        "--out",
        str(tmp_path),
        "--networks",
        "mobilenet",
    ]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(WeightsError, match="no weights here"):
        ensembles.main()
    assert list(tmp_path.iterdir()) == []
