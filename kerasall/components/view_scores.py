"""What averaging views gains and costs, from what the Trainer recorded and the Exporter timed."""

from __future__ import annotations

from pathlib import Path

from kerasall.components.development import Facts
from kerasall.components.trainer import ONE_VIEW, PREDICTIONS
from kerasall.evaluation.predictions import read_predictions
from kerasall.evaluation.view_gain import ViewGain, measure_gain
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
