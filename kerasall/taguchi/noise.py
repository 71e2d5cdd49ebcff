"""What a crossed design says of noise: which settings it moves, which noise moves most, the robust choice and the plain one.

Every row of the inner array (settings) is run under every row of the outer array (noise factors). A setting that interacts
with a noise factor can be set so that this noise matters less: that is all of robust design. Where none does, the settings
that are best on average are the most robust ones too.

Sources: M. S. Phadke, Quality Engineering Using Robust Design (1989), chapter 5 (ratios over noise runs); D. C. Montgomery,
Design and Analysis of Experiments, chapter 12 (settings x noise, models of the response).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from kerasall.errors import DataError
from kerasall.taguchi.anova import Anova, FactorLevels, Model
from kerasall.taguchi.signal_to_noise import ChosenSignal, name_rows


@dataclass(frozen=True)
class NoiseEffect:
    """What one noise factor does to the responses.

    Attributes:
        means: mean response at each of its levels.
        worst: number of the level with the worst mean, by the signal; None where the signal prefers no direction.
        range: largest less smallest mean.
        deviation: root mean square, over rows and noise runs, of a row's mean at the factor's level less the row's mean: how
            far the noise moves the response of a row, through interactions too. Chance from run to run is part of it.
    """

    means: list[float]
    worst: int | None
    range: float
    deviation: float


@dataclass(frozen=True)
class Choice:
    """A combination of levels, judged across the noise runs by the model of single runs, and by that of the ratios.

    Attributes:
        levels: number of every setting's level.
        mean, mean_low, mean_high: mean response over the noise runs and its confidence interval; no ends without an error.
        spread: standard deviation of what is predicted under the noise runs (over all of them, not a sample's).
        worst: what is predicted under the worst of the noise runs; None where the signal prefers no direction.
        ratio, ratio_low, ratio_high: signal-to-noise ratio; no ends where the design is saturated.
    """

    levels: dict[str, int]
    mean: float
    mean_low: float | None
    mean_high: float | None
    spread: float
    worst: float | None
    ratio: float
    ratio_low: float | None
    ratio_high: float | None


@dataclass(frozen=True)
class Difference:
    """The most robust combination less the one that is best on average.

    Attributes:
        mean, mean_low, mean_high: of the mean responses over the noise runs, with a confidence interval.
        ratio, ratio_low, ratio_high: of the ratios.
    """

    mean: float
    mean_low: float | None
    mean_high: float | None
    ratio: float
    ratio_low: float | None
    ratio_high: float | None


@dataclass(frozen=True)
class NoiseAnalysis:
    """What noise does in a crossed design.

    Attributes:
        factors: noise factor -> names of its levels.
        runs: number of noise runs of a row.
        means: (setting, noise factor) -> mean response at each level of the one and of the other, float [levels, levels].
        sensitivity: setting -> at each level the root mean square deviation of a row's means under the noise runs from the
            row's mean: how far noise moves the response there; None where a level was never run. It counts in the
            responses' own unit, and chance from run to run is part of it.
        steadiest: setting -> number of the level with the smallest sensitivity.
        effects: noise factor -> what it does.
        robust: the combination with the best predicted ratio.
        average: the combination with the best predicted mean; None where the signal asks for no largest or smallest mean.
        difference: of the two; None where they are one, or there is no ``average``.
        model: of the single runs.
    """

    factors: dict[str, tuple[str, ...]]
    runs: int
    means: dict[tuple[str, str], np.ndarray]
    sensitivity: dict[str, list[float | None]]
    steadiest: dict[str, int]
    effects: dict[str, NoiseEffect]
    robust: Choice
    average: Choice | None
    difference: Difference | None
    model: Model

    @property
    def hurts_most(self) -> str:
        """The noise factor that moves the response of a row furthest."""
        return max(self.effects, key=lambda name: self.effects[name].deviation)

    @property
    def decides_most(self) -> str:
        """The setting between whose levels the sensitivity differs most, by its ratio."""
        return max(self.sensitivity, key=lambda name: _ratio_of_ends(self.sensitivity[name]))

    def rank_interactions(self, anova: Anova) -> list[tuple[str, str]]:
        """Pairs of setting and noise factor by what their interaction explains of the single runs, the largest first."""
        squares = {row.factor: row.sum_of_squares for row in anova.rows}
        named = {
            (term.first.name, term.second.name): squares[term.name]
            for term in self.model.crossed
            if term.second.name in self.factors
        }
        return sorted(named, key=lambda pair: -named[pair])

    def to_json(self) -> dict[str, Any]:
        """Every number finite or null."""
        return {
            "factors": [{"name": name, "levels": list(levels)} for name, levels in self.factors.items()],
            "runs": self.runs,
            "means": [
                {
                    "setting": a,
                    "noise": b,
                    "means": [[_known(mean) for mean in row] for row in found.tolist()],
                }
                for (a, b), found in self.means.items()
            ],
            "sensitivity": self.sensitivity,
            "steadiest": self.steadiest,
            "decides_most": self.decides_most,
            "effects": {name: asdict(effect) for name, effect in self.effects.items()},
            "hurts_most": self.hurts_most,
            "robust": asdict(self.robust),
            "average": self.average and asdict(self.average),
            "difference": self.difference and asdict(self.difference),
        }


def find_missing_cells(responses: np.ndarray, runs: int) -> np.ndarray:
    """Marks the rows that lack every response under some noise run: bool [rows].

    Args:
        responses: float [rows, repeats * runs], the noise runs of one repeat beside one another; nan where one is absent.
        runs: number of noise runs.
    """
    absent = np.asarray(np.isnan(responses).reshape(len(responses), -1, runs).all(axis=1))
    return np.asarray(absent.any(axis=1))


def require_whole(responses: np.ndarray, noise: Sequence[FactorLevels]) -> None:
    """Makes sure that every row has a response under every noise run; see ``find_missing_cells``.

    Args:
        responses: float [rows, columns].
        noise: noise factors, over the columns; none for a design without noise.

    Raises:
        DataError: one has not.
    """
    runs = count_noise_runs(noise) if noise else 0
    if runs and (missing := find_missing_cells(responses, runs)).any():
        raise DataError(
            f"every row must have a response under each of the {runs} noise runs, but {name_rows(missing)} lack some: a "
            "ratio over fewer of them would be that of an easier test; make these runs, or leave the row out"
        )


def even_out(responses: np.ndarray, runs: int) -> np.ndarray:
    """Responses in which every noise run of a row weighs the same: where one lacks repeats, its others stand again in turn.

    Without it a row that failed once under a harsh noise would have an easier test than the others.

    Args:
        responses: float [rows, repeats * runs]; nan where one is absent.
        runs: number of noise runs, of each of which a row has a response.
    """
    cells = np.array(responses).reshape(len(responses), -1, runs)
    for row, run in np.argwhere(np.isnan(cells).any(axis=1)):
        absent = np.isnan(cells[row, :, run])
        cells[row, absent, run] = np.resize(cells[row, ~absent, run], absent.sum())
    return cells.reshape(responses.shape)


def mean_over_repeats(responses: np.ndarray, runs: int) -> np.ndarray:
    """Mean response under every noise run: float [rows, runs]; see ``even_out`` for the arguments."""
    return np.nanmean(responses.reshape(len(responses), -1, runs), axis=1)


def find_units(
    noise: Sequence[FactorLevels], scored_alone: Sequence[str], rows: np.ndarray, columns: np.ndarray
) -> np.ndarray | None:
    """The training of every single run: one for each row, repeat, and level of the noise that is trained with.

    Args:
        noise: noise factors, over the columns of responses.
        scored_alone: names of those that change only how what was trained is scored.
        rows, columns: int [runs], where each stands.

    Returns:
        int [runs]; None where every run has a training of its own.
    """
    trained = [factor.codes[columns] for factor in noise if factor.name not in scored_alone]
    parts = np.column_stack([rows, columns // count_noise_runs(noise), *trained])
    found, units = np.unique(parts, axis=0, return_inverse=True)
    return units.ravel() if len(found) < len(rows) else None


def count_noise_runs(noise: Sequence[FactorLevels]) -> int:
    """Number of noise runs, after which columns of responses repeat them in the same order.

    Args:
        noise: noise factors, over the columns of responses.
    """
    codes = np.column_stack([factor.codes for factor in noise])
    parts = (n for n in range(1, len(codes) + 1) if len(codes) % n == 0)
    return next(n for n in parts if (codes == np.tile(codes[:n], (len(codes) // n, 1))).all())


def list_conditions(noise: Sequence[FactorLevels], levels: Mapping[str, int]) -> list[dict[str, int]]:
    """A combination of settings under every noise run.

    Args:
        noise: noise factors, over the noise runs.
        levels: level number of every setting.

    Returns:
        Level numbers of settings and noise factors, one mapping a noise run.
    """
    return [
        dict(levels) | {factor.name: factor.group.index(int(factor.codes[run])) + 1 for factor in noise}
        for run in range(len(noise[0].codes))
    ]


def analyze_noise(
    model: Model,
    raw: Model,
    noise: Sequence[FactorLevels],
    responses: np.ndarray,
    chosen: ChosenSignal,
    best: Mapping[str, int],
    average: Mapping[str, int] | None,
    confidence: float,
) -> NoiseAnalysis:
    """Looks at a crossed design from the side of its noise.

    Args:
        model: of the ratios.
        raw: of the single runs, see ``Model.across``.
        noise: noise factors, over the noise runs of one repeat.
        responses: float [rows, repeats * noise runs]; nan where a repeat is absent.
        chosen: the signal.
        best: level number of every setting at the best ratio.
        average: the same at the best mean; None where there is none.
        confidence: of the intervals.
    """
    runs = len(noise[0].codes)
    cells = mean_over_repeats(responses, runs)
    direction = direction_of(chosen, cells.mean(axis=1))
    deviation = np.sqrt(((cells - cells.mean(axis=1, keepdims=True)) ** 2).mean(axis=1))  # [rows]
    sensitivity = {factor.name: _level_roots(factor, deviation**2) for factor in model.factors}
    judge = partial(_judge, model, raw, noise, direction, confidence, chosen.bounds)
    robust, plain = judge(best), None if average is None else judge(average)
    return NoiseAnalysis(
        factors={factor.name: factor.names for factor in noise},
        runs=runs,
        means={(a.name, b.name): _cross_means(a, b, cells) for a in model.factors for b in noise},
        sensitivity=sensitivity,
        steadiest={name: _smallest(found) for name, found in sensitivity.items()},
        effects={factor.name: _effect_of(factor, cells, direction) for factor in noise},
        robust=robust,
        average=plain,
        difference=None
        if plain is None or plain.levels == robust.levels
        else _compare(model, raw, noise, robust, plain, confidence),
        model=raw,
    )


def direction_of(chosen: ChosenSignal, means: np.ndarray) -> int:
    """1 where the signal asks for large means, -1 for small ones, 0 for neither.

    A target that no row's mean reaches from below (or above) asks for large (or small) ones.

    Args:
        chosen: the signal.
        means: float [rows], mean responses.
    """
    name = chosen.signal.name
    if chosen.signal.needs_target:
        return 1 if means.max() <= chosen.target else -1 if means.min() >= chosen.target else 0
    return {"smaller": -1, "nominal": 0}.get(name, 1)


def model_means(model: Model, means: np.ndarray, direction: int) -> Model:
    """The model of the ratios, all its terms kept, fitted to the rows' mean responses; larger is better.

    Args:
        model: of the ratios.
        means: float [rows], mean responses.
        direction: 1 or -1, see ``direction_of``.
    """
    return replace(model, kept=model.terms, response=direction * means)


def _judge(
    model: Model,
    raw: Model,
    noise: Sequence[FactorLevels],
    direction: int,
    confidence: float,
    bounds: tuple[float | None, float | None],
    levels: Mapping[str, int],
) -> Choice:
    conditions = list_conditions(noise, levels)
    each = np.array([raw.estimate_mean([condition])[0] for condition in conditions])
    value, low, high = _interval(raw, *raw.estimate_mean(conditions), confidence)
    ratio = _interval(model, *model.estimate(levels), confidence)
    worst = float((direction * each).min() * direction) if direction else None
    mean, low, high, worst = (_hold(number, bounds) for number in (value, low, high, worst))
    assert mean is not None
    return Choice(dict(levels), mean, low, high, float(each.std()), worst, *ratio)


def _hold(number: float | None, bounds: tuple[float | None, float | None]) -> float | None:
    """No further than a response can be."""
    if number is None:
        return None
    low, high = bounds
    number = number if low is None else max(number, low)
    return number if high is None else min(number, high)


def _compare(
    model: Model,
    raw: Model,
    noise: Sequence[FactorLevels],
    robust: Choice,
    average: Choice,
    confidence: float,
) -> Difference:
    conditions = [list_conditions(noise, choice.levels) for choice in (robust, average)]
    mean = _interval(raw, *raw.estimate_mean(*conditions), confidence)
    ratio = _interval(model, *model.estimate_mean([robust.levels], [average.levels]), confidence)
    return Difference(*mean, *ratio)


def _interval(
    model: Model, value: float, variance: float, confidence: float
) -> tuple[float, float | None, float | None]:
    width = model.half_width(variance, confidence)
    return (value, None, None) if width is None else (value, value - width, value + width)


def _level_roots(factor: FactorLevels, squares: np.ndarray) -> list[float | None]:
    return [
        None if group < 0 else float(np.sqrt(squares[factor.codes == group].mean())) for group in factor.group
    ]


def _cross_means(setting: FactorLevels, factor: FactorLevels, cells: np.ndarray) -> np.ndarray:
    """Mean of the cells at each pair of levels; nan where one was never run."""
    return np.array(
        [
            [
                cells[np.ix_(setting.codes == a, factor.codes == b)].mean() if a >= 0 and b >= 0 else np.nan
                for b in factor.group
            ]
            for a in setting.group
        ]
    )


def _effect_of(factor: FactorLevels, cells: np.ndarray, direction: int) -> NoiseEffect:
    by_level = np.stack([cells[:, factor.codes == group].mean(axis=1) for group in factor.group], axis=1)
    means = by_level.mean(axis=0)
    moved = by_level[:, [factor.group.index(code) for code in factor.codes]] - cells.mean(
        axis=1, keepdims=True
    )
    worst = int(np.argmin(direction * means)) + 1 if direction else None
    return NoiseEffect(means.tolist(), worst, float(np.ptp(means)), float(np.sqrt((moved**2).mean())))


def _smallest(found: Sequence[float | None]) -> int:
    known = [np.inf if each is None else each for each in found]
    return int(np.argmin(known)) + 1


def _ratio_of_ends(found: Sequence[float | None]) -> float:
    known = [each for each in found if each is not None]
    return max(known) / max(min(known), 1e-12 * max(known)) if max(known) else 1.0


def _known(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
