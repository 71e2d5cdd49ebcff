"""Ensembler: trained members become one model, weighed by predictions that decided none of their weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from kerasall.data.development import (
    ENSEMBLE,
    MEMBERS,
    MEMBERS_FILE,
    PREDICTIONS,
    SELECTION_PREDICTIONS,
    Development,
    read_development,
    write_facts,
)
from kerasall.errors import SettingsError
from kerasall.evaluation.ensemble_rules import (
    RULES,
    Stacking,
    combine_predictions,
    member_weights,
    stacking_coefficients,
    tie_note,
)
from kerasall.evaluation.predictions import Predictions, concatenate, read_predictions, write_predictions
from kerasall.files import read_json, write_json
from kerasall.models.ensembles import build_ensemble
from kerasall.models.saving import load_model, save_model
from kerasall.pipeline.component import Input, Output, component
from kerasall.preprocessing.operations import Chain
from kerasall.settings import EnsembleSettings, MemberSettings, Settings

KEPT_OF_SEARCH = ("analysis.json", "figures")

"""What the record of an ensemble keeps of the designed experiment that its members confirm."""


def require_members(settings: Settings) -> tuple[MemberSettings, ...]:
    """The members an experiment states, before any of them is trained.

    Raises:
        SettingsError: fewer than two.
    """
    if len(settings.members) < 2:
        raise SettingsError(
            f"an ensemble needs at least 2 members, but the config states {len(settings.members)}: add some under "
            "`members:`, or use pipelines/single_classifier.py"
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
    return join_members(development, models, records, members, ensemble, trained, record)


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
    folders = [(models / member.name, records / member.name) for member in members]
    metrics = join_members(
        development, [m for m, _ in folders], [r for _, r in folders], members, ensemble, trained, record
    )
    shutil.copyfile(models / MEMBERS_FILE, record / MEMBERS_FILE)
    for name in KEPT_OF_SEARCH:
        copy = shutil.copytree if (results / name).is_dir() else shutil.copyfile
        copy(results / name, record / name)
    return metrics


def join_members(
    development: Path,
    models: Sequence[Path],
    records: Sequence[Path],
    members: Sequence[MemberSettings],
    ensemble: EnsembleSettings,
    trained: Path,
    record: Path,
) -> dict[str, Any]:
    """One model and one record of several members; arguments and results are those of ``ensembler``."""
    data = read_development(development)
    own = [read_predictions(folder / PREDICTIONS) for folder in records]
    selection = _read_selection(records)
    deciding = selection if ensemble.weights_from == "selection" else own
    chosen = choose_coefficients(deciding, ensemble)

    model = build_ensemble(
        [load_model(folder / "model.keras") for folder in models],
        ensemble.rule,
        chosen.weights,
        [member.name for member in members],
        stacking=chosen.stacking,
        image_size=Chain.from_json(data.preprocess).output_size,
        steps=[list(member.steps) or None for member in members],
    )
    save_model(model, trained / "model.keras")
    write_json(trained / "preprocess.json", data.preprocess)
    write_facts(data.facts, trained)

    combined = _combine(own, ensemble, chosen, data)
    write_predictions(combined, record / PREDICTIONS)
    if selection:
        write_predictions(_joined(selection, ensemble, chosen), record / SELECTION_PREDICTIONS)
    _keep_members(members, own, selection, record)
    write_json(record / "training.json", _join_training(members, records, model.count_params()))
    write_json(record / ENSEMBLE, _describe(members, ensemble, chosen, data))
    return {"members": len(members), "rule": ensemble.rule, "parameters": model.count_params()}


@dataclass(frozen=True, eq=False)
class Coefficients:
    """What a rule needs besides the members: weights, a stacking, or nothing."""

    weights: np.ndarray | None = None
    stacking: Stacking | None = None


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


def _joined(members: Sequence[Predictions], ensemble: EnsembleSettings, chosen: Coefficients) -> Predictions:
    return combine_predictions(members, ensemble.rule, chosen.weights, chosen.stacking)


def _combine(
    own: Sequence[Predictions], ensemble: EnsembleSettings, chosen: Coefficients, data: Development
) -> Predictions:
    """Validation predictions combined; out-of-fold ones with coefficients from the other folds."""
    if not data.split.folds or not _are_fitted(ensemble) or ensemble.weights_from == "selection":
        return _joined(own, ensemble, chosen)
    parts = []
    for fold in data.split.folds:
        inside = np.isin(own[0].ids, data.split.ids(fold))
        fitted = choose_coefficients([each.take(~inside) for each in own], ensemble)
        parts.append(_joined([each.take(inside) for each in own], ensemble, fitted))
    return concatenate(parts)


def _are_fitted(ensemble: EnsembleSettings) -> bool:
    needed = RULES[ensemble.rule].parameter
    return needed == "stacking" or (needed == "weights" and isinstance(ensemble.weights, str))


def _read_selection(records: Sequence[Path]) -> list[Predictions]:
    paths = [folder / SELECTION_PREDICTIONS for folder in records]
    return [read_predictions(path) for path in paths] if all(path.is_file() for path in paths) else []


def _keep_members(
    members: Sequence[MemberSettings],
    own: Sequence[Predictions],
    selection: Sequence[Predictions],
    record: Path,
) -> None:
    for number, member in enumerate(members):
        folder = record / MEMBERS / member.name
        folder.mkdir(parents=True)
        write_predictions(own[number], folder / PREDICTIONS)
        if selection:
            write_predictions(selection[number], folder / SELECTION_PREDICTIONS)


def _join_training(
    members: Sequence[MemberSettings], records: Sequence[Path], parameters: int
) -> dict[str, Any]:
    trained = {m.name: read_json(r / "training.json") for m, r in zip(members, records, strict=True)}
    seconds = sum(each["seconds"] for each in trained.values())
    return {"parameters": parameters, "seconds": round(seconds, 1), "fits": {}, "members": trained}


def _describe(
    members: Sequence[MemberSettings], ensemble: EnsembleSettings, chosen: Coefficients, data: Development
) -> dict[str, Any]:
    """What a report and a card say of the ensemble."""
    row = RULES[ensemble.rule]
    stacking = chosen.stacking
    return {
        "rule": row.name,
        "title": row.title,
        "equation": row.equation,
        "members": [member.name for member in members],
        "weights": None if chosen.weights is None else chosen.weights.tolist(),
        "stacking": stacking
        and {
            "kernel": stacking.kernel.tolist(),
            "bias": stacking.bias.tolist(),
            "C": ensemble.stacking_strength,
        },
        "decided_by": _origin(ensemble, data),
        "tie_note": tie_note(ensemble.rule, len(members), len(data.facts.labels)),
    }


def _origin(ensemble: EnsembleSettings, data: Development) -> str:
    """Where weights or coefficients come from, in words; "" where the rule has none."""
    needed = RULES[ensemble.rule].parameter
    if not needed:
        return ""
    if not _are_fitted(ensemble):
        return "the config gives the weights"
    what = (
        "coefficients fitted to" if needed == "stacking" else f"{ensemble.weights} scores of the members on"
    )
    if ensemble.weights_from == "selection":
        return f"{what} the part that is scored, as in the paper: chosen on the scored images"
    if data.split.folds:
        return f"{what} out-of-fold predictions (for every fold's score, on the other folds only)"
    return f"{what} the validation part"
