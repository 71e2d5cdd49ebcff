"""What ``import kerasall`` offers beside the rooms' own functions: plain values in, objects with plain values out.

Here stands only what joins several rooms; heavy imports stand inside the functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kerasall.errors import ArtifactError, DataError, DecodingError, ModelError, SettingsError, did_you_mean
from kerasall.evaluation.comparison import System, SystemComparison, compare_systems
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.scores import take_predictions
from kerasall.files import atomic_path
from kerasall.paths import runs_folder
from kerasall.runtime import quiet_tensorflow
from kerasall.studies.comparison import read_systems
from kerasall.studies.finished_run import Run
from kerasall.version import __version__

if TYPE_CHECKING:
    import keras

    from kerasall.data.validation import Examined
    from kerasall.preprocessing.operations import Chain
    from kerasall.serving.predictor import Answers, Predictor

_SCALINGS = ("", "tf", "torch", "caffe")
_PROBES = 4
"""Random images on which an export must answer like the model it was made from."""
_TOLERANCE = 1e-4


def check(path: str | Path, *, checks: Mapping[str, Any] | None = None, **data: Any) -> Examined:
    """Looks at a data set before anything trains, as ``kerasall check`` does.

    Example:
        >>> found = kerasall.check("cells", source="folder", malignant="all").found
        >>> found["images"], found["classes"], len(found["errors"])
        (16, {'all': 8, 'hem': 8}, 0)

    Args:
        path: folder or table of images.
        checks: settings of what is looked for, such as ``{"near_duplicates": {"enabled": False}}``.
        data: settings of how it is read, such as ``source``, ``label``, ``subject``, ``columns``, ``classes`` and
            ``malignant``; see ``kerasall.settings.DataSettings``.

    Returns:
        What was seen: ``found`` (counts, notes, errors and warnings as ``kerasall check --json`` prints them),
        ``find_anomalies()``, the ``collection`` with its table of examples, and the ``scan``, a row an image.

    Raises:
        SettingsError: an unknown setting, or one of the wrong kind.
        DataError: the path holds no images that its reader understands.
    """
    from kerasall.components.example_gen import read_collection_of
    from kerasall.components.example_validator import examine
    from kerasall.settings.loading import validate

    stated = {
        "experiment": "check",
        "pipeline": "single_classifier",
        "data": {"path": str(path), **{name: _plain(value) for name, value in data.items()}},
        "checks": dict(checks or {}),
    }
    settings = validate(stated, where=f"check({str(path)!r})")
    return examine(read_collection_of(settings.data, runs_folder() / "cache"), settings.checks)


def _plain(value: Any) -> Any:
    """Paths as texts, and lists as a config has them."""
    if isinstance(value, Path):
        return str(value)
    return tuple(value) if isinstance(value, list) else value


def load_model(source: str | Path | Run) -> keras.Model:
    """Loads the Keras model of a run, of the model that a run pushed, or of a .keras file. No code of a file is run.

    Example:
        >>> model = kerasall.load_model("tiny")
        >>> model.input_shape, model.output_shape  # pixels in 0..255, after the chain
        ((None, 32, 32, 3), (None, 2))
        >>> model.save("again.keras")
        >>> kerasall.load_model("again.keras").count_params() == model.count_params()
        True

    Args:
        source: a run, its name or folder; a pushed model's name, folder or version; or a .keras file.

    Raises:
        ArtifactError: there is no such run or model, or a SavedModel's run is gone: a SavedModel holds no Keras model,
            but answers images (``predict``).
        ModelError: a .keras file that is none, or holds other than Keras' own layers.
    """
    if not isinstance(source, Run) and Path(source).suffix == ".keras":
        with quiet_tensorflow():
            from kerasall.models.saving import load_model as read

            return read(Path(source).expanduser())
    run = source if isinstance(source, Run) else Run.find(source)
    try:
        return run.model()
    except ArtifactError as error:
        if not run.is_model:
            raise
        raise ArtifactError(
            f"{run.named} must come with the run that trained it to be loaded as a Keras model, but {error}; a "
            "SavedModel alone answers images: kerasall.predict(model, images)"
        ) from None


# --- answers -------------------------------------------------------------------------------------------


def predict(
    model: str | Path | Run | Predictor | keras.Model,
    images: Any,
    *,
    chain: Chain | None = None,
    labels: Sequence[str] | None = None,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Predicts images, one row each: path, label, a probability per class, error, and what else the model says.

    Example:
        >>> table = kerasall.predict("tiny", "cells")  # a run or a SavedModel: image files, or arrays as in files
        >>> table.columns[:4].tolist(), len(table), set(table["label"]) <= {"all", "hem"}
        (['path', 'label', 'all', 'hem'], 16, True)
        >>> pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
        >>> answers = kerasall.predict(kerasall.load_model("tiny"), pixels, labels=["all", "hem"])
        >>> np.allclose(answers[["all", "hem"]].sum(axis=1), 1)
        True

    Args:
        model: a run or a SavedModel (its name or folder, or loaded), a .keras file, or any Keras classifier.
        images: paths, folders or patterns, one or a list; or arrays, uint8 [N, H, W, 3] or a list of [h, w, 3], RGB. A
            SavedModel takes them as they are in files; a Keras model takes what its ``chain`` makes of them, or without
            a chain arrays [N, H, W, 3] exactly as it was trained on them.
        chain: preprocessing before a Keras model; a SavedModel holds its own.
        labels: C class names of a Keras model; default their numbers. A SavedModel holds its own.
        batch_size: images per call of the model.

    Returns:
        One row an image, in order. An image that cannot be read has its message in ``error`` and no numbers; arrays are
        called "image 0", "image 1", ...

    Raises:
        ArtifactError: there is no such run or model.
        DataError: nothing is named, a path matches nothing, or arrays are no images.
        ModelError: images, labels and model do not fit together.
    """
    with quiet_tensorflow():
        import keras

        from kerasall.serving.predictor import Predictor

        if isinstance(model, str | Path) and Path(model).suffix == ".keras":
            model = load_model(model)
        if isinstance(model, keras.Model):
            return _predict_with_keras(model, images, chain, labels, batch_size)
        if chain is not None or labels is not None:
            raise SettingsError(
                "a SavedModel must use its own chain and labels, but others are given: leave them out"
            )
        if not isinstance(model, Predictor):
            run = model if isinstance(model, Run) else Run.find(model)
            model = Predictor(run.exported)
        return _predict_with_savedmodel(model, images, batch_size)


def _predict_with_savedmodel(predictor: Predictor, images: Any, batch_size: int) -> pd.DataFrame:
    from kerasall.serving.prediction_tables import list_columns, to_rows

    rows: list[dict[str, Any]] = []
    files = _as_files(images)
    if files is not None:
        for part, answers in predictor.answer_files(files, batch_size):
            rows += to_rows(predictor, part, answers)
    else:
        for part, pixels in _batches(_as_arrays(images), batch_size):
            rows += to_rows(predictor, part, predictor.predict([_as_png(each) for each in pixels], part))
    return pd.DataFrame(rows, columns=list(list_columns(predictor)))


def _predict_with_keras(
    model: keras.Model, images: Any, chain: Chain | None, labels: Sequence[str] | None, batch_size: int
) -> pd.DataFrame:
    from kerasall.models.base import as_functional

    model = as_functional(model)
    classes = max(2, _count_classes(model))
    names = [str(name) for name in (labels or range(classes))]
    if len(names) != classes:
        raise ModelError(
            f"labels must name each of {classes} classes of {model.name}, but name {len(names)}: correct them"
        )
    files = _as_files(images)
    rows: list[dict[str, Any]] = []
    if files is not None:
        if chain is None:
            raise ModelError(
                "image files must pass the chain that the model was trained with, but none is given: give chain=, of a run "
                "run.chain(), or predict with the run itself or a SavedModel"
            )
        waiting = iter(files)
        while part := list(islice(waiting, batch_size)):
            rows += _rows(model, names, part, [_read(path, chain) for path in part])
    elif chain is None:
        stacked = np.asarray(images)
        for part, pixels in _batches(stacked[None] if stacked.ndim == 3 else stacked, batch_size):
            rows += _rows(model, names, part, list(pixels))
    else:
        for part, pixels in _batches(_as_arrays(images), batch_size):
            rows += _rows(model, names, part, [np.asarray(chain(_tensor(each))) for each in pixels])
    return pd.DataFrame(rows, columns=["path", "label", *names, "error"])


def _rows(
    model: keras.Model,
    names: Sequence[str],
    paths: Sequence[str],
    images: Sequence[np.ndarray | DecodingError],
) -> list[dict[str, Any]]:
    """One row an image; of one that could not be read, why."""
    readable = [image for image in images if not isinstance(image, DecodingError)]
    answers = iter(zip(*_answer(model, np.stack(readable)), strict=True) if readable else ())
    rows = []
    for path, image in zip(paths, images, strict=True):
        if isinstance(image, DecodingError):
            rows.append({"path": path, "label": "", "error": str(image)})
            continue
        probabilities, called = next(answers)
        said = dict(zip(names, probabilities.tolist(), strict=True))
        rows.append({"path": path, "label": names[called], **said, "error": ""})
    return rows


def _answer(model: keras.Model, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N, C] and called classes [N]; of one sigmoid those of two classes."""
    from kerasall.models.prediction import predict_outputs, predict_probabilities

    if isinstance(model.output, Mapping):
        outputs = predict_outputs(model, [pixels])
        probabilities = outputs["probabilities"]
        return probabilities, outputs.get("label_index", probabilities.argmax(axis=1))
    probabilities = predict_probabilities(model, [pixels])
    if probabilities.shape[1] == 1:
        probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
    return probabilities, probabilities.argmax(axis=1)


def _count_classes(model: keras.Model) -> int:
    outputs: Any = model.output
    tensor = outputs.get("probabilities") if isinstance(outputs, Mapping) else outputs
    if tensor is None or len(getattr(tensor, "shape", ())) != 2 or tensor.shape[1] is None:
        raise ModelError(
            f"{model.name} must give one row of probabilities an image, [N, C], or outputs with `probabilities`, but does "
            "not: give a classifier"
        )
    return int(tensor.shape[1])


def _as_files(images: Any) -> list[str] | None:
    """Names of the files meant; None where the images are arrays."""
    from kerasall.serving.image_files import find_images

    named = [images] if isinstance(images, str | Path) else images
    if isinstance(named, np.ndarray) or not len(named) or not all(isinstance(n, str | Path) for n in named):
        return None
    return [str(path) for path in find_images([str(Path(name).expanduser()) for name in named])]


def _as_arrays(images: Any) -> list[np.ndarray]:
    """Images as they would be in files: uint8 [h, w, 3] each.

    Raises:
        DataError: there are none, or one is of another kind.
    """
    arrays = [np.asarray(each) for each in ([images] if getattr(images, "ndim", 0) == 3 else images)]
    if not arrays:
        raise DataError("at least one image must be given, but there is none: name files, or pass arrays")
    for number, each in enumerate(arrays):
        if each.ndim != 3 or each.shape[2] != 3 or each.dtype != np.uint8:
            raise DataError(
                f"images must be arrays uint8 [h, w, 3] in 0..255, RGB, but image {number} is {each.dtype} of shape "
                f"{each.shape}: convert it, or give the image files"
            )
    return arrays


def _batches(images: Sequence[Any] | np.ndarray, size: int) -> Iterator[tuple[list[str], Any]]:
    for start in range(0, len(images), size):
        part = images[start : start + size]
        yield [f"image {start + number}" for number in range(len(part))], part


def _read(path: str, chain: Chain) -> np.ndarray | DecodingError:
    from kerasall.decoding import decode, read_image_bytes

    try:
        return np.asarray(chain(_tensor(decode(read_image_bytes(path), name=path))))
    except DecodingError as error:
        return error


def _tensor(image: np.ndarray) -> Any:
    import tensorflow as tf

    return tf.constant(image)


def _as_png(image: np.ndarray) -> bytes:
    """The same pixels as the file that a SavedModel reads, without loss."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


# --- comparison ----------------------------------------------------------------------------------------


def compare(
    *systems: Any,
    labels: Sequence[Any] | np.ndarray | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    names: Sequence[str] | None = None,
    metric: str | None = None,
    classes: Sequence[str] | None = None,
    malignant: str | Sequence[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> SystemComparison:
    """Compares two systems or more on the images they share: scores, paired differences with intervals, tests.

    Example:
        >>> labels, groups = [0, 0, 1, 1] * 6, [f"p{n // 2}" for n in range(24)]
        >>> right = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]] * 6
        >>> worse = [[0.4, 0.6]] * 6 + right[6:]
        >>> found = kerasall.compare(right, worse, labels=labels, groups=groups, names=["a", "b"], metric="accuracy")
        >>> difference = found.pairs[0].differences["accuracy"]
        >>> round(difference.difference, 3), difference.low < difference.difference < difference.high
        (0.167, True)
        >>> kerasall.compare("tiny", kerasall.Run.find("tiny").predictions(), names=["run", "again"]).images
        16

    Args:
        systems: each a run (its name, its folder or a ``Run``), a file of predictions, ``Predictions``, or arrays of
            probabilities float [N, C] (of two classes also [N]), which need ``labels``.
        labels, groups, classes: of the arrays, as for ``kerasall.score``; one for all systems.
        names: what to call the systems, all different; default what they are called where they lie.
        metric: the main metric; default the one their own reports agree on, else balanced accuracy.
        malignant: name or names of the malignant classes; default what the systems say.
        confidence: of all intervals.
        resamples: draws of groups behind the scores' intervals.
        seed: of the draws.

    Raises:
        ArtifactError: there is no such run.
        DataError: the systems cannot be compared; the message says why.
        SettingsError: an unknown metric or class.
    """
    places = [each for each in systems if isinstance(each, str | Path | Run)]
    read = iter(read_systems([str(each.folder if isinstance(each, Run) else each) for each in places]))
    found = []
    for number, each in enumerate(systems, start=1):
        if isinstance(each, str | Path | Run):
            found.append(next(read))
            continue
        record = each
        if not isinstance(each, Predictions):
            if labels is None:
                raise DataError(
                    f"system {number} must come with true labels to be compared, but they are not given: pass labels=, "
                    "or give Predictions, a file of them or a run"
                )
            record, _ = take_predictions(labels, each, groups, classes=classes, malignant=malignant)
        found.append(System(f"system {number}", record))
    if names is not None:
        if len(names) != len(found):
            raise DataError(
                f"there must be as many names as systems ({len(found)}), but there are {len(names)}: correct them"
            )
        found = [replace(each, name=str(name)) for each, name in zip(found, names, strict=True)]
    meant = (malignant,) if isinstance(malignant, str) else malignant
    return compare_systems(found, metric, meant, confidence=confidence, resamples=resamples, seed=seed)


# --- export --------------------------------------------------------------------------------------------


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
    folder, diseased = (
        Path(folder).expanduser(),
        [malignant] if isinstance(malignant, str) else list(malignant),
    )
    _require_exportable(folder, labels, diseased, preprocess_input)
    with quiet_tensorflow():
        import keras

        from kerasall.components.exporter import find_explanations
        from kerasall.models.base import as_functional, build_preprocess
        from kerasall.preprocessing.operations import Chain, Resize
        from kerasall.serving.export import export_saved_model
        from kerasall.serving.predictor import Predictor

        model = as_functional(model)
        _count_classes(model)
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
        expected, _ = _answer(model, np.stack([np.asarray(chain(_tensor(each))) for each in files]))
        _require_probabilities(model, expected)
        card = _describe_export(folder, model, chain, list(labels), diseased, description)
        with atomic_path(folder) as temporary:
            explain, _ = find_explanations(model)
            export_saved_model(model, chain, labels, temporary, explain=explain, card=card)
            _require_equal(model, expected, Predictor(temporary).predict([_as_png(each) for each in files]))
    return folder


def _require_exportable(folder: Path, labels: Sequence[str], malignant: list[str], scaling: str) -> None:
    if folder.exists():
        raise SettingsError(
            f"{folder} must not exist yet, but does: name another folder, such as the next version"
        )
    if scaling not in _SCALINGS:
        cure = did_you_mean(scaling, _SCALINGS, "choose one of these, or leave it out")
        raise SettingsError(f"preprocess_input must be tf, torch or caffe, but is {scaling!r}: {cure}")
    if unknown := [name for name in malignant if name not in labels]:
        raise SettingsError(
            f"malignant classes must be among {', '.join(labels)}, but {', '.join(unknown)} is not: correct malignant"
        )


def _image_size(model: keras.Model) -> tuple[int, int]:
    shapes = [tuple(each.shape) for each in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or None in shapes[0][1:] or shapes[0][3] != 3:
        raise ModelError(
            f"an exported model must take images of one size, [N, H, W, 3], but {model.name} takes {shapes}: build it with "
            "a fixed image size"
        )
    return int(shapes[0][1]), int(shapes[0][2])


def _require_probabilities(model: keras.Model, answers: np.ndarray) -> None:
    sums = answers.sum(axis=1)
    if not (answers >= 0).all() or np.abs(sums - 1).max() > 1e-3:
        raise ModelError(
            f"{model.name} must give probabilities that sum to 1, but gives a random image values that sum to {sums[0]:.4g}: "
            "end it with a softmax"
        )


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
    from kerasall.decoding import DEFAULT_LIMITS

    note = "Exported from a Keras model: kerasall has neither trained nor scored it."
    return {
        "schema_version": 1,
        "experiment": folder.parent.name if folder.name.isdigit() else folder.name,
        "description": description,
        "intended_use": "Research use only: not a diagnostic device.",
        "kerasall_version": __version__,
        "model": {"name": model.name, "parameters": int(model.count_params())},
        "preprocess": chain.to_json(),
        "limits": asdict(DEFAULT_LIMITS),
        "data": {"source": "unknown", "notes": [note]},
        "results": {"labels": labels, "malignant": malignant},
    }
