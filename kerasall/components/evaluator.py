"""Evaluator: scores with intervals on images that decided nothing, and a verdict. Numbers only: ReportGen finds the words.

What it imports is what its key covers, so nothing here may know of ``report``: a reworded sentence must not open the
test part again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from kerasall.components.calibrator import read_distances, read_safeguards
from kerasall.components.exporter import MODEL
from kerasall.components.statistics_gen import SCAN
from kerasall.data.development import (
    Development,
    Facts,
    class_indices,
    read_development,
    read_facts,
    read_rows,
)
from kerasall.data.duplicates import read_duplicates
from kerasall.data.examples import read_attributes
from kerasall.data.label_corrections import read_corrections
from kerasall.data.splits import Split
from kerasall.data.statistics import read_scan, write_seen
from kerasall.data.training_record import MEMBERS, TrainingRecord
from kerasall.decoding import Limits
from kerasall.errors import DataError
from kerasall.evaluation.curves import precision_recall_curves, roc_curves
from kerasall.evaluation.ensemble_rules import find_highest
from kerasall.evaluation.ensemble_scores import (
    ViewGain,
    for_curves,
    measure_gain,
    score_ensemble,
)
from kerasall.evaluation.findings import (
    Findings,
    Floors,
    FoldScore,
    Patients,
    ScoresBeside,
    judge,
    write_findings,
    write_numbers,
)
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import MALIGNANT_SCORES, SCORES, find_metric, malignant_mask
from kerasall.evaluation.operating_points import Prevalence
from kerasall.evaluation.predictions import Predictions, write_predictions
from kerasall.evaluation.review import REVIEW, ReviewRecord, ReviewSource, write_review_record
from kerasall.evaluation.sample_size import plan_groups
from kerasall.evaluation.subgroups import score_subgroups
from kerasall.evaluation.subject_calls import SubjectCalls, call_subjects
from kerasall.evaluation.trust_scores import TrustScores, score_safeguards
from kerasall.files import read_json, write_json
from kerasall.pipeline.component import Input, Output, component
from kerasall.serving.card import CARD, DAMAGED_FILES
from kerasall.serving.predictor import Predictor
from kerasall.settings import MemberSettings, Settings
from kerasall.version import __version__

CURVE_RESAMPLES = 1000
"""Most draws for the bands of curves."""


@dataclass(frozen=True, eq=False)
class Scored:
    """What is scored.

    Attributes:
        kind: what the images are: test, out-of-fold, validation or selection.
        predictions: of the model.
        members: of an ensemble, name -> predictions of the same images; empty for one classifier.
        ensemble: how the ensemble was made, or None.
        distances: of the images to the training images [N], where the exported model was asked.
    """

    kind: str
    predictions: Predictions
    members: dict[str, Predictions] = field(default_factory=dict)
    ensemble: dict[str, Any] | None = None
    distances: np.ndarray | None = None

    @property
    def curves(self) -> Predictions:
        """Predictions whose probabilities curves are drawn from; see ``for_curves``."""
        if self.ensemble is None:
            return self.predictions
        return for_curves(self.predictions, list(self.members.values()), self.ensemble["rule"])


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
    attributes: Annotated[Path | None, Input("Attributes")] = None,
) -> dict[str, Any]:
    """Opens the test part, once, and predicts it through the exported model from the files' bytes.

    Without a test part the out-of-fold predictions are scored. Under ``protocol: faithful`` the part
    ``selection`` is scored, is called so, and is never blessed.
    """
    settings, recorded = with_tuned_members(settings, record), TrainingRecord(record)
    data, facts, rows = read_development(development), read_facts(test), read_rows(test)
    scored = scored_predictions(rows, recorded, saved_model / MODEL, kind_of(data.split), facts, data.limits)
    examples, measured = (
        pd.concat([data.examples, rows], ignore_index=True),
        read_json(parity / "parity.json"),
    )
    findings = find_all(
        scored, data, facts, settings, recorded, safeguards,
        errors=len(read_json(anomalies / "anomalies.json")["errors"]), parity=measured,
        patients=find_patients(examples, facts, settings.data.subject),
        columns={} if attributes is None else read_attributes(attributes, scored.predictions.ids),
    )  # fmt: skip
    sources = review_sources(scored, recorded, data.split)
    review = make_review_record(examples, facts.labels, sources, statistics, frozen_split)
    write_findings(findings, evaluation)
    write_predictions(scored.predictions, evaluation / "predictions.csv")
    write_predictions(scored.predictions, evaluation / "predictions.npz")
    for name, each in scored.members.items():
        write_predictions(each, evaluation / MEMBERS / f"{name}.npz")
    write_review_record(review, evaluation / REVIEW)
    write_seen(examples, read_scan(statistics / SCAN), evaluation)
    results = findings.to_json() | {
        "tuning": recorded.analysis,
        "combinations": recorded.combinations,
        "fingerprint": facts.fingerprint,
    }
    title = f"{settings.experiment}: {', '.join(facts.labels)}"
    write_numbers(evaluation / "report.json", title, settings.protocol, results)
    write_json(
        evaluation / CARD, make_card(findings, data, facts, settings, recorded.training, results, measured)
    )
    verdict = {"blessed": findings.blessed, "criteria": results["criteria"]}
    write_json(blessing / "blessing.json", verdict)
    return {"blessed": findings.blessed, **{name: found.value for name, found in findings.intervals.items()}}


def find_all(
    scored: Scored, data: Development, facts: Facts, settings: Settings, recorded: TrainingRecord,
    safeguards: Path, *, errors: int, parity: Mapping[str, Any], patients: Patients,
    columns: Mapping[str, np.ndarray],
) -> Findings:  # fmt: skip
    """Everything that is computed of the scored images."""
    wanted, folds = settings.evaluate, {fold: data.split.ids(fold) for fold in data.split.folds}
    scorer = Scorer(
        scored.predictions,
        facts.malignant,
        wanted.resamples,
        settings.seed,
        graded=scored.curves,
        blocks=facts.subject_kind == "block",
    )
    drawn = replace(scorer.of(scored.curves), resamples=min(wanted.resamples, CURVE_RESAMPLES))
    malignant = MALIGNANT_SCORES if facts.malignant else ()
    intervals = scorer.intervals(
        list(dict.fromkeys([wanted.main_metric, *SCORES, *malignant, *wanted.metrics]))
    )
    by_class = scorer.by_class()
    counts = np.bincount(scored.predictions.labels, minlength=len(facts.labels)).tolist()
    prevalence = find_prevalence(wanted.prevalence, recorded.predictions, facts)
    trust = score_trust(scorer.of(scored.curves), scored, safeguards, folds, prevalence)
    fitted_on = trust.safeguards.fitted_on
    scored_rows = pd.DataFrame({"id": scored.predictions.ids, "group": scored.predictions.groups})
    beside = data.trained_beside(scored.kind, scored_rows)
    return Findings(
        scored=scored.kind, predictions=scored.predictions, curves=scored.curves, malignant=facts.malignant,
        main=wanted.main_metric, intervals=intervals,
        criteria=judge(
            intervals, {name: found["recall"] for name, found in by_class.items()},
            images=dict(zip(facts.labels, counts, strict=True)), malignant=len(facts.malignant),
            floors=Floors(**settings.bless.model_dump()), protocol=settings.protocol, scored=scored.kind,
            chosen_on=recorded.chosen_on,
            errors=errors, parity=parity, near_searched=settings.checks.near_duplicates.enabled,
            patients=patients, trained_beside=int(beside.sum()),
        ),
        folds=score_folds(scored, data, facts, wanted.main_metric),
        apart=score_apart(scorer, beside, wanted.main_metric),
        out_of_fold=score_out_of_fold(scorer, scored.kind, recorded, folds, wanted.main_metric),
        roc=tuple(roc_curves(drawn)),
        precision_recall=tuple(precision_recall_curves(drawn)),
        ensemble=None if scored.ensemble is None else score_ensemble(
            scorer, scored.members, scored.ensemble, list(intervals),
            recorded.deciding(settings.ensemble.weights_from),
            list(folds.values()) if scored.kind == "out-of-fold" else (),
        ),
        trust=trust,
        subject_calls=score_subjects(scorer, recorded, facts, folds, fitted_on),
        by_class=by_class,
        spread=plan_groups(scored.predictions, facts.malignant, intervals),
        subgroups=score_subgroups(
            scorer, columns, list(dict.fromkeys([wanted.main_metric, "balanced_accuracy", *malignant]))
        ),
        views=score_views(scorer, recorded, parity, settings.serve.views, fitted_on),
    )  # fmt: skip


def find_patients(examples: pd.DataFrame, facts: Facts, stated: str) -> Patients:
    """What is known of the patients of the images that were used.

    Args:
        examples: their labels and subjects.
        facts: of the data.
        stated: the setting data.subject.
    """
    named = (
        examples["subject"] != ""
        if facts.subject_kind == "subject"
        else examples["subject"].map(lambda _: False)
    )
    known = float(named.groupby(examples["label"]).mean().min())
    return Patients(known, blocks=facts.subject_kind == "block", waived=stated == "none")


def with_tuned_members(settings: Settings, record: Path) -> Settings:
    """The settings with the members that a designed experiment made, as if they had been stated.

    Args:
        settings: as stated.
        record: folder of a TrainingRecord.
    """
    tuned = TrainingRecord(record).tuned_members
    if not settings.tune or tuned is None:
        return settings
    members = tuple(MemberSettings.model_validate(member) for member in tuned)
    return settings.model_copy(update={"members": members})


def kind_of(split: Split) -> str:
    """What the Trainer's record holds predictions of: the split says so, whatever the settings claim.

    The validation part has decided epochs (and an ensemble's weights), the part ``selection`` everything
    that a paper chose on its test part: neither is an honest score.
    """
    if split.folds:
        return "out-of-fold"
    return "selection" if "selection" in split.parts else "validation"


def scored_predictions(
    examples: pd.DataFrame, recorded: TrainingRecord, saved_model: Path, kind: str, facts: Facts,
    limits: Limits,
) -> Scored:  # fmt: skip
    """The test part through the exported model, where there is one; else what the Trainer recorded."""
    if not len(examples):
        members = {name: each.scored for name, each in recorded.members.items()}
        return Scored(kind, recorded.scored, members, recorded.ensemble)
    parts = []
    for _, answers in Predictor(saved_model, limits).answer_files(examples["path"]):
        answers.require_all()
        parts.append(answers)
    outputs = {name: np.concatenate([part.extras[name] for part in parts]) for name in parts[0].extras}
    predictions = Predictions(
        ids=examples["id"].to_numpy(), subjects=examples["subject"].to_numpy(), groups=examples["group"].to_numpy(),
        labels=class_indices(examples, facts.labels),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        decisions=np.concatenate([part.label_indices for part in parts]), classes=facts.labels,
    )  # fmt: skip
    # Each member decides by its own most probable class, as it votes.
    members = {
        name: replace(
            predictions, probabilities=own, decisions=find_highest(np, own, facts.malignant_indices)
        )
        for k, name in enumerate(recorded.members)
        for own in [outputs["member_probabilities"][:, k]]
    }
    return Scored("test", predictions, members, recorded.ensemble, outputs.get("domain_distance"))


def score_trust(
    scorer: Scorer,
    scored: Scored,
    folder: Path,
    folds: Mapping[str, Sequence[str]],
    prevalence: Prevalence | None,
) -> TrustScores:
    """Calibration, thresholds and referral on the scored images, which fitted none of what judges them."""
    safeguards, distances = read_safeguards(folder), scored.distances
    if distances is None:
        distances = read_distances(folder, scorer.predictions)
    return score_safeguards(scorer, safeguards, distances, folds, kind=scored.kind, prevalence=prevalence)


def find_prevalence(stated: float | None, fitting: Predictions, facts: Facts) -> Prevalence | None:
    """The stated prevalence beside that of the images that calibration was fitted to; None where there is none."""
    fitted = float(malignant_mask(facts.labels, facts.malignant)[fitting.labels].mean())
    return Prevalence(stated, fitted) if stated is not None and 0 < fitted < 1 else None


def score_folds(scored: Scored, data: Development, facts: Facts, main: str) -> tuple[FoldScore, ...]:
    """The main metric on each held-out fold; empty where there are none."""
    if scored.kind != "out-of-fold":
        return ()
    metric = find_metric(main, facts.labels)
    part = dict(zip(data.examples["id"], data.examples["part"], strict=True))
    parts = np.asarray([part[name] for name in scored.predictions.ids])
    folds = []
    for fold in data.split.folds:
        held_out = scored.predictions.take(parts == fold)
        groups = len(np.unique(held_out.group_names))
        folds.append(FoldScore(fold, len(held_out), groups, metric(held_out, facts.malignant)))
    return tuple(folds)


def score_out_of_fold(
    scorer: Scorer, kind: str, recorded: TrainingRecord, folds: Mapping[str, Sequence[str]], main: str
) -> ScoresBeside | None:
    """The folds' models on what was held out from them; None where these are the scored images, or there are no folds."""
    if kind != "test" or not folds:
        return None
    held_out = scorer.of(recorded.predictions)
    malignant = MALIGNANT_SCORES if held_out.malignant else ()
    names = dict.fromkeys([main, "balanced_accuracy", *malignant])
    distance = scorer.distance_from(held_out, main)
    return ScoresBeside(len(held_out.predictions), held_out.intervals(list(names)), distance)


def score_apart(scorer: Scorer, beside: np.ndarray, main: str) -> ScoresBeside | None:
    """The scored images whose patients and copies were not trained on; None where that is all of them, or none.

    Args:
        scorer: of all scored images [N].
        beside: which of them were trained on beside images of their groups, bool [N].
        main: name of the main metric.
    """
    if not beside.any() or beside.all():
        return None
    apart = scorer.of(scorer.predictions.take(~beside))
    malignant = MALIGNANT_SCORES if apart.malignant else ()
    names = dict.fromkeys([main, "balanced_accuracy", *malignant])
    return ScoresBeside(len(apart.predictions), apart.intervals(list(names)))


def score_views(
    scorer: Scorer, recorded: TrainingRecord, parity: Mapping[str, Any], views: int, fitted_on: str
) -> ViewGain | None:
    """What averaging views gains on the recorded predictions, and costs; None where one view answers."""
    if recorded.one_view is None:
        return None
    return measure_gain(
        scorer.of(recorded.one_view), recorded.predictions, views=views, predicted_on=fitted_on,
        seconds=(parity["seconds_one_view"], parity["seconds_all_views"]),
    )  # fmt: skip


def score_subjects(
    scorer: Scorer, recorded: TrainingRecord, facts: Facts, folds: Mapping[str, Sequence[str]], fitted_on: str
) -> SubjectCalls | str:
    """Subjects called by a threshold that the recorded predictions of other subjects chose; or why not."""
    if facts.subject_kind != "subject":
        return facts.subject_kind
    if not facts.malignant:
        return "malignant"
    try:
        return call_subjects(scorer, recorded.predictions, fitted_on=fitted_on, folds=folds)
    except DataError as error:
        return f"{str(error)[0].upper()}{str(error)[1:]}."


def review_sources(scored: Scored, recorded: TrainingRecord, split: Split) -> list[ReviewSource]:
    """Predictions by models that had not seen the images: the scored ones, then the Trainer's record.

    Args:
        scored: what the Evaluator scores.
        recorded: the Trainer's record.
        split: without the test part.
    """
    first = ReviewSource(scored.kind, scored.predictions, scored.members)
    kind = "out-of-fold" if split.folds else "validation" if "validation" in split.parts else "selection"
    if kind == scored.kind:
        return [first]
    members = {name: each.predictions for name, each in recorded.members.items()}
    return [first, ReviewSource(kind, recorded.predictions, members)]


def make_review_record(
    images: pd.DataFrame, classes: tuple[str, ...], sources: list[ReviewSource], statistics: Path,
    frozen_split: Path,
) -> ReviewRecord:  # fmt: skip
    """What a review needs, from the artifacts of a run.

    Args:
        images: all examples that were used, with group and part.
        classes: names in class order.
        sources: predictions by models that had not seen the images; the scored ones first.
        statistics, frozen_split: folders of these artifacts.
    """
    label = dict(zip(images["id"], images["label"], strict=True))
    found = read_duplicates(statistics)
    # An image may be in no part (a copy of a published test image): it is not looked at.
    known = [[name for name in group if name in label] for group in (*found.near, *found.named)]
    contradictions = [group for group in known if len({label[name] for name in group}) > 1]
    decided = [each.id for file in read_corrections(frozen_split) for each in file.corrections]
    return ReviewRecord(classes, sources, images, contradictions, sorted(set(decided) & set(label)))


def make_card(
    findings: Findings, data: Development, facts: Facts, settings: Settings, training: Mapping[str, Any],
    results: dict[str, Any], parity: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """What stands beside the pushed model, for people and programs."""
    return {
        "schema_version": 1,
        "experiment": settings.experiment,
        "description": settings.description,
        "intended_use": "Research use only: not a diagnostic device.",
        "damaged_files": DAMAGED_FILES,
        "kerasall_version": __version__,
        "model": _model_json(settings, training),
        "preprocess": data.preprocess,
        "sixteen_bit": data.sixteen_bit,
        "limits": asdict(data.limits),
        "data": {"source": facts.source, "notes": [*facts.notes, *data.split.notes]},
        "no_maps": parity["no_maps"],
        "safeguards": findings.trust.safeguards.to_json() if findings.trust else None,
        "results": results,
    }


def _model_json(settings: Settings, training: Mapping[str, Any]) -> Any:
    """The classifier's settings, those of every member with the rule that joins them, or what a search chose."""
    if settings.deep_features or settings.sweep:
        return {key: training[key] for key in ("model", "chosen") if key in training}
    if not settings.members:
        return settings.model.model_dump(mode="json")
    members = {member.name: member.model.model_dump(mode="json") for member in settings.members}
    return {"ensemble": settings.ensemble.model_dump(mode="json"), "members": members}
