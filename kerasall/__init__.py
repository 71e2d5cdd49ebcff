"""kerasall: train, compare, trust and serve image classifiers for acute lymphoblastic leukaemia.

The names below are what a script needs; each is imported when it is first used, so that importing the package, like
:mod:`kerasall.evaluation` or the Taguchi arrays and analysis, loads no TensorFlow. Research use only: nothing here is a
diagnostic device.
"""

from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING

from kerasall.version import __version__

if TYPE_CHECKING:
    from kerasall.errors import KerasallError
    from kerasall.evaluation.predictions import Predictions, read_predictions
    from kerasall.evaluation.scores import intervals, score
    from kerasall.models.classifier import build_classifier
    from kerasall.models.ensembles import build_ensemble
    from kerasall.models.explanation import explain
    from kerasall.preprocessing.operations import Chain
    from kerasall.settings import Settings
    from kerasall.settings.loading import load_settings
    from kerasall.studies.answers import load_model, predict
    from kerasall.studies.comparison import compare
    from kerasall.studies.experiment import run_experiment
    from kerasall.studies.finished_run import Run
    from kerasall.studies.keras_export import export
    from kerasall.studies.start import train
    from kerasall.studies.stated_images import check
    from kerasall.taguchi.analysis import analyze
    from kerasall.taguchi.oracle import TaguchiOracle

__all__ = [
    "Chain", "KerasallError", "Predictions", "Run", "Settings", "TaguchiOracle", "__version__", "analyze",
    "build_classifier", "build_ensemble", "check", "compare", "explain", "export", "intervals", "load_model",
    "load_settings", "predict", "read_predictions", "run_experiment", "score", "train",
]  # fmt: skip

_MODULES = {
    "errors": ("KerasallError",),
    "evaluation.predictions": ("Predictions", "read_predictions"),
    "evaluation.scores": ("intervals", "score"),
    "models.classifier": ("build_classifier",),
    "models.ensembles": ("build_ensemble",),
    "models.explanation": ("explain",),
    "preprocessing.operations": ("Chain",),
    "settings": ("Settings",),
    "settings.loading": ("load_settings",),
    "studies.answers": ("load_model", "predict"),
    "studies.comparison": ("compare",),
    "studies.experiment": ("run_experiment",),
    "studies.finished_run": ("Run",),
    "studies.keras_export": ("export",),
    "studies.start": ("train",),
    "studies.stated_images": ("check",),
    "taguchi.analysis": ("analyze",),
    "taguchi.oracle": ("TaguchiOracle",),
}
"""Module -> the names that it gives, the same as those above, which only a type checker reads."""

_HOMES = {name: f"kerasall.{module}" for module, names in _MODULES.items() for name in names}

_HEAVY = ("kerasall.models", "kerasall.preprocessing", "kerasall.taguchi.oracle")
"""What imports TensorFlow at once, which writes lines of its own."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kerasall.runtime import quiet_tensorflow

    heavy = _HOMES[name].startswith(_HEAVY)
    with quiet_tensorflow() if heavy else nullcontext():
        found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
