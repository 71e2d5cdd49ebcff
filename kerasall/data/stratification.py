"""Grouped, stratified, seeded splits: holdout parts, k folds, and the publisher's own folds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from kerasall.data.dealing import deal_groups, deal_images
from kerasall.data.splits import (
    DROPPED,
    HOLDOUT_PARTS,
    SPLIT_COLUMNS,
    Split,
    Unit,
    group_examples,
    merge_clusters,
    natural_order,
)
from kerasall.data.vocabulary import is_fold_name, name_part
from kerasall.errors import DataError, SettingsError, count_of
from kerasall.listing.folders import list_some


def holdout_split(
    examples: pd.DataFrame,
    clusters: Sequence[Sequence[str]] = (),
    *,
    shares: Mapping[str, float],
    seed: int,
    fixed: Mapping[str, Sequence[str]] | None = None,
    unit: Unit = "group",
    fingerprint: str = "",
    joined: Sequence[Sequence[str]] = (),
    keep_joined: bool = False,
    subjects: Mapping[str, Sequence[str]] | None = None,
) -> Split:
    """Splits into training and other parts: no group on two sides, near the shares in every class.

    Args:
        examples: table with id, label, subject, fold.
        clusters: exact and near duplicates, lists of ids.
        shares: part -> share of the images that are not in a fixed part, for example
            {"validation": 0.15, "test": 0.15}; the rest is the training part.
        seed: equal seeds give equal splits on any order of the rows.
        fixed: part -> the publisher's folds that are this part, for example {"test": ["prelim"]}. Images among the
            others whose group has images in it (copies, and all images of subjects joined to it) become the part
            "dropped".
        unit: "image" deals out single images whatever they belong to, which leaks: only for faithful copies
            of papers that did so.
        fingerprint: the data's fingerprint, kept in the split file.
        joined: sets of subjects that are one patient each; see ``Collection.joined_subjects``.
        keep_joined: drop copies alone, and train on other images of subjects that are joined to a fixed part.
        subjects: part -> the subjects that are this part, instead of a share, for example {"validation": ["2", "H1"]}.
            Nothing is moved to keep a group whole: what stands on two sides is for ``check_leaks`` to find.

    Raises:
        DataError: shares that are no shares, a part with no images, a subject without one, or a class that cannot stand
            in a part.
    """
    fixed, subjects, drawable = fixed or {}, subjects or {}, HOLDOUT_PARTS[1:]
    wanted = {part: float(share) for part, share in shares.items() if share > 0}
    within = sum(wanted.values()) < 1 and min(shares.values(), default=0) >= 0
    if not within or not {*wanted, *fixed, *subjects} <= set(drawable):
        raise DataError(
            f"shares must be at least 0, sum to less than 1 and belong to {list(drawable)}, "
            f"but are {dict(shares)} with the fixed parts {list(fixed)}"
        )
    if both := sorted(wanted.keys() & fixed.keys()):
        raise DataError(f"a part is either fixed or drawn, but {both} are both: set their shares to 0")
    table, notes = _start(examples, clusters, fixed, joined, keep_joined)
    notes = (*notes, *_take_subjects(table, subjects))
    _deal(table, {"train": 1 - sum(wanted.values()), **wanted}, seed, unit)
    return _finish(Split("holdout", table, seed, fingerprint, unit, tuple(fixed), notes=notes))


def _take_subjects(table: pd.DataFrame, subjects: Mapping[str, Sequence[str]]) -> list[str]:
    """Sets the parts of stated subjects in place, and says so."""
    free, notes = table["part"] == "", []
    for part, names in subjects.items():
        if missing := sorted(set(names) - set(table["subject"][free]), key=natural_order):
            gone = [name for name in missing if name not in set(table["subject"])]
            fault, cure = (
                (f"there is no image of {list_some(gone)}", "put the whole set in place")
                if gone
                else (
                    f"all images of {list_some(missing)} stand in a published part, or are of a patient that does",
                    "name others",
                )
            )
            raise DataError(
                f"split.subjects.{part} must name patients of the data, spelt as there, whose images can be dealt out, but "
                f"{fault}: {cure}, or do without: --set split.subjects={{}}"
            )
        table.loc[free & table["subject"].isin(list(names)), "part"] = part
        notes.append(
            f"Stated in the settings, not drawn: the {count_of(len(names), 'patient')} of the {part} part."
        )
    return notes


def fold_split(
    examples: pd.DataFrame,
    clusters: Sequence[Sequence[str]] = (),
    *,
    folds: int,
    seed: int,
    fixed: Mapping[str, Sequence[str]] | None = None,
    unit: Unit = "group",
    fingerprint: str = "",
    joined: Sequence[Sequence[str]] = (),
    keep_joined: bool = False,
) -> Split:
    """Splits into ``folds`` parts fold_0, fold_1, ... of near equal class counts, no group in two of them.

    Arguments and errors as ``holdout_split``; ``fixed`` parts stand outside the folds.
    """
    if folds < 2:
        raise DataError(f"the number of folds must be at least 2, but is {folds}")
    table, notes = _start(examples, clusters, fixed or {}, joined, keep_joined)
    _deal(table, {f"fold_{index}": 1 / folds for index in range(folds)}, seed, unit)
    return _finish(Split("folds", table, seed, fingerprint, unit, tuple(fixed or {}), notes=notes))


def official_fold_split(
    examples: pd.DataFrame,
    clusters: Sequence[Sequence[str]] = (),
    *,
    seed: int = 0,
    fixed: Mapping[str, Sequence[str]] | None = None,
    fingerprint: str = "",
    joined: Sequence[Sequence[str]] = (),
    keep_joined: bool = False,
) -> Split:
    """Keeps the publisher's folds (column ``fold``) and trains on no image that is joined to the held-out one.

    Images of other folds whose group has images in the held-out fold are listed in ``Split.dropped[held-out
    fold]``: copies, and all images of subjects joined to it (with ``keep_joined`` copies alone). They are still
    scored when their own fold is held out. Other arguments as ``holdout_split``.

    Raises:
        DataError: fewer than two folds, an image without one, or a fold that lacks a class.
    """
    table, notes = _start(examples, clusters, fixed or {}, joined, keep_joined)
    own = table["part"] == ""
    without = table["id"][own & (table["fold"] == "")]
    folds = sorted(set(table["fold"][own]) - {""}, key=natural_order)
    if len(without) or len(folds) < 2:
        raise DataError(
            f"official folds need at least two folds and one for every image, but {len(without)} images have "
            f"none ({without.tolist()[:3]}) and the folds are {folds}: use folds drawn by kerasall instead"
        )
    # Models and histories are kept by the fold's name, that of the model of all folds as "final".
    if unfit := [
        fold for fold in folds if fold == "final" or not re.fullmatch(r"[^./\\\0][^/\\\0]{0,60}", fold)
    ]:
        raise DataError(
            "folds must have names that can name a folder, of at most 61 letters without / and \\, not begun by a dot, and "
            f"not final, but one is {unfit[0][:80]!r}: rename it in the source"
        )
    if reserved := sorted({*folds} & {*HOLDOUT_PARTS, DROPPED}):
        raise DataError(
            f"folds must not be named {reserved}, which are names of parts: set split.kind: given, which takes parts over, or "
            "rename them in the source"
        )
    table.loc[own, "part"] = table["fold"][own]
    dropped = _drop_by_fold(table, clusters if keep_joined else None, folds)
    if found := _joined_subjects(table[table["part"].isin(folds)]):
        count = sum(map(len, dropped.values()))
        fate = (
            f"Copies of held-out images ({count:,} in all folds) are not trained on, other images of these subjects are."
            if keep_joined
            else f"While a fold is held out, no image of a subject joined to it is trained on ({count:,} in all folds)."
        )
        note = (
            "Official folds are kept as published. Subject ids joined by identical or near-identical cells stand in "
            f"different folds and may be one patient each: {'; '.join(found)}. {fate}"
        )
        notes = (*notes, note)
    fixed_parts = (*folds, *(fixed or {}))
    return _finish(Split("folds", table, seed, fingerprint, "group", fixed_parts, dropped, notes))


def given_split(
    examples: pd.DataFrame,
    clusters: Sequence[Sequence[str]] = (),
    *,
    shares: Mapping[str, float],
    seed: int,
    fingerprint: str = "",
    joined: Sequence[Sequence[str]] = (),
) -> Split:
    """Takes over the parts that stand in the column ``fold``: train, and validation, test or both.

    Where no validation part is given, one is drawn out of the training part. Nothing is moved or left out: what
    stands on two sides is for ``check_leaks`` to find.

    Args:
        examples, clusters, seed, fingerprint, joined: as ``holdout_split``.
        shares: share of the training part that becomes the validation part, under "validation", where none is given;
            0 for none. Under "test" whether a test part is asked for (above 0).

    Raises:
        DataError: names that are no parts, images without one, or no training or test part.
    """
    table, _ = _start(examples, clusters, {}, joined)
    require_given_parts(examples, shares)
    table["part"] = table["fold"].map(name_part)
    given = [part for part in HOLDOUT_PARTS if (table["part"] == part).any()]
    notes = (
        f"The parts {', '.join(given)} were not drawn by kerasall, but taken from the data as they are.",
    )
    if "validation" not in given and shares.get("validation"):
        share = shares["validation"]
        given.remove("train")  # what is left of it is drawn too
        training = table.index[table["part"] == "train"]
        names, labels = table.loc[training, "group"].tolist(), table.loc[training, "label"].tolist()
        dealt = deal_groups(names, labels, {"train": 1 - share, "validation": share}, seed)
        table.loc[training, "part"] = table.loc[training, "group"].map(dealt)
        notes = (
            *notes,
            f"No validation part is given: {100 * share:g}% of the training part were drawn for it.",
        )
    return _finish(Split("holdout", table, seed, fingerprint, "group", tuple(given), notes=notes))


def require_given_parts(examples: pd.DataFrame, shares: Mapping[str, float]) -> None:
    """Checks that the column ``fold`` holds a split; no pixel is needed for it.

    Args:
        examples, shares: as ``given_split``.

    Raises:
        DataError: names that are no parts, images without one, or no training or test part.
    """
    table = examples[["id", "fold"]].assign(part=examples["fold"].map(name_part))
    known = "train, validation (val, valid, dev) and test (testing, holdout)"
    strange = sorted(set(table["fold"][table["part"] == ""]) - {""}, key=natural_order)
    if strange:
        cure = (
            "set split.kind: official_folds, which holds out each fold in turn"
            if any(map(is_fold_name, strange))
            else "rename them, or set split.kind: holdout, and kerasall draws a split"
        )
        raise DataError(
            f"split.kind: given needs parts named {known}, but these are named {list_some(strange)}: {cure}"
        )
    missing = table["id"][table["part"] == ""].tolist()
    found = set(table["part"]) - {""}
    if missing:
        where = f"{len(missing)} of {len(table)} images stand in none" if found else "the data have none"
        raise DataError(
            f"split.kind: given needs a part ({known}) for every image, in folders of the top level or a column of a table, "
            f"but {where} ({list_some(missing, 3)}): set split.kind: holdout, and kerasall draws a split"
        )
    if "train" not in found or len(found) < 2:
        raise DataError(
            f"split.kind: given needs a part train and at least one of validation and test, but the data have only "
            f"{', '.join(sorted(found))}: set split.kind: holdout, and kerasall draws a split"
        )
    if "test" not in found and shares.get("test"):
        raise DataError(
            "split.kind: given needs a part test for an honest score, but the data have only train and validation: set "
            "split.test: 0 to be scored on the validation part, which also decides when to stop, or split.kind: holdout, and "
            "kerasall draws a split"
        )


def deal_again(split: Split, seed: int) -> Split:
    """The same parts of the images to develop on, dealt out by another seed; every other part stays as it is.

    Args:
        split: folds or a holdout split that kerasall drew.
        seed: equal seeds give equal parts; that of the split gives the split itself.

    Raises:
        SettingsError: the publisher of the data drew the folds.
    """
    if seed == split.seed:
        return split
    parts = split.folds or tuple(part for part in ("train", "validation") if part in split.parts)
    if split.dropped or set(parts) & set(split.fixed) or len(parts) < 2:
        raise SettingsError(
            f"the images to develop on must be in parts that kerasall draws, so that another seed deals them anew, but are in "
            f"{', '.join(parts)} of the data: leave the noise split.seed out, or set split.kind: folds or holdout"
        )
    table = split.table.copy()
    sizes = table["part"].value_counts()
    whole = sum(int(sizes[part]) for part in parts)
    shares = {part: 1 / len(parts) if split.folds else int(sizes[part]) / whole for part in parts}
    table.loc[table["part"].isin(parts), "part"] = ""
    _deal(table, shares, seed, split.unit)
    return _finish(replace(split, table=table, seed=seed))


def inner_validation(split: Split, share: float, seed: int, held_out: str | None = None) -> list[str]:
    """Draws a grouped, stratified validation part out of the images to develop on.

    Args:
        split: folds, or a holdout split whose training part shall be divided.
        share: share of the development images, in (0, 1).
        seed: equal seeds give equal parts.
        held_out: the fold that is held out; None for all folds together.

    Returns:
        Sorted ids to validate on; the other ``development_ids`` are to train on.
    """
    if not 0 < share < 1:
        raise DataError(f"the share of the inner validation part must be between 0 and 1, but is {share}")
    table = split.table[split.table["id"].isin(split.development_ids(held_out))]
    names, shares = table[split.unit_column], {"train": 1 - share, "validation": share}
    dealt = deal_groups(names.tolist(), table["label"].tolist(), shares, seed)
    return table["id"][names.map(dealt) == "validation"].tolist()


def _start(
    examples: pd.DataFrame, clusters: Sequence[Sequence[str]], fixed: Mapping[str, Sequence[str]],
    joined: Sequence[Sequence[str]], keep_joined: bool = False,
) -> tuple[pd.DataFrame, tuple[str, ...]]:  # fmt: skip
    """Table sorted by id with groups; part is set for fixed and dropped images, "" for those to deal out."""
    table = examples[["id", "label", "subject", "fold"]].astype(str).sort_values("id", ignore_index=True)
    table["group"] = group_examples(examples, clusters, joined).to_numpy()
    table["part"] = ""
    for part, folds in fixed.items():
        chosen = table["fold"].isin(list(folds))
        if not chosen.any():
            raise DataError(
                f"the fixed part {part!r} must hold images, but no image has the fold {list(folds)}: "
                f"the data have {sorted(set(table['fold']))}. Put that part of the data in place, or do without "
                f"it: --set split.{part}_folds=[]"
            )
        table.loc[chosen, "part"] = part
    taken = table["part"] != ""
    both = set(table["group"][taken]) & set(table["group"][~taken])
    found = _joined_subjects(
        table[table["group"].isin(both)].assign(part=table["fold"].replace("", "other images"))
    )
    if keep_joined:
        dropped = table["id"].isin(_copies(table["id"][taken], clusters)) & ~taken
    else:
        dropped = table["group"].isin(set(table["group"][taken])) & ~taken
    table.loc[dropped, "part"] = DROPPED
    return table, tuple(_describe_dropped(int(dropped.sum()), fixed, found, keep_joined))


def _describe_dropped(
    count: int, fixed: Mapping[str, Sequence[str]], joined: list[str], keep_joined: bool
) -> Iterator[str]:
    """What a report must say of images that are joined to a part which the publisher of the data drew."""
    if count:
        which = (
            "copies of its images" if keep_joined else "copies of its images, and others of the same patients"
        )
        yield (
            f"{count:,} images are left out of training and validation because of the published part "
            f"{' and '.join(sorted(fixed))}: {which}."
        )
    if joined:
        fate = "trained on all the same (split.joined: keep)" if keep_joined else "not trained on"
        yield (
            "Subject ids joined by identical or near-identical cells stand inside and outside of the published part "
            f"{' and '.join(sorted(fixed))}, and may be one patient each: {'; '.join(joined)}. Their images outside are {fate}."
        )


def _copies(ids: pd.Series, clusters: Sequence[Sequence[str]]) -> set[str]:
    """All members of the clusters that hold one of ``ids``."""
    wanted = set(ids)
    return {name for cluster in merge_clusters(clusters) if wanted.intersection(cluster) for name in cluster}


def _drop_by_fold(
    table: pd.DataFrame, clusters: Sequence[Sequence[str]] | None, folds: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Fold -> ids in other folds not to train on while it is held out: of its groups, or its copies in ``clusters`` alone."""
    found = {}
    for fold in folds:
        held_out = table["part"] == fold
        if clusters is None:
            alike = table["group"].isin(set(table["group"][held_out]))
        else:
            alike = table["id"].isin(_copies(table["id"][held_out], clusters))
        found[fold] = tuple(table["id"][alike & table["part"].isin(folds) & ~held_out])
    return {fold: ids for fold, ids in found.items() if ids}


def _joined_subjects(table: pd.DataFrame) -> list[str]:
    """Groups of several subjects that span several parts, as "20 and 21 (fold_0, fold_2)"."""
    joined = []
    for _, members in table[table["subject"] != ""].groupby("group"):
        *subjects, last = sorted(set(members["subject"]), key=natural_order)
        parts = sorted(set(members["part"]))
        if subjects and len(parts) > 1:
            joined.append(f"{', '.join(subjects)} and {last} ({', '.join(parts)})")
    return joined


def _deal(table: pd.DataFrame, shares: dict[str, float], seed: int, unit: Unit) -> None:
    """Fills the empty entries of ``part`` in place."""
    free = table["part"] == ""
    if not free.any():
        raise DataError(f"images to split into {list(shares)} are needed, but all stand in fixed parts")
    names, labels = table.loc[free, "group" if unit == "group" else "id"], table.loc[free, "label"]
    deal = deal_images if unit == "image" and "train" in shares else deal_groups
    table.loc[free, "part"] = names.map(deal(names.tolist(), labels.tolist(), shares, seed))


def _finish(split: Split) -> Split:
    """The split in its final columns, once every class is seen to stand in every part."""
    labels = set(split.table["label"])
    for part, found in split.table.groupby("part")["label"].agg(set).items():
        if part != DROPPED and found != labels:
            raise DataError(
                f"each class must stand in every part, but {sorted(labels - found)} do not stand in {part!r}: "
                "choose other fixed parts, stated patients or official folds, or splits drawn by kerasall"
            )
    return replace(split, table=split.table[list(SPLIT_COLUMNS)], seed=int(split.seed))
