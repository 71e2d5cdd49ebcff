"""Pictures of where a run's exported model sees its call, for the page of a review. Loads TensorFlow."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from kerasall.errors import KerasallError
from kerasall.evaluation.review import ReviewItem
from kerasall.evaluation.review_page import Overlay


def make_overlays(run: Path) -> Overlay | None:
    """A maker of overlays from the run's SavedModel; None, and a line that says why, where it has no maps.

    The exported model may have been trained on the very image, after the predictions of the queue were made:
    the caption says so.
    """
    from kerasall.cli import quiet_tensorflow
    from kerasall.explain_cli import find_saved_model

    try:
        _, saved_model = find_saved_model(str(run))
        with quiet_tensorflow():
            from kerasall.serving.explanation import explain_image, require_explainable
            from kerasall.serving.predictor import Predictor

            predictor = Predictor(saved_model)
        require_explainable(predictor)
    except KerasallError as error:
        print(f"without overlays: {error}", file=sys.stderr)
        return None
    from kerasall.evaluation.explanation_figures import overlay

    def draw(item: ReviewItem) -> tuple[np.ndarray, str] | None:
        shown = item.decision or item.label
        try:
            found = explain_image(
                predictor, Path(item.path).read_bytes(), item.id, predictor.labels.index(shown)
            )
        except (KerasallError, OSError):
            return None  # nothing is made up where there is no gradient or no file
        if not found.has_evidence.any():
            return None
        return overlay(found.pixels, found.heatmap), describe_overlay(item, shown)

    return draw


def describe_overlay(item: ReviewItem, shown: str) -> str:
    """The caption; it says where the exported model, unlike the one whose call is shown, may have trained on the image.

    Args:
        item: predicted out of fold, or (a training image) not at all; else by the exported model itself.
        shown: class whose map it is.
    """
    words = f"Where the exported model sees {shown} (Grad-CAM)"
    if item.kind == "out-of-fold":
        return f"{words}; unlike the model that made the call, it may have trained on this image"
    return words if item.kind else f"{words}; it may have trained on this image"
