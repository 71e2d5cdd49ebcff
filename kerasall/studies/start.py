"""From images to a model in one call: look at them, ask what cannot be seen, write a config, run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kerasall.errors import SettingsError
from kerasall.paths import runs_folder, savedmodels_folder, weights_folder
from kerasall.runtime import quiet_tensorflow
from kerasall.shown_text import tell
from kerasall.studies.door import ask_at_door, list_questions
from kerasall.studies.draft import Stated, adopt_config, draft_config, has_gpu, write_draft
from kerasall.studies.experiment import run_experiment
from kerasall.studies.finished_run import Run


def train(
    path: str | Path, malignant: str | Sequence[str] = (), *, subject: str | None = None, label: str | None = None,
    columns: Mapping[str, str] | None = None, source: str = "auto", preset: str = "auto",
    weights: str | Path | None = None, name: str | None = None, overrides: Sequence[str] = (), force: bool = False,
    spell: Callable[[Path], str] = lambda config: f"kerasall run {config}",
    say: Callable[[str], None] = tell,
) -> Run:  # fmt: skip
    """Trains a classifier of a lab's own images, without a config, as ``kerasall train`` does.

    Example:
        >>> small = ["train.stages.0.epochs=2", "preprocess=[{op: resize, height: 32, width: 32}]", "model={alpha: 0.25, weights: random}"]
        >>> run = kerasall.train("grown", "all", name="grown_all", overrides=[*small, "split.folds=2"])
        >>> run.score.metric, run.scored, run.missed <= 24
        ('balanced_accuracy', 'out-of-fold', True)

    Args:
        path: folder or table of images.
        malignant: the classes that mean leukaemia, one name or several.
        subject, label, columns, source: how the images are read, as the settings ``data`` of these names; what is
            not given is found out.
        preset: ``quick``, ``standard``, ``fine_tune``, or ``auto``: by images, device and weights at hand.
        weights: folder of pretrained weights; default ``KERASALL_WEIGHTS``, else Keras' download.
        name: of the experiment, its run and its model; default from the path.
        overrides: ``key=value`` of any setting, with dotted keys.
        force: push the model even if it is not blessed; its card says so.
        spell: gives the command that runs the config again, for the config's head.
        say: receives one line per step; standard error by default.

    Returns:
        The run. The config it was made by is ``NAME.yaml`` in the working folder; the same call goes on with it.

    Raises:
        KerasallError: something must be known before any pixel is read, or the data or settings do not allow the
            run; the message says every cure.
    """
    words = (malignant,) if isinstance(malignant, str) else tuple(malignant)
    stated = Stated(words, subject, label, columns, preset, source, tuple(overrides))
    folder = weights_folder(weights)
    draft = draft_config(Path(path), stated, name=name, weights=folder, gpu=has_gpu())
    for line in (*draft.describe(), draft.describe_cost()):
        say(line)
    where, runs, models = f"what is said of {path}", runs_folder(), savedmodels_folder()
    ask_at_door(draft.settings, where, draft.name, runs=runs, savedmodels=models, weights=folder)
    if draft.questions:  # of sources that the door does not ask
        raise SettingsError(list_questions(draft.questions, where))
    file = Path(f"{draft.name}.yaml")
    known = adopt_config(draft, file, stated, spell(file))
    if not known:
        write_draft(draft, file, spell(file))
    say(f"config: {file}, {'as it lies there' if known else 'to change and to run again'}: {spell(file)}")
    with quiet_tensorflow():
        return run_experiment(file, weights=weights, force=force, say=say)
