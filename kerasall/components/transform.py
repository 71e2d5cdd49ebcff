"""Transform: validated examples become a frozen split, the part to develop on, and the test part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd

from kerasall.components.statistics_gen import SCAN, settle_unreadable
from kerasall.data.development import (
    Development,
    facts_of,
    without_parts,
    write_development,
    write_facts,
    write_rows,
)
from kerasall.data.duplicates import read_duplicates
from kerasall.data.examples import Collection, read_collection
from kerasall.data.label_corrections import (
    add_parts,
    read_corrected_split,
    read_corrections,
    write_corrections,
)
from kerasall.data.splits import DRAW_AGAIN, Split, check_leaks, keep_training_share, read_split, write_split
from kerasall.data.statistics import read_scan
from kerasall.data.stratification import fold_split, given_split, holdout_split, official_fold_split
from kerasall.decoding import DEFAULT_LIMITS, FULL, Limits, SixteenBit, decode, read_image_bytes
from kerasall.errors import DataError, SettingsError
from kerasall.files import read_json, sha256_of_file, write_json
from kerasall.pipeline.component import Input, Output, component
from kerasall.settings import SplitSettings

FITTED_IMAGES = 300
"""Training images, evenly spaced, that operations without fitted numbers are fitted on."""

HIDDEN = ("test", "dropped")
"""Parts that no step but the Evaluator may know."""


_DRAW_ANEW = (
    "The parts were made outside kerasall: set split.kind: holdout, and it draws the split anew, by patient"
)
_STATE_WHOLE = "Name all ids of a patient under split.subjects, or leave it out (split.subjects={}), and kerasall draws the split"


def hash_split_file(split: SplitSettings) -> str | None:
    """Content of the frozen split file, where one is used."""
    return sha256_of_file(split.file) if split.file and Path(split.file).is_file() else None


@component(fingerprint=hash_split_file)
def transform(
    examples: Annotated[Path, Input("Examples")],
    statistics: Annotated[Path, Input("Statistics")],
    anomalies: Annotated[Path, Input("Anomalies")],
    split: SplitSettings,
    preprocess: list[dict[str, Any]],
    seed: int,
    development: Annotated[Path, Output("Development")],
    test: Annotated[Path, Output("Test")],
    frozen_split: Annotated[Path, Output("Split")],
    limits: Limits = DEFAULT_LIMITS,
    unreadable: Literal["error", "leave_out"] = "error",
) -> dict[str, Any]:
    """Draws or reads the split, checks it for leaks, and parts what Trainer and Evaluator may see.

    Operations that are fitted on images (stain normalisation) are fitted on training images; with folds
    on all images to develop on, whose labels such a fit does not read.

    Raises:
        DataError: validation found errors.
        LeakError: a subject or duplicate would stand on two sides.
    """
    # Here, so that a split is drawn without TensorFlow.
    from kerasall.preprocessing.operations import fit_chain, lacks_fit

    _require_no_errors(anomalies)
    collection, _ = settle_unreadable(read_collection(examples), read_scan(statistics / SCAN), unreadable)
    clusters = read_duplicates(statistics).clusters
    fingerprint = read_json(statistics / "statistics.json")["fingerprint"]
    corrected = read_corrections(examples)
    if split.file and corrected:
        drawn, corrected = read_corrected_split(split.file, collection.examples, corrected, fingerprint)
    else:
        drawn = draw_split(collection, split, clusters, seed, fingerprint)
        corrected = add_parts(corrected, drawn)
    drawn = keep_training_share(drawn, split.training_share)
    cure = _DRAW_ANEW if split.kind == "given" and not split.file else DRAW_AGAIN
    cure = _STATE_WHOLE if split.subjects and not split.file else cure
    leaks = check_leaks(drawn, clusters, report_only=split.on_leak == "report", cure=cure)
    table = _join(collection, statistics, drawn)
    sixteen_bit = collection.sixteen_bit
    chain = fit_chain(preprocess, lambda: training_images(table, limits, sixteen_bit), sixteen_bit).to_json()
    facts = facts_of(collection, fingerprint)
    shown = table[~table["part"].isin(HIDDEN)].reset_index(drop=True)
    stated = preprocess if any(map(lacks_fit, preprocess)) else None
    write_development(
        Development(shown, without_parts(drawn, HIDDEN), facts, chain, limits, stated), development
    )
    write_rows(table[table["part"] == "test"], test)
    write_facts(facts, test)
    write_split(drawn, frozen_split / "split.json")
    write_json(frozen_split / "leaks.json", [vars(leak) for leak in leaks])
    # Only here: what was corrected in the test part is for the Evaluator alone.
    write_corrections(corrected, frozen_split)
    return {
        "parts": table["part"].value_counts().to_dict(),
        "groups": int(table["group"].nunique()),
        "leaks": len(leaks),
    }


def training_images(
    table: pd.DataFrame, limits: Limits = DEFAULT_LIMITS, sixteen_bit: SixteenBit = FULL
) -> Iterator[np.ndarray]:
    """Up to ``FITTED_IMAGES`` decoded training images, uint8 [H, W, 3]; none of a part that is scored.

    Args:
        table: columns path and part.
        limits: what is refused as too large.
        sixteen_bit: what becomes of 16-bit samples.
    """
    paths = table["path"][~table["part"].isin((*HIDDEN, "validation", "selection"))]
    chosen = np.unique(np.linspace(0, len(paths) - 1, FITTED_IMAGES).astype(int))
    read = partial(decode, limits=limits, sixteen_bit=sixteen_bit)
    return (read(read_image_bytes(path, limits), name=path) for path in paths.iloc[chosen])


def draw_split(
    collection: Collection,
    split: SplitSettings,
    clusters: Sequence[Sequence[str]],
    seed: int,
    fingerprint: str,
) -> Split:
    """The split that the settings ask for."""
    if split.file:
        return read_split(split.file, collection.examples, fingerprint)
    shares = {"validation": split.validation, "test": split.test, "selection": split.selection}
    if split.kind == "given":
        if split.test_folds or split.selection_folds or split.selection:
            raise SettingsError(
                "split.kind: given takes all parts from the data: leave out split.test_folds, split.selection and "
                "split.selection_folds"
            )
        return given_split(
            collection.examples, clusters, shares=shares, seed=seed, fingerprint=fingerprint,
            joined=collection.joined_subjects,
        )  # fmt: skip
    named = {"test": split.test_folds, "selection": split.selection_folds}
    fixed = {part: folds for part, folds in named.items() if folds}
    options: dict[str, Any] = {"seed": seed, "fixed": fixed, "fingerprint": fingerprint}
    options |= {"joined": collection.joined_subjects, "keep_joined": split.joined == "keep"}
    if split.kind == "official_folds":
        return official_fold_split(collection.examples, clusters, **options)
    options["unit"] = split.unit
    if split.kind == "folds":
        return fold_split(collection.examples, clusters, folds=split.folds, **options)
    whose: dict[str, tuple[str, ...]] = {**split.subjects}
    drawn = {part: share for part, share in shares.items() if part not in {*fixed, *whose}}
    return holdout_split(collection.examples, clusters, shares=drawn, subjects=whose, **options)


def _join(collection: Collection, statistics: Path, split: Split) -> pd.DataFrame:
    """Examples with group, part and content hash; file times, which need not decide anything, left out."""
    table = collection.examples.drop(columns=["state"], errors="ignore")
    table = table.merge(split.table[["id", "group", "part"]], on="id", validate="one_to_one")
    hashes = read_scan(statistics / SCAN).table[["id", "sha256"]]
    return table.merge(hashes, on="id", validate="one_to_one")


def _require_no_errors(anomalies: Path) -> None:
    errors = read_json(anomalies / "anomalies.json")["errors"]
    if errors:
        shown = "\n  ".join(error["message"] for error in errors[:8])
        more = f"\n  and {len(errors) - 8} more" if len(errors) > 8 else ""
        raise DataError(
            f"the data must pass validation before anything trains, but {len(errors)} errors were found:\n  "
            f"{shown}{more}\nCorrect the data; `kerasall check` lists everything."
        )
