"""Where images lie decides nothing: data that were moved train nothing again. Limits reach all that decodes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kerasall.components.trainer import trainer
from kerasall.components.transform import training_images
from kerasall.data.development import read_development, read_rows
from kerasall.data.pixel_cache import decode_pixels
from kerasall.data.synthetic import SyntheticSettings, render_cells
from kerasall.decoding import DEFAULT_LIMITS, Limits, with_limits
from kerasall.errors import ArtifactError, DataError, DecodingError
from kerasall.pipeline.component import Pipeline
from kerasall.pipeline.runner import RunPlaces, RunResult, run_pipeline
from kerasall.preprocessing.operations import Chain
from kerasall.serving.predictor import limits_of
from kerasall.settings import ModelSettings, Settings
from kerasall.settings.loading import validate
from kerasall.studies.experiment import Places
from kerasall.studies.steps import read_and_split

CHAIN = [{"op": "resize", "height": 32, "width": 32}]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Two classes of rendered cells as an image folder."""
    folder = tmp_path_factory.mktemp("images")
    cells = render_cells(
        folder / "cells", SyntheticSettings(subjects_per_class=8, images_per_subject=2, size=32)
    )
    for number, (path, label) in enumerate(zip(cells.examples["path"], cells.examples["label"], strict=True)):
        (folder / "first" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "first" / label / f"{number}{Path(path).suffix}")
    shutil.rmtree(folder / "cells")
    return folder / "first"


def settings_for(data: Path, **checks) -> Settings:
    return validate(
        {
            "experiment": "x", "pipeline": "p.py", "data": {"source": "folder", "path": str(data)}, "checks": checks,
            "preprocess": CHAIN, "model": {"alpha": 0.25, "weights": "random"},
            "train": {"batch_size": 8, "stages": [{"name": "head", "epochs": 1}]},
        },
        "here",
    )  # fmt: skip


def run(folder: Path, settings: Settings, trained: bool = True) -> RunResult:
    places = Places(folder / "cache", folder / "savedmodels")
    data = read_and_split(settings, places)
    steps = [*data.steps]
    if trained:
        steps.append(
            trainer(
                development=data.development, model=settings.model, train=settings.train, augment=None,
                inner_validation=0.2, seed=0, deterministic=False, weights_folder=None, cache_folder=places.cache,
            )
        )  # fmt: skip
    runs = RunPlaces(folder / "runs", "x")
    return run_pipeline(Pipeline(tuple(steps), {}), runs, experiment="x", settings={}, say=lambda line: None)


def test_moved_data_train_nothing_again(images, tmp_path):
    first = run(tmp_path, settings_for(images))
    moved = images.parent / "second"
    shutil.copytree(images, moved)
    shutil.move(images, images.parent / "away")
    try:
        second = run(tmp_path, settings_for(moved))
    finally:
        shutil.move(images.parent / "away", images)
    assert second.states["ExampleGen"] == "complete"
    assert second.states["Trainer"] == "cached"
    assert second.artifacts["Trainer", "trained"] == first.artifacts["Trainer", "trained"]
    development = second.artifacts["Transform", "development"]
    assert development.digest == first.artifacts["Transform", "development"].digest
    # What runs next reads the images where they lie now.
    for table in (
        read_development(development.path).examples,
        read_rows(second.artifacts["Transform", "test"].path),
    ):
        assert len(table)
        assert all(Path(path).is_relative_to(moved) and Path(path).is_file() for path in table["path"])


def test_other_limits_train_nothing_again_and_are_passed_on(images, tmp_path):
    first = run(tmp_path, settings_for(images), trained=False)
    second = run(tmp_path, settings_for(images, max_side=64, max_pixels=4096), trained=False)
    folders = [result.artifacts["Transform", "development"] for result in (first, second)]
    assert folders[0].digest == folders[1].digest
    assert read_development(folders[0].path).limits == DEFAULT_LIMITS
    assert read_development(folders[1].path).limits == Limits(max_side=64, max_pixels=4096)


def test_the_scan_refuses_what_is_beyond_the_limits(images, tmp_path):
    with pytest.raises(DataError, match="at least one readable image"):
        run(tmp_path, settings_for(images, max_side=16), trained=False)


def test_decoding_for_training_keeps_the_limits(images, tmp_path):
    result = run(tmp_path, settings_for(images), trained=False)
    data = read_development(result.artifacts["Transform", "development"].path)
    with pytest.raises(DecodingError, match="at most 16 pixels a side"):
        decode_pixels(data.examples["path"], Chain.from_json(CHAIN), limits=Limits(max_side=16))
    with pytest.raises(DecodingError, match="at most 16 pixels a side"):
        list(training_images(data.examples, Limits(max_side=16)))


def test_a_table_whose_paths_were_lost_is_refused(images, tmp_path):
    folder = run(tmp_path, settings_for(images), trained=False).artifacts["Transform", "test"].path
    (folder / "unkeyed" / "paths.json").write_text("[]")
    with pytest.raises(ArtifactError, match="one path for each of"):
        read_rows(folder)


def test_a_card_states_the_limits_of_its_model():
    assert limits_of({}) == DEFAULT_LIMITS
    assert limits_of({"limits": {"max_side": 9}}) == Limits(max_side=9)
    for wrong in ({"max_side": 0}, {"max_site": 9}, {"max_side": "9"}, [9]):
        with pytest.raises(ArtifactError, match="limits in card"):
            limits_of({"limits": wrong})


def test_limits_that_are_given_replace_those_of_the_card():
    assert with_limits(Limits(9, 9, 9)) == Limits(9, 9, 9)
    assert with_limits(Limits(9, 9, 9), max_pixels=5) == Limits(9, 5, 9)


def test_where_weights_lie_enters_no_key():
    here, there = (ModelSettings(weights=f"/{folder}/w.weights.h5").keyed() for folder in ("a", "b"))
    assert here == there
    assert here != ModelSettings(weights="random").keyed() != ModelSettings().keyed()
    nested = [
        validate(
            {"experiment": "x", "pipeline": "p", "sweep": {
                "backbones": [{"name": "a", "backbone": "vgg16", "weights": f"/{folder}/w.h5"}],
                "optimizers": [{}], "epochs": [1]}, "train": {"stages": [{"name": "h", "epochs": 1}]}},
            "here",
        ).sweep for folder in ("a", "b")
    ]  # fmt: skip
    from kerasall.pipeline.component import to_json

    assert to_json(nested[0]) == to_json(nested[1])
    assert json.dumps(to_json(nested[0]))
