"""Systems on frozen networks: deep features with classic classifiers, and the optimizer sweep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from page_tables import read_tables
from threadpoolctl import threadpool_limits

from kerasall.components import calibrator
from kerasall.components.classifier_training import stage_settings
from kerasall.components.feature_classifier import ChangedPixels, feature_trainer, require_same_answers
from kerasall.components.feature_fitting import Fitting, platt_folds
from kerasall.components.sweep import checkpoint, read_checkpoint, sweep_trainer
from kerasall.data.development import Development, Facts, read_development, write_development
from kerasall.data.input_pipeline import epoch_batches
from kerasall.data.splits import Split
from kerasall.data.training_record import TrainingRecord
from kerasall.decoding import decode
from kerasall.errors import ModelError, SettingsError
from kerasall.evaluation.predictions import read_predictions
from kerasall.files import sha256_of_file
from kerasall.models import base as models
from kerasall.models.prediction import predict_outputs
from kerasall.models.saving import load_model
from kerasall.preprocessing.augmentation import Augmentation
from kerasall.report.page import render_section
from kerasall.settings import (
    DeepFeatureSettings,
    EvaluateSettings,
    HeadSettings,
    SweepSettings,
    TrainSettings,
)
from kerasall.settings.loading import validate
from kerasall.settings.seeds import derive_seed
from kerasall.training.fit import fit

ROOT = Path(__file__).parents[1]
CLASSES = ("all", "hem")
CHAIN = [{"op": "resize", "height": 32, "width": 32}]
EVALUATE = EvaluateSettings(resamples=200)


def draw_cells(folder: Path, subjects: int, images: int, size: int = 32) -> pd.DataFrame:
    """Noisy discs, bluer in class hem, of a few subjects; one row each without its part."""
    import cv2

    random, rows = np.random.default_rng(3), []
    for label in CLASSES:
        for subject in range(subjects):
            for number in range(images):
                image = random.normal(60, 12, (size, size, 3)) + 8 * (subject % 3)
                color = (170, 90, 110 if label == "all" else 160)
                cv2.circle(image, (size // 2, size // 2), size // 3, color, -1)
                image += random.normal(0, 10, image.shape)
                path = folder / f"{label}_{subject}_{number}.png"
                cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8)[..., ::-1])
                rows.append(
                    {"id": path.name, "path": str(path), "label": label, "subject": f"{label}{subject}"}
                )
    table = pd.DataFrame(rows)
    return table.assign(group=table["subject"], sha256=table["path"].map(sha256_of_file), fold="")


def develop(table: pd.DataFrame, parts: dict[str, str], kind: str, folder: Path, unit: str = "group") -> Path:
    """A Development artifact in which the subjects stand in the given parts."""
    table = table.assign(part=table["subject"].str[-1].map(parts)).sort_values("id", ignore_index=True)
    split = Split(kind, table[["id", "label", "subject", "group", "part"]], 0, unit=unit)
    facts = Facts(CLASSES, ("all",), "subject", "drawn", (), "0")
    folder.mkdir()
    write_development(Development(table, split, facts, CHAIN), folder)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> pd.DataFrame:
    return draw_cells(tmp_path_factory.mktemp("cells"), subjects=6, images=5)


FOLDS = {"0": "fold_0", "1": "fold_0", "2": "fold_1", "3": "fold_1", "4": "fold_2", "5": "fold_2"}
SELECTION = {"0": "train", "1": "train", "2": "train", "3": "train", "4": "selection", "5": "selection"}

FEATURES = {
    "extractors": [
        {"name": "vgg16", "backbone": "vgg16", "weights": "random"},
        {"name": "small", "backbone": "mobilenet", "alpha": 0.25, "weights": "random"},
    ],
    "combinations": [["vgg16"], ["small", "vgg16"]],
    "classifiers": ["linear_svm", "decision_tree"],
}


def run_features(development: Path, places: Path, augment: dict | None = None, **changes) -> dict:
    settings = DeepFeatureSettings.model_validate(FEATURES | changes)
    folders = {name: places / name for name in ("trained", "record", "scratch", "cache")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    feature_trainer.function(
        development, settings, augment, EVALUATE, 5, folders["trained"], folders["record"], folders["scratch"],
        None, folders["cache"],
    )  # fmt: skip
    return folders


@pytest.fixture(scope="module")
def folded(table, tmp_path_factory):
    """The step run on three folds, with what is exported named beforehand."""
    folder = tmp_path_factory.mktemp("folded")
    development = develop(table, FOLDS, "folds", folder / "development")
    chosen = {"features": ["vgg16"], "classifier": "linear_svm"}
    return development, run_features(development, folder, chosen=chosen)


def pixels_of(table: pd.DataFrame) -> np.ndarray:
    return np.stack([decode(Path(path).read_bytes()) for path in table["path"]])


def test_every_combination_is_scored_out_of_fold_and_the_named_one_is_kept(folded):
    _, folders = folded
    training = json.loads((folders["record"] / "training.json").read_text())
    assert [(c["features"], c["classifier"]) for c in training["combinations"]] == [
        (["vgg16"], "linear_svm"),
        (["vgg16"], "decision_tree"),
        (["small", "vgg16"], "linear_svm"),
        (["small", "vgg16"], "decision_tree"),
    ]
    kept = read_predictions(folders["record"] / "predictions.npz")
    assert len(kept) == 60
    accuracy = np.mean(kept.decisions == kept.labels)
    assert training["combinations"][0]["main"]["value"] == pytest.approx(accuracy)
    assert accuracy > 0.8
    (table,) = training["tables"]
    rows = read_tables(render_section("combinations", tables=[table]).body)[table["caption"]]
    assert len(rows) == 1 + 4
    assert rows[1][0].note == "exported"
    assert "named in the config" in " ".join(table["notes"])
    # Each of three folds' classifiers is fitted to the 40 images of the others.
    tree = training["combinations"][1]
    assert tree["matrices"]["training"] == [[60, 0], [0, 60]]
    assert (tree["training_accuracy"], np.sum(tree["confusion_matrix"])) == (1.0, 60)
    low, high = training["combinations"][0]["intervals"]["accuracy"]
    assert low < accuracy <= high
    assert TrainingRecord(folders["record"]).chosen_on == ()


def test_the_model_of_all_folds_answers_like_a_classifier_fitted_to_all_rows(folded, table):
    from kerasall.models.deep_features import build_extractor
    from kerasall.models.feature_classifiers import fit_feature_classifier

    _, folders = folded
    table = table.sort_values("id", ignore_index=True)
    pixels, labels = pixels_of(table), table["label"].map(CLASSES.index).to_numpy()
    model = load_model(folders["trained"] / "model.keras")
    answers = predict_outputs(model, [pixels])
    seed = int(np.random.SeedSequence([5, *b"vgg16"]).generate_state(1)[0] >> 1)
    features = build_extractor("vgg16", (32, 32), "random", seed=seed).predict(pixels, verbose=0)
    folds = np.arange(len(labels)) // 5 % 3
    expected = fit_feature_classifier("linear_svm", features, labels, 2, folds, seed=5)
    np.testing.assert_allclose(answers["decision_values"], expected.decide(features), atol=1e-3)
    assert (answers["label_index"] == labels).mean() > 0.9


def test_the_calibrator_passes_no_image_that_training_has_passed(folded, monkeypatch):
    development, folders = folded
    monkeypatch.setattr(calibrator, "_pass", lambda *_: pytest.fail("an image was passed again"))
    model, rows = load_model(folders["trained"] / "model.keras"), np.array([1, 4])
    found, _ = calibrator.compute_features(
        model, folders["trained"], read_development(development), rows, folders["cache"]
    )
    assert found.shape == (2, 512)


def test_the_labels_of_a_held_out_fold_do_not_change_what_is_predicted_for_it(folded, tmp_path):
    """Only the others' labels may: with random features and one fold's labels turned around."""
    data = read_development(folded[0])
    features = {"vgg16": np.random.default_rng(0).normal(size=(1, len(data.examples), 12))}
    labels, inside = data.examples["label"], data.examples["part"] == "fold_1"
    turned = data.examples.assign(label=labels.where(~inside, labels.map({"all": "hem", "hem": "all"})))
    settings = DeepFeatureSettings.model_validate(FEATURES)
    cell = (("vgg16",), "linear_svm")
    one, two = (
        Fitting(replace(data, examples=rows), settings, features, 1).predict_held_out(cell, tmp_path / name)
        for name, rows in (("one", data.examples), ("two", turned))
    )
    inside = np.isin(one.ids, data.split.ids("fold_1"))
    np.testing.assert_array_equal(one.probabilities[inside], two.probabilities[inside])
    assert (one.probabilities[~inside] != two.probabilities[~inside]).any()


def test_a_step_killed_midway_fits_only_what_is_missing(folded, tmp_path, monkeypatch):
    from kerasall.components import feature_fitting

    development, folders = folded
    fitted = []
    original = feature_fitting.fit_feature_classifier
    monkeypatch.setattr(
        feature_fitting, "fit_feature_classifier", lambda *a, **k: fitted.append(a[0]) or original(*a, **k)
    )
    lost = folders["scratch"] / "fold_1" / "vgg16_linear_svm.npz"
    before = read_predictions(folders["record"] / "predictions.npz")
    lost.unlink()
    run_features(
        development, folders["record"].parent, chosen={"features": ["vgg16"], "classifier": "linear_svm"}
    )
    assert len(fitted) == 2  # the lost one, and the one that is exported
    after = read_predictions(folders["record"] / "predictions.npz")
    np.testing.assert_array_equal(before.probabilities, after.probabilities)


def test_a_faithful_copy_chooses_on_the_selection_part_and_says_so(table, tmp_path):
    development = develop(table, SELECTION, "holdout", tmp_path / "development")
    augment = {"horizontal_flip": True, "rotation_degrees": 90}
    settings = {"combinations": [["vgg16"]], "classifiers": ["mlp", "knn"], "augmented_copies": 1}
    folders = run_features(development, tmp_path, augment, **settings)
    training = json.loads((folders["record"] / "training.json").read_text())
    assert training["chosen"] == {"features": ["vgg16"], "classifier": "mlp"}
    assert TrainingRecord(folders["record"]).chosen_on == ("selection",)
    assert "too high" in training["tables"][0]["notes"][0]
    scored, selection = (
        read_predictions(folders["record"] / name) for name in ("predictions.npz", "selection.npz")
    )
    assert len(scored) == 20
    np.testing.assert_allclose(scored.probabilities, selection.probabilities)


@threadpool_limits.wrap(limits=1)
def test_a_perceptron_of_unpooled_features_has_training_and_validation_images_of_its_own(table, tmp_path):
    development = develop(table, SELECTION | {"3": "validation"}, "holdout", tmp_path / "development")
    settings = {"combinations": [["vgg16"]], "classifiers": ["mlp"], "pooling": "none", "standardise": False}
    settings["extractors"] = FEATURES["extractors"][:1]
    folders = run_features(development, tmp_path, pixels="standardised", **settings)
    record = TrainingRecord(folders["record"])
    (row,) = record.combinations["rows"]
    counted = {part: int(np.sum(matrix)) for part, matrix in row["matrices"].items()}
    assert counted == {"training": 30, "validation": 10}
    assert (record.combinations["compared_on"], np.sum(row["confusion_matrix"])) == ("selection", 20)
    # What calibrates the model are the validation images, and not those that it is scored on.
    validation = record.predictions
    assert len(validation) == 10
    right = np.mean(validation.decisions == validation.labels)
    assert row["validation_accuracy"] == pytest.approx(right)
    assert len(record.selection) == 20
    assert read_tables(render_section("combinations", tables=record.training["tables"]).body)
    assert ">Validation accuracy" in record.training["tables"][0]["columns"]


def test_changed_pixels_are_the_same_whatever_slices_are_read(table):
    pixels = pixels_of(table)[:10]
    changed = ChangedPixels(pixels, Augmentation(horizontal_flip=True, vertical_flip=True), seed=4)
    whole = changed[0:10]
    np.testing.assert_array_equal(whole, np.concatenate([changed[0:4], changed[4:10]]))
    for before, after in zip(pixels, whole, strict=True):
        flips = [before[::y, ::x] for y in (1, -1) for x in (1, -1)]
        assert any((after == each).all() for each in flips)
    assert (whole != pixels).any()


def test_platt_folds_keep_groups_whole(folded):
    data = read_development(folded[0])
    rows = np.arange(len(data.examples))
    folds = platt_folds(data, rows, seed=1)
    assert set(folds) == {0, 1, 2}
    assert data.examples.assign(fold=folds).groupby("group")["fold"].nunique().max() == 1


def test_a_model_that_does_not_answer_like_its_classifier_is_refused(folded, table):
    _, folders = folded
    model = load_model(folders["trained"] / "model.keras")
    kept = read_predictions(folders["record"] / "predictions.npz")
    pixels = pixels_of(table.sort_values("id"))[:8]
    with pytest.raises(ModelError, match="must answer like the fitted classifier"):
        require_same_answers(model, kept.take(np.arange(8, 16)[::-1]), pixels)


BASE = {"experiment": "x", "pipeline": "p.py"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": {"kind": "folds"}}, "deep_features.chosen must name what is exported"),
        ({"deep_features": FEATURES | {"combinations": [["vgg"]]}}, "must name extractors of"),
        ({"deep_features": FEATURES | {"classifiers": ["knn"]}}, "only these can be exported"),
        ({"deep_features": FEATURES | {"augmented_copies": 1}}, "must be set together"),
        (
            {"deep_features": FEATURES | {"pooling": "none"}},
            "needs classifiers: .mlp., .* but classifiers is",
        ),
        (
            {"deep_features": FEATURES | {"pooling": "none", "classifiers": ["mlp"]}},
            "standardise: false, .* but standardise is True",
        ),
        (
            {"deep_features": FEATURES | {"chosen": {"features": ["small"], "classifier": "mlp"}}},
            "must be one of the combinations",
        ),
    ],
)
def test_deep_feature_settings_that_cannot_be_are_refused(change, message):
    validate(BASE | {"deep_features": FEATURES}, "here")
    with pytest.raises(SettingsError, match=message):
        validate(BASE | {"deep_features": FEATURES} | change, "here")


SWEEP = {
    "backbones": [{"name": "vgg16", "backbone": "vgg16", "weights": "random"}],
    "optimizers": [{"name": "adam", "learning_rate": 0.01}, {"name": "rmsprop", "learning_rate": 0.003}],
    "epochs": [4, 2],
}
TRAIN = {
    "batch_size": 8,
    "loss": "binary_crossentropy",
    "stages": [
        {
            "name": "head",
            "epochs": 9,
            "schedule": {"name": "exponential_decay", "rate": 0.9, "decay_steps": 5},
        }
    ],
}
HEAD = HeadSettings(dense=(8,), dropout=0.3)


def run_sweep(development: Path, places: Path, **changes) -> dict:
    settings = SweepSettings.model_validate(SWEEP | changes)
    folders = {name: places / name for name in ("trained", "record", "scratch", "cache")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    sweep_trainer.function(
        development, settings, HEAD, TrainSettings.model_validate(TRAIN), EVALUATE, 5, True, folders["trained"],
        folders["record"], folders["scratch"], None, folders["cache"],
    )  # fmt: skip
    return folders


def weights_in(path: Path) -> list[np.ndarray]:
    """A checkpoint's weights, without the state of the dropout, which is whole numbers."""
    return [each for each in read_checkpoint(path) if each.dtype == np.float32]


@pytest.fixture(scope="module")
def swept(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    development = develop(table, SELECTION, "holdout", folder / "development")
    return development, run_sweep(development, folder)


def test_every_cell_of_a_sweep_is_scored_and_the_exported_one_is_the_best(swept, table):
    _, folders = swept
    training = json.loads((folders["record"] / "training.json").read_text())
    cells = [(c["optimizer"], c["epochs"]) for c in training["combinations"]]
    assert cells == [("adam", 2), ("adam", 4), ("rmsprop", 2), ("rmsprop", 4)]
    values = [c["main"]["value"] for c in training["combinations"]]
    best = training["combinations"][int(np.argmax(values))]
    assert training["chosen"] == {name: best[name] for name in ("backbone", "optimizer", "epochs")}
    assert TrainingRecord(folders["record"]).chosen_on == ("selection",)
    kept = read_predictions(folders["record"] / "predictions.npz")
    assert np.mean(kept.decisions == kept.labels) == pytest.approx(max(values))
    rows = table.set_index("id").loc[kept.ids]
    model = load_model(folders["trained"] / "model.keras")
    np.testing.assert_allclose(model.predict(pixels_of(rows), verbose=0), kept.probabilities, atol=1e-5)
    assert [len(stages[0]["epochs"]) for stages in training["fits"].values()] == [4, 4]
    assert "too high" in training["tables"][0]["notes"][0]
    cells, means = training["tables"]
    assert len(cells["rows"]) == 4
    assert means["caption"] == "Means over 2 numbers of epochs, scored on selection images"
    assert [float(row[3]) for row in means["rows"]] == pytest.approx(
        [np.mean(values[:2]), np.mean(values[2:])], abs=5e-5
    )


def test_a_checkpoint_is_bit_for_bit_what_a_shorter_run_ends_with(swept, tmp_path):
    development, folders = swept
    short = run_sweep(development, tmp_path, epochs=[2], optimizers=SWEEP["optimizers"][:1])
    one, two = (
        read_checkpoint(checkpoint(f["scratch"] / "vgg16" / "adam_holdout", 2)) for f in (folders, short)
    )
    for early, last in zip(one, two, strict=True):
        np.testing.assert_array_equal(early, last)


def test_training_on_stored_activations_equals_training_through_the_whole_network(swept):
    """Same seeds, same batches: loss history and head's weights within 1e-4."""
    from kerasall.models.classifier import build_classifier, find_parts, freeze

    development, folders = swept
    data = read_development(development)
    training = json.loads((folders["record"] / "training.json").read_text())
    stored = training["runs"]["vgg16 adam"][0]

    train = TrainSettings.model_validate(TRAIN)
    head = models.HeadSettings(dense=HEAD.dense, dropout=HEAD.dropout)
    seed = derive_seed(5, "vgg16")
    model = build_classifier("vgg16", 2, (32, 32), head, weights="random", seed=seed)
    freeze(model)
    frozen = [np.array(each) for each in find_parts(model).backbone.get_weights()]
    untrained = [np.array(each) for each in find_parts(model).head.get_weights()]
    pixels, targets = pixels_of(data.examples), np.eye(2)[data.labels]
    seed = derive_seed(5, "holdout/head")
    stage = train.stages[0].model_copy(
        update={"epochs": 4, "optimizer": SweepSettings.model_validate(SWEEP).optimizers[0]}
    )
    rows, held_out = data.rows_of("train"), data.rows_of("selection")
    history = fit(
        model,
        lambda epoch: epoch_batches(
            pixels, targets, batch_size=8, seed=seed, epoch=epoch, shuffle=True, indices=rows
        ),
        lambda: epoch_batches(pixels, targets, batch_size=32, indices=held_out),
        replace(stage_settings(stage, train), restore_best=False),
        folders["scratch"] / "whole",
        deterministic=True,
        seed=seed,
    )
    for whole, cached in zip(history.to_json()["epochs"], stored["epochs"], strict=True):
        for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
            assert whole[name] == pytest.approx(cached[name], abs=1e-4)
    last = weights_in(checkpoint(folders["scratch"] / "vgg16" / "adam_holdout", 4))
    for before, whole, cached in zip(untrained, find_parts(model).head.get_weights(), last, strict=True):
        np.testing.assert_allclose(whole, cached, atol=1e-4)
        assert np.abs(whole - before).max() > 0.01
    for before, after in zip(frozen, find_parts(model).backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_with_folds_the_named_cell_is_trained_once_more_on_all_rows(table, tmp_path):
    development = develop(table, FOLDS, "folds", tmp_path / "development")
    chosen = {"backbone": "vgg16", "optimizer": "adam", "epochs": 2}
    folders = run_sweep(development, tmp_path, optimizers=SWEEP["optimizers"][:1], epochs=[2], chosen=chosen)
    assert len(read_predictions(folders["record"] / "predictions.npz")) == 60
    training = json.loads((folders["record"] / "training.json").read_text())
    assert len(training["runs"]["vgg16 adam"]) == 3
    assert training["classes"]["images"] == {"all": 30, "hem": 30}
    final = weights_in(checkpoint(folders["scratch"] / "vgg16" / "adam_final", 2))
    model = load_model(folders["trained"] / "model.keras")
    np.testing.assert_array_equal(model.get_weights()[-1], final[-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": {"kind": "folds"}}, "sweep.chosen must name what is exported"),
        ({"augment": {"horizontal_flip": True}}, "augment must be null"),
        ({"train": {"stages": [{"name": "all", "trainable": "all", "epochs": 2}]}}, "trains the head alone"),
        (
            {"train": {"stages": [{"name": "h", "epochs": 2, "schedule": {"name": "cosine"}}]}},
            "cosine depends",
        ),
        ({"sweep": SWEEP | {"epochs": [2, 2]}}, "sweep.epochs must differ"),
        (
            {"sweep": SWEEP | {"chosen": {"backbone": "vgg16", "optimizer": "adam", "epochs": 3}}},
            "must be a cell of the sweep",
        ),
    ],
)
def test_sweep_settings_that_cannot_be_are_refused(change, message):
    base = BASE | {"sweep": SWEEP, "train": TRAIN}
    validate(base, "here")
    with pytest.raises(SettingsError, match=message):
        validate(base | change, "here")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deep_features_svm_small", "optimizer_sweep_small"])
def test_a_small_system_runs_from_images_to_report_and_saved_model(name, tmp_path):
    places = {"KERASALL_RUNS": str(tmp_path / "runs"), "KERASALL_SAVEDMODELS": str(tmp_path / "models")}
    command = [sys.executable, "-m", "kerasall", "run", str(ROOT / "configs" / f"{name}.yaml")]
    environment = os.environ | places | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "runs" / name / "report.json").read_text())["results"]
    assert results["scored"] == "test"
    assert results["metrics"]["accuracy"]["value"] > 0.8
    exported = tmp_path / "runs" / "artifacts" / "Exporter"
    assert len(list(exported.glob("*/saved_model/model/saved_model.pb"))) == 1
    # Four test patients of a class are too few for a blessing.
    assert not results["blessed"]
    assert not (tmp_path / "models" / name).exists()
