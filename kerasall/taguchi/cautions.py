"""What a reader must know before believing an analysis, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kerasall.taguchi.anova import Anova, FactorLevels, Model
from kerasall.taguchi.design import group_levels
from kerasall.taguchi.prediction import Prediction


def find_cautions(
    model: Model,
    anova: Anova,
    prediction: Prediction,
    repeats: np.ndarray,
    levels_as: str,
    significance: float,
) -> list[str]:
    """All warnings of an analysis.

    Args:
        model: what was fitted.
        anova: its table.
        prediction: at the best levels.
        repeats: int [rows], responses of each row.
        levels_as: ``dummy`` or ``separate``.
        significance: largest p that is called significant.
    """
    found = [_about_significance(anova, significance)]
    found += [_about_levels(factor, levels_as) for factor in model.factors]
    found += [_about_pooling(anova), _about_balance(model, anova), _about_repeats(repeats)]
    found.append(_about_confirmation(prediction))
    return [text for text in found if text]


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


def _about_pooling(anova: Anova) -> str:
    if not anova.pooled:
        return ""
    return (
        f"Pooled into the error: {', '.join(row.factor for row in anova.pooled)}. If they were chosen because "
        "they came out small, F is too large, p too small and the interval too narrow; the prediction "
        "leaves them out."
    )


def _about_balance(model: Model, anova: Anova) -> str:
    if not anova.total.sum_of_squares or _orthogonal(model.factors):
        return ""
    uneven = list(filter(None, (factor.describe_uneven_runs() for factor in model.factors)))
    told = f" ({'; '.join(uneven)}: correct what is mistyped)" if uneven else ""
    return (
        f"The factors are not orthogonal in this table{told}: level means and sums of squares are adjusted by least "
        "squares, each factor for all others, and the sums do not add up to the total."
    )


def _orthogonal(factors: Sequence[FactorLevels]) -> bool:
    columns = np.column_stack([f.contrasts.columns for f in factors])
    return bool(np.allclose(columns.T @ columns, np.eye(columns.shape[1]), atol=1e-9))


def _about_repeats(repeats: np.ndarray) -> str:
    if repeats.min() == repeats.max():
        return ""
    return (
        f"Rows have {repeats.min()} to {repeats.max()} responses: every row counts the same, though the ratio "
        "of a row with fewer is less certain."
    )


def _about_confirmation(prediction: Prediction) -> str:
    if prediction.confirmed_as_predicted is not False:
        return ""
    return (
        f"The confirmation runs gave {prediction.confirmed:.2f}, outside the "
        f"{prediction.confirmation_low:.2f} to {prediction.confirmation_high:.2f} expected of a new row: "
        "the additive model does not hold there (interactions, or chance)."
    )
