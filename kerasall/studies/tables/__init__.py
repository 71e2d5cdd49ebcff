"""Our figures beside what the papers printed, each looked up in a run by its key.

The first word of a key says what it is of, and has a row in ``KINDS``; the others are its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from kerasall.studies.tables.classifiers import score_classifier
from kerasall.studies.tables.ours import Lookup, Ours, none_as
from kerasall.studies.tables.sweep import score_sweep

__all__ = ["KINDS", "Lookup", "Ours", "none_as"]

KINDS: Mapping[str, Lookup] = {"classifier": score_classifier, "sweep": score_sweep}
"""First word of a key -> how its figure is found: one module of this folder a kind."""
