"""Shared fixtures: where the real images and weights lie, and the reason when they do not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

_SHARED = Path(os.environ.get("KERASALL_TEST_SHARED", Path(__file__).parents[2] / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of whole runs first: dealt out last, they would keep one process busy while the other waits."""
    first = {Path(__file__).parent / room for room in ("", "cli", "studies")}
    items.sort(key=lambda item: item.path.parent not in first)


def _needed(path: Path) -> Path:
    if not path.exists():
        pytest.skip(
            f"real data absent: {path} (set KERASALL_TEST_SHARED to the folder that holds data/ and weights/)"
        )
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real blood-cell images: aria/, cnmc_sample/, cnmc_manifest.csv."""
    return _needed(_SHARED / "data")


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """Folder with real ImageNet weights of Keras Applications."""
    return _needed(_SHARED / "weights")


@pytest.fixture(autouse=True)
def _op_determinism_ends_with_the_test():
    """``deterministic: true`` holds for the rest of a process; the next test must not inherit it."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework import config

        if config.is_op_determinism_enabled():
            config.disable_op_determinism()
