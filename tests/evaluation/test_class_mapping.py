"""Mapping of classes: by name, by kind, as stated; what is refused; and sums of probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.class_mapping import join_sets, map_classes, parse_mapping, to_scored
from kerasall.evaluation.predictions import Predictions

ARIA = ("Benign", "Early", "Pre", "Pro")
BLASTS = ("Early", "Pre", "Pro")


def answers(probabilities, decisions=None, classes=ARIA) -> Predictions:
    count = len(probabilities)
    names = [f"i{k}" for k in range(count)]
    return Predictions(names, [""] * count, names, [0] * count, probabilities, classes, decisions)


def test_the_two_public_sets_meet_as_malignant_and_benign():
    found = map_classes(("all", "hem"), ("all",), ARIA, BLASTS)
    assert found.targets == {"all": "malignant", "hem": "benign"}
    assert (found.classes, found.malignant, found.kinds) == (("benign", "malignant"), ("malignant",), True)
    back = map_classes(ARIA, BLASTS, ("all", "hem"), ("all",))
    assert [back.targets[name] for name in ARIA] == ["benign", "malignant", "malignant", "malignant"]


def test_the_same_classes_are_scored_as_they_are():
    found = map_classes(("Pro", "Benign"), (), ARIA, BLASTS)
    assert not found.kinds
    assert found.classes == ARIA
    assert found.targets == {"Pro": "Pro", "Benign": "Benign"}
    assert map_classes(("PRO", "benign"), (), ARIA, BLASTS).targets == {"PRO": "Pro", "benign": "Benign"}


def test_a_statement_comes_first():
    stated = {"blast": "Pro", "normal": "Benign", "dirt": "exclude"}
    found = map_classes(("blast", "normal", "dirt"), (), ARIA, BLASTS, stated)
    assert not found.kinds
    assert found.left_out == ("dirt",)
    assert found.describe()[-1] == "dirt is left out (as stated)"
    mixed = map_classes(("Pro", "normal"), (), ARIA, BLASTS, {"normal": "benign"})
    assert mixed.kinds
    assert mixed.targets == {"Pro": "malignant", "normal": "benign"}


@pytest.mark.parametrize(
    ("theirs", "malignant", "ours", "stated", "message"),
    [
        (("blast", "normal"), (), BLASTS, {}, "--malignant NAME.*--map blast=.*--map normal="),
        (("all", "hem"), ("all",), (), {}, "names no malignant classes"),
        (("all", "hem"), ("all",), BLASTS, {"hen": "benign"}, "did you mean 'hem'"),
        (("all", "hem"), ("all",), BLASTS, {"hem": "benig"}, "did you mean 'benign'"),
        (("all",), ("all",), BLASTS, {"all": "exclude"}, "all are left out"),
        (("Early", "hem"), ("hem",), BLASTS, {}, "only the model call it malignant"),
        (("Benign", "all"), ("all", "Benign"), BLASTS, {}, "only the images call it malignant"),
    ],
)
def test_what_cannot_be_mapped_is_refused(theirs, malignant, ours, stated, message):
    with pytest.raises(SettingsError, match=message):
        map_classes(theirs, malignant, ARIA, ours, stated)


def test_pairs_of_a_command_line():
    assert parse_mapping(["a=Pro", " b = exclude "]) == {"a": "Pro", "b": "exclude"}
    for wrong in ("a", "=b", "a="):
        with pytest.raises(SettingsError, match="must be written"):
            parse_mapping([wrong])
    with pytest.raises(SettingsError, match="two meanings"):
        parse_mapping(["a=Pro", "a=Pre"])


def test_joined_probabilities_are_sums_and_decisions_stay_the_models():
    mapping = map_classes(("all", "hem"), ("all",), ARIA, BLASTS)
    # 0.4 Benign is the most probable class, though the malignant ones have 0.6 together.
    found = to_scored(mapping, answers([[0.4, 0.2, 0.2, 0.2], [0.1, 0, 0, 0.9]]), ["hem", "all"], BLASTS)
    assert found.probabilities.tolist() == [pytest.approx([0.4, 0.6]), pytest.approx([0.1, 0.9])]
    assert found.decisions.tolist() == [0, 1]
    assert found.labels.tolist() == [0, 1]
    sets = np.array([[True, True, False, False], [False, False, False, False]])
    assert join_sets(mapping, sets, ARIA, BLASTS).tolist() == [[True, True], [False, False]]


@given(st.lists(st.lists(st.floats(0.01, 1), min_size=4, max_size=4), min_size=1, max_size=8))
def test_joining_keeps_all_probability(rows):
    probabilities = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    mapping = map_classes(("all",), ("all",), ARIA, BLASTS)
    found = to_scored(mapping, answers(probabilities), ["all"] * len(rows), BLASTS)
    assert found.probabilities.sum(axis=1) == pytest.approx(1)
    assert found.probabilities[:, 0] == pytest.approx(probabilities[:, 0])


def test_images_that_are_left_out_are_not_scored():
    mapping = map_classes(("Pro", "dirt"), (), ARIA, BLASTS, {"dirt": "exclude"})
    with pytest.raises(DataError, match="must not be scored"):
        to_scored(mapping, answers([[1, 0, 0, 0]]), ["dirt"], BLASTS)
