"""One classifier, from a folder of cell images to a blessed SavedModel.

kerasall run demo
python pipelines/single_classifier.py configs/demo.yaml
"""

from __future__ import annotations

from kerasall.cli.app import run_script
from kerasall.components.trainer import trainer
from kerasall.pipeline.component import Pipeline
from kerasall.settings import Settings
from kerasall.studies.experiment import Places
from kerasall.studies.steps import export_and_judge, read_and_split


def build_pipeline(settings: Settings, places: Places) -> Pipeline:
    """The steps of the experiment, in order."""
    # Images, labels and subjects; one look at every pixel; a frozen split by subject and duplicate group.
    data = read_and_split(settings, places)
    # Transfer learning in stages; epochs are decided on validation images.
    training = trainer(
        development=data.development,
        model=settings.model,
        train=settings.train,
        augment=settings.augment,
        inner_validation=settings.split.inner_validation,
        seed=settings.training_seed,
        deterministic=settings.deterministic,
        weights_folder=places.weights,
        cache_folder=places.cache,
        views=settings.serve.views,
    )
    # One graph from the file's bytes to the answer, scored once on the test part; pushed if blessed.
    return export_and_judge(data, (training,), settings, places)


if __name__ == "__main__":
    run_script()
