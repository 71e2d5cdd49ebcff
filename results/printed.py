"""Two printed scores and what they are worth: one batch of 32 images, and a vote whose patients nobody asked for.

    python -m results.printed --aria PATH/Original --weights DIR --cache DIR --labels C-NMC_test_prelim_phase_data_labels.csv

Samyuktha et al. print .9687: 31 of 32 images of one batch. A thousand batches of 32 are drawn from the out-of-fold predictions of one
honest model and of those of leaky splits (``results.leakage``: the same features and head), of five draws of the folds in turn.
Chen et al. print .8511 on 1,867 images and list, in Table 17, which were called wrongly; the public label table tells their 28 patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import hypergeom

from kerasall.csv_tables import read_csv
from kerasall.data.cnmc import parse_cell_name
from kerasall.errors import DataError
from kerasall.evaluation.intervals import wilson_interval
from kerasall.evaluation.predictions import Predictions
from kerasall.published.papers import read_paper
from kerasall.studies.tables.listed import read_listed, score_printed
from results.frozen import compute_features, read_images
from results.leakage import (
    HEADS,
    NETWORK,
    PROTOCOLS,
    draw_split,
    finish,
    parse,
    predict_draws,
    score_protocols,
)

BATCH, PRINTED_RIGHT = 32, 31
"""Images of the batch behind the printed .9687, and how many of them were right."""
BATCHES, SEED, DRAWS = 1_000, 0, 5
PAPER, TABLE = "taguchi_resnet101_vote", "Table 17"


# --- one batch ----------------------------------------------------------------------------------------


def draw_batches(records: Sequence[Predictions], batches: int, seed: int) -> np.ndarray:
    """Right answers among ``BATCH`` images drawn from one record after the other: int [batches]."""
    random = np.random.default_rng(seed)
    found = np.empty(batches, np.int64)
    for number in range(batches):
        record = records[number % len(records)]
        found[number] = record.right[random.choice(len(record), BATCH, replace=False)].sum()
    return found


def describe_batches(records: Sequence[Predictions], batches: int, seed: int) -> dict[str, Any]:
    """How the accuracy of a batch is spread, and how often it reaches the printed one.

    ``expected`` is the chance that a batch does by the hypergeometric distribution, its mean over the records.
    """
    right = draw_batches(records, batches, seed)
    expected: list[Any] = [
        hypergeom.sf(PRINTED_RIGHT - 1, len(each), each.right.sum(), BATCH) for each in records
    ]
    low, middle, high = (float(np.quantile(right, share)) / BATCH for share in (0.05, 0.5, 0.95))
    return {
        "accuracy": float(np.mean([each.right.mean() for each in records])),
        "low_5": low,
        "median": middle,
        "high_95": high,
        "lowest": int(right.min()) / BATCH,
        "highest": int(right.max()) / BATCH,
        "reach_printed": float((right >= PRINTED_RIGHT).mean()),
        "expected": float(np.mean(expected)),
    }


def study_batch(aria: Path, weights: Path, cache: Path) -> dict[str, Any]:
    """The batch of 32 beside the linear head under every protocol of the four-class set."""
    images = read_images("aria", aria, cache)
    features = compute_features(images, NETWORK, weights)
    found, records = {}, {}
    for protocol in PROTOCOLS["aria"]:
        splits = [draw_split(images, protocol, seed) for seed in range(DRAWS)]
        records[protocol.name] = predict_draws(images, features.values, splits, HEADS["linear"])
        found[protocol.name] = {
            "title": protocol.title,
            "splits": [split.sha256 for split in splits],
            **describe_batches(records[protocol.name], BATCHES, SEED),
        }
    scores = score_protocols(records, images.collection.malignant)
    for name, told in found.items():
        told["interval"] = [scores[name]["accuracy"][end] for end in ("low", "high")]
    low, high = wilson_interval(PRINTED_RIGHT, BATCH)
    return {
        "fingerprint": images.fingerprint, "features": features.facts, "batches": BATCHES, "batch": BATCH, "seed": SEED,
        "printed": {"right": PRINTED_RIGHT, "low": low, "high": high}, "protocols": found,
    }  # fmt: skip


# --- one vote -----------------------------------------------------------------------------------------


def read_preliminary(path: Path) -> pd.DataFrame:
    """The preliminary images of the published label table: id, label, subject, group.

    Raises:
        DataError: the table is another one.
    """
    table = read_csv(path)
    try:
        known = [parse_cell_name(name) for name in table["Patient_ID"]]
        names = table["new_names"].tolist()
    except KeyError as error:
        raise DataError(f"{path} must have the columns Patient_ID and new_names, but lacks {error}") from None
    if not all(known):
        raise DataError(
            f"{path} must name cells as UID_<subject>_..., but one is {table['Patient_ID'][known.index(None)]}"
        )
    subjects, labels = zip(*(each for each in known if each), strict=True)
    return pd.DataFrame({"id": names, "label": labels, "subject": subjects, "group": subjects})


def study_vote(images: pd.DataFrame) -> dict[str, Any]:
    """The printed accuracy of nine networks' vote, with the interval over its patients.

    Args:
        images: from ``read_preliminary``.
    """
    table = next(each for each in read_paper(PAPER).tables if each.name == TABLE)
    wrong = read_listed(table)
    found = score_printed(images, wrong)
    missed = pd.Series([PurePosixPath(name).stem in wrong for name in images["id"]])
    by_patient = (1 - missed.groupby(images["subject"]).mean()).sort_values()
    low, high = wilson_interval(int((~missed).sum()), len(images))
    return {
        "images": len(images), "listed_as_wrong": int(missed.sum()), "accuracy": found.value, "low": found.low,
        "high": found.high, "groups": found.groups, "method": found.method, "low_by_image": low, "high_by_image": high,
        "mean_over_patients": float(by_patient.mean()),
        "lowest_patients": {str(name): float(value) for name, value in by_patient.head(3).items()},
    }  # fmt: skip


def main() -> None:
    """Writes printed.json."""
    parser = parse(__doc__)
    parser.add_argument("--labels", type=Path, help="the published label table of the preliminary part")
    given = parser.parse_args()
    document: dict[str, Any] = {
        "command": "python -m results.printed --aria PATH/Original --weights DIR --cache DIR --labels TABLE"
    }
    if given.aria:
        document["batch"] = study_batch(given.aria, given.weights, given.cache)
    if given.labels:
        document["vote"] = study_vote(read_preliminary(given.labels))
    finish(given.out, "printed", document)


if __name__ == "__main__":
    main()
