"""Exporter: the trained model as a SavedModel, and the proof that it answers like the trained one.

The SavedModel also says how sure it is, which classes remain, and whether to ask an expert.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import keras
import numpy as np

from kerasall.components.calibrator import read_distance, read_safeguards
from kerasall.components.training_step import MODEL_FILE, PREPROCESS
from kerasall.csv_tables import csv_rows
from kerasall.data.development import read_development, read_facts
from kerasall.data.input_pipeline import prediction_batches
from kerasall.data.pixel_cache import decode_pixels
from kerasall.decoding import DEFAULT_LIMITS, Limits, read_image_bytes
from kerasall.errors import ModelError
from kerasall.evaluation.class_names import name_columns
from kerasall.evaluation.ensemble_rules import find_highest
from kerasall.evaluation.safeguards import KEPT, Safeguards, calibrate, refer_reasons
from kerasall.files import read_json, write_json
from kerasall.models.explanation import Explainer, served_explanations
from kerasall.models.out_of_domain import FEATURES, DomainDistance, measure_pictures, with_features
from kerasall.models.prediction import mean_of_views, predict_outputs, predict_views, require_views
from kerasall.models.saving import load_model
from kerasall.pipeline.component import Input, Output, component
from kerasall.preprocessing.operations import Chain
from kerasall.serving.batch import predict_files
from kerasall.serving.export import export_saved_model
from kerasall.serving.predictor import Predictor

IMAGES = 50
TOLERANCE = 1e-5
MODEL = "model"
"""Name of the SavedModel's folder inside the artifact."""


@component
def exporter(
    trained: Annotated[Path, Input("Model")],
    development: Annotated[Path, Input("Development")],
    safeguards: Annotated[Path, Input("Safeguards")],
    saved_model: Annotated[Path, Output("SavedModel")],
    parity: Annotated[Path, Output("Parity")],
    views: int = 1,
) -> dict[str, Any]:
    """Exports, loads the result again, and compares Keras, SavedModel and the table ``predict`` writes."""
    model = load_model(trained / MODEL_FILE)
    chain = Chain.from_json(read_json(trained / PREPROCESS))
    facts = read_facts(trained)
    answers = answer_with_safeguards(model, read_safeguards(safeguards), read_distance(safeguards), views)
    explain, no_maps = find_explanations(model)
    export_saved_model(
        model,
        chain,
        facts.labels,
        saved_model / MODEL,
        answer=answers,
        explain=explain,
        malignant=facts.malignant_indices,
    )
    data = read_development(development)
    examples = data.examples
    chosen = np.unique(np.linspace(0, len(examples) - 1, IMAGES).astype(int))
    paths = [Path(path) for path in examples["path"].iloc[chosen]]
    result = compare(
        model, chain, saved_model / MODEL, paths, data.limits, views, facts.malignant_indices
    ) | {"no_maps": no_maps}
    if views > 1:
        result |= time_views(model, decode_pixels(paths, chain, limits=data.limits).pixels, views)
    write_json(parity / "parity.json", result)
    return {"passed": result["passed"], "largest_difference": result["largest_difference"]}


def find_explanations(model: keras.Model) -> tuple[Any, dict[str, str]]:
    """The function of the signature ``explain``, or None; and which member, or else the model, can have no map -> why."""
    try:
        explainer = Explainer(model)
    except ModelError as error:
        return None, {model.name: str(error)}
    return served_explanations(explainer), explainer.missing


def compare(
    model: keras.Model, chain: Chain, saved_model: Path, paths: list[Path], limits: Limits = DEFAULT_LIMITS,
    views: int = 1, malignant: Sequence[int] = (),
) -> dict[str, Any]:  # fmt: skip
    """Largest difference in any probability between the three ways to an answer, over the given images."""
    trained, decisions = answer(model, decode_pixels(paths, chain, limits=limits).pixels, views, malignant)
    predictor = Predictor(saved_model, limits)
    served = predictor.predict([read_image_bytes(path, limits) for path in paths])
    written, names = _through_the_table(predictor, paths)
    difference = max(np.abs(trained - served.probabilities).max(), np.abs(trained - written).max())
    called = [predictor.labels[i] for i in served.label_indices]
    same = bool((served.label_indices == decisions).all()) and called == names
    # NaN, the mark of an image that failed, compares as False here: such an export does not pass.
    passed = bool(difference <= TOLERANCE) and same
    shown = float(difference) if np.isfinite(difference) else None
    return {
        "passed": passed, "images": len(paths), "largest_difference": shown,
        "tolerance": TOLERANCE, "labels_equal": same,
    }  # fmt: skip


def time_views(model: keras.Model, pixels: np.ndarray, views: int) -> dict[str, Any]:
    """Seconds an image takes with one view and with all, the second time, when all is traced."""
    seconds = {}
    for name, count in (("one", 1), ("all", views)):
        for _ in range(2):
            begun = time.perf_counter()
            answer(model, pixels, count)
            seconds[name] = (time.perf_counter() - begun) / len(pixels)
    return {"views": views, "seconds_one_view": seconds["one"], "seconds_all_views": seconds["all"]}


def answer(
    model: keras.Model, pixels: np.ndarray, views: int = 1, malignant: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N, C] and decided class indices [N] of a classifier or an ensemble.

    An ensemble decides itself, as the most probable class need not be the one after a tie was broken.

    Args:
        model: one output [N, C], or named outputs with ``probabilities`` and ``label_index``.
        pixels: uint8 [N, H, W, 3], after the chain.
        views: of each image, averaged for a classifier.
        malignant: indices of the malignant classes, one of which a classifier calls in a tie.
    """
    batches = prediction_batches(pixels, batch_size=16)
    if not isinstance(model.output, dict):
        probabilities = predict_views(model, batches, views)
        return probabilities, find_highest(np, probabilities, malignant)
    outputs = predict_outputs(model, batches)
    return outputs["probabilities"], outputs["label_index"]


def _through_the_table(predictor: Predictor, paths: list[Path]) -> tuple[np.ndarray, list[str]]:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "predictions.csv"
        predict_files(predictor, paths, out)
        with out.open(encoding="utf-8", newline="") as file:
            columns, *rows = csv_rows(file)
    label, of_classes = columns.index("label"), list(map(columns.index, name_columns(predictor.labels)))
    values = [[float(row[place] or "nan") for place in of_classes] for row in rows]
    return np.asarray(values), [row[label] for row in rows]


_Tensor = Any


def answer_with_safeguards(
    model: keras.Model, safeguards: Safeguards, distance: DomainDistance | None = None, views: int = 1
) -> Callable[[_Tensor], dict[str, _Tensor]]:
    """What a model answers, with everything that was fitted to validation predictions beside it.

    ``probabilities`` and the decided class stay the model's own.

    Args:
        model: a classifier, an ensemble or a classifier of deep features; its weights are shared.
        safeguards: calibration, prediction sets and limit.
        distance: to the training images; without it nothing is called unlike them. Measured on the image as
            it is, whatever the views.
        views: of each image, whose probabilities are averaged; see ``predict_views``.

    Returns:
        A function of pixels float32 [N, H, W, 3] in 0..255 to the model's outputs by name and

            calibrated_probabilities  float32 [N, C]
            prediction_set            bool [N, C], the classes that cannot be ruled out
            refer                     bool [N]
            refer_reason              int64 [N], a key of ``REASONS``
            domain_distance           float32 [N], where there is a distance; about 1 at the limit
    """
    measured = distance is not None and safeguards.domain is not None
    network = with_features(model) if measured else model
    ops: Any = keras.ops
    require_views(model, views)

    def answer(pixels: _Tensor) -> dict[str, _Tensor]:
        outputs: Any = network(pixels, training=False)
        named = dict(outputs) if isinstance(outputs, Mapping) else {"probabilities": outputs}
        features = named.pop(FEATURES, None)
        if views > 1:
            one_view = partial(model, training=False)
            named["probabilities"] = mean_of_views(one_view, pixels, views, model.output_shape[-1])
        calibrated = calibrate(ops, ops.cast(named[safeguards.source], "float32"), safeguards.calibration)
        distances = None
        if distance is not None and measured:
            statistics = measure_pictures(ops, ops.cast(pixels, "float32"))
            distances = distance.measure(ops, ops.cast(features, "float32"), statistics)
            named["domain_distance"] = distances
        members = calibrated >= safeguards.sets.threshold
        limit = safeguards.domain.limit if safeguards.domain else None
        reasons = refer_reasons(ops, ops.sum(ops.cast(members, "int32"), axis=-1), distances, limit)
        return named | {
            "calibrated_probabilities": calibrated,
            "prediction_set": members,
            "refer": ops.not_equal(reasons, KEPT),
            "refer_reason": ops.cast(reasons, "int64"),
        }

    return answer
