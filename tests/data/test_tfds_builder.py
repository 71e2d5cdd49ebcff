"""The builders through tensorflow-datasets' own test case, and what loading them gives."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from kerasall.data.cnmc import LABEL_TABLE
from kerasall.data.tfds_builder import Aria, Cnmc
from kerasall.decoding import decode
from kerasall.errors import DataError

pytest.importorskip("dill", reason="tensorflow_datasets.testing imports dill, which it does not depend on")


def _draw(path: Path, seed: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 36, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    (image if mode == "RGB" else image.quantize(16)).save(path)


def make_cnmc(root: Path) -> Path:
    """Two folds and the preliminary part; one palette BMP; one copy across two folds and subjects."""
    names = ["fold_0/all/UID_1_1_1_all", "fold_0/all/UID_1_2_1_all", "fold_0/hem/UID_H1_1_1_hem"]
    names += ["fold_1/all/UID_2_1_1_all", "fold_1/hem/UID_H2_1_1_hem"]
    for seed, name in enumerate(names):
        _draw(root / "training_data" / f"{name}.bmp", seed, "P" if seed == 2 else "RGB")
    shutil.copy(
        root / "training_data/fold_0/all/UID_1_2_1_all.bmp",
        root / "training_data/fold_1/all/UID_2_2_1_all.bmp",
    )
    part = root / "validation_data" / "C-NMC_test_prelim_phase_data"
    for number in (1, 2):
        _draw(part / f"{number}.bmp", 10 + number)
    (part.parent / LABEL_TABLE).write_text(
        "Patient_ID,new_names,labels\nUID_57_29_1_all.bmp,1.bmp,1\nUID_H25_1_2_hem.bmp,2.bmp,0\n"
    )
    return root


def make_aria(root: Path, names=("Benign", "Early", "Pre", "Pro")) -> Path:
    """Both variants, ten images a class, so that each is a block of its own."""
    for seed, variant in enumerate(("Original", "Segmented")):
        for index, name in enumerate(names):
            for number in range(10):
                _draw(root / variant / name / f"WBC-{number + 1:03d}.png", 1000 * seed + 10 * index + number)
    return root


class _OnDrawnFiles(tfds.testing.DatasetBuilderTestCase):
    """Draws the small files into a folder of its own instead of ``dummy_data`` beside the builder."""

    make = None

    @classmethod
    def setUpClass(cls):
        if cls.make is None:
            pytest.skip("the base of the two cases below")
        folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.EXAMPLE_DIR = cls.make(folder)
        super().setUpClass()


class CnmcTest(_OnDrawnFiles):
    DATASET_CLASS = Cnmc
    SPLITS: ClassVar = {"fold_0": 3, "fold_1": 3, "prelim": 2}
    make = staticmethod(make_cnmc)


class AriaTest(_OnDrawnFiles):
    DATASET_CLASS = Aria
    SPLITS: ClassVar = {"train": 40}
    make = staticmethod(make_aria)


del _OnDrawnFiles


def _load(name: str, manual: Path, data_dir: Path, **options):
    config = tfds.download.DownloadConfig(manual_dir=str(manual))
    parts, info = tfds.load(
        name,
        data_dir=str(data_dir),
        with_info=True,
        download_and_prepare_kwargs={"download_config": config},
        **options,
    )
    return {part: list(tfds.as_numpy(examples)) for part, examples in parts.items()}, info


def test_cnmc_comes_in_its_own_parts_with_groups_and_the_right_pixels(tmp_path):
    manual = make_cnmc(tmp_path / "in")
    parts, info = _load("cnmc", manual, tmp_path / "out")
    assert {part: len(examples) for part, examples in parts.items()} == {
        "fold_0": 3,
        "fold_1": 3,
        "prelim": 2,
    }
    names = info.features["label"].names
    assert names == ["all", "hem"]
    for part, examples in parts.items():
        for example in examples:
            data = (manual / example["id"].decode()).read_bytes()
            assert example["sha256"].decode() == hashlib.sha256(data).hexdigest()
            np.testing.assert_array_equal(example["image"], decode(data))  # a palette BMP is among them
            assert example["fold"].decode() == part
    everything = [example for examples in parts.values() for example in examples]
    groups = {example["subject"].decode(): example["group"].decode() for example in everything}
    assert groups == {"1": "1+2", "2": "1+2", "H1": "H1", "H2": "H2", "57": "57", "H25": "H25"}
    labelled = {example["subject"].decode(): names[example["label"]] for example in everything}
    assert labelled == {"1": "all", "2": "all", "57": "all", "H1": "hem", "H2": "hem", "H25": "hem"}


def test_the_metadata_say_what_a_reader_of_scores_must_know_and_are_read_again(tmp_path):
    _, info = _load("cnmc", make_cnmc(tmp_path / "in"), tmp_path / "out")
    again = tfds.builder("cnmc", data_dir=str(tmp_path / "out")).info
    for metadata in (info.metadata, again.metadata):
        assert (metadata["malignant"], metadata["subject_kind"], metadata["groups"]) == (
            ["all"],
            "subject",
            5,
        )
        assert any("subject ids are not patients" in note for note in metadata["notes"])
        assert metadata["archive_checksums"] == "none are published"
        assert len(metadata["fingerprint"]) == 64


def test_the_four_class_set_keeps_its_class_order_under_other_folder_names(tmp_path):
    names = ("Benign", "[Malignant] early Pre-B", "[Malignant] Pre-B", "[Malignant] Pro-B")
    manual = make_aria(tmp_path / "in", names)
    for variant in ("original", "segmented"):
        parts, info = _load(f"aria/{variant}", manual, tmp_path / "out")
        assert info.features["label"].names == ["Benign", "Early", "Pre", "Pro"]
        assert info.metadata["malignant"] == ["Early", "Pre", "Pro"]
        (examples,) = parts.values()
        assert list(parts) == ["train"]
        found = Counter(
            (example["id"].decode().partition("/")[0], int(example["label"])) for example in examples
        )
        assert found == {(name, index): 10 for index, name in enumerate(names)}
        file = manual / variant.title() / examples[0]["id"].decode()
        np.testing.assert_array_equal(examples[0]["image"], decode(file.read_bytes()))


def test_two_builds_give_the_same_order(tmp_path):
    manual = make_cnmc(tmp_path / "in")
    one, two = (_load("cnmc", manual, tmp_path / name)[0] for name in ("a", "b"))
    for part in one:
        assert [example["id"] for example in one[part]] == [example["id"] for example in two[part]]


def test_an_empty_or_wrong_manual_folder_is_named(tmp_path):
    with pytest.raises(AssertionError, match="fold_0"):
        _load("cnmc", tmp_path / "none", tmp_path / "out")
    with pytest.raises(DataError, match="C-NMC images"):
        _load("cnmc", make_aria(tmp_path / "in"), tmp_path / "out")


def test_a_config_never_takes_the_other_variant(tmp_path):
    manual = make_aria(tmp_path / "in")
    shutil.rmtree(manual / "Segmented")
    with pytest.raises(DataError, match="must hold the folder Segmented"):
        _load("aria/segmented", manual, tmp_path / "out")
    parts, _ = _load("aria/original", manual / "Original", tmp_path / "out")
    assert len(parts["train"]) == 40
