"""What a search leaves: every response, the analysis, its figures, and the project of the oracle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasall.components.divisions import name_scored
from kerasall.components.trial_search import PROJECT, SearchJob
from kerasall.data.development import ANALYSIS, Development
from kerasall.evaluation.metrics import find_metric
from kerasall.files import atomic_path, write_json, write_text
from kerasall.report.figures_taguchi import draw_analysis
from kerasall.report.pages.trials import write_trial_page
from kerasall.report.taguchi import describe_ratio
from kerasall.report.taguchi_text import describe_analysis, describe_interactions, describe_plan
from kerasall.settings import MemberSettings
from kerasall.settings.factors import label_factors
from kerasall.taguchi.analysis import Analysis
from kerasall.taguchi.stored_oracle import StoredOracle
from kerasall.taguchi.trial_events import list_trials, write_csv
from kerasall.taguchi.trials import CONFIRMATION
from kerasall.taguchi.tuner import TaguchiTuner

TRIALS = "trials.csv"

"""File of a Search: one line a trial."""


PAGE = "trials.html"

"""File of a Search: the trials on a page that needs no server."""


FIGURES = "figures"

_BULKY = shutil.ignore_patterns("*.keras", "*.h5", "fit", "tuner*.json", ".*")


def write_search(
    tuner: TaguchiTuner, job: SearchJob, data: Development, members: Sequence[MemberSettings], folder: Path
) -> None:
    """Writes a Search artifact into an existing folder.

    Args:
        tuner: its search has ended.
        job: of the search.
        data: the rows it developed on.
        members: what the confirmation runs became.
        folder: gets ``trials.csv``, ``trials.html``, ``analysis.json``, ``analysis.txt``, ``figures/`` and ``project/``.
    """
    oracle, analysis = tuner.taguchi_oracle, tuner.analyze()
    table = tuner.results()
    figures = []
    for name, (svg, text) in draw_analysis(analysis).items():
        write_text(folder / FIGURES / f"{name}.svg", svg.decode("utf-8"))
        figures.append({"file": f"{FIGURES}/{name}.svg", "alt": text})
    experiment = describe_experiment(oracle, analysis, job, data, table) | {
        "figures": figures, "members": [member.name for member in members],
    }  # fmt: skip
    write_json(folder / ANALYSIS, analysis.to_json() | {"experiment": experiment})
    plan = describe_plan(oracle.design.plan)
    write_text(folder / "analysis.txt", f"{plan}\n\n{describe_analysis(analysis)}\n")
    with atomic_path(folder / PROJECT) as temporary:
        shutil.copytree(job.project, temporary, ignore=_BULKY)
    listing = list_trials(folder / PROJECT)
    write_csv(listing, folder / TRIALS)
    write_trial_page(folder / PAGE, listing, f"Trials of {len(members)} voting models")


def describe_experiment(
    oracle: StoredOracle, analysis: Analysis, job: SearchJob, data: Development, table: pd.DataFrame
) -> dict[str, Any]:
    """What a report says of a search beyond the numbers of its analysis, as JSON."""
    design, labels = oracle.design, label_factors(list(job.levels))
    metric = find_metric(design.objective, data.facts.labels)
    said = describe_ratio(analysis)
    return said | {
        "array": design.plan.array,
        "factors": [
            {"name": labels[key], "setting": key, "levels": list(analysis.level_names[labels[key]])}
            for key in job.levels
        ],
        "columns": design.plan.columns,
        "spare_columns": list(design.plan.spare_columns),
        "interactions": describe_interactions(design.plan.interactions()),
        "repeats": design.repeats,
        "folds": design.folds,
        "response": {"metric": metric.name, "title": metric.title, "direction": metric.direction},
        "scored_on": "selection" if job.tune.response_on == "selection" else name_scored_rows(data),
        # Only a validation part both watches the training and is scored; folds have an inner part for that.
        "epoch_chosen": job.tune.response_on == "validation"
        and not data.split.folds
        and any(stage.keep == "best" for stage in job.base.train.stages),
        "rows": list_rows(design.plan.levels, list(design.plan.factors), analysis, table, design.repeats),
        "confirmation": said["confirmation"] | {"responses": mean_responses(table, CONFIRMATION)},
        "trials": len(table),
        "seconds": float(table["seconds"].sum()),
    }


def name_scored_rows(data: Development) -> str:
    """Which images give the response: validation, or out-of-fold ones."""
    return "out-of-fold" if data.split.folds else name_scored(data).replace("selection", "validation")


def list_rows(
    levels: np.ndarray, factors: Sequence[str], analysis: Analysis, table: pd.DataFrame, repeats: int
) -> list[dict[str, Any]]:
    """Every row of the array: its levels, the responses of its repeats (null: not finished), its ratio."""
    rows = []
    for number, (row, ratio) in enumerate(zip(levels, analysis.signal_to_noise, strict=True), start=1):
        names: Mapping[str, str] = {
            name: analysis.level_names[name][level - 1] for name, level in zip(factors, row, strict=True)
        }
        found = mean_responses(table, number, repeats)
        rows.append({"row": number, "levels": dict(names), "responses": found, "ratio": float(ratio)})
    return rows


def mean_responses(table: pd.DataFrame, row: int | str, repeats: int | None = None) -> list[float | None]:
    """Response of every repeat of a row, the mean over its folds; null where a fold is missing."""
    own = table[table["row"] == row]
    count = repeats or int(own["repeat"].max() or 0)
    means = [own.loc[own["repeat"] == repeat + 1, "objective"].mean(skipna=False) for repeat in range(count)]
    return [None if np.isnan(mean) else float(mean) for mean in means]
