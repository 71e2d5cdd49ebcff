"""Copies that their names betray: images turned, mirrored, brightened or copied before anybody split them.

The search in pixels (``kerasall.data.duplicates``) knows a copy that was turned by a few degrees or by quarter turns;
what was turned by 15 degrees, or zoomed, its name alone still tells.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from posixpath import splitext
from typing import Literal, NamedTuple

import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

from kerasall.listing.folders import IMAGE_SUFFIXES

_SERIES = 9
"""More bare numbers than this after one name of a folder are a series, no copies: a bulk rename, cells of a field."""
_MOST_PLACES = 3
"""Folders that may hold one name before it tells nothing across them: each numbers its images from 1."""
_MOST_COPIES = 100
_MOST_OF_A_CLASS = 0.5
_SMALL_GROUP = 5
"""A group of more copies than the first, or of more of its class than the second unless it is as small as the third,
bears the name of a series (``aug_0_1.png`` to ``aug_0_900.png``), and not that of one image."""

_GAP = r"[_\-. +]"
_NUMBER = rf"{_GAP}*\d+(?:[.,]\d+)?(?:deg|°)?"
_FILE_TYPE = r"(?:[_.](?:png|jpe?g|bmp|tiff?|webp))?"
_AUGMENTED = r"aug(?:m|mented|mentation|mentad[oa])?"
_COPIED = r"copy|kopie|copie|copia|dup(?:licate)?"
_MIRRORED = (
    rf"(?:[hv]|horizontal(?:ly)?|vertical(?:ly)?)?{_GAP}?(?:flip(?:ped)?|mirror(?:ed)?|gespiegelt)"
    rf"(?:{_GAP}?(?:horizontal(?:ly)?|vertical(?:ly)?|lr|ud|both|hv|vh|[hvxy]))?"
)
_TURNED = r"rot(?:ated?|ation|ad[oa])?|gedreht"
_CHANGED = (
    r"(?:rand(?:om)?)?(?:bright(?:er|ness)?|dark(?:er)?|contrast|gamma|hue|saturat(?:ed|ion)|(?:colou?r)?jitter|nois[ey]|"
    r"gauss(?:ian)?|salt(?:pepper)?|blur(?:red)?|sharp(?:en|ened|er)?|crop(?:ped)?|zoom(?:ed)?(?:in|out)?|scaled?|"
    r"resized?|shift(?:ed)?|translated?|shear(?:ed)?|elastic|affine|distort(?:ed)?|cutout|clahe|equali[sz]ed|"
    r"normali[sz]ed|transposed?|invert(?:ed)?)"
)

_Says = Literal["copy", "beside", "export"]
_Names = list[tuple[str, _Says]]
"""A name without one mark, two marks, and so on, each with what the last one said."""


class _Mark(NamedTuple):
    """A sign of a copy in a name: what stands for it, what is left without it, and what it says.

    It says ``copy`` by itself; or only ``beside`` an image of the name that is left; or of an ``export`` that gives
    it to every image, copy or not.
    """

    pattern: re.Pattern[str]
    left: str
    says: _Says


_MARK_TABLE: tuple[tuple[str, str, _Says], ...] = (
    (rf"{_FILE_TYPE}\.rf\.[0-9a-z]{{16,}}$", "", "export"),  # Roboflow
    (rf"^.*?_original_(.+?){_FILE_TYPE}_[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$", r"\1", "copy"),
    (rf"{_GAP}+(?:{_AUGMENTED}|{_TURNED})(?:{_NUMBER}){{1,2}}$", "", "copy"),
    (rf"{_GAP}+(?:{_AUGMENTED}|{_COPIED}|{_MIRRORED})(?:{_NUMBER})?$", "", "copy"),
    (rf"^(?:{_AUGMENTED}|{_MIRRORED}|rotated)(?:{_GAP}*\d{{1,3}}(?:deg)?){{0,2}}{_GAP}+", "", "copy"),
    (rf"^(?:{_TURNED}){_GAP}*\d{{1,3}}(?:deg)?{_GAP}+", "", "copy"),
    (r"^(?:copy of|kopie von|copie de|copia d[ie]) |^(?:copy|kopie|copie|copia)(?:_?of)?_", "", "copy"),
    (rf"{_GAP}*\((?:\w+ )?(?:{_COPIED})\)$", "", "copy"),
    (rf"{_GAP}+(?:{_TURNED})$", "", "beside"),  # in German, red
    (rf"{_GAP}+(?:{_CHANGED})(?:{_NUMBER}){{0,2}}$", "", "beside"),
    (rf"{_GAP}+(?:(?:r|deg|angle)_?\d{{1,3}}|(?:90|180|270)(?:deg)?|lr|ud)$", "", "beside"),
    (rf"^(?:{_CHANGED})(?:{_GAP}*\d{{1,3}})?{_GAP}+", "", "beside"),
    (rf"{_GAP}?\(\d{{1,3}}\)$", "", "beside"),
    (r"_\d{1,6}_\d{2,8}$", "", "beside"),  # Keras, with the image's name as save_prefix
)  # fmt: skip
_MARKS = tuple(_Mark(re.compile(pattern), left, says) for pattern, left, says in _MARK_TABLE)
_KERAS = re.compile(rf"^((?:{_AUGMENTED})_\d+)_(\d{{1,8}})$")
"""``save_prefix="aug"``: place of the image in the directory, and a random number. Or the name of an image."""
_NUMBERED = re.compile(rf"{_GAP}+\d{{1,3}}$|{_GAP}?\(\d{{1,3}}\)$")
_HINT = re.compile(
    r"\)$|^cop|^kopie|aug|rot|flip|mirror|gespiegelt|gedreht|copy|kopie|copi[ea]|dup|_original_|\.rf\.|\d$|"
    rf"{_CHANGED}|lr$|ud$|deg$|°$"
)
_COPIES_FOLDER = re.compile(
    r"(?<![a-z])(?:aug|augment(?:ed|ations?)|flipped|mirrored|rotated|copies|segmented|normali[sz]ed)(?![a-z])"
)


@dataclass(frozen=True)
class NamedCopies:
    """What names tell of copies.

    Attributes:
        groups: images that are copies of one another or of one original: sorted lists of ids, sorted.
        untold: ids, sorted, that are named as copies while no name tells of which image.
    """

    groups: list[list[str]]
    untold: list[str]


class _Image(NamedTuple):
    id: str
    folder: str
    stem: str
    label: str
    subject: str

    @property
    def is_among_copies(self) -> bool:
        """Whether its folder is one of copies, such as ``augmented``."""
        return bool(self.folder) and _COPIES_FOLDER.search(self.folder) is not None


def find_named_copies(examples: pd.DataFrame) -> NamedCopies:
    """Joins images whose names say that they are copies, with their original where it is there.

    An original lies in the same folder, or under the same name with the same class and no other patient in at most
    three others. Where it is missing, copies of one name, class and patient join among themselves. Words that may mean
    something else (``crop``, ``noise``, ``(1)``) count only beside their original.

    Args:
        examples: table with the columns id, label, subject.

    Returns:
        The same on any order of the rows. Time grows with their number alone.
    """
    columns = (examples[name].astype(str).tolist() for name in ("id", "label", "subject"))
    images = [_read(*row) for row in zip(*columns, strict=True)]
    numbered = Counter((image.folder, _NUMBERED.sub("", image.stem)) for image in images)
    names = {image: found for image in images if (found := list(_strip(image, numbered)))}
    named = {image.id for image, found in names.items() if any(says == "copy" for _, says in found)}
    joined = DisjointSet(image.id for image in images)
    for first, second in [
        *(links := list(_link_originals(images, names))),
        *_link_copies(names, {a for a, _ in links}),
    ]:
        joined.merge(first.id, second.id)
    labels = {image.id: image.label for image in images}
    sizes = Counter(labels.values())
    members: dict[str, list[str]] = defaultdict(list)
    for image in images:
        members[joined[image.id]].append(image.id)
    groups = [
        sorted(group) for group in members.values() if len(group) > 1 and not _is_series(group, labels, sizes)
    ]
    return NamedCopies(sorted(groups), sorted(named.difference(*groups)))


def _link_originals(
    images: Sequence[_Image], names: Mapping[_Image, _Names]
) -> Iterator[tuple[_Image, _Image]]:
    """Every copy with what it may be a copy of: of its names with fewer and fewer marks, the first that is there."""
    by_stem: dict[str, list[_Image]] = defaultdict(list)
    for image in images:
        by_stem[image.stem].append(image)
    for image, found in names.items():
        originals = (_find_originals(image, by_stem.get(base, ())) for base, _ in found)
        yield from ((image, original) for original in next(filter(None, originals), ()))


def _link_copies(names: Mapping[_Image, _Names], linked: Set[_Image]) -> Iterator[tuple[_Image, _Image]]:
    """Copies of one missing original: pairs of the first and each other."""
    siblings: dict[tuple[str, str, str], list[_Image]] = defaultdict(list)
    for image, found in names.items():
        name = next((base for base, says in reversed(found) if says != "beside"), None)
        if name is not None and image not in linked:
            siblings[name, image.label, image.subject].append(image)
    for (_, _, subject), copies in siblings.items():
        far = not subject and len({image.folder for image in copies}) > _MOST_PLACES
        first: dict[str, _Image] = {}
        for image in copies:
            yield first.setdefault(image.folder if far else "", image), image


def _read(name: str, label: str, subject: str) -> _Image:
    folder, _, file = unicodedata.normalize("NFC", name).casefold().rpartition("/")
    stem, suffix = splitext(file)
    return _Image(name, folder, stem if suffix in IMAGE_SUFFIXES else file, label, subject)


def _strip(image: _Image, numbered: Counter[tuple[str, str]]) -> Iterator[tuple[str, _Says]]:
    """The ``_Names`` of an image, one by one."""
    stem = image.stem
    if found := _KERAS.match(stem):
        yield found[2], "beside"
        yield found[1], "copy"
        return
    while _HINT.search(stem):
        for mark in _MARKS:
            base = mark.pattern.sub(mark.left, stem, count=1)
            if base != stem and any(map(str.isalnum, base)):
                break
        else:
            break
        if numbered[image.folder, base] > _SERIES and _NUMBERED.sub("", stem) == base:
            break
        yield base, mark.says
        stem = base
    if image.is_among_copies:
        yield image.stem, "beside"


def _find_originals(image: _Image, found: Sequence[_Image]) -> Sequence[_Image]:
    """Those of some images of one name that this one may be a copy of."""
    others = [other for other in found if other.id != image.id]
    if here := [other for other in others if other.folder == image.folder]:
        return here
    others = [
        each
        for each in others
        if each.label == image.label and (each.stem != image.stem or not each.is_among_copies)
    ]
    own = [other for other in others if other.subject == image.subject]
    if image.subject and own:
        return own
    likely = [other for other in others if not (other.subject and image.subject)]
    return likely if len(likely) <= _MOST_PLACES else []


def _is_series(group: Sequence[str], labels: Mapping[str, str], sizes: Mapping[str, int]) -> bool:
    label, count = Counter(labels[name] for name in group).most_common(1)[0]
    most = max(_SMALL_GROUP, _MOST_OF_A_CLASS * sizes[label])
    return len(group) > _MOST_COPIES or count > most
