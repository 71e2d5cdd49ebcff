"""Signal-to-noise ratios: worked numbers, pydoe where it has them, and what is not defined."""

from __future__ import annotations

import numpy as np
import pytest
from textbook_data import RESNET_ACCURACY, RESNET_CONFIRMATION, RESNET_ETA

from kerasall.errors import DataError, SettingsError
from kerasall.taguchi.signal_to_noise import SIGNALS, check_range, default_signal, parse_signal

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
    with_gap = np.array([[0.2, np.nan, 0.3, 0.25]])
    np.testing.assert_allclose(signal.compute(with_gap), signal.compute(np.array([[0.2, 0.3, 0.25]])))


@pytest.mark.parametrize(
    ("signal", "responses", "message"),
    [
        ("larger", [[1, -1], [1, 2], [-1, -2]], "in row 1 .and 1 more row like it"),
        ("larger", [[1, 2], [1, -2]], "y2 is -2 in row 2"),
        ("smaller", [[-1, 2]], "must not be negative"),
        ("omega", [[0.5, 85]], "must lie between 0 and 1.*y2 is 85 in row 1.*per cent"),
        ("nominal", [[1], [2]], "two responses a row.*one in rows 1, 2"),
        ("nominal", [[0, 0]], "is none where all responses are 0, as in row 1"),
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
        ("omega", [1.0, 1.0], "a mean of 0.9975"),  # of 200 images half a one was wrong
        ("nominal", [1.0, 2.0], ""),
        ("mean", [1.0, 2.0], ""),
    ],
)
def test_a_ratio_is_told_in_the_unit_of_the_responses(text, responses, told):
    signal = parse_signal(text)
    assert signal.describe_size(float(signal.compute(np.array([responses]))[0])) == told


@pytest.mark.parametrize(
    ("signal", "good", "limit", "sign"),
    [
        ("target:1", [0.9, 0.9], [0.8, 1.2], 1),
        ("target:1", [0.7, 0.7], [1.0, 1.0], 1),
        ("target-runs:1", [0.9, 0.8], [1.0, 1.0], 1),
        ("smaller", [0.9, 0.8], [0.0, 0.0], 1),
        ("larger", [0.9, 0.8], [0.9, 0.0], -1),
        ("nominal", [0.9, 0.8], [0.7, 0.7], 1),
        ("nominal", [0.9, 0.8], [-0.3, 0.3], -1),
    ],
)
def test_a_ratio_without_bound_is_twice_as_far_out_as_any_other(signal, good, limit, sign):
    chosen, responses = parse_signal(signal), np.array([good, limit])
    ratio = chosen.compute(responses)
    assert list(chosen.find_unbounded(responses)) == [False, True]
    assert ratio[1] - ratio[0] == pytest.approx(sign * 20 * np.log10(2))
    assert chosen.compute(np.array([limit]), ratio[:1])[0] == pytest.approx(ratio[1])  # as a confirmation
    assert np.isfinite(chosen.compute(np.array([limit, limit]))).all()


def test_omega_is_the_log_odds_of_half_an_image_more_on_either_side():
    """90 of 100: 10 log10(90.5 / 10.5) = 9.355; three runs of 40, all right: 10 log10(120.5 / 0.5)."""
    assert parse_signal("omega", 100).compute(np.array([[0.9]])) == pytest.approx([9.3546], abs=1e-4)
    chosen = parse_signal("omega", 40)
    assert chosen.compute(np.ones((1, 3))) == pytest.approx([10 * np.log10(120.5 / 0.5)])
    shares = np.linspace(0, 1, 41)[:, None]
    ratio = chosen.compute(shares)
    assert (np.diff(ratio) > 0).all()
    np.testing.assert_allclose(ratio, -ratio[::-1], atol=1e-9)  # wrong images are the mirror of right ones


@pytest.mark.parametrize(
    ("signal", "lowest", "highest", "message"),
    [
        ("larger", -1, 1, "larger needs responses of 0 or more, but kappa lies between -1 and 1"),
        ("omega", 0, np.inf, "omega needs responses of between 0 and 1, but kappa lies between 0 and more"),
        ("target:95", 0, 1, "a value that kappa can have, between 0 and 1, but is 95"),
        ("target-runs:-1", 0, np.inf, "but is -1"),
    ],
)
def test_a_signal_that_a_response_may_leave_is_refused_beforehand(signal, lowest, highest, message):
    with pytest.raises(SettingsError, match=message):
        check_range(parse_signal(signal), "kappa", lowest, highest)


def test_what_lives_between_0_and_1_is_taken_by_its_odds():
    chosen = [
        default_signal(*each)
        for each in (("higher", 0, 1), ("higher", -1, 1), ("higher", 0, 9), ("lower", 0, 1))
    ]
    assert chosen == ["omega", "mean", "larger", "smaller"]
