"""What averaging several views of every image gains, on predictions that trained nothing, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerasall.evaluation.intervals import Interval, group_intervals
from kerasall.evaluation.paired_tests import Comparison, paired_difference
from kerasall.evaluation.predictions import Predictions

COMPARED = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")
OF_MALIGNANT = ("malignant_sensitivity", "malignant_specificity")


@dataclass(frozen=True)
class ViewGain:
    """One view against the mean of several, on the same images.

    Attributes:
        views: how many are averaged.
        predicted_on: what the images are: validation, out-of-fold or selection.
        images: their number.
        changed: images that are called otherwise.
        one, mean: metric -> interval.
        gain: metric -> paired difference, mean of views less one view.
        seconds: per image on the machine that exported, with one view and with all.
    """

    views: int
    predicted_on: str
    images: int
    changed: int
    one: Mapping[str, Interval]
    mean: Mapping[str, Interval]
    gain: Mapping[str, Comparison]
    seconds: tuple[float, float]

    @property
    def cost(self) -> float:
        """How many times as long an answer takes."""
        return self.seconds[1] / self.seconds[0]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "views": self.views,
            "predicted_on": self.predicted_on,
            "images": self.images,
            "called_otherwise": self.changed,
            "one_view": {name: found.to_json() for name, found in self.one.items()},
            "mean_of_views": {name: found.to_json() for name, found in self.mean.items()},
            "gain": {name: vars(found) for name, found in self.gain.items()},
            "seconds_per_image": {"one_view": self.seconds[0], "all_views": self.seconds[1]},
        }


def measure_gain(
    one: Predictions,
    mean: Predictions,
    malignant: Sequence[str] = (),
    *,
    views: int,
    predicted_on: str,
    seconds: tuple[float, float],
    resamples: int = 2000,
    seed: int = 0,
) -> ViewGain:
    """Compares the answers to single images with the mean over their views.

    Args:
        one: N images as they are.
        mean: the same images, probabilities averaged over views.
        malignant: names of the malignant classes.
        views, predicted_on, seconds: see ``ViewGain``.
        resamples, seed: of the intervals.
    """
    names = [*COMPARED, *(OF_MALIGNANT if malignant else ())]
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    return ViewGain(
        views,
        predicted_on,
        len(one),
        int((one.decisions != mean.decisions).sum()),
        group_intervals(one, names, malignant, **options),
        group_intervals(mean, names, malignant, **options),
        {name: paired_difference(mean, one, name, malignant) for name in names},
        seconds,
    )
