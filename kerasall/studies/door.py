"""What a run on people's own images asks before it reads the first pixel, all in one go, each with its cure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from kerasall.components.example_gen import OWN_IMAGES, read_collection_of
from kerasall.components.transform import draw_split
from kerasall.data.examples import Collection
from kerasall.data.sources import detect_source
from kerasall.data.spelling import find_name, key_of
from kerasall.data.splits import check_leaks, group_examples, natural_order
from kerasall.data.stratification import inner_validation
from kerasall.errors import DataError, KerasallError, ModelError, SettingsError, count_of, near_names
from kerasall.evaluation.findings import LEAST_KNOWN
from kerasall.files import require_room
from kerasall.models.backbones import get_backbone
from kerasall.models.weights import resolve_weights
from kerasall.serving.card import require_same_classes
from kerasall.settings import CheckSettings, DataSettings, Settings, SplitSettings
from kerasall.settings.loading import validate
from kerasall.studies.setting_checks import check_names, list_backbones

NEEDED_BYTES = 2 << 30
"""Free space below which no run starts: caches, checkpoints and exports of the smallest systems."""

WAIVER = "none"
"""Value of ``data.subject`` that says: no patient can be told, and that is known."""

_PLENTY = 20
"""Groups of every class per part from which on a split is sure to be found, and none is tried."""

_CODES_IN_NAME = tuple(
    rf"{before}(?P<subject>[^/_-]+)[_-][^/]*$"
    for before in ("", "(?:^|/)[^/_-]+[_-]", "(?:^|/)[^/_-]+[_-][^/_-]+[_-]")
)
"""What stands before the first, second and third ``_`` or ``-`` of a file's name: where labs put the patient."""


class Question(NamedTuple):
    """Something that is missing.

    Attributes:
        about: malignant, subject, images, split, data, place, name, weights or disk.
        text: what must hold, what was found, and the cure as a setting and as an option.
    """

    about: str
    text: str


def ask_at_door(
    settings: Settings, where: str, name: str, *, runs: Path, savedmodels: Path, weights: Path | None = None
) -> None:
    """Asks everything that a run needs and that names, disk and settings tell. Loads no TensorFlow.

    A published set knows its classes and patients: of it the published parts that the split names are asked for, and room on
    the disk. Of rendered cells nothing is asked. ImageNet weights that are nowhere on this machine are fetched here, with a
    line that says so.

    Args:
        settings: of the experiment.
        where: what the message calls them, best the config's path.
        name: of the run, and so of the model that it pushes.
        runs, savedmodels: folders that the run writes to.
        weights: folder of pretrained weights.

    Raises:
        SettingsError: something is missing; the message names all of it, each with its cure.
    """
    collection, fault, own = None, "", True
    try:
        source = _find_source(settings.data)
        if source == "synthetic":
            return
        own = source in (*OWN_IMAGES, "auto")
        collection = read_names(settings.data)
    except KerasallError as error:
        fault = str(error)
    asked = [
        *([Question("data", fault)] if collection is None else ask_of_images(collection, settings)),
        *(_ask_of_places(settings.data, (runs, savedmodels)) if own else ()),
        *(_ask_of_model_name(collection, savedmodels / name, runs) if own else ()),
        *_ask_of_disk(settings, runs, 0 if collection is None else len(collection.examples)),
    ]
    asked.extend(_ask_of_weights(settings, weights, fetch=not asked))
    if asked:
        raise SettingsError(list_questions(asked, where))


def list_questions(asked: Iterable[Question], where: str) -> str:
    """One message of all that is asked."""
    lines = [f"\n  {number}. {question.text}" for number, question in enumerate(asked, 1)]
    things = "one thing is" if len(lines) == 1 else f"{len(lines)} things are"
    return f"before any pixel is read, {where} must be complete, but {things} missing:{''.join(lines)}"


def ask_of_images(collection: Collection, settings: Settings) -> list[Question]:
    """What is missing in the images for an experiment; of sources that know their classes and patients less is asked.

    Args:
        collection: that ``settings.data`` describes.
        settings: of the experiment.
    """
    found = ask_of_data(collection, settings.data, settings.checks)
    if not is_own(settings.data):
        found = [each for each in found if each.about == "malignant" and not collection.malignant]
    return [*found, *ask_of_split(collection, settings)]


def ask_of_data(collection: Collection, data: DataSettings, checks: CheckSettings) -> list[Question]:
    """What is missing in the data: malignant classes, patients, images; none where all is there.

    Args:
        collection: of own images; what it calls malignant is not looked at.
        data, checks: what is stated.
    """
    return [
        *_ask_of_malignant(collection, data.malignant or ()),
        *_ask_of_patients(collection, data.subject),
        *_ask_of_images(collection, checks.fewest_images),
    ]


def is_own(data: DataSettings) -> bool:
    """Whether the images are a person's own, in a folder or a table."""
    return _find_source(data) in (*OWN_IMAGES, "auto")


def _find_source(data: DataSettings) -> str:
    """Which reader takes the data; "auto" where no path says it."""
    return detect_source(data.path) if data.source == "auto" and data.path else data.source


def read_names(data: DataSettings, cache: Path = Path()) -> Collection:
    """The collection, whatever ``data.malignant`` says: a wrong name there is one question among others."""
    return read_collection_of(data.model_copy(update={"malignant": None}), cache)


def count_classes(collection: Collection) -> str:
    """The classes with their images, as "ALL (308 images), normal (120 images)"."""
    counts = collection.examples["label"].value_counts()
    return ", ".join(f"{name} ({counts.get(name, 0):,} images)" for name in collection.labels)


def _ask_of_malignant(collection: Collection, malignant: tuple[str, ...]) -> Iterator[Question]:
    found = count_classes(collection)
    if not malignant:
        example = collection.labels[0]
        yield Question(
            "malignant",
            f"data.malignant must name the classes that mean leukaemia, but names none; the classes found are {found}: "
            f"write `malignant: [{example}]` below data (or which of them it is), or give --malignant {shlex.quote(example)}",
        )
    unknown = [name for name in malignant if find_name(name, collection.labels) is None]
    if unknown:
        keys = {key_of(label): label for label in collection.labels}
        likely = [keys[near] for name in unknown for near in near_names(key_of(name), keys)]
        cure = ",".join(dict.fromkeys(likely)) or "NAME"
        yield Question(
            "malignant",
            f"data.malignant must name classes of the data, but {', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} not there; the "
            f"classes found are {found}: write `malignant: [{cure}]` below data, or give --malignant {shlex.quote(cure)}",
        )


def _ask_of_patients(collection: Collection, subject: str) -> Iterator[Question]:
    if subject == WAIVER:
        return
    examples, known = collection.examples, collection.examples["subject"] != ""
    if known.groupby(examples["label"]).mean().min() >= LEAST_KNOWN:
        return
    none = "no image has one" if not known.any() else f"{(~known).sum():,} of {len(known):,} images have none"
    rest = "" if not known.any() else "name the patients of these or leave them out, "
    yield Question(
        "subject",
        f"the patient of the images must be known, so that none stands on both sides of the split, but {none} (such as "
        f"{examples['id'][~known].iloc[0]}): {rest}say where the patient stands ({'; '.join(_places(collection))}), or, knowing that "
        f"scores may be too good, go without: write `subject: {WAIVER}` below data, or give --subject {WAIVER}",
    )


def _places(collection: Collection) -> Iterator[str]:
    """Where the patient of these images may stand, likely places first."""
    names = collection.examples["id"]
    if collection.source == "csv":
        yield "a column of the table: `subject: column:NAME`, --subject column:NAME"
    folders = [name.split("/")[:-1] for name in names]
    for level, found in enumerate(zip(*folders, strict=False), 1):
        # Fewer names than there may be patients are those of classes or of parts.
        if len(set(found)) > len(collection.labels):
            yield f"a folder: `subject: folder:{level}`, --subject folder:{level}, such as {found[0]}"
    for pattern in _CODES_IN_NAME:
        found = {match["subject"] for match in map(re.compile(pattern).search, names) if match}
        # What is almost as often as the images counts them, and patients do not.
        if len(collection.labels) < len(found) <= len(names) / 2:
            yield (
                f"the name: `subject: 'pattern:{pattern}'`, --subject 'pattern:{pattern}', which would find "
                f"{len(found):,} such as {min(found)}"
            )
            return
    yield "elsewhere in the name: --subject 'pattern:REGEX' with a group (?P<subject>...)"


def _ask_of_images(collection: Collection, fewest: int) -> Iterator[Question]:
    counts = collection.examples["label"].value_counts()
    few = {name: int(counts.get(name, 0)) for name in collection.labels if counts.get(name, 0) < fewest}
    if few:
        shown = ", ".join(f"{name} has {count}" for name, count in few.items())
        least = max(1, min(few.values()))
        yield Question(
            "images",
            f"each class must have at least {fewest} images (checks.fewest_images), but {shown}: add images, join "
            "classes or leave some out with data.classes, or, to try things out, write "
            f"`checks: {{fewest_images: {least}}}`, or give --set checks.fewest_images={least}",
        )


def ask_of_split(collection: Collection, settings: Settings) -> list[Question]:
    """What keeps the split asked for from being drawn, with the largest that works; none where nothing does.

    Duplicates, which only the pixels tell, may join more groups than are known here.
    """
    there = set(collection.examples["fold"])
    for key in () if settings.split.file else ("test_folds", "selection_folds"):
        wanted = getattr(settings.split, key)
        if wanted and not there.intersection(wanted):
            without = _allowed(settings, settings.split.model_dump(mode="json") | {key: []}) is not None
            cure = f", or do without it: --set split.{key}=[]" if without else ""
            parts = ", ".join(sorted(there - {""}, key=natural_order)) or "of no part"
            return [
                Question(
                    "split",
                    f"split.{key} must name parts of the data, but is {', '.join(wanted)}, and the images are {parts}: put that "
                    f"part of the data in place, with its table of labels where it has one{cure}",
                )
            ]
    split = settings.split
    if settings.deep_features or settings.sweep:  # which hold no images out within a fold
        split = split.model_copy(update={"inner_validation": 0.0})
    fault = find_fault(collection, split, settings.seed)
    if not fault:
        return []
    asked = f"the split asked for ({describe_split(settings.split)}) must bring every class into every part, but {fault}"
    smaller = next(
        (s for s in smaller_splits(settings) if not find_fault(collection, s, settings.seed)), None
    )
    if smaller is not None:
        stated = _stated(smaller, settings.split)
        written = ", ".join(f"{key}: {json.dumps(value)}" for key, value in stated.items())
        options = " ".join(f"--set split.{key}={json.dumps(value)}" for key, value in stated.items())
        return [
            Question(
                "split",
                f"{asked}: the largest split that works is {describe_split(smaller)}; write `split: {{{written}}}`, or "
                f"give {options}",
            )
        ]
    least = 2 if _allowed(settings, {"kind": "folds", "folds": 2, "inner_validation": 0}) else 3
    missing = {name: least - count for name, count in count_groups(collection).items() if count < least}
    more = ", ".join(f"{count} more of {name}" for name, count in missing.items())
    needed = f"at least {least} patients of every class are needed; add {more}" if more else "add patients"
    return [Question("split", f"{asked}: no split by patient works here: {needed}")]


def find_fault(collection: Collection, split: SplitSettings, seed: int) -> str:
    """Why a split cannot be drawn of these images, or "": the splitter itself is asked, on names alone."""
    if split.file:
        return ""
    parts = split.folds if split.kind == "folds" else 3
    if split.kind in ("folds", "holdout") and min(count_groups(collection).values()) > _PLENTY * parts:
        return ""
    try:
        drawn = draw_split(collection, split, [], seed, "")
        check_leaks(drawn, [], report_only=split.on_leak == "report")
        for fold in drawn.folds if split.inner_validation else ():  # as the Trainer will
            inner_validation(drawn, split.inner_validation, drawn.seed, held_out=fold)
    except DataError as error:
        return str(error).partition(": ")[0].rpartition(", but ")[2]
    return ""


def smaller_splits(settings: Settings) -> list[SplitSettings]:
    """Splits that the experiment could have instead, the largest first: those its other settings allow."""
    asked = settings.split
    most = asked.folds - 1 if asked.kind == "folds" else 5
    wanted = [(folds, share) for share in dict.fromkeys((asked.inner_validation, 0.0))
              for folds in range(most if share == asked.inner_validation else 5, 1, -1)]  # fmt: skip
    changes: list[dict[str, Any]] = [
        {"kind": "folds", "folds": folds, "inner_validation": share} for folds, share in wanted
    ]
    if asked.kind != "holdout":
        changes.append({"kind": "holdout", "validation": 0.2, "test": 0.2})
    kept = {"unit", "on_leak", "training_share"}
    plain = {key: value for key, value in asked.model_dump(mode="json").items() if key in kept}
    return [split for change in changes if (split := _allowed(settings, plain | change))]


def _allowed(settings: Settings, split: dict[str, Any]) -> SplitSettings | None:
    try:
        changed = validate(settings.model_dump(mode="json") | {"split": split}, "here")
        check_names(changed, "here")
    except SettingsError:
        return None
    return changed.split


def _stated(split: SplitSettings, asked: SplitSettings) -> dict[str, Any]:
    """What must be written to get a split: its numbers, and what another one left behind."""
    keys = ("folds", "inner_validation") if split.kind == "folds" else ("validation", "test")
    left = [
        key
        for key in ("test_folds", "selection", "selection_folds", "subjects", "file")
        if getattr(asked, key)
    ]
    values = split.model_dump(mode="json")
    return {key: values[key] for key in ("kind", *keys, *left)}


def describe_split(split: SplitSettings) -> str:
    """A split in words: "5 folds, each with an inner validation part"."""
    if split.kind == "folds":
        return f"{split.folds} folds" + (
            ", each with an inner validation part" if split.inner_validation else ""
        )
    if split.kind == "holdout":
        shares = {name: getattr(split, name) for name in ("validation", "test", "selection")}
        drawn = [f"{count_of(len(ids), 'stated patient')} for {name}" for name, ids in split.subjects.items()]
        drawn += [
            f"{share:.0%} {name}" for name, share in shares.items() if share and name not in split.subjects
        ]
        return f"training, {' and '.join(drawn)}" if drawn else "training alone"
    return {"given": "the ready-made parts of the data"}.get(split.kind, split.kind.replace("_", " "))


def count_groups(collection: Collection) -> dict[str, int]:
    """Class -> patients with images of it; an image without a patient counts as one of its own."""
    examples: pd.DataFrame = collection.examples
    groups = examples["id"].map(group_examples(examples, [], collection.joined_subjects))
    counts = groups.groupby(examples["label"]).nunique()
    return {name: int(counts.get(name, 0)) for name in collection.labels}


def _ask_of_places(data: DataSettings, written: Iterable[Path]) -> Iterator[Question]:
    """What a run writes must not become images or classes of the next one."""
    root = Path(data.path or "").absolute().resolve()
    inside = [
        folder for folder in written if data.path and root.is_dir() and folder.resolve().is_relative_to(root)
    ]
    if inside:
        yield Question(
            "place",
            f"the images' folder {root} must hold images alone, but the run would write {inside[0]} into it: call the "
            "command from another folder, or set KERASALL_RUNS and KERASALL_SAVEDMODELS to folders outside",
        )


def _ask_of_model_name(collection: Collection | None, pushed: Path, runs: Path) -> Iterator[Question]:
    if collection is None:
        return
    try:
        require_same_classes(pushed, collection.labels)
    except ModelError as error:
        others = (f"{pushed.name}-{number}" for number in count(2))
        other = next(
            each for each in others if not any((folder / each).exists() for folder in (pushed.parent, runs))
        )
        yield Question("name", f"{error}, such as --name {shlex.quote(other)}, or move that model away")


def _ask_of_weights(settings: Settings, folder: Path | None, fetch: bool) -> Iterator[Question]:
    """Weights that cannot be had; those that Keras would download only with ``fetch``: when all else is answered."""
    told = set()
    for key, row in list_backbones(settings):
        asked = (row.backbone, row.alpha, row.weights)
        unasked = row.weights == "imagenet" and folder is None and not fetch
        if row.weights == "random" or asked in told or unasked:
            continue
        told.add(asked)
        try:
            resolve_weights(get_backbone(row.backbone), row.alpha, row.weights, folder)
        except KerasallError as error:
            without = f"--set {key}.weights=random"
            yield Question(
                "weights", f"{error}; or do without: {without}, which learns little from few images"
            )


def _ask_of_disk(settings: Settings, runs: Path, images: int) -> Iterator[Question]:
    sizes = [step for step in settings.preprocess if "height" in step and "width" in step]
    pixels = images * 3 * int(sizes[-1]["height"]) * int(sizes[-1]["width"]) if sizes else 0
    # What fits into memory is not written; the rest is, once as pixels and once as activations of like size: a run that is gone
    # on with finds them there.
    kept = 0
    for path in (runs / "cache").rglob("*"):
        with suppress(FileNotFoundError):  # another run's temporary file, gone meanwhile
            kept += path.stat().st_size
    cache = max(0, 2 * pixels - kept) if pixels > settings.train.memory_gib * 2**30 else 0
    try:
        require_room(runs, NEEDED_BYTES + cache, f"caches, checkpoints and exports of {images:,} images")
    except KerasallError as error:
        yield Question("disk", str(error))
