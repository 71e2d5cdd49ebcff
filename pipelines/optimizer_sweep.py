"""Frozen networks, optimizers and numbers of epochs compared; one head of them exported.

kerasall run configs/optimizer_sweep_small.yaml
python pipelines/optimizer_sweep.py configs/optimizer_sweep_small.yaml

After Fata et al., "Optimal detection of acute lymphoblastic leukemia using deep transfer learning model".
"""

from __future__ import annotations

from kerasall.components.evaluator import evaluator
from kerasall.components.example_gen import example_gen
from kerasall.components.example_validator import example_validator
from kerasall.components.exporter import exporter
from kerasall.components.pusher import pusher
from kerasall.components.schema_gen import schema_gen
from kerasall.components.statistics_gen import statistics_gen
from kerasall.components.sweep import sweep_trainer
from kerasall.components.transform import transform
from kerasall.experiment import Places, run_script
from kerasall.pipeline.component import Pipeline
from kerasall.settings import Settings


def build_pipeline(settings: Settings, places: Places) -> Pipeline:
    """The steps of the experiment, in order."""
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
    # A split, frozen; only the Evaluator is given the test part.
    split = transform(
        examples=examples.outputs["examples"],
        statistics=statistics.outputs["statistics"],
        anomalies=anomalies.outputs["anomalies"],
        split=settings.split,
        preprocess=list(settings.preprocess),
        seed=settings.seed,
    )
    # Every image passes every frozen network once; one run per network and optimizer gives all numbers
    # of epochs, scored on images no weight was fitted to, and one cell becomes a model.
    training = sweep_trainer(
        development=split.outputs["development"],
        sweep=settings.sweep,
        head=settings.model.head,
        train=settings.train,
        evaluate=settings.evaluate,
        seed=settings.seed,
        deterministic=settings.deterministic,
        weights_folder=places.weights,
        cache_folder=places.cache,
    )
    # Decoding, preprocessing and network in one graph that answers like the trained model.
    export = exporter(trained=training.outputs["trained"], development=split.outputs["development"])
    # Scores with intervals, the table of all cells, a verdict.
    evaluation = evaluator(
        development=split.outputs["development"],
        test=split.outputs["test"],
        frozen_split=split.outputs["frozen_split"],
        statistics=statistics.outputs["statistics"],
        anomalies=anomalies.outputs["anomalies"],
        record=training.outputs["record"],
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
        (examples, statistics, schema, anomalies, split, training, export, evaluation, push),
        publish={name: (report, name) for name in ("report.html", "report.json", "predictions.csv")},
    )


if __name__ == "__main__":
    run_script()
