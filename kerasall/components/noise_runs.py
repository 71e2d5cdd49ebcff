"""What the noise runs of a designed experiment train and score on: rows, their parts, and their pixels."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerasall.components.trainer import ChainInTwo
from kerasall.components.training_step import decode_rows
from kerasall.components.transform import training_images
from kerasall.data.development import Development
from kerasall.data.pixel_cache import PixelCache, PixelChain
from kerasall.data.stratification import deal_again
from kerasall.errors import SettingsError
from kerasall.files import sha256_of_json
from kerasall.preprocessing.operations import Chain, fit_chain
from kerasall.settings import TrialSettings, TuneSettings
from kerasall.settings.factors import as_choices
from kerasall.settings.noise import NoiseRun, noise_levels, noise_run
from kerasall.taguchi.design import plan_noise


def list_noise(base: TrialSettings, tune: TuneSettings) -> list[NoiseRun]:
    """Every run of the outer array, in order; without noise one that changes nothing."""
    levels = noise_levels(base, tune)
    if not levels:
        return [NoiseRun()]
    outer = plan_noise({key: as_choices(values) for key, values in levels.items()}, (), tune.noise_array)
    runs = [noise_run(levels, row.tolist()) for row in outer.levels]
    for number, run in enumerate(runs):
        if run in runs[:number]:
            raise SettingsError(
                f"the noise runs must all differ, but {runs.index(run) + 1} and {number + 1} of tune.noise_array {outer.array} are the "
                "same, and one training would count twice: take every, or an array whose columns have as many levels as the noise"
            )
    return runs


def deal_under(data: Development, noise: NoiseRun) -> Development:
    """The rows to develop on, dealt out as a noise run says."""
    if noise.deal is None or noise.deal == data.split.seed:
        return data
    split = deal_again(data.split, noise.deal)
    part = data.examples["id"].map(split.table.set_index("id")["part"])
    return replace(data, split=split, examples=data.examples.assign(part=part))


def select_rows(
    data: Development, rows: np.ndarray, columns: Mapping[str, str], said: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Those of some rows of which a table of images says what a noise run scores.

    Args:
        data: the rows to develop on.
        rows: positions of some of them.
        columns: column -> value, of a noise run.
        said: column -> str [N], what the table says of each of the rows to develop on.

    Raises:
        SettingsError: there is no such column, or no such image.
    """
    for name, wanted in columns.items():
        if name not in said:
            raise SettingsError(
                f"tune.noise.scored.column.{name} must name a column that the Tuner is given, but it has "
                f"{', '.join(said) or 'none'}: hand it attributes=data.noise_columns(settings) in the pipeline script"
            )
        values = said[name][rows]
        if wanted not in values:
            raise SettingsError(
                f"tune.noise.scored.column.{name} must have values of scored images as levels, in every fold, but none has {wanted}: "
                f"those of {', '.join(sorted(set(data.examples['part'].to_numpy()[rows])))} have {', '.join(sorted(set(values))[:8])}"
            )
        rows = rows[values == wanted]
    return rows


@dataclass(eq=False)
class NoiseRuns:
    """The noise runs of a search.

    Attributes:
        data: the rows to develop on, as they are without noise.
        runs: of the outer array, in order; without noise one that changes nothing.
        cache_folder: gets the pixels that not all trials share.
        pixels: gives those that they do.
    """

    data: Development
    runs: Sequence[NoiseRun]
    cache_folder: Path
    pixels: Callable[[], PixelCache]
    _fitted: dict[str, Chain] = field(default_factory=dict, init=False, repr=False)
    _variants: dict[str, PixelCache] = field(default_factory=dict, init=False, repr=False)

    def of(self, number: int) -> NoiseRun:
        """The run of a number, from 1; 0 where there is no noise."""
        return self.runs[max(number - 1, 0)]

    def first_alike(self, number: int) -> int:
        """Number of the first run with the same training."""
        return [each.trained for each in self.runs].index(self.of(number).trained) + 1

    def shares_training(self, number: int) -> bool:
        """Whether a run is scored otherwise than its training, or another run has the same training."""
        noise = self.of(number)
        alike = [each.trained for each in self.runs].count(noise.trained)
        return alike > 1 or bool(noise.shift or noise.columns)

    @cached_property
    def shifts(self) -> list[list[dict[str, Any]]]:
        """What happens to scored images before the chain: nothing, then the other levels of that noise."""
        found: list[list[dict[str, Any]]] = [[]]
        for each in self.runs:
            if each.shift not in found:
                found.append(each.shift)
        return found

    def data_under(self, noise: NoiseRun) -> Development:
        """The rows to develop on, dealt out and with the chain as a noise run says: what it fits sees no image scored."""
        data = deal_under(self.data, noise)
        chain = data.stated if noise.chain is None and data is not self.data else noise.chain
        return data if chain is None else replace(data, preprocess=self._fit(chain, data).to_json())

    def _fit(
        self, chain: Sequence[Mapping[str, Any]], data: Development, before: Chain | None = None
    ) -> Chain:
        """A chain, fitted where it lacks a fit on training images, which ``before`` has changed already."""
        key = json.dumps([chain, data.split.seed, before and before.to_json()])
        if key not in self._fitted:
            sixteen_bit = data.sixteen_bit
            images = lambda: training_images(data.examples, data.limits, sixteen_bit)  # noqa: E731
            if before is None:
                self._fitted[key] = fit_chain(chain, images, sixteen_bit)
            else:
                self._fitted[key] = fit_chain(
                    chain, lambda: (before(tf.constant(image)).numpy() for image in images())
                )
        return self._fitted[key]

    def steps_of(self, settings: TrialSettings, noise: NoiseRun | None = None) -> list[dict[str, Any]]:
        """The operations after the common chain, fitted, as JSON; by default as the network is used."""
        data = self.data_under(noise or self.runs[0])
        return (
            self._fit(settings.steps, data, Chain.from_json(data.preprocess)).to_json()
            if settings.steps
            else []
        )

    def pixels_of(
        self, settings: TrialSettings, noise: NoiseRun, shift: Sequence[Mapping[str, Any]] = ()
    ) -> PixelCache:
        """Decoded images of all rows for a trial; those that not all trials share lie on disk."""
        preprocess = self.data_under(noise).preprocess
        if not (settings.steps or shift) and preprocess == self.data.preprocess:
            return self.pixels()
        chain = Chain.from_json(preprocess)
        own = Chain.from_json(self.steps_of(settings, noise))
        changed = Chain((*Chain.from_json(shift).operations, *chain.operations), chain.sixteen_bit)
        whole: PixelChain = ChainInTwo(changed, own)
        key = sha256_of_json(whole.to_json())
        if key not in self._variants:
            self._variants[key] = decode_rows(self.data, whole, self.cache_folder, 0)
        return self._variants[key]
