"""The four-class set of Aria et al. (Taleqani hospital): Benign, Early, Pre and Pro, light background.

3,256 images of 89 patients, but the public files carry no patient id. Neighbouring file numbers often
come from one smear, so runs of consecutive numbers stand in for patients: ten blocks per class. Smaller
blocks leak: a linear model on frozen MobileNet features scores .975 with every image on its own, .971
with blocks of 10, .963 with blocks of 50 and .924 with blocks of 100.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from kerasall.data.examples import Collection, make_examples
from kerasall.errors import DataError
from kerasall.listing.folders import find_files, list_folders, list_some, require_folder

NOTE = (
    "The public files of this set carry no patient id. Blocks of consecutive file numbers stand in for patients "
    "when splitting and in every interval; an evaluation by patient is impossible here."
)

# Folder names in their letters alone, without "malignant" in front and the B of "Pre-B" behind.
_STAGES = {"benign": "Benign", "early": "Early", "earlypre": "Early", "pre": "Pre", "pro": "Pro"}
_MALIGNANT = ("Early", "Pre", "Pro")


def read_aria(path: str | Path, variant: str = "Original", blocks: int = 10) -> Collection:
    """Reads the four-class set.

    Args:
        path: the folder of the four class folders, or one that holds it, as ``Original`` or
            ``Segmented`` or under another name. Class folders may be called ``Early`` or
            ``[Malignant] early Pre-B`` and the like; their own names become the labels.
        variant: which folder is read where ``path`` holds both variants.
        blocks: runs of consecutive numbers each class is cut into, nearly equal in size, at least 2.

    Raises:
        DataError: the class folders are not found or not all there, or a class has fewer images than
            ``blocks``.
    """
    root = _find_root(require_folder(path), variant)
    folders = find_class_folders(root)
    found = find_files(root)
    rows: list[dict[str, str]] = []
    for name in sorted(folders.values()):
        images = [image for image in found.images if image.startswith(f"{name}/")]
        rows += _cut_into_blocks(root, name, images, blocks)
    strays = [image for image in found.images if image.partition("/")[0] not in folders.values()]
    warnings = [f"{len(strays)} images outside the four class folders were left out: {list_some(strays)}"]
    return Collection(
        source="aria",
        root=root,
        examples=make_examples(sorted(rows, key=lambda row: row["id"])),
        labels=tuple(sorted(folders.values())),
        malignant=tuple(sorted(folders[stage] for stage in _MALIGNANT)),
        subject_kind="block",
        notes=(NOTE,),
        read_warnings=(*(warnings if strays else ()), *found.warnings()),
    )


def looks_like_aria(path: Path) -> bool:
    """Whether ``read_aria`` would find all four class folders at or below ``path``, with the images right in them.

    A lab's own folders of these classes are no such set where patients have folders below or above them.
    """
    if not path.is_dir():
        return False
    roots = [root for root in _list_candidates(path) if len(find_class_folders(root)) == 4]
    deep = any(list_folders(root / name) for root in roots for name in find_class_folders(root).values())
    variants = [root for root in roots if root.name.lower() in ("original", "segmented")]
    return not deep and (len(roots) == 1 or path in roots or bool(variants))


def _find_root(path: Path, variant: str) -> Path:
    roots = [folder for folder in _list_candidates(path) if len(find_class_folders(folder)) == 4]
    if path in roots:
        return path
    chosen = [root for root in roots if root.name.lower() == variant.lower()]
    if len(chosen or roots) == 1:
        return (chosen or roots)[0]
    if roots:
        names = [root.relative_to(path).as_posix() for root in roots]
        raise DataError(
            f"{path} must hold the variant {variant!r} of the four-class set once, but holds {names}"
        )
    held = sorted(folder.name for folder in path.iterdir() if folder.is_dir())
    raise DataError(
        f"{path} must hold the class folders Benign, Early, Pre and Pro, itself or in the folder {variant}, but "
        f"its folders are {list_some(held, 10) or 'none'}: give the path of the folder Original or of its parent"
    )


def _list_candidates(path: Path) -> list[Path]:
    """``path`` and the folders one and two levels below it, where unpacked archives put the classes."""
    below = list_folders(path)
    return [path, *below, *(folder for parent in below for folder in list_folders(parent))]


def find_class_folders(path: Path) -> dict[str, str]:
    """Stage -> name of its folder. Two folders of one stage: the stage is left out, as it is ambiguous."""
    named: dict[str, list[str]] = {}
    for folder in list_folders(path):
        letters = re.sub("[^a-z]", "", folder.name.lower()).removeprefix("malignant")
        stage = _STAGES.get(letters) or _STAGES.get(letters.removesuffix("b"))
        if stage:
            named.setdefault(stage, []).append(folder.name)
    return {stage: names[0] for stage, names in named.items() if len(names) == 1}


def _cut_into_blocks(root: Path, label: str, images: list[str], blocks: int) -> list[dict[str, str]]:
    if not 2 <= blocks <= len(images):
        raise DataError(
            f"blocks must be at least 2 and at most the number of images of every class, but is {blocks} where "
            f"{root / label} holds {len(images)} images: change aria.blocks"
        )
    digits = max(2, len(str(blocks)))
    ordered = sorted(images, key=_number_of)
    return [
        {
            "id": image,
            "path": str(root / image),
            "label": label,
            "subject": f"{label}/{position * blocks // len(ordered) + 1:0{digits}d}",
        }
        for position, image in enumerate(ordered)
    ]


def _number_of(image: str) -> tuple[list[int], str]:
    """Sorts by the numbers in the file's name; copies of the public set use ``001`` and ``013 (1)`` alike."""
    return [int(digits) for digits in re.findall(r"\d+", PurePosixPath(image).stem)], image
