"""Pooled features of a model's networks, from the activations that training has left where it has left some."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasall.data.input_pipeline import prediction_batches
from kerasall.models.classifier import Parts, find_parts, pooled_above, split_at
from kerasall.models.feature_cache import activations_key
from kerasall.models.out_of_domain import FEATURES, list_feature_networks, with_features
from kerasall.models.prediction import predict_activations

BATCH = 32
_NPY_HEADER_BYTES = 128
"""Of every file that ``cached_activations`` writes: its shape fits into the least header."""


def pooled_features(
    model: keras.Model, pixels: np.ndarray, rows: np.ndarray, key: str, cache_folder: Path
) -> np.ndarray:
    """What the output ``FEATURES`` of ``with_features`` gives for some rows of the images.

    A network whose last block was trained goes on from the activations below that block, where training has
    stored them; that is a small part of the whole pass.

    Args:
        model: a classifier, an ensemble, or a classifier of deep features.
        pixels: uint8 [len(rows), H, W, 3], of the wanted rows alone.
        rows: their positions among all images.
        key: names the content of all images, as for ``cached_activations``.
        cache_folder: of the runs.

    Returns:
        float32 [len(rows), D].

    Raises:
        ModelError: the model has no part whose pooled features are known.
    """
    networks = list_feature_networks(model)
    stored = [_from_storage(each, rows, key, cache_folder / "activations") for each in networks]
    if not any(part is not None for part in stored):
        outputs: Any = with_features(model)
        return _pass(keras.Model(outputs.inputs[0], outputs.output[FEATURES]), pixels)
    parts = [
        _pass(split_at(network)[0], pixels) if part is None else part
        for network, part in zip(networks, stored, strict=True)
    ]
    return np.concatenate(parts, axis=1)


def _pass(network: keras.Model, pixels: np.ndarray) -> np.ndarray:
    return predict_activations(network, prediction_batches(pixels, batch_size=BATCH))


def _from_storage(network: keras.Model, rows: np.ndarray, key: str, folder: Path) -> np.ndarray | None:
    parts = find_parts(network)
    sizes = {path.stat().st_size for path in folder.glob("*.npy")}
    pooled = folder / f"{activations_key(split_at(network)[0], key)[:32]}.npy"
    if pooled.is_file():
        return np.load(pooled, mmap_mode="r", allow_pickle=False)[rows]
    for block in parts.row.blocks:
        if not _may_be_stored(parts, block, int(rows.max()) + 1, sizes):
            continue
        path = folder / f"{activations_key(split_at(network, block)[0], key)[:32]}.npy"
        if path.is_file():
            activations = np.load(path, mmap_mode="r", allow_pickle=False)
            return predict_activations(pooled_above(network, block), _batches(activations, rows))
    return None


def _may_be_stored(parts: Parts, block: str, least_images: int, sizes: set[int]) -> bool:
    """Whether a file has the size of this block's activations: asking for its key costs building the network."""
    tensors = [parts.backbone.get_layer(layer).output for layer in parts.row.blocks[block]]
    each = 4 * sum(math.prod(tensor.shape[1:]) for tensor in tensors)
    counts = [divmod(size - _NPY_HEADER_BYTES, each) for size in sizes]
    return any(rest == 0 and images >= least_images for images, rest in counts)


def _batches(activations: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BATCH):
        yield np.asarray(activations[rows[start : start + BATCH]])
