"""The command line inside the test's own process."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner, Result

from kerasall.cli.app import app


def invoke(*words: Any) -> Result:
    """What ``kerasall WORDS`` shows; errors are raised as they are."""
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
