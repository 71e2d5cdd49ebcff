"""The steps that every experiment begins and ends with; what it trains stands in between, in its script."""

from __future__ import annotations

from dataclasses import dataclass

from kerasall.components.calibrator import calibrator
from kerasall.components.evaluator import evaluator
from kerasall.components.example_gen import example_gen
from kerasall.components.example_validator import UNREADABLE, example_validator
from kerasall.components.exporter import exporter
from kerasall.components.pusher import pusher
from kerasall.components.report_gen import report_gen
from kerasall.components.schema_gen import schema_gen
from kerasall.components.statistics_gen import limits_of, statistics_gen
from kerasall.components.trainer import trainer
from kerasall.components.transform import transform
from kerasall.pipeline.component import Channel, Pipeline, Step
from kerasall.settings import MemberSettings, Settings
from kerasall.settings.noise import list_columns
from kerasall.studies.experiment import Places

PUBLISHED = ("report.json", "predictions.csv")
"""Files of the Evaluation that stand in the run's folder, beside the report."""


@dataclass(frozen=True)
class DataSteps:
    """From images to a frozen split.

    Attributes:
        steps: in order.
        development: the part that training may read.
    """

    examples: Step
    statistics: Step
    schema: Step
    anomalies: Step
    split: Step

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of them, in order."""
        return (self.examples, self.statistics, self.schema, self.anomalies, self.split)

    @property
    def development(self) -> Channel:
        """The part that training may read: everything but the test part."""
        return self.split.outputs["development"]

    def noise_columns(self, settings: Settings) -> Channel | None:
        """What the table says of the images, for a Tuner whose noise divides them by it; to others it must not matter."""
        return self.examples.outputs["attributes"] if list_columns(settings.tune) else None


def read_and_split(settings: Settings, places: Places) -> DataSteps:
    """Names, labels and subjects; one look at every pixel; a split that only the Evaluator sees the end of."""
    # By a column that divides the scored images as noise the final score is divided too.
    columns = dict.fromkeys([*settings.evaluate.subgroups, *list_columns(settings.tune)])
    examples = example_gen(data=settings.data, cache_folder=places.cache, subgroups=list(columns))
    # One pass over the pixels: readability, sizes, colours, duplicates; errors stop the run.
    statistics = statistics_gen(examples=examples.outputs["examples"], checks=settings.checks)
    schema = schema_gen(statistics=statistics.outputs["statistics"], schema_file=settings.checks.schema_file)
    anomalies = example_validator(
        examples=examples.outputs["examples"],
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        checks=settings.checks,
        folds=settings.split.folds if settings.split.kind == "folds" else 0,
        metrics=[settings.evaluate.main_metric, *settings.evaluate.metrics],
    )
    # By subject and duplicate group, frozen; only the Evaluator is given the test part.
    split = transform(
        examples=examples.outputs["examples"],
        statistics=statistics.outputs["statistics"],
        anomalies=anomalies.outputs["anomalies"],
        split=settings.split,
        preprocess=list(settings.preprocess),
        seed=settings.seed,
        limits=limits_of(settings.checks),
        unreadable=settings.checks.unreadable,
    )
    return DataSteps(examples, statistics, schema, anomalies, split)


def train_member(data: DataSteps, member: MemberSettings, settings: Settings, places: Places) -> Step:
    """One member of an ensemble by transfer learning, with what it does not share with the others."""
    return trainer(
        development=data.development,
        model=member.model,
        train=member.training(settings.train),
        augment=settings.augment,
        inner_validation=settings.split.inner_validation,
        seed=member.seed(settings.training_seed),
        deterministic=settings.deterministic,
        weights_folder=places.weights,
        cache_folder=places.cache,
        steps=list(member.steps),
    ).named(f"Trainer {member.name}")


def export_and_judge(
    data: DataSteps, training: tuple[Step, ...], settings: Settings, places: Places
) -> Pipeline:
    """The whole experiment, from what its script trains.

    Args:
        data: the first steps.
        training: the script's own; the last one gives the model (``trained``) and its ``record``.
        settings: of the experiment.
        places: of the run.
    """
    last = training[-1].outputs
    # Temperature, thresholds, what goes to an expert: from validation or out-of-fold predictions alone.
    calibration = calibrator(
        trained=last["trained"],
        development=data.development,
        record=last["record"],
        calibrate=settings.calibrate,
        cache_folder=places.cache,
    )
    # Decoding, preprocessing and network in one graph that answers like the trained model.
    export = exporter(
        trained=last["trained"],
        development=data.development,
        safeguards=calibration.outputs["safeguards"],
        views=settings.serve.views,
    )
    known = {
        "development": data.development,
        "test": data.split.outputs["test"],
        "frozen_split": data.split.outputs["frozen_split"],
        "statistics": data.statistics.outputs["statistics"],
        "anomalies": data.anomalies.outputs["anomalies"],
        "record": last["record"],
        "settings": settings,
    }
    # Scores with intervals on images no choice was made on; a verdict.
    evaluation = evaluator(
        safeguards=calibration.outputs["safeguards"],
        saved_model=export.outputs["saved_model"],
        parity=export.outputs["parity"],
        attributes=data.examples.outputs["attributes"],
        **known,
    )
    # The numbers in words and pictures; a better sentence runs this step alone.
    report = report_gen(
        evaluation=evaluation.outputs["evaluation"], command=places.command, study=settings.study, **known
    )
    # Blessed models alone are pushed.
    push = pusher(
        saved_model=export.outputs["saved_model"],
        evaluation=evaluation.outputs["evaluation"],
        blessing=evaluation.outputs["blessing"],
        report=report.outputs["report"],
        name=places.name or settings.experiment,
        force=places.force,
        destination=str(places.savedmodels),
    )
    numbers = evaluation.outputs["evaluation"]
    # Repetitions measure the spread over seeds, shares that over sizes. To push them would be to choose among them.
    pushed = () if settings.repeat or settings.split.training_share < 1 else (push,)
    return Pipeline(
        (*data.steps, *training, calibration, export, evaluation, report, *pushed),
        publish={"report.html": (report.outputs["report"], "report.html")}
        | {n: (numbers, n) for n in PUBLISHED}
        | {UNREADABLE: (data.anomalies.outputs["anomalies"], UNREADABLE)},
    )
