"""Analysis of variance of main effects and declared interactions by least squares, and prediction with intervals.

For an orthogonal array these are the textbook's sums over level means; for unbalanced tables each sum of squares
is adjusted for all other terms but the interactions that contain it (type II).
The model predicts any combination of levels, with which new runs are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import fdtrc, stdtrit

from kerasall.errors import DataError
from kerasall.taguchi.effects import (
    Contrasts,
    Fit,
    complement,
    cross_contrasts,
    fit_main_effects,
    make_contrasts,
)

TRAININGS = "between trainings"
"""Line of the error to which all that one training gives owes the same chance; see ``Model.units``."""

_ZERO = 1e-20
"""A sum of squares this small against that of the responses is rounding, not variation."""


@dataclass(frozen=True)
class FactorLevels:
    """One factor as it was run.

    Attributes:
        name: of the factor.
        names: name of each level, by level number less one.
        group: int [levels], group of each level; dummy levels share one; -1 if it was never run.
        codes: int [rows], group of each row, 0 to groups - 1.
        runs: int [levels], number of rows at each level, dummy levels apart.
        values: what each level stands for, as it was given; its number where nothing was.
    """

    name: str
    names: tuple[str, ...]
    group: tuple[int, ...]
    codes: np.ndarray = field(repr=False)
    runs: tuple[int, ...] = ()
    values: tuple[Any, ...] = ()

    @cached_property
    def contrasts(self) -> Contrasts:
        return make_contrasts(self.codes)

    @property
    def df(self) -> int:
        return self.contrasts.df

    def place(self, levels: Mapping[str, int]) -> int:
        """Index of ``contrasts.by_level`` at the given level numbers."""
        return self.group[levels[self.name] - 1]

    def repeat(self, rows: np.ndarray) -> FactorLevels:
        """The factor in other rows: int [runs], the row that each of them repeats."""
        return replace(self, codes=self.codes[rows])

    def merge(self) -> FactorLevels:
        """The factor with all levels taken for one: without an effect."""
        group = tuple(min(number, 0) for number in self.group)
        return replace(self, group=group, codes=np.zeros_like(self.codes))

    def describe_uneven_runs(self) -> str:
        """Which level is run less often than another, in words; empty if none is."""
        made = {level: count for level, count in enumerate(self.runs, start=1) if count}
        if len(set(made.values())) < 2:
            return ""
        rare = min(made, key=lambda level: (made[level], -level))
        return f"{self.name} is at level {rare} in {_rows(made[rare])} and at another in {_rows(max(made.values()))}"


@dataclass(frozen=True)
class CrossedLevels:
    """The interaction of two factors, as it was run.

    Attributes:
        first: one factor.
        second: the other.
    """

    first: FactorLevels
    second: FactorLevels

    @property
    def name(self) -> str:
        return f"{self.first.name}×{self.second.name}"

    @cached_property
    def contrasts(self) -> Contrasts:
        return cross_contrasts(
            self.first.contrasts, self.second.contrasts, self.first.codes, self.second.codes
        )

    @property
    def df(self) -> int:
        return self.first.df * self.second.df

    def place(self, levels: Mapping[str, int]) -> int:
        """Index of ``contrasts.by_level`` at the given level numbers."""
        return self.first.place(levels) * len(self.second.contrasts.by_level) + self.second.place(levels)

    def place_rows(self) -> np.ndarray:
        """Index of ``contrasts.by_level`` of every row: int [rows]."""
        return self.first.codes * len(self.second.contrasts.by_level) + self.second.codes


Term = FactorLevels | CrossedLevels
"""What has a line in the table."""


def _rows(count: int) -> str:
    return "one row" if count == 1 else f"{count} rows"


@dataclass(frozen=True)
class AnovaRow:
    """One line of the table.

    Attributes:
        factor: name.
        sum_of_squares: adjusted for the other factors.
        df: degrees of freedom; distinct levels less one.
        mean_square: sum of squares / df; None where df is 0.
        f: mean square / error mean square; None where there is no error to divide by.
        p: upper tail of F(df, error df).
        contribution_percent: 100 SS / SS_total.
        corrected_contribution_percent: 100 (SS - df MS_error) / SS_total, what is left of the
            contribution once the noise's share is taken off; the raw one where no error is estimated.
    """

    factor: str
    sum_of_squares: float
    df: int
    mean_square: float | None
    f: float | None
    p: float | None
    contribution_percent: float | None
    corrected_contribution_percent: float | None


@dataclass(frozen=True)
class Anova:
    """The table.

    Attributes:
        rows: one a factor in the model.
        pooled: one a factor pooled into the error, without F and p.
        error: the line of the error; its F and p are None.
        total: the line of the total.
    """

    rows: tuple[AnovaRow, ...]
    pooled: tuple[AnovaRow, ...]
    error: AnovaRow
    total: AnovaRow

    @property
    def saturated(self) -> bool:
        """Whether no degree of freedom is left for the error that settings are tested against."""
        return next((row.df for row in self.rows if row.factor == TRAININGS), self.error.df) == 0


@dataclass(frozen=True)
class Model:
    """Main effects and declared interactions, fitted to the ratios of the rows.

    Attributes:
        factors: those of the table.
        kept: terms in the model; the others are pooled into the error.
        response: float [rows].
        crossed: declared interactions of the factors.
        units: int [rows], what each row was made of: those of one training share its chance, so that what differs between
            trainings is judged by the error between them (a split plot). None where every row has a chance of its own.
    """

    factors: tuple[FactorLevels, ...]
    kept: tuple[Term, ...]
    response: np.ndarray
    crossed: tuple[CrossedLevels, ...] = ()
    units: np.ndarray | None = None

    @property
    def terms(self) -> tuple[Term, ...]:
        """Factors and interactions, kept or not."""
        return (*self.factors, *self.crossed)

    @cached_property
    def fit(self) -> Fit:
        return fit_main_effects([t.contrasts for t in self.kept], self.response)

    @cached_property
    def full_fit(self) -> Fit:
        """With the pooled terms too."""
        if len(self.kept) == len(self.terms):
            return self.fit
        return fit_main_effects([t.contrasts for t in self.terms], self.response)

    @property
    def error_df(self) -> int:
        return len(self.response) - 1 - self.fit.rank

    @cached_property
    def between_error(self) -> tuple[float, int]:
        """Sum of squares and degrees of freedom of the error between units; all of it where there are none."""
        if self.units is None:
            return self.fit.residual_sum_of_squares, self.error_df
        counts = np.bincount(self.units)
        columns = np.column_stack([np.ones(len(self.response)), *[t.contrasts.columns for t in self.kept]])
        means = np.stack([np.bincount(self.units, column) / counts for column in columns.T], axis=1)
        residual = np.bincount(self.units, self.fit.residual) / counts
        return float(counts @ residual**2), len(counts) - int(np.linalg.matrix_rank(means, tol=1e-8))

    @cached_property
    def error_mean_square(self) -> float | None:
        """Of the error between units; None where it has no degree of freedom."""
        squares, df = self.between_error
        return squares / df if df else None

    def differs_between_units(self, term: Term) -> bool:
        """Whether an effect is, if only in part, one of units: not the same comparison inside each of them."""
        if self.units is None:
            return False
        return any(np.abs(np.bincount(self.units, c)).max() > 1e-8 for c in term.contrasts.columns.T)

    def without(self, pooled: Sequence[str]) -> Model:
        """The model with some terms, by name, taken for error."""
        return replace(self, kept=tuple(t for t in self.terms if t.name not in pooled))

    def of_runs(self, rows: np.ndarray, responses: np.ndarray) -> Model:
        """The same model of single runs.

        Args:
            rows: int [runs], the row of each.
            responses: float [runs].
        """
        factors = tuple(factor.repeat(rows) for factor in self.factors)
        by_name = {factor.name: factor for factor in factors}
        crossed = tuple(CrossedLevels(by_name[t.first.name], by_name[t.second.name]) for t in self.crossed)
        kept = {term.name for term in self.kept}
        return Model(factors, tuple(t for t in (*factors, *crossed) if t.name in kept), responses, crossed)

    def level_means(self, factor: FactorLevels) -> list[float | None]:
        """Mean ratio at each level, the other factors being as they are over the whole table.

        In an orthogonal table it is the plain mean of the level's rows; in another one the mean
        adjusted by least squares. Dummy levels repeat the merged mean; None marks a level never run.
        """
        position = self.factors.index(factor)
        means = (
            self.full_fit.mean + factor.contrasts.by_level @ self.full_fit.coefficients[position]
            if factor.df
            else np.array([self.full_fit.mean])
        )
        return [None if group < 0 else float(means[group]) for group in factor.group]

    def estimate(self, levels: Mapping[str, int]) -> tuple[float, float]:
        """Predicted ratio at the given level numbers, and its variance in units of the error's.

        Pooled factors add nothing: what was taken for noise does not enter a prediction.
        """
        value, parts = self.fit.mean, []
        for term, coefficients in zip(self.kept, self.fit.coefficients, strict=True):
            row = term.contrasts.by_level[term.place(levels)]
            value += float(row @ coefficients)
            parts.append(row)
        point = np.concatenate([np.empty(0), *parts])
        return value, 1 / len(self.response) + float(point @ self.fit.inverse @ point)

    def across(
        self,
        noise: Sequence[FactorLevels],
        rows: np.ndarray,
        columns: np.ndarray,
        responses: np.ndarray,
        units: np.ndarray | None = None,
    ) -> Model:
        """The model of single runs of a crossed design: all terms, the noise factors, and each setting with each of these.

        Args:
            noise: noise factors, over the noise runs.
            rows: int [runs], the row of each.
            columns: int [runs], the noise run of each.
            responses: float [runs].
            units: int [runs], the training of each, where some share one.
        """
        own = self.of_runs(rows, responses)
        outer = tuple(factor.repeat(columns) for factor in noise)
        crossed = tuple(CrossedLevels(a, b) for a in own.factors if a.df for b in outer)
        factors, crossed = (*own.factors, *outer), (*own.crossed, *crossed)
        return Model(factors, (*factors, *crossed), responses, crossed, units)

    def estimate_mean(
        self, over: Sequence[Mapping[str, int]], less: Sequence[Mapping[str, int]] = ()
    ) -> tuple[float, float]:
        """Mean of the predictions at several combinations of levels, and its variance in units of the error's.

        Args:
            over: level number of every factor of the kept terms, one mapping a combination.
            less: the same of combinations whose mean is taken off.
        """
        point, mean = self._mean_point(over), self.fit.mean
        own = 1 / len(self.response)
        if less:
            point, mean, own = point - self._mean_point(less), 0.0, 0.0
        value = mean + float(point @ np.concatenate([np.empty(0), *self.fit.coefficients]))
        return value, own + float(point @ self.fit.inverse @ point)

    def _mean_point(self, over: Sequence[Mapping[str, int]]) -> np.ndarray:
        points = [[t.contrasts.by_level[t.place(levels)] for t in self.kept] for levels in over]
        return np.mean([np.concatenate([np.empty(0), *point]) for point in points], axis=0)

    def contribution(self, terms: Sequence[Term], levels: Mapping[str, int]) -> float:
        """What some of the kept terms add to the mean ratio at the given level numbers."""
        by_name = dict(zip([t.name for t in self.kept], self.fit.coefficients, strict=True))
        return sum(float(t.contrasts.by_level[t.place(levels)] @ by_name[t.name]) for t in terms)

    def half_width(self, variance: float, confidence: float) -> float | None:
        """t times the standard error; None where the error has no degree of freedom."""
        if self.error_mean_square is None:
            return None
        quantile = float(stdtrit(self.between_error[1], 0.5 + confidence / 2))
        return quantile * float(np.sqrt(self.error_mean_square * variance))


def check_estimable(model: Model) -> None:
    """Makes sure that every factor has an effect of its own in these rows.

    Raises:
        DataError: too many factors for the rows, or two that cannot be told apart.
    """
    spent = sum(term.df for term in model.terms)
    if model.fit.rank == spent:
        return
    rows = len(model.response)
    if spent > rows - 1:
        raise DataError(
            f"the degrees of freedom of the factors must fit into the {rows - 1} of {rows} rows, but are {spent}: "
            f"{_suspect(model.factors, rows)}leave a factor out or add runs"
        )
    before: list[Term] = []
    for term in model.terms:
        tried = Model(model.factors, (*before, term), model.response, model.crossed)
        if tried.fit.rank < sum(t.df for t in tried.kept):
            raise DataError(
                f"the effects of {_word(term)} {term.name} must differ from those of {', '.join(f.name for f in before)}, "
                "but in these rows they are the same: leave one of them out or add runs"
            )
        before.append(term)


def _word(term: Term) -> str:
    return "factor" if isinstance(term, FactorLevels) else "interaction"


def _suspect(factors: Sequence[FactorLevels], rows: int) -> str:
    """What probably went wrong in a table of too few rows, as the beginning of a cure."""
    for factor in factors:
        if factor.df == rows - 1:
            return f"{factor.name} has a level of its own in every row (if it numbers the rows, call it row); or "
    for factor in factors:
        if uneven := factor.describe_uneven_runs():
            return f"{uneven} (correct it if it is mistyped); or "
    return ""


def analyze_variance(model: Model) -> Anova:
    """The table of ``model``: factors, pooled factors, error and total.

    With units it is that of a split plot: what differs between them is tested against the line ``TRAININGS``, the error
    between units, and only what differs inside each of them against the error inside.
    """
    rounding = _ZERO * float((model.response**2).sum())
    total = float(((model.response - model.response.mean()) ** 2).sum())
    total = total if total > rounding else 0.0
    own, own_df = model.between_error if model.units is not None else (0.0, 0)
    error_df = model.error_df - own_df
    error_sum = model.fit.residual_sum_of_squares - own if error_df else 0.0
    noise, shared = (
        (each / df if df and each > rounding else None) for each, df in ((error_sum, error_df), (own, own_df))
    )
    error_sum = error_sum if noise else 0.0

    def line(
        name: str,
        sum_of_squares: float,
        df: int,
        tested: bool = False,
        noise: float | None = noise,
        error_df: int = error_df,
    ) -> AnovaRow:
        mean_square = sum_of_squares / df if df else None
        f = mean_square / noise if tested and noise and mean_square is not None else None
        return AnovaRow(
            factor=name,
            sum_of_squares=sum_of_squares,
            df=df,
            mean_square=mean_square,
            f=f,
            p=float(fdtrc(df, error_df, f)) if f is not None else None,
            contribution_percent=100 * sum_of_squares / total if total else None,
            corrected_contribution_percent=(
                100 * (sum_of_squares - df * (noise or 0.0)) / total if total else None
            ),
        )

    kept = _sums_of_squares(model.kept, model.response)
    between = {t.name for t in model.kept if model.differs_between_units(t)}
    errors = dict.fromkeys(between, (shared, own_df))
    rows = tuple(line(t.name, s, t.df, True, *errors.get(t.name, (noise, error_df))) for t, s in kept)
    left = {t.name for t in model.terms} - {t.name for t in model.kept}
    every = _sums_of_squares(model.terms, model.response) if left else []
    pooled = tuple(line(t.name, s, t.df) for t, s in every if t.name in left)
    # The error takes back what the noise lent to the factors, so that the corrected shares add to 100.
    lent = {name: sum(row.df for row in rows if (row.factor in between) == name) for name in (True, False)}
    error = line("error", error_sum, error_df)
    if total:
        corrected = 100 * (error_sum + lent[False] * (noise or 0.0)) / total
        error = replace(error, corrected_contribution_percent=corrected)
    if model.units is not None:
        corrected = 100 * (own + lent[True] * (shared or 0.0)) / total if total else None
        trainings = replace(line(TRAININGS, own, own_df), corrected_contribution_percent=corrected)
        rows = (*rows, trainings)
    whole = line("total", total, len(model.response) - 1)
    whole = replace(whole, corrected_contribution_percent=whole.contribution_percent)
    return Anova(rows, pooled, error, whole)


def _sums_of_squares(terms: Sequence[Term], response: np.ndarray) -> list[tuple[Term, float]]:
    """Each term with what the residual would grow by if it were left out.

    Interactions that contain the term stay out of it (type II), as otherwise the contrasts would decide.
    """
    found, mean = [], np.ones((len(response), 1))
    for term in terms:
        others = [t.contrasts.columns for t in terms if t is not term and not _contains(t, term)]
        basis, _ = np.linalg.qr(np.column_stack([mean, *others]))
        own = complement(basis, term.contrasts.columns)
        found.append((term, float(((own.T @ response) ** 2).sum())))
    return found


def _contains(term: Term, other: Term) -> bool:
    return isinstance(term, CrossedLevels) and other.name in (term.first.name, term.second.name)


@dataclass(frozen=True)
class Prediction:
    """The model at one combination of levels.

    Attributes:
        value: predicted ratio.
        low: lower end of the confidence interval of the mean ratio there; None without an error.
        high: upper end.
        levels: level number of every factor.
        confirmed: ratio of the confirmation runs, if any were made.
        confirmation_low: lower end of the interval for what new runs give, wider than the mean's; None without an
            error.
        confirmation_high: upper end.
        runs: number of the confirmation runs; None for as many as a row has.
    """

    value: float
    low: float | None
    high: float | None
    levels: dict[str, int]
    confirmed: float | None = None
    confirmation_low: float | None = None
    confirmation_high: float | None = None
    runs: int | None = None

    def clip(self, bounds: tuple[float | None, float | None]) -> Prediction:
        """The same with no end beyond what a response can be."""
        low, high = bounds

        def held(value: float | None) -> Any:
            value = value if low is None or value is None else max(value, low)
            return value if high is None or value is None else min(value, high)

        ends = {
            name: held(getattr(self, name))
            for name in ("low", "high", "confirmation_low", "confirmation_high")
        }
        return replace(self, value=held(self.value), **ends)

    @property
    def confirmed_as_predicted(self) -> bool | None:
        """Whether the confirmed ratio lies where that of new runs is expected; None if that is unknown."""
        if self.confirmed is None or self.confirmation_low is None or self.confirmation_high is None:
            return None
        return self.confirmation_low <= self.confirmed <= self.confirmation_high


def predict_ratio(
    model: Model,
    levels: Mapping[str, int],
    confidence: float = 0.95,
    confirmed: float | None = None,
    runs: int | None = None,
    noise: float = 1.0,
    over: Sequence[Mapping[str, int]] = (),
) -> Prediction:
    """Predicts the mean ratio at a combination of levels.

    The interval is that of the mean at a combination fixed beforehand; choosing it for its large
    level means flatters the value, the more so where a factor does nothing. Half its width is
    t sqrt(MS_error / n_eff), that of the confirmation t sqrt(MS_error (1 / n_eff + noise)); with MS_error of
    single runs and noise = 1 / r it is the textbooks' interval for the mean of r runs.

    Args:
        model: the fitted model.
        levels: level number of every factor.
        confidence: of the intervals, between 0 and 1.
        confirmed: ratio of runs made there.
        runs: number of these.
        noise: variance of their ratio in units of the error's; nan where it is unknown. n / r for r runs and n runs
            a row, as far as runs differ by chance alone.
        over: combinations of levels, with those of noise factors, whose mean is predicted; none for ``levels`` alone.
    """
    value, variance = model.estimate_mean(over) if over else model.estimate(levels)
    mean_width = model.half_width(variance, confidence)
    runs_width = model.half_width(variance + noise, confidence)
    if mean_width is None or runs_width is None:
        return Prediction(value, None, None, dict(levels), confirmed, runs=runs)
    low, high = value - mean_width, value + mean_width
    if np.isnan(runs_width):
        return Prediction(value, low, high, dict(levels), confirmed, runs=runs)
    ends = (value - runs_width, value + runs_width)
    return Prediction(value, low, high, dict(levels), confirmed, *ends, runs)
