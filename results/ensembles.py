"""What an ensemble gains over its best member, what it costs, and what weights are worth that were fitted to the scored images.

    python -m results.ensembles --cnmc PATH --aria PATH/Original --weights DIR --cache DIR

Members are linear heads (``results.leakage``) on frozen networks, those of which weights are at hand. Folds are honest: whole
patients, or blocks of file numbers. For each held-out fold every member is fitted to the other four, and predicts each of these
by a fit to the other three: on these validation answers the best member is chosen and weights and stacking are fitted. Beside
that stands the same with member, weights and stacking fitted to the scored images themselves, as Mondal et al. did: the
difference is optimism, paired on the same images. Three draws of the folds; what is told is the mean over them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from kerasall.errors import WeightsError
from kerasall.evaluation.ensemble_rules import combine_predictions, member_weights, stacking_coefficients
from kerasall.evaluation.ensemble_scores import for_curves
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.predictions import Predictions, concatenate
from kerasall.shown_text import tell
from results.frozen import NETWORKS, Features, Images, compute_features, read_images
from results.leakage import (
    HEADS,
    PROTOCOLS,
    draw_split,
    finish,
    measure_effect,
    number_parts,
    parse,
    score_protocols,
)

DRAWS = 3
CHOOSING = "balanced_accuracy"
"""What the best member is best in, on validation answers."""
SHOWN = ("accuracy", "balanced_accuracy", "roc_auc", "malignant_sensitivity")

Members = Mapping[str, Predictions]
Combine = Callable[[Sequence[Predictions], Sequence[Predictions], Sequence[str]], Predictions]
"""The members' answers to combine, those that decide how, names of the malignant classes: the ensemble's answers."""


@dataclass(frozen=True, eq=False)
class Draw:
    """All members on one draw of the folds.

    Attributes:
        scored: member -> out-of-fold predictions of all images.
        validation: for each fold, member -> predictions of the images outside it, by fits that saw neither them nor it.
        folds: for each fold, which images are in it, bool [N].
    """

    scored: Members
    validation: Sequence[Members]
    folds: Sequence[np.ndarray]


# --- members ------------------------------------------------------------------------------------------


def predict_members(images: Images, features: Mapping[str, np.ndarray], parts: np.ndarray) -> Draw:
    """Fits every member to four folds, and to every three of them.

    Args:
        images: N of them.
        features: member -> [N, D].
        parts: number of each image's fold, int [N].
    """
    folds = [parts == number for number in np.unique(parts)]
    scored, validation = {}, [{} for _ in folds]
    for name, values in features.items():
        outer, inner = _answer_nested(images.labels, np.asarray(values, np.float64), folds)
        scored[name] = images.record(outer)
        for number, fold in enumerate(folds):
            validation[number][name] = images.record(inner[number]).take(~fold)
    return Draw(scored, validation, folds)


def _answer_nested(
    labels: np.ndarray, values: np.ndarray, folds: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of all images out of fold [N, C]; and for each fold those of the images outside it [K, N, C]."""
    classes, head = int(labels.max()) + 1, HEADS["linear"]
    outer = np.empty((len(labels), classes))
    inner = np.full((len(folds), len(labels), classes), 1 / classes)
    for fold in folds:
        outer[fold] = head(values[~fold], labels[~fold], values[fold])
    # What saw neither of two folds answers for each of them while the other one is held out.
    for one, other in combinations(range(len(folds)), 2):
        both = folds[one] | folds[other]
        answers = np.empty((len(labels), classes))
        answers[both] = head(values[~both], labels[~both], values[both])
        inner[one][folds[other]] = answers[folds[other]]
        inner[other][folds[one]] = answers[folds[one]]
    return outer, inner


# --- rules --------------------------------------------------------------------------------------------


def _combine(rule: str) -> Combine:
    def combine(
        members: Sequence[Predictions], _: Sequence[Predictions], malignant: Sequence[str]
    ) -> Predictions:
        return for_curves(combine_predictions(members, rule, malignant=malignant), members, rule)

    return combine


def _weigh(metric: str) -> Combine:
    def combine(
        members: Sequence[Predictions], deciding: Sequence[Predictions], malignant: Sequence[str]
    ) -> Predictions:
        weights = member_weights(deciding, metric)
        return combine_predictions(members, "weighted_average", weights, malignant=malignant)

    return combine


def _stack(
    members: Sequence[Predictions], deciding: Sequence[Predictions], malignant: Sequence[str]
) -> Predictions:
    return combine_predictions(
        members, "stacking", stacking=stacking_coefficients(deciding), malignant=malignant
    )


def _choose(
    members: Sequence[Predictions], deciding: Sequence[Predictions], malignant: Sequence[str]
) -> Predictions:
    metric = find_metric(CHOOSING, members[0].classes)
    return members[int(np.argmax([metric(each, malignant) for each in deciding]))]


BEST = "best member"
RULES: dict[str, Combine] = {
    BEST: _choose,
    "majority vote": _combine("majority_vote"),
    "average": _combine("average"),
    "weighted by F1": _weigh("f1"),
    "weighted by AUC": _weigh("auc"),
    "weighted by kappa": _weigh("kappa"),
    "stacking": _stack,
}
FITTED = [name for name in RULES if name not in ("majority vote", "average")]
"""Those that need answers to be decided by."""


def combine_nested(draw: Draw, combine: Combine, malignant: Sequence[str]) -> Predictions:
    """Every fold combined as the validation answers of the others decide, in the order of the images."""
    found = []
    for fold, validation in zip(draw.folds, draw.validation, strict=True):
        members = [each.take(fold) for each in draw.scored.values()]
        found.append(combine(members, list(validation.values()), malignant))
    return concatenate(found).in_order(next(iter(draw.scored.values())).ids)


def combine_on_scored(draw: Draw, combine: Combine, malignant: Sequence[str]) -> Predictions:
    """Everything decided by the very answers that are scored."""
    members = list(draw.scored.values())
    return combine(members, members, malignant)


# --- the study ----------------------------------------------------------------------------------------


def compare_rules(draws: Sequence[Draw], malignant: Sequence[str]) -> dict[str, Any]:
    """Scores of members and rules, every rule less the best member, and what fitting to the scored images adds.

    ``gains`` hold each rule less the member that validation answers choose, and less the member that the scored images show to be the
    best, which nobody can know beforehand; ``optimism`` the rule fitted to the scored images less the honest one.
    """
    nested = {name: [combine_nested(draw, rule, malignant) for draw in draws] for name, rule in RULES.items()}
    peeking = {name: [combine_on_scored(draw, RULES[name], malignant) for draw in draws] for name in FITTED}
    members = {name: [draw.scored[name] for draw in draws] for name in draws[0].scored}

    def differ(first: Sequence[Predictions], second: Sequence[Predictions]) -> dict[str, Any]:
        return {metric: measure_effect(first, second, metric, malignant) for metric in SHOWN}

    return {
        "members": score_protocols(members, malignant),
        "rules": score_protocols(nested, malignant),
        "fitted_to_scored": score_protocols(peeking, malignant),
        "gains": {
            name: {
                "over_chosen_member": differ(found, nested[BEST]),
                "over_best_on_scored": differ(found, peeking[BEST]),
            }
            for name, found in nested.items()
            if name != BEST
        },
        "optimism": {name: differ(peeking[name], nested[name]) for name in FITTED},
        "chosen_members": _count_chosen(draws, malignant),
    }


def _count_chosen(draws: Sequence[Draw], malignant: Sequence[str]) -> dict[str, int]:
    """Member -> in how many folds of all draws it is the one that the validation answers choose."""
    counts = dict.fromkeys(draws[0].scored, 0)
    for validation in (each for draw in draws for each in draw.validation):
        metric = find_metric(CHOOSING, next(iter(validation.values())).classes)
        counts[max(validation, key=lambda name: metric(validation[name], malignant))] += 1
    return counts


def study_set(images: Images, features: Mapping[str, Features], draws: int) -> dict[str, Any]:
    """Everything that is told of one set."""
    started, honest = time.perf_counter(), PROTOCOLS[images.collection.source][-1]
    splits = [draw_split(images, honest, seed) for seed in range(draws)]
    values = {name: each.values for name, each in features.items()}
    found = [predict_members(images, values, number_parts(images, split)) for split in splits]
    return {
        **images.describe(),
        "protocol": honest.title,
        "splits": [split.sha256 for split in splits],
        "networks": {name: dict(each.facts) for name, each in features.items()},
        **compare_rules(found, images.collection.malignant),
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    """Writes ensembles.json."""
    parser = parse(__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the folds, at least 2; seeds 0, 1, ...")
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=NETWORKS,
        help="all of them, or it fails; default those of which weights are at hand",
    )
    given, sets = parser.parse_args(), {}
    for source in PROTOCOLS:
        if path := getattr(given, source):
            images, features = read_images(source, path, given.cache), {}
            for name in given.networks or NETWORKS:
                try:
                    features[name] = compute_features(images, name, given.weights)
                except WeightsError as error:
                    if (
                        given.networks
                    ):  # of fewer members than were asked for the numbers would say something else
                        raise
                    tell(f"left out: {error}")
            sets[source] = study_set(images, features, given.draws)
    document = {
        "command": "python -m results.ensembles --cnmc PATH --aria PATH/Original --weights DIR --cache DIR",
        "settings": {"seeds": list(range(given.draws)), "member_chosen_by": CHOOSING},
        "sets": sets,
    }
    finish(given.out, "ensembles", document)


if __name__ == "__main__":
    main()
