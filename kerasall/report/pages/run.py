"""The report of a run: from the evidence of one evaluation to its page."""

from __future__ import annotations

import platform
import re
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasall.data.label_corrections import CorrectionFile, read_corrections
from kerasall.errors import count_of
from kerasall.evaluation.findings import ScoresBeside
from kerasall.evaluation.intervals import list_notes
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.operating_points import ScoredPoint
from kerasall.evaluation.review import build_queue
from kerasall.evaluation.subgroups import FEWEST_GROUPS
from kerasall.files import read_json
from kerasall.report import sections
from kerasall.report.evidence import FITTED, ONE_GROUP, SCORED, Evidence
from kerasall.report.figures_comparison import draw_scores_by_epochs
from kerasall.report.figures_scores import draw_fold_scores
from kerasall.report.figures_taguchi import draw_analysis
from kerasall.report.format import (
    difference_words,
    format_length,
    format_value,
    is_percent,
    reword_levels,
    score_of,
    title_of,
)
from kerasall.report.page import Page, Picture, Section, draw_picture, render_section
from kerasall.report.pages.review import review_section
from kerasall.report.pages.run_members import make_ensemble, make_members
from kerasall.report.pages.run_training import describe_exported, make_training, training_facts
from kerasall.report.patient_flow import count_flow, draw_flow, height_of
from kerasall.report.taguchi import describe_interactions, lay_out
from kerasall.report.verdict import describe_criterion, describe_patients
from kerasall.settings import StudySettings
from kerasall.settings.loading import dump_settings
from kerasall.version import __version__

_PARTS = ("train", "validation", "test", "selection")


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
            make_summary(e), make_scores(e), make_subgroups(e), make_sample_size(e), make_ensemble(e), make_members(e), make_tuning(e),
            make_combinations(e),
            sections.confusion_section(
                e.findings.confusion, e.findings.curves, e.facts.malignant, e.findings.roc, e.findings.precision_recall
            ),
            *make_trust(e), make_views(e), make_gallery(e), review_section(build_queue(e.review), settings.experiment),
            make_corrections(e), make_subjects(e), sections.subject_calls_section(e.findings.subject_calls), make_training(e),
            make_flow(e), make_data(e), make_study(e.settings.study), make_weaknesses(e),
            render_section(
                "provenance", command=e.command, environment=describe_environment(e),
                settings=dump_settings(settings.model_copy(update={"members": ()}) if settings.tune else settings),
            ),
        ),
    )  # fmt: skip


# --- what was trained, and how good it is ---


def make_combinations(e: Evidence) -> Section | None:
    """Everything that a sweep or a comparison of classifiers fitted; of a sweep its scores by epochs, too."""
    metric = find_metric(e.settings.evaluate.main_metric, e.facts.labels)
    runs: dict[str, dict[int, Any]] = {}
    for row in e.training.get("combinations", ()):
        if "epochs" in row:
            runs.setdefault(f"{row['backbone']} {row['optimizer']}", {})[row["epochs"]] = row["main"]
    picture = runs and draw_picture(
        "scores-by-epochs", draw_scores_by_epochs, runs, metric.title, is_percent(metric.name)
    )
    return render_section(
        "combinations", tables=e.training.get("tables", ()), by_epochs=picture or None,
        compared=e.training.get("compared_on", ""),
    )  # fmt: skip


def make_summary(e: Evidence) -> Section | None:
    """The first section: what was trained on what, the main score, the verdict."""
    found, counts = e.findings, e.examples["label"].value_counts()
    missed = None
    if e.facts.malignant:
        missed = {
            "called_benign": found.malignant_called_benign, "total": found.malignant_images,
            "sensitivity": e.score("malignant_sensitivity"), "specificity": e.score("malignant_specificity"),
        }  # fmt: skip
    groups, kind = e.split.table["group"].nunique(), e.facts.subject_kind
    split = {"unit": e.split.unit, "folds": len(e.split.folds), "groups": groups, "subjects": kind}
    held_out = found.out_of_fold
    return render_section(
        "summary",
        main=e.score(found.main), held_out=held_out and describe_held_out(e, held_out), apart=found.apart and describe_apart(e, found.apart), missed=missed, resampled=f"{found.intervals[found.main].groups} {e.group_kind}",
        others=[] if found.main == "balanced_accuracy" else [e.score("balanced_accuracy")],
        blessed=found.blessed, caveat=describe_patients(found.criteria), criteria=[(describe_criterion(c), c.met) for c in found.criteria],
        model=describe_exported(e), training=training_facts(e),
        classes={label: int(counts.get(label, 0)) for label in e.facts.labels},
        scored=SCORED[found.scored], images=len(found.predictions), split=split,
        data_notes=(*e.facts.notes, *e.split.notes), protocol=e.settings.protocol,
    )  # fmt: skip


def describe_held_out(e: Evidence, held_out: ScoresBeside) -> dict[str, Any]:
    """The main score out of fold, and how far the final model's on the test part lies from it."""
    name = e.findings.main
    before, after = held_out.intervals[name], e.findings.intervals[name]
    gap = None if before.value is None or after.value is None else after.value - before.value
    far, told = "", held_out.distance
    if gap is not None:
        far = f"{format_length(name, abs(gap))} {'lower' if gap < 0 else 'higher'}"
        if told is not None:
            ends = (
                told.note
                if told.low is None
                else f"95% interval of the difference {difference_words(name, told)[1]}"
            )
            far += f" ({ends})"
    searched = [part for part in (e.settings.deep_features, e.settings.sweep) if part is not None]
    chosen = bool(e.settings.tune) or any(part.chosen is None for part in searched)
    score = score_of(name, before, e.facts.labels)
    return {"score": score, "images": held_out.images, "far": far, "chosen": chosen}


def describe_apart(e: Evidence, apart: ScoresBeside) -> dict[str, Any]:
    """The main score of those images alone of whose patients none was trained on."""
    score = score_of(e.findings.main, apart.intervals[e.findings.main], e.facts.labels)
    return {"score": score, "images": apart.images, "others": len(e.findings.predictions) - apart.images}


def make_scores(e: Evidence) -> Section | None:
    """Every metric with its interval, the classes and the held-out folds."""
    found, main = e.findings, e.score(e.findings.main)
    picture = None
    if found.folds:
        names, values = [fold.fold for fold in found.folds], [fold.score for fold in found.folds]
        picture = draw_picture("folds", draw_fold_scores, names, values, main, height=3.0)
    groups = max(each.groups for each in found.intervals.values())
    return render_section(
        "scores",
        scores=[e.score(name) for name in found.intervals],
        per_class=found.by_class, class_images=found.confusion.sum(axis=1).tolist(),
        folds=found.folds, main=main, picture=picture,
        method=f"Intervals resample {groups} {e.group_kind}: images of one group resemble each other, so single images "
        "would make them far too narrow.",
        notes=list_notes(found.intervals.values()),
    )  # fmt: skip


def make_subgroups(e: Evidence) -> Section | None:
    """Scores by the columns that the settings name; nothing where they name none."""
    if not e.findings.subgroups:
        return None
    names = list(e.findings.subgroups[0].rows[0].intervals)
    titles = [title_of(name, e.facts.labels) for name in names]
    return render_section(
        "subgroups", subgroups=e.findings.subgroups, names=names, titles=titles, groups=e.group_kind,
        few=FEWEST_GROUPS,
    )  # fmt: skip


def make_sample_size(e: Evidence) -> Section | None:
    """How many patients a narrower interval takes, from the spread between those of this run."""
    return render_section(
        "sample_size",
        spread=e.findings.spread,
        one_group=ONE_GROUP[e.facts.subject_kind],
        groups=e.group_kind,
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
    told = reword_levels(e.tuning)
    made, laid = told["experiment"], lay_out(told)
    return render_section("tuning", made=made, laid=laid, pictures=pictures, interactions=interactions)


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
    if trust.calibration.cross_fitted and trust.points:
        chosen_on += f" {describe_shortfall(trust.points[-1])}"
    return [
        sections.calibration_section(trust.calibration),
        sections.threshold_section(
            trust.points, trust.benefit, malignant, chosen_on, trust.prevalence, trust.own
        ),
        sections.refer_section(trust.referral, trust.safeguards, bool(malignant), e.facts.subject_kind),
    ]


def describe_shortfall(point: ScoredPoint) -> str:
    """What a threshold that was chosen on few groups can be expected to reach on others."""
    alike, unlike = point.expected
    return (
        f"Few groups promise less than they show: a threshold that just reaches {point.wanted:.1%} of "
        f"{count_of(point.positives, 'malignant image')} of {count_of(point.sensitivity.groups, 'group')} is expected to reach {alike:.1%} (where a group's "
        f"images are alike) to {unlike:.1%} (where they are not) on new groups."
    )


def make_views(e: Evidence) -> Section | None:
    """Whether averaging mirrored and turned images is worth its time."""
    found = e.findings.views
    if found is None:
        return None
    titles = {name: title_of(name, e.facts.labels) for name in found.gain}
    return render_section("views", found=found, titles=titles, predicted_on=FITTED[found.predicted_on])


# --- single images, subjects and labels ---


def make_gallery(e: Evidence) -> Section | None:
    """Images with their true and called class."""
    predictions, ensemble = e.findings.predictions, e.findings.ensemble
    vote = ensemble is not None and ensemble.description["rule"] == "majority_vote"
    rows = sections.choose_gallery(predictions, e.settings.evaluate.gallery, e.settings.seed)
    paths = dict(zip(e.examples["id"], e.examples["path"], strict=True))
    voters = len(ensemble.members) if ensemble and vote else 0
    data = e.development
    images = sections.show_images(predictions, rows, paths, data.limits, data.sixteen_bit, voters)
    return sections.gallery_section(images, e.facts.malignant)


def make_corrections(e: Evidence) -> Section | None:
    """Every label that was changed, and what that means for the score; nothing where none was."""
    files, found = read_corrections(e.split_folder), e.findings
    score, frozen = score_before(e, files), e.settings.split.file is not None
    return corrections_section(files, found.predictions.ids.tolist(), found.scored, score, frozen)


def corrections_section(
    files: Sequence[CorrectionFile], scored: Sequence[str], kind: str, score: Mapping[str, str] | None, frozen: bool
) -> Section | None:  # fmt: skip
    """Every label that was changed, and what that means for the score.

    Args:
        files: in the order they were applied.
        scored: ids of the images that are scored.
        kind: what these are: test, out-of-fold, validation or selection.
        score: of the same images on both labels: title, before, after; None where no scored label was changed.
        frozen: whether the split was given as a file.
    """
    labels = [each for file in files for each in file.corrections if each.kind != "confirmed"]
    ids = set(scored)
    # Out-of-fold every image would have been scored; otherwise only those known to stand in the part.
    gone = (each for each in labels if each.kind == "excluded" and each.id not in ids)
    left_out = {each.id for each in gone if kind == "out-of-fold" or each.part == kind}
    changed = {each.id for each in labels if each.id in ids}
    return render_section(
        "corrections", files=files, changes=labels, changed=len(changed), left_out=len(left_out), scored=len(scored),
        kind=kind, score=score, frozen=frozen,
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
    return sections.subject_section(sections.count_right(e.findings.predictions), e.facts.labels, kind, note)


# --- the data, and what they cannot tell ---


def make_flow(e: Evidence) -> Section | None:
    """The way of images and patients from what was found to what is scored."""
    excluded = sum(file.count("excluded") for file in read_corrections(e.split_folder))
    flow = count_flow(
        e.split, e.findings.scored, e.findings.predictions.ids, e.facts.subject_kind,
        left_out=e.left_out, excluded=excluded, copies=e.copies, leaks=len(read_json(e.split_folder / "leaks.json")),
    )  # fmt: skip
    picture = draw_picture("patient-flow", draw_flow, flow, width=5.6, height=height_of(flow))
    return render_section("flow", flow=flow, picture=picture)


def make_data(e: Evidence) -> Section | None:
    """Images and subjects of each class and part, anomalies, duplicates."""
    known, labels = e.facts.subject_kind != "none", e.facts.labels
    order = {part: place for place, part in enumerate(_PARTS)}
    parts = sorted(
        e.examples["part"].unique(), key=lambda part: (order.get(part, len(order)), len(part), part)
    )
    different = e.examples.drop_duplicates(["label", "part", "subject"])
    images, subjects = (
        sections.count_images(rows["label"], rows["part"], labels, parts) for rows in (e.examples, different)
    )
    return sections.data_section(
        labels, parts, images, subjects if known else None, e.facts.subject_kind if known else "subject",
        fingerprint=e.facts.fingerprint, sizes=e.statistics["sizes"], errors=e.anomalies["errors"],
        warnings=e.anomalies["warnings"], duplicates=_duplicate_words(e),
    )  # fmt: skip


def _duplicate_words(e: Evidence) -> list[str]:
    found, kind, divided = e.anomalies, e.facts.subject_kind, e.split.unit == "image"
    exact, near, named = (
        found[f"{kind}_groups"] for kind in ("exact_duplicate", "near_duplicate", "named_copy")
    )
    if not e.settings.checks.near_duplicates.enabled:
        return [
            f"{count_of(exact, 'group')} of byte-identical files and {named} of copies by name were found. Near duplicates were not "
            "looked for."
        ]
    if not exact and not near and not named:
        return ["No exact and no near duplicates were found, and no copies by name."]
    kept = (
        "some stand on two sides of the split" if divided else "each group stays on one side of every split"
    )
    words = [
        f"{count_of(exact, 'group')} of byte-identical files, {near} of near duplicates and {named} of copies by name were found; "
        f"{kept}."
    ]
    kinds = ("duplicate", "near_duplicate", "named_copy")
    crossing = sum(found[f"cross_subject_{kind}_groups"] for kind in kinds)
    if kind != "none" and not divided:
        words.append(f"{crossing} of them join different {kind}s, which then count as one group.")
    return words


def make_study(study: StudySettings) -> Section | None:
    """What the authors state, and what they do not."""
    stated = {name.replace("_", " ").capitalize(): getattr(study, name) for name in type(study).model_fields}
    return render_section(
        "study", stated={name: text for name, text in stated.items() if text},
        unstated=[name for name, text in stated.items() if not text],
    )  # fmt: skip


def make_weaknesses(e: Evidence) -> Section | None:
    """What the score cannot tell, the gravest first, and how the run departs from its paper."""
    stained = any(
        "fitted" in str(op) or op["op"] in ("reinhard", "macenko") for op in e.development.preprocess
    )
    return render_section(
        "weaknesses",
        synthetic=e.facts.source == "synthetic", kind=e.facts.subject_kind, stated=e.settings.weaknesses,
        leaks=len(read_json(e.split_folder / "leaks.json")), near_duplicates=e.settings.checks.near_duplicates.enabled,
        stained=e.findings.scored == "out-of-fold" and stained, departures=e.settings.departures,
        no_maps=e.no_maps,
    )  # fmt: skip


def describe_environment(e: Evidence) -> dict[str, str]:
    """Software, device, minutes and memory."""
    import keras
    import tensorflow as tf

    devices = ", ".join(sorted({device.device_type for device in tf.config.list_physical_devices()}))
    return {
        "Software": f"kerasall {__version__}, Keras {keras.__version__}, TensorFlow {tf.__version__}, "
        f"Python {platform.python_version()}",
        "Device": f"{devices}, {platform.machine()}",
        "Training": f"{e.training['seconds'] / 60:.1f} minutes",
        "Peak memory": f"{measure_peak() / 2**30:.1f} GiB",
        "Seed": f"{e.settings.seed}{', deterministic' if e.settings.deterministic else ''}",
    }


def measure_peak() -> int:
    """Most bytes that this process had resident so far.

    Linux' own count since the program began: ``getrusage`` there also counts the process that started this one, whose
    memory it shared until then.
    """
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
