"""Seeds: everything drawn at random has one of its own, a pure function of the experiment's and of what it is for.

All are at least 0 and below 2^31, so that they fit TensorFlow's int32; none depends on what was drawn before it.

    derive_seed(seed, "fold_1/learn")       a fit's weights, a stage's batches, a backbone's random weights
    derive_seed(seed, 2)                    the second changed copy of every image
    derive_seed(seed, row, repeat, fold)    a trial of a designed experiment
    name_seed(seed, "resnet")               a whole member of an ensemble
    name_seed(seed, "repeat 3")             a whole repetition

A split, and the images of its folds on which epochs are decided, are drawn with the experiment's own seed:
members and repetitions share them.
"""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: int | str) -> int:
    """The first word of NumPy's ``SeedSequence`` over the seed and the purpose, without its last bit.

    Args:
        seed: of the experiment, member, repetition or trial.
        purpose: numbers of at least 0, and names (their UTF-8 bytes).
    """
    import numpy as np  # here: settings are read without it

    words = [word for part in purpose for word in (part.encode() if isinstance(part, str) else [part])]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0] >> 1)


def name_seed(seed: int, name: str) -> int:
    """The first four bytes of the SHA-256 of "SEED NAME", without the last bit: a seed to derive others from."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big") >> 1
