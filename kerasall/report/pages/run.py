"""The report of a run: from the evidence of one evaluation to its page."""

from __future__ import annotations

import platform
import resource
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasall import __version__
from kerasall.data.label_corrections import CorrectionFile, read_corrections
from kerasall.decoding import Limits, decode, read_image_bytes
from kerasall.evaluation.ensemble_rules import RULES
from kerasall.evaluation.metrics import METRICS, find_metric, per_class_table
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.review import build_queue
from kerasall.evaluation.subject_calls import SubjectCalls
from kerasall.files import read_json
from kerasall.report.data_figures import GalleryImage, SubjectCount, TrainingRun, draw_training_curves
from kerasall.report.evidence import FITTED, SCORED, Evidence
from kerasall.report.format import format_value, is_percent
from kerasall.report.page import Page, Picture, Section, draw_picture, render_section
from kerasall.report.pages.review import review_section
from kerasall.report.score_figures import draw_fold_scores
from kerasall.report.sections import (
    calibration_section,
    confusion_section,
    data_section,
    gallery_section,
    refer_section,
    subject_calls_section,
    subject_section,
    threshold_section,
)
from kerasall.report.taguchi import lay_out
from kerasall.report.taguchi_figures import draw_analysis
from kerasall.report.taguchi_text import describe_interactions
from kerasall.report.verdict import describe_criterion
from kerasall.settings import ModelSettings, Settings, StageSettings, TrainSettings
from kerasall.settings.loading import dump_settings

WEAKNESSES = {
    "subject": "Images of few patients: how a score varies from patient to patient weighs more than the number of images.",
    "block": "No patient is known: runs of consecutive file numbers stand in for patients, and images of one patient may "
    "stand on both sides of the split.",
    "none": "No patient is known: images of one patient may stand on both sides of the split, so scores may be too high.",
}

NOT_CALLED = {
    "block": "No patient is known in these data: runs of consecutive file numbers stand in for patients, and what is "
    "called malignant must be a person.",
    "none": "No patient is known in these data.",
    "malignant": "The malignant classes are not named (data.malignant).",
}
"""Why whole subjects are not called."""


def make_page(e: Evidence) -> Page:
    """The report of one evaluation."""
    settings = e.settings
    return Page(
        title=f"{settings.experiment}: {', '.join(e.facts.labels)}",
        subtitle=settings.description,
        protocol=settings.protocol,
        facts={
            "Experiment": settings.experiment,
            "Model": describe_exported(e),
            "Data": f"{e.facts.source}, {len(e.examples):,} images",
            "Seed": str(settings.seed) + (f", repetition {settings.repeat}" if settings.repeat else ""),
        },
        sections=(
            make_summary(e), make_scores(e), make_ensemble(e), make_tuning(e),
            render_section("combinations", tables=e.training.get("tables", ())),
            confusion_section(
                e.findings.confusion, e.findings.curves, e.facts.malignant, e.findings.roc, e.findings.precision_recall
            ),
            *make_trust(e), make_views(e), make_gallery(e), make_review(e), make_corrections(e), make_subjects(e),
            make_subject_calls(e), make_training(e), make_data(e),
            render_section("weaknesses", weaknesses=list_weaknesses(e), departures=settings.departures),
            render_section(
                "provenance", command=e.command, environment=describe_environment(e),
                settings=dump_settings(settings.model_copy(update={"members": ()}) if settings.tune else settings),
            ),
        ),
    )  # fmt: skip


# --- what was trained, and how good it is ---


def make_summary(e: Evidence) -> Section | None:
    """The first section: what was trained on what, the main score, the verdict."""
    found, settings = e.findings, e.settings
    counts = e.examples["label"].value_counts()
    classes = ", ".join(f"{label} ({counts.get(label, 0):,})" for label in e.facts.labels)
    missed = None
    if e.facts.malignant:
        missed = {
            "called_benign": found.malignant_called_benign, "total": found.malignant_images,
            "sensitivity": e.score("malignant_sensitivity"), "specificity": e.score("malignant_specificity"),
        }  # fmt: skip
    return render_section(
        "summary",
        main=e.score(found.main),
        others=[] if found.main == "balanced_accuracy" else [e.score("balanced_accuracy")],
        missed=missed,
        verdict={
            "blessed": found.blessed,
            "criteria": [(describe_criterion(c), c.met) for c in found.criteria],
        },
        trained=describe_trained(e),
        data=f"{len(e.examples):,} images: {classes}.",
        split=f"Scored on {SCORED[found.scored]} ({len(found.predictions):,} images). {describe_split(e)}",
        resampled=f"{found.intervals[found.main].groups} {e.group_kind}",
        data_notes=e.facts.notes,
        protocol=settings.protocol,
    )


def describe_exported(e: Evidence) -> str:
    """The model that is exported: what a search chose, or what the settings state."""
    return e.training.get("model") or describe_model(e.settings)


def describe_trained(e: Evidence) -> str:
    """What was trained and how, one sentence."""
    training = e.training
    if "model" in training:
        return f"{training['model']}; {training['parameters']:,} parameters, {training['how']}."
    return (
        f"{describe_model(e.settings)}, {training['parameters']:,} parameters, trained in "
        f"{describe_stages(e.settings)}.{describe_refit(e)}"
    )


def describe_model(settings: Settings) -> str:
    """The backbone, or the rule with its members, in words."""
    if not settings.members:
        return _backbone_words(settings.model)
    head = f"{RULES[settings.ensemble.rule].title} of {len(settings.members)} members"
    backbones = {member.name: _backbone_words(member.model) for member in settings.members}
    if len(set(backbones.values())) == 1:
        return f"{head}, each {next(iter(backbones.values()))}"
    return f"{head} ({', '.join(f'{name}: {words}' for name, words in backbones.items())})"


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


def describe_refit(e: Evidence) -> str:
    """How the exported model came of cross-validation; "" where it was not trained once more."""
    records = [training for _, training in list_trainings(e)]
    if not all("final" in training["fits"] for training in records):
        return ""
    words = " The exported model was trained once more on all images, for the folds' median number of epochs "
    epochs = [[stage["best_epoch"] for stage in training["fits"]["final"]] for training in records]
    shown = "; ".join(", ".join(map(str, each)) for each in epochs)
    return f"{words}({shown}); the score is that of the folds' models."


def list_trainings(e: Evidence) -> list[tuple[str, dict[str, Any]]]:
    """Name and record of every member's training; one empty name for a single classifier."""
    members = e.training.get("members")
    return list(members.items()) if members else [("", e.training)]


def member_names(settings: Settings) -> list[str]:
    """Names of the members; one empty name for a single classifier."""
    return [member.name for member in settings.members] or [""]


def train_of(settings: Settings, name: str) -> TrainSettings:
    """Stages, batches and loss of a member, or of the single classifier."""
    own = {member.name: member.training(settings.train) for member in settings.members}
    return own.get(name, settings.train)


def describe_split(e: Evidence) -> str:
    """How the images were divided, and what was never torn apart."""
    split = e.split
    whole = {"subject": "Patients and duplicates", "block": "Blocks and duplicates", "none": "Duplicates"}
    words = f"{whole[e.facts.subject_kind]} were never divided."
    if split.unit == "image":
        words = "Single images were dealt out, whichever patient or smear they come from, as in the paper."
    kind = f"{len(split.folds)}-fold cross-validation" if split.folds else "One split"
    return f"{kind} over {split.table['group'].nunique():,} groups. {words}"


def make_scores(e: Evidence) -> Section | None:
    """Every metric with its interval, the classes and the held-out folds."""
    found, main = e.findings, e.score(e.findings.main)
    picture = None
    if found.folds:
        names, values = [fold.fold for fold in found.folds], [fold.score for fold in found.folds]
        picture = draw_picture(
            "folds",
            lambda axes: draw_fold_scores(axes, names, values, main.value, main.low, main.high),
            height=3.0,
        )
    groups = next(iter(found.intervals.values())).groups
    return render_section(
        "scores",
        scores=[e.score(name) for name in found.intervals],
        per_class=per_class_table(found.predictions).to_dict("records"),
        folds=found.folds,
        main=main,
        picture=picture,
        method=f"Intervals resample {groups} {e.group_kind}: images of one group resemble each other, so single images "
        "would make them far too narrow.",
        notes=sorted({each.note for each in found.intervals.values() if each.note}),
    )


def make_ensemble(e: Evidence) -> Section | None:
    """The members beside the ensemble; nothing for one classifier."""
    found = e.findings.ensemble
    if found is None:
        return None
    pairs = found.agreement[np.triu_indices(len(found.members), 1)]
    return render_section(
        "ensemble",
        found=found,
        titles={name: find_metric(name, e.facts.labels).title for name in found.ensemble},
        mean_agreement=float(pairs.mean()),
        chosen_on_scored=e.settings.ensemble.weights_from == "selection"
        and bool(found.description["decided_by"]),
    )


def make_tuning(e: Evidence) -> Section | None:
    """The designed experiment behind the model; nothing where there was none."""
    if e.tuning is None:
        return None
    pictures = [
        Picture(f"figures/tuning_{name}.svg", text, svg)
        for name, (svg, text) in draw_analysis(e.search.analyze()).items()
    ]
    interactions = describe_interactions(e.search.design.plan.interactions())
    return render_section(
        "tuning",
        made=e.tuning["experiment"],
        laid=lay_out(e.tuning),
        pictures=pictures,
        interactions=interactions,
    )


def make_trust(e: Evidence) -> list[Section | None]:
    """What the exported model says besides its answer; nothing where nothing was fitted."""
    trust, malignant = e.findings.trust, e.facts.malignant
    if trust is None:
        return []
    judged = (
        "; what they reach is measured part by part, with a threshold from the other parts."
        if trust.calibration.cross_fitted
        else ", none of which is scored here."
    )
    chosen_on = f"Thresholds were chosen on {FITTED[trust.safeguards.fitted_on]}{judged}"
    return [
        calibration_section(trust.calibration),
        threshold_section(trust.points, trust.benefit, malignant, chosen_on),
        refer_section(trust.referral, trust.safeguards, bool(malignant)),
    ]


def make_views(e: Evidence) -> Section | None:
    """Whether averaging mirrored and turned images is worth its time."""
    found = e.findings.views
    titles = {name: METRICS[name].title for name in found.gain} if found else {}
    return render_section(
        "views", found=found, titles=titles, predicted_on=FITTED[found.predicted_on] if found else ""
    )


# --- single images, subjects and labels ---


def make_gallery(e: Evidence) -> Section | None:
    """Images with their true and called class."""
    predictions, ensemble = e.findings.predictions, e.findings.ensemble
    vote = ensemble is not None and ensemble.description["rule"] == "majority_vote"
    rows = choose_gallery(predictions, e.settings.evaluate.gallery, e.settings.seed)
    paths = dict(zip(e.examples["id"], e.examples["path"], strict=True))
    limits = e.development.limits
    images = show_images(
        predictions, rows, paths, limits, voters=len(ensemble.members) if ensemble and vote else 0
    )
    choice = "Shown are the wrong calls the model was surest of, and right calls drawn at random."
    return gallery_section(images, e.facts.malignant, choice)


def choose_gallery(predictions: Predictions, count: int, seed: int) -> list[int]:
    """Rows to show: up to half wrong calls, the surest first, the rest right calls drawn at random."""
    sure = predictions.probabilities[np.arange(len(predictions)), predictions.decisions]
    wrong = np.flatnonzero(predictions.decisions != predictions.labels)
    right = np.flatnonzero(predictions.decisions == predictions.labels)
    shown = wrong[np.argsort(-sure[wrong], kind="stable")][: count // 2]
    drawn = np.random.default_rng(seed).permutation(right)[: count - len(shown)]
    return [*shown.tolist(), *sorted(drawn.tolist())]


def show_images(
    predictions: Predictions,
    rows: Sequence[int],
    paths: Mapping[str, str],
    limits: Limits,
    voters: int = 0,
    unnamed: Sequence[str] = (),
) -> list[GalleryImage]:
    """The images of some rows, decoded.

    Args:
        predictions: with the model's decisions.
        rows: which of them.
        paths: id -> file.
        limits: on the size of images.
        voters: how many members voted; 0 for one classifier.
        unnamed: by row, what stands for a subject that has no name.
    """
    decisions = np.asarray(predictions.decisions)
    return [
        GalleryImage(
            id=predictions.ids[row],
            pixels=decode(read_image_bytes(Path(path), limits), limits, str(path)),
            true=predictions.classes[predictions.labels[row]],
            called=predictions.classes[decisions[row]],
            probability=float(predictions.probabilities[row, decisions[row]]),
            subject=str(predictions.subjects[row] or (unnamed[row] if len(unnamed) else "")),
            voters=voters,
        )
        for row in rows
        for path in [paths[predictions.ids[row]]]
    ]


def make_review(e: Evidence) -> Section | None:
    """The head of the review queue."""
    return review_section(build_queue(e.review), e.settings.experiment)


def make_corrections(e: Evidence) -> Section | None:
    """Every label that was changed, and what that means for the score; nothing where none was."""
    files, found = read_corrections(e.split_folder), e.findings
    frozen = e.settings.split.file is not None
    return corrections_section(
        files, found.predictions.ids.tolist(), found.scored, score_before(e, files), frozen
    )


def corrections_section(
    files: Sequence[CorrectionFile],
    scored: Sequence[str],
    kind: str,
    score: Mapping[str, str] | None,
    frozen: bool,
) -> Section | None:
    """Every label that was changed, and what that means for the score.

    Args:
        files: in the order they were applied.
        scored: ids of the images that are scored.
        kind: what these are: test, out-of-fold, validation or selection.
        score: of the same images on both labels: title, before, after; None where no scored label was changed.
        frozen: whether the split was given as a file.
    """
    labels, ids = (
        [each for file in files for each in file.corrections if each.kind != "confirmed"],
        set(scored),
    )
    # Out-of-fold every image would have been scored; otherwise only those known to stand in the part.
    gone = (each for each in labels if each.kind == "excluded" and each.id not in ids)
    left_out = {each.id for each in gone if kind == "out-of-fold" or each.part == kind}
    changed = {each.id for each in labels if each.id in ids}
    return render_section(
        "corrections", files=files, changed=len(changed), left_out=len(left_out), scored=len(scored), kind=kind,
        score=score, frozen=frozen,
    )  # fmt: skip


def score_before(e: Evidence, files: Sequence[CorrectionFile]) -> dict[str, str] | None:
    """The main score on the labels before all corrections beside the one now; None if no scored label changed."""
    first = {each.id: each.label for file in reversed(files) for each in file.corrections}
    predictions, metric = e.findings.predictions, find_metric(e.findings.main, e.facts.labels)
    index = {name: number for number, name in enumerate(predictions.classes)}
    old = [
        index.get(first.get(name, ""), now)
        for name, now in zip(predictions.ids, predictions.labels, strict=True)
    ]
    labels = np.asarray(old, np.int64)
    if np.array_equal(labels, predictions.labels):
        return None
    scored = e.findings.curves if metric.needs_probabilities else predictions
    before, after = (
        format_value(float(metric(record, e.facts.malignant)), is_percent(metric.name))
        for record in (replace(scored, labels=labels), scored)
    )
    return {"title": metric.title, "before": before, "after": after}


def make_subjects(e: Evidence) -> Section | None:
    """Right calls subject by subject; nothing where no subject is known."""
    kind = e.facts.subject_kind
    if kind == "none":
        return None
    note = "; ".join(e.facts.notes) if kind == "block" else ""
    return subject_section(count_right(e.findings.predictions), e.facts.labels, kind, note)


def count_right(predictions: Predictions) -> list[SubjectCount]:
    """Right calls and images of every subject and class."""
    right = predictions.decisions == predictions.labels
    table = pd.DataFrame({"subject": predictions.subjects, "label": predictions.labels, "right": right})
    counts = table.groupby(["subject", "label"])["right"].agg(["sum", "size"])
    return [
        SubjectCount(str(subject), predictions.classes[label], int(right), int(total))
        for (subject, label), (right, total) in zip(counts.index, counts.to_numpy(), strict=True)
    ]


def make_subject_calls(e: Evidence) -> Section | None:
    """Whole subjects called by their share of malignant cells, or why they are not."""
    calls = e.findings.subject_calls
    return subject_calls_section(calls if isinstance(calls, SubjectCalls) else NOT_CALLED.get(calls, calls))


# --- training and data ---


def make_training(e: Evidence) -> Section | None:
    """Settings and curves of every stage and fit."""
    if e.training.get("tables"):
        runs = [_training_run(name, stages[0]) for name, stages in e.training["fits"].items()]
        stages = [("All runs", e.training.get("curves", {}), runs)] if runs else []
        return _training_section(stages, "The held-out images were watched, and decided no weight.")
    stages = [
        stage
        for name, training in list_trainings(e)
        for stage in _stages(name, training, train_of(e.settings, name))
    ]
    if not _is_watched(stages):
        return _training_section(
            stages, "No images were kept apart to watch it: the last epoch's weights were kept."
        )
    monitors = {"val_loss": "lowest validation loss", "val_accuracy": "highest validation accuracy"}
    kept = [stage for name in member_names(e.settings) for stage in train_of(e.settings, name).stages]
    rules = {monitors[stage.monitor] if stage.keep == "best" else "" for stage in kept}
    words = {f"of the epoch with the {rule}" if rule else "of the last epoch" for rule in rules}
    return _training_section(stages, f"The weights {' or '.join(sorted(words))} were kept.")


_Stage = tuple[str, Mapping[str, str], list[TrainingRun]]


def _is_watched(stages: Sequence[_Stage]) -> bool:
    return any(len(run.validation_loss) for _, _, runs in stages for run in runs)


def _training_section(stages: Sequence[_Stage], note: str) -> Section | None:
    shown = []
    for number, (name, facts, runs) in enumerate(stages, start=1):
        pictures: dict[str, Picture | None] = {"loss": None, "accuracy": None}
        for measure in pictures:
            if any(len(getattr(run, measure)) for run in runs):
                draw = partial(draw_training_curves, runs=runs, measure=measure)
                picture = draw_picture(f"training-{number}-{measure}", draw, height=3.3)
                pictures[measure] = replace(picture, alt=f"{name}. {picture.alt}")
        shown.append({"name": name, "settings": facts, **pictures})
    return render_section("training", stages=shown, watched=_is_watched(stages), note=note)


def _stages(member: str, training: Mapping[str, Any], train: TrainSettings) -> list[_Stage]:
    """The stages of one classifier with the curves of all its fits."""
    stages = []
    for index, stage in enumerate(train.stages):
        fits = training["fits"].items()
        runs = [_training_run(name, histories[index]) for name, histories in fits if index < len(histories)]
        title = f"{member}, stage {index + 1}" if member else f"Stage {index + 1}"
        stages.append((f"{title}: {stage.name}", _stage_facts(stage, train, training), runs))
    return stages


def _stage_facts(stage: StageSettings, train: TrainSettings, training: Mapping[str, Any]) -> dict[str, str]:
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
        visited, found = training["classes"]["visited_an_epoch"], training["classes"]["images"]
        shown = ", ".join(f"{name} {count:,} (of {found[name]:,})" for name, count in visited.items())
        facts["Images an epoch, oversampled"] = shown
    return facts


def _training_run(name: str, history: Mapping[str, Any]) -> TrainingRun:
    def column(key: str) -> tuple[float, ...]:
        values = [row[key] for row in history["epochs"]]
        return () if any(value is None for value in values) else tuple(values)

    watched = column("val_loss")
    best = history["best_epoch"] if watched else None
    return TrainingRun(name, column("loss"), watched, column("accuracy"), column("val_accuracy"), best)


def make_data(e: Evidence) -> Section | None:
    """Images and subjects of each class and part, anomalies, duplicates."""
    kind = e.facts.subject_kind
    parts = sorted(e.examples["part"].unique(), key=_part_order)
    grouped = e.examples.groupby(["label", "part"])["subject"]
    every = pd.MultiIndex.from_product([e.facts.labels, parts])
    images, subjects = (
        counts.reindex(every, fill_value=0).to_numpy().reshape(len(e.facts.labels), len(parts))
        for counts in (grouped.size(), grouped.nunique())
    )
    return data_section(
        e.facts.labels, parts, images, None if kind == "none" else subjects, "subject" if kind == "none" else kind,
        facts={"Fingerprint": e.facts.fingerprint[:16], "Sizes": _sizes(e.statistics)},
        errors=[error["message"] for error in e.anomalies["errors"]],
        warnings=[warning["message"] for warning in e.anomalies["warnings"]],
        duplicates=_duplicate_words(e),
    )  # fmt: skip


def _part_order(part: str) -> tuple[int, int, str]:
    known = ("train", "validation", "test", "selection")
    return (known.index(part) if part in known else len(known), len(part), part)


def _sizes(statistics: Mapping[str, Any]) -> str:
    sizes = sorted(statistics["sizes"].items(), key=lambda pair: -pair[1])
    shown = ", ".join(f"{size} ({count:,})" for size, count in sizes[:4])
    return shown + (f" and {len(sizes) - 4} more" if len(sizes) > 4 else "")


def _duplicate_words(e: Evidence) -> list[str]:
    found, kind, divided = e.anomalies, e.facts.subject_kind, e.split.unit == "image"
    exact, near = found["exact_duplicate_groups"], found["near_duplicate_groups"]
    if not e.settings.checks.near_duplicates.enabled:
        return [f"{exact} groups of byte-identical files were found. Near duplicates were not looked for."]
    if not exact and not near:
        return ["No exact and no near duplicates were found."]
    kept = (
        "some stand on two sides of the split." if divided else "each group stays on one side of every split."
    )
    words = [
        f"{exact} groups of byte-identical files and {near} groups of near duplicates were found; {kept}"
    ]
    crossing = found["cross_subject_duplicate_groups"] + found["cross_subject_near_duplicate_groups"]
    if kind != "none" and not divided:
        words.append(f"{crossing} of them join different {kind}s, which then count as one group.")
    return words


def list_weaknesses(e: Evidence) -> list[str]:
    """Sentences on what the score cannot tell, the gravest first."""
    leaks = read_json(e.split_folder / "leaks.json")
    found = [WEAKNESSES[e.facts.subject_kind], *e.settings.weaknesses]
    if leaks:
        found.append(
            f"{len(leaks)} subjects or duplicates stand on two sides of the split, as in the paper's protocol."
        )
    if not e.settings.checks.near_duplicates.enabled:
        found.append(
            "Near duplicates were not looked for: copies of one cell may stand on both sides of the split."
        )
    stained = any(
        "fitted" in str(op) or op["op"] in ("reinhard", "macenko") for op in e.development.preprocess
    )
    if e.findings.scored == "out-of-fold" and stained:
        found.append(
            "Stain normalisation was fitted once on all images to develop on, the held-out folds among them."
        )
    if e.facts.source == "synthetic":
        found.insert(0, "The cells are rendered, not photographed: the score says nothing about leukaemia.")
    return found


def describe_environment(e: Evidence) -> dict[str, str]:
    """Software, device, minutes and memory."""
    import keras
    import tensorflow as tf

    devices = ", ".join(sorted({device.device_type for device in tf.config.list_physical_devices()}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "Software": f"kerasall {__version__}, Keras {keras.__version__}, TensorFlow {tf.__version__}, "
        f"Python {platform.python_version()}",
        "Device": f"{devices}, {platform.machine()}",
        "Training": f"{e.training['seconds'] / 60:.1f} minutes",
        "Peak memory": f"{peak:.1f} GiB",
        "Seed": f"{e.settings.seed}{', deterministic' if e.settings.deterministic else ''}",
    }
