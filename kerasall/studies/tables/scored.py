"""What a run was scored on: the predictions of the ensemble and of its members, ready to be scored with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, floor
from typing import Any

import numpy as np

from kerasall.data.development import Facts, read_facts
from kerasall.data.splits import read_split
from kerasall.data.training_record import MEMBERS
from kerasall.evaluation.ensemble_rules import RULES, combine_predictions
from kerasall.evaluation.ensemble_scores import for_curves
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import METRICS, Metric, confusion_matrix
from kerasall.evaluation.predictions import Predictions, read_predictions
from kerasall.studies.finished_run import Run
from kerasall.studies.tables.ours import Ours, none_as

_OF_SEVERAL = {"recall": "malignant_sensitivity", "specificity": "malignant_specificity"}
"""Score of one class -> the same of several malignant ones together."""


@dataclass(frozen=True, eq=False)
class Scored:
    """The scored images of a run.

    Attributes:
        kind: what they are: test, out-of-fold, validation or selection.
        scorer: of the whole system's predictions.
        members: name -> predictions of the same images; of one classifier itself, by its backbone.
        backbones: name of a member -> its backbone.
        made: how an ensemble was made, with ``rule`` and ``weights``; None for one classifier.
        facts: of the data.
    """

    kind: str
    scorer: Scorer
    members: Mapping[str, Predictions]
    backbones: Mapping[str, str]
    made: Mapping[str, Any] | None
    facts: Facts

    @property
    def predictions(self) -> Predictions:
        """Of the whole system."""
        return self.scorer.predictions

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in class order."""
        return self.predictions.classes

    def find_classes(self, word: str) -> tuple[str, ...]:
        """The classes that a key means: the ``malignant`` ones, the ``benign`` ones, or one by its name in any spelling."""
        malignant = tuple(self.scorer.malignant)
        if word == "malignant":
            return malignant
        if word == "benign":
            return tuple(name for name in self.classes if malignant and name not in malignant)
        return tuple(name for name in self.classes if name.casefold() == word.casefold())

    def find_member(self, word: str) -> str | Ours:
        """The member of a name, of a number from 1, or the only one on a backbone; else why there is none."""
        names = list(self.members)
        if word.isdigit() and 0 < int(word) <= len(names):
            return names[int(word) - 1]
        on_backbone = [name for name in names if self.backbones.get(name) == word]
        found = [word] if word in names else on_backbone
        if len(found) == 1:
            return found[0]
        several = f"the members {', '.join(names)}"
        return none_as(f"this run has {several if len(names) > 1 else ' '.join(['one model', *names])}")

    def grow(self, count: int) -> Scorer | Ours:
        """The scorer of the first so many members, joined by the run's own rule; or why there is none."""
        records = list(self.members.values())
        if self.made is None or count > len(records) or count < 2:
            return none_as(f"this run has {len(records) if self.made else 'no'} members")
        if count == len(records):
            return self.scorer
        rule, weights = self.made["rule"], self.made["weights"]
        if RULES[rule].parameter == "stacking":
            return none_as("the coefficients of stacking fit one number of members")
        first = records[:count]
        joined = combine_predictions(
            first, rule, weights and weights[:count], malignant=self.scorer.malignant
        )
        return replace(self.scorer, predictions=joined, graded=for_curves(joined, first, rule))


@lru_cache(maxsize=4)
def read_scored(run: Run) -> Scored:
    """What a run was scored on.

    Raises:
        ArtifactError: it has not been evaluated, or its artifacts are gone or were changed.
    """
    folder = run.output("Evaluation", "predictions.npz").parent
    results = run.evaluated
    facts = read_facts(run.output("Development", "facts.json").parent)
    predictions, made = read_predictions(folder / "predictions.npz"), results.get("ensemble")
    names = list(made["members"]) if made else []
    members = {name: read_predictions(folder / MEMBERS / f"{name}.npz") for name in names}
    graded = for_curves(predictions, list(members.values()), made["rule"]) if made else None
    evaluate, seed = run.settings.get("evaluate", {}), int(run.settings.get("seed", 0))
    options = {"resamples": evaluate["resamples"]} if "resamples" in evaluate else {}
    scorer = Scorer(
        predictions,
        facts.malignant,
        seed=seed,
        graded=graded,
        blocks=facts.subject_kind == "block",
        **options,
    )
    backbones = _read_backbones(run)
    if not made and backbones:
        members = dict.fromkeys(backbones, predictions)
    return Scored(run.scored, scorer, members, backbones, made, facts)


def read_fold(run: Run, number: str, member: str = "") -> Predictions | Ours:
    """The images of a fold, by the model that they were held out from; or why there are none.

    Args:
        run: an evaluated one.
        number: of the fold, from 1.
        member: whose predictions, by name, number or backbone; "" for the whole system's.
    """
    scored = read_scored(run)
    name = scored.find_member(member) if member else ""
    if isinstance(name, Ours):
        return name
    predictions = scored.members[name] if name else scored.predictions
    split = read_split(run.output("Split", "split.json"))
    count = len(split.folds) if scored.kind == "out-of-fold" else 0
    if not 0 < int(number) <= count:
        return none_as(f"this run scored {count or 'no'} folds")
    return predictions.take(np.isin(predictions.ids, split.ids(split.folds[int(number) - 1])))


def _read_backbones(run: Run) -> dict[str, str]:
    """Member -> its backbone; of one classifier the backbone itself."""
    settings = run.settings
    if members := settings.get("members"):
        return {each["name"]: each["model"]["backbone"] for each in members}
    if any(settings.get(name) for name in ("tune", "deep_features", "sweep")):
        return {}
    backbone = settings.get("model", {}).get("backbone")
    return {backbone: backbone} if backbone else {}


def read_score(scored: Scored, scorer: Scorer, words: Sequence[str]) -> Ours:
    """A metric, or an entry of the confusion matrix, with its interval.

    Args:
        scored: names the classes.
        scorer: of what is scored.
        words: a name of ``METRICS``; ``recall:CLASS`` and the like; or ``predicted:CLASS`` and ``actual:CLASS`` in any
            order, and ``share`` for the share of the actual class.
    """
    entry = dict(word.split(":", 1) for word in words if word.startswith(("predicted:", "actual:")))
    if len(entry) == 2:
        sides = [scored.find_classes(entry[side]) for side in ("actual", "predicted")]
        return _read_entry(scorer, sides[0], sides[1], share="share" in words)
    if len(words) != 1:
        return none_as(f"there is no score {'/'.join(words)}")
    name = name_metric(scored, words[0])
    if not name:
        return none_as(f"{words[0]} is not defined over the classes {', '.join(scored.classes)}")
    found = scorer.interval(name)
    return Ours(found.value, found.low, found.high, found.note)


def name_metric(scored: Scored, word: str) -> str:
    """The metric of a key by its own name; "" where a class is not there, or several stand for one."""
    if word in METRICS:
        return word
    kind, _, of_class = word.partition(":")
    found = scored.find_classes(of_class)
    if len(found) == 1:
        return f"{kind}:{found[0]}"
    return _OF_SEVERAL.get(kind, "") if of_class == "malignant" and found else ""


def _read_entry(scorer: Scorer, actual: Sequence[str], predicted: Sequence[str], share: bool) -> Ours:
    classes = list(scorer.predictions.classes)
    rows, columns = ([classes.index(name) for name in side] for side in (actual, predicted))
    matrix = confusion_matrix(scorer.predictions)
    images = int(matrix[rows].sum())
    if not columns or not images:
        return none_as("no image of that class was scored")

    def of_class(matrices: np.ndarray, _: np.ndarray) -> np.ndarray:
        return matrices[..., rows, :].sum(axis=(-2, -1))

    def hits(matrices: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return matrices[..., rows, :][..., columns].sum(axis=(-2, -1)) / of_class(matrices, mask)

    found = scorer.interval_of(Metric("entry", "Share of a class", "", formula=hits, trials=of_class))
    if share or found.low is None or found.high is None:
        return Ours(found.value, found.low, found.high, found.note)
    # Rounded first, so that 1 - 0.9 is no tenth and a bit.
    low, high = floor(round(images * found.low, 6)), ceil(round(images * found.high, 6))
    return Ours(int(matrix[np.ix_(rows, columns)].sum()), low, high, found.note)
