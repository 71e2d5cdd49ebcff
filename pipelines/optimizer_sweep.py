"""Frozen networks, optimizers and numbers of epochs compared; one head of them exported.

kerasall run optimizer_sweep_small
python pipelines/optimizer_sweep.py configs/optimizer_sweep_small.yaml

After Fata et al., "Optimal detection of acute lymphoblastic leukemia using deep transfer learning model".
"""

from __future__ import annotations

from kerasall.cli.app import run_script
from kerasall.components.sweep import sweep_trainer
from kerasall.pipeline.component import Pipeline
from kerasall.settings import Settings
from kerasall.studies.experiment import Places
from kerasall.studies.steps import export_and_judge, read_and_split


def build_pipeline(settings: Settings, places: Places) -> Pipeline:
    """The steps of the experiment, in order."""
    # Images, labels and subjects; one look at every pixel; a frozen split by subject and duplicate group.
    data = read_and_split(settings, places)
    # Every image passes every frozen network once; one run per network and optimizer gives all numbers
    # of epochs, scored on images no weight was fitted to, and one cell becomes a model.
    training = sweep_trainer(
        development=data.development,
        sweep=settings.sweep,
        head=settings.model.head,
        train=settings.train,
        evaluate=settings.evaluate,
        seed=settings.training_seed,
        deterministic=settings.deterministic,
        weights_folder=places.weights,
        cache_folder=places.cache,
    )
    # One graph from the file's bytes to the answer, scored once on the test part; pushed if blessed.
    return export_and_judge(data, (training,), settings, places)


if __name__ == "__main__":
    run_script()
