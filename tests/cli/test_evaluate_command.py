"""``kerasall evaluate``: a model on images of another source: what is scored, what is left out, what is said."""

from __future__ import annotations

import csv
import hashlib
import json
from functools import partial
from pathlib import Path

import command_line
import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kerasall.components.exporter import answer_with_safeguards
from kerasall.data.sources import read_source
from kerasall.data.statistics import SEEN, read_seen, write_seen
from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.operating_points import operating_point
from kerasall.evaluation.predictions import Predictions, read_predictions
from kerasall.evaluation.safeguards import Safeguards, WantedPoint, fit_prediction_sets
from kerasall.files import write_json
from kerasall.preprocessing.operations import Chain
from kerasall.report.external_scores import ExternalScores, count_parts, describe_scores, predictions_table
from kerasall.serving.card import write_manifest
from kerasall.serving.export import export_saved_model
from kerasall.studies.external_check import check_externally, judge
from kerasall.studies.finished_run import Run

LABELS = ("Benign", "Early", "Pro")
MALIGNANT = ("Early", "Pro")
SIZE = 8
REDNESS = {"benign": 40, "early": 160, "pro": 240}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr("kerasall.report.external_scores.RESAMPLES", 200)
    monkeypatch.setattr("kerasall.report.pages.external.RESAMPLED_CURVES", 200)


def paint(path: Path, red: int, seed: int) -> Path:
    """A small noisy picture of one redness."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 12, (SIZE * 2, SIZE * 2, 3)) + np.array([red, 90, 90])
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return path


def make_model() -> keras.Model:
    """Calls an image by its redness: Benign below 100, Early below 200, else Pro."""
    image = keras.Input((SIZE, SIZE, 3), name="image")
    red = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 50)(image))
    dense = keras.layers.Dense(3, activation="softmax")
    output = dense(red)
    # Scores that cross at a redness of 100 and of 200, in units of 50.
    dense.set_weights([np.array([[0, 4, 8], [0, 0, 0], [0, 0, 0]], float), np.array([0, -8.0, -24])])
    return keras.Model(image, output)


def make_safeguards() -> Safeguards:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    probabilities = rng.dirichlet((1, 1, 1), 90) * 0.3 + np.eye(3)[labels] * 0.7
    names = [f"v{k}" for k in range(90)]
    fitting = Predictions(names, names, names, labels, probabilities, LABELS)
    calibration = fit_calibration(fitting)
    calibrated = calibration.apply_to(fitting)
    point = WantedPoint(0.95, operating_point(calibrated, MALIGNANT, 0.95))
    sets = fit_prediction_sets(calibrated, 0.9)
    return Safeguards(calibration, "probabilities", "validation", (point,), sets, None, "too few images")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A pushed model that has seen one image, ``seen.png``."""
    folder = tmp_path_factory.mktemp("models") / "red" / "1"
    network, safeguards = make_model(), make_safeguards()
    chain = Chain.from_json([{"op": "resize", "height": SIZE, "width": SIZE}])
    export_saved_model(network, chain, LABELS, folder, answer=answer_with_safeguards(network, safeguards))
    seen = paint(folder.parents[1] / "seen.png", 240, seed=999)
    digest = hashlib.sha256(seen.read_bytes()).hexdigest()
    (folder / SEEN).write_text(f"sha256,part\n{digest},train\n{'0' * 64},test\n")
    metrics = {"malignant_sensitivity": {"value": 0.99, "low": 0.9, "high": 1.0}}
    calls = {
        "threshold": 0.5,
        "fitted_on": "validation",
        "fitting_malignant_subjects": 12,
        "fitting_other_subjects": 11,
    }
    results = {"malignant": MALIGNANT, "blessed": False, "metrics": metrics, "subject_calls": calls}
    card = {"safeguards": safeguards.to_json(), "data": {"source": "aria"}, "results": results}
    write_json(folder / "card.json", card)
    write_manifest(folder)
    return folder


def write_table(folder: Path, rows: list[tuple[Path, str, str]]) -> Path:
    path = folder / "table.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "subject"])
        writer.writerows(rows)
    return path


def paint_subjects(folder: Path, each: int = 4) -> list[tuple[Path, str, str]]:
    """Four blast and three normal subjects; one blast image looks normal, one normal subject looks like blasts."""
    rows = []
    for number in range(7):
        label = "blast" if number < 4 else "normal"
        for image in range(each):
            red = REDNESS["pro"] if number < 4 or number == 6 else REDNESS["benign"]
            red = REDNESS["benign"] if (number, image) == (0, 0) else red
            path = paint(folder / f"{label}{number}_{image}.png", red, seed=100 * number + image)
            rows.append((path, label, f"{label}{number}"))
    return rows


MAPS = ("--map", "blast=malignant", "--map", "normal=benign")


invoke = partial(command_line.invoke, "evaluate")


def score(model, data, stated):
    """The scores of the command, without a page."""
    return ExternalScores(check_externally(judge(Run.find(model)), read_source("auto", data), stated))


def test_scores_pages_and_tables(model, tmp_path):
    table, out = write_table(tmp_path, paint_subjects(tmp_path)), tmp_path / "out"
    result = invoke(model, "--data", table, *MAPS, "--out", out, "--json")
    found = json.loads(result.stdout)
    assert found["metrics"]["malignant_sensitivity"]["value"] == pytest.approx(15 / 16)
    assert found["metrics"]["malignant_specificity"]["value"] == pytest.approx(8 / 12)
    assert found["confusion_matrix"] == [[8, 4], [1, 15]]
    low, high = (found["metrics"]["malignant_sensitivity"][end] for end in ("low", "high"))
    assert 0 < low < 15 / 16 < high <= 1
    assert found["own_metrics"]["malignant_sensitivity"]["value"] == 0.99
    assert found["operating_points"][0]["wanted"] == 0.95
    assert found["referral"]["referred"]["value"] is not None
    assert found["unlike_training_images"] is None  # this model cannot tell
    # Subjects by the model's own threshold: one normal subject looks like blasts throughout.
    wrong = [row["subject"] for row in found["subject_calls"]["subjects"] if not row["right"]]
    assert wrong == ["normal6"]
    record = read_predictions(out / "predictions.csv")
    assert record.classes == ("benign", "malignant")
    assert len(record) == 28
    images = pd.read_csv(out / "images.csv", keep_default_na=False)
    assert images.loc[images["id"] == "blast0_0.png", "called"].item() == "Benign"
    assert set(images["fate"]) == {"scored"}
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in (
        "What weakens this check",
        "not a diagnostic device",
        "did not pass the checks",
        "joined to benign",
    ):
        assert words in page


def test_seen_images_and_their_subjects_are_left_out(model, tmp_path):
    rows = paint_subjects(tmp_path)
    copy = tmp_path / "copy.png"
    copy.write_bytes((model.parents[1] / "seen.png").read_bytes())
    rows.append((copy, "blast", "blast1"))
    broken = tmp_path / "broken\nof no caution\u2028.png"
    broken.write_bytes(b"no image")
    rows.append((broken, "normal", "normal5"))
    scores = score(model, write_table(tmp_path, rows), {"blast": "malignant", "normal": "benign"})
    found = scores.to_json()
    assert found["fates"] == {
        "scored": 24, "of a group the model has seen": 4, "seen by the model": 1, "not readable": 1,
    }  # fmt: skip
    assert any("1 of 30 images are byte for byte" in each for each in found["cautions"])
    assert all(each.isprintable() for each in found["cautions"])
    assert not any(each.startswith("of no caution") for each in found["cautions"])
    images = predictions_table(scores.check)
    assert images.loc[images["subject"] == "blast1", "fate"].tolist().count("scored") == 0
    assert (images["p_Pro"].notna() == (images["fate"] == "scored")).all()


def test_nothing_but_seen_images_is_refused(model, tmp_path):
    with pytest.raises(DataError, match=r"none of the 1 .* is left \(1 seen by the model\)"):
        invoke(model, "--data", write_table(tmp_path, [(model.parents[1] / "seen.png", "Pro", "a")]))


def test_a_class_that_nobody_mapped_is_refused_before_anything_is_predicted(model, tmp_path):
    table = write_table(tmp_path, paint_subjects(tmp_path))
    with pytest.raises(SettingsError, match="--malignant NAME, or state each"):
        invoke(model, "--data", table, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_models_own_classes_are_scored_as_they_are(model, tmp_path):
    for number, (name, red) in enumerate(REDNESS.items()):
        for image in range(3):
            paint(tmp_path / "tree" / name.capitalize() / f"{image}.png", red, seed=10 * number + image)
    found = score(model, tmp_path / "tree", {}).to_json()
    assert found["scored_classes"] == list(LABELS)
    assert found["metrics"]["accuracy"]["value"] == 1
    assert any("No patient is known" in each for each in found["cautions"])
    assert found["subject_calls"] is None


@pytest.mark.slow
def test_one_kind_only_leaves_undefined_what_needs_two(model, tmp_path):
    rows = [row for row in paint_subjects(tmp_path) if row[1] == "blast"]
    lines = "\n".join(describe_scores(score(model, write_table(tmp_path, rows), {"blast": "Pro"})))
    assert "malignant_specificity    –" in lines
    assert "No image of Benign, Early is scored" in lines


def test_what_was_seen_is_written_with_its_part(tmp_path):
    from kerasall.data.examples import make_examples
    from kerasall.data.statistics import scan_images

    paths = [paint(tmp_path / f"{k}.png", 40 * k, seed=k) for k in range(3)]
    rows = [{"id": path.name, "path": str(path), "label": "a"} for path in paths]
    examples = make_examples(rows)
    write_seen(examples.assign(part=["train", "test", "train"]), scan_images(examples), tmp_path)
    seen = read_seen(tmp_path)
    assert seen == {
        hashlib.sha256(path.read_bytes()).hexdigest(): part
        for path, part in zip(paths, ("train", "test", "train"), strict=True)
    }
    assert count_parts(seen.values()) == (2, 1)
    assert read_seen(tmp_path / "elsewhere") is None


@pytest.mark.slow
def test_a_trained_model_on_other_rendered_cells(tmp_path, monkeypatch):
    """A whole run, then its model on cells of another seed, and on its own, which is refused."""
    import yaml
    from test_experiment import TINY

    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KERASALL_SAVEDMODELS", str(tmp_path / "models"))
    config, other = tmp_path / "tiny.yaml", tmp_path / "other.yaml"
    config.write_text(yaml.safe_dump(TINY))
    cells = {"source": "synthetic", "synthetic": TINY["data"]["synthetic"] | {"seed": 6}}
    other.write_text(yaml.safe_dump(TINY | {"data": cells}))
    run = command_line.invoke("run", config, "--force")
    assert run.exit_code == 0, run.output
    for model in ("tiny", tmp_path / "models" / "tiny"):
        found = json.loads(invoke(model, "--config", other, "--out", tmp_path / "out", "--json").stdout)
        assert found["fates"] == {"scored": found["images"]}
        assert found["scored_classes"] == ["all", "hem"]
        assert any("rendered" in each for each in found["cautions"])
    with pytest.raises(DataError, match="the very images"):
        invoke("tiny", "--config", config, "--out", tmp_path / "out")
