"""``import kerasall``: every name is there, is light until it is used, and has an example that runs."""

from __future__ import annotations

import ast
import doctest
import json
import subprocess
import sys
from pathlib import Path

import command_line
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import kerasall

TINY = {
    "pipeline": str(Path(__file__).parents[1] / "pipelines" / "single_classifier.py"),
    "data": {"source": "synthetic", "synthetic": {"subjects_per_class": 8, "images_per_subject": 4, "size": 48}},
    "split": {"kind": "holdout", "validation": 0.25, "test": 0.25},
    "preprocess": [{"op": "resize", "height": 32, "width": 32}],
    "model": {"backbone": "mobilenet", "alpha": 0.25, "weights": "random"},
    "train": {"batch_size": 8, "stages": [{"name": "head", "epochs": 1}]},
    "evaluate": {"main_metric": "accuracy", "resamples": 100},
}  # fmt: skip
NAMES = [name for name in kerasall.__all__ if name != "__version__"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with cells and a config, in which the run ``tiny`` is finished: what the examples speak of."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    rng = np.random.default_rng(0)
    names = [f"cells/{c}/{n}.png" for c in ("all", "hem") for n in range(8)]
    names += [f"grown/{c}/P{c[0]}{p}/{n}.png" for c in ("all", "hem") for p in range(6) for n in range(4)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("KERASALL_RUNS", "KERASALL_SAVEDMODELS", "KERASALL_WEIGHTS"):
            patch.delenv(name, raising=False)
        kerasall.run_experiment("tiny.yaml", overrides=["train.batch_size=8"], say=lambda _: None)
        yield folder


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_every_name_runs(workplace, name):
    import keras
    import keras_tuner

    known = {"kerasall": kerasall, "np": np, "pd": pd, "keras": keras, "keras_tuner": keras_tuner}
    text = getattr(kerasall, name).__doc__
    example = doctest.DocTestParser().get_doctest(text, known, name, None, None)
    assert "Example:" in text
    assert example.examples
    told: list[str] = []
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)
    assert not found.failed, "".join(told)


def test_a_run_holds_numbers_as_numbers_and_paths_as_paths(workplace):
    run = kerasall.run_experiment("tiny.yaml", overrides=["train.batch_size=8"], say=lambda _: None)
    assert set(run.states.values()) == {"cached"}
    results = json.loads((run.folder / "report.json").read_text())["results"]
    expected = results["metrics"]["accuracy"]
    assert {key: getattr(run.score, key) for key in expected} == expected
    assert run.score.metric == "accuracy"
    assert {name: score.value for name, score in run.scores.items()} == {
        name: each["value"] for name, each in results["metrics"].items()
    }
    assert (run.missed, run.blessed) == (results["malignant_called_benign"], results["blessed"])
    assert run.scores.confusion_matrix.sum() == len(run.predictions()) == run.scores.images
    assert run.report == workplace / "runs" / "tiny" / "report.html"
    assert (run.artifacts["Exporter", "saved_model"] / "model") == run.exported
    table = kerasall.predict(run.model(), workplace / "cells", chain=run.chain(), labels=run.scores.classes)
    served = kerasall.predict(run, workplace / "cells")
    np.testing.assert_allclose(table[["all", "hem"]], served[["all", "hem"]], atol=1e-5)


def test_the_command_goes_on_with_what_python_trained_and_so_does_its_config(workplace):
    small = ["train.stages.0.epochs=2", "preprocess=[{op: resize, height: 32, width: 32}]", "split.folds=2"]
    small.insert(2, "model={alpha: 0.25, weights: random}")
    run = kerasall.train("grown", "all", name="grown_all", overrides=small)
    assert run.scores.accuracy.groups == 12

    def call(*arguments: str) -> str:
        shown = command_line.invoke(*arguments).output
        assert set(kerasall.Run.find("grown_all").states.values()) == {"cached"}
        return shown

    options = [word for each in small for word in ("--set", each)]
    shown = call("train", "grown", "--malignant", "ALL", "--name", "grown_all", *options)
    for words in (
        "12 patients", "split into 2 folds, by patient", "as it lies there", "score:", "missed:", "verdict:", "report:",
        "kerasall explain grown_all IMAGES", " --force  # push it all the same",
    ):  # fmt: skip
        assert words in shown
    assert "kerasall predict grown_all" not in shown  # nothing was pushed to answer with
    call("run", "grown_all.yaml")


def test_what_is_not_evaluated_yet_has_no_score(workplace):
    folder = workplace / "runs" / "begun"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    for name in ("score", "missed", "blessed", "report"):
        with pytest.raises(kerasall.KerasallError, match=r"must hold report\.(json|html), but does not"):
            getattr(kerasall.Run.find("begun"), name)


def test_importing_the_package_loads_neither_tensorflow_nor_pandas():
    script = (
        "import sys, kerasall; heavy = {'tensorflow', 'keras', 'pandas', 'numpy', 'pydantic'}; "
        "assert not heavy & set(sys.modules); assert set(kerasall.__all__) <= set(dir(kerasall)); "
        "kerasall.score, kerasall.Run, kerasall.analyze, kerasall.run_experiment, kerasall.predict, kerasall.check; "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_type_checkers_see_the_names_that_are_given():
    tree = ast.parse(Path(kerasall.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {a.name: f"{n.module}" for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert seen == kerasall._HOMES
    assert sorted(kerasall.__all__) == sorted([*seen, "__version__"])


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = kerasall.trian
