"""What must be said beside the scores of an external check, the gravest first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kerasall.components.seen_images import count_parts
from kerasall.evaluation.class_mapping import BENIGN, MALIGNANT
from kerasall.evaluation.intervals import FEW_GROUPS, groups_known
from kerasall.evaluation.refer import UNLIKE
from kerasall.evaluation.resampling import group_names
from kerasall.external_check import BESIDE_SEEN, MAPPED_OUT, SEEN, UNREADABLE, ExternalCheck

MUCH_REFERRED = 0.2
"""Share of images called unlike the training images from which on the scores are said to mean little."""


def list_cautions(check: ExternalCheck) -> list[str]:
    """Sentences on what the scores cannot tell."""
    return [
        *_about_likeness(check), *_about_model(check), *_about_seen(check), *_about_classes(check),
        *_about_groups(check), *_about_promises(check), *_about_data(check),
    ]  # fmt: skip


def _about_likeness(check: ExternalCheck) -> Iterator[str]:
    if check.reasons is None or check.model.safeguards is None or check.model.safeguards.domain is None:
        yield "The model cannot tell images unlike its training images: whether these are its business is unknown."
        return
    share = float((check.reasons == UNLIKE).mean())
    if share >= MUCH_REFERRED:
        yield (
            f"The model itself calls {100 * share:.1f}% of these images unlike its training images: its answers to "
            "them are guesses, and the scores below say what would happen if it were used all the same."
        )


def _about_promises(check: ExternalCheck) -> Iterator[str]:
    if check.members is not None:
        yield "The coverage stated for prediction sets, and calibration, were promised for the model's own kind of images only."


def _about_model(check: ExternalCheck) -> Iterator[str]:
    card = check.model.card
    if check.model.blessed is False:
        yield "The model did not pass the checks for export on its own data."
    if (card.get("data") or {}).get("source") == "synthetic":
        yield "The model was trained on rendered cells: it has never seen a photograph of blood."
    if check.collection.source == "synthetic":
        yield "The cells scored here are rendered, not photographed: the scores say nothing about leukaemia."
    elif check.same_source:
        yield (
            f"Training images and these come from the same kind of source ({check.collection.source}): if also from "
            "the same laboratory, this is no external check."
        )


def _about_seen(check: ExternalCheck) -> Iterator[str]:
    seen, beside = check.count(SEEN), check.count(BESIDE_SEEN)
    if check.model.seen is None:
        yield (
            "Which images the model was trained on was not written down when it was exported: copies of them may be "
            "scored here. Export it again to know."
        )
        return
    decided, tested = count_parts(check.model.seen.values())
    known = f"{decided:,} training and validation and {tested:,} test images"
    if seen or beside:
        yield (
            f"{seen:,} of {len(check.table):,} images are byte for byte among the model's own ({known}), and {beside:,} "
            "more are of the same subjects or show the same cells: all of these are left out."
        )
    yield (
        f"Files were compared with the model's own {known} byte for byte: copies that were compressed, resized or cropped "
        "are not recognised, nor are other images of the same patients under other names."
    )


def _about_classes(check: ExternalCheck) -> Iterator[str]:
    mapping, present = check.mapping, set(check.scored.labels.tolist())
    if mapping.kinds:
        yield (
            f"The classes of the images ({', '.join(check.collection.labels)}) and of the model ({', '.join(check.labels)}) "
            f"are joined to {BENIGN} and {MALIGNANT}. What one laboratory calls so need not be what another does: "
            f"{'; '.join(mapping.describe())}."
        )
    missing = [name for index, name in enumerate(mapping.classes) if index not in present]
    if missing:
        yield f"No image of {', '.join(missing)} is scored: what needs one is not defined, and AUC says nothing."
    if check.count(MAPPED_OUT):
        yield f"{check.count(MAPPED_OUT):,} images of {', '.join(mapping.left_out)} are left out, as stated."
    yield "Shares of classes here differ from those in a clinic: precision and accuracy hold for these shares only."


def _about_groups(check: ExternalCheck) -> Iterator[str]:
    groups = len(np.unique(group_names(check.scored)))
    if not groups_known(check.scored):
        yield "No patient is known of these images: they count as independent, and the intervals are too narrow."
    elif groups < FEW_GROUPS:
        yield f"Only {groups} groups of images (patients or stand-ins) are scored: the intervals are likely too narrow."
    if len(check.scored) < 100:
        yield f"Only {len(check.scored)} images are scored: no more than a first look."


def _about_data(check: ExternalCheck) -> Iterator[str]:
    if check.count(UNREADABLE):
        yield f"{check.count(UNREADABLE):,} images could not be read and are not scored."
    yield from check.collection.notes
    for anomaly in [*check.anomalies["errors"], *check.anomalies["warnings"]]:
        yield f"Of the images: {anomaly['message']}"
