"""What an experiment will cost before it is run: parameters, steps, memory and time of every network.

Each network is built in a process of its own, so that the largest one alone must fit into memory.
With ``smoke`` one training step of every stage is run at batch 2 on random pixels; times follow from
it, scaled by the number of images. Memory is an estimate from the sizes of the layers' outputs.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasall.errors import KerasallError
from kerasall.report.format import align_rows
from kerasall.settings import ModelSettings, Settings, StageSettings, TrainSettings
from kerasall.shown_text import tell
from kerasall.studies.planned_fits import Fit, plan_features, plan_fits

if TYPE_CHECKING:
    from kerasall.data.development import Development

SMOKE_BATCH = 2
_KEPT = 1.0
"""Outputs kept for the backward pass, per output of a trained layer: compared with the peak memory of
real steps (ResNet101 at 224 px, batch 65: 10 GiB; NASNetLarge at 331 px, batch 16: 14 GiB)."""


@dataclass(frozen=True)
class Network:
    """One network that an experiment trains or passes images through: its ``fits``; none where nobody can tell."""

    name: str
    model: ModelSettings
    train: TrainSettings
    size: tuple[int, int]
    classes: int
    fits: tuple[Fit, ...] = ()

    @property
    def runs(self) -> int:
        """How often it is trained, or passed."""
        return sum(fit.runs for fit in self.fits)

    @property
    def build(self) -> tuple[Any, ...]:
        """What makes it another network: equal ones need to be built once."""
        return self.model.model_dump_json(), self.size, self.classes


@dataclass(frozen=True)
class StagePlan:
    """What one stage of one network costs.

    Attributes:
        network, stage: that are trained.
        parameters, trainable: numbers of weights.
        steps: per epoch, of every fit; empty where the number of images is not known.
        memory_gib: estimated peak at the full batch.
        step_seconds: measured at batch 2, or None.
    """

    network: Network
    stage: StageSettings
    parameters: int
    trainable: int
    steps: tuple[int, ...]
    memory_gib: float
    step_seconds: float | None

    @property
    def all_steps(self) -> int | None:
        """Of all epochs of all runs, at most: patience may end a stage sooner. None where no image is known."""
        if not self.steps:
            return None
        runs = (fit.runs for fit in self.network.fits)
        return self.stage.epochs * sum(count * steps for count, steps in zip(runs, self.steps, strict=True))

    @property
    def hours(self) -> float | None:
        """Estimated for all steps; None where no step was measured or no image is known."""
        if self.step_seconds is None or self.all_steps is None:
            return None
        return self.step_seconds / SMOKE_BATCH * self.network.train.batch_size * self.all_steps / 3600


def plan_experiment(
    settings: Settings, data: Development | None = None, smoke: bool = False
) -> list[StagePlan]:
    """Builds every network of an experiment, one at a time, and says what its stages cost.

    Args:
        settings: of the experiment; weights are not read: sizes and speeds do not depend on them.
        data: what is developed on; None where it is not known.
        smoke: whether to run one training step of every stage at batch 2.

    Raises:
        KerasallError: a network cannot be built or cannot make a step; the message names it.
    """
    networks = list(list_networks(settings, data))
    alike: dict[tuple[Any, ...], list[Network]] = {}
    for network in networks:
        alike.setdefault(network.build, []).append(network)
    plans: dict[str, list[StagePlan]] = {}
    for same in alike.values():
        tell(f"building {', '.join(network.name for network in same)} ...")
        with multiprocessing.get_context("spawn").Pool(1, initializer=_quiet) as pool:
            plans |= pool.apply(plan_alike, (same, smoke))
    return [plan for network in networks for plan in plans[network.name]]


def list_networks(settings: Settings, data: Development | None = None) -> Iterator[Network]:
    """Every network the experiment trains, or takes features from, once; arguments as ``plan_experiment``."""
    from kerasall.preprocessing.operations import Chain

    def size_after(steps: tuple[dict[str, Any], ...]) -> tuple[int, int]:
        return Chain.from_json([*settings.preprocess, *steps]).output_size

    classes = len(data.facts.labels) if data else max(2, len(settings.data.malignant or ()) + 1)
    if settings.members:
        for member in settings.members:
            train = member.training(settings.train)
            fits = plan_fits(settings, data, train)
            yield Network(member.name, member.model, train, size_after(member.steps), classes, fits)
    elif settings.deep_features:
        for extractor in settings.deep_features.extractors:
            model = ModelSettings(backbone=extractor.backbone, alpha=extractor.alpha)
            train = TrainSettings(stages=(StageSettings(name="features", epochs=1),))
            fits = plan_features(settings, data)
            yield Network(extractor.name, model, train, size_after(extractor.steps), classes, fits)
    elif settings.sweep:
        for backbone in settings.sweep.backbones:
            model = settings.model.model_copy(update={"backbone": backbone.backbone, "alpha": backbone.alpha})
            longest = StageSettings(name="head", epochs=max(settings.sweep.epochs))
            train = settings.train.model_copy(update={"stages": (longest,)})
            fits = plan_fits(
                settings, data, train, compared=True, runs=len(settings.sweep.optimizers), finals=0
            )
            yield Network(backbone.name, model, train, size_after(()), classes, fits)
    elif settings.tune:
        yield from _list_trials(settings, data, size_after(()), classes)
    else:
        fits = plan_fits(settings, data, settings.train)
        yield Network(settings.model.backbone, settings.model, settings.train, size_after(()), classes, fits)


def _list_trials(
    settings: Settings, data: Development | None, size: tuple[int, int], classes: int
) -> Iterator[Network]:
    """One network a row of the array; the confirmation runs as long as the longest row, at most."""
    from kerasall.components.noise_runs import list_noise
    from kerasall.components.tuner import settings_of_rows
    from kerasall.settings.factors import trial_settings

    assert settings.tune is not None
    tune = settings.tune
    rows = settings_of_rows(settings)
    # Noise that changes nothing but how a network is scored needs no training of its own.
    trained = len({json.dumps(run.trained) for run in list_noise(trial_settings(settings), tune)})
    for number, row in enumerate(rows, start=1):
        fits = plan_fits(settings, data, row.train, runs=tune.repeats * trained, finals=0)
        yield Network(f"row {number}", row.model, row.train, size, classes, fits)
    longest = max(rows, key=lambda row: sum(stage.epochs for stage in row.train.stages))
    runs = tune.confirmations * trained
    fits = plan_fits(settings, data, longest.train, runs=runs, finals=tune.confirmations)
    yield Network("confirmation", longest.model, longest.train, size, classes, fits)


def plan_alike(networks: list[Network], smoke: bool) -> dict[str, list[StagePlan]]:
    """Plans networks that differ in nothing but their training; builds one, times each kind of step once."""
    from kerasall.models.base import HeadSettings
    from kerasall.models.classifier import build_classifier, freeze

    first = networks[0]
    head = HeadSettings(**first.model.head.model_dump())
    model = build_classifier(
        first.model.backbone, first.classes, first.size, head, weights="random", alpha=first.model.alpha
    )
    plans: dict[str, list[StagePlan]] = {network.name: [] for network in networks}
    timed: dict[tuple[str, bool], float] = {}
    for network in networks:
        for stage in network.train.stages:
            kind = (stage.trainable, stage.train_batch_norm)
            block = None if stage.trainable == "head" else stage.trainable
            freeze(model, block, train_batch_norm=stage.train_batch_norm)
            if smoke and kind not in timed:
                timed[kind] = _time_step(model, stage, network)
            batch = network.train.batch_size
            plan = StagePlan(
                network, stage, model.count_params(),
                trainable=sum(math.prod(variable.shape) for variable in model.trainable_variables),
                steps=tuple(steps for fit in network.fits if (steps := fit.steps(batch)) is not None),
                memory_gib=estimate_memory(model, -(-batch // network.train.accumulate)) / 2**30,
                step_seconds=timed.get(kind),
            )  # fmt: skip
            plans[network.name].append(plan)
    return plans


def estimate_memory(model: Any, batch: int) -> float:
    """Bytes at the peak of a training step: kept outputs of trained layers, the largest of the others, weights."""
    from kerasall.models.classifier import find_parts

    backbone = find_parts(model).backbone
    trained = False
    kept = largest = 0
    for layer in backbone.layers:
        tensors = layer.output if isinstance(layer.output, list | tuple) else [layer.output]
        outputs = 4 * batch * sum(math.prod(tensor.shape[1:]) for tensor in tensors)
        trained = trained or bool(layer.trainable_variables)
        largest = max(largest, outputs)
        kept += outputs if trained else 0
    weights = 4 * sum(math.prod(variable.shape) for variable in model.weights)
    moving = 4 * 3 * sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return _KEPT * kept + 3 * largest + weights + moving


def _time_step(model: Any, stage: StageSettings, network: Network) -> float:
    """Seconds of one training step at batch 2; the first, which traces the graph, is not counted."""
    import keras
    import numpy as np

    from kerasall.training.stages import choose_jit

    model.compile(
        optimizer=keras.optimizers.Adam(1e-4), loss="categorical_crossentropy", jit_compile=choose_jit()
    )
    pixels = np.random.default_rng(0).integers(0, 256, (SMOKE_BATCH, *network.size, 3)).astype(np.float32)
    targets = np.eye(network.classes, dtype=np.float32)[np.arange(SMOKE_BATCH) % network.classes]
    loss = model.train_on_batch(pixels, targets)
    if not np.isfinite(np.asarray(loss)).all():
        raise KerasallError(
            f"{network.name}: one step of stage {stage.name} must give a finite loss, but gives {loss}"
        )
    begun = time.perf_counter()
    model.train_on_batch(pixels, targets)
    return time.perf_counter() - begun


def _quiet() -> None:
    from kerasall.runtime import quiet_tensorflow

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever waits for this process ends it
    with quiet_tensorflow():
        pass


def format_plan(plans: list[StagePlan]) -> str:
    """The plan as a table for the terminal."""
    rows = [
        ("network", "stage", "size", "parameters", "trained", "batch", "epochs", "runs", "steps/epoch", "steps",
         "memory", "step at 2", "hours"),
        *map(_cells, plans),
    ]  # fmt: skip
    return "\n".join(align_rows(rows, [False] * 2 + [True] * 11))


def _cells(plan: StagePlan) -> tuple[str, ...]:
    network, seconds, hours = plan.network, plan.step_seconds, plan.hours
    height, width = network.size
    return (
        network.name, plan.stage.name, f"{height}x{width}", f"{plan.parameters:,}", f"{plan.trainable:,}",
        str(network.train.batch_size), str(plan.stage.epochs), str(network.runs or "?"),
        "-".join(f"{steps:,}" for steps in sorted({min(plan.steps), max(plan.steps)})) if plan.steps else "?",
        "?" if plan.all_steps is None else f"{plan.all_steps:,}", f"{plan.memory_gib:.1f} GiB",
        "-" if seconds is None else f"{seconds:.2f} s", "-" if hours is None else f"{hours:.1f}",
    )  # fmt: skip
