"""What every step that trains does alike: names its weights by content, decodes its images, writes its model.

The artifact Model holds ``model.keras``, ``preprocess.json`` (the chain before it) and ``facts.json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras

from kerasall.data.development import Development, Facts, write_facts
from kerasall.data.pixel_cache import PixelCache, PixelChain, decode_pixels
from kerasall.files import sha256_of_file, write_json
from kerasall.models.backbones import get_backbone
from kerasall.models.saving import save_model
from kerasall.models.weights import resolve_weights
from kerasall.settings import BackboneSettings, ModelSettings

MODEL_FILE = "model.keras"
PREPROCESS = "preprocess.json"
MEMORY_BYTES = 2 << 30
"""Pixels and features kept in memory where no setting says how much; more goes to disk."""


def hash_weights(
    networks: Iterable[ModelSettings | BackboneSettings], weights_folder: Path | None
) -> list[str | None]:
    """Content of each network's pretrained weights, so that another file is another result; None: random ones."""
    paths = [resolve_weights(get_backbone(n.backbone), n.alpha, n.weights, weights_folder) for n in networks]
    return [None if path is None else sha256_of_file(path) for path in paths]


def decode_rows(
    data: Development, chain: PixelChain, cache_folder: Path, memory_bytes: int = MEMORY_BYTES,
    rows: Iterable[int] | None = None,
) -> PixelCache:  # fmt: skip
    """Decoded images of the given rows (None: of all) after the chain; each file is decoded once.

    Args:
        data: the rows to develop on.
        chain: the deterministic preprocessing.
        cache_folder: of the runs, where pixels that do not fit into memory are kept.
        memory_bytes: what fits; with 0 they are stored on disk, for several processes.
        rows: positions in ``data``.
    """
    table = data.examples if rows is None else data.examples.iloc[list(rows)]
    return decode_pixels(
        table["path"].tolist(), chain, cache_folder / "pixels",
        memory_bytes=memory_bytes, keys=table["sha256"].tolist(), limits=data.limits,
    )  # fmt: skip


def without_optimizer(model: keras.Model) -> keras.Model:
    """The same network: an optimizer's state doubles the file, and its schedule need not be Keras' own."""
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def write_model(model: keras.Model, preprocess: Sequence[dict[str, Any]], facts: Facts, folder: Path) -> None:
    """Writes a Model artifact into an existing folder; ``preprocess`` is the chain as JSON."""
    save_model(model, folder / MODEL_FILE)
    write_json(folder / PREPROCESS, list(preprocess))
    write_facts(facts, folder)
