"""Factors: settings by their keys, levels that are really tried, short names."""

from __future__ import annotations

from pathlib import Path

import pytest

from kerasall.components.tuner import require_tune, settings_of_rows
from kerasall.errors import SettingsError
from kerasall.settings.factors import apply_levels, as_choices, factor_levels, label_factors, trial_settings
from kerasall.settings.loading import load_settings, validate
from kerasall.studies.planning import list_networks

CONFIGS = Path(__file__).parents[2] / "configs"
PLAIN = {
    "experiment": "x",
    "pipeline": "p",
    "augment": {"horizontal_flip": True},
    "train": {"stages": [{"name": "head", "epochs": 2}, {"name": "fine", "epochs": 3, "trainable": "all"}]},
}
RATE = "train.stages.1.optimizer.learning_rate"


def tuned(factors: dict, **tune):
    return validate(PLAIN | {"tune": {"factors": factors} | tune}, "here")


def test_levels_are_read_as_their_settings_read_them():
    """YAML takes 1e-4 for text."""
    settings = tuned({RATE: ["1e-4", 1e-5], "train.batch_size": [60, "65"]})
    base = trial_settings(settings)
    assert factor_levels(base, settings.tune.factors) == {RATE: (1e-4, 1e-5), "train.batch_size": (60, 65)}


def test_levels_change_what_they_name_and_nothing_else():
    base = trial_settings(validate(PLAIN, "here"))
    made = apply_levels(
        base, {RATE: 0.5, "augment.shift": 0.1, "model.head.dense": [32], "train.batch_size": 7}
    )
    assert made.train.stages[1].optimizer.learning_rate == 0.5
    assert made.train.stages[0] == base.train.stages[0]
    assert made.augment == {"horizontal_flip": True, "shift": 0.1}
    assert made.model.head.dense == (32,)
    assert base.train.batch_size == 32
    assert apply_levels(base, {"augment": None}).augment is None


def test_a_short_key_sets_every_stage():
    settings = tuned(
        {"train.optimizer": ["adam", "sgdm"], "train.epochs": [3, 4], "train.learning_rate": ["1e-4", 1]}
    )
    base = trial_settings(settings)
    levels = factor_levels(base, settings.tune.factors)
    assert levels == {
        "train.optimizer": ("adam", "sgdm"),
        "train.epochs": (3, 4),
        "train.learning_rate": (1e-4, 1.0),
    }
    made = apply_levels(base, {"train.optimizer": "sgdm", "train.epochs": 4})
    assert [(stage.optimizer.name, stage.epochs) for stage in made.train.stages] == [("sgdm", 4)] * 2
    assert list(label_factors(list(levels)).values()) == ["optimizer", "epochs", "learning_rate"]


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (
            {"train.optimizer": ["adam", "sgdm"], "train.stages.1.optimizer.name": ["adam", "sgdm"]},
            "both set train.stages.1.optimizer.name: leave one",
        ),
        ({"train.stages.0.optimizer": [{}, {"name": "sgdm"}], RATE.replace("1", "0"): [1, 2]}, "both set"),
        ({"train.optimizer": ["adam", "adm"]}, "'adam', 'adamax'"),
        ({"train.learning_rates": [1, 2]}, "did you mean train.learning_rate"),
        ({"train.batchsize": [1, 2]}, "did you mean train.batch_size"),
        ({"train.stages.fine.epochs": [1, 2]}, "did you mean train.stages"),
        ({"train.stages.2.epochs": [1, 2]}, "did you mean train.stages"),
        ({"split.validation": [0.1, 0.2]}, "below model, augment, train"),
        ({"train.batch_size.more": [0.1, 0.2]}, "train.batch_size"),
        ({"train.batch_size": [8, 0]}, "greater than 0"),
        ({"train.stages.0.optimizer.name": ["adam", "adm"]}, "'adam', 'adamax'"),
        ({"train.stages.0.optimiser.name": ["adam", "sgdm"]}, "did you mean train.stages.0.optimizer"),
    ],
)
def test_a_factor_that_names_no_setting_or_does_not_fit_is_refused_when_it_is_read(factors, message):
    with pytest.raises(SettingsError, match=message):
        tuned(factors)


@pytest.mark.parametrize(
    ("factors", "tune", "message"),
    [
        ({"train.batch_size": [8, 8]}, {}, "two different levels"),
        ({"train.batch_size": [8, 16]}, {"array": "L7"}, "L7"),
        ({"train.batch_size": [8, 16]}, {"response": "acuracy"}, "did you mean"),
        ({"train.batch_size": [8, 16]}, {"signal": "bigger"}, "larger, smaller"),
        ({"train.batch_size": [8, 16]}, {"response": "log_loss", "signal": "larger"}, "must agree"),
        ({"train.batch_size": [8, 16]}, {"signal": "nominal", "repeats": 1}, "at least 2"),
        (
            {"train.batch_size": [8, 16]},
            {"signal": "target:95"},
            "accuracy can have, between 0 and 1, but is 95",
        ),
        (
            {"train.batch_size": [8, 16]},
            {"response": "cohen_kappa", "signal": "larger"},
            "cohen_kappa lies between -1 and 1",
        ),
        ({"train.batch_size": [8, 16]}, {"without": {"train.epochs": [1]}}, "tune.without must name factors"),
        (
            {"train.batch_size": [8, 16]},
            {"without": {"train.batch_size": [9]}},
            "levels of train.batch_size, but 9",
        ),
        ({"train.batch_size": [8, 16]}, {"response": "recal:ALL"}, "did you mean .*recall:ALL"),
        ({"train.batch_size": [8, 16]}, {"pool": ["train.epochs"]}, "tune.pool"),
        ({"train.stages.0.schedule.name": ["constant", "cosin"]}, {}, "cosine"),
        ({"augment.rotation": [1, 2]}, {}, "rotation_degrees"),
        (
            {"train.class_weights": ["none", "balanced"], "train.oversample": ["none", "majority"]},
            {},
            "both balance",
        ),
    ],
)
def test_an_experiment_that_cannot_run_is_refused_before_anything_is_read(factors, tune, message):
    with pytest.raises(SettingsError, match=message):
        require_tune(tuned(factors, **tune))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": {"test": 0}}, "split.test"),
        ({"split": {"kind": "folds"}}, "split.test"),
        ({"split": {"validation": 0}}, "split.validation"),
        ({"members": [{"name": "one"}, {"name": "two"}]}, "leave out members"),
        ({"tune": {"factors": {"train.batch_size": [1, 2]}, "response_on": "selection"}}, "faithful"),
        (
            {"tune": {"factors": {"train.batch_size": [1, 2]}, "confirmations": 1}},
            "greater than or equal to 2",
        ),
    ],
)
def test_settings_that_would_choose_on_scored_images_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        validate(PLAIN | {"tune": {"factors": {"train.batch_size": [1, 2]}}} | changes, "here")


def test_names_are_short_where_they_can_be():
    keys = [
        "train.stages.0.epochs",
        "train.stages.1.epochs",
        "train.stages.0.optimizer.name",
        "model.backbone",
    ]
    labels = label_factors(keys)
    assert list(labels.values()) == [
        "train.stages.0.epochs",
        "train.stages.1.epochs",
        "optimizer",
        "backbone",
    ]


def test_levels_of_any_kind_fit_a_table():
    assert as_choices([1, 2.5]) == [1, 2.5]
    assert as_choices(["a", "b"]) == ["a", "b"]
    assert as_choices([None, {"shift": 0.1}]) == ["null", '{"shift": 0.1}']
    assert as_choices([True, "majority"]) == ["true", '"majority"']


@pytest.mark.parametrize("name", ["taguchi_resnet101_vote", "taguchi_resnet101_vote_faithful"])
def test_the_shipped_experiment_is_the_papers(name):
    """Rows as in Table 4 of Chen et al. 2021."""
    settings = load_settings(CONFIGS / f"{name}.yaml")
    rows = [
        (row.train.stages[0].optimizer.name, row.train.batch_size, row.train.stages[0].epochs,
         row.train.stages[0].optimizer.learning_rate)
        for row in settings_of_rows(settings)
    ]  # fmt: skip
    assert rows == [
        ("adam", 60, 8, 1e-4), ("adam", 65, 10, 1e-5), ("adam", 70, 12, 1e-6),
        ("sgdm", 60, 10, 1e-6), ("sgdm", 65, 12, 1e-4), ("sgdm", 70, 8, 1e-5),
        ("adam", 60, 12, 1e-5), ("adam", 65, 8, 1e-6), ("adam", 70, 10, 1e-4),
    ]  # fmt: skip
    assert settings.tune.repeats == 3
    assert settings.tune.confirmations == 9
    assert (settings.tune.response_on == "selection") == (settings.protocol == "faithful")
    networks = list(list_networks(settings))
    assert [network.runs for network in networks] == [3] * 9 + [9]
    assert len({network.build for network in networks}) == 1
