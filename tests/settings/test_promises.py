"""What shipped configs promise: every small one names a score in a form that is held against runs."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kerasall.settings.loading import load_settings
from kerasall.settings.shipped import shipped_files

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "expected_scores.py"))
SMALL = {
    name: path for name, path in shipped_files("configs").items() if name.endswith("_small") or name == "demo"
}


def finished(images: int = 192, **metrics: tuple[float, float, float]) -> Any:
    """A run with these metrics, as the script reads one."""
    named = {name: dict(zip(("value", "low", "high"), each, strict=True)) for name, each in metrics.items()}
    return SimpleNamespace(numbers={"results": {"images": images, "metrics": named}})


@pytest.mark.parametrize("name", SMALL)
def test_every_small_config_promises_its_main_score(name):
    promise = SCRIPT["read_promise"](SMALL[name])
    assert promise is not None, f"{name} must say `expect: METRIC VALUE (LOW to HIGH) on N images`"
    assert promise.metric == load_settings(name).evaluate.main_metric
    assert 0 <= promise.low <= promise.value <= promise.high <= 1
    assert promise.images > 0


@pytest.mark.parametrize(
    ("run", "fault"),
    [
        (finished(f1_weighted=(0.885, 0.62, 0.93)), ""),
        (
            finished(f1_weighted=(0.6, 0.4, 0.7)),
            "promises f1_weighted 0.61 to 0.92, gave 0.600 (0.400 to 0.700)",
        ),
        (finished(100, f1_weighted=(0.885, 0.62, 0.93)), "promises 192 scored images, but there are 100"),
        (finished(accuracy=(0.885, 0.62, 0.93)), "promises f1_weighted, of which the run has none"),
    ],
)
def test_a_promise_is_held_against_the_run(tmp_path, run, fault):
    config = tmp_path / "mine.yaml"
    config.write_text(
        "# Words.\n#   expect:   f1_weighted 0.86 (0.61 to 0.92) on 192 test images; more\nseed: 0\n"
    )
    assert SCRIPT["read_promise"](config).fault(run) == fault


def test_a_config_without_a_score_promises_none(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("#   expect:   not measured\nseed: 0\n")
    assert SCRIPT["read_promise"](config) is None
