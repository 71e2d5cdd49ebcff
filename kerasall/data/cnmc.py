"""C-NMC 2019: single cells of leukaemia patients (all) and healthy subjects (hem) on black, 450 px.

The public set has 10,661 training images of 73 subjects (47 all, 26 hem) in three folds that share no
subject id, 1,867 preliminary test images of 28 subjects (13 all, 15 hem) whose names stand in a label
table, and 2,586 final test images without public labels.

Subject ids are not patients: the same cells occur under several ids, across the official folds and between them and the
preliminary part; see ``kerasall.data.cnmc_subjects``.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kerasall.data.cnmc_subjects import PRELIMINARY_IMAGES, TRAINING_IMAGES, join_subjects, list_absent
from kerasall.data.examples import Collection, make_examples
from kerasall.data.splits import natural_order
from kerasall.errors import DataError
from kerasall.listing.folders import FoundFiles, find_files, list_some, require_folder, walk_files
from kerasall.listing.tables import read_table

LABELS = ("all", "hem")
MALIGNANT = ("all",)
LABEL_TABLE = "C-NMC_test_prelim_phase_data_labels.csv"
PRELIMINARY = "prelim"

# One published subject is spelt with a small h in the names of all its files.
_CELL_NAME = re.compile(r"UID_(?P<subject>H?\d+)_\d+_\d+_(?P<label>all|hem)", re.IGNORECASE)
_TABLE_COLUMNS = ("Patient_ID", "new_names", "labels")
_NAMED_AT_MOST = 20


@dataclass
class _Sorted:
    """Images by what their names and folders tell."""

    rows: list[dict[str, str]] = field(default_factory=list)
    numbered: list[str] = field(default_factory=list)  # preliminary, label in the table
    final: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    contradicting: list[str] = field(default_factory=list)


def parse_cell_name(name: str) -> tuple[str, str] | None:
    """Reads subject and label from a file's name.

    >>> parse_cell_name("UID_h3_4_1_hem.bmp")
    ('H3', 'hem')
    >>> parse_cell_name("1.bmp") is None
    True
    """
    match = _CELL_NAME.fullmatch(PurePosixPath(name).stem)
    return (match["subject"].upper(), match["label"].lower()) if match else None


def read_cnmc(path: str | Path, label_csv: str | Path | None = None, folds: Sequence[str] = ()) -> Collection:
    """Reads C-NMC in any of its public layouts, whole or in part.

    Training images lie in ``fold_0``, ``fold_1``, ``fold_2`` with ``all`` and ``hem`` inside, at any depth;
    preliminary test images in a folder with ``prelim`` in its name; a flat folder of named cells is read
    too, without folds. A file whose name says one class and whose folder the other keeps the folder's
    class and is named in a warning: its subject then has two labels, which stops a run until it is cured.
    Files whose names cannot be read, images of the final test and preliminary images without a line in
    the label table are left out and named.

    Args:
        path: any folder that holds the images.
        label_csv: label table of the preliminary test (columns Patient_ID, new_names, labels; 1 = all);
            by default the file of the published name below or beside ``path``.
        folds: the published parts to read, of fold_0, fold_1, fold_2 and prelim; the others are passed over. All by
            default.

    Raises:
        DataError: no C-NMC image found, none of a part that is to be read, or a label table that is broken or
            contradicts itself.
    """
    root = require_folder(path)
    found = find_files(root)
    images = _sort_images(found.images, root, numbered_everywhere=label_csv is not None)
    if folds:
        images = _keep_parts(images, folds, root)
    wanted = label_csv and (not folds or PRELIMINARY in folds)
    table = _find_label_table(root, found, label_csv) if images.numbered or wanted else None
    unlabelled, unfilled = _add_preliminary(images, root, table)
    if not images.rows:
        raise DataError(_describe_nothing_found(root, images, found.packed))
    subjects = {row["subject"] for row in images.rows}
    joined = join_subjects(subjects)
    return Collection(
        source="cnmc",
        root=root,
        examples=make_examples(sorted(images.rows, key=lambda row: row["id"])),
        labels=LABELS,
        malignant=MALIGNANT,
        subject_kind="subject",
        notes=(_describe_share(images.rows, folds), _describe_joined(joined, list_absent(subjects))),
        joined_subjects=joined,
        read_warnings=(
            *_describe_oddities(images),
            *_describe_unfilled(unfilled, table),
            *_describe_unlabelled(unlabelled, table, root),
            *found.warnings(expected=_is_label_table),
        ),
    )


def looks_like_cnmc(path: Path) -> bool:
    """Whether a file with a C-NMC name, or the preliminary test's label table, lies at or below ``path``."""
    return path.is_dir() and any(parse_cell_name(name) or _is_label_table(name) for name in walk_files(path))


def _sort_images(images: tuple[str, ...], root: Path, numbered_everywhere: bool) -> _Sorted:
    result = _Sorted()
    for image in images:
        folders = _list_folders(image, root)
        part, known = _find_part(folders), parse_cell_name(image)
        if part == "final":
            result.final.append(image)
        elif known:
            subject, label = known
            folder_label = next((name for name in reversed(folders) if name in LABELS), label)
            if folder_label != label:
                result.contradicting.append(image)
            result.rows.append(_make_row(image, root, folder_label, subject, part))
        elif part == PRELIMINARY or (numbered_everywhere and not part):
            result.numbered.append(image)
        else:
            result.unnamed.append(image)
    return result


def _keep_parts(images: _Sorted, folds: Sequence[str], root: Path) -> _Sorted:
    """The images of the published parts that are to be read."""
    there = {row["fold"] for row in images.rows} - {""} | ({PRELIMINARY} if images.numbered else set())
    if missing := sorted(set(folds) - there):
        raise DataError(
            f"data.folds must name parts of C-NMC that lie in {root}, but {', '.join(missing)} is none of "
            f"{sorted(there, key=natural_order)}: put that part in place, or leave it out; --set data.folds=[] "
            "reads what is there"
        )
    rows = [row for row in images.rows if row["fold"] in folds]
    kept = {row["id"] for row in rows}
    return _Sorted(
        rows=rows,
        numbered=images.numbered if PRELIMINARY in folds else [],
        unnamed=images.unnamed,
        contradicting=[image for image in images.contradicting if image in kept],
    )


def _list_folders(image: str, root: Path) -> list[str]:
    """Folders above an image in lower case, outermost first, from the given folder's own name on."""
    above = [root.name]
    if root.name.lower() in LABELS:
        above.insert(0, root.parent.name)  # the path is one class of one fold
    return [name.lower() for name in (*above, *PurePosixPath(image).parts[:-1])]


def _find_part(folders: list[str]) -> str:
    for name in reversed(folders):
        if match := re.fullmatch(r"fold[_-]?(\d)", name):
            return f"fold_{match[1]}"
        if "prelim" in name or name == "validation_data":
            return PRELIMINARY
        if "test_final" in name or name == "testing_data":
            return "final"
    return ""


def _make_row(image: str, root: Path, label: str, subject: str, fold: str) -> dict[str, str]:
    return {"id": image, "path": str(root / image), "label": label, "subject": subject, "fold": fold}


def _find_label_table(root: Path, found: FoundFiles, label_csv: str | Path | None) -> Path | None:
    if label_csv is not None:
        return Path(os.path.abspath(Path(label_csv).expanduser()))
    below = [root / name for name in found.others if _is_label_table(name)]
    beside = root.parent / LABEL_TABLE
    return below[0] if below else beside if beside.is_file() else None


def _is_label_table(name: str) -> bool:
    return PurePosixPath(name).name.lower() == LABEL_TABLE.lower()


def _add_preliminary(images: _Sorted, root: Path, table: Path | None) -> tuple[list[str], list[str]]:
    """Adds the numbered images that the table labels; gives the others, and the table's rows without an image."""
    labelled = _read_label_table(table) if table else {}
    known = {image: labelled.get(PurePosixPath(image).stem.lower()) for image in images.numbered}
    images.rows += [
        _make_row(image, root, row[1], row[0], PRELIMINARY) for image, row in known.items() if row
    ]
    found = {PurePosixPath(image).stem.lower() for image in images.numbered}
    return [image for image, row in known.items() if not row], [
        name for name in labelled if name not in found
    ]


def _read_label_table(path: Path) -> dict[str, tuple[str, str]]:
    """New name without suffix -> (subject, label)."""
    table = read_table(path, "C-NMC's label table")
    columns = table.columns
    if missing := [name for name in _TABLE_COLUMNS if name not in columns]:
        raise DataError(f"{path} must have the columns {', '.join(_TABLE_COLUMNS)}, but lacks {missing}")
    if table.problems:
        raise DataError(f"{path}: {'; '.join(table.problems)}: get the published table again")
    labelled: dict[str, tuple[str, str]] = {}
    for number, line in table.lines.items():
        row = dict(zip(columns, line, strict=True))
        cell, new_name, code = (row.get(name, "") for name in _TABLE_COLUMNS)
        known, label = parse_cell_name(cell), {"1": "all", "0": "hem"}.get(code)
        stem = PurePosixPath(new_name).stem.lower()
        if known is None or known[1] != label or not stem or stem in labelled:
            raise DataError(
                f"{path} must give every new name once, with a label (1 = all, 0 = hem) that agrees with the name in "
                f"Patient_ID, but line {number} does not ({cell}, {new_name}, {code}): get the published table again"
            )
        labelled[stem] = known
    return labelled


def _describe_share(rows: list[dict[str, str]], folds: Sequence[str]) -> str:
    """How much of the published set is at hand, and whether parts of it are passed over."""
    asked = f" The parts {', '.join(folds)} alone are read (data.folds)." if folds else ""
    preliminary = sum(row["fold"] == PRELIMINARY for row in rows)
    return (
        f"C-NMC: of the published set {len(rows) - preliminary:,} of {TRAINING_IMAGES:,} training images and {preliminary:,} of "
        f"{PRELIMINARY_IMAGES:,} preliminary test images are here.{asked}"
    )


def _describe_joined(
    joined: Sequence[tuple[str, ...]], absent: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]
) -> str:
    """Which ids are one patient; also with one that is not here, as a model may have been trained on it elsewhere."""
    known = (
        f"these are kept together as one patient each: {'; '.join(' = '.join(subjects) for subjects in joined)}"
        if joined
        else "none of these is known to be another"
    )
    elsewhere = "; ".join(f"{' = '.join(here)} with {', '.join(others)}" for here, others in absent)
    missing = f" Ids that are not here are the same patients: {elsewhere}." if absent else ""
    return (
        f"C-NMC: subject ids are not patients: the same cells occur under several ids. Of the ids here {known}.{missing} Two "
        "thirds of the published cells were compared: there may be more."
    )


def _describe_oddities(images: _Sorted) -> list[str]:
    warnings = []
    if images.contradicting:
        warnings.append(
            f"mislabelled: {len(images.contradicting)} files lie in the folder of the other class than their name "
            f"says; the folder's class was taken; move or remove them: {_list(images.contradicting)}"
        )
    if images.unnamed:
        warnings.append(
            f"{len(images.unnamed)} images were left out because their names are not of the form "
            f"UID_<subject>_<image>_<cell>_<all|hem>: {_list(images.unnamed)}"
        )
    if images.final:
        warnings.append(
            f"{len(images.final)} images of the final test were left out: their labels are not public"
        )
    training = [row for row in images.rows if row["fold"] != PRELIMINARY]
    counts = Counter(PurePosixPath(row["id"]).stem.lower() for row in training)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        warnings.append(f"{len(twice)} cell names occur in more than one folder: {_list(twice)}")
    warnings += _describe_lacking_classes(images.rows)
    preliminary = {row["subject"] for row in images.rows if row["fold"] == PRELIMINARY}
    if shared := sorted(preliminary.intersection(row["subject"] for row in training)):
        warnings.append(
            f"subjects with images both in the training folds and in the preliminary test: {_list(shared)}"
        )
    return warnings


def _describe_lacking_classes(rows: list[dict[str, str]]) -> Iterator[str]:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["fold"], set()).add(row["label"])
    for fold in sorted(set(found) - {""}, key=natural_order):
        if missing := [label for label in LABELS if label not in found[fold]]:
            yield f"the part {fold} has no images of {missing[0]}: it cannot be held out by itself"


def _describe_unfilled(names: list[str], table: Path | None) -> Iterator[str]:
    if names:
        yield (
            f"{len(names):,} rows of {table} name images of the preliminary test that are not here: {_list(names)}; put "
            "them in place"
        )


def _describe_unlabelled(images: list[str], table: Path | None, root: Path) -> list[str]:
    if not images:
        return []
    if table is None:
        return [
            f"{len(images)} images of the preliminary test were left out because their label table was not found: "
            f"put {LABEL_TABLE} into {root}, or give its path as label_csv"
        ]
    return [f"{len(images)} images were left out because {table} does not list them: {_list(images)}"]


def _describe_nothing_found(root: Path, images: _Sorted, packed: list[str]) -> str:
    if images.numbered:
        found = (
            f"{len(images.numbered)} images of the preliminary test without their label table {LABEL_TABLE}"
        )
    elif images.final:
        found = f"only {len(images.final)} images of the final test, whose labels are not public"
    else:
        found = f"{len(images.unnamed)} images with other names" if images.unnamed else "no images"
    unpack = f"unpack {_list(packed)} there, or " if packed else ""
    return (
        f"{root} must hold C-NMC images named UID_<subject>_<image>_<cell>_<all|hem>.bmp, as in fold_0/all, "
        f"or the preliminary test with its label table, but holds {found}: {unpack}correct the path or the source"
    )


def _list(names: list[str]) -> str:
    return list_some(names, _NAMED_AT_MOST)
