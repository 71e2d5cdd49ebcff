"""Chains whose operations are fitted on training images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerasall.preprocessing.operations import OPERATIONS, Chain
from kerasall.preprocessing.stain import fit_macenko, fit_reinhard

FITS: dict[str, Callable[..., Any]] = {"reinhard": fit_reinhard, "macenko": fit_macenko}
"""Operation name -> fit(images, **arguments), for the operations that can be fitted on images alone."""


def fit_chain(steps: Sequence[Mapping[str, Any]], images: Callable[[], Iterable[np.ndarray]]) -> Chain:
    """Makes a chain from JSON, fitting the operations of ``FITS`` whose fitted arguments are left out.

    Each is fitted on the images as the steps before it leave them. A chain that lacks nothing is read as
    by ``Chain.from_json`` and no image is looked at.

    Args:
        steps: the chain's JSON, for example ``[{"op": "reinhard"}, {"op": "resize", ...}]``.
        images: gives training images, uint8 [H, W, 3] RGB; called once for every operation to fit.

    Raises:
        SettingsError: as ``Chain.from_json``.
        DataError: the images do not allow the fit.
    """
    if isinstance(steps, str | Mapping) or not isinstance(steps, Sequence):
        return Chain.from_json(steps)  # says what is wrong
    done = Chain()
    for step in steps:
        if _lacks_fit(step):
            arguments = {name: value for name, value in step.items() if name != "op"}
            fit = FITS[step["op"]]
            fitted = fit((done(tf.constant(image)).numpy() for image in images()), **arguments)
            done = Chain((*done.operations, fitted))
        else:
            done = Chain((*done.operations, *Chain.from_json([step]).operations))
    return done


def check_steps(steps: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Checks a chain's JSON without fitting anything.

    Returns:
        Height and width of every result, in pixels.

    Raises:
        SettingsError: as ``Chain.from_json``, or the size would depend on the image.
    """
    # What is fitted changes colours alone, so the others tell the size.
    listed = not isinstance(steps, str | Mapping) and isinstance(steps, Sequence)
    return Chain.from_json([step for step in steps if not _lacks_fit(step)] if listed else steps).output_size


def _lacks_fit(step: Any) -> bool:
    """Whether every fitted argument is absent; a step that has some of them is a mistake to report."""
    if not isinstance(step, Mapping) or step.get("op") not in FITS:
        return False
    fields = dataclasses.fields(OPERATIONS[step["op"]])
    fitted = [field.name for field in fields if field.default is dataclasses.MISSING]
    known = {"op", *(field.name for field in fields)}
    return not any(name in step for name in fitted) and set(step) <= known
