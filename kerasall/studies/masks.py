"""What images are cut out by: masks in files or made by Otsu's threshold, and bounds that a person set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import tensorflow as tf

from kerasall.data.examples import Collection
from kerasall.decoding import SixteenBit, decode, read_image_bytes
from kerasall.errors import DataError, SettingsError
from kerasall.preprocessing.segmentation import HsvThresholdMask, OtsuMask

_SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class StatedMasks:
    """What the images are held against, and which bounds a person set.

    Attributes:
        folder: of masks or segmented images, named as the images; None: Otsu's threshold makes them.
        above: a pixel of these is kept where any channel is brighter, 0 to 254.
        otsu: the channel of Otsu's threshold, where it makes the masks.
        bounds: channel -> least and greatest value that a person set; the others are fitted.
        cleaning: ``opening``, ``closing`` and ``fill_holes`` of the operation.
        swap: fit to the half of the groups that is scored otherwise.

    Raises:
        SettingsError: halves that are not made are to be exchanged.
    """

    folder: Path | None = None
    above: int = 60
    otsu: str = "saturation"
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    cleaning: Mapping[str, Any] = field(default_factory=dict)
    swap: bool = False

    def __post_init__(self) -> None:
        if self.swap and self.folder is None:
            raise SettingsError(
                "--swap exchanges the halves of images with masks in files, but there are none: give --masks"
            )

    @property
    def name(self) -> str:
        """What the masks are called."""
        return "Given mask" if self.folder else "Otsu's mask"

    @property
    def cure(self) -> str:
        """What can be done where they keep nothing."""
        if self.folder is None:
            return f"Otsu's threshold of {self.otsu} made them; name another channel (--otsu), or give masks (--masks)"
        return f"a pixel of {self.folder} is kept where it is brighter than {self.above}; state another brightness (--above)"


class MaskReader:
    """Images and their masks, file by file."""

    def __init__(self, collection: Collection, masks: StatedMasks) -> None:
        self._sixteen_bit: SixteenBit = collection.sixteen_bit
        self._masks = masks
        self._otsu = make_mask(OtsuMask(masks.otsu))

    def read(self, row: Mapping[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
        """An image uint8 [H, W, 3] RGB and its mask bool [H, W], given in a file or made by Otsu's threshold.

        Raises:
            DataError: there is no mask, it is the image itself, or has another size.
        """
        image = decode(read_image_bytes(row["path"]), name=row["path"], sixteen_bit=self._sixteen_bit)
        if self._masks.folder is None:
            return image, self._otsu(image)
        path = find_mask(self._masks.folder, row["id"])
        if path.samefile(row["path"]):
            raise DataError(
                f"a mask must be a file of its own, but that of {row['id']} is the image itself: give the folder of the masks"
            )
        mask = decode(read_image_bytes(path), name=str(path)).max(axis=2) > self._masks.above
        if mask.shape != image.shape[:2]:
            raise DataError(
                f"the mask {path} must have its image's size, {image.shape[1]} x {image.shape[0]} pixels, but has "
                f"{mask.shape[1]} x {mask.shape[0]}: make it of the same image"
            )
        return image, mask


def find_mask(folder: Path, name: str) -> Path:
    """The file of an image's mask: of the same name below the folder, its ending may be another.

    Raises:
        DataError: there is none, or the name leads out of the folder.
    """
    if ".." in PurePath(name).parts or PurePath(name).is_absolute():
        raise DataError(
            f"a mask is looked for below --masks {folder} under its image's name, but {name} leads out of it: list the images "
            "in a table that lies above them"
        )
    wanted = folder / name
    for suffix in _SUFFIXES:
        path = wanted.with_suffix(suffix) if suffix else wanted
        if path.is_file():
            return path
    raise DataError(
        f"--masks {folder} must hold a mask of every image under the image's name, but none of {name}: give the folder "
        "that has the same folders inside as the images"
    )


def make_mask(operation: HsvThresholdMask | OtsuMask) -> Callable[[np.ndarray], np.ndarray]:
    """The operation's mask of an image uint8 [H, W, 3], as training and serving make it: bool [H, W]."""
    graph = tf.function(operation.mask, input_signature=[tf.TensorSpec([None, None, 3])])
    return lambda image: graph(tf.constant(image, tf.float32)).numpy()
