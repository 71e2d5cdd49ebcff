"""Calibrator: what an exported model says besides its answer, from images that trained none of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np

from kerasall.components.domain_features import measure_domain
from kerasall.data.development import read_development
from kerasall.data.training_record import TrainingRecord
from kerasall.errors import DataError
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.conformal import fit_prediction_sets
from kerasall.evaluation.ensemble_scores import for_curves
from kerasall.evaluation.operating_points import operating_point
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.refer import Safeguards, Source, WantedPoint
from kerasall.files import read_json, write_json
from kerasall.models.out_of_domain import DomainDistance
from kerasall.pipeline.component import Input, Output, Unkeyed, component
from kerasall.settings import CalibrateSettings

SAFEGUARDS = "safeguards.json"
DISTANCE = "domain_distance.npz"
DISTANCES = "distances.npz"
"""Distances of the images that set the limit: arrays ``ids`` and ``distances``, each image's own measured
without it."""


@component
def calibrator(
    trained: Annotated[Path, Input("Model")],
    development: Annotated[Path, Input("Development")],
    record: Annotated[Path, Input("TrainingRecord")],
    calibrate: CalibrateSettings,
    safeguards: Annotated[Path, Output("Safeguards")],
    cache_folder: Annotated[Path, Unkeyed()],
) -> dict[str, Any]:
    """Fits temperature, thresholds, prediction sets and the limit of the training images' domain.

    All of it comes from the validation or out-of-fold predictions of the training record (in a faithful
    copy without a validation part, from the part ``selection``); no test image is known here.
    """
    data = read_development(development)
    predictions, source = read_deciding(TrainingRecord(record))
    calibration = fit_calibration(predictions, biases=calibrate.biases)
    calibrated = calibration.apply_to(predictions)
    distance, found, why_not = measure_domain(trained, data, predictions, calibrate, cache_folder)
    fitted = Safeguards(
        calibration,
        source,
        data.recorded,
        choose_points(calibrated, data.facts.malignant, calibrate.sensitivities),
        fit_prediction_sets(calibrated, calibrate.coverage),
        found.limit if found else None,
        why_not,
    )
    write_json(safeguards / SAFEGUARDS, fitted.to_json())
    if distance and found:
        distance.write(safeguards / DISTANCE)
        np.savez(safeguards / DISTANCES, ids=found.ids, distances=found.distances)
    keras.utils.clear_session()
    return {
        "temperature": calibration.temperature,
        "fitted_on": fitted.fitted_on,
        "least_probability": fitted.sets.threshold,
        "distance_limit": fitted.domain.limit if fitted.domain else None,
    }


def read_deciding(record: TrainingRecord) -> tuple[Predictions, Source]:
    """The recorded predictions whose probabilities are calibrated, and which output of the model they are."""
    own, ensemble = record.predictions, record.ensemble
    if ensemble is None or ensemble["rule"] != "majority_vote":
        return own, "probabilities"
    members = [each.predictions for each in record.members.values()]
    return for_curves(own, members, ensemble["rule"]), "mean_probabilities"


def choose_points(
    calibrated: Predictions, malignant: tuple[str, ...], sensitivities: tuple[float, ...]
) -> tuple[WantedPoint, ...]:
    """A threshold for every wanted sensitivity; none where the malignant classes or their images are unknown."""
    if not malignant:
        return ()
    try:
        return tuple(
            WantedPoint(each, operating_point(calibrated, malignant, each)) for each in sensitivities
        )
    except DataError:  # validation images of one kind only
        return ()


def read_safeguards(folder: Path) -> Safeguards:
    """Reads what the Calibrator wrote."""
    return Safeguards.from_json(read_json(folder / SAFEGUARDS))


def read_distance(folder: Path) -> DomainDistance | None:
    """The distance to the training images; None where it is not offered."""
    path = folder / DISTANCE
    return DomainDistance.read(path) if path.is_file() else None


def read_distances(folder: Path, predictions: Predictions) -> np.ndarray | None:
    """Distances of predicted images that were measured while the limit was set; NaN of any others: [N]."""
    path = folder / DISTANCES
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        known = dict(zip(arrays["ids"].tolist(), arrays["distances"].tolist(), strict=True))
    return np.asarray([known.get(name, np.nan) for name in predictions.ids])
