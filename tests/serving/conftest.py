"""A tiny model and a server around it, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def web_model(tmp_path_factory) -> Path:
    """A SavedModel of two tiny members, with votes, referral and explanation."""
    from web_server import NAME, export_tiny_model

    return export_tiny_model(tmp_path_factory.mktemp("web") / NAME / "1")


@pytest.fixture(scope="module")
def web(web_model) -> Iterator:
    """A whole server of it, ready."""
    from web_server import serving

    with serving(web_model) as running:
        yield running
