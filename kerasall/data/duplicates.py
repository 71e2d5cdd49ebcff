"""Images that show the same cells: equal bytes, copies by name, and near duplicates: pairs nominated on thumbnails,
confirmed on larger crops of the cells.

And the table of examples with the groups they make, for what leaves the folder of images (TFRecords,
tensorflow-datasets): once images are rows of a file, who splits them by group later needs the groups beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

from kerasall.data.examples import COLUMNS, Collection
from kerasall.data.likeness import (
    Grain,
    band_pass,
    compare_aligned,
    crop_to_foreground,
    extract_grain,
    find_foreground,
    measure_grain,
    squash,
    to_unit_length,
)
from kerasall.data.named_copies import find_named_copies
from kerasall.data.splits import group_examples
from kerasall.data.statistics import ImageScan, fingerprint_data, scan_images
from kerasall.data.texture_pairs import block_count, correlated_pairs
from kerasall.decoding import DEFAULT_LIMITS, Limits, SixteenBit, decode, read_image_bytes
from kerasall.errors import DataError, SettingsError
from kerasall.files import read_json, write_json
from kerasall.listing.folders import list_some
from kerasall.runtime import show_progress

DUPLICATES = "duplicates.json"
CONFIRMING_SIDE = 128
_FIELD_BAND = (1.5, 6)
"""Blurs of ``band_pass`` at which fields of many cells are nominated: coarse, as a copy that was cropped or
shifted is compared before it is aligned."""
_CUT_OUT_BAND = (0.7, 3)
"""Those for cells on black: finer, as their boxes are already aligned and nuclei alike at a coarse look."""
_CONFIRMING_BAND = (0.4, 1.5)
_ALIGNED_FIELDS, _ALIGNED_CUT_OUTS = 0.75, 0.5
"""Correlation that aligned thumbnails must reach before images are decoded again; copies of fields reach 0.86,
of cut-outs with weak grain 0.57."""
_SMALLEST_BOX = 24
"""Shorter side of the foreground, in pixels, below which an image has too little texture to tell."""
_LEAST_GRAIN = 0.3
"""``measure_grain`` of the thumbnail, in grey levels, below which nothing tells an image from another."""
_SIZE_TOLERANCE = 0.18
"""Greatest difference of two cells' widths or heights, as shares of their images, in logarithms: cropping an
image by 5% on each side changes them by 0.11."""
_SMALL_GROUP = 5
"""Groups of up to so many images are never too large, whatever share of a small data set they are."""
_PAIRS_PER_IMAGE = 100
_TOGETHER = 256
"""Pairs that threads take up at a time."""
_NO_LIMITS = Limits(max_side=1 << 30, max_pixels=1 << 60, max_bytes=1 << 40)


@dataclass(frozen=True)
class NearDuplicateSettings:
    """When two images count as near duplicates, and when that would join too much.

    Attributes:
        enabled: False finds none.
        nominate: least correlation, in (0, 1], of two 32 px thumbnails' textures, in the best of eight
            orientations, for a closer look.
        confirm: least correlation, in (0, 1], of the aligned textures at 128 px. Copies that were
            compressed, resized, cropped by 5%, shifted, brightened or turned reach 0.8 (0.66 at JPEG quality
            50); the most alike unrelated pairs 0.25 (four-class fields, 3.4 million pairs), 0.19 (C-NMC
            cells) and 0.57 (rendered cells).
        max_subjects: most subjects that one near-duplicate group may join.
        max_share: largest share of all images that one group may hold.
    """

    enabled: bool = True
    nominate: float = 0.55
    confirm: float = 0.62
    max_subjects: int = 3
    max_share: float = 0.05

    def __post_init__(self) -> None:
        for name in ("nominate", "confirm", "max_share"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise SettingsError(f"near_duplicates.{name} must lie in (0, 1], but is {value}")
        if self.max_subjects < 1:
            raise SettingsError(
                f"near_duplicates.max_subjects must be at least 1, but is {self.max_subjects}"
            )


@dataclass(frozen=True)
class Duplicates:
    """Images that show the same cells. Clusters are lists of ids.

    Attributes:
        exact: byte-identical files.
        near: alike in their pixels.
        near_error: why the search for these stopped or what is wrong with them; "" if nothing.
        named: copies by their names; see ``NamedCopies``.
        untold: ids that are named as copies while no name tells of which image.
    """

    exact: Sequence[Sequence[str]] = ()
    near: Sequence[Sequence[str]] = ()
    near_error: str = ""
    named: Sequence[Sequence[str]] = ()
    untold: Sequence[str] = ()

    @property
    def clusters(self) -> list[Sequence[str]]:
        """All clusters, which splits keep together; they may overlap."""
        return [*self.exact, *self.near, *self.named]


def search_duplicates(examples: pd.DataFrame, scan: ImageScan, settings: NearDuplicateSettings) -> Duplicates:
    """Everything that is found of the examples, which may be fewer than the scan's."""
    named = find_named_copies(examples)
    told = {"exact": exact_duplicates(scan), "named": named.groups, "untold": named.untold}
    try:
        near = find_near_duplicates(examples, scan, settings)
    except DataError as error:  # thumbnails too much alike to tell
        return Duplicates(**told, near_error=str(error))
    problem = find_excess(near, examples, scan, settings, named.groups)
    return Duplicates(**told, near=near, near_error=problem)


def write_duplicates(duplicates: Duplicates, statistics: Path) -> None:
    """Writes ``duplicates.json`` into an artifact of statistics."""
    write_json(statistics / DUPLICATES, vars(duplicates))


def read_duplicates(statistics: Path) -> Duplicates:
    """Reads what ``write_duplicates`` wrote."""
    return Duplicates(**read_json(statistics / DUPLICATES))


def group_collection(
    collection: Collection,
    *,
    settings: NearDuplicateSettings | None = None,
    limits: Limits = DEFAULT_LIMITS,
    workers: int | None = None,
) -> tuple[pd.DataFrame, str]:
    """Reads every image once and joins subjects and duplicates into groups.

    Args:
        collection: what to read.
        settings: thresholds of near duplicates; None for the defaults.
        limits: what is refused as too large.
        workers: threads; None for one per processor.

    Returns:
        The examples sorted by id, with the columns group (equal for images that must not be parted),
        sha256 (of the file's bytes), bytes (the file's size) and native (TensorFlow decodes the file as it
        is); and the fingerprint of the data, as ``kerasall check`` gives it.

    Raises:
        DataError: images that cannot be read, all counted and the first named; or near duplicates that
            would join too much.
    """
    scan = scan_images(collection.examples, limits, workers, collection.sixteen_bit)
    if errors := scan.table["error"][scan.table["error"] != ""].tolist():
        raise DataError(
            f"every image of {collection.root} must be readable, but {len(errors)} of {len(scan.table)} are not "
            f"({list_some(errors, 3)}): replace or remove them; kerasall check lists all"
        )
    found = search_duplicates(collection.examples, scan, settings or NearDuplicateSettings())
    if found.near_error:
        raise DataError(found.near_error)
    table = collection.examples[list(COLUMNS)].merge(
        scan.table[["id", "sha256", "bytes", "native"]], on="id", validate="one_to_one"
    )
    table["group"] = table["id"].map(
        group_examples(collection.examples, found.clusters, collection.joined_subjects)
    )
    return table.sort_values("id", ignore_index=True), fingerprint_data(collection, scan)


def exact_duplicates(scan: ImageScan) -> list[list[str]]:
    """Groups of readable images with byte-identical files: sorted lists of two ids or more, sorted."""
    readable = scan.table[(scan.table["error"] == "") & (scan.table["sha256"] != "")]
    groups = readable.groupby("sha256")["id"].agg(sorted)
    return sorted(group for group in groups if len(group) > 1)


def find_near_duplicates(
    examples: pd.DataFrame, scan: ImageScan, settings: NearDuplicateSettings
) -> list[list[str]]:
    """Groups of images that show the same cells but are not the same bytes; also those that join too much.

    Of byte-identical images one is compared; its copies then join the group it falls into. Blank images and
    those whose foreground is narrower than 24 px are not compared.

    Args:
        examples: table with the columns id, path, subject.
        scan: of these examples, with thumbnails.
        settings: thresholds.

    Returns:
        Sorted lists of ids, sorted; equal on every run and on any order of the rows.

    Raises:
        DataError: thumbnails are too much alike to tell images apart; the message names the threshold to raise.
    """
    if not settings.enabled:
        return []
    if scan.thumbnails is None:
        raise DataError(
            "near duplicates need a scan with thumbnails, but this one has none: scan the images again"
        )
    chosen, textures = _choose_images(scan)
    ids = scan.table["id"].to_numpy()[chosen]
    path = dict(zip(examples["id"], examples["path"], strict=True))
    is_field = np.asarray(scan.thumbnails[chosen].all(axis=(1, 2)))
    pairs = _nominate(textures, is_field, settings.nominate)
    groups = _confirm(
        pairs, scan.thumbnails[chosen], [path[name] for name in ids], settings.confirm, scan.sixteen_bit
    )
    copies = scan.table.groupby("sha256")["id"].agg(list)
    sha256 = scan.table["sha256"].to_numpy()[chosen]
    return sorted(
        sorted(name for index in members for name in copies[sha256[index]])
        for members in groups.subsets()
        if len(members) > 1
    )


def find_excess(
    groups: Sequence[Sequence[str]], examples: pd.DataFrame, scan: ImageScan, settings: NearDuplicateSettings,
    named: Sequence[Sequence[str]] = (),
) -> str:  # fmt: skip
    """Says which near-duplicate group joins too many subjects or images; "" if none does.

    Byte-identical copies, and copies by their names, count once: what they join is not the thresholds' doing.
    """
    known = dict(zip(scan.table["id"], scan.table["sha256"], strict=True))
    known |= {name: copies[0] for copies in named for name in copies}
    subject = dict(zip(examples["id"], examples["subject"], strict=True))
    for group in groups:
        distinct = list({known[name]: name for name in reversed(group)}.values())
        subjects = sorted({subject[name] for name in distinct} - {""})
        share = len(distinct) / len(examples)
        if len(subjects) > settings.max_subjects:
            found = f"{len(subjects)} subjects ({', '.join(subjects[:6])})"
        elif share > settings.max_share and len(distinct) > _SMALL_GROUP:
            found = f"{len(distinct)} images, {share:.0%} of all"
        else:
            continue
        return (
            f"a near-duplicate group may join at most {settings.max_subjects} subjects and {settings.max_share:.0%} "
            f"of the images, but one joins {found}, among them {', '.join(sorted(distinct)[:3])}: look at them; if "
            f"they are not copies, raise the threshold near_duplicates.confirm (now {settings.confirm}), if they are, "
            "near_duplicates.max_subjects or max_share"
        )
    return ""


def _choose_images(scan: ImageScan) -> tuple[np.ndarray, np.ndarray]:
    """Rows to compare, in the order of their ids: readable, one of each content, large and not blank.

    Returns:
        The rows, int64 [N], and their thumbnails' textures, float32 [N, side, side] of unit length.
    """
    thumbnails = scan.thumbnails
    assert thumbnails is not None
    table = scan.table.reset_index(drop=True)
    table = table[(table["error"] == "") & (table["box_side"] >= _SMALLEST_BOX)].sort_values("id")
    rows = table.drop_duplicates("sha256").index.to_numpy()
    textures = np.empty((len(rows), *thumbnails.shape[1:]), np.float32)
    has_grain = np.zeros(len(rows), dtype=bool)

    # In one thread: calls as short as these wait for one another's hold on Python, and take longer in two.
    for index, row in enumerate(rows):
        thumbnail = thumbnails[row]
        is_field = bool(thumbnail.all())
        band = band_pass(thumbnail, *(_FIELD_BAND if is_field else _CUT_OUT_BAND))
        has_grain[index] = measure_grain(band, is_field) >= _LEAST_GRAIN
        textures[index] = to_unit_length(squash(band).ravel()).reshape(band.shape)
    return (rows, textures) if has_grain.all() else (rows[has_grain], textures[has_grain])


def _nominate(textures: np.ndarray, is_field: np.ndarray, threshold: float) -> np.ndarray:
    """Pairs worth a closer look: int64 [P, 3] of first < second and the second's orientation, best first.

    All pairs of fields and all pairs of cut-out cells are compared, exactly.
    """
    found = [np.empty((0, 4))]
    for rows in (np.flatnonzero(is_field), np.flatnonzero(~is_field)):
        pairs = _correlate_all(textures if len(rows) == len(textures) else textures[rows], threshold)
        pairs[:, :2] = rows[pairs[:, :2].astype(np.int64)]
        found.append(pairs)
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0], -pairs[:, 3].round(6)))][:, :3].astype(np.int64)


def _correlate_all(textures: np.ndarray, threshold: float) -> np.ndarray:
    """Rows (first, second, orientation, correlation) over the threshold."""
    found = [np.empty((0, 4))]
    with closing(correlated_pairs(textures, threshold)) as blocks:  # which holds threads, also after an error
        for pairs in show_progress(blocks, block_count(len(textures)), "Comparing thumbnails"):
            found.append(pairs)
            if sum(map(len, found)) > _PAIRS_PER_IMAGE * len(textures) + 1000:
                raise DataError(
                    f"thumbnails must tell images apart, but over {_PAIRS_PER_IMAGE} pairs per image correlate "
                    f"above near_duplicates.nominate = {threshold}: raise it, or remove the many copies of one image"
                )
    return np.concatenate(found)


def _confirm(
    pairs: np.ndarray, thumbnails: np.ndarray, paths: Sequence[str], threshold: float, sixteen_bit: SixteenBit
) -> DisjointSet:
    """Rows of images, joined where they show the same. Pairs already joined by others are passed over."""

    @lru_cache(maxsize=16384)  # 128 MiB
    def thumbnail(index: int) -> Grain:
        return extract_grain(thumbnails[index], *_CUT_OUT_BAND)

    @lru_cache(maxsize=2048)  # 192 MiB
    def view(index: int) -> _View:
        # Decoded again; the scan has already held the file against the limits.
        data = read_image_bytes(paths[index], _NO_LIMITS)
        pixels = decode(data, _NO_LIMITS, paths[index], sixteen_bit=sixteen_bit)
        found, (height, width) = find_foreground(pixels), pixels.shape[:2]
        share = (found.right - found.left) / width, (found.bottom - found.top) / height
        return _View(crop_to_foreground(pixels, found, CONFIRMING_SIDE), *share)

    groups = DisjointSet(range(len(paths)))

    def is_same(pair: list[int]) -> bool:
        first, second, orientation = pair
        one, other = thumbnail(first), thumbnail(second)
        needed = _ALIGNED_FIELDS if one.is_field else _ALIGNED_CUT_OUTS
        if compare_aligned(one, other, orientation) < needed:
            return False
        one, other = view(first), view(second)
        return (
            one.has_size_of(other, orientation)
            and compare_aligned(one.grain, other.grain, orientation) >= threshold
        )

    starts = range(0, len(pairs), _TOGETHER)
    with ThreadPoolExecutor() as threads:
        for start in show_progress(starts, len(starts), "Confirming duplicates"):
            batch = [
                pair for pair in pairs[start : start + _TOGETHER].tolist() if not groups.connected(*pair[:2])
            ]
            for (first, second, _), joined in zip(batch, threads.map(is_same, batch), strict=True):
                if joined:
                    groups.merge(first, second)
    return groups


@dataclass(frozen=True, eq=False)
class _View:
    """One image's foreground at 128 px, and its width and height as shares of the image's."""

    foreground: np.ndarray
    width: float
    height: float

    @cached_property
    def grain(self) -> Grain:
        """Costs more than all else, and is not asked for where the sizes differ."""
        return extract_grain(self.foreground, *_CONFIRMING_BAND)

    def has_size_of(self, other: _View, orientation: int) -> bool:
        width, height = (other.width, other.height) if orientation % 2 == 0 else (other.height, other.width)
        differences = abs(np.log(self.width / width)), abs(np.log(self.height / height))
        return max(differences) < _SIZE_TOLERANCE
