"""Calls of whole subjects for the report: by a threshold from subjects that are not scored, or why not.

What averaging views gains and costs, from what the Trainer recorded and the Exporter timed.
"""

from __future__ import annotations

from pathlib import Path

from kerasall.data.development import ONE_VIEW, PREDICTIONS, Facts
from kerasall.data.splits import Split
from kerasall.errors import DataError
from kerasall.evaluation.ensemble_scores import ViewGain, measure_gain
from kerasall.evaluation.predictions import Predictions, read_predictions
from kerasall.evaluation.subject_calls import SubjectCalls, call_subjects
from kerasall.files import read_json
from kerasall.settings import Settings


def score_views(
    record: Path, parity: Path, fitted_on: str, facts: Facts, settings: Settings
) -> ViewGain | None:
    """What averaging views gains on the recorded predictions, and costs; None where one view answers."""
    if not (record / ONE_VIEW).is_file():
        return None
    measured = read_json(parity / "parity.json")
    return measure_gain(
        read_predictions(record / ONE_VIEW), read_predictions(record / PREDICTIONS), facts.malignant,
        views=settings.serve.views, predicted_on=fitted_on,
        seconds=(measured["seconds_one_view"], measured["seconds_all_views"]),
        resamples=settings.evaluate.resamples, seed=settings.seed,
    )  # fmt: skip


NOT_REAL = {
    "block": "No patient is known in these data: runs of consecutive file numbers stand in for patients, and what is "
    "called malignant must be a person.",
    "none": "No patient is known in these data.",
}

NOT_NAMED = "The malignant classes are not named (data.malignant)."


def score_subjects(
    scored: Predictions,
    record: Path,
    split: Split,
    facts: Facts,
    *,
    fitted_on: str,
    resamples: int,
    seed: int,
) -> SubjectCalls | str:
    """Subjects called by a threshold that the recorded predictions of other subjects chose; or why not.

    Args:
        scored: the scored images with the model's decisions.
        record: the TrainingRecord, whose predictions choose the threshold.
        split: of the images to develop on.
        facts: of the data.
        fitted_on: what the recorded predictions are of: validation, out-of-fold or selection.
        resamples, seed: of the intervals.
    """
    if facts.subject_kind != "subject":
        return NOT_REAL[facts.subject_kind]
    if not facts.malignant:
        return NOT_NAMED
    folds = {fold: split.ids(fold) for fold in split.folds}
    try:
        return call_subjects(
            scored, read_predictions(record / PREDICTIONS), facts.malignant,
            fitted_on=fitted_on, folds=folds, resamples=resamples, seed=seed,
        )  # fmt: skip
    except DataError as error:
        return f"{str(error)[0].upper()}{str(error)[1:]}."
