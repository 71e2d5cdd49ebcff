"""From the evidence of one evaluation to the document of its report.

Section of a report on the data, and the weaknesses that come of data and split.

Sections of a report on single images and subjects.

Sections of a report on labels, and the record that a review is made of.

Sections of a report on scores: the summary, the intervals, the folds, the members, the confusion.

Section of a report on the training: stages, curves.

Sections of a report on calibration, thresholds and referral.

Sentences of a report about the model, the training and the split.
"""

from __future__ import annotations

import platform
import resource
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kerasall import __version__
from kerasall.data.development import MEMBERS, PREDICTIONS
from kerasall.data.duplicates import read_duplicates
from kerasall.data.label_corrections import CorrectionFile, read_corrections
from kerasall.data.splits import Split, read_split
from kerasall.decoding import decode, read_image_bytes
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.predictions import Predictions, read_predictions
from kerasall.evaluation.review import ReviewRecord, ReviewSource, build_queue
from kerasall.evaluation.subject_calls import SubjectCalls
from kerasall.files import read_json
from kerasall.report.background import DataFacts, data_section, provenance_section, weakness_section
from kerasall.report.data_figures import GalleryImage, SubjectCount
from kerasall.report.document import Fact, Report, Section
from kerasall.report.ensemble_section import views_section
from kerasall.report.evidence import Evidence, make_results, score_folds
from kerasall.report.record_tables import table_sections
from kerasall.report.review_section import (
    LEFT_OUT,
    CorrectedFile,
    CorrectedLabel,
    ScoreBefore,
    corrections_section,
    review_section,
)
from kerasall.report.scores import gallery_section, subject_section
from kerasall.report.subject_calls_section import no_subject_calls_section, subject_calls_section
from kerasall.report.summary import format_value
from kerasall.report.taguchi import as_stated, tuning_sections
from kerasall.settings.loading import dump_settings

if TYPE_CHECKING:
    from kerasall.report.evidence import Scored
from kerasall.evaluation.curves import BandedCurve, precision_recall_curves, roc_curves
from kerasall.evaluation.ensemble_rules import RULES
from kerasall.evaluation.metrics import METRICS, confusion_matrix, per_class_table
from kerasall.report.background import Stage, training_section
from kerasall.report.data_figures import TrainingRun
from kerasall.report.ensemble_section import ensemble_section
from kerasall.report.evidence import count_missed
from kerasall.report.record_tables import describe_training
from kerasall.report.score_figures import Curve
from kerasall.report.scores import ClassScores, FoldScores, confusion_section, scores_section
from kerasall.report.summary import MissedMalignant, Score, Verdict, summary_section
from kerasall.report.trust import FITTED, calibration_section, operating_section, refer_section
from kerasall.settings import ModelSettings, Settings, StageSettings, TrainSettings

WEAKNESSES = {
    "subject": "Images of few patients: how a score varies from patient to patient weighs more than the number of images.",
    "block": "No patient is known: runs of consecutive file numbers stand in for patients, and images of one patient may "
    "stand on both sides of the split.",
    "none": "No patient is known: images of one patient may stand on both sides of the split, so scores may be too high.",
}


def make_data(evidence: Evidence) -> Section:
    """Images and subjects of each class and part, anomalies, duplicates."""
    examples = evidence.examples
    parts = sorted(examples["part"].unique(), key=_part_order)
    images = [[_count(examples, label, part) for part in parts] for label in evidence.facts.labels]
    known = evidence.facts.subject_kind != "none"
    subjects = [[_subject_count(examples, label, part) for part in parts] for label in evidence.facts.labels]
    anomalies = evidence.anomalies
    return data_section(
        DataFacts(
            evidence.facts.labels,
            parts,
            np.asarray(images),
            np.asarray(subjects) if known else None,
            evidence.facts.subject_kind if known else "subject",
            {"Fingerprint": evidence.facts.fingerprint[:16], "Sizes": _sizes(evidence.statistics)},
            errors=[error["message"] for error in anomalies["errors"]],
            warnings=[warning["message"] for warning in anomalies["warnings"]],
            duplicates=_duplicate_words(
                anomalies,
                divided=read_split(evidence.split_folder / "split.json").unit == "image",
                searched=evidence.settings.checks.near_duplicates.enabled,
                kind=evidence.facts.subject_kind,
            ),
        )
    )


def _part_order(part: str) -> tuple[int, int, str]:
    known = ("train", "validation", "test", "selection")
    return (known.index(part) if part in known else len(known), len(part), part)


def _count(examples: pd.DataFrame, label: str, part: str) -> int:
    return int(((examples["label"] == label) & (examples["part"] == part)).sum())


def _subject_count(examples: pd.DataFrame, label: str, part: str) -> int:
    return int(examples[(examples["label"] == label) & (examples["part"] == part)]["subject"].nunique())


def _sizes(statistics: dict[str, Any]) -> str:
    sizes = sorted(statistics["sizes"].items(), key=lambda pair: -pair[1])
    shown = ", ".join(f"{size} ({count:,})" for size, count in sizes[:4])
    return shown + (f" and {len(sizes) - 4} more" if len(sizes) > 4 else "")


def _duplicate_words(anomalies: dict[str, Any], divided: bool, searched: bool, kind: str) -> list[str]:
    exact, near = anomalies["exact_duplicate_groups"], anomalies["near_duplicate_groups"]
    if not searched:
        return [f"{exact} groups of byte-identical files were found. Near duplicates were not looked for."]
    if not exact and not near:
        return ["No exact and no near duplicates were found."]
    words = [
        f"{exact} groups of byte-identical files and {near} groups of near duplicates were found; "
        + (
            "some stand on two sides of the split."
            if divided
            else "each group stays on one side of every split."
        )
    ]
    crossing = anomalies["cross_subject_duplicate_groups"] + anomalies["cross_subject_near_duplicate_groups"]
    if kind != "none" and not divided:
        words.append(f"{crossing} of them join different {kind}s, which then count as one group.")
    return words


def list_weaknesses(evidence: Evidence) -> list[str]:
    """Sentences on what the score cannot tell, the gravest first."""
    leaks = read_json(evidence.split_folder / "leaks.json")
    found = [WEAKNESSES[evidence.facts.subject_kind], *evidence.settings.weaknesses]
    if leaks:
        found.append(
            f"{len(leaks)} subjects or duplicates stand on two sides of the split, as in the paper's protocol."
        )
    if not evidence.settings.checks.near_duplicates.enabled:
        found.append(
            "Near duplicates were not looked for: copies of one cell may stand on both sides of the split."
        )
    if evidence.scored == "out-of-fold" and any(
        "fitted" in str(s) or s["op"] in ("reinhard", "macenko") for s in evidence.development.preprocess
    ):
        found.append(
            "Stain normalisation was fitted once on all images to develop on, the held-out folds among them."
        )
    if evidence.facts.source == "synthetic":
        found.insert(0, "The cells are rendered, not photographed: the score says nothing about leukaemia.")
    return found


def make_gallery(evidence: Evidence) -> Section:
    """Images with their true and called class."""
    predictions = evidence.predictions
    chosen = choose_gallery(predictions, evidence.settings.evaluate.gallery, evidence.settings.seed)
    paths = dict(zip(evidence.examples["id"], evidence.examples["path"], strict=True))
    limits = evidence.development.limits
    decisions = np.asarray(predictions.decisions)
    vote = evidence.ensemble and evidence.ensemble.description["rule"] == "majority_vote"
    voters = len(evidence.ensemble.members) if evidence.ensemble and vote else 0
    images = []
    for row in chosen:
        name = predictions.ids[row]
        path = Path(paths[name])
        images.append(
            GalleryImage(
                id=name,
                pixels=decode(read_image_bytes(path, limits), limits, str(path)),
                true=predictions.classes[predictions.labels[row]],
                called=predictions.classes[decisions[row]],
                probability=float(predictions.probabilities[row, decisions[row]]),
                subject=predictions.subjects[row],
                voters=voters,
            )
        )
    choice = "Shown are the wrong calls the model was surest of, and right calls drawn at random."
    return gallery_section(images, evidence.facts.malignant, choice)


def choose_gallery(predictions: Predictions, count: int, seed: int) -> list[int]:
    """Rows to show: up to half wrong calls, the surest first, the rest right calls drawn at random."""
    sure = predictions.probabilities[np.arange(len(predictions)), predictions.decisions]
    wrong = np.flatnonzero(predictions.decisions != predictions.labels)
    right = np.flatnonzero(predictions.decisions == predictions.labels)
    shown = wrong[np.argsort(-sure[wrong], kind="stable")][: count // 2]
    drawn = np.random.default_rng(seed).permutation(right)[: count - len(shown)]
    return [*shown.tolist(), *sorted(drawn.tolist())]


def make_subjects(evidence: Evidence) -> list[Section]:
    """Right calls subject by subject; nothing where no subject is known."""
    if evidence.facts.subject_kind == "none":
        return []
    predictions = evidence.predictions
    right = predictions.decisions == predictions.labels
    table = pd.DataFrame({"subject": predictions.subjects, "label": predictions.labels, "right": right})
    counts = table.groupby(["subject", "label"])["right"].agg(["sum", "size"])
    subjects = [
        SubjectCount(str(subject), predictions.classes[label], int(right), int(total))
        for (subject, label), (right, total) in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    note = "; ".join(evidence.facts.notes) if evidence.facts.subject_kind == "block" else ""
    return [subject_section(subjects, evidence.facts.labels, evidence.facts.subject_kind, note)]


def make_subject_calls(evidence: Evidence) -> list[Section]:
    """Whole subjects called by their share of malignant cells, or why they are not."""
    calls = evidence.subject_calls
    if isinstance(calls, SubjectCalls):
        return [subject_calls_section(calls)]
    return [no_subject_calls_section(calls)] if calls else []


def make_trust(evidence: Evidence) -> list[Section]:
    """What the exported model says besides its answer; nothing where nothing was fitted."""
    trust = evidence.trust
    if trust is None:
        return []
    sections = [calibration_section(trust.calibration)]
    if trust.points or trust.benefit:
        fitted = FITTED[trust.safeguards.fitted_on]
        chosen = f"Thresholds were chosen on {fitted}"
        chosen += (
            "; what they reach is measured part by part, with a threshold from the other parts."
            if trust.calibration.cross_fitted
            else ", none of which is scored here."
        )
        sections.append(operating_section(trust.points, trust.benefit, evidence.facts.malignant, chosen))
    return [*sections, refer_section(trust.referral, trust.safeguards, bool(evidence.facts.malignant))]


SCORED = {
    "test": "the test part, opened once, after every choice was made",
    "out-of-fold": "every image once, by a model that saw neither its group nor its duplicates",
    "validation": "the validation part, which also decided when training stopped: too good to be trusted",
    "selection": "the part on which the paper's protocol also chose its settings",
}


def describe_model(settings: Settings) -> str:
    """The backbone, or the rule with its members, in words."""
    if settings.members:
        head = f"{RULES[settings.ensemble.rule].title} of {len(settings.members)} members"
        backbones = {member.name: _backbone_words(member.model) for member in settings.members}
        if len(set(backbones.values())) == 1:
            return f"{head}, each {next(iter(backbones.values()))}"
        return f"{head} ({', '.join(f'{name}: {words}' for name, words in backbones.items())})"
    return _backbone_words(settings.model)


def _backbone_words(model: ModelSettings) -> str:
    width = f" (alpha {model.alpha:g})" if model.alpha != 1 else ""
    return (
        f"{model.backbone}{width} from {'ImageNet' if model.weights == 'imagenet' else model.weights} weights"
    )


def describe_stages(settings: Settings) -> str:
    """How many stages the training has."""
    counts = {len(train_of(settings, name).stages) for name in member_names(settings)}
    noun = "stage" if counts == {1} else "stages"
    return f"{' or '.join(map(str, sorted(counts)))} {noun}" + (" each" if settings.members else "")


def describe_refit(evidence: Evidence) -> str:
    """How the exported model came of cross-validation; "" where it was not trained once more."""
    records = [training for _, training in list_trainings(evidence)]
    if not all("final" in training["fits"] for training in records):
        return ""
    words = " The exported model was trained once more on all images, for the folds' median number of epochs "
    epochs = [[stage["best_epoch"] for stage in training["fits"]["final"]] for training in records]
    shown = "; ".join(", ".join(map(str, each)) for each in epochs)
    return f"{words}({shown}); the score is that of the folds' models."


def list_trainings(evidence: Evidence) -> list[tuple[str, dict[str, Any]]]:
    """Name and record of every member's training; one empty name for a single classifier."""
    members = evidence.training.get("members")
    return list(members.items()) if members else [("", evidence.training)]


def member_names(settings: Settings) -> list[str]:
    """Names of the members; one empty name for a single classifier."""
    return [member.name for member in settings.members] or [""]


def train_of(settings: Settings, name: str) -> TrainSettings:
    """Stages, batches and loss of a member, or of the single classifier."""
    own = {member.name: member.training(settings.train) for member in settings.members}
    return own.get(name, settings.train)


def describe_split(evidence: Evidence) -> str:
    """How the images were divided, and what was never torn apart."""
    split = read_split(evidence.split_folder / "split.json")
    whole = "Patients and duplicates" if evidence.facts.subject_kind == "subject" else "Blocks and duplicates"
    whole = "Duplicates" if evidence.facts.subject_kind == "none" else whole
    whole = f"{whole} were never divided."
    if split.unit == "image":
        whole = "Single images were dealt out, whichever patient or smear they come from, as in the paper."
    kind = f"{len(split.folds)}-fold cross-validation" if split.folds else "One split"
    return f"{kind} over {split.table['group'].nunique():,} groups. {whole}"


PERCENT = {"accuracy", "balanced_accuracy", "malignant_sensitivity", "malignant_specificity"}

"""Metrics that read as percentages; the others read as plain numbers."""


MEANINGS = {
    "accuracy": "share of images given the right class",
    "balanced_accuracy": "mean of the classes' sensitivities; large classes count no more than small ones",
    "f1_weighted": "balance of sensitivity and precision, weighted by the images of each class",
    "f1_macro": "the same, every class counting alike",
    "cohen_kappa": "agreement beyond what chance alone would give; 1 is perfect",
    "mcc": "correlation of true and called classes; 0 is guessing",
    "roc_auc": "chance that an image of a class gets a higher probability for it than another image",
    "log_loss": "punishes confident wrong calls; 0 is perfect, lower is better",
    "malignant_sensitivity": "share of malignant images called malignant, whatever their subtype",
    "malignant_specificity": "share of benign images called benign",
}


def read_score(evidence: Evidence, name: str) -> Score:
    """One metric with its interval, as the report shows it."""
    interval = evidence.intervals[name]
    low, high = interval.low, interval.high
    chance = 1 / len(evidence.facts.labels) if name == "balanced_accuracy" else None
    title = find_metric(name, evidence.facts.labels).title
    return Score(title, interval.value, low, high, name in PERCENT, MEANINGS.get(name, ""), chance)


def make_summary(evidence: Evidence, main: Score) -> Section:
    """The first section: what was trained on what, the main score, the verdict."""
    counts = evidence.examples["label"].value_counts()
    classes = ", ".join(f"{label} ({counts.get(label, 0):,})" for label in evidence.facts.labels)
    missed = None
    if evidence.facts.malignant:
        count = count_missed(evidence.predictions, evidence.facts.malignant)
        missed = MissedMalignant(
            count.called_benign,
            count.total,
            read_score(evidence, "malignant_sensitivity"),
            read_score(evidence, "malignant_specificity"),
        )
    groups = evidence.intervals[evidence.settings.evaluate.main_metric].groups
    return summary_section(
        trained=describe_training(evidence.training)
        or f"{describe_model(evidence.settings)}, {evidence.training['parameters']:,} parameters, trained in "
        f"{describe_stages(evidence.settings)}.{describe_refit(evidence)}",
        data=f"{len(evidence.examples):,} images: {classes}.",
        split=f"Scored on {SCORED[evidence.scored]} ({len(evidence.predictions):,} images). {describe_split(evidence)}",
        main=main,
        resampled=f"{groups} {evidence.group_kind}",
        verdict=Verdict(evidence.blessed, tuple(evidence.criteria)),
        missed=missed,
        others=(read_score(evidence, "balanced_accuracy"),)
        if main.label != METRICS["balanced_accuracy"].title
        else (),
        data_notes=evidence.facts.notes,
        protocol=evidence.settings.protocol,
    )


def make_scores(evidence: Evidence, main: Score) -> Section:
    """Every metric with its interval, the classes and the held-out folds."""
    names = list(evidence.intervals)
    notes = sorted({interval.note for interval in evidence.intervals.values() if interval.note})
    folds = [
        FoldScores(f["fold"], f["images"], f["groups"], {main.label: f["score"]})
        for f in score_folds(evidence)
    ]
    groups = evidence.intervals[names[0]].groups
    return scores_section(
        [read_score(evidence, name) for name in names],
        _per_class(evidence),
        folds,
        main if folds else None,
        method=f"Intervals resample {groups} {evidence.group_kind}: images of one group resemble each other, so "
        "single images would make them far too narrow.",
        notes=notes,
    )


def _per_class(evidence: Evidence) -> list[ClassScores]:
    rows = []
    for _, row in per_class_table(evidence.predictions).iterrows():
        scores = (
            Score("Sensitivity", row["recall"]),
            Score("Precision", row["precision"]),
            Score("Specificity", row["specificity"]),
            Score("F1", row["f1"], percent=False),
        )
        rows.append(ClassScores(row["class"], int(row["images"]), scores))
    return rows


def make_ensemble(evidence: Evidence) -> list[Section]:
    """The members beside the ensemble; nothing for one classifier."""
    if evidence.ensemble is None:
        return []
    chosen = evidence.settings.ensemble.weights_from == "selection" and bool(
        evidence.ensemble.description["decided_by"]
    )
    return [ensemble_section(evidence.ensemble, evidence.facts.labels, PERCENT, chosen)]


def make_confusion(evidence: Evidence) -> Section:
    """The confusion of the classes, their ROC and precision-recall curves with bands."""
    options = {"resamples": min(evidence.settings.evaluate.resamples, 1000), "seed": evidence.settings.seed}
    predictions, malignant = evidence.curves, evidence.facts.malignant
    precision_recall = precision_recall_curves(predictions, malignant, **options)
    counts = np.bincount(predictions.labels, minlength=len(predictions.classes)) / len(predictions)
    of_class = dict(zip(predictions.classes, counts.tolist(), strict=True))
    return confusion_section(
        confusion_matrix(evidence.predictions),
        evidence.facts.labels,
        evidence.facts.malignant,
        roc=_as_drawn(roc_curves(predictions, malignant, **options)),
        precision_recall=_as_drawn(precision_recall),
        prevalences=[of_class[curve.label] for curve in precision_recall if curve.label in of_class],
    )


def _as_drawn(curves: list[BandedCurve]) -> list[Curve]:
    return [Curve(**vars(curve)) for curve in curves]


def review_sources(scored: Scored, record: Path, split: Split) -> list[ReviewSource]:
    """Predictions by models that had not seen the images: the scored ones, then the Trainer's record.

    Args:
        scored: what the Evaluator scores.
        record: folder of the TrainingRecord.
        split: without the test part.
    """
    first = ReviewSource(scored.kind, scored.predictions, scored.members)
    kind = "out-of-fold" if split.folds else "validation" if "validation" in split.parts else "selection"
    if kind == scored.kind:
        return [first]
    members = {name: read_predictions(record / MEMBERS / name / PREDICTIONS) for name in scored.members}
    return [first, ReviewSource(kind, read_predictions(record / PREDICTIONS), members)]


def make_review_record(
    images: pd.DataFrame,
    classes: tuple[str, ...],
    sources: list[ReviewSource],
    statistics: Path,
    frozen_split: Path,
) -> ReviewRecord:
    """What a review needs, from the artifacts of a run.

    Args:
        images: all examples that were used, with group and part.
        classes: names in class order.
        sources: predictions by models that had not seen the images; the scored ones first.
        statistics, frozen_split: folders of these artifacts.
    """
    label = dict(zip(images["id"], images["label"], strict=True))
    _, near = read_duplicates(statistics)
    # An image may be in no part (a copy of a published test image): it is not looked at.
    known = [[name for name in group if name in label] for group in near]
    contradictions = [group for group in known if len({label[name] for name in group}) > 1]
    decided = [each.id for file in read_corrections(frozen_split) for each in file.corrections]
    return ReviewRecord(classes, sources, images, contradictions, sorted(set(decided) & set(label)))


def make_review(evidence: Evidence) -> list[Section]:
    """The head of the review queue."""
    if evidence.review is None:
        return []
    return [review_section(build_queue(evidence.review), evidence.settings.experiment)]


def make_corrections(evidence: Evidence) -> list[Section]:
    """Every corrected label; nothing where none was corrected."""
    files = read_corrections(evidence.split_folder)
    if not files:
        return []
    shown = [
        CorrectedFile(file.name, file.sha256, _list_changes(file), file.count("confirmed")) for file in files
    ]
    score = score_before(evidence, files)
    frozen = evidence.settings.split.file is not None
    return [corrections_section(shown, evidence.predictions.ids.tolist(), evidence.scored, score, frozen)]


def _list_changes(file: CorrectionFile) -> list[CorrectedLabel]:
    return [
        CorrectedLabel(
            each.id, each.label, LEFT_OUT if each.kind == "excluded" else each.corrected_label, each.part,
            each.reviewer, each.comment,
        )
        for each in file.corrections
        if each.kind != "confirmed"
    ]  # fmt: skip


def score_before(evidence: Evidence, files: list[CorrectionFile]) -> ScoreBefore | None:
    """The main score of the scored images on the labels before all corrections; None if none of them changed."""
    first = {each.id: each.label for file in reversed(files) for each in file.corrections}
    predictions = evidence.predictions
    before = [first.get(name, "") for name in predictions.ids]
    index = {name: number for number, name in enumerate(predictions.classes)}
    labels = np.asarray(
        [index.get(old, now) for old, now in zip(before, predictions.labels, strict=True)], np.int64
    )
    if np.array_equal(labels, predictions.labels):
        return None
    name = evidence.settings.evaluate.main_metric
    metric = find_metric(name, predictions.classes)
    scored = evidence.curves if metric.needs_probabilities else predictions
    values = [metric(record, evidence.facts.malignant) for record in (replace(scored, labels=labels), scored)]
    before_words, after_words = (format_value(float(value), name in PERCENT) for value in values)
    return ScoreBefore(metric.title, before_words, after_words)


def make_training(evidence: Evidence) -> list[Section]:
    """Curves of every stage and fit."""
    if evidence.training.get("tables"):
        return curve_sections(evidence.training)
    stages = [
        stage
        for name, training in list_trainings(evidence)
        for stage in _stages(name, training, train_of(evidence.settings, name))
    ]
    if not any(len(run.validation_loss) for stage in stages for run in stage.runs):
        return [
            training_section(
                stages, "No images were kept apart to watch it: the last epoch's weights were kept."
            )
        ]
    monitors = {"val_loss": "lowest validation loss", "val_accuracy": "highest validation accuracy"}
    names = member_names(evidence.settings)
    kept = [stage for name in names for stage in train_of(evidence.settings, name).stages]
    rules = {monitors[stage.monitor] if stage.keep == "best" else "" for stage in kept}
    words = {f"of the epoch with the {rule}" if rule else "of the last epoch" for rule in rules}
    note = f"The weights {' or '.join(sorted(words))} were kept."
    return [training_section(stages, note)]


def curve_sections(training: dict[str, Any]) -> list[Section]:
    """Curves of a sweep's runs; none where nothing was trained in epochs."""
    runs = tuple(_training_run(name, stages[0]) for name, stages in training["fits"].items())
    stage = Stage("All runs", training.get("curves", {}), runs)
    return (
        [training_section([stage], "The held-out images were watched, and decided no weight.")]
        if runs
        else []
    )


def _stages(member: str, training: dict[str, Any], train: TrainSettings) -> list[Stage]:
    """The stages of one classifier with the curves of all its fits."""
    stages = []
    for index, stage in enumerate(train.stages):
        runs = [
            _training_run(name, histories[index])
            for name, histories in training["fits"].items()
            if index < len(histories)
        ]
        title = f"{member}, stage {index + 1}" if member else f"Stage {index + 1}"
        stages.append(Stage(f"{title}: {stage.name}", _stage_facts(stage, train, training), tuple(runs)))
    return stages


def _stage_facts(stage: StageSettings, train: TrainSettings, training: dict[str, Any]) -> dict[str, str]:
    parts = {"head": "the head alone", "all": "the whole network"}
    schedule = stage.schedule.get("name", "constant")
    facts = {
        "Trained": parts.get(stage.trainable, f"from {stage.trainable} on"),
        "Optimizer": f"{stage.optimizer.name}, learning rate {stage.optimizer.learning_rate:g}"
        + (f", {schedule}" if schedule != "constant" else ""),
        "Epochs": f"up to {stage.epochs}" + (f", patience {stage.patience}" if stage.patience else ""),
        "Batch": str(train.batch_size),
    }
    if train.oversample != "none":
        visited = training["classes"]["visited_an_epoch"]
        found = training["classes"]["images"]
        facts["Images an epoch, oversampled"] = ", ".join(
            f"{name} {count:,} (of {found[name]:,})" for name, count in visited.items()
        )
    return facts


def _training_run(name: str, history: dict[str, Any]) -> TrainingRun:
    epochs = history["epochs"]

    def column(key: str) -> tuple[float, ...]:
        values = [row[key] for row in epochs]
        return () if any(value is None for value in values) else tuple(values)

    return TrainingRun(
        name,
        column("loss"),
        column("val_loss"),
        column("accuracy"),
        column("val_accuracy"),
        history["best_epoch"] if column("val_loss") else None,
    )


def make_report(evidence: Evidence) -> Report:
    """The report of one classifier's evaluation."""
    settings = evidence.settings
    main = read_score(evidence, settings.evaluate.main_metric)
    facts = (
        Fact("Experiment", settings.experiment),
        Fact("Model", evidence.training.get("model") or describe_model(settings)),
        Fact("Data", f"{evidence.facts.source}, {len(evidence.examples):,} images"),
        Fact("Seed", str(settings.seed) + (f", repetition {settings.repeat}" if settings.repeat else "")),
    )
    return Report(
        title=f"{settings.experiment}: {', '.join(evidence.facts.labels)}",
        subtitle=settings.description,
        protocol=settings.protocol,
        facts=facts,
        results=make_results(evidence),
        sections=(
            make_summary(evidence, main),
            make_scores(evidence, main),
            *make_ensemble(evidence),
            *tuning_sections(evidence.tuning),
            *table_sections(evidence.training),
            make_confusion(evidence),
            *make_trust(evidence),
            *([views_section(evidence.views)] if evidence.views else []),
            make_gallery(evidence),
            *make_review(evidence),
            *make_corrections(evidence),
            *make_subjects(evidence),
            *make_subject_calls(evidence),
            *make_training(evidence),
            make_data(evidence),
            weakness_section(list_weaknesses(evidence), settings.departures),
            provenance_section(
                evidence.command,
                dump_settings(as_stated(settings)),
                environment=describe_environment(evidence),
            ),
        ),
    )


def describe_environment(evidence: Evidence) -> dict[str, str]:
    """Software, device, minutes and memory."""
    import keras
    import tensorflow as tf

    devices = ", ".join(sorted({device.device_type for device in tf.config.list_physical_devices()}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "Software": f"kerasall {__version__}, Keras {keras.__version__}, TensorFlow {tf.__version__}, "
        f"Python {platform.python_version()}",
        "Device": f"{devices}, {platform.machine()}",
        "Training": f"{evidence.training['seconds'] / 60:.1f} minutes",
        "Peak memory": f"{peak:.1f} GiB",
        "Seed": f"{evidence.settings.seed}{', deterministic' if evidence.settings.deterministic else ''}",
    }
