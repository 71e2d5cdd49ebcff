"""What a reader must know before believing an analysis, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from kerasall.taguchi.anova import Anova, FactorLevels, Model, Prediction
from kerasall.taguchi.design import group_levels
from kerasall.taguchi.signal_to_noise import ASSUMED_IMAGES, ChosenSignal, name_rows


def find_cautions(
    model: Model,
    anova: Anova,
    prediction: Prediction,
    raw: tuple[Anova, Prediction] | None,
    repeats: np.ndarray,
    levels_as: str,
    significance: float,
    unclear: Sequence[str],
) -> Iterator[str]:
    """All of an analysis but what was left out of it.

    Args:
        model: what was fitted.
        anova: its table.
        prediction: at the best levels.
        raw: table and prediction of single runs, if any.
        repeats: int [rows], responses of each row.
        levels_as: ``dummy`` or ``separate``.
        significance: largest p that is called significant.
        unclear: factors of which others are told already.
    """
    yield _about_significance(anova, significance)
    if anova.saturated and raw and not raw[0].saturated:
        yield "The table of the raw responses has an error to test with: the noise from run to run, and nothing else."
    yield from (_about_levels(factor, levels_as) for factor in model.factors if factor.name not in unclear)
    if anova.pooled:
        yield (
            f"Pooled into the error: {', '.join(row.factor for row in anova.pooled)}. If they were chosen because "
            "they came out small, F is too large, p too small and the interval too narrow; the prediction "
            "leaves them out."
        )
    columns = np.column_stack([t.contrasts.columns for t in model.terms])
    orthogonal = np.allclose(columns.T @ columns, np.eye(columns.shape[1]), atol=1e-9)
    if anova.total.sum_of_squares and not orthogonal:
        uneven = "; ".join(filter(None, (factor.describe_uneven_runs() for factor in model.factors)))
        told = f" ({uneven}: correct what is mistyped)" if uneven else ""
        yield (
            f"The factors are not orthogonal in this table{told}: level means and sums of squares are adjusted by "
            "least squares, each factor for all others, and the sums do not add up to the total."
        )
    if repeats.min() < repeats.max():
        yield (
            f"Rows have {repeats.min()} to {repeats.max()} responses: every row counts the same, though the ratio "
            "of a row with fewer is less certain."
        )
    if prediction.confirmed_as_predicted is False:
        yield (
            f"The confirmation runs gave {prediction.confirmed:.2f}, outside the "
            f"{prediction.confirmation_low:.2f} to {prediction.confirmation_high:.2f} expected of "
            f"{name_runs(prediction.runs)}: the model does not hold there (interactions, or chance)."
        )
    if raw and raw[1].confirmed_as_predicted is False:
        there = raw[1]
        yield (
            f"The mean of the confirmation runs is {there.confirmed:.4g}, outside the {there.confirmation_low:.4g} to "
            f"{there.confirmation_high:.4g} expected of {name_runs(there.runs)} where runs differ by chance alone: the best "
            "levels were partly the luckiest, or factors interact."
        )
    if (
        prediction.confirmed is not None
        and prediction.low is not None
        and prediction.confirmation_low is None
    ):
        yield (
            f"No interval for the confirmation: a ratio of the spread from {prediction.runs} runs cannot be compared with "
            "that of a row with another number of runs."
        )


def describe_left_out(used: np.ndarray, best: Mapping[str, str]) -> Iterator[str]:
    """What could not be analysed.

    Args:
        used: bool [rows], those that were.
        best: factor that cannot be told from others -> name of its best level by plain means; interaction -> empty.
    """
    if not used.all():
        yield f"Without a response to analyse, and left out: {name_rows(~used)} of {len(used)}."
    for name, level in best.items():
        if not level:
            yield f"Interaction {name} cannot be estimated in the rows that are left: the model does without it."
            continue
        yield (
            f"Factor {name} cannot be told from the others in the rows that are left: nothing is said of its effect, and "
            f"{level} is only the level of the best plain mean."
        )


def describe_unbounded(chosen: ChosenSignal, responses: np.ndarray) -> Iterator[str]:
    """Which ratios say less than they seem to, of responses float [rows, repeats]."""
    if (rows := chosen.find_unbounded(responses)).any():
        yield (
            f"The ratio has no bound in {name_rows(rows)}, where {chosen.signal.infinite_where}: it was taken twice as far out "
            "as that of any other row (6 dB), so its size means little; another signal, such as omega, would give one."
        )
    extreme = np.nanmin(responses, axis=1) == 0, np.nanmax(responses, axis=1) == 1
    if chosen.signal.name == "omega" and chosen.images is None and (extreme[0] | extreme[1]).any():
        yield (
            f"Responses of 0 or 1, as in {name_rows(extreme[0] | extreme[1])}, count by how many images stand behind them: "
            f"{ASSUMED_IMAGES} were assumed; say how many with images (--images)."
        )


def _about_significance(anova: Anova, significance: float) -> str:
    if not anova.total.sum_of_squares:
        return "All rows have the same ratio: the factors make no difference that could be analysed."
    if anova.saturated:
        return (
            "The design is saturated: the factors take every degree of freedom and the error has none, so "
            f"nothing can be tested and no factor is significant at {significance:g}. Pool small factors, "
            "count dummy levels as one, or run a larger array."
        )
    if not anova.rows:
        return "Every factor is pooled into the error: nothing is left to test."
    tested = [(row.p, row.factor) for row in anova.rows if row.p is not None]
    if not tested:
        return "The error is zero (the model fits every row exactly), so no F can be formed."
    smallest, name = min(tested)
    if smallest > significance:
        return f"No factor is significant at {significance:g}: the smallest p is {smallest:.3f} ({name})."
    return ""


def _about_levels(factor: FactorLevels, levels_as: str) -> str:
    twins = group_levels(factor.names)
    if factor.df == 0:
        return f"Factor {factor.name} has one level in this table: its effect is unknown."
    if -1 in factor.group:
        absent = [str(i + 1) for i, group in enumerate(factor.group) if group < 0]
        return f"Factor {factor.name} was never run at level {', '.join(absent)}."
    if levels_as == "separate" and len(set(twins)) < len(twins):
        equal = [str(i + 1) for i, group in enumerate(twins) if twins.count(group) > 1]
        return (
            f"Factor {factor.name} has equal levels ({', '.join(equal)}) that were counted as different: it "
            f"has {len(set(twins)) - 1} degree{'s' if len(set(twins)) > 2 else ''} of freedom, not {factor.df}, "
            "and their difference is noise."
        )
    return ""


def name_runs(count: int | None) -> str:
    """What a confirmation is compared with: the mean of so many runs, or a new row."""
    return "a new row" if count is None else "one run" if count == 1 else f"the mean of {count} runs"
