"""Images of one set with what joins them, and features of frozen networks, each computed once and kept by content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kerasall.data.duplicates import (
    Duplicates,
    NearDuplicateSettings,
    read_duplicates,
    search_duplicates,
    write_duplicates,
)
from kerasall.data.examples import Collection
from kerasall.data.sources import read_source
from kerasall.data.splits import group_examples, merge_clusters
from kerasall.data.statistics import ImageScan, fingerprint_data, read_scan, scan_images, write_scan
from kerasall.errors import DataError, WeightsError
from kerasall.evaluation.ensemble_rules import find_highest
from kerasall.evaluation.metrics import malignant_mask
from kerasall.evaluation.predictions import Predictions
from kerasall.files import sha256_of_file
from kerasall.models.backbones import get_backbone
from kerasall.models.weights import find_stored
from kerasall.runtime import quiet_tensorflow

if TYPE_CHECKING:
    from kerasall.data.pixel_cache import PixelCache

SIDE = 224
CHAINS: dict[str, list[dict[str, Any]]] = {
    "cnmc": [
        {"op": "center_crop", "height": 300, "width": 300},
        {"op": "resize", "height": SIDE, "width": SIDE},
    ],
    "aria": [{"op": "resize", "height": SIDE, "width": SIDE}],
}
"""Source -> what is done to its images."""


@dataclass(frozen=True, eq=False)
class Altered:
    """Other pixels in the place of a set's images.

    Attributes:
        pixels: uint8 [N, H, W, 3].
        key: names their content.
    """

    pixels: np.ndarray
    key: str


@dataclass(frozen=True)
class Network:
    """A backbone with ImageNet weights: its key in ``BACKBONES``, and its width."""

    backbone: str
    alpha: float = 1.0


NETWORKS = {
    "mobilenet": Network("mobilenet"),
    "mobilenet_025": Network("mobilenet", 0.25),
    "mobilenet_v2_035": Network("mobilenet_v2", 0.35),
    "vgg16": Network("vgg16"),
    "xception": Network("xception"),
}
"""Those of which weights may be at hand."""
BATCH = 32


@dataclass(frozen=True, eq=False)
class Images:
    """Every image of a set.

    Attributes:
        collection: ids, labels, subjects.
        hashes: SHA-256 of the files, in the order of the examples.
        duplicates: what shows the same cells.
        scan: measures of colour and focus.
        cache: folder of what was computed of these very images, beside the activations of all.
    """

    collection: Collection
    hashes: Sequence[str]
    duplicates: Duplicates
    scan: ImageScan
    cache: Path

    @cached_property
    def pixels(self) -> PixelCache:
        """What a network sees: uint8 [N, H, W, 3], and the key of their content."""
        with quiet_tensorflow():
            from kerasall.data.pixel_cache import decode_pixels
        from kerasall.preprocessing.operations import Chain

        chain = Chain.from_json(CHAINS[self.collection.source])
        return decode_pixels(self.collection.examples["path"].tolist(), chain, keys=self.hashes)

    @property
    def fingerprint(self) -> str:
        """As ``kerasall check`` gives it."""
        return fingerprint_data(self.collection, self.scan)

    @cached_property
    def ids(self) -> np.ndarray:
        """str [N]."""
        return self.collection.examples["id"].to_numpy(str)

    @cached_property
    def labels(self) -> np.ndarray:
        """Class indices, int64 [N]."""
        index = {name: k for k, name in enumerate(self.collection.labels)}
        return self.collection.examples["label"].map(index).to_numpy(np.int64)

    @cached_property
    def groups(self) -> np.ndarray:
        """Groups that are independent as far as is known, str [N]: patients or blocks, joined by duplicates and known ids."""
        found = group_examples(
            self.collection.examples, self.duplicates.clusters, self.collection.joined_subjects
        )
        return found.reindex(self.ids).to_numpy(str)

    @cached_property
    def recurs(self) -> np.ndarray:
        """Whether the same cells are in another image: of another subject where subjects are real, bool [N]."""
        subjects = dict(zip(self.ids, self.collection.examples["subject"], strict=True))
        real = self.collection.subject_kind == "subject"
        found = {
            name
            for cluster in merge_clusters(self.duplicates.clusters)
            for name in cluster
            if not real or any(subjects[other] != subjects[name] for other in cluster)
        }
        return np.isin(self.ids, list(found))

    def record(self, probabilities: np.ndarray) -> Predictions:
        """Predictions [N, C] of all images over ``groups``; between equal ones a malignant class is called."""
        classes, subjects = self.collection.labels, self.collection.examples["subject"].to_numpy(str)
        malignant = np.flatnonzero(malignant_mask(classes, self.collection.malignant)).tolist()
        decided = find_highest(np, probabilities, malignant)
        return Predictions(self.ids, subjects, self.groups, self.labels, probabilities, classes, decided)

    def describe(self) -> dict[str, Any]:
        """Counts and the digest, for the result's file."""
        table = pd.DataFrame({"label": self.collection.examples["label"], "group": self.groups})
        of_class = table.groupby("label")
        return {
            "fingerprint": self.fingerprint,
            "images": len(table),
            "images_by_class": of_class.size().to_dict(),
            "subject_ids": int(self.collection.examples["subject"].nunique()),
            "groups": int(table["group"].nunique()),
            "groups_by_class": of_class["group"].nunique().to_dict(),
            "joined_ids": [" = ".join(ids) for ids in self.collection.joined_subjects],
            "duplicates": {name: len(getattr(self.duplicates, name)) for name in ("exact", "near", "named")},
            "recurring_images": int(self.recurs.sum()),
        }


def read_images(source: str, path: Path, cache: Path) -> Images:
    """Reads a set and searches its duplicates, or takes over what was found of the same bytes.

    Args:
        source: key of ``CHAINS``.
        path: the set's folder.
        cache: folder in which the set gets one of its own.

    Raises:
        DataError: images that cannot be read, or a search for duplicates that failed.
    """
    collection = read_source(source, path)
    examples = collection.examples
    with ThreadPoolExecutor() as threads:
        hashes = list(threads.map(sha256_of_file, examples["path"]))
    known = ImageScan(pd.DataFrame({"id": examples["id"], "sha256": hashes}))
    folder = cache / f"{source}_{fingerprint_data(collection, known)[:16]}"
    if not (folder / "scan.csv").exists():
        scan = scan_images(examples)
        if errors := scan.table["error"][scan.table["error"] != ""].tolist():
            raise DataError(f"every image of {path} must be readable, but {errors[0]}: replace or remove it")
        found = search_duplicates(examples, scan, NearDuplicateSettings())
        if found.near_error:
            raise DataError(found.near_error)
        folder.mkdir(parents=True, exist_ok=True)
        write_duplicates(found, folder)
        write_scan(scan, folder / "scan.csv")
    return Images(collection, hashes, read_duplicates(folder), read_scan(folder / "scan.csv"), folder)


@dataclass(frozen=True, eq=False)
class Features:
    """Pooled features of one frozen network.

    Attributes:
        values: float32 [N, D], in the order of the examples.
        facts: the network, its weights' SHA-256, its parameters and operations (two a multiply-add) an image.
    """

    values: np.ndarray
    facts: Mapping[str, Any]


def compute_features(images: Images, network: str, weights: Path, altered: Altered | None = None) -> Features:
    """Passes every image through a frozen network once, or reads what any run with the same cache has left of it.

    Args:
        images: N of them.
        network: key of ``NETWORKS``.
        weights: folder of ImageNet weights.
        altered: what is shown in the place of the images.

    Raises:
        WeightsError: the folder does not hold the network's weights.
    """
    from kerasall.models.deep_features import build_extractor, extract_features
    from kerasall.models.prediction import ACTIVATIONS

    row, shown = NETWORKS[network], altered or Altered(images.pixels.pixels, images.pixels.key)
    stored = _find_weights(row, weights)
    model = build_extractor(row.backbone, (SIDE, SIDE), alpha=row.alpha, weights_folder=weights)
    values = extract_features([model], shown.pixels, shown.key, images.cache.parent / ACTIVATIONS)
    facts = {
        "network": network, "chain": CHAINS[images.collection.source], "weights_sha256": sha256_of_file(stored),
        "parameters": float(model.count_params()), "operations": _count_operations(model),
    }  # fmt: skip
    return Features(values, facts)


def measure_pictures(images: Images) -> np.ndarray:
    """Colours, contrast and detail of every image as an exported model measures them: float32 [N, D]."""
    from kerasall.models.out_of_domain import build_statistics_model
    from kerasall.models.prediction import predict_activations

    pixels = images.pixels.pixels
    batches = (pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH))
    return predict_activations(build_statistics_model((SIDE, SIDE)), batches)


def _find_weights(network: Network, weights: Path) -> Path:
    file = get_backbone(network.backbone).weights[network.alpha]
    stored = find_stored(file, weights)
    if stored is None:
        raise WeightsError(
            f"{weights} must hold {file.name}, but does not: put it there, or leave the network out"
        )
    return stored


def _count_operations(model: Any) -> float:
    """Operations of one image in all layers, parts inside parts too."""
    from benchmarks.network_work import count_layer

    return sum(
        _count_operations(layer) if hasattr(layer, "layers") else count_layer(layer)[0]
        for layer in model.layers
    )
