"""Four stages of leukaemia told apart by a vote of five networks, after Samyuktha et al. 2024.

Segmented smear images train five networks, each for its own number of epochs; every network has one
vote, and a tie goes to the class with the highest summed probability.

kerasall run four_stage_vote --data PATH/Segmented --weights DIR
python pipelines/four_stage_vote.py configs/four_stage_vote_small.yaml
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
    # Each network by transfer learning, for its own number of epochs.
    trainings = [train_member(data, member, settings, places) for member in members]
    # One model that counts the members' votes; the exported model returns them beside its answer.
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
