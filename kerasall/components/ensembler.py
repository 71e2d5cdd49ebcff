"""Ensembler: trained members become one model, weighed by predictions that decided none of their weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from kerasall.components.training_step import MODEL_FILE, write_model
from kerasall.data.development import SELECTION, Development, read_development
from kerasall.data.training_record import MEMBERS_FILE, TrainingRecord
from kerasall.errors import SettingsError
from kerasall.evaluation.ensemble_rules import (
    RULES,
    Stacking,
    combine_predictions,
    member_weights,
    stacking_coefficients,
    tie_note,
)
from kerasall.evaluation.predictions import Predictions, concatenate
from kerasall.files import read_json
from kerasall.models.ensembles import build_ensemble
from kerasall.models.saving import load_model
from kerasall.pipeline.component import Input, Output, component
from kerasall.preprocessing.operations import Chain
from kerasall.settings import EnsembleSettings, MemberSettings, Settings


def require_members(settings: Settings) -> tuple[MemberSettings, ...]:
    """The members an experiment states, before any of them is trained.

    Raises:
        SettingsError: fewer than two.
    """
    if len(settings.members) < 2:
        raise SettingsError(
            f"an ensemble needs at least 2 members, but the config states {len(settings.members)}: add some under "
            "`members:`, or use `pipeline: single_classifier`"
        )
    return settings.members


@component
def ensembler(
    development: Annotated[Path, Input("Development")],
    models: Annotated[list[Path], Input("Model")],
    records: Annotated[list[Path], Input("TrainingRecord")],
    members: list[MemberSettings],
    ensemble: EnsembleSettings,
    trained: Annotated[Path, Output("Model")],
    record: Annotated[Path, Output("TrainingRecord")],
) -> dict[str, Any]:
    """Joins the members in one graph and combines their stored predictions by the same rule.

    Weights and stacking come from validation or out-of-fold predictions; no test image is known here.
    Out-of-fold predictions are combined fold by fold with weights from the other folds, so that no
    image is scored with weights that it decided. A faithful copy may weigh by the part ``selection``,
    as its paper did by the test part; the record says so.
    """
    data = read_development(development)
    trainings = {m.name: TrainingRecord(folder) for m, folder in zip(members, records, strict=True)}
    own = {name: each.predictions for name, each in trainings.items()}
    selection = {name: found for name, each in trainings.items() if (found := each.selection) is not None}
    if len(selection) < len(own):
        selection = {}
    deciding = selection if ensemble.weights_from == SELECTION else own
    chosen, named = choose_coefficients(list(deciding.values()), ensemble), data.facts.malignant
    model = build_ensemble(
        [load_model(folder / MODEL_FILE) for folder in models], ensemble.rule, chosen.weights, list(own),
        stacking=chosen.stacking, malignant=data.facts.malignant_indices,
        image_size=Chain.from_json(data.preprocess).output_size,
        steps=[list(member.steps) or None for member in members],
    )  # fmt: skip
    write_model(model, data.preprocess, data.facts, trained)

    parameters, made = model.count_params(), TrainingRecord(record)
    told = {name: each.training for name, each in trainings.items()}
    seconds = round(sum(each["seconds"] for each in told.values()), 1)
    made.write(
        _combine(list(own.values()), ensemble, chosen, data),
        {"parameters": parameters, "seconds": seconds, "fits": {}, "members": told},
        selection=chosen.combine(selection.values(), ensemble.rule, named) if selection else None,
        ensemble=_describe(list(own), ensemble, chosen, data),
    )
    for name, predictions in own.items():
        made.member(name).write(predictions, selection=selection.get(name))
    return {"members": len(members), "rule": ensemble.rule, "parameters": parameters}


@component
def trial_ensembler(
    development: Annotated[Path, Input("Development")],
    models: Annotated[Path, Input("Models")],
    records: Annotated[Path, Input("TrainingRecords")],
    results: Annotated[Path, Input("Search")],
    ensemble: EnsembleSettings,
    trained: Annotated[Path, Output("Model")],
    record: Annotated[Path, Output("TrainingRecord")],
) -> dict[str, Any]:
    """Joins the models that confirm a designed experiment, as the Ensembler joins members.

    The record keeps the experiment's analysis, so that the report of the ensemble can show it.
    """
    members = [MemberSettings.model_validate(each) for each in read_json(models / MEMBERS_FILE)]
    metrics = ensembler.function(
        development, [models / member.name for member in members], [records / member.name for member in members],
        members, ensemble, trained, record,
    )  # fmt: skip
    TrainingRecord(record).keep_experiment(models / MEMBERS_FILE, results)
    return metrics


@dataclass(frozen=True, eq=False)
class Coefficients:
    """What a rule needs besides the members: weights, a stacking, or nothing."""

    weights: np.ndarray | None = None
    stacking: Stacking | None = None

    def combine(self, members: Iterable[Predictions], rule: str, malignant: Sequence[str]) -> Predictions:
        """The ensemble's predictions of the images that all members predicted."""
        return combine_predictions(list(members), rule, self.weights, self.stacking, malignant)


def choose_coefficients(deciding: Sequence[Predictions], ensemble: EnsembleSettings) -> Coefficients:
    """Weights or stacking from predictions of the same images by every member.

    Raises:
        DataError: a score that cannot be a weight, or see ``stacking_coefficients``.
    """
    needed = RULES[ensemble.rule].parameter
    if needed == "stacking":
        return Coefficients(stacking=stacking_coefficients(deciding, ensemble.stacking_strength))
    if needed != "weights":
        return Coefficients()
    if isinstance(ensemble.weights, str):
        return Coefficients(member_weights(deciding, ensemble.weights))
    return Coefficients(np.asarray(ensemble.weights, np.float64))


def _combine(
    own: Sequence[Predictions], ensemble: EnsembleSettings, chosen: Coefficients, data: Development
) -> Predictions:
    """Validation predictions combined; out-of-fold ones with coefficients from the other folds."""
    if not data.split.folds or not _are_fitted(ensemble) or ensemble.weights_from == SELECTION:
        return chosen.combine(own, ensemble.rule, data.facts.malignant)
    parts = []
    for fold in data.split.folds:
        inside = np.isin(own[0].ids, data.split.ids(fold))
        fitted = choose_coefficients([each.take(~inside) for each in own], ensemble)
        parts.append(fitted.combine([each.take(inside) for each in own], ensemble.rule, data.facts.malignant))
    return concatenate(parts)


def _are_fitted(ensemble: EnsembleSettings) -> bool:
    needed = RULES[ensemble.rule].parameter
    return needed == "stacking" or (needed == "weights" and isinstance(ensemble.weights, str))


def _describe(
    members: list[str], ensemble: EnsembleSettings, chosen: Coefficients, data: Development
) -> dict[str, Any]:
    """What a report and a card say of the ensemble."""
    row = RULES[ensemble.rule]
    stacking = chosen.stacking
    return {
        "rule": row.name,
        "title": row.title,
        "equation": row.equation,
        "members": members,
        "weights": None if chosen.weights is None else chosen.weights.tolist(),
        "stacking": stacking and {
            "kernel": stacking.kernel.tolist(), "bias": stacking.bias.tolist(), "C": ensemble.stacking_strength,
        },
        "decided_by": _origin(ensemble, data),
        "tie_note": tie_note(ensemble.rule, len(members), len(data.facts.labels)),
    }  # fmt: skip


def _origin(ensemble: EnsembleSettings, data: Development) -> str:
    """Where weights or coefficients come from, in words; "" where the rule has none."""
    needed = RULES[ensemble.rule].parameter
    if not needed:
        return ""
    if not _are_fitted(ensemble):
        return "the config gives the weights"
    scores = f"{ensemble.weights} scores of the members on"
    what = "coefficients fitted to" if needed == "stacking" else scores
    if ensemble.weights_from == SELECTION:
        return f"{what} the part that is scored, as in the paper: chosen on the scored images"
    if data.split.folds:
        return f"{what} out-of-fold predictions (for every fold's score, on the other folds only)"
    return f"{what} the validation part"
