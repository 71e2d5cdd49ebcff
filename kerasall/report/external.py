"""The report of an external check, and its numbers for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from kerasall import __version__
from kerasall.decoding import decode, read_image_bytes
from kerasall.evaluation.class_mapping import MALIGNANT
from kerasall.evaluation.curves import precision_recall_curves, roc_curves
from kerasall.evaluation.metrics import confusion_matrix, per_class_table
from kerasall.evaluation.reliability import score_calibration
from kerasall.report.background import DataFacts, data_section, provenance_section
from kerasall.report.data_figures import GalleryImage, SubjectCount
from kerasall.report.document import (
    Alert,
    Block,
    Cell,
    Check,
    Column,
    Fact,
    KeyValues,
    Range,
    Report,
    Scores,
    ScoreTile,
    Section,
    Table,
)
from kerasall.report.external_scores import (
    MALIGNANT_METRICS,
    SCORED,
    ExternalCheck,
    ExternalScores,
    read_external_score,
)
from kerasall.report.run import MEANINGS, PERCENT, choose_gallery
from kerasall.report.score_figures import Curve
from kerasall.report.scores import (
    ClassScores,
    confusion_section,
    gallery_section,
    scores_section,
    subject_section,
)
from kerasall.report.subject_calls_section import subject_calls_section
from kerasall.report.summary import Score
from kerasall.report.trust import FITTED, calibration_section, operating_section, refer_section

RESAMPLED_CURVES = 1000
GALLERY = 24


def make_external_report(scores: ExternalScores, command: str) -> Report:
    """The report of one model on foreign images."""
    check = scores.check
    facts = (
        Fact("Model", check.model.name),
        Fact("Images", f"{check.collection.source}, {len(check.scored):,} scored of {len(check.table):,}"),
        Fact("Classes", ", ".join(check.mapping.classes)),
    )
    sections = [
        _summary(scores), _all_scores(scores), _against_own(scores), _confusion(scores), *_trust(scores),
        *([subject_calls_section(scores.subjects)] if scores.subjects else []), _gallery(check),
        *_subject_accuracy(check), _data(check), _provenance(scores, command),
    ]  # fmt: skip
    return Report(
        title=f"{check.model.name} on other images",
        subtitle=f"A model trained elsewhere, applied to {check.collection.root}.",
        facts=facts,
        results=scores.to_json(),
        sections=tuple(section for section in sections if section is not None),
    )


def _tile(score: Score, extra: str = "") -> ScoreTile:
    interval = f"95% interval {score.interval}." if score.interval else "Not defined on these images."
    scale = None
    if score.value is not None and score.low is not None:
        scale = Range(score.value, score.low, score.high, score.chance)
    return ScoreTile(score.label, score.text, f"{interval} {extra}".strip(), range=scale)


def _summary(scores: ExternalScores) -> Section:
    check, names = scores.check, [name for name in MALIGNANT_METRICS if name in scores.intervals]
    tiles = [
        _tile(read_external_score(scores, name), f"{_upper(MEANINGS[name])}.")
        for name in [*names, "balanced_accuracy"]
    ]
    if scores.unlike is not None:
        unlike = scores.unlike
        found = Score("Unlike its training images", unlike.value, unlike.low, unlike.high)
        tiles.append(_tile(found, "Share of images the model says so of, and would refer."))
    what = KeyValues(
        (
            Fact("Model", f"{check.model.folder}: {_VERDICTS[check.model.blessed]}."),
            Fact("What its classes are", ", ".join(check.labels)),
            Fact("What counts as what", "; ".join(check.mapping.describe()) + "."),
            Fact(
                "Scored",
                "; ".join(f"{n:,} {fate}" for fate, n in check.table["fate"].value_counts().items()) + ".",
            ),
        )
    )
    cautions = Alert(
        "warning", "What weakens this check", "Read this before you quote a score.",
        items=tuple(map(Check, [*scores.cautions, _NO_DEVICE])),
    )  # fmt: skip
    return Section("summary", "Summary", blocks=(Scores(tuple(tiles)), cautions, what))


_VERDICTS = {
    True: "passed the checks for export on its own data",
    False: "did not pass the checks for export on its own data",
    None: "whether it passed the checks for export is not known",
}
_NO_DEVICE = "Research use only: not a diagnostic device, whatever the scores."


def _upper(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _all_scores(scores: ExternalScores) -> Section:
    rows = []
    for _, row in per_class_table(scores.check.scored).iterrows():
        of_class = (
            Score("Sensitivity", row["recall"]), Score("Precision", row["precision"]),
            Score("Specificity", row["specificity"]), Score("F1", row["f1"], percent=False),
        )  # fmt: skip
        rows.append(ClassScores(row["class"], int(row["images"]), of_class))
    first = next(iter(scores.intervals.values()))
    notes = sorted({each.note for each in scores.intervals.values() if each.note})
    return scores_section(
        [read_external_score(scores, name) for name in scores.intervals],
        rows,
        method=f"Nothing was chosen on these images. Intervals: {first.method}, {first.groups:,} groups.",
        notes=notes,
    )


def _against_own(scores: ExternalScores) -> Section | None:
    own = scores.own_metrics
    if not own:
        return None
    rows = []
    for name, before in own.items():
        here, there = read_external_score(scores, name), _from_json(name, before)
        lost = None if here.value is None or there.value is None else here.value - there.value
        change = "–" if lost is None else f"{100 * lost:+.1f} points" if name in PERCENT else f"{lost:+.3f}"
        worse = lost is not None and lost < -0.05
        cells = [Cell(each.text, each.interval) for each in (there, here)]
        rows.append((here.label, *cells, Cell(change, tone="bad" if worse else "")))
    columns = (Column("Score"), *(Column(name, "right") for name in ("Own evaluation", "Here", "Change")))
    note = (
        "The two sets differ in patients, stains and shares of classes: the change is not the model's alone."
    )
    blocks = (Table("The same model on its own data and here", columns, tuple(rows), (note,)),)
    return Section("against-own", "What is lost on the way", _WAY, blocks)


_WAY = "A score on other images is nearly always lower than on the model's own. How much lower is what this check is for."


def _from_json(name: str, found: Mapping[str, Any]) -> Score:
    return Score(name, found.get("value"), found.get("low"), found.get("high"), name in PERCENT)


def _confusion(scores: ExternalScores) -> Section:
    check = scores.check
    scorer = replace(scores.scorer, resamples=RESAMPLED_CURVES)
    precision_recall = precision_recall_curves(scorer)
    counts = np.bincount(check.scored.labels, minlength=len(check.mapping.classes)) / len(check.scored)
    of_class = dict(zip(check.mapping.classes, counts.tolist(), strict=True))
    section = confusion_section(
        confusion_matrix(check.scored),
        check.mapping.classes,
        scores.malignant,
        roc=[Curve(**vars(curve)) for curve in roc_curves(scorer)],
        precision_recall=[Curve(**vars(curve)) for curve in precision_recall],
        prevalences=[of_class[curve.label] for curve in precision_recall if curve.label in of_class],
    )
    blocks: tuple[Block, ...] = (*section.blocks, _called_table(check))
    return Section(section.id, section.title, section.intro, blocks)


def _called_table(check: ExternalCheck) -> Table:
    rows = check.table[check.table["fate"] == SCORED]
    counts = pd.crosstab(rows["label"], rows["called"]).reindex(columns=list(check.labels), fill_value=0)
    columns = (
        Column("Class of the images"),
        Column("Counts as"),
        *(Column(n, "right") for n in check.labels),
    )
    lines = tuple(
        (str(name), check.mapping.targets[str(name)], *(f"{count:,}" for count in counts.loc[name]))
        for name in counts.index
    )
    return Table("What the model called the images, in its own classes", columns, lines)


def _trust(scores: ExternalScores) -> list[Section]:
    check, safeguards, found = scores.check, scores.check.model.safeguards, []
    if safeguards is None or check.calibrated is None:
        return []
    fitted = FITTED[safeguards.fitted_on]
    if len(np.unique(check.scored.labels)) > 1 or len(check.mapping.classes) == 2:
        believed = score_calibration(
            scores.scorer, check.calibrated, safeguards.calibration, safeguards.fitted_on, cross_fitted=False
        )
        found.append(calibration_section(believed))
    if scores.points:
        names = (MALIGNANT,) if check.mapping.kinds else scores.malignant
        chosen = (
            f"Thresholds were chosen on {fitted} of the model's own data, and are applied here as they are."
        )
        found.append(operating_section(scores.points, (), names, chosen))
    if scores.referral is not None:
        found.append(refer_section(scores.referral, safeguards, bool(scores.malignant)))
    return found


def _gallery(check: ExternalCheck) -> Section:
    predictions = check.scored
    paths = dict(zip(check.table["id"], check.table["path"], strict=True))
    theirs, decisions = check.theirs, np.asarray(predictions.decisions)
    images = []
    for row in choose_gallery(predictions, GALLERY, 0):
        name = str(predictions.ids[row])
        images.append(
            GalleryImage(
                id=name,
                pixels=decode(read_image_bytes(paths[name]), name=name),
                true=predictions.classes[predictions.labels[row]],
                called=predictions.classes[decisions[row]],
                probability=float(predictions.probabilities[row, decisions[row]]),
                subject=str(predictions.subjects[row] or theirs[row]),
            )
        )
    choice = "Shown are the wrong calls the model was surest of, and right calls drawn at random."
    return gallery_section(images, check.mapping.malignant, choice)


def _subject_accuracy(check: ExternalCheck) -> list[Section]:
    predictions, kind = check.scored, check.collection.subject_kind
    if kind == "none" or not (predictions.subjects != "").any():
        return []
    right = predictions.decisions == predictions.labels
    table = pd.DataFrame({"subject": predictions.subjects, "label": predictions.labels, "right": right})
    counts = table[table["subject"] != ""].groupby(["subject", "label"])["right"].agg(["sum", "size"])
    subjects = [
        SubjectCount(str(subject), predictions.classes[label], int(good), int(total))
        for (subject, label), (good, total) in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    return [subject_section(subjects, predictions.classes, kind)]


def _data(check: ExternalCheck) -> Section:
    fates = list(check.table["fate"].value_counts().index)
    counts = pd.crosstab(check.table["label"], check.table["fate"])
    images = counts.reindex(index=list(check.collection.labels), columns=fates, fill_value=0).to_numpy()
    found = check.anomalies
    sizes = ", ".join(f"{size} ({count:,})" for size, count in list(found["sizes"].items())[:4])
    return data_section(
        DataFacts(
            check.collection.labels, [str(fate) for fate in fates], images,
            facts={"Fingerprint": found["fingerprint"][:16], "Sizes": sizes},
            errors=[each["message"] for each in found["errors"]],
            warnings=[each["message"] for each in found["warnings"]],
            duplicates=[
                f"{found['exact_duplicate_groups']} groups of byte-identical files and "
                f"{found['near_duplicate_groups']} groups of near duplicates among them count as one group each."
            ],
        )
    )  # fmt: skip


def _provenance(scores: ExternalScores, command: str) -> Section:
    check = scores.check
    stated = "\n".join(f"{name}: {target}" for name, target in check.mapping.targets.items())
    environment = {"Software": f"kerasall {__version__}", "Model": str(check.model.folder)}
    return provenance_section(command, f"mapping of classes\n{stated}", environment=environment)
