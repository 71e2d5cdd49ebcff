"""Why an image goes to an expert: codes and words. Alone in its file, so that to predict loads no statistics."""

from __future__ import annotations

KEPT, SEVERAL, NONE, UNLIKE = 0, 1, 2, 3

REASONS = {
    KEPT: "",
    SEVERAL: "unsure: more than one class cannot be ruled out",
    NONE: "unsure: no class is likely enough",
    UNLIKE: "unlike the training images",
}
"""Code of ``refer_reason`` -> words. The last one goes before the others where both apply."""
