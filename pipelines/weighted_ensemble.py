"""A weighted ensemble of fine-tuned networks on single cells, after Mondal et al. 2021.

Centre-cropped cells, balanced by oversampling and augmented as they are read, train each member under a
cyclic learning rate; each member's answer counts by how well it did on validation images.

kerasall run weighted_ensemble --data PATH --weights DIR
python pipelines/weighted_ensemble.py configs/weighted_ensemble_small.yaml
"""

from __future__ import annotations

from kerasall.cli.app import run_script
from kerasall.components.ensembler import ensembler, require_members
from kerasall.pipeline.component import Pipeline
from kerasall.settings import Settings
from kerasall.studies.experiment import Places
from kerasall.studies.steps import export_and_judge, read_and_split, train_member


def build_pipeline(settings: Settings, places: Places) -> Pipeline:
    """The steps of the experiment, in order."""
    # Images, labels and subjects; one look at every pixel; a frozen split by subject and duplicate group.
    data = read_and_split(settings, places)
    members = require_members(settings)
    # Each member by transfer learning: oversampled training images, cyclic rate, early stopping.
    trainings = [train_member(data, member, settings, places) for member in members]
    # P'_j = sum_k W_k P_jk / sum_k W_k, with the members' validation kappa (or F1, AUC) as W_k.
    ensemble = ensembler(
        development=data.development,
        models=[training.outputs["trained"] for training in trainings],
        records=[training.outputs["record"] for training in trainings],
        members=list(members),
        ensemble=settings.ensemble,
    )
    # One graph from the file's bytes to the answer, scored once on the test part; pushed if blessed.
    return export_and_judge(data, (*trainings, ensemble), settings, places)


if __name__ == "__main__":
    run_script()
