"""Signal-to-noise ratios: one number in decibels for the responses of a row; larger is always better.

Sources: M. S. Phadke, Quality Engineering Using Robust Design (1989), chapter 5; the target form is
that of Chen et al., BMC Bioinformatics 22(S5):615 (2021). Omega: G. Taguchi, System of Experimental Design (1987), chapter
18, with half an image added on either side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasall.errors import DataError, SettingsError


@dataclass(frozen=True)
class Signal:
    """One way to make a ratio of the responses y1 to yn of a row.

    Attributes:
        name: as users write it, without the target.
        formula: for people.
        compute: (responses float [rows, repeats], target, images) -> float [rows]; nan marks absent responses.
        needs_target: whether a target m belongs to it.
        needs_repeats: whether a row must have two responses at least.
        lowest: least response for which the ratio is defined.
        highest: greatest one.
        unit: of the result.
        infinite_where: in which rows the ratio is not finite.
        size: what a ratio means as a size in the responses' own unit; empty where it means none.
        invert: ratio -> that size.
        bounded: whether the size is a response itself, which cannot lie beyond what responses can be.
        sees_spread: whether of two rows with one mean the steadier has another ratio by more than chance.
    """

    name: str
    formula: str
    compute: Callable[[np.ndarray, float, int], np.ndarray]
    needs_target: bool = False
    needs_repeats: bool = False
    lowest: float = -np.inf
    highest: float = np.inf
    unit: str = "dB"
    infinite_where: str = "the responses are too large"
    size: str = ""
    invert: Callable[[float], float] = lambda ratio: 10 ** (-ratio / 20)
    bounded: bool = False
    sees_spread: bool = True


def _decibels(ratio: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 10 * np.log10(ratio)


def _exactly(difference: np.ndarray, scale: float | np.ndarray) -> np.ndarray:
    """0 where a difference is rounding."""
    return np.where(np.abs(difference) <= 1e-12 * np.abs(scale), 0.0, difference)


def _nominal(responses: np.ndarray, *_: float) -> np.ndarray:
    mean = np.nanmean(responses, axis=1)
    spread = _exactly(np.nanstd(responses, axis=1, ddof=1), mean)
    return _decibels(mean**2) - _decibels(spread**2)


def _omega(responses: np.ndarray, _: float, images: int) -> np.ndarray:
    """10 log10 of the odds of x images of n, (x + 1/2) / (n + 1): never infinite."""
    count = (~np.isnan(responses)).sum(axis=1) * images
    share = (np.nanmean(responses, axis=1) * count + 0.5) / (count + 1)
    return _decibels(share / (1 - share))


ASSUMED_IMAGES = 100
"""Images behind a response of which nobody says how many there are."""

SIGNALS: dict[str, Signal] = {
    signal.name: signal
    for signal in (
        Signal(
            "larger",
            "-10 log10(mean(1 / y^2))",
            lambda y, *_: -_decibels(np.nanmean(1 / y**2, axis=1)),
            lowest=0.0,
            infinite_where="a response is 0",
            size="{:.4g} in every run",
            invert=lambda ratio: 10 ** (ratio / 20),
            bounded=True,
        ),
        Signal(
            "smaller",
            "-10 log10(mean(y^2))",
            lambda y, *_: -_decibels(np.nanmean(y**2, axis=1)),
            lowest=0.0,
            size="{:.4g} in every run",
            bounded=True,
            infinite_where="every response is 0",
        ),
        Signal(
            "nominal",
            "10 log10(mean(y)^2 / s^2)",
            _nominal,
            needs_repeats=True,
            infinite_where="the responses are all equal, or their mean is 0",
        ),
        Signal(
            "target",
            "-10 log10((mean(y) - m)^2)",
            lambda y, m, _: -_decibels(_exactly(np.nanmean(y, axis=1) - m, m) ** 2),
            needs_target=True,
            size="a mean {:.4g} off the target",
            infinite_where="the mean is the target itself",
            sees_spread=False,
        ),
        Signal(
            "target-runs",
            "-10 log10(mean((y - m)^2))",
            lambda y, m, _: -_decibels(np.nanmean((y - m) ** 2, axis=1)),
            needs_target=True,
            size="{:.4g} off the target in every run",
            infinite_where="every response is the target itself",
        ),
        Signal(
            "omega",
            "10 log10(p / (1 - p)), p = (x + 1/2) / (n + 1) of n images",
            _omega,
            lowest=0.0,
            highest=1.0,
            size="a mean of {:.4g}",
            invert=lambda ratio: 1 / (1 + 10 ** (-ratio / 10)),
            bounded=True,
            sees_spread=False,
        ),
        Signal("mean", "mean(y), as it is", lambda y, *_: np.nanmean(y, axis=1), unit="", sees_spread=False),
    )
}
"""Name -> signal. ``target`` looks at the mean alone, so the spread of the repeats does not enter;
``target-runs`` punishes spread too. ``omega`` is for proportions, which cannot pass 1: its levels add up where those of
the others would predict more than everything right. ``mean`` takes the responses as they are."""

_BEYOND = 20 * np.log10(2)
"""Decibels beyond the best, or below the worst, of the other rows at which a ratio without bound is taken."""


@dataclass(frozen=True)
class ChosenSignal:
    """A signal and its target.

    Attributes:
        signal: the signal.
        target: that of ``target`` and ``target-runs``.
        images: behind every response, for ``omega``; None where it is unknown.
        bounds: least and greatest possible response; None where there is none.

    >>> parse_signal("target:1").compute(np.array([[0.8045, 0.8066, 0.7927]])).round(2)
    array([14.03])
    """

    signal: Signal
    target: float = 0.0
    images: int | None = None
    bounds: tuple[float | None, float | None] = (None, None)

    def __str__(self) -> str:
        return f"{self.signal.name}:{self.target:g}" if self.signal.needs_target else self.signal.name

    def compute(self, responses: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
        """The ratio of each row.

        A ratio without bound, as where the mean is the target itself, is taken as one twice as good (or bad) as the best
        (or worst) of the other rows: 6 dB beyond it.

        Args:
            responses: float [rows, repeats]; nan where a repeat is absent.
            like: ratios of the other rows; None for those of ``responses``.

        Returns:
            float [rows], finite.

        Raises:
            DataError: a row has no response, or one of which the ratio is not defined.
        """
        ratio = self._compute(responses)
        known = (ratio if like is None else like)[np.isfinite(ratio if like is None else like)]
        known = known if len(known) else np.zeros(1)
        lifted = np.clip(ratio, known.min() - _BEYOND, known.max() + _BEYOND)
        return np.where(np.isinf(ratio), lifted, ratio)

    def find_unbounded(self, responses: np.ndarray) -> np.ndarray:
        """Marks the rows whose ratio has no bound: bool [rows]."""
        return np.isinf(self._compute(responses))

    def _compute(self, responses: np.ndarray) -> np.ndarray:
        responses = np.asarray(responses, dtype=np.float64)
        present = (~np.isnan(responses)).sum(axis=1)
        if not len(responses) or not present.all():
            raise DataError(
                f"every row must have a response, but there is none in {name_rows(present == 0)}: "
                "fill it in or leave the row out"
            )
        self._check(responses, present)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.signal.compute(responses, self.target, self.images or ASSUMED_IMAGES)
        if np.isnan(ratio).any():
            raise DataError(
                f"the ratio {self.signal.formula} must be a number, but is none where all responses are 0, as "
                f"in {name_rows(np.isnan(ratio))}: correct the responses or choose another signal, such as mean"
            )
        return ratio

    def noise_of_runs(self, runs: int, repeats: np.ndarray) -> float:
        """Variance of the ratio of new runs, in units of that of a row, as far as runs differ by chance alone.

        Args:
            runs: number of the new ones.
            repeats: int [rows], runs of each row.

        Returns:
            n / r; nan for a ratio of the spread, whose mean moves with the number of runs, unless they are as many.
        """
        of_a_row = 1 / float(np.mean(1 / repeats))
        if self.signal.needs_repeats and abs(of_a_row - runs) > 1e-9:
            return float("nan")
        return of_a_row / runs

    def describe_size(self, ratio: float) -> str:
        """What a ratio means in the unit of the responses; empty where it means no size.

        >>> parse_signal("larger").describe_size(-0.9151)
        '0.9 in every run'
        """
        if not self.signal.size:
            return ""
        size = float(self.signal.invert(ratio))
        if self.signal.bounded:
            low, high = self.bounds
            size = max(size if high is None else min(size, high), -np.inf if low is None else low)
        return self.signal.size.format(size)

    def _check(self, responses: np.ndarray, present: np.ndarray) -> None:
        if self.signal.needs_repeats and present.min() < 2:
            raise DataError(
                f"signal {self.signal.name} must have two responses a row at least, but there is one in "
                f"{name_rows(present < 2)}: repeat the runs or choose another signal"
            )
        wrong = (responses < self.signal.lowest) | (responses > self.signal.highest)
        if wrong.any():
            must = "not be negative" if self.signal.highest == np.inf else "lie between 0 and 1"
            row, repeat = np.argwhere(wrong)[0]
            raise DataError(
                f"responses must {must} for signal {self.signal.name}, but y{repeat + 1} is {responses[row, repeat]:g} in "
                f"row {row + 1}{_and_more(wrong.any(axis=1))}: correct them (per cent to shares) or choose target:M or mean"
            )


def name_rows(wrong: Any) -> str:
    """For example ``rows 1, 4``, of bool [rows]."""
    numbers = [str(i + 1) for i in np.flatnonzero(wrong)]
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    word = "row" if len(numbers) == 1 else "rows"
    return f"{word} {', '.join(numbers[:5])}{more}" if numbers else "the table"


def _and_more(wrong: Any) -> str:
    others = int(np.count_nonzero(wrong)) - 1
    return f" (and {others} more row{'s' if others > 1 else ''} like it)" if others else ""


def check_range(chosen: ChosenSignal, response: str, lowest: float, highest: float) -> None:
    """Makes sure that a signal is defined for whatever a response may be.

    Args:
        chosen: the signal.
        response: its name.
        lowest: least possible value.
        highest: greatest possible value; may be infinite.

    Raises:
        SettingsError: it is not.
    """
    signal, between = (
        chosen.signal,
        f"{lowest:g} and {highest:g}" if highest < np.inf else f"{lowest:g} and more",
    )
    if lowest < signal.lowest or highest > signal.highest:
        need = "0 or more" if signal.highest == np.inf else "between 0 and 1"
        raise SettingsError(
            f"signal {signal.name} needs responses of {need}, but {response} lies between {between}: take mean or target:M"
        )
    if signal.needs_target and not lowest <= chosen.target <= highest:
        raise SettingsError(
            f"the target must be a value that {response} can have, between {between}, but is {chosen.target:g}: "
            f"write {signal.name}:1 or the like"
        )


def default_signal(direction: str, lowest: float, highest: float) -> str:
    """The signal of a response where none is chosen: ``omega`` for what lives in [0, 1].

    Args:
        direction: ``higher`` or ``lower``, whichever is better.
        lowest: least possible response.
        highest: greatest possible response.
    """
    if direction == "lower":
        return "smaller"
    return "omega" if (lowest, highest) == (0, 1) else "larger" if lowest >= 0 else "mean"


def parse_signal(
    text: str, images: int | None = None, bounds: tuple[float | None, float | None] = (None, None)
) -> ChosenSignal:
    """Reads ``larger``, ``smaller``, ``nominal``, ``target:1``, ``target-runs:1``, ``omega`` or ``mean``.

    Args:
        text: as users write it.
        images: see ``ChosenSignal``.
        bounds: see ``ChosenSignal``.

    Raises:
        SettingsError: anything else.
    """
    name, _, number = text.strip().partition(":")
    known = ", ".join(f"{s.name}:M" if s.needs_target else s.name for s in SIGNALS.values())
    if name not in SIGNALS:
        raise SettingsError(f"a signal must be one of {known}, but is {text!r}")
    signal = SIGNALS[name]
    if not signal.needs_target:
        if number:
            raise SettingsError(f"signal {name} takes no target, but is {text!r}: write {name}")
        return ChosenSignal(signal, 0.0, images, (0.0, 1.0) if name == "omega" else bounds)
    try:
        target = float(number)
    except ValueError:
        target = np.nan
    if not np.isfinite(target):
        raise SettingsError(f"signal {name} needs a target, but is {text!r}: write {name}:1 or the like")
    return ChosenSignal(signal, target, images, bounds)
