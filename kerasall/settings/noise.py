"""What an experiment varies as noise: settings by their keys, and how the scored images are changed or divided.

    model.*, augment.*, train.*, steps    as a factor would
    seed                                  of a trial's training: the same in all rows; new for the confirmation
    split.seed                            deals the images to develop on anew; the test part stays as it is
    preprocess                            the whole chain, in training and scoring, as another size of the images
    scored.preprocess                     operations before the chain, on scored images alone: another stain or scanner
    scored.column.NAME                    only images are scored of which column NAME of their table holds the level; the columns
                                          are those of evaluate.subgroups

The last two need no training of their own. A network is used under the first level of every noise. Other data (``data.*``)
are refused: split by themselves, their images to choose on may show patients of the first data's test part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kerasall.errors import SettingsError
from kerasall.settings.factors import factor_levels
from kerasall.settings.systems import TrialSettings, TuneSettings

SEED, DEAL, CHAIN = "seed", "split.seed", "preprocess"
SHIFT, COLUMN = "scored.preprocess", "scored.column."
_OWN = {
    SEED: "whole numbers from 0",
    DEAL: "whole numbers from 0",
    CHAIN: "chains, each a list of operations",
    SHIFT: "lists of operations, the first of them [] (nothing)",
}
"""Keys that are no settings of a trial -> what their levels must be."""

_OTHER_DATA = (
    "tune.noise must not name other data, but names {key}: each set of data is split by itself, so that images by which settings "
    "are chosen on one may show patients of the other's test part. List the images of both in one table and divide what is scored "
    "by its column (scored.column.NAME), or tune on each and give the responses to `kerasall taguchi analyze`, with a column noise:data"
)


@dataclass(frozen=True)
class NoiseRun:
    """One run of the outer array, in the terms of a trial.

    Attributes:
        settings: key of a trial's setting -> value.
        seed: of the training; None for the trial's own.
        deal: seed by which the images to develop on are dealt out; None as they were.
        chain: operations in place of ``preprocess``; None for these.
        shift: operations on scored images before the chain.
        columns: column -> value that scored images must have.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    deal: int | None = None
    chain: list[dict[str, Any]] | None = None
    shift: list[dict[str, Any]] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)

    @property
    def trained(self) -> list[Any]:
        """What of it a training depends on."""
        return [self.settings, self.seed, self.deal, self.chain]


def is_scored_alone(key: str) -> bool:
    """Whether a noise changes nothing but how trained networks are scored."""
    return key == SHIFT or key.startswith(COLUMN)


def list_columns(tune: TuneSettings | None) -> list[str]:
    """Columns of a table of images by which noise divides those that are scored."""
    return [key.removeprefix(COLUMN) for key in (tune.noise if tune else ()) if key.startswith(COLUMN)]


def is_trial_setting(key: str) -> bool:
    """Whether a noise is a setting that a trial reads, as a factor is."""
    return key not in _OWN and not is_scored_alone(key)


def noise_levels(base: TrialSettings, tune: TuneSettings) -> dict[str, tuple[Any, ...]]:
    """Every noise factor's levels as the settings read them; those that need no training first, so that they vary slowest.

    Raises:
        SettingsError: a key names no setting, is a factor too, or a level does not fit it.
    """
    if data := [key for key in tune.noise if key.startswith("data.")]:
        raise SettingsError(_OTHER_DATA.format(key=data[0]))
    own = {key: levels for key, levels in tune.noise.items() if is_trial_setting(key)}
    if both := sorted({*tune.factors} & {*tune.noise}):
        raise SettingsError(
            f"a noise factor must not be a setting that is sought, but tune.factors and tune.noise both name {both[0]}: leave it "
            "out of one of them"
        )
    read = factor_levels(base, {**tune.factors, **own})  # the factors too: none may set what a noise sets
    found = {key: read[key] if key in own else _check_own(key, levels) for key, levels in tune.noise.items()}
    return dict(sorted(found.items(), key=lambda item: not is_scored_alone(item[0])))


def _check_own(key: str, levels: Sequence[Any]) -> tuple[Any, ...]:
    if key.startswith(COLUMN):
        if all(isinstance(level, str | int | float) and not isinstance(level, bool) for level in levels):
            return tuple(str(level) for level in levels)
        raise SettingsError(
            f"the levels of tune.noise.{key} must be values of that column, but are {list(levels)}"
        )
    if key in (SEED, DEAL):
        fits = all(isinstance(level, int) and not isinstance(level, bool) and level >= 0 for level in levels)
    else:
        fits = all(
            isinstance(level, list | tuple) and all(isinstance(s, Mapping) for s in level) for level in levels
        )
        fits = fits and (key != SHIFT or not levels[0])
    if not fits:
        raise SettingsError(
            f"the levels of tune.noise.{key} must be {_OWN[key]}, but are {list(levels)}: correct them"
        )
    return tuple(levels)


def noise_run(levels: Mapping[str, Sequence[Any]], numbers: Sequence[int]) -> NoiseRun:
    """The run at some level numbers, from 1; a column of the outer array may repeat a factor's first levels.

    Args:
        levels: as ``noise_levels`` gives them.
        numbers: of every noise factor's level.
    """
    at = {
        key: values[(number - 1) % len(values)]
        for (key, values), number in zip(levels.items(), numbers, strict=True)
    }
    return NoiseRun(
        settings={key: value for key, value in at.items() if is_trial_setting(key)},
        seed=at.get(SEED),
        deal=at.get(DEAL),
        chain=None if CHAIN not in at else list(at[CHAIN]),
        shift=list(at.get(SHIFT, ())),
        columns={key.removeprefix(COLUMN): value for key, value in at.items() if key.startswith(COLUMN)},
    )
