"""Seeds are what they were: another number is another result for everybody who repeats a run."""

import pytest

from kerasall.settings.seeds import derive_seed, name_seed


@pytest.mark.parametrize(
    ("seed", "purpose", "expected"),
    [
        (1, ("fold_1/learn",), 1825084128),
        (5, ("vgg16",), 31250976),
        (0, (2,), 1570558271),
        (7, (3, 2, 1), 1958281217),
        (0, (0, 1, 1), 817123012),
    ],
)
def test_a_purpose_has_the_seed_it_always_had(seed, purpose, expected):
    assert derive_seed(seed, *purpose) == expected


def test_members_and_repetitions_have_the_seeds_they_always_had():
    assert name_seed(0, "resnet") == 583918595
    assert name_seed(1, "repeat 3") == 1971303360


def test_seeds_fit_int32_and_differ():
    drawn = [derive_seed(seed, name) for seed in range(20) for name in ("a", "b")]
    assert len(set(drawn)) == 40
    assert all(0 <= seed < 2**31 for seed in drawn)
