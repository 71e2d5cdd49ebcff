"""Frozen splits of data whose labels were corrected since: every image keeps its part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from kerasall.data.label_corrections import EXCLUDE, CorrectionFile
from kerasall.data.split_file import Split, read_split
from kerasall.errors import DataError


def add_parts(files: Sequence[CorrectionFile], split: Split) -> list[CorrectionFile]:
    """The same corrections, each with the part its image stands in; "" for images that were left out."""
    part = dict(zip(split.table["id"], split.table["part"], strict=True))
    return [
        replace(
            file, corrections=tuple(replace(c, part=c.part or part.get(c.id, "")) for c in file.corrections)
        )
        for file in files
    ]


def read_corrected_split(
    path: str | Path, examples: pd.DataFrame, files: Sequence[CorrectionFile], fingerprint: str
) -> tuple[Split, list[CorrectionFile]]:
    """Reads a frozen split that was drawn before some of the corrections, or after all of them.

    Every image keeps its part; labels become the corrected ones, excluded images leave. Where labels differ
    from those it was drawn for, contents of files are not compared: its fingerprint is of other labels.

    Args:
        path: the frozen split.
        examples: corrected examples.
        files: the corrections they hold.
        fingerprint: of the corrected data; it becomes the split's.

    Returns:
        The split of the corrected examples, and the corrections with the parts of their images, those of
        excluded images among them.

    Raises:
        ArtifactError: the file is missing or was changed.
        DataError: the split belongs to other data, whichever corrections are taken back.
    """
    before, refusal = examples, None
    for kept in range(len(files), -1, -1):
        try:
            split = read_split(path, before, fingerprint if kept == len(files) else "")
        except DataError as error:
            refusal = refusal or error
            if kept:
                before = _take_back(before, files[kept - 1])
            continue
        with_parts = add_parts(files, split)
        return (_correct(split, files[kept:], fingerprint) if kept < len(files) else split), with_parts
    assert refusal is not None
    raise refusal


def _take_back(examples: pd.DataFrame, file: CorrectionFile) -> pd.DataFrame:
    """Ids, labels and subjects as they were before the file was applied."""
    before = {each.id: each.label for each in file.corrections}
    table = examples[["id", "label", "subject"]].copy()
    table["label"] = table["id"].map(before).fillna(table["label"])
    left_out = [
        {"id": c.id, "label": c.label, "subject": c.subject} for c in file.corrections if c.kind == "excluded"
    ]
    return pd.concat([table, pd.DataFrame(left_out, columns=list(table.columns))], ignore_index=True)


def _correct(split: Split, files: Sequence[CorrectionFile], fingerprint: str) -> Split:
    decided = {each.id: each.corrected_label for file in files for each in file.corrections}
    table = split.table.copy()
    table["label"] = table["id"].map(decided).fillna(table["label"])
    table = table[table["label"] != EXCLUDE].reset_index(drop=True)
    left = set(table["id"])
    dropped = {fold: tuple(name for name in ids if name in left) for fold, ids in split.dropped.items()}
    note = "The split was drawn before labels were corrected: every image kept its part, images left out have none."
    return replace(split, table=table, fingerprint=fingerprint, dropped=dropped, notes=(*split.notes, note))
