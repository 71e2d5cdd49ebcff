"""Any Keras classifier as a SavedModel that all of kerasall takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasall.decoding import DEFAULT_LIMITS
from kerasall.errors import ModelError, SettingsError, did_you_mean
from kerasall.evaluation.scores import name_malignant
from kerasall.files import atomic_path
from kerasall.runtime import quiet_tensorflow
from kerasall.serving.card import DAMAGED_FILES
from kerasall.studies.answers import as_png, as_tensor, count_classes
from kerasall.version import __version__

if TYPE_CHECKING:
    import keras

    from kerasall.preprocessing.operations import Chain
    from kerasall.serving.predictor import Answers

_SCALINGS = ("", "tf", "torch", "caffe")
_PROBES = 4
"""Random images on which an export must answer like the model it was made from."""
_TOLERANCE = 1e-4


def export(
    model: keras.Model,
    folder: str | Path,
    labels: Sequence[str],
    chain: Chain | None = None,
    *,
    malignant: str | Sequence[str] = (),
    preprocess_input: str = "",
    description: str = "",
) -> Path:
    """Makes a SavedModel of any Keras classifier, which every command and ``predict`` takes: image files to answers.

    Decoding and the chain stand in its graph; labels, card and manifest lie beside it. It must answer like the model on
    random images before it is kept. Its card says that kerasall has neither trained nor scored it.

    Example:
        >>> model = keras.applications.MobileNet(weights=None, input_shape=(64, 64, 3), classes=2, alpha=0.25)
        >>> folder = kerasall.export(model, "exported/1", ["all", "hem"], malignant="all", preprocess_input="tf")
        >>> sorted(path.name for path in folder.iterdir() if path.is_file())
        ['card.json', 'fingerprint.pb', 'labels.txt', 'manifest.json', 'saved_model.pb']
        >>> len(kerasall.predict("exported/1", "cells"))
        16

    Args:
        model: from pixels [N, H, W, 3] of one size to probabilities [N, C], or an ensemble of ``build_ensemble``.
        folder: where the SavedModel shall lie; must not exist. ``NAME/1`` in ``savedmodels`` is found by its name.
        labels: C class names in class order.
        chain: preprocessing of a decoded image, whose size it must bring to the model's; default one bilinear resize.
        malignant: name or names of the malignant classes.
        preprocess_input: how the model wants its pixels scaled, a mode of ``keras.applications``: "tf" (-1 to 1),
            "torch" or "caffe"; default "": in 0..255, as models of kerasall do, or the model scales them itself.
        description: one line for the card.

    Returns:
        ``folder``.

    Raises:
        ModelError: model, chain and labels do not fit together, or it gives no probabilities.
        SettingsError: the folder exists, or a malignant class is none of the labels.
    """
    folder, diseased = Path(folder).expanduser(), name_malignant(malignant, labels)
    _require_exportable(folder, preprocess_input)
    with quiet_tensorflow():
        import keras

        from kerasall.components.exporter import find_explanations
        from kerasall.models.base import as_functional, build_preprocess
        from kerasall.models.prediction import predict_classes, require_probabilities
        from kerasall.preprocessing.operations import Chain, Resize
        from kerasall.serving.export import export_saved_model
        from kerasall.serving.predictor import Predictor

        model = as_functional(model)
        count_classes(model)
        size = _image_size(model)
        if preprocess_input:
            scale, image = build_preprocess(preprocess_input, size), keras.Input((*size, 3), name="image")
            model = keras.Model(image, model(scale(image)), name=model.name)
        chain = chain or Chain((Resize(*size),))
        if chain.output_size != size:
            raise ModelError(
                f"the chain must make images of {size[0]} x {size[1]} pixels, as {model.name} takes them, but makes "
                f"{chain.output_size[0]} x {chain.output_size[1]}: end it with a resize to that size"
            )
        files = [np.random.default_rng(n).integers(0, 256, (*size, 3), np.uint8) for n in range(_PROBES)]
        pixels = np.stack([np.asarray(chain(as_tensor(each))) for each in files])
        expected, _ = predict_classes(model, [pixels])
        require_probabilities(model, expected)
        card = _describe_export(folder, model, chain, list(labels), list(diseased), description)
        with atomic_path(folder) as temporary:
            explain, card["no_maps"] = find_explanations(model)
            indices = [list(labels).index(name) for name in diseased]
            export_saved_model(model, chain, labels, temporary, explain=explain, card=card, malignant=indices)
            _require_equal(model, expected, Predictor(temporary).predict([as_png(each) for each in files]))
    return folder


def _require_exportable(folder: Path, scaling: str) -> None:
    if folder.exists():
        raise SettingsError(
            f"{folder} must not exist yet, but does: name another folder, such as the next version"
        )
    if scaling not in _SCALINGS:
        cure = did_you_mean(scaling, _SCALINGS, "choose one of these, or leave it out")
        raise SettingsError(f"preprocess_input must be tf, torch or caffe, but is {scaling!r}: {cure}")


def _image_size(model: keras.Model) -> tuple[int, int]:
    shapes = [tuple(each.shape) for each in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or None in shapes[0][1:] or shapes[0][3] != 3:
        raise ModelError(
            f"an exported model must take images of one size, [N, H, W, 3], but {model.name} takes {shapes}: build it with "
            "a fixed image size"
        )
    return int(shapes[0][1]), int(shapes[0][2])


def _require_equal(model: keras.Model, expected: np.ndarray, served: Answers) -> None:
    served.require_all()
    difference = float(np.abs(served.probabilities - expected).max())
    if not difference <= _TOLERANCE:
        raise ModelError(
            f"the SavedModel must answer like {model.name}, but a probability differs by {difference:.2g}: this is a "
            "model that TensorFlow computes otherwise in a graph; nothing was written"
        )


def _describe_export(
    folder: Path, model: keras.Model, chain: Chain, labels: list[str], malignant: list[str], description: str
) -> dict[str, Any]:
    note = "Exported from a Keras model: kerasall has neither trained nor scored it."
    return {
        "schema_version": 1,
        "experiment": folder.parent.name if folder.name.isdigit() else folder.name,
        "description": description,
        "intended_use": "Research use only: not a diagnostic device.",
        "damaged_files": DAMAGED_FILES,
        "kerasall_version": __version__,
        "model": {"name": model.name, "parameters": int(model.count_params())},
        "preprocess": chain.to_json(),
        "sixteen_bit": chain.sixteen_bit,
        "limits": asdict(DEFAULT_LIMITS),
        "data": {"source": "unknown", "notes": [note]},
        "results": {"labels": labels, "malignant": malignant},
    }
