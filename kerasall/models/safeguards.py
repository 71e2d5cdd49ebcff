"""A trained model that also says how sure it is, which classes remain, and whether to ask an expert."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras

from kerasall.evaluation.refer import KEPT, Safeguards, calibrate, refer_reasons
from kerasall.models.out_of_domain import FEATURES, DomainDistance, measure_pictures, with_features
from kerasall.models.prediction import mean_of_views, require_views

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
