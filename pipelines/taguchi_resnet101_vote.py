"""Nine networks of one kind vote, with settings found by a designed experiment, after Chen et al. 2021.

The rows of an orthogonal array are trained several times each; the analysis of their responses predicts the
best combination of levels; that combination is trained again, and these models have one vote each.

kerasall tune taguchi_resnet101_vote --data PATH --weights DIR
python pipelines/taguchi_resnet101_vote.py configs/taguchi_resnet101_vote_small.yaml
"""

from __future__ import annotations

from dataclasses import replace

from kerasall.cli.app import run_script
from kerasall.components.ensembler import trial_ensembler
from kerasall.components.report_gen import TRIALS_PAGE
from kerasall.components.tuner import require_tune, tuner
from kerasall.pipeline.component import Pipeline
from kerasall.settings import Settings
from kerasall.settings.factors import trial_settings
from kerasall.studies.experiment import Places
from kerasall.studies.steps import export_and_judge, read_and_split

PUBLISHED = ("trials.csv", "analysis.json")
"""Files of the search that stand in the run's folder, too."""


def build_pipeline(settings: Settings, places: Places) -> Pipeline:
    """The steps of the experiment, in order."""
    # Images, labels and subjects; one look at every pixel; a frozen split by subject and duplicate group.
    data = read_and_split(settings, places)
    # Every row of the array, repeated; then the best combination again, as often as the ensemble has members.
    search = tuner(
        development=data.development,
        base=trial_settings(settings),
        tune=require_tune(settings),
        inner_validation=settings.split.inner_validation,
        seed=settings.training_seed,
        deterministic=settings.deterministic,
        weights_folder=places.weights,
        cache_folder=places.cache,
        workers=places.workers,
        cluster=places.cluster,
        attributes=data.noise_columns(settings),
    )
    # One model that counts the votes of the confirmation runs.
    vote = trial_ensembler(
        development=data.development,
        models=search.outputs["models"],
        records=search.outputs["records"],
        results=search.outputs["results"],
        ensemble=settings.ensemble,
    ).named("Ensembler")
    # One graph from the file's bytes to the answer, scored once on images no choice was made on.
    pipeline = export_and_judge(data, (search, vote), settings, places)
    search_files = {name: (search.outputs["results"], name) for name in PUBLISHED}
    report, _ = pipeline.publish["report.html"]
    return replace(pipeline, publish={**pipeline.publish, **search_files, TRIALS_PAGE: (report, TRIALS_PAGE)})


if __name__ == "__main__":
    run_script()
