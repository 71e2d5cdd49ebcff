"""Single images of a run beside a paper's: with their calls, as operations leave them, and where the model sees its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasall.decoding import decode, read_image_bytes
from kerasall.errors import KerasallError
from kerasall.evaluation.review import REVIEW, read_review_record
from kerasall.report.figures_data import GalleryImage
from kerasall.report.page import Picture, encode_picture, read_picture
from kerasall.report.sections import choose_gallery
from kerasall.runtime import quiet_tensorflow
from kerasall.studies.finished_run import Run
from kerasall.studies.tables.parts import ENSEMBLE, Drawn, find_parts, make_part
from kerasall.studies.tables.scored import Scored, read_scored

_IMAGES = 8
"""Images of one gallery."""
_MAPS = 3
"""Images of which heat maps are drawn."""
_PAIRS = 2
"""Images of a class that are shown as they are and as operations leave them."""


def show_gallery(run: Run, words: Sequence[str]) -> Drawn:
    """``gallery``: images with their true and called class, half of them wrong where there are as many."""
    parts = find_parts(run, words) if words else [make_part(read_scored(run), ENSEMBLE)]
    if isinstance(parts, str):
        return Drawn(reason=parts)
    own, paths, items = parts[0].predictions, read_paths(run), []
    for row in choose_gallery(own, _IMAGES, int(run.settings.get("seed", 0))):
        name, called = str(own.ids[row]), own.classes[own.decisions[row]]
        true = own.classes[own.labels[row]]
        picture = read_picture(
            "gallery", f"Cell {name}: true class {true}, called {called}", paths.get(name, name)
        )
        if picture is not None:
            told = GalleryImage(name, np.empty(0), true, called, float(own.confidences[row]))
            tone = "good" if told.right else "bad"
            items.append({"picture": picture, "title": told.title, "text": told.sure, "tone": tone})
    return Drawn(gallery=items, reason="" if items else "the scored images cannot be read where they lay")


def show_segmented(run: Run, words: Sequence[str]) -> Drawn:
    """``segmented/CLASS``: images of a class as their files hold them, and as the run's operations hand them on.

    Loads TensorFlow.
    """
    scored = read_scored(run)
    named = scored.find_classes(words[0])
    if not named:
        return Drawn(reason=f"this run has the classes {', '.join(scored.classes)}")
    with quiet_tensorflow():
        import tensorflow as tf

        from kerasall.preprocessing.operations import Chain
    try:
        chain = Chain.from_json(run.settings["preprocess"])
    except KerasallError as error:
        return Drawn(reason=str(error))
    own, paths, items = scored.predictions, read_paths(run), []
    rows = np.flatnonzero(np.isin(own.labels, [scored.classes.index(name) for name in named]))
    for name in map(str, own.ids[rows][:: max(1, len(rows) // _PAIRS)][:_PAIRS]):
        try:
            pixels = decode(read_image_bytes(paths.get(name, name)), name=name)
        except (KerasallError, OSError):
            continue
        shown = {
            "Original": pixels,
            f"After {', '.join(each.name for each in chain.operations)}": chain(tf.constant(pixels)).numpy(),
        }
        for title, each in shown.items():
            picture = encode_picture("segmented", f"{title}: {name}", each)
            items.append({"picture": picture, "title": title, "text": Path(name).name, "tone": ""})
    return Drawn(gallery=items, reason="" if items else "the scored images cannot be read where they lay")


def draw_maps(run: Run, words: Sequence[str]) -> Drawn:
    """``gradcam/CLASS``: where the members and the ensemble see the class, first in images that a member gets wrong.

    Loads TensorFlow and the exported model.
    """
    scored = read_scored(run)
    named = scored.find_classes(words[0]) if words else scored.classes
    if not named:
        return Drawn(reason=f"this run has the classes {', '.join(scored.classes)}")
    try:
        predictor = run.predictor()
        from kerasall.serving.explanation import require_explainable

        require_explainable(predictor, run.no_maps)
    except KerasallError as error:
        return Drawn(reason=str(error))
    paths = read_paths(run)
    rows = choose_explained(scored, named)
    left_out = "".join(f"; without {name}: {why}" for name, why in run.no_maps.items())
    plots = [
        (picture, f"{words}{left_out}")
        for row in rows
        for picture, words in [_explain(predictor, scored, row, paths)]
        if picture is not None
    ]
    return Drawn(plots, reason="" if plots else "the scored images cannot be read where they lay")


def choose_explained(scored: Scored, named: Sequence[str]) -> list[int]:
    """Rows of the classes to explain: right by the ensemble, those that most members get wrong first."""
    own = scored.predictions
    wrong = sum((~each.in_order(own.ids).right for each in scored.members.values()), np.zeros(len(own), int))
    chosen = np.flatnonzero(np.isin(own.labels, [scored.classes.index(name) for name in named]) & own.right)
    return chosen[np.argsort(-wrong[chosen], kind="stable")][:_MAPS].tolist()


def _explain(
    predictor: Any, scored: Scored, row: int, paths: Mapping[str, str]
) -> tuple[Picture | None, str]:
    """The maps of one image with a caption; None where there is no map or no file, for nothing is made up."""
    from kerasall.report.figures_explanation import DOTS_PER_INCH, ExplainedImage, draw_explanation
    from kerasall.report.figures_style import figure_to_png
    from kerasall.serving.explanation import explain_image

    own = scored.predictions
    name, true = str(own.ids[row]), own.classes[own.labels[row]]
    try:
        data = read_image_bytes(paths.get(name, name), predictor.limits)
        found = explain_image(predictor, data, name, predictor.labels.index(true))
    except (KerasallError, OSError):
        return None, ""
    votes = [
        f"{member} {'right' if each.in_order(own.ids).right[row] else 'wrong'}"
        for member, each in scored.members.items()
    ]
    words = f"true class {true}; {', '.join(votes)}"
    several = len(found.names) > 1
    members = tuple(zip(found.names, found.member_heatmaps, strict=True)) if several else ()
    figure, text = draw_explanation(
        ExplainedImage(
            Path(name).name, words, found.pixels, found.heatmap, members, bool(found.has_evidence.any())
        )
    )
    return Picture(
        "figures/map.png", text, figure_to_png(figure, DOTS_PER_INCH)
    ), f"Evidence for {true} in {Path(name).name}"


def read_paths(run: Run) -> dict[str, str]:
    """Id of an image -> where its file lay when the run was evaluated."""
    images = read_review_record(run.output("Evaluation", REVIEW)).images
    return dict(zip(images["id"], images["path"], strict=True))
