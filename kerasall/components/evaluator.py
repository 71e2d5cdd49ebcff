"""Evaluator: scores with intervals on images that decided nothing, a verdict, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from kerasall.components.calibrator import read_distances, read_safeguards
from kerasall.components.exporter import MODEL
from kerasall.components.seen_images import write_seen
from kerasall.components.subject_scores import score_subjects, score_views
from kerasall.data.development import (
    ENSEMBLE,
    MEMBERS,
    PREDICTIONS,
    SELECTION_PREDICTIONS,
    Facts,
    class_indices,
    read_development,
    read_facts,
    read_rows,
)
from kerasall.data.splits import Split
from kerasall.decoding import Limits
from kerasall.evaluation.ensemble_scores import EnsembleScores, intervals_of, score_ensemble
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.predictions import Predictions, read_predictions, write_predictions
from kerasall.evaluation.review import REVIEW, write_review_record
from kerasall.evaluation.trust_scores import TrustScores, score_safeguards
from kerasall.files import read_json, write_json
from kerasall.pipeline.component import Input, Output, Unkeyed, component
from kerasall.report.evidence import Evidence, Scored, count_missed, make_card
from kerasall.report.page import write_report
from kerasall.report.run import make_review_record, review_sources
from kerasall.report.tuning import read_tuning, with_tuned_members
from kerasall.serving.card import CARD
from kerasall.serving.predictor import Predictor
from kerasall.settings import BlessSettings, Settings

NEEDED = (
    "accuracy",
    "balanced_accuracy",
    "f1_weighted",
    "f1_macro",
    "cohen_kappa",
    "mcc",
    "roc_auc",
    "log_loss",
)

COMPARED = ("balanced_accuracy", "f1_weighted", "cohen_kappa", "roc_auc")

"""What members are compared by, besides the main metric."""

MALIGNANT = ("malignant_sensitivity", "malignant_specificity")


@component
def evaluator(
    development: Annotated[Path, Input("Development")],
    test: Annotated[Path, Input("Test")],
    frozen_split: Annotated[Path, Input("Split")],
    statistics: Annotated[Path, Input("Statistics")],
    anomalies: Annotated[Path, Input("Anomalies")],
    record: Annotated[Path, Input("TrainingRecord")],
    safeguards: Annotated[Path, Input("Safeguards")],
    saved_model: Annotated[Path, Input("SavedModel")],
    parity: Annotated[Path, Input("Parity")],
    settings: Settings,
    evaluation: Annotated[Path, Output("Evaluation")],
    blessing: Annotated[Path, Output("Blessing")],
    command: Annotated[str, Unkeyed()],
) -> dict[str, Any]:
    """Opens the test part, once, and predicts it through the exported model from the files' bytes.

    Without a test part the out-of-fold predictions are scored. Under ``protocol: faithful`` the part
    ``selection`` is scored, is called so, and is never blessed.
    """
    from kerasall.report.run import make_report

    facts = read_facts(test)
    settings = with_tuned_members(settings, record)
    data = read_development(development)
    parts = data.split
    scored = scored_predictions(test, record, saved_model / MODEL, kind_of(parts), facts, data.limits)
    kind, predictions = scored.kind, scored.predictions
    found = read_json(anomalies / "anomalies.json")
    intervals = score_intervals(scored, facts, settings)
    criteria = judge(
        intervals, facts, settings.bless, protocol=settings.protocol, scored=kind,
        errors=len(found["errors"]), parity=read_json(parity / "parity.json"),
        near_searched=settings.checks.near_duplicates.enabled,
    )  # fmt: skip
    trust = score_trust(scored, safeguards, parts, facts, settings)
    verdict = {"blessed": all(met for _, met in criteria), "criteria": [list(c) for c in criteria]}
    evidence = Evidence(
        scored=kind, predictions=predictions, intervals=intervals, criteria=criteria, facts=facts,
        development=data, test=read_rows(test),
        split_folder=frozen_split, statistics=read_json(statistics / "statistics.json"),
        anomalies=found, training=read_json(record / "training.json"),
        settings=settings, command=command, curves=scored.curves,
        ensemble=score_members(scored, facts, settings), tuning=read_tuning(record),
        trust=trust, subject_calls=score_subjects(
            predictions, record, parts, facts, fitted_on=trust.safeguards.fitted_on,
            resamples=settings.evaluate.resamples, seed=settings.seed,
        ),
        views=score_views(record, parity, trust.safeguards.fitted_on, facts, settings),
    )  # fmt: skip
    sources = review_sources(scored, record, parts)
    review = make_review_record(evidence.examples, facts.labels, sources, statistics, frozen_split)
    evidence = replace(evidence, review=review)
    write_report(evaluation, make_report(evidence))
    write_predictions(predictions, evaluation / "predictions.csv")
    write_predictions(predictions, evaluation / "predictions.npz")
    for name, each in scored.members.items():
        write_predictions(each, evaluation / MEMBERS / f"{name}.npz")
    write_review_record(review, evaluation / REVIEW)
    write_json(evaluation / CARD, make_card(evidence))
    write_seen(evidence.examples, statistics, evaluation)
    write_json(blessing / "blessing.json", verdict)
    return _headline(evidence, verdict)


def kind_of(split: Split) -> str:
    """What the Trainer's record holds predictions of: the split says so, whatever the settings claim.

    The validation part has decided epochs (and an ensemble's weights), the part ``selection`` everything
    that a paper chose on its test part: neither is an honest score.
    """
    if split.folds:
        return "out-of-fold"
    return "selection" if "selection" in split.parts else "validation"


def scored_predictions(
    test: Path, record: Path, saved_model: Path, kind: str, facts: Facts, limits: Limits | None = None
) -> Scored:
    """The test part through the exported model, where there is one; else what the Trainer recorded."""
    path = record / ENSEMBLE
    ensemble = read_json(path) if path.is_file() else None
    names = ensemble["members"] if ensemble else []
    examples = read_rows(test)
    if len(examples):
        predictions, members, distances = predict_examples(examples, saved_model, facts, names, limits)
        return Scored("test", predictions, members, ensemble, distances)
    file = SELECTION_PREDICTIONS if (record / SELECTION_PREDICTIONS).is_file() else PREDICTIONS
    members = {name: read_predictions(record / MEMBERS / name / file) for name in names}
    return Scored(kind, read_predictions(record / file), members, ensemble)


def predict_examples(
    examples: pd.DataFrame, saved_model: Path, facts: Facts, members: Sequence[str] = (),
    limits: Limits | None = None, batch_size: int = 32,
) -> tuple[Predictions, dict[str, Predictions], np.ndarray | None]:  # fmt: skip
    """Predictions of the exported model and of its members, and distances, for a table of examples' files."""
    predictor = Predictor(saved_model, limits)
    parts = []
    for _, answers in predictor.answer_files(examples["path"], batch_size):
        answers.require_all()
        parts.append(answers)
    record = Predictions(
        ids=examples["id"].to_numpy(),
        subjects=examples["subject"].to_numpy(),
        groups=examples["group"].to_numpy(),
        labels=class_indices(examples, facts.labels),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        decisions=np.concatenate([part.label_indices for part in parts]),
        classes=facts.labels,
    )
    told = all("domain_distance" in part.extras for part in parts)
    distances = np.concatenate([part.extras["domain_distance"] for part in parts]) if told else None
    if not members:
        return record, {}, distances
    own = np.concatenate([part.extras["member_probabilities"] for part in parts])
    # Each member decides by its own most probable class, as it votes.
    each = {
        name: replace(record, probabilities=own[:, k], decisions=own[:, k].argmax(axis=1))
        for k, name in enumerate(members)
    }
    return record, each, distances


def score_intervals(scored: Scored, facts: Facts, settings: Settings) -> dict[str, Interval]:
    """Every reported metric with its 95% interval, the main one first."""
    wanted = [*NEEDED, *(MALIGNANT if facts.malignant else ()), settings.evaluate.main_metric]
    names = list(dict.fromkeys([settings.evaluate.main_metric, *wanted, *settings.evaluate.metrics]))
    return intervals_of(
        scored.predictions, scored.curves, names, facts.malignant,
        resamples=settings.evaluate.resamples, seed=settings.seed,
    )  # fmt: skip


def score_members(scored: Scored, facts: Facts, settings: Settings) -> EnsembleScores | None:
    """The members beside the ensemble, or None for one classifier."""
    if scored.ensemble is None:
        return None
    metrics = list(dict.fromkeys([settings.evaluate.main_metric, *COMPARED]))
    return score_ensemble(
        scored.predictions, scored.members, scored.ensemble, metrics, facts.malignant,
        resamples=settings.evaluate.resamples, seed=settings.seed,
    )  # fmt: skip


def score_trust(scored: Scored, folder: Path, split: Split, facts: Facts, settings: Settings) -> TrustScores:
    """Calibration, thresholds and referral on the scored images, which fitted none of what judges them."""
    safeguards, distances = read_safeguards(folder), scored.distances
    if distances is None:
        distances = read_distances(folder, scored.curves)
    return score_safeguards(
        scored.curves, safeguards, distances, {fold: split.ids(fold) for fold in split.folds}, facts.malignant,
        kind=scored.kind, resamples=settings.evaluate.resamples, seed=settings.seed,
    )  # fmt: skip


def judge(
    intervals: dict[str, Interval],
    facts: Facts,
    bless: BlessSettings,
    *,
    protocol: str,
    scored: str,
    errors: int,
    parity: dict[str, Any],
    near_searched: bool,
) -> list[tuple[str, bool]]:
    """Every criterion of the blessing and whether it is met."""
    floor = 1 / len(facts.labels) + bless.balanced_accuracy_above_chance
    balanced = intervals["balanced_accuracy"].low
    criteria = [
        ("No validation error in the data", errors == 0),
        ("Near duplicates were looked for and kept on one side of the split", near_searched),
        (
            f"Trained model, exported model and command line agree within {parity['tolerance']:g} "
            f"(largest difference {parity['largest_difference']:.1e} on {parity['images']} images)"
            if parity["largest_difference"] is not None
            else "The exported model answers every image like the trained one",
            parity["passed"],
        ),
        (
            f"Lower bound of balanced accuracy, {_percent(balanced)}, is above chance + "
            f"{_percent(bless.balanced_accuracy_above_chance)} = {_percent(floor)}",
            _above(balanced, floor),
        ),
    ]
    if "malignant_sensitivity" in intervals:
        low = intervals["malignant_sensitivity"].low
        criteria.append(
            (
                f"Lower bound of sensitivity to malignant cells, {_percent(low)}, is above the floor of "
                f"{_percent(bless.malignant_sensitivity)}",
                _above(low, bless.malignant_sensitivity),
            )
        )
    else:
        criteria.append(("The malignant classes are named (data.malignant)", False))
    honest = protocol == "honest" and scored in ("test", "out-of-fold")
    criteria.append(("Honest protocol: nothing was chosen on the images it is scored on", honest))
    return criteria


def _above(value: float | None, floor: float) -> bool:
    """NaN and None, the marks of a score that is not defined, are not above anything."""
    return value is not None and value > floor


def _percent(value: float | None) -> str:
    return "not defined" if value is None else f"{100 * value:.1f}%"


def _headline(evidence: Evidence, verdict: dict[str, Any]) -> dict[str, Any]:
    """Numbers and words for the run's last lines and the metadata store."""
    name = evidence.settings.evaluate.main_metric
    main = evidence.intervals[name]
    missed = count_missed(evidence.predictions, evidence.facts.malignant)
    interval = (
        ""
        if main.low is None
        else f" (95% interval {main.low:.4f} to {main.high:.4f}, by resampling {main.groups} groups)"
    )
    headline = {
        "main_score": f"{name} {main.value:.4f}{interval}, {evidence.scored}, {len(evidence.predictions):,} images",
        "malignant_called_benign": f"{missed.called_benign:,} of {missed.total:,} malignant images called benign"
        if evidence.facts.malignant else "unknown: no class is named malignant (data.malignant)",
        "verdict": "blessed" if verdict["blessed"] else "not blessed: " + "; ".join(c for c, met in verdict["criteria"] if not met),
        "blessed": verdict["blessed"],
    }  # fmt: skip
    return headline | {metric: interval.value for metric, interval in evidence.intervals.items()}
