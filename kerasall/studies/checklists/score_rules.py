"""What a run knows of its scores, their uncertainty, its safeguards and its limits: sentences for the items of checklists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kerasall.errors import count_of
from kerasall.evaluation.metrics import MALIGNANT_SCORES, SCORES
from kerasall.report.external_scores import SCORED
from kerasall.report.format import format_value, is_percent, title_of
from kerasall.report.page import sentence
from kerasall.settings.noise import COLUMN
from kerasall.studies.checklists.facts import GROUPS_OF, RunFacts


def describe_metrics(run: RunFacts) -> Iterator[str]:
    """Every metric that was computed, and the curves."""
    titles = [title_of(name, run.labels) for name in run.scores]
    yield f"Measures: {', '.join(titles)}; for every class sensitivity, precision, specificity and F1."
    if run.results.get("trust"):
        benefit = "net benefit over thresholds, " if run.results["trust"].get("decision_curve") else ""
        yield f"Plots: confusion matrix, ROC and precision-recall curves, reliability before and after calibration, {benefit}accuracy against the share referred."
    if run.results.get("combinations"):
        rows = run.results["combinations"].get("rows", ())
        yield f"{count_of(len(rows), 'combination')} were compared on the same images."


def describe_statistics(run: RunFacts) -> Iterator[str]:
    """The method of the intervals, by the run's own words; no test of significance."""
    main = run.scores[run.main_metric]
    kind = {
        "subject": "patients with their copies",
        "block": "blocks of file numbers, in the place of patients",
        "none": "groups of copies, as no patient is known",
        "unknown": "as the report says",
    }[run.subject_kind]
    yield f"Intervals at {100 * main.confidence:g}%: {main.method}; groups are {kind}{run.joined}; {run.setting('evaluate.resamples')} resamples, seed {run.setting('seed')}."
    yield f"The main score is over {main.over}."
    yield from map(sentence, run.scores.notes)
    if run.results.get("tuning"):
        yield "An analysis of variance of the designed experiment gives p-values of its settings; no score was tested for significance."
    else:
        yield "The run made no test of significance."


def describe_performance(run: RunFacts) -> Iterator[str]:
    """The main scores with intervals, on what, and by fold and subgroup where there are some."""
    yield f"On {run.scored}: {run.list_scores(dict.fromkeys([run.main_metric, 'balanced_accuracy', 'roc_auc', *MALIGNANT_SCORES]))}."
    if found := run.results.get("out_of_fold"):
        yield f"Out of fold, on {count_of(found['images'], 'image')}: {run.score(run.main_metric, found)}."
    if found := run.results.get("apart"):
        yield f"On the {count_of(found['images'], 'scored image')} of whose patients none was trained on: {run.score(run.main_metric, found)}."
    yield from describe_subgroups(run)


def describe_subgroups(run: RunFacts) -> Iterator[str]:
    """Scores by the columns that the settings name; that there are none otherwise."""
    found = run.results.get("subgroups")
    if not found:
        unnamed = (
            " (evaluate.subgroups names no column)" if "subgroups" in run.setting("evaluate", {}) else ""
        )
        yield f"No subgroup was scored{unnamed}."
        return
    for part in found:
        yield f"By {part['column']}: {'; '.join(_describe_subgroup(run, row) for row in part['rows'])}."


def _describe_subgroup(run: RunFacts, row: Mapping[str, Any]) -> str:
    main = row["metrics"].get(run.main_metric) or {}
    few = " (too few groups for an interval)" if main.get("value") is not None and main["low"] is None else ""
    return f"{row['value'] or 'not known'}, {count_of(row['images'], 'image')}: {run.score(run.main_metric, row) or 'not defined'}{few}"


def describe_accuracy(run: RunFacts) -> Iterator[str]:
    """Sensitivity, specificity, areas, missed cells, and the class that fares worst."""
    yield sentence(
        run.list_scores(dict.fromkeys([*MALIGNANT_SCORES, "roc_auc", "balanced_accuracy", run.main_metric]))
    )
    yield from describe_missed(run)
    if found := run.results.get("by_class"):
        recalls = {
            name: each["recall"]["value"]
            for name, each in found.items()
            if each["recall"]["value"] is not None
        }
        if recalls:
            worst, most = min(recalls, key=recalls.__getitem__), max(recalls, key=recalls.__getitem__)
            yield f"Best found is the class {most} ({format_value(recalls[most])} of its images), worst {worst} ({format_value(recalls[worst])})."
    yield from describe_calibration(run)


def describe_missed(run: RunFacts) -> Iterator[str]:
    """Malignant images called benign."""
    missed, total = run.results.get("malignant_called_benign"), run.results.get("malignant_images")
    if missed is None or total is None:
        yield "No class is named malignant, so missed malignant images are not counted."
    else:
        yield f"{missed:,} of {count_of(total, 'malignant image')} were called benign."


def describe_calibration(run: RunFacts) -> Iterator[str]:
    """The temperature, what it was fitted to, and the error before and after on the scored images."""
    found = (run.results.get("trust") or {}).get("calibration")
    if not found:
        return
    errors = [found[side]["expected_calibration_error"]["value"] for side in ("before", "after")]
    judged = "each image judged by a fit to others" if found["cross_fitted"] else "none of which is scored"
    yield f"Calibration: temperature {found['temperature']:.2f}, fitted to {count_of(found['fitted_images'], 'image')} ({found['fitted_on']}), {judged}."
    yield f"Expected calibration error on the scored images: {errors[0]:.3f} before, {errors[1]:.3f} after."


def describe_updating(run: RunFacts) -> Iterator[str]:
    """Recalibration on development predictions; nothing was updated from the evaluation."""
    yield "Nothing of the model was updated after its evaluation."
    yield from describe_calibration(run)


def describe_thresholds(run: RunFacts) -> Iterator[str]:
    """How classes are called, and thresholds for wanted sensitivities with what they reached."""
    rule = (run.results.get("ensemble") or {}).get("rule")
    yield "The model puts out a probability for every class, and the class that is called."
    yield (
        "Called is the class with the most votes."
        if rule == "majority_vote"
        else "Called is the most probable class; no threshold is tuned for that."
    )
    found = run.results.get("trust") or {}
    points = found.get("operating_points") or ()
    crossed = bool(points) and found["calibration"]["cross_fitted"]
    # The exported threshold is fitted to all of them; it is not what the scored images were judged by.
    judged = "thresholds from the other parts" if crossed else "on the scored images it"
    for each in points:
        reached, others = each["sensitivity"], each["specificity"]
        if reached["value"] is None or others["value"] is None:
            continue
        yield (
            f"For a wanted sensitivity of {format_value(each['wanted'])}, which the settings name, the exported model has the "
            f"threshold {each['threshold']:.4g}; {judged} reached a sensitivity of {_with_ends(reached)}, with a specificity of "
            f"{_with_ends(others)}."
        )
    if points:
        beside = "" if crossed else ", none of which is scored"
        yield f"Thresholds were chosen on {found['calibration']['fitted_on']} predictions{beside}."


def _with_ends(found: Mapping[str, Any]) -> str:
    """For example ``95.0% (95% interval 84.0% to 97.5%)``; of a figure without an interval that it has none."""
    if found["low"] is None:
        return f"{format_value(found['value'])} (no interval)"
    ends = f"{format_value(found['low'])} to {format_value(found['high'])}"
    return f"{format_value(found['value'])} ({100 * found['confidence']:g}% interval {ends})"


def describe_indeterminate(run: RunFacts) -> Iterator[str]:
    """The model always answers; which images it refers to an expert stands beside the answer, and all are scored."""
    yield "The model gives an answer for every image, and all are scored."
    found = (run.results.get("trust") or {}).get("referral")
    if found and found["referred"]["value"] is not None:
        yield f"It marks images for an expert: {format_value(found['referred']['value'])} of the scored ones."


def describe_poor_input(run: RunFacts) -> Iterator[str]:
    """What the exported model does with files that are damaged, too large, or unlike its training images."""
    limits = run.card.get("limits") or {}
    if limits:
        yield f"Files that cannot be decoded, with a side above {limits['max_side']:,} or more than {limits['max_pixels']:,} pixels are refused with a reason."
    guards = run.card.get("safeguards") or {}
    if guards.get("domain"):
        yield "Images that are farther from the training images than a limit are referred to an expert."
    elif guards.get("no_domain"):
        yield f"How far an image is from the training images is not told: {guards['no_domain']}."
    yield "A model cannot know that a good picture shows the wrong cell, stain or species: it was not tested there."


def describe_variability(run: RunFacts) -> Iterator[str]:
    """Folds, patients and subgroups: how the score varies, and who knows whether that was planned."""
    folds = run.results.get("folds") or ()
    values = [each["score"] for each in folds if each["score"] is not None]
    if values:
        title, percent = title_of(run.main_metric, run.labels), is_percent(run.main_metric)
        ends = " to ".join(format_value(each, percent) for each in (min(values), max(values)))
        yield f"{title} of the {count_of(len(values), 'held-out fold')}: {ends}."
    yield from _describe_groups(run)
    yield from describe_subgroups(run)
    yield "These analyses are those that the settings name; whether they were planned before anybody saw a score, the authors know."


def _describe_groups(run: RunFacts) -> Iterator[str]:
    if run.subject_kind not in ("subject", "block"):
        return
    found = run.run.predictions()
    right = (found.decisions == found.labels).astype(float)
    shares = [float(right[found.subjects == name].mean()) for name in sorted(set(found.subjects) - {""})]
    if shares:
        ends = " to ".join(map(format_value, (min(shares), max(shares))))
        blocks = run.subject_kind == "block"
        names = (run.group, GROUPS_OF["block"]) if blocks else (run.person,)
        yield f"Share of right calls of the {count_of(len(shares), *names)}: {ends}."


def describe_robustness(run: RunFacts) -> Iterator[str]:
    """What was varied: folds, views, settings of a designed experiment; that nothing else was."""
    yield from describe_variability(run)
    if run.results.get("views"):
        yield "Answers of one view and of several mirrored or turned ones were compared."
    if run.results.get("tuning"):
        yield "A designed experiment varied the settings of training; its analysis stands in the report."
    if noise := (run.setting("tune") or {}).get("noise"):
        yield f"As noise it varied {', '.join(noise)}; what that does to each setting stands there too. {describe_scored_noise(run, noise)}"
    yield "No images from another stain, microscope or camera than the data hold were tried by this run, computed changes of them apart."


def describe_scored_noise(run: RunFacts, noise: Mapping[str, Any]) -> str:
    """Whether the final score tells of what was varied: of columns alone, where its images were divided by them too."""
    divided = {each["column"] for each in run.results.get("subgroups") or ()}
    columns = [name for name in noise if name.startswith(COLUMN) and name.removeprefix(COLUMN) in divided]
    rest = "The final model was scored under none of the rest." if len(columns) < len(noise) else ""
    told = f"By {', '.join(columns)} the final score is divided, too. {rest}".strip()
    return told if columns else "The final model was scored under none of it."


def describe_internal(run: RunFacts) -> Iterator[str]:
    """Scores on data of the same source, beside those of training where they were recorded."""
    kind = {
        "test": "An internal test",
        "out-of-fold": "Internal cross-validation, without a test part",
    }.get(run.run.scored, "No test")
    yield f"{kind}: {run.scored}, from the data that the model was developed on."
    yield sentence(run.score(run.main_metric))
    last = [
        history[-1]["epochs"][-1]["accuracy"]
        for history in run.training.get("fits", {}).values()
        if history and history[-1].get("epochs") and history[-1]["epochs"][-1].get("accuracy") is not None
    ]
    if last:
        ends = (
            " to ".join(map(format_value, (min(last), max(last)))) if len(last) > 1 else format_value(last[0])
        )
        yield f"Accuracy on the training images in the last epoch: {ends}."


def describe_external(run: RunFacts) -> Iterator[str]:
    """External checks of this model that lie in the runs folder; that there is none otherwise."""
    if not run.external:
        yield "No test on other data: no external check of this model lies in the runs folder (kerasall evaluate makes one), and no score here is one."
    for name, results in run.external:
        metrics = {
            name: each for name, each in results["metrics"].items() if name in (*SCORES, *MALIGNANT_SCORES)
        }
        told = ", ".join(
            _describe_score(run, name, each)
            for name, each in metrics.items()
            if name in ("balanced_accuracy", *MALIGNANT_SCORES)
        )
        yield (
            f"Check on other images ({name}): {results['fates'].get(SCORED, 0):,} of {results['images']:,} images scored; {told}. "
            "Whether they come from another place is for the authors to say."
        )


def _describe_score(run: RunFacts, name: str, found: Mapping[str, Any]) -> str:
    """For example ``Balanced accuracy 91.0% (84.2% to 95.1%)``; of a score without an interval that it has none."""
    value, low, high = (
        None if found[key] is None else format_value(found[key], is_percent(name))
        for key in ("value", "low", "high")
    )
    ends = "no interval" if low is None else f"{low} to {high}"
    return f"{title_of(name, run.labels)} {'not defined' if value is None else f'{value} ({ends})'}"


def describe_cross_table(run: RunFacts) -> Iterator[str]:
    """The confusion matrix, row by row."""
    for name, row in zip(run.labels, run.results["confusion_matrix"], strict=True):
        called = ", ".join(f"{count:,} as {label}" for label, count in zip(run.labels, row, strict=True))
        yield f"Of {count_of(int(sum(row)), 'image')} of the class {name} it called {called}."


def describe_failures(run: RunFacts) -> Iterator[str]:
    """The confusion matrix, missed cells, and where wrong calls are shown."""
    yield from describe_cross_table(run)
    yield from describe_missed(run)
    if "gallery" in run.sections:
        yield "The report shows wrong calls, the surest first."
    yield from _describe_groups(run)


def describe_limits(run: RunFacts) -> Iterator[str]:
    """What the run says against itself."""
    yield {
        "subject": "A score varies from patient to patient more than its number of images suggests.",
        "block": "No patient is known: blocks of file numbers stand in for patients, and images of one patient may stand on both sides of the split.",
        "none": "No patient is known: images of one patient may stand on both sides of the split, so scores may be too high.",
        "unknown": "Whether patients are apart cannot be told any more: the artifacts of the run are gone.",
    }[run.subject_kind]
    if run.run.scored in ("validation", "selection"):
        yield "The scored images also decided something: the scores are too good."
    yield from map(str, run.setting("weaknesses", ()))
    unmet = [each for each in run.results.get("criteria", ()) if not each["met"]]
    if unmet:
        yield f"Of {count_of(len(run.results['criteria']), 'criterion', 'criteria')} for export {len(unmet)} {'is' if len(unmet) == 1 else 'are'} not met."
    if not run.external:
        yield "No test on data from elsewhere is known to the run."
    yield from map(sentence, run.scores.notes)


def describe_fairness(run: RunFacts) -> Iterator[str]:
    """Subgroups that were scored; that training knows of no groups of people. What it was meant for, the run cannot know."""
    yield from describe_subgroups(run)
    yield "No training was told of groups of people."


def describe_users(run: RunFacts) -> Iterator[str]:
    """What the model asks of a user: an image file."""
    yield "The model takes one image file and needs no other input. The report says that it is for research alone, and for a reader who looks at every image."
