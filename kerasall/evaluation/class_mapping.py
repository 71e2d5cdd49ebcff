"""How the classes of foreign images answer to a model's: by name, as malignant or benign, or as stated."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kerasall.errors import DataError, SettingsError, did_you_mean
from kerasall.evaluation.metrics import malignant_mask
from kerasall.evaluation.predictions import Predictions

BENIGN, MALIGNANT, LEFT_OUT = "benign", "malignant", "exclude"
KINDS = (BENIGN, MALIGNANT)


@dataclass(frozen=True)
class ClassMapping:
    """What each class of the images counts as.

    Attributes:
        targets: class of the images -> scored class, or ``LEFT_OUT``.
        classes: scored classes in order: the model's own, or benign and malignant.
        malignant: those of them that mean leukaemia.
        stated: classes of the images whose target a person stated.
        kinds: whether the model's classes are joined to benign and malignant.
    """

    targets: Mapping[str, str]
    classes: tuple[str, ...]
    malignant: tuple[str, ...]
    stated: tuple[str, ...]
    kinds: bool

    @property
    def left_out(self) -> tuple[str, ...]:
        """Classes of the images that are not scored."""
        return tuple(name for name, target in self.targets.items() if target == LEFT_OUT)

    def describe(self) -> list[str]:
        """One line a class of the images."""
        return [
            f"{name} {'is left out' if target == LEFT_OUT else f'counts as {target}'}"
            + (" (as stated)" if name in self.stated else "")
            for name, target in self.targets.items()
        ]


def parse_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """Reads ``theirs=ours`` pairs of a command line.

    Raises:
        SettingsError: a pair has no "=", an empty side, or a class is named twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        theirs, sign, ours = (part.strip() for part in pair.partition("="))
        if not (theirs and sign and ours):
            raise SettingsError(
                f"--map must be written CLASS_OF_THE_IMAGES=CLASS_OF_THE_MODEL, but is {pair!r}"
            )
        if found.get(theirs, ours) != ours:
            raise SettingsError(f"--map must name a class once, but gives {theirs!r} two meanings")
        found[theirs] = ours
    return found


def map_classes(
    theirs: Sequence[str],
    their_malignant: Sequence[str],
    ours: Sequence[str],
    our_malignant: Sequence[str],
    stated: Mapping[str, str] | None = None,
) -> ClassMapping:
    """Decides what each class of foreign images counts as.

    What is stated comes first. Where then all classes are the model's own, by name, they are scored as
    these; otherwise all are scored as benign or malignant, by the malignant classes of both sides.

    Args:
        theirs: classes of the images.
        their_malignant: those of them that mean leukaemia; empty where unknown.
        ours: the model's classes.
        our_malignant: those of them that mean leukaemia; empty where unknown.
        stated: class of the images -> a class of the model, ``benign``, ``malignant`` or ``exclude``.

    Raises:
        SettingsError: a statement names no such class, a class cannot be mapped, both sides contradict
            each other, or nothing is left.
    """
    stated = dict(stated or {})
    sides = _Sides(theirs, their_malignant, ours, our_malignant)
    sides.require_known(stated)
    targets = {name: stated.get(name) or sides.named_alike(name) for name in theirs}
    scored = [target for target in targets.values() if target != LEFT_OUT]
    if not scored:
        raise SettingsError("at least one class of the images must be scored, but all are left out")
    if all(target in ours for target in scored):
        own = {name: str(target) for name, target in targets.items()}
        sides.require_agreement(own, stated)
        return ClassMapping(own, tuple(ours), tuple(our_malignant), tuple(stated), kinds=False)
    if not our_malignant:
        raise SettingsError(
            f"the classes {list(theirs)} are not all the model's ({list(ours)}), and its card names no malignant "
            "classes to join them by: train it with data.malignant, or state every class with --map"
        )
    sides.require_meanings(targets)
    kinds = {name: sides.kind_of(name, target) for name, target in targets.items()}
    sides.require_agreement(targets, stated)
    return ClassMapping(kinds, KINDS, (MALIGNANT,), tuple(stated), kinds=True)


@dataclass(frozen=True)
class _Sides:
    """The classes of the images and of the model, and those of each that mean leukaemia; empty where unknown."""

    theirs: Sequence[str]
    their_malignant: Sequence[str]
    ours: Sequence[str]
    our_malignant: Sequence[str]

    def require_known(self, stated: Mapping[str, str]) -> None:
        allowed = [*self.ours, *KINDS, LEFT_OUT]
        for name, target in stated.items():
            for value, known, whose in ((name, list(self.theirs), "images"), (target, allowed, "model")):
                if value not in known:
                    hint = did_you_mean(value, known)
                    raise SettingsError(
                        f"--map must name a class of the {whose}, {known}, but names {value!r}{hint and f': {hint}'}"
                    )

    def named_alike(self, name: str) -> str | None:
        """The model's class of this name, or the one of them that differs in case alone."""
        alike = [ours for ours in self.ours if ours.casefold() == name.casefold()]
        return name if name in self.ours else alike[0] if len(alike) == 1 else None

    def require_meanings(self, targets: Mapping[str, str | None]) -> None:
        """Where it is not known which of the images' classes mean leukaemia, each must be the model's or stated."""
        open_ = [name for name, target in targets.items() if target is None]
        if open_ and not self.their_malignant:
            names, cure = (
                ", ".join(map(repr, open_)),
                " ".join(f"--map {shlex.quote(name)}=..." for name in open_),
            )
            raise SettingsError(
                f"every class of the images must count as something, but {names} {'is' if len(open_) == 1 else 'are'} "
                f"none of the model's {list(self.ours)}, and which classes are malignant is not known of these images: "
                f"name those that are, --malignant NAME, or state each, {cure}, as "
                f"{', '.join(self.ours)}, malignant, benign or exclude"
            )

    def kind_of(self, name: str, target: str | None) -> str:
        if target == LEFT_OUT or (target in KINDS and target not in self.ours):
            return str(target)
        if target in self.ours:
            return MALIGNANT if target in self.our_malignant else BENIGN
        return MALIGNANT if name in self.their_malignant else BENIGN

    def require_agreement(self, targets: Mapping[str, str | None], stated: Mapping[str, str]) -> None:
        """A class of one name that one side calls malignant and the other benign must be stated."""
        if not self.their_malignant or not self.our_malignant:
            return
        for name, target in targets.items():
            if name in stated or target not in self.ours:
                continue
            theirs, ours = name in self.their_malignant, target in self.our_malignant
            if theirs != ours:
                raise SettingsError(
                    f"both sides must agree on what {name!r} means, but only {'the images' if theirs else 'the model'} "
                    f"call it malignant: state it with --map {shlex.quote(name)}=..."
                )


def to_scored(
    mapping: ClassMapping, answers: Predictions, labels: Sequence[str], our_malignant: Sequence[str]
) -> Predictions:
    """A model's answers over its own classes, as answers over the scored ones.

    Joined probabilities are sums; decisions stay the model's own, seen as benign or malignant.

    Args:
        mapping: of the images' classes.
        answers: N images with the model's probabilities and decisions over its own classes; their labels
            are not read.
        labels: class of each image as the images' source names it.
        our_malignant: the model's malignant classes.

    Raises:
        DataError: an image is of a class that is left out.
    """
    index = {name: number for number, name in enumerate(mapping.classes)}
    targets = [mapping.targets[name] for name in labels]
    if any(target not in index for target in targets):
        raise DataError("images of classes that are left out must not be scored, but some are given")
    truth = np.asarray([index[target] for target in targets], dtype=np.int64)
    probabilities, decisions = answers.probabilities, answers.decisions
    if mapping.kinds:
        mask = malignant_mask(answers.classes, our_malignant)
        positive = np.clip(probabilities[:, mask].sum(axis=1), 0, 1)
        probabilities, decisions = np.stack([1 - positive, positive], axis=1), mask[decisions]
    return replace(
        answers, labels=truth, probabilities=probabilities, classes=mapping.classes, decisions=decisions
    )


def join_sets(
    mapping: ClassMapping, members: np.ndarray, ours: Sequence[str], our_malignant: Sequence[str]
) -> np.ndarray:
    """Prediction sets over the model's classes as sets over the scored ones, bool [N, scored classes].

    A joined class is in the set where any of its classes is.
    """
    if not mapping.kinds:
        return members
    mask = malignant_mask(ours, our_malignant)
    return np.stack([members[:, ~mask].any(axis=1), members[:, mask].any(axis=1)], axis=1)
