"""Groups dealt out: every class comes into every part where it can."""

from __future__ import annotations

import pytest

from kerasall.data.dealing import deal_groups


@pytest.mark.parametrize("validation", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("seed", range(5))
def test_two_patients_of_a_class_stand_on_both_sides_whatever_the_share(validation, seed):
    """Two healthy subjects of a fold, as of C-NMC: by shares alone both would be trained on."""
    images = {f"a{k}": ("all", 80) for k in range(15)} | {f"h{k}": ("hem", 100) for k in range(2)}
    groups = [name for name, (_, count) in images.items() for _ in range(count)]
    labels = [images[name][0] for name in groups]
    parts = deal_groups(groups, labels, {"train": 1 - validation, "validation": validation}, seed)
    assert {parts["h0"], parts["h1"]} == {"train", "validation"}
    assert {parts[name] for name in images if name[0] == "a"} == {"train", "validation"}
