"""``import kerasall``: every name is there, is light until it is used, and has an example that runs."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import kerasall

TINY = {
    "pipeline": str(Path(__file__).parents[1] / "pipelines" / "single_classifier.py"),
    "data": {"source": "synthetic", "synthetic": {"subjects_per_class": 8, "images_per_subject": 4, "size": 48}},
    "split": {"kind": "holdout", "validation": 0.25, "test": 0.25},
    "preprocess": [{"op": "resize", "height": 32, "width": 32}],
    "model": {"backbone": "mobilenet", "alpha": 0.25, "weights": "random"},
    "train": {"batch_size": 8, "stages": [{"name": "learn", "trainable": "all", "train_batch_norm": True, "epochs": 1,
                                           "optimizer": {"name": "adam", "learning_rate": 0.003}}]},
    "evaluate": {"main_metric": "accuracy", "resamples": 100},
}  # fmt: skip
NAMES = [name for name in kerasall.__all__ if name != "__version__"]
WAITING = {"train"}
"""Names whose module is not there yet."""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with cells and a config, in which the run ``tiny`` is finished: what the examples speak of."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("workplace")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    rng = np.random.default_rng(0)
    for label, number in [(label, number) for label in ("all", "hem") for number in range(8)]:
        (folder / "cells" / label).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "cells" / label / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("KERASALL_RUNS", "KERASALL_SAVEDMODELS", "KERASALL_WEIGHTS"):
            patch.delenv(name, raising=False)
        kerasall.run_experiment("tiny.yaml", overrides=["train.batch_size=8"], say=lambda _: None)
        yield folder


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_every_name_runs(workplace, name):
    if name in WAITING:
        pytest.skip(f"{name} is on its way")
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
