"""Plans: every network of every shipped config, how often it trains on how many images, and what that takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kerasall.components.trainer import trainer
from kerasall.data.development import Development
from kerasall.errors import SettingsError
from kerasall.models.classifier import build_classifier, freeze
from kerasall.pipeline.component import Pipeline
from kerasall.pipeline.runner import RunPlaces, run_pipeline
from kerasall.settings import Settings
from kerasall.settings.loading import load_settings, validate
from kerasall.studies.experiment import Places
from kerasall.studies.planned_fits import describe_split, plan_split
from kerasall.studies.planning import estimate_memory, format_plan, list_networks, plan_alike
from kerasall.studies.steps import read_and_split
from kerasall.training.epochs import EpochRunner

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


def tiny(**changes) -> Settings:
    cells = {"subjects_per_class": 10, "images_per_subject": 2, "size": 32}
    return validate(
        {
            "experiment": "tiny", "pipeline": "p.py", "data": {"source": "synthetic", "synthetic": cells},
            "preprocess": [{"op": "resize", "height": 32, "width": 32}],
            "model": {"backbone": "mobilenet", "alpha": 0.25, "weights": "random"},
            "train": {"batch_size": 4, "stages": [{"name": "head", "epochs": 2}]} | changes.pop("train", {}),
        } | changes,
        "here",
    )  # fmt: skip


def planned_data(settings: Settings) -> Development:
    planned = plan_split(settings)
    assert planned is not None
    return planned[1]


def test_rendered_cells_are_split_without_rendering_them():
    demo = load_settings(CONFIGS / "demo.yaml")
    drawn, data = plan_split(demo) or pytest.fail("demo has data")
    assert len(drawn.table) == 2 * 32 * 20
    assert len(data.examples) < len(drawn.table)
    assert "test " in describe_split(drawn)
    assert plan_split(load_settings(CONFIGS / "aria_mobilenet.yaml")) is None


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ({}, 1),
        ({"split": {"kind": "folds", "folds": 3}}, 3 + 1),
        ({"split": {"kind": "folds", "folds": 3}, "protocol": "faithful", "sweep": {"backbones": [{"name": "a", "backbone": "vgg16"}],
          "optimizers": [{"name": "adam"}, {"name": "sgdm"}], "epochs": [1, 2]}}, 2 * 3),
        ({"deep_features": {"extractors": [{"name": "a", "backbone": "vgg16"}], "combinations": [["a"]],
          "classifiers": ["mlp"], "augmented_copies": 2}, "augment": {}}, 1 + 2),
    ],
)  # fmt: skip
def test_runs_count_folds_the_final_training_optimizers_and_copies(changes, runs):
    settings = tiny(**changes)
    for data in (planned_data(settings), None):
        (network,) = list_networks(settings, data)
        assert network.runs == runs


def test_folds_of_the_publisher_are_unknown_before_the_data_are():
    (network,) = list_networks(tiny(split={"kind": "official_folds"}))
    assert network.runs == 0


def test_oversampling_of_a_class_that_is_not_there_is_found():
    settings = tiny(train={"oversample": {"blast": 50}})
    with pytest.raises(SettingsError, match=r"names \['blast'\]"):
        list(list_networks(settings, planned_data(settings)))


@pytest.mark.parametrize(
    ("split", "train"),
    [
        ({"kind": "holdout", "validation": 0.2, "test": 0.2}, {"oversample": {"all": 21, "hem": 30}}),
        ({"kind": "folds", "folds": 2, "inner_validation": 0.2}, {"oversample": "majority"}),
    ],
    ids=["holdout", "folds"],
)
def test_a_plan_has_the_steps_that_the_run_takes(tmp_path, monkeypatch, split, train):
    settings = tiny(split=split, train=train)
    taken = []
    run = EpochRunner.run

    def count_steps(self, epoch):
        before = int(self.model.optimizer.iterations.numpy())
        row = run(self, epoch)
        taken.append(int(self.model.optimizer.iterations.numpy()) - before)
        return row

    monkeypatch.setattr(EpochRunner, "run", count_steps)
    data = read_and_split(settings, Places(tmp_path / "cache", tmp_path / "models"))
    step = trainer(
        development=data.development, model=settings.model, train=settings.train, augment=None,
        inner_validation=settings.split.inner_validation, seed=0, deterministic=False, weights_folder=None,
        cache_folder=tmp_path / "cache",
    )  # fmt: skip
    places = RunPlaces(tmp_path / "runs", "x")
    run_pipeline(
        Pipeline((*data.steps, step), {}), places, experiment="x", settings={}, say=lambda line: None
    )

    (network,) = list_networks(settings, planned_data(settings))
    (plan,) = plan_alike([network], smoke=False)[network.name]
    # Epochs of the final training are the median of the folds' best ones, so never more than planned.
    folded = settings.train.stages[0].epochs * (len(network.fits) - (split["kind"] == "folds"))
    per_epoch = [steps for steps in plan.steps for _ in range(settings.train.stages[0].epochs)]
    assert taken == per_epoch[: len(taken)]
    assert folded < len(taken) <= len(per_epoch) or (folded == len(taken) and split["kind"] == "holdout")
    assert plan.all_steps == sum(per_epoch)


@pytest.mark.slow
def test_a_smoke_step_is_timed_and_the_plan_adds_up():
    demo = load_settings(CONFIGS / "demo.yaml")
    data = planned_data(demo)
    (network,) = list_networks(demo, data)
    plans = plan_alike([network], smoke=True)[network.name]
    assert [plan.stage.name for plan in plans] == ["learn", "settle"]
    for plan in plans:
        assert plan.steps == (-(-len(data.training_rows) // 16),)
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
