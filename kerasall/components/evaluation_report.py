"""From the evidence of one evaluation to the document of its report and the model's card."""

from __future__ import annotations

import platform
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasall import __version__
from kerasall.components.development import Development, Facts
from kerasall.components.record_tables import describe_training, table_sections
from kerasall.config import dump_settings
from kerasall.data.splits import read_split
from kerasall.decoding import decode
from kerasall.evaluation.data_figures import GalleryImage, SubjectCount, TrainingRun
from kerasall.evaluation.ensemble_rules import RULES
from kerasall.evaluation.ensemble_scores import EnsembleScores
from kerasall.evaluation.ensemble_section import ensemble_section
from kerasall.evaluation.figures import Curve
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.metrics import METRICS, confusion_matrix, find_metric
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.report_background import (
    DataFacts,
    Stage,
    data_section,
    provenance_section,
    training_section,
    weakness_section,
)
from kerasall.evaluation.report_document import Fact, Report, Section
from kerasall.evaluation.report_sections import (
    ClassScores,
    FoldScores,
    confusion_section,
    gallery_section,
    scores_section,
    subject_section,
)
from kerasall.evaluation.report_summary import MissedMalignant, Score, Verdict, summary_section
from kerasall.files import read_json
from kerasall.settings import ModelSettings, Settings, StageSettings, TrainSettings

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

WEAKNESSES = {
    "subject": "Images of few patients: how a score varies from patient to patient weighs more than the number of images.",
    "block": "No patient is known: runs of consecutive file numbers stand in for patients, and images of one patient may "
    "stand on both sides of the split.",
    "none": "No patient is known: images of one patient may stand on both sides of the split, so scores may be too high.",
}

SCORED = {
    "test": "the test part, opened once, after every choice was made",
    "out-of-fold": "every image once, by a model that saw neither its group nor its duplicates",
    "validation": "the validation part, which also decided when training stopped: too good to be trusted",
    "selection": "the part on which the paper's protocol also chose its settings",
}


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything a report is made of."""

    scored: str
    predictions: Predictions
    intervals: dict[str, Interval]
    criteria: list[tuple[str, bool]]
    facts: Facts
    development: Development
    test: pd.DataFrame
    split_folder: Path
    statistics: dict[str, Any]
    anomalies: dict[str, Any]
    training: dict[str, Any]
    settings: Settings
    command: str
    curves: Predictions
    ensemble: EnsembleScores | None = None

    @property
    def blessed(self) -> bool:
        """Whether every criterion is met."""
        return all(met for _, met in self.criteria)

    @property
    def group_kind(self) -> str:
        """What the intervals resample, in the plural."""
        kinds = {"subject": "groups of patients", "block": "blocks of images", "none": "groups of images"}
        return kinds[self.facts.subject_kind]

    @property
    def examples(self) -> pd.DataFrame:
        """All rows that were used, with their part."""
        return pd.concat([self.development.examples, self.test], ignore_index=True)


def make_report(evidence: Evidence) -> Report:
    """The report of one classifier's evaluation."""
    settings = evidence.settings
    main = _score(evidence, settings.evaluate.main_metric)
    facts = (
        Fact("Experiment", settings.experiment),
        Fact("Model", evidence.training.get("model") or _model_words(settings)),
        Fact("Data", f"{evidence.facts.source}, {len(evidence.examples):,} images"),
        Fact("Seed", str(settings.seed)),
    )
    return Report(
        title=f"{settings.experiment}: {', '.join(evidence.facts.labels)}",
        subtitle=settings.description,
        protocol=settings.protocol,
        facts=facts,
        results=make_results(evidence),
        sections=(
            _summary(evidence, main),
            _scores(evidence, main),
            *_ensemble(evidence),
            *table_sections(evidence.training),
            _confusion(evidence),
            _gallery(evidence),
            *_subjects(evidence),
            *_training(evidence),
            _data(evidence),
            weakness_section(_weaknesses(evidence), settings.departures),
            provenance_section(evidence.command, dump_settings(settings), environment=_environment(evidence)),
        ),
    )


def make_results(evidence: Evidence) -> dict[str, Any]:
    """The numbers of report.json, for programs."""
    from kerasall.components.evaluator import count_missed

    missed = count_missed(evidence.predictions, evidence.facts.malignant)
    return {
        "scored": evidence.scored,
        "images": len(evidence.predictions),
        "labels": list(evidence.facts.labels),
        "malignant": list(evidence.facts.malignant),
        "metrics": {name: interval.to_json() for name, interval in evidence.intervals.items()},
        "confusion_matrix": confusion_matrix(evidence.predictions).tolist(),
        "malignant_called_benign": missed.called_benign if evidence.facts.malignant else None,
        "malignant_images": missed.total if evidence.facts.malignant else None,
        "folds": _fold_accuracies(evidence),
        "blessed": evidence.blessed,
        "ensemble": evidence.ensemble.to_json() if evidence.ensemble else None,
        "criteria": [{"criterion": text, "met": met} for text, met in evidence.criteria],
        "fingerprint": evidence.facts.fingerprint,
    }


def make_card(evidence: Evidence) -> dict[str, Any]:
    """What stands beside the pushed model, for people and programs."""
    return {
        "schema_version": 1,
        "experiment": evidence.settings.experiment,
        "description": evidence.settings.description,
        "intended_use": "Research use only: not a diagnostic device.",
        "kerasall_version": __version__,
        "model": _model_json(evidence),
        "preprocess": evidence.development.preprocess,
        "data": {"source": evidence.facts.source, "notes": list(evidence.facts.notes)},
        "results": make_results(evidence),
    }


def _model_json(evidence: Evidence) -> Any:
    """The classifier's settings, those of every member with the rule that joins them, or what a search chose."""
    settings = evidence.settings
    if settings.deep_features or settings.sweep:
        return {key: evidence.training[key] for key in ("model", "chosen") if key in evidence.training}
    if not settings.members:
        return settings.model.model_dump(mode="json")
    members = {member.name: member.model.model_dump(mode="json") for member in settings.members}
    return {"ensemble": settings.ensemble.model_dump(mode="json"), "members": members}


def _score(evidence: Evidence, name: str) -> Score:
    interval = evidence.intervals[name]
    low, high = interval.low, interval.high
    chance = 1 / len(evidence.facts.labels) if name == "balanced_accuracy" else None
    title = find_metric(name, evidence.facts.labels).title
    return Score(title, interval.value, low, high, name in PERCENT, MEANINGS.get(name, ""), chance)


def _summary(evidence: Evidence, main: Score) -> Section:
    from kerasall.components.evaluator import count_missed

    counts = evidence.examples["label"].value_counts()
    classes = ", ".join(f"{label} ({counts.get(label, 0):,})" for label in evidence.facts.labels)
    missed = None
    if evidence.facts.malignant:
        count = count_missed(evidence.predictions, evidence.facts.malignant)
        missed = MissedMalignant(count.called_benign, count.total, _score(evidence, "malignant_sensitivity"))
    groups = evidence.intervals[evidence.settings.evaluate.main_metric].groups
    return summary_section(
        trained=describe_training(evidence.training)
        or f"{_model_words(evidence.settings)}, {evidence.training['parameters']:,} parameters, trained in "
        f"{_stage_words(evidence.settings)}.{_refit_words(evidence)}",
        data=f"{len(evidence.examples):,} images: {classes}.",
        split=f"Scored on {SCORED[evidence.scored]} ({len(evidence.predictions):,} images). {_split_words(evidence)}",
        main=main,
        resampled=f"{groups} {evidence.group_kind}",
        verdict=Verdict(evidence.blessed, tuple(evidence.criteria)),
        missed=missed,
        others=(_score(evidence, "balanced_accuracy"),)
        if main.label != METRICS["balanced_accuracy"].title
        else (),
        data_notes=evidence.facts.notes,
        protocol=evidence.settings.protocol,
    )


def _stage_words(settings: Settings) -> str:
    counts = {len(_train_of(settings, name).stages) for name in _member_names(settings)}
    return f"{' or '.join(map(str, sorted(counts)))} stage(s)" + (" each" if settings.members else "")


def _member_names(settings: Settings) -> list[str]:
    """Names of the members; one empty name for a single classifier."""
    return [member.name for member in settings.members] or [""]


def _train_of(settings: Settings, name: str) -> TrainSettings:
    """Stages, batches and loss of a member, or of the single classifier."""
    own = {member.name: member.training(settings.train) for member in settings.members}
    return own.get(name, settings.train)


def _model_words(settings: Settings) -> str:
    if settings.members:
        title = RULES[settings.ensemble.rule].title
        members = ", ".join(f"{m.name}: {_backbone_words(m.model)}" for m in settings.members)
        return f"{title} of {len(settings.members)} members ({members})"
    return _backbone_words(settings.model)


def _backbone_words(model: ModelSettings) -> str:
    width = f" (alpha {model.alpha:g})" if model.alpha != 1 else ""
    return (
        f"{model.backbone}{width} from {'ImageNet' if model.weights == 'imagenet' else model.weights} weights"
    )


def _refit_words(evidence: Evidence) -> str:
    records = [training for _, training in _trainings(evidence)]
    if not all("final" in training["fits"] for training in records):
        return ""
    words = " The exported model was trained once more on all images, for the folds' median number of epochs "
    epochs = [[stage["best_epoch"] for stage in training["fits"]["final"]] for training in records]
    shown = "; ".join(", ".join(map(str, each)) for each in epochs)
    return f"{words}({shown}); the score is that of the folds' models."


def _trainings(evidence: Evidence) -> list[tuple[str, dict[str, Any]]]:
    """Name and record of every member's training; one empty name for a single classifier."""
    members = evidence.training.get("members")
    return list(members.items()) if members else [("", evidence.training)]


def _ensemble(evidence: Evidence) -> list[Section]:
    if evidence.ensemble is None:
        return []
    chosen = evidence.settings.ensemble.weights_from == "selection" and bool(
        evidence.ensemble.description["decided_by"]
    )
    return [ensemble_section(evidence.ensemble, evidence.facts.labels, PERCENT, chosen)]


def _split_words(evidence: Evidence) -> str:
    split = read_split(evidence.split_folder / "split.json")
    whole = "Patients and duplicates" if evidence.facts.subject_kind == "subject" else "Blocks and duplicates"
    whole = "Duplicates" if evidence.facts.subject_kind == "none" else whole
    whole = f"{whole} were never divided."
    if split.unit == "image":
        whole = "Single images were dealt out, whichever patient or smear they come from, as in the paper."
    kind = f"{len(split.folds)}-fold cross-validation" if split.folds else "One split"
    return f"{kind} over {split.table['group'].nunique():,} groups. {whole}"


def _scores(evidence: Evidence, main: Score) -> Section:
    names = list(evidence.intervals)
    notes = sorted({interval.note for interval in evidence.intervals.values() if interval.note})
    folds = [
        FoldScores(f["fold"], f["images"], f["groups"], {main.label: f["score"]})
        for f in _fold_accuracies(evidence)
    ]
    groups = evidence.intervals[names[0]].groups
    return scores_section(
        [_score(evidence, name) for name in names],
        _per_class(evidence),
        folds,
        main if folds else None,
        method=f"Intervals resample {groups} {evidence.group_kind}: images of one group resemble each other, so "
        "single images would make them far too narrow.",
        notes=notes,
    )


def _per_class(evidence: Evidence) -> list[ClassScores]:
    from kerasall.evaluation.metrics import per_class_table

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


def _fold_accuracies(evidence: Evidence) -> list[dict[str, Any]]:
    """The main metric on each held-out fold; empty where there are none."""
    if evidence.scored != "out-of-fold":
        return []
    metric = find_metric(evidence.settings.evaluate.main_metric, evidence.facts.labels)
    development = evidence.development
    part = dict(zip(development.examples["id"], development.examples["part"], strict=True))
    parts = np.asarray([part[name] for name in evidence.predictions.ids])
    folds = []
    for fold in development.split.folds:
        held_out = evidence.predictions.take(parts == fold)
        groups = len(np.unique(held_out.groups))
        score = metric(held_out, evidence.facts.malignant)
        folds.append({"fold": fold, "images": len(held_out), "groups": groups, "score": score})
    return folds


def _confusion(evidence: Evidence) -> Section:
    return confusion_section(
        confusion_matrix(evidence.predictions),
        evidence.facts.labels,
        evidence.facts.malignant,
        roc=_roc_curves(evidence.curves),
    )


def _roc_curves(predictions: Predictions) -> list[Curve]:
    from sklearn.metrics import roc_curve

    from kerasall.evaluation.metrics import area_under_roc

    curves = []
    for index, name in enumerate(predictions.classes):
        positive = predictions.labels == index
        if positive.all() or not positive.any():
            continue
        scores = predictions.probabilities[:, index]
        false_positive, true_positive, _ = roc_curve(positive, scores)
        curves.append(Curve(name, false_positive, true_positive, area_under_roc(scores, positive)))
    return curves


def _gallery(evidence: Evidence) -> Section:
    predictions = evidence.predictions
    chosen = choose_gallery(predictions, evidence.settings.evaluate.gallery, evidence.settings.seed)
    paths = dict(zip(evidence.examples["id"], evidence.examples["path"], strict=True))
    images = []
    for row in chosen:
        name = predictions.ids[row]
        path = Path(paths[name])
        images.append(
            GalleryImage(
                id=name,
                pixels=decode(path.read_bytes(), name=str(path)),
                true=predictions.classes[predictions.labels[row]],
                called=predictions.classes[predictions.decisions[row]],
                probability=float(predictions.probabilities[row, predictions.decisions[row]]),
                subject=predictions.subjects[row],
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


def _subjects(evidence: Evidence) -> list[Section]:
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


def _training(evidence: Evidence) -> list[Section]:
    if evidence.training.get("tables"):
        return curve_sections(evidence.training)
    stages = [
        stage
        for name, training in _trainings(evidence)
        for stage in _stages(name, training, _train_of(evidence.settings, name))
    ]
    monitors = {"val_loss": "lowest validation loss", "val_accuracy": "highest validation accuracy"}
    names = _member_names(evidence.settings)
    rules = {monitors[s.monitor] for name in names for s in _train_of(evidence.settings, name).stages}
    note = f"The weights of the epoch with the {' or '.join(sorted(rules))} were kept."
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


def _data(evidence: Evidence) -> Section:
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


def _duplicate_words(anomalies: dict[str, Any], divided: bool, searched: bool) -> list[str]:
    exact, near = anomalies["exact_duplicate_groups"], anomalies["near_duplicate_groups"]
    if not searched:
        return [f"{exact} groups of byte-identical files were found. Near duplicates were not looked for."]
    if not exact and not near:
        return ["No exact and no near duplicates were found."]
    return [
        f"{exact} groups of byte-identical files and {near} groups of near duplicates were found; "
        + (
            "some stand on two sides of the split."
            if divided
            else "each group stays on one side of every split."
        ),
        f"{anomalies['cross_subject_duplicate_groups']} groups join different subjects, which then count as one group.",
    ]


def _weaknesses(evidence: Evidence) -> list[str]:
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


def _environment(evidence: Evidence) -> dict[str, str]:
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
