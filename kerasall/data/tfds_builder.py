"""C-NMC and the four-class set as tensorflow-datasets; importing this module makes them loadable.

    import kerasall.data.tfds_builder
    config = tfds.download.DownloadConfig(manual_dir="/data/C-NMC_Leukemia")
    folds = tfds.load("cnmc", download_and_prepare_kwargs={"download_config": config})

The parts are the publisher's own (C-NMC: fold_0, fold_1, fold_2, prelim) or one, ``train``: never a random
one, which would put copies and neighbours of an image on both sides. To split further, keep the feature
``group`` together. No checksums of the archives are published, so the images lie unpacked in the manual
folder; the metadata carry the fingerprint that ``kerasall check`` prints and every example its file's SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from kerasall.data import aria, cnmc
from kerasall.data.duplicates import group_collection
from kerasall.data.examples import Collection
from kerasall.decoding import read_image_bytes, to_native
from kerasall.errors import DataError

WITHOUT_FOLD = "train"
"""Name of the part of images that the publisher put into none."""

_DISCLAIMER = "Research use only: not a diagnostic device."


class _CellImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the two builders share: from a collection to the examples of its parts."""

    LABELS: tuple[str, ...]

    # tensorflow-datasets 4.9.10 finds this out through importlib_resources, which it no longer depends on.
    code_path = tfds.core.Path(__file__)

    def _read(self, folder: Path) -> tuple[Collection, dict[str, str]]:
        """The collection in the manual folder, and its labels -> ``LABELS``."""
        raise NotImplementedError

    def _describe(self, description: str, homepage: str, citation: str) -> tfds.core.DatasetInfo:
        text = tfds.features.Text
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{description} {_DISCLAIMER}",
            homepage=homepage,
            citation=citation,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(names=self.LABELS),
                    "id": text(doc="path below the folder of the images"),
                    "subject": text(doc='patient, or the stand-in that the metadata name; "" if unknown'),
                    "group": text(doc="subjects joined by copies: never part them between training and test"),
                    "fold": text(doc='the publisher\'s own part, or ""'),
                    "sha256": text(doc="of the image file"),
                }
            ),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        collection, names = self._read(Path(dl_manager.manual_dir))
        table, fingerprint = group_collection(collection)
        table["label"] = table["label"].map(names)
        assert self.info.metadata is not None
        self.info.metadata.update(
            {
                "malignant": sorted(names[label] for label in collection.malignant),
                "subject_kind": collection.subject_kind,
                "notes": list(collection.notes),
                "read_warnings": list(collection.read_warnings),
                "fingerprint": fingerprint,
                "groups": int(table["group"].nunique()),
                "archive_checksums": "none are published",
            }
        )
        parts = table["fold"].where(table["fold"] != "", WITHOUT_FOLD)
        return {part: self._generate_examples(rows) for part, rows in table.groupby(parts, sort=True)}

    def _generate_examples(self, examples: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields (id, example); tfds orders examples by a hash of the id, the same on every machine."""
        columns = ["label", "id", "subject", "group", "fold", "sha256"]
        for example in examples.to_dict("records"):
            image = to_native(read_image_bytes(example["path"]), name=example["path"])
            yield example["id"], {"image": image, **{name: example[name] for name in columns}}


class Cnmc(_CellImages):
    """C-NMC 2019: single cells of leukaemia patients and healthy subjects, in the publisher's parts."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First."}
    LABELS = cnmc.LABELS
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Get C-NMC 2019 from The Cancer Imaging Archive (https://doi.org/10.7937/tcia.2019.dc64i46r) and unpack it
    into the manual folder, in any of its layouts: fold_0, fold_1 and fold_2 with all and hem inside, the
    preliminary test with its label table {cnmc.LABEL_TABLE}. Parts that are absent are left out.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self._describe(
            "White blood cells cut out of stained bone-marrow smears, on black: acute lymphoblastic leukaemia "
            "(all) and healthy (hem). The same cells occur under several subject ids, also across folds.",
            "https://doi.org/10.7937/tcia.2019.dc64i46r",
            "Gupta, A. and Gupta, R. (2019). ALL Challenge dataset of ISBI 2019 (C-NMC 2019). "
            "The Cancer Imaging Archive. https://doi.org/10.7937/tcia.2019.dc64i46r",
        )

    def _read(self, folder: Path) -> tuple[Collection, dict[str, str]]:
        return cnmc.read_cnmc(folder), {label: label for label in cnmc.LABELS}


class Aria(_CellImages):
    """The four-class set (Benign, Early, Pre, Pro), as photographed or with the blasts cut out."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First."}
    LABELS = ("Benign", "Early", "Pre", "Pro")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="original", description="Fields as photographed."),
        tfds.core.BuilderConfig(name="segmented", description="The same fields with all but blasts black."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Get "Acute Lymphoblastic Leukemia (ALL) image dataset" (https://doi.org/10.34740/KAGGLE/DSV/2175623) and
    unpack it into the manual folder, so that it holds Original and Segmented with the four class folders
    inside. Class folders may keep other published names, such as "[Malignant] early Pre-B".
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self._describe(
            "Fields of peripheral blood smears: benign, and three stages of leukaemia (early pre-B, pre-B, "
            "pro-B). No patient is known: blocks of consecutive file numbers stand in for subjects.",
            "https://doi.org/10.34740/KAGGLE/DSV/2175623",
            "Aria, M., Ghaderzadeh, M., Bashash, D., Abolghasemi, H., Asadi, F. and Hosseini, A. (2021). "
            "Acute Lymphoblastic Leukemia (ALL) image dataset. Kaggle. https://doi.org/10.34740/KAGGLE/DSV/2175623",
        )

    def _read(self, folder: Path) -> tuple[Collection, dict[str, str]]:
        assert self.builder_config is not None
        variant = self.builder_config.name
        collection = aria.read_aria(folder, variant=variant)
        # The reader takes the only class folders there are, whatever lies above them; a config promises more.
        if collection.root.name.lower() != variant:
            raise DataError(
                f"{folder} must hold the folder {variant.title()} for the config {variant!r}, but the class folders "
                f"lie in {collection.root}: name that folder {variant.title()}, or choose the other config"
            )
        stages = aria.find_class_folders(collection.root)
        return collection, {label: stage for stage, label in stages.items()}
