"""What a Taguchi experiment says: ratios, response table, analysis of variance, predicted optimum.

``analyze`` takes level numbers and responses of anybody's experiment, and warns in plain sentences of what a
reader must know before believing it; numpy and scipy only.

Sources: M. S. Phadke, Quality Engineering Using Robust Design (1989), chapters 3 and 7 (additive
model, pooling, dummy levels, prediction).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasall.errors import DataError, SettingsError
from kerasall.taguchi.anova import (
    Anova,
    CrossedLevels,
    FactorLevels,
    Model,
    Prediction,
    Term,
    analyze_variance,
    check_estimable,
    predict_ratio,
)
from kerasall.taguchi.cautions import describe_left_out, describe_unbounded, find_cautions, name_runs
from kerasall.taguchi.design import CROSS, read_pair
from kerasall.taguchi.effects import Interaction, complement, find_interactions, interaction_columns
from kerasall.taguchi.noise import (
    NoiseAnalysis,
    analyze_noise,
    count_noise_runs,
    direction_of,
    even_out,
    find_missing_cells,
    find_units,
    list_conditions,
    mean_over_repeats,
    model_means,
    require_whole,
)
from kerasall.taguchi.result_file import as_matrix, read_factors, read_noise, take_results
from kerasall.taguchi.signal_to_noise import ChosenSignal, parse_signal

HALF = "half"
"""``pool=HALF`` pools the smallest factors, see ``smallest_half``."""


@dataclass(frozen=True)
class RawAnalysis:
    """The responses of single runs as they are, against the noise from run to run.

    Attributes:
        anova: the table; its error is what the model leaves of the runs.
        prediction: of the mean response at the best levels, and of the confirmation runs.
        between_df: degrees of freedom of the error between rows (lack of fit); the others lie inside rows.
    """

    anova: Anova
    prediction: Prediction
    between_df: int

    def to_json(self) -> dict[str, Any]:
        """Like the analysis' own, with the ends of the interval for confirmation runs."""
        return {
            **tabulate_anova(self.anova),
            "predicted": asdict(self.prediction),
            "between_df": self.between_df,
        }


@dataclass(frozen=True)
class Analysis:
    """All that ``analyze`` found.

    Attributes:
        signal: the ratio and its target.
        signal_to_noise: float [rows]; nan where a row is left out.
        response_table: factor -> mean ratio at each level; dummy levels repeat the merged mean.
        effects: factor -> largest less smallest level mean.
        ranks: factor -> 1 for the largest effect; equal effects share the rank of the first of them.
        best_levels: factor -> number of the level with the largest mean (the first of equals).
        anova: the table.
        prediction: at the best levels.
        warnings: what a reader must know before believing it.
        confidence: of the intervals.
        significance: largest p that is called significant.
        model: the fitted model.
        raw: the same of single runs; None where no row was repeated.
        noise: what the noise factors of a crossed design do, which are in ``raw`` too; None where there are none.
    """

    signal: ChosenSignal
    signal_to_noise: np.ndarray
    response_table: dict[str, list[float | None]]
    effects: dict[str, float]
    ranks: dict[str, int]
    best_levels: dict[str, int]
    anova: Anova
    prediction: Prediction
    warnings: list[str]
    confidence: float
    significance: float
    model: Model
    raw: RawAnalysis | None = None
    noise: NoiseAnalysis | None = None

    @property
    def best_values(self) -> dict[str, Any]:
        """Factor -> what its best level stands for, as it was given; the level's number where nothing was."""
        values = {factor.name: factor.values for factor in self.model.factors}
        return {name: values[name][level - 1] for name, level in self.best_levels.items()}

    @property
    def level_names(self) -> dict[str, tuple[str, ...]]:
        """Factor -> name of each level."""
        return {factor.name: factor.names for factor in self.model.factors}

    def describe_sizes(self) -> str:
        """What the predicted and the confirmed ratio mean in the unit of the responses; empty where nothing."""
        found = self.prediction
        told = [("predicted", found.value), ("confirmed", found.confirmed)]
        sizes = [(what, self.signal.describe_size(ratio)) for what, ratio in told if ratio is not None]
        return ", ".join(f"{what}: like {size}" for what, size in sizes if size)

    def interactions(self) -> list[Interaction]:
        """Every interaction of two factors, and what it is aliased with in this table."""
        varied = [f for f in self.model.factors if f.df]
        return find_interactions([f.name for f in varied], [f.contrasts for f in varied])

    def interaction_means(self, first: str, second: str) -> np.ndarray:
        """Mean ratio of the rows at each pair of levels, float [levels of first, levels of second].

        nan marks a pair that was not run.
        """
        by_name = {factor.name: factor for factor in self.model.factors}
        rows, columns = by_name[first], by_name[second]
        shape = (max(rows.group) + 1, max(columns.group) + 1)
        sums, counts = np.zeros(shape), np.zeros(shape)
        np.add.at(sums, (rows.codes, columns.codes), self.model.response)
        np.add.at(counts, (rows.codes, columns.codes), 1)
        with np.errstate(invalid="ignore"):
            means = sums / counts
        run = np.pad(means, ((0, 1), (0, 1)), constant_values=np.nan)  # the last stands for "never run"
        return run[np.ix_(rows.group, columns.group)]

    def half_normal_effects(self) -> list[tuple[str, float]]:
        """Single-degree effects of one and the same variance, for a half-normal plot.

        Factors give their orthonormal linear, quadratic, ... contrasts; interactions of two that can
        be estimated follow; what is left belongs to the error, under an empty name. Without any real
        effect all are draws of one normal distribution. The table must be nearly balanced.
        """
        factors, ratio = self.model.factors, self.model.response
        named = [
            (f"{factor.name}{kind}", float(c))
            for factor, coefficients in zip(factors, self.model.full_fit.coefficients, strict=False)
            for kind, c in zip(_contrast_names(factor.df), coefficients, strict=True)
        ]
        taken = np.column_stack([np.ones(len(ratio)), *[f.contrasts.columns for f in factors]])
        taken, _ = np.linalg.qr(taken)
        by_name = {factor.name: factor.contrasts for factor in factors}
        for interaction in self.interactions():
            first, second = (by_name[name] for name in interaction.factors)
            columns = complement(taken, interaction_columns(first, second))
            taken = np.column_stack([taken, columns])
            labels = [f"{interaction} {i + 1}" for i in range(columns.shape[1])]
            labels = [str(interaction)] if len(labels) == 1 else labels
            found = zip(labels, columns.T @ ratio, strict=True)
            named += [(label if interaction.estimable else "", float(effect)) for label, effect in found]
        left = complement(taken, np.eye(len(ratio)))
        return named + [("", float(effect)) for effect in left.T @ ratio]

    def to_json(self) -> dict[str, Any]:
        """The document of ``kerasall taguchi analyze --json``; every number finite or null."""
        return {
            "signal_to_noise": [
                float(ratio) if np.isfinite(ratio) else None for ratio in self.signal_to_noise
            ],
            "response_table": self.response_table,
            "effects": self.effects,
            "ranks": self.ranks,
            "best_levels": self.best_levels,
            **tabulate_anova(self.anova),
            "predicted": {
                key: getattr(self.prediction, key) for key in ("value", "low", "high", "levels", "confirmed")
            },
            "warnings": self.warnings,
            "raw": self.raw and self.raw.to_json(),
            **({"noise": self.noise.to_json()} if self.noise else {}),
        }


def tabulate_anova(anova: Anova) -> dict[str, Any]:
    """The lines of a table under ``anova``, ``error`` and ``total``, as JSON."""
    factors, error, total = [asdict(row) for row in anova.rows], asdict(anova.error), asdict(anova.total)
    corrected = {row["factor"]: row.pop("corrected_contribution_percent") for row in [*factors, error]}
    tested = ("sum_of_squares", "df", "mean_square", "contribution_percent")
    return {
        "anova": factors,
        "error": {
            **{key: error[key] for key in tested},
            "pooled": [row.factor for row in anova.pooled],
            "corrected_contribution_percent": corrected,
        },
        "total": {key: total[key] for key in ("sum_of_squares", "df", "contribution_percent")},
    }


def _contrast_names(df: int) -> list[str]:
    if df == 1:
        return [""]
    return [[" linear", " quadratic", " cubic"][i] if i < 3 else f" degree {i + 1}" for i in range(df)]


def analyze(
    table: str | Path | Mapping[str, Sequence[Any] | np.ndarray],
    responses: Sequence[Sequence[float]] | np.ndarray | None = None,
    *,
    signal: str | ChosenSignal = "larger",
    levels: Mapping[str, Sequence[Any]] | None = None,
    levels_as: str = "dummy",
    pool: Sequence[str] | str = (),
    confirmation: Sequence[float] | None = None,
    confidence: float = 0.95,
    significance: float = 0.05,
    images: int | None = None,
    bounds: tuple[float | None, float | None] = (None, None),
    partial: bool = False,
    interactions: Sequence[str | Sequence[str]] = (),
    noise: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    scored_alone: Sequence[str] = (),
) -> Analysis:
    """Analyses an experiment.

    Example:
        >>> results = pd.DataFrame({"optimizer": [1, 1, 2, 2], "rate": [1, 2, 1, 2], "y1": [0.8, 0.7, 0.9, 0.85]})
        >>> found = kerasall.analyze(results, levels={"optimizer": ["adam", "sgdm"], "rate": [0.001, 0.01]})
        >>> found.best_levels, found.best_values
        ({'optimizer': 2, 'rate': 1}, {'optimizer': 'sgdm', 'rate': 0.001})
        >>> round(found.prediction.value, 2), found.ranks  # the signal-to-noise ratio in decibels
        (-0.75, {'optimizer': 1, 'rate': 2})

    Args:
        table: factor -> level numbers from 1, one a row, or the levels themselves where ``levels`` names them; a data
            frame will do. With responses in columns y1, y2, ...: also a CSV file of them. Such a table may have columns
            ``noise:NAME``, and then a line for every row under every noise run.
        responses: float [rows, repeats]; nan where a repeat is absent; None where the table holds them.
        signal: see ``signal_to_noise.SIGNALS``; ``target:M`` carries its target.
        levels: factor -> names of its levels, in order of number; equal names are dummy levels.
        levels_as: ``dummy`` merges levels of equal name, ``separate`` does not.
        pool: factors, or interactions, whose sums of squares are taken for error, or ``half``.
        confirmation: responses of runs made at the predicted optimum.
        confidence: of intervals, between 0 and 1.
        significance: largest p that is called significant.
        images: behind every response, for signal ``omega``; 100 are assumed where nobody says.
        bounds: least and greatest possible response; no prediction lies beyond them. None where there is none.
        partial: analyse what can be, with a caution: rows without responses are left out, and factors that cannot be
            told apart in those that are left have no effect; their best level is that of the best plain mean.
        interactions: pairs of factors, ``A*B``, that enter the model; the best levels are those of the model with them.
        noise: noise factor -> its level number, from 1, in every column of ``responses``: the ratio of a row is that over
            its noise runs. ``levels`` may name them too; ``pool`` and ``interactions`` are of the settings alone.
        scored_alone: noise factors that change only how what was trained is scored: runs that differ in nothing else share
            a training and its chance, so that settings are judged by the error between trainings.

    Raises:
        DataError: the table cannot be analysed.
        SettingsError: an option does not fit the table.
    """
    chosen = (
        signal if isinstance(signal, ChosenSignal) else parse_signal(signal, images, (bounds[0], bounds[1]))
    )
    table, found, outer = take_results(table, responses, noise or {})
    responses = as_matrix(found)
    named = {name: names for name, names in (levels or {}).items() if name not in outer}
    conditions = read_noise(outer, table, levels or {}, responses.shape[1])
    used = np.ones(len(responses), bool)
    if partial:
        used = _find_usable(chosen, responses, conditions)
        table, responses = {name: np.asarray(table[name])[used] for name in table}, responses[used]
    factors = read_factors(table, named, levels_as, len(responses))
    require_whole(responses, conditions)
    if not 0 < confidence < 1:
        raise SettingsError(f"the confidence must lie between 0 and 1, but is {confidence}: write 0.95")
    ratio = chosen.compute(even_out(responses, count_noise_runs(conditions)) if conditions else responses)
    pairs = [read_pair(pair, [f.name for f in factors]) for pair in interactions]
    model, unclear = _make_model(factors, pairs, ratio, partial)
    check_estimable(model)
    if pool:
        pooled = smallest_half(model) if pool == HALF and HALF not in table else _names(pool, model.terms)
        model = model.without(pooled)
    best = find_best_levels(model)
    plain = {factor.name: factor for factor in factors if factor.name in unclear}
    best |= {name: _first_best(_plain_means(factor, ratio)) for name, factor in plain.items()}
    raw = _cross(model, responses, conditions, scored_alone)
    found = _predict(chosen, model, best, responses, confirmation, confidence, significance, conditions, raw)
    lost = [pair for pair in map(CROSS.join, pairs) if pair not in {t.name for t in model.crossed}]
    told = {name: factor.names[best[name] - 1] for name, factor in plain.items()} | dict.fromkeys(lost, "")
    cautions = (*describe_left_out(used, told), *_find_cautions(found, responses, levels_as, unclear))
    return replace(found, signal_to_noise=_spread_out(ratio, used), warnings=list(filter(None, cautions)))


def _find_cautions(
    found: Analysis, responses: np.ndarray, levels_as: str, unclear: Sequence[str]
) -> Iterator[str]:
    """All but what was left out; see ``find_cautions``."""
    yield from describe_unbounded(found.signal, responses)
    yield from find_cautions(
        found.model,
        found.anova,
        found.prediction,
        found.raw and (found.raw.anova, found.raw.prediction),
        (~np.isnan(responses)).sum(axis=1),
        levels_as,
        found.significance,
        unclear,
    )


def _find_usable(
    chosen: ChosenSignal, responses: np.ndarray, conditions: tuple[FactorLevels, ...]
) -> np.ndarray:
    """Marks the rows with as many responses as the signal needs, and one under every noise run: bool [rows]."""
    used = (~np.isnan(responses)).sum(axis=1) >= (2 if chosen.signal.needs_repeats else 1)
    return used & ~find_missing_cells(responses, count_noise_runs(conditions)) if conditions else used


def _make_model(
    factors: tuple[FactorLevels, ...], pairs: Sequence[tuple[str, str]], ratio: np.ndarray, partial: bool
) -> tuple[Model, list[str]]:
    """The model with all its terms, and the factors that have no effect in it because none can be estimated."""
    kept = keep_estimable(factors, ratio) if partial else factors
    named = {factor.name: factor for factor in kept}
    crossed = tuple(CrossedLevels(named[a], named[b]) for a, b in pairs if named[a].df and named[b].df)
    if partial:
        crossed = _keep_crossed(kept, crossed, ratio)
    unclear = [f.name for f, whole in zip(kept, factors, strict=True) if f.df < whole.df]
    return Model(kept, (*kept, *crossed), ratio, crossed), unclear


def _predict(
    chosen: ChosenSignal,
    model: Model,
    best: dict[str, int],
    responses: np.ndarray,
    confirmation: Sequence[float] | None,
    confidence: float,
    significance: float,
    conditions: tuple[FactorLevels, ...],
    crossed: Model | None,
) -> Analysis:
    """All that follows from the model, but for cautions; ``conditions`` are the noise factors by column, ``crossed`` the
    model of single runs with them."""
    response_table = {factor.name: model.level_means(factor) for factor in model.factors}
    effects = {name: _spread(means) for name, means in response_table.items()}
    ratio, repeats = model.response, (~np.isnan(responses)).sum(axis=1)
    confirmed = None if confirmation is None else float(chosen.compute(as_matrix([confirmation]), ratio)[0])
    runs = None if confirmation is None else len(confirmation)
    noise = chosen.noise_of_runs(runs, repeats) if runs else 1.0
    raw = repeats.max() > 1
    made = Analysis(
        signal=chosen,
        signal_to_noise=ratio,
        response_table=response_table,
        effects=effects,
        ranks={
            name: 1 + sum(_is_larger(other, own) for other in effects.values())
            for name, own in effects.items()
        },
        best_levels=best,
        anova=analyze_variance(model),
        prediction=predict_ratio(model, best, confidence, confirmed, runs, noise),
        warnings=[],
        confidence=confidence,
        significance=significance,
        model=model,
        raw=_analyze_runs(
            model, responses, best, confidence, confirmation, chosen.bounds, conditions, crossed
        )
        if raw
        else None,
    )
    return (
        made if crossed is None else replace(made, noise=_analyze_noise(made, conditions, responses, crossed))
    )


def _is_larger(effect: float, other: float) -> bool:
    """Whether an effect is larger by more than rounding: of equal ones none is."""
    return effect > other and not np.isclose(effect, other, rtol=1e-9, atol=1e-12)


def find_best_levels(model: Model) -> dict[str, int]:
    """Number of every factor's level at the optimum of the model; the first of equals.

    Factors of an interaction are set together, among the pairs that were run; the others by their level means.
    """
    crossed = [term for term in model.crossed if term in model.kept]
    best: dict[str, int] = {}
    for factor in model.factors:
        if factor.name in best:
            continue
        tied = _tied_factors(factor, crossed)
        if len(tied) == 1:
            best[factor.name] = _first_best(model.level_means(factor))
            continue
        own = [term for term in crossed if term.first in tied]
        best |= _best_combination(model, tied, own)
    return {factor.name: best[factor.name] for factor in model.factors}


def _tied_factors(factor: FactorLevels, crossed: Sequence[CrossedLevels]) -> list[FactorLevels]:
    """The factor and all that interactions tie it to, directly or not."""
    tied = [factor]
    for each in tied:
        for term in crossed:
            if each in (term.first, term.second):
                tied += [other for other in (term.first, term.second) if other not in tied]
    return tied


def _best_combination(
    model: Model, tied: Sequence[FactorLevels], crossed: Sequence[CrossedLevels]
) -> dict[str, int]:
    terms = [*(factor for factor in tied if factor in model.kept), *crossed]
    run = [np.unique(term.place_rows()) for term in crossed]
    tried = itertools.product(*([i + 1 for i, g in enumerate(factor.group) if g >= 0] for factor in tied))
    combinations = [dict(zip([factor.name for factor in tied], numbers, strict=True)) for numbers in tried]
    known = [
        levels
        for levels in combinations
        if all(term.place(levels) in places for term, places in zip(crossed, run, strict=True))
    ]
    return known[_first_best([model.contribution(terms, levels) for levels in known]) - 1]


def _analyze_runs(
    model: Model,
    responses: np.ndarray,
    best: Mapping[str, int],
    confidence: float,
    confirmation: Sequence[float] | None,
    bounds: tuple[float | None, float | None],
    conditions: tuple[FactorLevels, ...],
    crossed: Model | None,
) -> RawAnalysis:
    """The model of the ratios, fitted to single runs; see ``analyze`` for the arguments.

    With noise factors it has them and their interactions with the settings too, nothing is pooled, and what is predicted
    is the mean over the noise runs.
    """
    confirmed = None if confirmation is None else float(np.mean(confirmation))
    runs = 1 if confirmation is None else len(confirmation)
    if crossed is not None:
        if confirmation is not None and runs % (each := count_noise_runs(conditions)):
            raise DataError(
                f"the confirmation must be made under each of the {each} noise runs, but has {runs} responses: give {each}, or as "
                "many times that as it was repeated"
            )
        over = list_conditions(conditions, best)
        prediction = predict_ratio(crossed, best, confidence, confirmed, runs, 1 / runs, over).clip(bounds)
        between = len(model.response) - 1 - model.full_fit.rank
        return RawAnalysis(analyze_variance(crossed), prediction, between)
    present = ~np.isnan(responses)
    rows, _ = np.nonzero(present)
    raw = model.of_runs(rows, responses[present])
    prediction = predict_ratio(raw, best, confidence, confirmed, runs, 1 / runs).clip(bounds)
    return RawAnalysis(analyze_variance(raw), prediction, model.error_df)


def _cross(
    model: Model, responses: np.ndarray, conditions: tuple[FactorLevels, ...], scored_alone: Sequence[str]
) -> Model | None:
    """The model of single runs across the noise, None without any; see ``analyze`` for the arguments."""
    if unknown := sorted({*scored_alone} - {factor.name for factor in conditions}):
        raise SettingsError(f"scored_alone must name noise factors, but {unknown[0]} is none: correct it")
    if not conditions:
        return None
    present = ~np.isnan(responses)
    rows, columns = np.nonzero(present)
    units = find_units(conditions, scored_alone, rows, columns)
    raw = model.across(conditions, rows, columns, responses[present], units)
    check_estimable(raw)
    return raw


def _analyze_noise(
    found: Analysis, conditions: tuple[FactorLevels, ...], responses: np.ndarray, raw: Model
) -> NoiseAnalysis:
    """The side of the noise; see ``analyze`` for the arguments."""
    means = mean_over_repeats(responses, count_noise_runs(conditions)).mean(axis=1)
    direction = direction_of(found.signal, means)
    average = None
    if direction:
        by_mean = find_best_levels(model_means(found.model, means, direction))
        varied = {factor.name for factor in found.model.factors if factor.df}
        average = {
            name: level if name in varied else found.best_levels[name] for name, level in by_mean.items()
        }
    once = np.arange(count_noise_runs(conditions))
    noise = tuple(factor.repeat(once) for factor in conditions)
    return analyze_noise(
        found.model, raw, noise, responses, found.signal, found.best_levels, average, found.confidence
    )


def smallest_half(model: Model) -> list[str]:
    """Names of the smallest factors, as many as give the error about half the degrees of freedom.

    Phadke's rule of thumb. Choosing what is small after looking makes F too large and intervals too
    narrow; the analysis warns of it.
    """
    anova = analyze_variance(model)
    spent, pooled = anova.error.df, []
    for row in sorted(anova.rows, key=lambda r: r.mean_square or 0.0):
        if spent >= anova.total.df / 2:
            break
        spent += row.df
        pooled.append(row.factor)
    return pooled


def _names(pool: Sequence[str] | str, terms: Sequence[Term]) -> list[str]:
    known = [term.name for term in terms]
    pooled = [pool] if isinstance(pool, str) else list(pool)
    pooled = [name if name in known else name.replace("*", CROSS) for name in pooled]
    for name in pooled:
        if name not in known:
            raise SettingsError(f"a pooled factor must be one of {', '.join(known)}, but is {name!r}")
    return pooled


def _spread(means: Sequence[float | None]) -> float:
    known = [mean for mean in means if mean is not None]
    return max(known) - min(known)


def _first_best(means: Sequence[float | None]) -> int:
    known = [mean for mean in means if mean is not None]
    # Levels whose means differ by rounding alone are equals: the first of them is named.
    top = max(known) - 1e-12 * max(1.0, max(abs(mean) for mean in known))
    return next(i + 1 for i, mean in enumerate(means) if mean is not None and mean >= top)


def keep_estimable(factors: Sequence[FactorLevels], ratio: np.ndarray) -> tuple[FactorLevels, ...]:
    """The factors with those merged into one level that cannot be told from the others; the largest stay.

    Args:
        factors: of the table.
        ratio: float [rows]; the spread of its plain means decides which factors are large.
    """
    kept: list[FactorLevels] = []
    for factor in sorted(factors, key=lambda f: -_spread(_plain_means(f, ratio))):
        tried = (*kept, factor)
        if Model(tried, tried, ratio).fit.rank == sum(f.df for f in tried):
            kept.append(factor)
    names = {factor.name for factor in kept}
    return tuple(factor if factor.name in names else factor.merge() for factor in factors)


def _keep_crossed(
    factors: tuple[FactorLevels, ...], crossed: Sequence[CrossedLevels], ratio: np.ndarray
) -> tuple[CrossedLevels, ...]:
    """The interactions that can be told from the factors and from those before."""
    kept: tuple[CrossedLevels, ...] = ()
    for term in crossed:
        tried = (*factors, *kept, term)
        if Model(factors, tried, ratio).fit.rank == sum(t.df for t in tried):
            kept = (*kept, term)
    return kept


def _plain_means(factor: FactorLevels, ratio: np.ndarray) -> list[float | None]:
    return [None if group < 0 else float(ratio[factor.codes == group].mean()) for group in factor.group]


def _spread_out(ratio: np.ndarray, used: np.ndarray) -> np.ndarray:
    whole = np.full(len(used), np.nan)
    whole[used] = ratio
    return whole


def describe_ratio(analysis: Analysis) -> dict[str, Any]:
    """What is said of an analysis beyond its numbers: the ratio, the levels' names, what confirms it."""
    names, best = analysis.level_names, analysis.prediction
    return {
        "factors": [{"name": name, "levels": list(levels)} for name, levels in names.items()],
        "signal": str(analysis.signal),
        "formula": analysis.signal.signal.formula,
        "unit": analysis.signal.signal.unit,
        "confidence": analysis.confidence,
        "significance": analysis.significance,
        "best": {name: names[name][level - 1] for name, level in best.levels.items()},
        "sizes": analysis.describe_sizes(),
        "confirmation": {
            "low": best.confirmation_low,
            "high": best.confirmation_high,
            "as_predicted": best.confirmed_as_predicted,
            "expected_of": name_runs(best.runs),
        },
    }
