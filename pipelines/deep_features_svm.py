"""Features of several frozen networks side by side, and a linear support vector machine.

kerasall run deep_features_svm_small
python pipelines/deep_features_svm.py configs/deep_features_svm_small.yaml

After Hasanaath et al., "Acute lymphoblastic leukemia detection using ensemble features from multiple
deep CNN models".
"""

from __future__ import annotations

from kerasall.cli.app import run_script
from kerasall.components.feature_classifier import feature_trainer
from kerasall.pipeline.component import Pipeline
from kerasall.settings import Settings
from kerasall.studies.experiment import Places
from kerasall.studies.steps import export_and_judge, read_and_split


def build_pipeline(settings: Settings, places: Places) -> Pipeline:
    """The steps of the experiment, in order."""
    # Images, labels and subjects; one look at every pixel; a frozen split by subject and duplicate group.
    data = read_and_split(settings, places)
    # Every image passes every network once; every combination of features and classifier is fitted and
    # scored on images it was not fitted to, and one of them becomes a model.
    training = feature_trainer(
        development=data.development,
        deep_features=settings.deep_features,
        augment=settings.augment,
        evaluate=settings.evaluate,
        seed=settings.training_seed,
        weights_folder=places.weights,
        cache_folder=places.cache,
    )
    # One graph from the file's bytes to the answer, scored once on the test part; pushed if blessed.
    return export_and_judge(data, (training,), settings, places)


if __name__ == "__main__":
    run_script()
