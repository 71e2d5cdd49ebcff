"""What the protocol alone is worth: the same frozen features and the same head, scored under three ways to split.

    python -m results.leakage --cnmc PATH --aria PATH/Original --weights DIR --cache DIR

On C-NMC single images are dealt into five folds, or whole subject ids, or whole patients: ids joined by cells that occur
under several of them. On the four-class set single images, or whole groups of duplicates, or whole blocks of consecutive file
numbers. Every image is predicted by a head that was fitted to the other four folds, its standardisation included; nothing is
chosen. Twenty draws of the folds, so that the luck of one split is seen apart; what is told is the mean over them.

Effects are differences on the same images. Their intervals leave out one group of patients (blocks) after another
(``kerasall.evaluation.paired_tests``), whatever the split was: they hold for other patients, with these trained heads. An
effect holds what a protocol is worth in all: copies of a scored image in training, other images of its patient, and that
training has seen fewer patients where whole ones are held out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from kerasall.csv_tables import write_csv
from kerasall.data.splits import Split, Unit, count_training
from kerasall.data.stratification import fold_split
from kerasall.evaluation.cross_fitting import cross_fit, number_folds
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.paired_tests import repeated_difference
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.repeats import score_repeats, spread_of
from kerasall.models.feature_classifiers import fit_feature_classifier
from kerasall.shown_text import show
from results.frozen import Features, Images, compute_features, read_images
from results.provenance import write_study

HERE = Path(__file__).parent
FOLDS, DRAWS = 5, 20
NETWORK = "mobilenet"
STRENGTH = 0.01
"""scikit-learn's ``C`` of the linear head, stated beforehand: the weight of an image against the penalty."""
METRICS = ("accuracy", "balanced_accuracy", "roc_auc", "malignant_sensitivity", "malignant_specificity")
OF_SOME = ("accuracy", "malignant_sensitivity")
"""What is told of the images that recur and of the rest: of some classes there may be too few for more."""


@dataclass(frozen=True)
class Protocol:
    """A way to split.

    Attributes:
        name: in files.
        title: in tables.
        unit: what is dealt out whole.
        subjects: whether subject ids (blocks) stay whole.
        joined: whether the ids that are known to be one patient do.
        clusters: whether duplicates do.
    """

    name: str
    title: str
    unit: Unit = "group"
    subjects: bool = True
    joined: bool = False
    clusters: bool = False


PROTOCOLS = {
    "cnmc": (
        Protocol("images", "single images", unit="image"),
        Protocol("ids", "subject ids"),
        Protocol("patients", "joined ids and duplicates", joined=True, clusters=True),
    ),
    "aria": (
        Protocol("images", "single images", unit="image"),
        Protocol("duplicates", "groups of duplicates", subjects=False, clusters=True),
        Protocol("blocks", "blocks of file numbers", clusters=True),
    ),
}
"""Source -> from the most leaky to the honest one."""


# --- predictions under a protocol ---------------------------------------------------------------------

Head = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Features [N, D] and labels [N] to fit to, features [K, D] to answer for: probabilities [K, C]."""


def answer_linear(features: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Multinomial logistic regression of standardised features."""
    head = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=2_000))
    with threadpool_limits(1):  # how many threads there are must not change a digit
        return head.fit(features, labels).predict_proba(asked)


def answer_nearest(features: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The five nearest neighbours of the standardised features: a head that does nothing but remember."""
    with threadpool_limits(1):
        return fit_feature_classifier("knn", features, labels, int(labels.max()) + 1).predict(asked)[0]


HEADS: dict[str, Head] = {"linear": answer_linear, "nearest": answer_nearest}


def draw_split(images: Images, protocol: Protocol, seed: int) -> Split:
    """Five folds of near equal class counts under a protocol."""
    collection = images.collection
    examples = collection.examples if protocol.subjects else collection.examples.assign(subject="")
    return fold_split(
        examples, images.duplicates.clusters if protocol.clusters else (), folds=FOLDS, seed=seed, unit=protocol.unit,
        fingerprint=images.fingerprint, joined=collection.joined_subjects if protocol.joined else (),
    )  # fmt: skip


def number_parts(images: Images, split: Split) -> np.ndarray:
    """Number of each image's fold, int [N]."""
    blank = images.record(
        np.full((len(images.ids), len(images.collection.labels)), 1.0) / len(images.collection.labels)
    )
    return number_folds(blank, {fold: split.ids(fold) for fold in split.folds})


def predict_out_of_fold(images: Images, features: np.ndarray, parts: np.ndarray, head: Head) -> Predictions:
    """Every image predicted by a head that was fitted to the other parts; its groups are the honest ones."""
    values = np.asarray(features, np.float64)

    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return head(values[others], images.labels[others], values[inside])

    return images.record(cross_fit(parts, answer))


def predict_draws(
    images: Images, features: np.ndarray, splits: Sequence[Split], head: Head
) -> list[Predictions]:
    """``predict_out_of_fold`` on each of several splits."""
    return [predict_out_of_fold(images, features, number_parts(images, split), head) for split in splits]


# --- effects ------------------------------------------------------------------------------------------


def score_protocols(records: Mapping[str, Sequence[Predictions]], malignant: Sequence[str]) -> dict[str, Any]:
    """Protocol -> metric -> mean and deviation over the draws, and the mean's interval over groups.

    Args:
        records: protocol -> predictions of each draw.
        malignant: names of the malignant classes.
    """
    draws = zip(*records.values(), strict=True)
    repetitions = {
        f"draw {number}": {
            name: Scorer(record, malignant) for name, record in zip(records, draw, strict=True)
        }
        for number, draw in enumerate(draws)
    }
    found = score_repeats(repetitions, METRICS)
    kept = ("mean", "deviation", "lowest", "highest", "low", "high", "groups")
    return {
        name: {metric: {key: getattr(spread, key) for key in kept} for metric, spread in spreads.items()}
        for name, spreads in found.spreads.items()
    }


def measure_effect(
    first: Sequence[Predictions], second: Sequence[Predictions], metric: str, malignant: Sequence[str]
) -> dict[str, Any]:
    """Mean over the draws of the first protocol's score less the second's, with its interval over groups.

    ``deviation`` is that of the differences from draw to draw, ``above`` the share of the draws in which the first is higher.
    """
    scorer = Scorer(first[0], malignant)
    found = repeated_difference(scorer, list(zip(first, second, strict=True)), metric)
    row = {key: getattr(found, key) for key in ("difference", "low", "high", "p_value", "note")}
    if found.difference is None:
        return row
    value = find_metric(metric, scorer.predictions.classes)
    over_draws = [
        value(one, malignant) - value(two, malignant) for one, two in zip(first, second, strict=True)
    ]
    return row | {
        "deviation": spread_of(over_draws).deviation,
        "above": float(np.mean([each > 0 for each in over_draws])),
    }


def measure_effects(images: Images, records: Mapping[str, Sequence[Predictions]]) -> list[dict[str, Any]]:
    """Every two protocols, the more leaky one first: on all images, on those that recur, and on the rest."""
    malignant, rows = images.collection.malignant, []
    chosen = {"all": np.ones(len(images.ids), bool), "recurring": images.recurs, "rest": ~images.recurs}
    for one, two in combinations(records, 2):
        for which, mask in chosen.items():
            first, second = ([record.take(mask) for record in records[name]] for name in (one, two))
            metrics = METRICS if which == "all" else OF_SOME
            rows.append(
                {
                    "first": one,
                    "second": two,
                    "images": which,
                    "count": int(mask.sum()),
                    "groups": len(np.unique(images.groups[mask])),
                    "metrics": {
                        name: measure_effect(first, second, name, malignant) if mask.any() else None
                        for name in metrics
                    },
                }
            )
    return rows


def tabulate_images(images: Images, records: Mapping[str, Sequence[Predictions]]) -> pd.DataFrame:
    """One row an image: id, label, group, recurs, and for each protocol the share of draws that called it rightly."""
    table = pd.DataFrame(
        {
            "id": images.ids,
            "label": images.collection.examples["label"].to_numpy(str),
            "group": images.groups,
            "recurs": images.recurs.astype(int),
        }
    )
    for name, draws in records.items():
        table[f"right_{name}"] = np.mean([record.right for record in draws], axis=0).round(4)
    return table


# --- the study ----------------------------------------------------------------------------------------


def study_set(images: Images, features: Features, draws: int, out: Path) -> dict[str, Any]:
    """Everything that is told of one set; writes the table of its images beside."""
    source, started = images.collection.source, time.perf_counter()
    splits = {
        protocol.name: [draw_split(images, protocol, seed) for seed in range(draws)]
        for protocol in PROTOCOLS[source]
    }
    heads = {}
    for name, head in HEADS.items():
        records = {
            protocol: predict_draws(images, features.values, drawn, head)
            for protocol, drawn in splits.items()
        }
        heads[name] = {
            "scores": score_protocols(records, images.collection.malignant),
            "effects": measure_effects(images, records),
        }
        if name == "linear":
            write_csv(tabulate_images(images, records), out / f"leakage_{source}.csv")
    return {
        **images.describe(),
        "features": features.facts,
        "protocols": {
            protocol.name: {
                "title": protocol.title,
                "splits": [split.sha256 for split in splits[protocol.name]],
                "distinct": count_distinct(splits[protocol.name]),
                "training_images": float(
                    np.mean([count_training(split)[1] for split in splits[protocol.name]])
                ),
            }
            for protocol in PROTOCOLS[source]
        },
        "heads": heads,
        "seconds": time.perf_counter() - started,
    }


def count_distinct(splits: Sequence[Split]) -> int:
    """How many of the splits part the images otherwise, whatever the folds are called."""
    partitions = {frozenset(frozenset(split.ids(fold)) for fold in split.folds) for split in splits}
    return len(partitions)


def parse(description: str | None) -> argparse.ArgumentParser:
    """The options that all studies share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cnmc", type=Path, help="folder of C-NMC cells; left out: that set is not studied")
    parser.add_argument("--aria", type=Path, help="folder Original of the four-class set; likewise")
    parser.add_argument("--weights", type=Path, required=True, help="folder of ImageNet weights")
    parser.add_argument(
        "--cache",
        type=Path,
        required=True,
        help="folder of activations, such as RUNS/cache, which may be deleted",
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    return parser


def finish(out: Path, study: str, document: dict[str, Any]) -> None:
    """Writes a study's JSON into a folder and shows its section of the page."""
    write_study(out / f"{study}.json", study, document)
    # By name: what is imported here is an input of the numbers, and the words of a page are none.
    show(*import_module(f"results.pages.{study}").section(document))


def main() -> None:
    """Writes leakage.json and one table a set."""
    parser = parse(__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the folds, at least 2; seeds 0, 1, ...")
    given = parser.parse_args()
    sets = {}
    for source in PROTOCOLS:
        if path := getattr(given, source):
            images = read_images(source, path, given.cache)
            features = compute_features(images, NETWORK, given.weights)
            sets[source] = study_set(images, features, given.draws, given.out)
    settings = {
        "folds": FOLDS, "seeds": list(range(given.draws)), "network": NETWORK, "linear_strength": STRENGTH,
        "neighbours": 5, "chosen_on_scored_images": "nothing",
    }  # fmt: skip
    command = "python -m results.leakage --cnmc PATH --aria PATH/Original --weights DIR --cache DIR"
    document = {"command": command, "settings": settings, "sets": sets}
    finish(given.out, "leakage", document)


if __name__ == "__main__":
    main()
