"""Signal-to-noise ratios: worked numbers, pydoe where it has them, and what is not defined."""

from __future__ import annotations

import numpy as np
import pytest
from textbook_data import RESNET_ACCURACY, RESNET_CONFIRMATION, RESNET_ETA

from kerasall.errors import DataError, SettingsError
from kerasall.taguchi.signal_to_noise import SIGNALS, parse_signal

_RESPONSES = np.array([[2.0, 2.5, 3.0], [7.0, 6.0, 8.0], [0.5, 0.4, 0.7]])


def test_target_form_gives_the_papers_ratios():
    """The printed ratios were computed before the accuracies were rounded to four digits."""
    found = parse_signal("target:1").compute(RESNET_ACCURACY)
    np.testing.assert_allclose(found, RESNET_ETA, atol=6e-5)
    confirmed = parse_signal("target:1").compute(np.array([RESNET_CONFIRMATION]))
    assert confirmed == pytest.approx([14.9359], abs=5e-5)


@pytest.mark.parametrize(
    ("name", "theirs"), [("larger", "LARGER_IS_BETTER"), ("smaller", "SMALLER_IS_BETTER")]
)
def test_equal_to_pydoe(name, theirs):
    from pydoe import TaguchiObjective
    from pydoe.taguchi import compute_snr

    expected = [compute_snr(row, TaguchiObjective[theirs]) for row in _RESPONSES]
    np.testing.assert_allclose(parse_signal(name).compute(_RESPONSES), expected)


def test_nominal_is_mean_squared_over_variance():
    """mean 7, s^2 = 1 (divisor n - 1): 10 log10 49 = 16.902 dB."""
    assert parse_signal("nominal").compute(_RESPONSES[1:2]) == pytest.approx([16.902], abs=5e-4)


def test_target_over_single_runs_punishes_spread_and_the_plain_target_does_not():
    responses = np.array([[0.9, 0.9], [0.8, 1.0]])
    plain = parse_signal("target:1").compute(responses)
    spread = parse_signal("target-runs:1").compute(responses)
    assert plain == pytest.approx([20, 20])
    assert spread == pytest.approx([20, 16.9897], abs=1e-4)


@pytest.mark.parametrize("name", SIGNALS)
def test_an_absent_repeat_is_left_out(name):
    text = f"{name}:10" if SIGNALS[name].needs_target else name
    signal = parse_signal(text)
    with_gap = np.array([[2.0, np.nan, 3.0, 2.5]])
    np.testing.assert_allclose(signal.compute(with_gap), signal.compute(np.array([[2.0, 3.0, 2.5]])))


@pytest.mark.parametrize(
    ("signal", "responses", "message"),
    [
        ("larger", [[1, 0]], "must be positive.*y2 is 0 in row 1"),
        ("larger", [[1, 0], [1, 2], [-1, -2]], "in row 1 .and 1 more row like it"),
        ("larger", [[1, 2], [1, -2]], "y2 is -2 in row 2"),
        ("smaller", [[-1, 2]], "must not be negative"),
        ("smaller", [[0, 0]], "every response is 0, as in row 1"),
        ("nominal", [[1], [2]], "two responses a row.*one in rows 1, 2"),
        ("nominal", [[1, 1]], "all equal, or their mean is 0, as in row 1"),
        ("target:2", [[1, 3]], "must be finite.*target itself, as in row 1"),
        ("mean", [[1, 2], [np.nan, np.nan]], "none in row 2"),
    ],
)
def test_what_has_no_ratio_is_named(signal, responses, message):
    with pytest.raises(DataError, match=message):
        parse_signal(signal).compute(np.array(responses, dtype=float))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bigger", "larger, smaller, nominal, target:M"),
        ("target", "needs a target"),
        ("target:x", "needs a target"),
        ("target:nan", "needs a target"),
        ("larger:1", "takes no target"),
    ],
)
def test_unknown_signals_say_what_is_known(text, message):
    with pytest.raises(SettingsError, match=message):
        parse_signal(text)


def test_a_signal_names_itself():
    assert [str(parse_signal(text)) for text in ("target:1.5", "larger")] == ["target:1.5", "larger"]


@pytest.mark.parametrize(
    ("text", "responses", "told"),
    [
        ("larger", [0.8, 0.8], "0.8 in every run"),
        ("smaller", [3.0, 3.0], "3 in every run"),
        ("target:1", [0.7, 0.9], "a mean 0.2 off the target"),
        ("target-runs:1", [0.8, 1.2], "0.2 off the target in every run"),
        ("nominal", [1.0, 2.0], ""),
        ("mean", [1.0, 2.0], ""),
    ],
)
def test_a_ratio_is_told_in_the_unit_of_the_responses(text, responses, told):
    signal = parse_signal(text)
    assert signal.describe_size(float(signal.compute(np.array([responses]))[0])) == told
