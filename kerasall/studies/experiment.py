"""Running one experiment: a config, the pipeline script it names, and the places on this machine.

Scripts use this as ``kerasall.run_experiment("demo")``; the command line does the same.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from kerasall.errors import SettingsError
from kerasall.files import require_readable, require_room, require_writable
from kerasall.paths import require_lasting, runs_folder, savedmodels_folder, weights_folder
from kerasall.pipeline.artifacts import sweep_leftovers
from kerasall.pipeline.component import Pipeline
from kerasall.pipeline.runner import RunPlaces, run_pipeline
from kerasall.settings import Settings
from kerasall.settings.loading import dump_settings, load_settings
from kerasall.settings.shipped import find_script, is_script
from kerasall.settings.yaml_text import write_line
from kerasall.shown_text import tell
from kerasall.studies.door import NEEDED_BYTES, ask_at_door
from kerasall.studies.finished_run import Run
from kerasall.studies.run_names import claim_run, describe_name, find_run
from kerasall.studies.setting_checks import check_arguments, check_names

BUILDER = "build_pipeline"
"""Name of the function that a pipeline script must define: (settings, places) -> Pipeline."""

_TRAINS = {
    "tune": ("Tuner", "taguchi_resnet101_vote"),
    "members": ("Ensembler", "weighted_ensemble"),
    "deep_features": ("FeatureTrainer", "deep_features_svm"),
    "sweep": ("SweepTrainer", "optimizer_sweep"),
}
"""Setting -> the step that reads it, and a shipped pipeline that has it: what a config states must not be passed over."""


@dataclass(frozen=True)
class Places:
    """Where a run may read and write on this machine. Nothing here changes a result.

    Attributes:
        cache: decoded pixels, activations, rendered images; may be deleted at any time.
        savedmodels: pushed models.
        weights: pretrained weights, or None for Keras' own download.
        command: the command line, for the report.
        force: push a model that was not blessed.
        workers: processes that run the trials of a designed experiment; 0: this one, or one for each core of ``cluster``.
        cluster: the Ray cluster that they are started on; "": this machine.
        name: of the run, and of the model that it pushes; "": the experiment's.
    """

    cache: Path
    savedmodels: Path
    weights: Path | None = None
    command: str = ""
    force: bool = False
    workers: int = 0
    cluster: str = ""
    name: str = ""


def run_experiment(
    config: str | Path, *, data: str | Path | None = None, weights: str | Path | None = None,
    overrides: Sequence[str] = (), name: str | None = None, force: bool = False, workers: int = 0, cluster: str = "",
    say: Callable[[str], None] = tell,
) -> Run:  # fmt: skip
    """Runs an experiment, or goes on with it, or finds that all of it is at hand.

    Example:
        >>> result = kerasall.run_experiment("tiny.yaml", overrides=["train.batch_size=8"])
        >>> result.score.metric, 0 <= result.score.low <= result.score.value <= result.score.high <= 1
        ('accuracy', True)
        >>> result.missed <= result.scores.malignant_images
        True
        >>> result.blessed, result.saved_model  # not blessed, so nothing was pushed
        (False, None)
        >>> result.report.name, result.exported.name
        ('report.html', 'model')

    Args:
        config: YAML file, or the name of a config that comes with kerasall.
        data: overrides ``data.path``.
        weights: folder of pretrained weights; default ``KERASALL_WEIGHTS``, else Keras' download.
        overrides: ``key=value`` with dotted keys.
        name: name of the run and of the model it pushes; default the experiment's, and where a run of that name
            has other data, ``NAME-2``, ``NAME-3``, ...
        force: push the model even if the Evaluator does not bless it; its card says so.
        workers: processes that run the trials of a designed experiment; 0: this one, or one for each core of ``cluster``.
        cluster: the Ray cluster that they are started on, ``auto`` or ``HOST:PORT``; "": this machine.
        say: receives one line per step; standard error by default.

    Returns:
        The run: its scores and counts as numbers, where things lie as paths.

    Raises:
        KerasallError: a setting, the data or the disk does not allow the run; the message says the cure.
    """
    settings, runs, weights = settle(config, data=data, weights=weights, overrides=overrides, name=name)
    models = savedmodels_folder()
    ask_at_door(settings, str(config), runs.name, runs=runs.root, savedmodels=models, weights=weights)
    check_arguments(settings, str(config), weights)
    runs = claim_run(runs.root, settings, name, command_line())
    if line := describe_name(runs, settings, name):
        say(line)
    places = Places(runs.root / "cache", models, weights, command_line(), force, workers, cluster, runs.name)
    for line in sweep_leftovers(runs.artifacts, (runs.root, places.savedmodels)):
        say(line)
    pipeline = load_pipeline(settings, places)
    before = Run.read(runs.folder)
    run_pipeline(
        pipeline, runs, experiment=settings.experiment, settings=settings.model_dump(mode="json"),
        command=places.command, say=say, texts={"settings.yaml": dump_settings(settings)},
    )  # fmt: skip
    after = Run.read(runs.folder)
    if line := _describe_other_images(before, after):
        say(line)
    return after


def _describe_other_images(before: Run, after: Run) -> str:
    """A line where a run's images have changed in their place, and with them its report; "" where they have not."""
    if before.numbers_fault:
        return ""
    was, now = ((run.numbers.get("results") or {}).get("fingerprint") for run in (before, after))
    if was is None or now is None or was == now:
        return ""
    kept = [o["path"] for o in before.outputs if o.get("type") == "Report" and Path(o["path"]).is_dir()]
    return (
        f"the images are others than when {after.name} was run before: its report is now of these"
        f"{f'; the one before is kept in {kept[-1]}' if kept else ''}; to keep both, give --name to the next"
    )


def require_runnable(settings: Settings, where: str, runs: RunPlaces, weights: Path | None = None) -> None:
    """What a run refuses in its settings before it reads a pixel, for whoever only plans it. Loads TensorFlow.

    Args:
        settings: of the experiment.
        where: what messages call them.
        runs, weights: as ``settle`` gave them.

    Raises:
        SettingsError: a constant cannot be used, or the pipeline passes over what is stated.
    """
    check_arguments(settings, where, weights)
    load_pipeline(settings, Places(runs.root / "cache", savedmodels_folder(), weights, name=runs.name))


def settle(
    config: str | Path, *, data: str | Path | None = None, weights: str | Path | None = None,
    overrides: Sequence[str] = (), name: str | None = None, writes: bool = True,
) -> tuple[Settings, RunPlaces, Path | None]:  # fmt: skip
    """Settings, places of the run and the weights folder; nothing is written yet.

    Args:
        config, data, weights, overrides, name: as ``run_experiment``.
        writes: whether something will be; then it must be possible.

    Raises:
        KerasallError: as ``run_experiment``.
    """
    if data is not None:
        overrides = (*overrides, f"data.path={write_line(str(Path(data).expanduser().absolute()))}")
    settings = load_settings(config, overrides)
    check_names(settings, str(config))
    runs = find_run(runs_folder(), settings, name)
    if settings.data.path:
        require_lasting(settings.data.path, "data.path")
        require_readable(settings.data.path, "the data", "correct data.path or --data, or the rights")
    if writes:
        for folder, what, variable in (
            (runs.root, "the runs folder", "KERASALL_RUNS"),
            (savedmodels_folder(), "the folder of pushed models", "KERASALL_SAVEDMODELS"),
        ):
            require_writable(folder, what, f"set {variable} to a folder that is, or work in another folder")
        require_room(runs.root, NEEDED_BYTES, "caches, checkpoints and exports")
    return settings, runs, weights_folder(weights)


def load_pipeline(settings: Settings, places: Places) -> Pipeline:
    """Builds the pipeline that ``settings.pipeline`` names.

    Raises:
        SettingsError: the script is missing, does not define ``build_pipeline``, or leaves undone what the config
            states.
    """
    module = _load_script(find_script(settings.pipeline))
    builder = getattr(module, BUILDER, None)
    if builder is None:
        raise SettingsError(f"{settings.pipeline} must define {BUILDER}(settings, places), but does not")
    pipeline = builder(settings, places)
    made = {step.component.name for step in pipeline.steps}
    for name, (step, shipped) in _TRAINS.items():
        # A script of one's own may train members by steps of its own.
        passed_over = step not in made and (name == "tune" or not is_script(settings.pipeline))
        if passed_over and getattr(settings, name):
            raise SettingsError(
                f"the pipeline {settings.pipeline} must have the step {step}, because the config states {name}, but has "
                f"none: take `pipeline: {shipped}`, or leave {name} out"
            )
    return pipeline


def command_line() -> str:
    """The command this process was started with."""
    program, *arguments = sys.argv
    name = Path(program).name
    if name == "kerasall":
        started = [name]
    elif name == "__main__.py":
        started = ["python", "-m", "kerasall"]
    else:
        started = ["python", os.path.relpath(program or "-")]
    return shlex.join([*started, *arguments])


def _load_script(path: Path) -> ModuleType:
    name = f"kerasall_pipeline_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that a component defined in the script has a source to be keyed by
    spec.loader.exec_module(module)
    return module
