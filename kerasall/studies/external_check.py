"""An external check: a trained model applied to images of another source, scored where classes can be mapped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasall.components.example_validator import examine
from kerasall.csv_tables import write_csv
from kerasall.data.examples import Collection
from kerasall.data.statistics import fingerprint_data, read_seen
from kerasall.decoding import FULL
from kerasall.errors import DataError
from kerasall.evaluation.class_mapping import ClassMapping, join_sets, map_classes, to_scored
from kerasall.evaluation.predictions import Predictions, write_predictions
from kerasall.paths import as_file_name, runs_folder, shorten_name
from kerasall.report.external_scores import (
    BESIDE_SEEN,
    MAPPED_OUT,
    SCORED,
    SEEN,
    UNREADABLE,
    ExternalCheck,
    ExternalScores,
    JudgedModel,
    predictions_table,
)
from kerasall.report.page import write_page
from kerasall.report.pages.external import make_external_page
from kerasall.serving.card import read_card
from kerasall.serving.predictor import Predictor
from kerasall.settings import CheckSettings
from kerasall.studies.door import Question, ask_of_data, is_own
from kerasall.studies.finished_run import Run
from kerasall.studies.stated_images import read_stated, settle_images


def judge(run: Run) -> JudgedModel:
    """The exported model of a run, or a model alone, with what is known of it."""
    beside = run.card_folder
    return JudgedModel(run.title, run.exported, read_card(beside), read_seen(beside))


def read_images(
    data: Path | None, source: str, config: Path | None, overrides: Sequence[str] = ()
) -> tuple[Collection, CheckSettings, list[Question]]:
    """The images to check a model on, how they are looked at, and what a run would ask of them.

    Arguments and errors as ``settle_images``.
    """
    settings = settle_images(data, source, config, overrides)
    collection = read_stated(settings)
    asked = ask_of_data(collection, settings.data, settings.checks) if is_own(settings.data) else []
    return collection, settings.checks, [each for each in asked if each.about in ("malignant", "subject")]


def check_externally(
    model: JudgedModel, collection: Collection, stated: Mapping[str, str] | None = None,
    checks: CheckSettings | None = None, *, batch_size: int = 32,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> ExternalCheck:  # fmt: skip
    """Applies a model to images it has not seen.

    Images whose files it has seen, and all images of their groups (subjects and duplicates), are left out.

    Args:
        model: that answers.
        collection: the images and their classes.
        stated: class of the images -> what it counts as; see ``map_classes``.
        checks: how duplicates are looked for.
        batch_size: images per call of the model.
        advance: told how many of how many images were predicted.

    Raises:
        SettingsError: a class cannot be mapped.
        DataError: no image is left to score.
    """
    checks = checks or CheckSettings()
    predictor = Predictor(model.folder)
    mapping = map_classes(collection.labels, collection.malignant, predictor.labels, model.malignant, stated)
    collection = replace(
        collection, sixteen_bit=model.card.get("sixteen_bit", FULL)
    )  # as the model reads them
    examined = examine(collection, checks)
    scan = examined.scan
    groups = examined.groups
    table = collection.examples[["id", "path", "label", "subject"]].reset_index(drop=True)
    table["group"] = groups.reindex(table["id"]).to_numpy()
    table["error"] = scan.table["error"].to_numpy()
    table["fate"] = _fates(table, scan.table["sha256"].to_numpy(str), mapping, model.seen or {})
    if fingerprint_data(collection, scan) == model.results.get("fingerprint"):
        raise DataError(
            f"an external check needs images that the model has not seen, but {collection.root} holds the very images "
            f"of {model.name}: its report already scores them; give images of another source"
        )
    _require_scored(table, collection)
    outputs = _predict(predictor, table, batch_size, advance)
    return _assemble(model, predictor.labels, collection, mapping, table, examined.found, outputs)


def _fates(
    table: pd.DataFrame, hashes: np.ndarray, mapping: ClassMapping, seen: Mapping[str, str]
) -> np.ndarray:
    fates = np.full(len(table), SCORED, dtype=object)
    fates[table["label"].isin(mapping.left_out).to_numpy()] = MAPPED_OUT
    known = np.isin(hashes, list(seen))
    fates[table["group"].isin(set(table["group"][known])).to_numpy()] = BESIDE_SEEN
    fates[known] = SEEN
    fates[(table["error"] != "").to_numpy()] = UNREADABLE
    return fates


def _require_scored(table: pd.DataFrame, collection: Collection) -> None:
    if (table["fate"] == SCORED).any():
        return
    counts = ", ".join(f"{count:,} {fate}" for fate, count in table["fate"].value_counts().items())
    raise DataError(
        f"an external check needs images that the model has not seen, but none of the {len(table):,} in "
        f"{collection.root} is left ({counts}): give images of another source"
    )


def _predict(
    predictor: Predictor, table: pd.DataFrame, batch_size: int, advance: Callable[[int, int], None]
) -> dict[str, np.ndarray]:
    """Outputs by name of the scored images; one that cannot be read after all changes its fate."""
    rows = np.flatnonzero((table["fate"] == SCORED).to_numpy())
    waiting, parts = iter(rows), []
    for paths, answers in predictor.answer_files(table["path"].iloc[rows], batch_size):
        chosen = list(itertools.islice(waiting, len(paths)))
        good = np.array([not error for error in answers.errors])
        for row, error in zip(chosen, answers.errors, strict=True):
            if error:
                table.loc[row, ["fate", "error"]] = [UNREADABLE, error]
        decided = {"probabilities": answers.probabilities, "label_index": answers.label_indices}
        outputs = decided | dict(answers.extras)
        if good.any():
            parts.append({name: values[good] for name, values in outputs.items()})
        advance(len(paths), len(rows))
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def write_external_check(
    scores: ExternalScores, folder: Path | None, command: str, excel: bool = False
) -> dict[str, Path]:
    """Writes the report, the scored predictions and a table of all images; gives their files by name.

    Args:
        scores: of the check.
        folder: to write into; by default ``external/<model>_on_<data>`` below the runs folder.
        command: that was called, for the report.
        excel: begin the table of all images with a byte order mark, by which Excel knows it for UTF-8.
    """
    found = scores.check
    name = f"{found.model.name}_on_{as_file_name(found.collection.root.name, 'images')}"
    folder = folder or runs_folder() / "external" / shorten_name(name)
    page = write_page(folder, make_external_page(scores, command))
    write_predictions(found.scored, folder / "predictions.csv")
    write_csv(predictions_table(found), folder / "images.csv", float_format="%.9f", excel=excel)
    return {"report": page, "predictions": folder / "predictions.csv", "images": folder / "images.csv"}


def _assemble(
    model: JudgedModel, labels: tuple[str, ...], collection: Collection, mapping: ClassMapping,
    table: pd.DataFrame, anomalies: Mapping[str, Any], outputs: Mapping[str, np.ndarray],
) -> ExternalCheck:  # fmt: skip
    rows = table[table["fate"] == SCORED]
    _require_scored(table, collection)
    reasons, safeguards = outputs.get("refer_reason"), model.safeguards
    # A vote decides by itself; what is calibrated, and drawn as curves, are its members' mean probabilities.
    source = outputs.get(safeguards.source if safeguards else "", outputs["probabilities"])
    table["called"], table["refer_reason"] = "", -1
    table.loc[rows.index, "called"] = np.asarray(labels)[outputs["label_index"]]
    if reasons is not None:
        table.loc[rows.index, "refer_reason"] = reasons.astype(int)
    answers = Predictions(
        ids=rows["id"].to_numpy(), subjects=rows["subject"].to_numpy(), groups=rows["group"].to_numpy(),
        labels=np.zeros(len(rows), np.int64), probabilities=source, classes=labels,
        decisions=outputs["label_index"],
    )  # fmt: skip
    truth = rows["label"].tolist()
    calibrated, sets = outputs.get("calibrated_probabilities"), outputs.get("prediction_set")
    if calibrated is not None:
        changed = replace(answers, probabilities=calibrated.astype(np.float64))
        calibrated = to_scored(mapping, changed, truth, model.malignant)
    return ExternalCheck(
        model, labels, collection, mapping, table, anomalies, answers,
        scored=to_scored(mapping, answers, truth, model.malignant),
        calibrated=calibrated,
        members=None if sets is None else join_sets(mapping, sets, labels, model.malignant),
        reasons=None if reasons is None else reasons.astype(int),
    )  # fmt: skip
