"""Names and values that only the rooms themselves know, checked before anything is read or trained.

The settings' own rows check kinds and ranges. Whether a metric, a backbone, a block, an operation or a schedule
exists is known to the tables of the rooms; here they are asked, so that a word mistyped in a config costs
a second and not an hour of training.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

from kerasall.data.splits import read_split
from kerasall.errors import KerasallError, SettingsError
from kerasall.evaluation.metrics import find_metric
from kerasall.models.backbones import find_block, get_backbone
from kerasall.models.weights import FOLDER_VARIABLE, resolve_weights
from kerasall.settings import (
    BackboneSettings,
    ModelSettings,
    Settings,
    SplitSettings,
    StageSettings,
    TrainSettings,
    TrialSettings,
    TuneSettings,
)
from kerasall.settings.factors import Place, apply_levels, factor_levels, find_places, trial_settings
from kerasall.settings.noise import is_trial_setting
from kerasall.settings.shipped import find_script

Check = tuple[str, Callable[[], Any]]
"""Dotted key of a setting, and what raises a KerasallError where the setting cannot be used."""

WHOLE = ("head", "all")
"""Values of ``trainable`` that name no block."""


@dataclass(frozen=True)
class Trained:
    """One network that is trained in stages.

    Attributes:
        key: dotted key of the settings it stands below, with its last dot; "" at the top.
        model, train: its own settings.
        blocks_known: False where a factor of a designed experiment exchanges the backbone, and with it
            the names of the blocks.
    """

    key: str
    model: ModelSettings
    train: TrainSettings
    blocks_known: bool = True


def check_names(settings: Settings, where: str) -> None:
    """Checks the pipeline, metrics, backbones, blocks, and what early stopping and an honest choice need.

    Loads no TensorFlow.

    Args:
        settings: of an experiment.
        where: what the message calls them, best the config's path.

    Raises:
        SettingsError: naming every wrong setting, each with the nearest known name.
    """
    script: Check = ("pipeline", partial(find_script, settings.pipeline))
    found = [*_metrics(settings), *_networks(settings), *_stages(settings), *_choices(settings)]
    _require_all([script, *found], where)


def check_arguments(settings: Settings, where: str, weights_folder: Path | None = None) -> None:
    """Checks operations, augmentation, schedules, optimizers, losses, devices and files of weights.

    Of a designed experiment every level is checked, and every two levels of different factors together: an
    orthogonal array meets them all.

    Loads TensorFlow, where the operations live. Weights that Keras would download are not looked for.

    Raises:
        SettingsError: naming every setting that cannot be used.
    """
    checks = [
        *_chains(settings),
        *_constants(settings),
        *_weights(settings, weights_folder),
        *_parts(settings),
    ]
    _require_all(checks, where)
    if settings.tune:
        _require_all([("tune.factors", partial(_require_pairs, settings, settings.tune))], where)


def _require_all(checks: list[Check], where: str) -> None:
    wrong = []
    for key, check in checks:
        try:
            check()
        except KerasallError as error:
            wrong.append(f"{key}: {error}")
    if wrong:
        lines = "\n  ".join(dict.fromkeys(wrong))
        raise SettingsError(f"{where} must hold settings that can be used, but:\n  {lines}")


def _metrics(settings: Settings) -> Iterator[Check]:
    for place in _places(settings, "evaluate.main_metric", "evaluate.metrics.*", "tune.response"):
        name = place.value
        # The classes are known once the data are read; the ExampleValidator asks for them again.
        yield place.key, partial(find_metric, name, [name.partition(":")[2]] if ":" in name else [])


def _networks(settings: Settings) -> Iterator[Check]:
    for key, row in list_backbones(settings):
        yield f"{key}.backbone", partial(get_backbone, row.backbone)


def _places(settings: Settings, *keys: str) -> list[Place]:
    return [place for key in keys for place in find_places(settings, key)]


def list_backbones(settings: Settings) -> list[tuple[str, BackboneSettings | ModelSettings]]:
    """Key and row of every backbone."""
    frozen = _places(settings, "deep_features.extractors.*", "sweep.backbones.*")
    rows = [(place.key, place.value) for place in frozen]
    return rows or [(f"{each.key}model", each.model) for each in _trained(settings)]


def _trained(settings: Settings) -> Iterator[Trained]:
    if settings.deep_features or settings.sweep:
        return
    for place in _places(settings, "members.*"):
        yield Trained(f"{place.key}.", place.value.model, place.value.training(settings.train))
    if settings.members:
        return
    factors = settings.tune.factors if settings.tune else {}
    exchanged = any(name.startswith("model.backbone") for name in factors)
    for key, trial in _trials(settings):
        yield Trained(key, trial.model, trial.train, not exchanged)


def _trials(settings: Settings) -> Iterator[tuple[str, TrialSettings]]:
    """The one model's settings, and those with every single level of a designed experiment."""
    base = trial_settings(settings)
    yield "", base
    for name, levels in (settings.tune.factors if settings.tune else {}).items():
        for level in levels:
            yield f"tune.factors.{name} = {level}: ", apply_levels(base, {name: level})
    for name, levels in (settings.tune.noise if settings.tune else {}).items():
        for level in levels if is_trial_setting(name) else ():
            yield f"tune.noise.{name} = {level}: ", apply_levels(base, {name: level})


def _stages(settings: Settings) -> Iterator[Check]:
    for each in _trained(settings):
        for i, stage in enumerate(each.train.stages):
            key = f"{each.key}train.stages.{i}"
            if each.blocks_known and stage.trainable not in WHOLE:
                yield f"{key}.trainable", partial(_require_block, each.model.backbone, stage.trainable)
            if stage.patience is not None:
                yield f"{key}.patience", partial(_require_validation, settings.split, stage.patience)


def _require_block(backbone: str, block: str) -> None:
    try:
        row = get_backbone(backbone)
    except SettingsError:
        return  # told once, with the backbone
    find_block(row, block)


def _require_validation(split: SplitSettings, patience: int) -> None:
    folds = split.kind in ("folds", "official_folds")
    # Which parts the data bring is seen once they are read; without a validation part Transform draws one.
    decided = bool(split.has_validation or split.has_selection or split.kind == "given")
    if split.file:
        drawn = read_split(split.file)
        folds = bool(drawn.folds)
        decided = "validation" in drawn.parts or "selection" in drawn.parts
    if folds and not split.inner_validation:
        raise SettingsError(
            f"patience {patience} needs images that decide when to stop, but split.inner_validation is 0: set it "
            "above 0, or patience to null"
        )
    if not folds and not decided:
        raise SettingsError(
            f"patience {patience} needs images that decide when to stop, but the split has no validation part: set "
            "split.validation above 0, or patience to null"
        )


def _choices(settings: Settings) -> Iterator[Check]:
    if settings.split.file and settings.protocol == "honest" and settings.choosing:
        yield "split.file", partial(_require_test_part, settings.split.file, settings.choosing)


def _require_test_part(split_file: str, choosing: tuple[str, ...]) -> None:
    parts = read_split(split_file).parts
    if "test" not in parts:
        named = [f"{name}.chosen" for name in choosing if name != "tune"]
        raise SettingsError(
            f"{choosing[0]} keeps the best of several models, so the split must have a test part, but that of "
            f"{split_file} has only {', '.join(parts)}: the best would be scored on the images it was chosen on. "
            f"Use a split with a test part{f', or name what is exported in {named[0]}' if named else ''}"
        )


def _chains(settings: Settings) -> Iterator[Check]:
    from kerasall.preprocessing.augmentation import Augmentation
    from kerasall.preprocessing.operations import check_steps

    common = list(settings.preprocess)
    own = _places(settings, "members.*.steps", "deep_features.extractors.*.steps")
    if not own or not all(place.value for place in own):
        yield "preprocess", partial(check_steps, common)
    for place in own:
        yield place.key, partial(check_steps, [*common, *place.value])
    for key, trial in _trials(settings):
        if trial.steps:
            yield f"{key}steps", partial(check_steps, [*common, *trial.steps])
        if trial.augment is not None:
            yield f"{key}augment", partial(Augmentation.from_json, trial.augment)


def _constants(settings: Settings) -> Iterator[Check]:
    from kerasall.models.base import HeadSettings
    from kerasall.training.devices import choose_devices

    trained = list(_trained(settings))
    if settings.sweep:
        trained = [Trained("", settings.model, settings.train)]
        for place in _places(settings, "sweep.optimizers.*"):
            stage = settings.train.stages[0].model_copy(update={"optimizer": place.value})
            yield place.key, partial(_make_constants, stage, settings.train)
    for each in trained:
        for i, stage in enumerate(each.train.stages):
            yield f"{each.key}train.stages.{i}", partial(_make_constants, stage, each.train)
        yield f"{each.key}train.devices", partial(choose_devices, each.train.devices)
        head = each.model.head
        yield f"{each.key}model.head", partial(HeadSettings, head.dense, head.dropout)


def _parts(settings: Settings) -> Iterator[Check]:
    """Names that layers of the exported model bear: found here, not when all is trained."""
    from kerasall.models.deep_features import RESERVED
    from kerasall.models.ensembles import require_own_names

    members = [member.name for member in settings.members]
    yield "members", partial(require_own_names, "member", members)
    for place in _places(settings, "deep_features.extractors.*"):
        yield f"{place.key}.name", partial(require_own_names, "extractor", [place.value.name], RESERVED)


def _make_constants(stage: StageSettings, train: TrainSettings) -> None:
    """Makes the stage's schedule, optimizer and loss once, as the training will."""
    from kerasall.training.optimizers import make_loss, make_optimizer
    from kerasall.training.schedules import make_schedule

    constants = dict(stage.schedule)
    schedule = constants.pop("name", "constant")
    make_schedule(schedule, stage.optimizer.learning_rate, 1, stage.epochs, **constants)
    others: dict[str, Any] = dict(stage.optimizer.own_constants)
    make_optimizer(stage.optimizer.name, stage.optimizer.learning_rate, train.accumulate, **others)
    make_loss(train.loss, **({"label_smoothing": train.label_smoothing} if train.label_smoothing else {}))


def _require_pairs(settings: Settings, tune: TuneSettings) -> None:
    """Every two levels of different factors must go together, as a schedule's least and highest rate."""
    base, done = trial_settings(settings), set[str]()
    levels = {
        name: [level for level in values if level not in tune.without.get(name, ())]
        for name, values in factor_levels(base, tune.factors).items()
    }
    for (one, these), (two, those) in combinations(levels.items(), 2):
        for this, that in product(these, those):
            try:
                train = apply_levels(base, {one: this, two: that}).train
                for stage in train.stages:
                    key = f"{stage.model_dump_json()} {train.accumulate} {train.loss} {train.label_smoothing}"
                    if key not in done:
                        _make_constants(stage, train)
                        done.add(key)
            except SettingsError as error:
                raise SettingsError(
                    f"{one} = {this} must go together with {two} = {that}, but: {error}"
                ) from None


def _weights(settings: Settings, folder: Path | None) -> Iterator[Check]:
    here = folder is not None or bool(os.environ.get(FOLDER_VARIABLE))
    for key, row in list_backbones(settings):
        if row.weights != "random" and (here or row.weights != "imagenet"):
            backbone = get_backbone(row.backbone)
            yield f"{key}.weights", partial(resolve_weights, backbone, row.alpha, row.weights, folder)
