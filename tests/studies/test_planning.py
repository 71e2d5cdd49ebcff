"""Plans: every network of every shipped config, its weights, and a memory estimate that grows as it must."""

from __future__ import annotations

from pathlib import Path

import pytest

from kerasall.models.classifier import build_classifier, freeze
from kerasall.settings.loading import load_settings
from kerasall.studies.planning import count_images, estimate_memory, format_plan, list_networks, plan_alike

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_config_lists_its_networks(path):
    settings = load_settings(path)
    networks = list(list_networks(settings))
    assert networks
    assert len({network.name for network in networks}) == len(networks)
    wanted = len(settings.members) or 1
    if settings.deep_features:
        wanted = len(settings.deep_features.extractors)
    if settings.sweep:
        wanted = len(settings.sweep.backbones)
    if settings.tune:
        wanted = 9 + 1  # the rows of L9, and the confirmation
    assert len(networks) == wanted


def test_rendered_cells_are_counted_without_rendering_them():
    assert count_images(load_settings(CONFIGS / "demo.yaml")) == 2 * 32 * 20
    assert count_images(load_settings(CONFIGS / "aria_mobilenet.yaml")) is None


@pytest.mark.slow
def test_a_smoke_step_is_timed_and_the_plan_adds_up():
    (network,) = list_networks(load_settings(CONFIGS / "demo.yaml"))
    plans = plan_alike([network], smoke=True, images=1280)[network.name]
    assert [plan.stage.name for plan in plans] == ["learn", "settle"]
    for plan in plans:
        assert plan.steps == 80
        assert plan.step_seconds is not None
        assert plan.step_seconds > 0
        assert 0 < plan.trainable < plan.parameters
    table = format_plan(plans)
    assert len(table.splitlines()) == 3
    assert f"{plans[0].parameters:,}" in table


def test_memory_grows_with_the_batch_and_with_what_trains():
    model = build_classifier("mobilenet", 2, (64, 64), weights="random", alpha=0.25)
    freeze(model)
    frozen = estimate_memory(model, 32)
    freeze(model, "all", train_batch_norm=True)
    whole = estimate_memory(model, 32)
    assert frozen < whole < estimate_memory(model, 64)
