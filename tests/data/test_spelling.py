"""What counts as one name, and what does not."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasall.data.spelling import find_name, find_zero_padded, is_placeholder, join_spellings, key_of
from kerasall.data.vocabulary import name_part


@pytest.mark.parametrize(
    "names",
    [
        ["P01", "p01", "P 01", "p-01", "P_01", " P01 ", "P\u00a001"],
        ["5", "5.0", "5.00"],
        ["Müller", "Mu\u0308ller", "Mueller", "MÜLLER"],
        ["Jörgensen", "Jørgensen", "Joergensen"],
        ["São Paulo", "sao-paulo", "Sa\u0303oPaulo"],
        ["pre-B", "Pre B", "preB"],
        ["ALL", "all", "Ａｌｌ"],
        ["Пётр", "Петр"],
    ],
)
def test_these_are_one(names):
    assert len(set(join_spellings(Counter(names)).values())) == 1


@pytest.mark.parametrize(
    "names",
    [
        ["pre", "pre-B", "pro"], ["P1", "P01", "P11"], ["1-12", "11-2", "112"], ["-1", "1", "+1"],
        ["CD19+", "CD19-", "CD19"], ["5.0", "50", "5.5", "05"], ["blau", "blu"], ["Mueller", "Muller"],
        ["かき", "かぎ"], ["กา", "ก่า"], ["Кий", "Кии"],
    ],
)  # fmt: skip
def test_these_are_several(names):
    assert join_spellings(Counter(names)) == {name: name for name in names}


def test_the_most_frequent_spelling_is_kept_and_of_equals_the_first():
    assert join_spellings({"all": 2, "ALL": 3})["all"] == "ALL"
    assert join_spellings({"all": 2, "ALL": 2, "All": 1}) == dict.fromkeys(("all", "ALL", "All"), "ALL")


@given(st.dictionaries(st.text("aAüuUeE0 1-_.", max_size=5), st.integers(1, 9)))
def test_joining_is_settled_after_once_and_no_order_decides(counts):
    kept = join_spellings(counts)
    assert join_spellings(dict(reversed(counts.items()))) == kept
    totals = Counter()
    for name, count in counts.items():
        totals[kept[name]] += count
    assert set(join_spellings(totals).items()) == {(name, name) for name in totals}
    assert all(
        kept[name] == kept[other] for name in counts for other in counts if key_of(name) == key_of(other)
    )


@pytest.mark.parametrize(
    "name", ["", "unknown", "N/A", "nan", "None", "-", "?", "unbekannt", "Inconnu", "DESCONOCIDO"]
)
def test_words_for_unknown_are_no_patients(name):
    assert is_placeholder(name)


@pytest.mark.parametrize("name", ["0", "N01", "Nana", "Annan", "P-", "unknown1"])
def test_names_are_no_placeholders(name):
    assert not is_placeholder(name)


def test_leading_zeros_are_found_and_other_zeros_are_not():
    assert find_zero_padded(["P1", "P01", "P10", "P100"]) == [("P01", "P1")]


def test_a_name_is_found_by_its_spelling_if_that_is_one():
    assert find_name("all", ["ALL", "hem"]) == "ALL"
    assert find_name("al", ["ALL", "hem"]) is None
    assert find_name("Muller", ["Müller", "hem"]) == "Müller"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Training", "train"), ("TRAIN set", "train"), ("02_val", "validation"), ("Validierung", "validation"), ("dev", "validation"),
        ("hold-out", "test"), ("test images", "test"), ("prueba", "test"), ("entraînement", "train"), ("fold_1", ""),
        ("contest", ""), ("train test", ""), ("ALL", ""),
    ],
)  # fmt: skip
def test_names_of_parts(name, part):
    assert name_part(name) == part
