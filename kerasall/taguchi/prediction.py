"""The additive model's prediction at a combination of levels, and its comparison with new runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kerasall.taguchi.anova import Model


@dataclass(frozen=True)
class Prediction:
    """The additive model at one combination of levels.

    Attributes:
        value: predicted ratio.
        low: lower end of the confidence interval of the mean ratio there; None without an error.
        high: upper end.
        levels: level number of every factor.
        confirmed: ratio of the confirmation runs, if any were made.
        confirmation_low: lower end of the interval for the ratio of a new row, wider than the mean's.
        confirmation_high: upper end.
    """

    value: float
    low: float | None
    high: float | None
    levels: dict[str, int]
    confirmed: float | None = None
    confirmation_low: float | None = None
    confirmation_high: float | None = None

    @property
    def confirmed_as_predicted(self) -> bool | None:
        """Whether the confirmed ratio lies where a new row's is expected; None if that is unknown."""
        if self.confirmed is None or self.confirmation_low is None or self.confirmation_high is None:
            return None
        return self.confirmation_low <= self.confirmed <= self.confirmation_high


def predict_ratio(
    model: Model, levels: Mapping[str, int], confidence: float = 0.95, confirmed: float | None = None
) -> Prediction:
    """Predicts the mean ratio at a combination of levels.

    The interval is that of the mean at a combination fixed beforehand; choosing it for its large
    level means flatters the value, the more so where a factor does nothing.

    Args:
        model: the fitted model.
        levels: level number of every factor.
        confidence: of the intervals, between 0 and 1.
        confirmed: ratio of runs made there.
    """
    value, variance = model.estimate(levels)
    mean_width = model.half_width(variance, confidence)
    row_width = model.half_width(variance + 1, confidence)
    if mean_width is None or row_width is None:
        return Prediction(value, None, None, dict(levels), confirmed)
    return Prediction(
        value,
        value - mean_width,
        value + mean_width,
        dict(levels),
        confirmed,
        value - row_width,
        value + row_width,
    )
