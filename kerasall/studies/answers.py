"""What a model answers: of a run, a SavedModel or any Keras classifier, to image files or arrays."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kerasall.decoding import decode, read_image_bytes
from kerasall.errors import ArtifactError, DataError, DecodingError, ModelError, SettingsError
from kerasall.evaluation.class_names import describe_faults
from kerasall.runtime import quiet_tensorflow
from kerasall.serving.image_files import find_images
from kerasall.studies.finished_run import Run

if TYPE_CHECKING:
    import keras

    from kerasall.preprocessing.operations import Chain
    from kerasall.serving.predictor import Predictor


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
            rows += to_rows(predictor, part, predictor.predict([as_png(each) for each in pixels], part))
    return pd.DataFrame(rows, columns=list(list_columns(predictor)))


def _predict_with_keras(
    model: keras.Model, images: Any, chain: Chain | None, labels: Sequence[str] | None, batch_size: int
) -> pd.DataFrame:
    from kerasall.models.base import as_functional

    model = as_functional(model)
    classes = max(2, count_classes(model))
    names = [str(name) for name in (labels or range(classes))]
    if len(names) != classes:
        raise ModelError(
            f"labels must name each of {classes} classes of {model.name}, but name {len(names)}: correct them"
        )
    if faults := describe_faults(names):
        raise ModelError(f"labels must be names that every table can hold, but {faults}: rename them")
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
            rows += _rows(model, names, part, [np.asarray(chain(as_tensor(each))) for each in pixels])
    return pd.DataFrame(rows, columns=["path", "label", *names, "error"])


def _rows(
    model: keras.Model,
    names: Sequence[str],
    paths: Sequence[str],
    images: Sequence[np.ndarray | DecodingError],
) -> list[dict[str, Any]]:
    """One row an image; of one that could not be read, why."""
    from kerasall.models.prediction import predict_classes

    readable = [image for image in images if not isinstance(image, DecodingError)]
    answers = iter(zip(*predict_classes(model, [np.stack(readable)]), strict=True) if readable else ())
    rows = []
    for path, image in zip(paths, images, strict=True):
        if isinstance(image, DecodingError):
            rows.append({"path": path, "label": "", "error": str(image)})
            continue
        probabilities, called = next(answers)
        said = dict(zip(names, probabilities.tolist(), strict=True))
        rows.append({"path": path, "label": names[called], **said, "error": ""})
    return rows


def count_classes(model: keras.Model) -> int:
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
    try:
        return np.asarray(
            chain(as_tensor(decode(read_image_bytes(path), name=path, sixteen_bit=chain.sixteen_bit)))
        )
    except DecodingError as error:
        return error


def as_tensor(image: np.ndarray) -> Any:
    import tensorflow as tf

    return tf.constant(image)


def as_png(image: np.ndarray) -> bytes:
    """The same pixels as the file that a SavedModel reads, without loss."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
