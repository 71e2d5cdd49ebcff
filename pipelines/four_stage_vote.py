"""Four stages of leukaemia told apart by a vote of five networks, after Samyuktha et al. 2024.

Segmented smear images train five networks, each for its own number of epochs; every network has one
vote, and a tie goes to the class with the highest summed probability.

kerasall run configs/four_stage_vote.yaml --data PATH/Segmented --weights DIR
python pipelines/four_stage_vote.py configs/four_stage_vote_small.yaml
"""

from __future__ import annotations

from kerasall.components.ensembler import ensembler, require_members
from kerasall.components.evaluator import evaluator
from kerasall.components.example_gen import example_gen
from kerasall.components.example_validator import example_validator
from kerasall.components.exporter import exporter
from kerasall.components.pusher import pusher
from kerasall.components.schema_gen import schema_gen
from kerasall.components.statistics_gen import statistics_gen
from kerasall.components.trainer import trainer
from kerasall.components.transform import transform
from kerasall.experiment import Places, run_script
from kerasall.pipeline.component import Pipeline
from kerasall.settings import Settings


def build_pipeline(settings: Settings, places: Places) -> Pipeline:
    """The steps of the experiment, in order."""
    members = require_members(settings)
    # Names, labels and subjects of all images.
    examples = example_gen(data=settings.data, cache_folder=places.cache)
    # One pass over the pixels: readability, sizes, colours, duplicates; errors stop the run.
    statistics = statistics_gen(examples=examples.outputs["examples"], checks=settings.checks)
    schema = schema_gen(statistics=statistics.outputs["statistics"], schema_file=settings.checks.schema_file)
    anomalies = example_validator(
        examples=examples.outputs["examples"],
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        checks=settings.checks,
        folds=settings.split.folds if settings.split.kind == "folds" else 0,
    )
    # A split by block and duplicate group, frozen; only the Evaluator is given a test part.
    split = transform(
        examples=examples.outputs["examples"],
        statistics=statistics.outputs["statistics"],
        anomalies=anomalies.outputs["anomalies"],
        split=settings.split,
        preprocess=list(settings.preprocess),
        seed=settings.seed,
    )
    # Each network by transfer learning, for its own number of epochs.
    trainings = [
        trainer(
            development=split.outputs["development"],
            model=member.model,
            train=member.training(settings.train),
            augment=settings.augment,
            inner_validation=settings.split.inner_validation,
            seed=member.seed(settings.seed),
            deterministic=settings.deterministic,
            weights_folder=places.weights,
            cache_folder=places.cache,
            steps=list(member.steps),
        ).named(f"Trainer {member.name}")
        for member in members
    ]
    # One model that counts the members' votes; the exported model returns them beside its answer.
    ensemble = ensembler(
        development=split.outputs["development"],
        models=[training.outputs["trained"] for training in trainings],
        records=[training.outputs["record"] for training in trainings],
        members=list(members),
        ensemble=settings.ensemble,
    )
    # Decoding, preprocessing and network in one graph that answers like the trained model.
    export = exporter(trained=ensemble.outputs["trained"], development=split.outputs["development"])
    # Scores with intervals on images no choice was made on; a verdict.
    evaluation = evaluator(
        development=split.outputs["development"],
        test=split.outputs["test"],
        frozen_split=split.outputs["frozen_split"],
        statistics=statistics.outputs["statistics"],
        anomalies=anomalies.outputs["anomalies"],
        record=ensemble.outputs["record"],
        saved_model=export.outputs["saved_model"],
        parity=export.outputs["parity"],
        settings=settings,
        command=places.command,
    )
    # Blessed models alone are pushed.
    push = pusher(
        saved_model=export.outputs["saved_model"],
        evaluation=evaluation.outputs["evaluation"],
        blessing=evaluation.outputs["blessing"],
        experiment=settings.experiment,
        force=places.force,
        destination=str(places.savedmodels),
    )
    report = evaluation.outputs["evaluation"]
    return Pipeline(
        (examples, statistics, schema, anomalies, split, *trainings, ensemble, export, evaluation, push),
        publish={name: (report, name) for name in ("report.html", "report.json", "predictions.csv")},
    )


if __name__ == "__main__":
    run_script()
