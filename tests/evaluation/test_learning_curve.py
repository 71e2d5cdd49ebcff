"""Learning curves: paired gains on the same images, the verdict of the last step, and the page."""

from __future__ import annotations

import numpy as np
import pytest

from kerasall.errors import DataError
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.repeats import Trained, score_curve
from kerasall.report.page import render_page
from kerasall.report.pages.learning_curve import describe_curve, make_curve_page


def record(right: float, seed: int) -> Predictions:
    """240 images of 24 patients, ``right`` of each patient's called rightly, give or take one of ten."""
    rng, rows = np.random.default_rng(seed), np.arange(240)
    labels, patients = (rows // 10) % 2, rows // 10
    wrong = np.round(10 * (1 - right) + rng.normal(0, 0.4, 24)).clip(0, 10)
    called = np.where(rows % 10 < wrong[patients], 1 - labels, labels)
    names = np.char.add("p", patients.astype(str))
    return Predictions(
        np.char.add("i", rows.astype(str)),
        names,
        names,
        labels,
        np.eye(2)[called] * 0.8 + 0.1,
        ("hem", "all"),
    )


def scored(predictions: Predictions) -> Scorer:
    return Scorer(predictions, ["all"], resamples=200)


def curve(*rights: float):
    trained = [
        Trained(f"run{k}", 0.5 ** (len(rights) - 1 - k), 8 * 2**k, 80 * 2**k, scored(record(right, k)))
        for k, right in enumerate(rights)
    ]
    return score_curve(trained, "accuracy")


def test_a_curve_that_rises_says_so():
    found = curve(0.6, 0.7, 0.9)
    assert [point.gain is None for point in found.points] == [True, False, False]
    gain = found.points[-1].gain
    values = [point.scores["accuracy"].value for point in found.points]
    assert gain.difference == pytest.approx(values[2] - values[1])
    assert gain.low > 0
    assert "still rises" in describe_curve(found)[-1]
    assert len(describe_curve(found)) == 5


def test_a_flat_end_claims_nothing():
    assert "does not show that there is none" in describe_curve(curve(0.7, 0.9, 0.9))[-1]


def test_other_images_at_a_point_are_refused():
    first, second = record(0.7, 0), record(0.8, 1).take(np.arange(200))
    with pytest.raises(DataError, match="same images"):
        score_curve(
            [Trained("a", 0.5, 8, 80, scored(first)), Trained("b", 1, 16, 160, scored(second))], "accuracy"
        )


def test_the_page():
    found = curve(0.6, 0.9)
    report = make_curve_page(
        found, title="demo", scored="the test part", group_kind="groups of patients", protocol="honest", command="kerasall run"
    )  # fmt: skip
    page = render_page(report)
    for words in ("Score against training groups of patients", "still rises", "50%", "run1"):
        assert words in page
    assert report.results["points"][1]["gain"]["low"] > 0
    (figure,) = report.sections[0].pictures
    assert "8:" in figure.alt
    assert "16:" in figure.alt
