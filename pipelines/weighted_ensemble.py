"""A weighted ensemble of fine-tuned networks on single cells, after Mondal et al. 2021.

Centre-cropped cells, balanced by oversampling and augmented as they are read, train each member under a
cyclic learning rate; each member's answer counts by how well it did on validation images.

kerasall run configs/weighted_ensemble.yaml --data PATH --weights DIR
python pipelines/weighted_ensemble.py configs/weighted_ensemble_small.yaml
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
    # Training and validation part by subject and duplicate group; only the Evaluator is given the test part.
    split = transform(
        examples=examples.outputs["examples"],
        statistics=statistics.outputs["statistics"],
        anomalies=anomalies.outputs["anomalies"],
        split=settings.split,
        preprocess=list(settings.preprocess),
        seed=settings.seed,
    )
    # Each member by transfer learning: oversampled training images, cyclic rate, early stopping.
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
    # P'_j = sum_k W_k P_jk / sum_k W_k, with the members' validation kappa (or F1, AUC) as W_k.
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
