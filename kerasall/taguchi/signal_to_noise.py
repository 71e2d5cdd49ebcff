"""Signal-to-noise ratios: one number in decibels for the responses of a row; larger is always better.

Sources: M. S. Phadke, Quality Engineering Using Robust Design (1989), chapter 5; the target form is
that of Chen et al., BMC Bioinformatics 22(S5):615 (2021).
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
        compute: (responses float [rows, repeats], target) -> float [rows]; nan marks absent responses.
        needs_target: whether a target m belongs to it.
        needs_repeats: whether a row must have two responses at least.
        positive: whether every response must be positive, or ``zero`` if 0 is allowed too.
        unit: of the result.
        infinite_where: in which rows the ratio is not finite.
        size: what a ratio r means as a size in the responses' own unit, 10^(r / 20) or its inverse; empty where it
            means none.
    """

    name: str
    formula: str
    compute: Callable[[np.ndarray, float], np.ndarray]
    needs_target: bool = False
    needs_repeats: bool = False
    positive: bool | str = False
    unit: str = "dB"
    infinite_where: str = "the responses are too large"
    size: str = ""


def _decibels(ratio: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 10 * np.log10(ratio)


SIGNALS: dict[str, Signal] = {
    signal.name: signal
    for signal in (
        Signal(
            "larger",
            "-10 log10(mean(1 / y^2))",
            lambda y, _: -_decibels(np.nanmean(1 / y**2, axis=1)),
            positive=True,
            size="{:.4g} in every run",
        ),
        Signal(
            "smaller",
            "-10 log10(mean(y^2))",
            lambda y, _: -_decibels(np.nanmean(y**2, axis=1)),
            positive="zero",
            size="{:.4g} in every run",
            infinite_where="every response is 0",
        ),
        Signal(
            "nominal",
            "10 log10(mean(y)^2 / s^2)",
            lambda y, _: _decibels(np.nanmean(y, axis=1) ** 2) - _decibels(np.nanvar(y, axis=1, ddof=1)),
            needs_repeats=True,
            infinite_where="the responses are all equal, or their mean is 0",
        ),
        Signal(
            "target",
            "-10 log10((mean(y) - m)^2)",
            lambda y, m: -_decibels((np.nanmean(y, axis=1) - m) ** 2),
            needs_target=True,
            size="a mean {:.4g} off the target",
            infinite_where="the mean is the target itself",
        ),
        Signal(
            "target-runs",
            "-10 log10(mean((y - m)^2))",
            lambda y, m: -_decibels(np.nanmean((y - m) ** 2, axis=1)),
            needs_target=True,
            size="{:.4g} off the target in every run",
            infinite_where="every response is the target itself",
        ),
        Signal("mean", "mean(y), as it is", lambda y, _: np.nanmean(y, axis=1), unit=""),
    )
}
"""Name -> signal. ``target`` looks at the mean alone, so the spread of the repeats does not enter;
``target-runs`` punishes spread too. ``mean`` takes the responses as they are."""


@dataclass(frozen=True)
class ChosenSignal:
    """A signal and its target.

    >>> parse_signal("target:1").compute(np.array([[0.8045, 0.8066, 0.7927]])).round(2)
    array([14.03])
    """

    signal: Signal
    target: float = 0.0

    def __str__(self) -> str:
        return f"{self.signal.name}:{self.target:g}" if self.signal.needs_target else self.signal.name

    def compute(self, responses: np.ndarray) -> np.ndarray:
        """The ratio of each row.

        Args:
            responses: float [rows, repeats]; nan where a repeat is absent.

        Returns:
            float [rows], finite.

        Raises:
            DataError: a row has no response, or one of which the ratio is not defined.
        """
        responses = np.asarray(responses, dtype=np.float64)
        present = (~np.isnan(responses)).sum(axis=1)
        if not len(responses) or not present.all():
            raise DataError(
                f"every row must have a response, but there is none in {_rows(present == 0)}: "
                "fill it in or leave the row out"
            )
        self._check(responses, present)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.signal.compute(responses, self.target)
        if not np.isfinite(ratio).all():
            raise DataError(
                f"the ratio {self.signal.formula} must be finite, but is not where {self.signal.infinite_where}, as "
                f"in {_rows(~np.isfinite(ratio))}: correct the responses or choose another signal, such as mean"
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
        sign = 1 if self.signal.name == "larger" else -1
        return self.signal.size.format(10 ** (sign * ratio / 20)) if self.signal.size else ""

    def _check(self, responses: np.ndarray, present: np.ndarray) -> None:
        if self.signal.needs_repeats and present.min() < 2:
            raise DataError(
                f"signal {self.signal.name} must have two responses a row at least, but there is one in "
                f"{_rows(present < 2)}: repeat the runs or choose another signal"
            )
        low = responses < 0 if self.signal.positive == "zero" else responses <= 0
        if self.signal.positive and low.any():
            sign = "must not be negative" if self.signal.positive == "zero" else "must be positive"
            row, repeat = np.argwhere(low)[0]
            raise DataError(
                f"responses {sign} for signal {self.signal.name}, but y{repeat + 1} is {responses[row, repeat]:g} in "
                f"row {row + 1}{_and_more(low.any(axis=1))}: correct them or choose target:M or mean"
            )


def _rows(wrong: Any) -> str:
    numbers = [str(i + 1) for i in np.flatnonzero(wrong)]
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    word = "row" if len(numbers) == 1 else "rows"
    return f"{word} {', '.join(numbers[:5])}{more}" if numbers else "the table"


def _and_more(wrong: Any) -> str:
    others = int(np.count_nonzero(wrong)) - 1
    return f" (and {others} more row{'s' if others > 1 else ''} like it)" if others else ""


def parse_signal(text: str) -> ChosenSignal:
    """Reads ``larger``, ``smaller``, ``nominal``, ``target:1``, ``target-runs:1`` or ``mean``.

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
        return ChosenSignal(signal)
    try:
        target = float(number)
    except ValueError:
        target = np.nan
    if not np.isfinite(target):
        raise SettingsError(f"signal {name} needs a target, but is {text!r}: write {name}:1 or the like")
    return ChosenSignal(signal, target)
