"""What a run knows of its data, patients and parts: sentences for the items of checklists.

Each function yields whole sentences, of which each stands on what the run itself read or wrote. What it leaves open the
authors state: ``rules`` joins both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kerasall.errors import count_of
from kerasall.report.format import format_value
from kerasall.report.page import sentence
from kerasall.studies.checklists.facts import RunFacts


def describe_source(run: RunFacts) -> Iterator[str]:
    """The reader, the number of images, the fingerprint, and what the source says of itself."""
    source = run.data.get("source") or run.setting("data.source")
    if source == "synthetic":
        yield "The images are rendered by kerasall, not photographed: no patient stands behind them."
    elif source:
        yield f"The images were read as the source {source}; the run does not know who made them, or why."
    if run.statistics:
        yield f"{count_of(run.statistics['images'], 'image')} of the classes {_counts(run.statistics['classes'])}."
    yield from map(sentence, run.data.get("notes", ()))
    if found := run.results.get("fingerprint"):
        yield f"Fingerprint of the data (names, labels, patients, contents): {found[:16]}."


def describe_eligibility(run: RunFacts) -> Iterator[str]:
    """What the run itself left out; which patients a study admits it cannot know."""
    yield "The run asks for no patients: it took the images that the data state."
    if classes := run.setting("data.classes"):
        yield f"Of these it used the classes {', '.join(classes)} alone (data.classes)."
    if folds := run.setting("data.folds"):
        yield f"It read the published parts {', '.join(folds)} alone (data.folds)."
    if run.flow and run.flow.losses:
        lost = "; ".join(f"{box.title.lower()}: {run.flow.words(box)}" for box in run.flow.losses)
        yield f"Left out: {lost}."
    elif run.flow:
        yield "Of these no image was left out."


def describe_files(run: RunFacts) -> Iterator[str]:
    """Sizes and kinds of the files, which is all that they tell of how they were acquired."""
    if not run.statistics:
        return
    sizes = sorted(run.statistics["sizes"].items(), key=lambda each: -each[1])
    shown = ", ".join(f"{size} ({count:,})" for size, count in sizes[:3])
    more = f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""
    kinds = ", ".join(f"{kind} ({count:,})" for kind, count in run.statistics["formats"].items())
    yield f"The files are {kinds}, of {shown}{more} pixels."


def describe_preprocessing(run: RunFacts) -> Iterator[str]:
    """The chain of operations, in training as in the exported model, and what was checked."""
    chain = run.card.get("preprocess") or run.setting("preprocess", [])
    if chain:
        yield (
            f"Every image passes the same operations, in training as in the exported model, whoever it is of: "
            f"{'; '.join(map(describe_operation, chain))}; then the backbone's own scaling of pixels."
        )
    if run.anomalies:
        counts = [count_of(len(run.anomalies[kind]), kind[:-1]) for kind in ("errors", "warnings")]
        yield f"Files, sizes, classes, copies and labels were checked before training: {' and '.join(counts)}."
    near = run.setting("checks.near_duplicates.enabled")
    if near is False:
        yield "Near duplicates were not looked for."


def describe_operation(operation: Mapping[str, Any]) -> str:
    """For example ``resize (height 224, width 224)``."""
    values = {
        key: value for key, value in operation.items() if key != "op" and not isinstance(value, list | dict)
    }
    stated = ", ".join(f"{key} {value}" for key, value in values.items())
    name = str(operation["op"]).replace("_", " ")
    return f"{name} ({stated})" if stated else name


def describe_subsets(run: RunFacts) -> Iterator[str]:
    """Crops of the chain, chosen classes and parts: all by rule, none by hand."""
    chain = run.card.get("preprocess") or run.setting("preprocess", [])
    crops = [describe_operation(each) for each in chain if "crop" in str(each["op"])]
    yield f"Of each image the run uses {'what is left by ' + '; '.join(crops) if crops else 'the whole'}, by rule and not by hand."
    chosen = [name for name in ("classes", "folds") if run.setting(f"data.{name}")]
    yield (
        f"Chosen by the settings {' and '.join(f'data.{name}' for name in chosen)}."
        if chosen
        else "No class and no published part was passed over."
    )


def describe_missing(run: RunFacts) -> Iterator[str]:
    """Files that cannot be read, images without a patient."""
    if run.left_out is not None:
        yield f"{count_of(len(run.left_out), 'file')} could not be read and were left out; unreadable.csv lists them."
    elif run.setting("checks.unreadable", "error") == "error":
        yield "A file that cannot be read stops the run, so every image that was taken could be; a file without a label is not taken. What never came to be a file the run does not know."
    else:
        yield "No image that was taken was unreadable; a file without a label is not taken. What never came to be a file the run does not know."
    unknown = _share_without_patient(run)
    if unknown is None:
        return
    if run.subject_kind == "subject":
        yield (
            f"The patient is not known of {format_value(unknown)} of the images."
            if unknown
            else "The patient of every image is known."
        )
    else:
        yield "The patient is not known of any image."


def _share_without_patient(run: RunFacts) -> float | None:
    return None if run.split is None else float((run.split.table["subject"] == "").mean())


def describe_labels(run: RunFacts) -> Iterator[str]:
    """Where the true class of an image stands for the run, and what was corrected of it."""
    yield "For the run the true class of an image is the label that the data give it; it knows no more of how that came about."
    if changed := sum(len(file.corrections) for file in run.corrections):
        names = ", ".join(file.name for file in run.corrections)
        yield f"{count_of(changed, 'label was', 'labels were')} looked at again and confirmed, changed or taken out ({names})."


def describe_classes(run: RunFacts) -> Iterator[str]:
    """The categories of the reference standard."""
    yield f"Categories, fixed before the run: {', '.join(run.labels)}."
    if run.malignant:
        yield f"Malignant are {', '.join(run.malignant)}."
    else:
        yield "None of them is named malignant (data.malignant)."


def describe_outcome(run: RunFacts) -> Iterator[str]:
    """What is predicted: a class of the image, now; no time horizon."""
    yield "Predicted is the class of a single image at the time it was taken (diagnosis): there is no time horizon."
    yield from describe_classes(run)
    yield from describe_labels(run)


def describe_one_label(run: RunFacts) -> Iterator[str]:
    """One label an image: no agreement can be measured."""
    yield "The data hold one label an image, so the run can measure no agreement among labellers."


# --- parts ------------------------------------------------------------------------------------------


def describe_partition(run: RunFacts) -> Iterator[str]:
    """Parts with their sizes and shares, how they were drawn."""
    kinds = {
        "holdout": "drawn at random",
        "folds": "drawn at random as folds, each of which is held out once",
        "official_folds": "the publisher's own folds, each of which is held out once",
        "given": "as the data state them",
    }
    kind = run.setting("split.kind")
    if run.setting("split.file"):
        yield "The parts are those of a frozen file of an earlier run (split.file)."
    elif kind in kinds:
        yield f"The parts are {kinds[kind]}, with the seed {run.setting('seed', 0)}."
    if run.flow:
        whole = max(run.flow.used.images, 1)
        parts = "; ".join(
            f"{box.title} {run.flow.words(box)} ({format_value(box.images / whole)})"
            for box in run.flow.parts
        )
        yield f"Parts: {parts}."
    if run.split is not None and run.malignant:
        rows = run.split.table[run.split.table["part"] != "dropped"]
        held = rows[rows["label"].isin(run.malignant)].groupby("part").size()
        yield f"Malignant images: {', '.join(f'{part} {held.get(part, 0):,}' for part in run.split.parts)}."
    yield f"Scored: {run.scored}."
    if run.split is not None:
        yield from map(sentence, run.split.notes)


def describe_level(run: RunFacts) -> Iterator[str]:
    """At which level the parts are apart; never by patients where none is known."""
    if run.setting("split.unit", "group") == "image":
        yield "Single images were dealt out: images of one patient, and copies, may stand on both sides."
    elif run.leaks is None:
        yield _LEVELS["unknown"]
    elif run.leaks:
        yield f"Not wholly apart: {count_of(run.leaks, 'patient or group of copies stands', 'patients or groups of copies stand')} in two parts."
    else:
        yield from _describe_apart(run)
    beside = next(
        (each for each in run.results.get("criteria", ()) if each["criterion"] == "patients_apart"), {}
    )
    if beside.get("images"):
        yield f"{count_of(beside['images'], 'scored image is', 'scored images are')} of patients of whom others were trained on."


_LEVELS = {
    "subject": "Apart by patients, as far as the data tell them apart: no patient id and no known copy stands in two parts; "
    "a patient under two ids that nobody knows to be one may.",
    "block": "Not by patients, of whom none is known: apart by blocks of consecutive file numbers, which stand in for them. "
    "Images of one patient may stand on both sides.",
    "none": "Not by patients, of whom none is known: apart by images and their copies. Images of one patient may stand on "
    "both sides.",
    "unknown": "At which level they are apart cannot be told any more: the artifacts of the run are gone.",
}
"""Kind of subject -> at which level parts are apart where no leak was found."""


def _describe_apart(run: RunFacts) -> Iterator[str]:
    yield _LEVELS[run.subject_kind]
    if (
        run.subject_kind == "subject"
        and run.flow
        and run.flow.groups
        and run.setting("split.joined", "drop") == "drop"
    ):
        yield "Ids that are known to be one patient were kept on one side, or those on the other were not trained on."
    unknown = _share_without_patient(run)
    if run.subject_kind == "subject" and unknown:
        yield f"Of {format_value(unknown)} of the images the patient is not known: these may be of patients on the other side."
    if run.setting("split.joined", "drop") == "keep":
        yield "Patients who are known to stand under two ids were kept on both sides (split.joined: keep)."
    if run.setting("checks.near_duplicates.enabled") is False:
        yield "Near duplicates were not looked for, so they may stand on both sides."


def describe_flow(run: RunFacts) -> Iterator[str]:
    """Every box of the figure, and how many images and patients are malignant."""
    if run.flow is None:
        return
    yield from run.flow.describe()
    counts = {
        name: int(sum(row)) for name, row in zip(run.labels, run.results["confusion_matrix"], strict=True)
    }
    yield f"Scored images by true class: {_counts(counts)}."


def describe_people(run: RunFacts) -> Iterator[str]:
    """Counts by class, and their shares in every part; the run knows nothing else of the patients."""
    if run.statistics:
        yield f"Images by class: {_counts(run.statistics['classes'])}."
        if run.subject_kind == "subject":
            yield f"{run.person.capitalize()}s by class: {_counts(run.statistics['subjects_per_class'])}."
    yield from describe_parts_compared(run)
    yield "The run knows no age, no sex and no clinical feature of anybody."


def describe_parts_compared(run: RunFacts) -> Iterator[str]:
    """Shares of the classes in every part; the predictors are pixels."""
    if run.split is None:
        return
    table = run.split.table[run.split.table["part"] != "dropped"]
    for part, rows in table.groupby("part"):
        shares = rows["label"].value_counts(normalize=True)
        told = ", ".join(f"{name} {format_value(float(shares.get(name, 0)))}" for name in run.labels)
        yield f"Classes in the part {part}: {told}."


def describe_sample_size(run: RunFacts) -> Iterator[str]:
    """How many are scored, how wide that makes the main interval, and how many a narrower one takes."""
    yield f"Nothing was calculated beforehand by the run: it scored what there was, {run.scored}."
    if main := run.score(run.main_metric):
        yield f"This gives {main}."
    for each in run.results.get("sample_size") or ():
        yield from _needed(run, each)


def _needed(run: RunFacts, found: Mapping[str, Any]) -> Iterator[str]:
    """From the spread between the groups of this run: groups for an interval of a given width."""
    if found["design_effect"] is None:
        return
    wanted = ", ".join(
        f"{count:,} for {100 * float(width):g} points" for width, count in found["groups_needed"].items()
    )
    rough = f"; {found['note']}" if found.get("note") else ""
    yield (
        f"From its interval and the spread between {found['groups']:,} groups (design effect {found['design_effect']:.1f}{rough}), "
        f"a 95% interval of the {found['title']} would take about this many that have such images, each a {run.group} like "
        f"these{run.joined}: {wanted}."
    )


def describe_apart(run: RunFacts) -> Iterator[str]:
    """Development and scored images are of one set of data."""
    yield "Development and scored images were read from the same data, and are apart as the items on parts say."
    yield "The run cannot know how its patients compare with those the model is meant for."


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
