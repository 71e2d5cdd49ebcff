"""Scores of other weightings of a run's members, and the weights; of its repetitions; of the same system at another size.

All weightings of one run have the same members, so that nothing is trained for them. Another size of the images is another
run, found beside this one by its settings, as are repetitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from kerasall.data.splits import read_split
from kerasall.data.training_record import ENSEMBLE, TrainingRecord
from kerasall.errors import ArtifactError, DataError, SettingsError
from kerasall.evaluation.ensemble_rules import WEIGHT_METRICS, member_weights
from kerasall.evaluation.ensemble_scores import weigh
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.repeats import spread_of
from kerasall.studies.finished_run import RECORD, Run
from kerasall.studies.tables.members import score_ensemble, score_member
from kerasall.studies.tables.ours import Lookup, Ours, none_as
from kerasall.studies.tables.scored import read_score, read_scored

SIZES = {300: "weighted_ensemble", 450: "weighted_ensemble_450"}
"""Sides of the images whose scores are printed beside one another (Mondal et al. 2021, Table 4) -> config of such a run."""

_ABOUT = ("experiment", "description", "departures", "weaknesses")
"""Settings that say something of a run and change nothing in it."""

_NAMES = {metric: name for name, metric in WEIGHT_METRICS.items()}
"""Metric that weighs -> name of the weighting; in keys either stands."""


def score_weighting(run: Run, words: Sequence[str]) -> Ours:
    """``weighting/WEIGHTING/METRIC``: the members averaged with their scores as weights, fitted where the run fits its own."""
    weighting, *rest = words
    found = weigh_members(run, weighting)
    return found if isinstance(found, Ours) else read_score(read_scored(run), found, rest)


def read_weight(run: Run, words: Sequence[str]) -> Ours:
    """``weight/MEMBER`` in the run's own ensemble, or ``weight/WEIGHTING/MEMBER`` in another."""
    scored, (*weighting, named) = read_scored(run), words
    name = scored.find_member(named)
    if isinstance(name, Ours):
        return name
    made = scored.made or {}
    weights = _fit_weights(run, weighting[0]) if weighting else made.get("weights")
    if isinstance(weights, Ours):
        return weights
    if not weights:
        return none_as("the members of this run have no weights")
    whose = _say_fitted(run) if weighting else made.get("decided_by", "")
    return Ours(float(weights[list(scored.members).index(name)]), reason=whose)


@lru_cache(maxsize=8)
def weigh_members(run: Run, weighting: str) -> Scorer | Ours:
    """The scorer of a run's members weighed so; or why there is none."""
    scored, record = read_scored(run), _record_of(run)
    if isinstance(record, Ours):
        return record
    split = read_split(run.output("Split", "split.json"))
    folds = [split.ids(fold) for fold in split.folds] if scored.kind == "out-of-fold" else []
    members, deciding = list(scored.members.values()), record.deciding(_weights_from(run))
    try:
        combined = weigh(members, deciding, _NAMES.get(weighting, weighting), folds, scored.scorer.malignant)
    except (DataError, SettingsError) as error:
        return none_as(str(error))
    return scored.scorer.of(combined)


def _fit_weights(run: Run, weighting: str) -> Sequence[float] | Ours:
    record = _record_of(run)
    if isinstance(record, Ours):
        return record
    try:
        return member_weights(record.deciding(_weights_from(run)), _NAMES.get(weighting, weighting)).tolist()
    except (DataError, SettingsError) as error:
        return none_as(str(error))


def _record_of(run: Run) -> TrainingRecord | Ours:
    made = read_scored(run).made
    if made is None or made["rule"] != "weighted_average":
        return none_as(
            f"this run has {'the rule ' + made['rule'] if made else 'one model'}, and weighs no members"
        )
    return TrainingRecord(run.output("TrainingRecord", ENSEMBLE).parent)


def _weights_from(run: Run) -> str:
    return run.settings["ensemble"]["weights_from"]


def _say_fitted(run: Run) -> str:
    """Which images the weights are scores on, where they are not those of the paper's protocol."""
    if _weights_from(run) == "selection":
        return ""
    images = "out-of-fold" if read_split(run.output("Split", "split.json")).folds else "validation"
    return f"weights are the members' scores on {images} images"


# --- runs beside this one ----------------------------------------------------------------------------


def score_repeats(run: Run, words: Sequence[str]) -> Ours:
    """``repeats/WHICH/mean/METRIC`` and ``repeats/WHICH/variance/METRIC`` over the repetitions of a run.

    WHICH is a member, ``weighting/WEIGHTING`` or ``ensemble``. Of shares the variance is in squared percentage points, as
    it is printed (Mondal et al. 2021, Table 5), with n - 1.
    """
    *which, what, metric = words
    runs = find_repetitions(run)
    if len(runs) < 2:
        return none_as("this run has no repetitions: kerasall run CONFIG --repeats 5 makes them")
    try:
        found = [_score_part(each, which, metric) for each in runs]
    except ArtifactError as error:  # of a repetition, which need not be whole
        return none_as(str(error))
    values = [each.value for each in found if isinstance(each.value, int | float)]
    if len(values) < len(found):
        return none_as(
            next((each.reason for each in found if each.reason), "it is not defined in every repetition")
        )
    spread = spread_of(values)
    told = f"over {len(runs)} repetitions"
    if what == "mean" or spread.variance is None:
        return Ours(spread.mean, reason=told)
    return Ours(10_000 * spread.variance, reason=f"{told}, in squared percentage points")


def _score_part(run: Run, which: Sequence[str], metric: str) -> Ours:
    kind, *name = which
    if kind == "weighting":
        return score_weighting(run, [*name, metric])
    return score_ensemble(run, [metric]) if kind == "ensemble" else score_member(run, [kind, metric])


def score_at_size(run: Run, words: Sequence[str]) -> Ours:
    """``size/SIDE/KEY``: any other key at a size of the images, from this run or the one beside it.

    A run of another size than those printed stands in the rows of the nearest.
    """
    side, kind, *rest = words
    wanted, own = int(side), side_of(run.settings)
    found = find_at_size(run, wanted)
    if found is None:
        return none_as(
            f"this run's images have {own} pixels a side, and no finished run of its settings at {wanted} is beside it "
            f"(kerasall run {SIZES[wanted]}, or {SIZES[wanted]}_faithful)"
        )
    try:
        score = _AT_SIZE[kind](found, rest)
    except ArtifactError as error:  # of the run beside this one, which need not be whole
        return none_as(str(error))
    notes = [
        f"of the run {found.name}" if found is not run else "",
        f"images of {own} pixels" if found is run and own != wanted else "",
    ]
    told = "; ".join(filter(None, [*notes, score.reason]))
    return Ours(score.value, score.low, score.high, told)


_AT_SIZE: Mapping[str, Lookup] = {
    "member": score_member,
    "weighting": score_weighting,
    "weight": read_weight,
    "repeats": score_repeats,
}
"""Keys that are printed of one size of the images."""


def side_of(settings: dict[str, Any]) -> int:
    """Pixels of the longer side of the images that a run's models see."""
    sized = [each for each in settings["preprocess"] if "height" in each]
    return max(sized[-1]["height"], sized[-1]["width"]) if sized else 0


@lru_cache(maxsize=16)
def find_at_size(run: Run, side: int) -> Run | None:
    """The run whose images have so many pixels a side, or the nearest of ``SIZES``: this one, or the finished one beside
    it that differs in the size of its images alone; None where there is none.
    """
    own = side_of(run.settings)
    if min(SIZES, key=lambda each: abs(each - own)) == side:
        return run
    return next((each for each in _beside(run, "preprocess") if side_of(each.settings) == side), None)


@lru_cache(maxsize=16)
def find_repetitions(run: Run) -> tuple[Run, ...]:
    """This run and the finished ones beside it that differ in the number of the repetition alone, in its order."""
    others = {each.settings.get("repeat", 0): each for each in _beside(run, "repeat")}
    found = {**others, run.settings.get("repeat", 0): run}
    return tuple(found[number] for number in sorted(found))


def _beside(run: Run, changed: str) -> list[Run]:
    """Finished runs in the same folder whose settings differ in ``changed`` alone; of ``preprocess`` in sizes alone."""
    passed = {*_ABOUT, changed}

    def meaning(each: Run) -> dict[str, Any]:
        others = [step for step in each.settings.get("preprocess", ()) if "height" not in step]
        return {key: value for key, value in each.settings.items() if key not in passed} | {"": others}

    folders = sorted(
        file.parent for file in run.folder.parent.glob(f"*/{RECORD}") if file.parent != run.folder
    )
    others = [each for each in map(Run, folders) if not each.record_fault]
    return [each for each in others if each.state == "complete" and meaning(each) == meaning(run)]
