"""A finished run, made without training, that found exactly what Chen et al. (2021) printed.

Its nine members have the printed confusion matrices, its vote calls the images of Table 17 wrongly, by as many members as
printed, and its trials have the printed accuracies: where ours stands beside such a cell, the two must be equal.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from kerasall.csv_tables import write_csv
from kerasall.data.development import Facts, write_facts
from kerasall.data.examples import write_examples
from kerasall.data.splits import Split, write_split
from kerasall.data.training_record import TrainingRecord
from kerasall.evaluation.ensemble_rules import combine_predictions
from kerasall.evaluation.predictions import Predictions, write_predictions
from kerasall.evaluation.review import ReviewRecord, ReviewSource, write_review_record
from kerasall.files import write_json
from kerasall.published.papers import Table, read_paper
from kerasall.settings.loading import load_settings

PAPER = "taguchi_resnet101_vote"
CLASSES = ("all", "hem")
IMAGES = {"all": 1219, "hem": 648}
PATIENTS = {"all": 13, "hem": 15}


def printed(name: str) -> Table:
    """A table of the paper."""
    return next(table for table in read_paper(PAPER).tables if table.name == name)


def read_listed_numbers() -> dict[str, dict[int, list[int]]]:
    """Class -> number of wrong members -> numbers of the images, as Table 17 prints them."""
    found: dict[str, dict[int, list[int]]] = {"all": {}, "hem": {}}
    for row in printed("Table 17").rows:
        label = "all" if row.ours.startswith("malignant") else "hem"
        found[label][int(row.name[1])] = [int(number) for number in row.cells[0].split(",")]
    return found


def read_wrong_counts() -> dict[str, list[int]]:
    """Class -> how many of its images each member calls wrongly, as Table 15 prints it."""
    rows = {row.ours: row.cells for row in printed("Table 15").rows}
    members = range(1, 10)
    return {
        "all": [int(rows[f"member/{k}/predicted:benign"][0]) for k in members],
        "hem": [int(rows[f"member/{k}/predicted:malignant"][1]) for k in members],
    }


def deal_errors(wrong: dict[int, list[int]], others: list[int], quotas: list[int]) -> dict[int, list[int]]:
    """Image -> members that call it wrongly: as many as printed of the listed ones, at most four of the others."""
    left, found = np.array(quotas), {}
    for count, numbers in sorted(wrong.items(), reverse=True):
        for number in numbers:
            chosen = np.argsort(-left, kind="stable")[:count]
            left[chosen] -= 1
            found[number] = chosen.tolist()
    place = 0
    while left.any():
        chosen = np.argsort(-left, kind="stable")[:4]
        chosen = chosen[left[chosen] > 0]
        left[chosen] -= 1
        found[others[place]] = chosen.tolist()
        place += 1
    return found


def make_members() -> tuple[list[Predictions], Predictions]:
    """The nine members and their vote on the 1,867 images, named as the preliminary files are."""
    listed, counts = read_listed_numbers(), read_wrong_counts()
    named = {label: {n for numbers in listed[label].values() for n in numbers} for label in CLASSES}
    free = [n for n in range(1, 1868) if n not in named["all"] | named["hem"]]
    others = {"all": free[: 1219 - len(named["all"])], "hem": free[1219 - len(named["all"]) :]}
    label_of = {n: label for label in CLASSES for n in [*named[label], *others[label]]}
    errors: dict[int, list[int]] = {}
    for label in CLASSES:
        errors |= deal_errors(listed[label], others[label], counts[label])
    numbers = np.arange(1, 1868)
    labels = np.array([CLASSES.index(label_of[n]) for n in numbers.tolist()])
    subjects = np.array(
        [f"{CLASSES[label]}{n % PATIENTS[CLASSES[label]]}" for n, label in zip(numbers, labels, strict=True)]
    )
    ids = np.array([f"C-NMC_test_prelim_phase_data/{n}.bmp" for n in numbers])
    members = []
    for k in range(9):
        wrong = np.array([k in errors.get(n, []) for n in numbers.tolist()])
        called = np.where(wrong, 1 - labels, labels)
        shares = np.where(np.eye(2, dtype=bool)[called], 0.9, 0.1)
        members.append(Predictions(ids, subjects, subjects, labels, shares, CLASSES))
    return members, combine_predictions(members, "majority_vote", malignant=["all"])


def write_run(house: Path, name: str = "paper") -> Path:
    """Writes the run into ``house/runs``; returns its folder."""
    members, vote = make_members()
    names, artifacts = [f"model_{k}" for k in range(1, 10)], house / "artifacts"
    settings = load_settings("taguchi_resnet101_vote_faithful", ["evaluate.resamples=200"]).model_dump(
        mode="json"
    )
    made = {"rule": "majority_vote", "weights": None, "members": names}
    results = {
        "scored": "selection", "malignant": ["all"], "labels": list(CLASSES), "metrics": {}, "blessed": False, "ensemble": made,
    }  # fmt: skip
    for kind in ("evaluation", "development", "split", "examples", "record", "search"):
        (artifacts / kind).mkdir(parents=True)
    write_predictions(vote, artifacts / "evaluation" / "predictions.npz")
    for member, each in zip(names, members, strict=True):
        write_predictions(each, artifacts / "evaluation" / "members" / f"{member}.npz")
    table = list_images(vote)
    source = ReviewSource("selection", vote, dict(zip(names, members, strict=True)))
    scored = table[table["part"] == "selection"]
    write_review_record(
        ReviewRecord(CLASSES, [source], scored.assign(path="/none")), artifacts / "evaluation" / "review"
    )
    write_facts(Facts(CLASSES, ("all",), "subject", "cnmc", (), ""), artifacts / "development")
    write_split(Split("holdout", table, 0), artifacts / "split" / "split.json")
    fold = np.where(table["part"] == "selection", "prelim", "fold_0")
    write_examples(
        table.assign(path="", fold=fold).drop(columns=["group", "part"]),
        artifacts / "examples" / "examples.csv",
    )
    write_training(artifacts / "record", names, settings)
    write_search(artifacts / "search")
    kinds = {
        "evaluation": "Evaluation", "development": "Development", "split": "Split", "examples": "Examples",
        "record": "TrainingRecord", "search": "Search",
    }  # fmt: skip
    outputs = {
        name: {"path": str(artifacts / name), "type": kind, "digest": name} for name, kind in kinds.items()
    }
    steps = [{"step": "All", "state": "complete", "seconds": 1.0, "metrics": {}, "outputs": outputs}]
    folder = house / "runs" / name
    write_json(
        folder / "run.json",
        {"name": name, "experiment": name, "state": "complete", "settings": settings, "steps": steps},
    )
    write_json(folder / "report.json", {"results": results})
    return folder


def list_images(vote: Predictions) -> pd.DataFrame:
    """The scored images, and as many training images as the paper has."""
    scored = pd.DataFrame(
        {
            "id": vote.ids, "label": np.array(CLASSES)[vote.labels], "subject": vote.subjects, "group": vote.groups,
            "part": "selection",
        }
    )  # fmt: skip
    counts = {"all": 7272, "hem": 3389}
    trained = pd.concat(
        pd.DataFrame(
            {"id": [f"fold_0/{label}/{n}.bmp" for n in range(count)], "label": label, "subject": f"{label}_t"}
        )
        for label, count in counts.items()
    )
    trained = trained.assign(group=trained["subject"], part="train")
    return pd.concat([scored, trained]).sort_values("id", ignore_index=True)


def write_training(folder: Path, names: list[str], settings: dict) -> None:
    """Histories that end at the printed training accuracies of Table 7."""
    accuracy = {row.ours: float(row.cells[0]) for row in printed("Table 7").rows}
    told = {}
    for k, name in enumerate(names, start=1):
        epoch = {
            "epoch": 1,
            "loss": 0.1,
            "accuracy": accuracy[f"member/{k}"],
            "val_loss": None,
            "val_accuracy": None,
        }
        told[name] = {"fits": {"holdout": [{"stage": "fine_tune", "epochs": [epoch], "best_epoch": 1}]}}
    TrainingRecord(folder).write(None, {"members": told, "parameters": 1, "seconds": 1.0, "fits": {}})
    members = [{"name": name, "model": settings["model"], "train": settings["train"]} for name in names]
    write_json(folder / "members.json", members)


def write_search(folder: Path) -> None:
    """Trials with the printed accuracies of Table 5 at the levels of Tables 2 and 3."""
    factors = [
        {"name": name, "setting": name, "levels": list(row.cells)}
        for name, row in zip(
            ["optimizer", "batch_size", "epochs", "learning_rate"], printed("Table 3").rows, strict=True
        )
    ]
    accuracies = {row.ours: [float(cell) for cell in row.cells[:3]] for row in printed("Table 5").rows}
    lines, rows = [], []
    for number, row in enumerate(printed("Table 2").rows, start=1):
        responses = accuracies[f"{number}/scored"]
        rows.append({"row": number, "levels": {}, "responses": responses, "ratio": None})
        for repeat, (scored, trained) in enumerate(
            zip(responses, accuracies[f"{number}/train"], strict=True), start=1
        ):
            line = {
                "trial": f"{len(lines):04d}",
                "row": number,
                "repeat": repeat,
                "fold": 1,
                "status": "COMPLETED",
            }
            line |= {
                f"{factor['name']} level": int(level)
                for factor, level in zip(factors, row.cells, strict=True)
            }
            lines.append(line | {"objective": scored, "training_accuracy": trained, "seconds": 1.0})
    response = {"metric": "accuracy", "title": "Accuracy", "direction": "higher"}
    experiment = {"factors": factors, "rows": rows, "response": response, "signal": "target:1", "repeats": 3}
    write_json(folder / "analysis.json", {"experiment": experiment | {"scored_on": "selection"}})
    write_csv(pd.DataFrame(lines), folder / "trials.csv")
