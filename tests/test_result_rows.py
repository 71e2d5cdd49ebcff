"""The rows of RESULTS.md: made, skipped, made again, failed, checked; what is committed holds together."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import results.make
from benchmarks.tables import fill
from kerasall.errors import SettingsError
from kerasall.evaluation.metrics import confusion_matrix
from kerasall.evaluation.predictions import read_predictions
from kerasall.files import read_object
from results.finished import find_paths, read_kept, write_document
from results.forest import draw_forest
from results.make import CHANGED, DONE, LACKING, MISSING, State, find_state
from results.page import FIGURE, PAGE, fill_marks, make_page, read_results
from results.reproduction import compare
from results.rows import FOLDER, Places, read_rows

ROOT = Path(__file__).parents[1]

TINY = {
    "deterministic": True,
    "data": {
        "source": "synthetic",
        "synthetic": {"subjects_per_class": 6, "images_per_subject": 5, "size": 48, "seed": 5},
    },
    "checks": {"near_duplicates": {"enabled": False}},
    "split": {"validation": 0.2, "test": 0.3},
    "preprocess": [{"op": "resize", "height": 32, "width": 32}],
    "model": {"backbone": "mobilenet", "alpha": 0.25, "weights": "random"},
    "train": {"batch_size": 8, "stages": [{"name": "head", "trainable": "head", "epochs": 1}]},
    "evaluate": {"resamples": 100, "gallery": 2},
}
PRINTED = {
    "table": "Table 4",
    "row": "Our ensemble models / 300 x 300 / WEN kappa",
    "column": "ACC",
}


class House:
    """A checkout's folder ``results`` with rows of its own, and a folder of runs.

    ``stands_in`` is a finished run that is found where another would be made.
    """

    def __init__(self, folder: Path, stands_in: Path | None = None):
        self.folder, self.runs, self.stands_in = folder / "results", folder / "runs", stands_in
        for name in ("rows", "configs"):
            (self.folder / name).mkdir(parents=True)
        self.calls: list[list[str]] = []

    def row(self, name: str, settings: Mapping[str, Any] | None = None, /, **stated: Any) -> None:
        """Writes a row, and its config where there is one."""
        row = {"says": "A check of the parts.", "data": "rendered", "minutes": 1} | stated
        (self.folder / "rows" / f"{name}.yaml").write_text(yaml.safe_dump(row))
        if settings is not None:
            (self.folder / "configs" / f"{name}.yaml").write_text(yaml.safe_dump(dict(settings)))

    def places(self, **given: Path) -> Places:
        return Places(self.runs, self.folder, **given)

    def make(self, *words: str | Path) -> int:
        """The exit status of the driver, whose runs happen in this process."""
        self.calls.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KERASALL_RUNS", str(self.runs))
            patch.setattr(results.make, "_call", self._call)
            with pytest.raises(SystemExit) as end:
                results.make.main([*map(str, words), "--folder", str(self.folder)])
        return int(end.value.code or 0)

    def _call(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        from kerasall.cli.app import main

        self.calls.append(list(command[3:]))
        if self.stands_in:  # what a command of half a minute would leave
            shutil.copytree(
                self.stands_in, Path(environment["KERASALL_RUNS"]) / command[-1], dirs_exist_ok=True
            )
            return 0
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            try:
                main(list(command[3:]))
            except SystemExit as end:
                return int(end.code or 0)
        return 0

    def result(self, name: str) -> dict[str, Any]:
        return read_object(self.folder / f"{name}.json")

    def states(self, name: str) -> dict[str, str]:
        return {step["step"]: step["state"] for step in read_object(self.runs / name / "run.json")["steps"]}


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> House:
    """One row that is made; tests that change something do so to rows of their own."""
    house = House(tmp_path_factory.mktemp("house"))
    house.row("tiny", TINY, paper="weighted_ensemble", printed=PRINTED, departures=["rendered cells | 32 px"])
    assert house.make() == 0
    assert len(house.calls) == 1
    return house


def test_a_row_keeps_all_that_a_doubter_asks_for(house):
    kept, run = house.result("tiny"), house.runs / "tiny"
    report = read_object(run / "report.json")["results"]
    assert kept["command"] == "kerasall run results/configs/tiny.yaml --name tiny"
    assert kept["metrics"] == report["metrics"]
    assert kept["confusion_matrix"] == report["confusion_matrix"]
    assert kept["malignant_called_benign"] == report["malignant_called_benign"]
    assert kept["settings"]["train"]["batch_size"] == 8
    assert len(kept["split"]["sha256"]) == len(kept["inputs"]["digest"]) == 64
    assert kept["deterministic"] is True
    assert set(kept["seconds"]["steps"]) == set(house.states("tiny"))
    assert kept["seconds"]["whole"] == pytest.approx(sum(kept["seconds"]["steps"].values()), abs=0.5)
    assert kept["hardware"]["cores"] >= 1
    assert "tensorflow" in kept["versions"]
    assert kept["printed"]["value"] == "0.898"
    assert kept["printed"]["protocol"].startswith("One run, the best of five")


def test_predictions_are_kept_with_six_digits_and_the_same_bytes(house):
    kept, file = house.result("tiny")["predictions"], house.folder / "predictions" / "tiny.csv.gz"
    assert file == house.folder / kept["file"]
    content = gzip.decompress(file.read_bytes())
    assert hashlib.sha256(content).hexdigest() == kept["sha256"]
    assert file.read_bytes()[4:8] == bytes(4)  # of the time
    assert content.startswith(b"id,subject,group,part,label,decision,p_all,p_hem\n")
    written = read_kept(file)
    own = read_predictions(house.runs / "tiny" / "predictions.csv").in_order(written.predictions.ids)
    assert np.abs(own.probabilities - written.predictions.probabilities).max() <= 5.01e-7
    assert (own.decisions == written.predictions.decisions).all()
    assert set(written.folds) == {"test"}
    assert confusion_matrix(written.predictions).tolist() == house.result("tiny")["confusion_matrix"]


def test_no_path_of_a_machine_is_written(house, tmp_path):
    texts = [p.read_text("utf-8") for p in (house.folder / "tiny.json", house.folder.parent / PAGE)]
    for place in (house.runs, house.folder, ROOT, Path.home()):
        assert not [text for text in texts if str(place) in text]
    assert list(find_paths(json.loads(texts[0]))) == []
    said = {"row": "x", "a": ["1/2 of 3 images/s", "see /home/me/cells: 2"]}
    with pytest.raises(ValueError, match="must name no path of a machine"):
        write_document(said, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_row_is_skipped_while_its_inputs_are_unchanged(house):
    before = (house.folder / "tiny.json").read_bytes()
    assert house.make() == 0
    assert house.calls == []
    assert (house.folder / "tiny.json").read_bytes() == before


def test_other_words_of_a_row_need_no_run(tmp_path, house):
    place = House(tmp_path)
    shutil.copytree(house.folder, place.folder, dirs_exist_ok=True)
    place.row("tiny", says="It says otherwise.")
    assert place.make("tiny") == 0
    assert place.calls == []
    assert "It says otherwise." in (tmp_path / PAGE).read_text(encoding="utf-8")
    assert place.result("tiny")["metrics"] == house.result("tiny")["metrics"]


def test_a_changed_setting_makes_a_row_again(tmp_path, house):
    place = House(tmp_path, stands_in=house.runs / "tiny")
    shutil.copytree(house.folder, place.folder, dirs_exist_ok=True)
    row = read_rows(place.folder)["tiny"]
    assert find_state(row, place.places()) == State(DONE)
    place.row("tiny", TINY | {"seed": 3})
    assert find_state(row, place.places()) == State(CHANGED)
    assert place.make() == 0
    assert [words[:2] for words in place.calls] == [["run", str(place.folder / "configs" / "tiny.yaml")]]
    now, before = place.result("tiny"), house.result("tiny")
    assert now["inputs"]["digest"] != before["inputs"]["digest"]
    assert now["settings"]["seed"] == 3
    # Time was spent when a step was made, not when it was found again.
    assert now["seconds"] == before["seconds"]


def test_a_row_that_fails_says_why_and_the_others_go_on(tmp_path, house, capsys):
    place = House(tmp_path)
    place.runs = house.runs
    place.row("a_broken", TINY | {"epochs": 3})
    place.row("b_fails", TINY | {"split": {"validation": 0.2, "test": 0.3, "file": "nowhere.json"}})
    place.row("c_lacks", TINY, data="cnmc")
    place.row("tiny", TINY)
    assert place.make() == 1
    said = capsys.readouterr().err
    assert "[1/4] a_broken: failed:" in said
    assert "epochs: unknown setting" in said
    assert "[2/4] b_fails: failed:" in said
    assert "[3/4] c_lacks: failed: it lacks cnmc" in said
    assert "not made: a_broken, b_fails, c_lacks" in said
    assert [path.name for path in place.folder.glob("*.json")] == ["tiny.json"]
    assert place.make("--list") == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == ["row", "a_broken", "b_fails", "c_lacks", "tiny"]
    assert "  broken: " in listed[1]
    assert listed[-1].endswith("  done")


def test_a_row_says_what_was_chosen_on_its_scored_images(tmp_path, house, capsys):
    """Where the run's own criterion says that something was: by silence it would pass for an honest score."""
    place = House(tmp_path)
    shutil.copytree(house.folder, place.folder, dirs_exist_ok=True)
    kept = place.result("tiny")
    (criterion,) = [each for each in kept["criteria"] if each["criterion"] == "honest_protocol"]
    assert criterion["met"] is True
    criterion["met"] = False
    (place.folder / "tiny.json").write_text(json.dumps(kept))
    place.row("tiny", says="Other words.")
    assert place.make("tiny") == 1
    assert "must say in words what was chosen on the scored images" in capsys.readouterr().err
    place.row("tiny", chosen="when training stopped")
    assert place.make("tiny") == 0
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "- Chosen on the scored images: when training stopped." in page
    assert "(something was chosen there; not blessed)" in page


def test_data_and_weights_are_inputs_by_content(tmp_path):
    place, cells, weights = House(tmp_path), tmp_path / "cells", tmp_path / "weights"
    for folder in (cells, weights):
        folder.mkdir()
    (cells / "a.bmp").write_bytes(b"one")
    file = weights / "mobilenet_2_5_224_tf_no_top.h5"
    file.write_bytes(b"w")
    place.row(
        "real", {"data": {"source": "cnmc"}, "model": {"backbone": "mobilenet", "alpha": 0.25}}, data="cnmc"
    )
    row = read_rows(place.folder)["real"]
    state = find_state(row, place.places())
    assert state == State(LACKING, ("cnmc", "the weights mobilenet_2_5_224_tf_no_top.h5"))
    there = place.places(cnmc=cells, weights=weights)
    assert find_state(row, there) == State(MISSING)
    inputs = results.make.read_inputs(row, there)
    assert inputs["weights"] == {file.name: hashlib.sha256(b"w").hexdigest()}
    (place.folder / "real.json").write_text(json.dumps({"inputs": inputs}))
    assert find_state(row, there) == State(DONE)
    # Elsewhere, with the same content, it is done all the same; without the images nobody can say.
    moved = shutil.copytree(cells, tmp_path / "moved")
    assert find_state(row, place.places(cnmc=moved, weights=weights)) == State(DONE)
    assert find_state(row, place.places(weights=weights)) == State(f"{DONE}; not compared:", ("cnmc",))
    (moved / "b.bmp").write_bytes(b"two")
    changed = shutil.copytree(
        moved, tmp_path / "changed"
    )  # what was hashed is not hashed again in one process
    assert find_state(row, place.places(cnmc=changed, weights=weights)) == State(CHANGED)


@pytest.mark.parametrize(
    ("stated", "fault"),
    [
        ({"question": "?"}, "question is not as there"),
        ({"command": "study"}, "a study needs arguments"),
        ({"data": ""}, "run and tune need data"),
        ({"command": "tune", "repeats": 3}, "repeats belong to command: run"),
        ({"printed": PRINTED}, "printed needs paper"),
        ({"paper": "weighted_ensemble", "printed": PRINTED | {"row": "WEN"}}, "must name a cell"),
        ({"paper": "nobody"}, "--paper must name one of"),
        ({"config": "aria_mobilnet"}, "did you mean 'aria_mobilenet'"),
        (
            {"command": "study", "data": "", "arguments": "--out X"},
            "must be called as the module of its study",
        ),
        ({"name": "other"}, "must not state a name"),
    ],
)
def test_a_wrong_row_is_refused_with_its_cure(tmp_path, stated, fault):
    place = House(tmp_path)
    place.row("wrong", TINY, **stated)
    with pytest.raises(SettingsError, match=re.escape(fault)):
        read_rows(place.folder)


def test_a_row_states_neither_its_data_nor_files_from_elsewhere(tmp_path):
    place = House(tmp_path / "checkout")
    (tmp_path / "split.json").write_text("{}")
    for settings, fault in (
        ({"data": {"path": "cells"}}, "must not state data.path"),
        ({"split": {"file": str(tmp_path / "split.json")}}, "must name files of this repository"),
    ):
        place.row("wrong", settings)
        with pytest.raises(SettingsError, match=fault):
            find_state(read_rows(place.folder)["wrong"], place.places())


def test_a_check_makes_a_row_anew_and_says_whether_it_came_back(tmp_path, house, capsys):
    place = House(tmp_path, stands_in=house.runs / "tiny")
    shutil.copytree(house.folder, place.folder, dirs_exist_ok=True)
    assert place.make("--check", "tiny") == 0
    assert capsys.readouterr().out.startswith("tiny: reproduced: to the digit: accuracy ")
    assert len(place.calls) == 1
    assert not list(place.runs.glob("check-*"))
    changed = place.result("tiny")
    changed["metrics"]["accuracy"]["value"] += 0.001
    (place.folder / "tiny.json").write_text(json.dumps(changed))
    assert place.make("--check") == 1
    assert "tiny: NOT REPRODUCED: it is deterministic, but gave accuracy" in capsys.readouterr().out
    assert len(list(place.runs.glob("check-tiny-*/tiny/report.json"))) == 1
    assert place.result("tiny") == changed


def repeated(*values: float, **changes: Any) -> dict[str, Any]:
    """A result of several seeds, as far as it is compared."""
    found = {"value": values[0], "low": 0.0, "high": 1.0}
    of_all = {
        "models": {
            "member": {"accuracy": {"values": [0, 1]}},
            "ensemble": {"accuracy": {"values": [*values]}},
        }
    }
    return {
        "row": "r", "main_metric": "accuracy", "split": {"sha256": "s"}, "scored": "test", "images": 9,
        "labels": ["a"], "metrics": {"accuracy": found}, "confusion_matrix": [[9]], "hardware": {}, "versions": {},
        "repeats": of_all if len(values) > 1 else None, "deterministic": False, "predictions": {"sha256": str(values[0])},
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("new", "same", "words"),
    [
        (repeated(0.80, 0.84, 0.82), True, "to the digit"),
        (repeated(0.81, 0.80, 0.86), True, "within the spread over seeds, 0.0400"),
        (repeated(0.80, 0.79, 0.82), False, "beyond the spread over seeds, 0.0400"),
        (repeated(0.81, 0.84, 0.82, versions={"keras": "9"}), True, "made with other versions"),
        (repeated(0.80, 0.84, 0.82, split={"sha256": "t"}), False, "the split is another"),
    ],
)
def test_repeated_rows_are_compared_by_their_spread(new, same, words):
    verdict = compare(repeated(0.80, 0.84, 0.82), new)
    assert (verdict.same, words in verdict.words) == (same, True), verdict


@pytest.mark.parametrize("values", [(0.80, None, 0.82), (None, 0.84, 0.82), (0.80, 0.84, None)])
def test_a_score_that_is_not_defined_is_near_to_nothing_wherever_it_stands(values):
    assert not compare(
        repeated(0.80, 0.84, 0.82), repeated(0.801, 0.84, 0.82) | {"repeats": repeated(*values)["repeats"]}
    ).same
    undefined = repeated(0.80, 0.84, 0.82) | {"repeats": repeated(*values)["repeats"]}
    assert not compare(undefined, repeated(0.801, 0.84, 0.82)).same


@pytest.mark.parametrize(
    "place", ["/data", "see /cells: 2", "file:///home/me/cells", "~/cells", "C:\\cells", "a=/home/me/x"]
)
def test_a_path_is_found_however_short(place):
    assert list(find_paths({"a": [place]})) == [place]


@pytest.mark.parametrize(
    "text", ["1/2 of 3 images/s", "6 / Ensemble", "ARIA/Original", "and/or", "https://no.no/x", "</b>"]
)
def test_what_is_no_path_is_not_taken_for_one(text):
    assert list(find_paths(text)) == []


def test_a_row_that_states_no_spread_must_come_back_to_the_digit():
    assert compare(repeated(0.8), repeated(0.8)).same
    verdict = compare(repeated(0.8), repeated(0.8001))
    assert not verdict.same
    assert "states no spread" in verdict.words


STUDY = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
for name in ("--labels", "--cache", "--out"):
    parser.add_argument(name, type=pathlib.Path)
given = parser.parse_args()
lines = len(given.labels.read_text().splitlines())
document = {"study": "counted", "schema_version": 1, "lines": lines, "seconds": given.cache.parts.__len__()}
(given.out / "counted.json").write_text(json.dumps(document))
"""


def test_a_study_is_a_module_with_a_row(tmp_path, monkeypatch, capsys):
    place, labels = House(tmp_path), tmp_path / "labels.csv"
    labels.write_text("one\ntwo\n")
    (place.folder / "counted.py").write_text(STUDY)
    place.row("counted", data="", command="study", arguments="--labels LABELS --cache RUNS/features")
    section = types.SimpleNamespace(section=lambda document: ["## Counted", "", f"{document['lines']} lines"])
    monkeypatch.setitem(sys.modules, "results.pages.counted", section)

    def call(command: Sequence[str], environment: Mapping[str, str]) -> int:
        place.calls.append(list(command[1:]))
        return subprocess.run([sys.executable, str(place.folder / "counted.py"), *command[3:]]).returncode

    monkeypatch.setattr(place, "_call", call)
    assert place.make() == 1
    assert "it lacks labels" in capsys.readouterr().err
    assert place.make("--labels", labels) == 0
    words = [
        "-m",
        "results.counted",
        "--labels",
        str(labels),
        "--cache",
        str(place.runs / "features"),
        "--out",
        str(place.folder),
    ]
    assert place.calls == [words]
    kept = place.result("counted")
    assert kept["command"] == "python -m results.counted --labels LABELS --cache RUNS/features"
    assert kept["inputs"]["data"] == {"labels": hashlib.sha256(b"one\ntwo\n").hexdigest()}
    assert "## Counted\n\n2 lines" in (tmp_path / PAGE).read_text(encoding="utf-8")
    assert place.make("--labels", labels) == 0
    assert place.calls == []
    assert place.make("--check", "counted", "--labels", labels) == 0
    assert "every number to the digit" in capsys.readouterr().out
    row = read_rows(place.folder)["counted"]
    assert find_state(row, place.places(labels=labels)) == State(DONE)
    (place.folder / "counted.py").write_text(f"{STUDY}# otherwise")
    assert find_state(row, place.places(labels=labels)) == State(CHANGED)


def test_standard_output_is_for_states_and_verdicts(capfd):
    call = results.make._call
    assert call([sys.executable, "-c", "print('score'); raise SystemExit(3)"], os.environ) == 3
    assert capfd.readouterr() == ("", "score\n")
    with pytest.raises(KeyboardInterrupt):  # a run that somebody stopped stops those behind it
        call([sys.executable, "-c", "raise SystemExit(130)"], os.environ)


# --- pages

SCORE = re.compile(r"\d+\.\d%|0\.\d{3}\b")
"""A score as the pages show it."""


def lines_without_interval(page: str) -> list[str]:
    """Lines of tables that hold a score and no interval."""
    rows = [line for line in page.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [line for line in rows if SCORE.search(line) and " to " not in line]


def test_the_page_says_it_with_intervals_and_the_command(house):
    page = (house.folder.parent / PAGE).read_text(encoding="utf-8")
    assert "Research use only" in page
    assert "kerasall run results/configs/tiny.yaml --name tiny" in page
    assert "  - rendered cells | 32 px\n" in page
    assert "ACC 0.898 (Table 4, Our ensemble models / 300 x 300 / WEN kappa; Mondal et al.)" in page
    assert "- Calibration: temperature " in page
    told = read_object(house.folder / "tiny.json")
    share = 100 * told["malignant_images"] / told["images"]
    assert f"- Net benefit over calling every image malignant, where {share:.0f}% of them are, by the" in page
    assert "- Verdict: not blessed, as this does not hold: " in page
    assert " images (not blessed) |" in page
    assert "Right without a look at any image, by one and the same answer: " in page
    assert "## In short" not in page
    assert lines_without_interval(page) == []
    assert lines_without_interval("| a | 91.2% |") == ["| a | 91.2% |"]
    drawn = (house.folder / FIGURE).read_text(encoding="utf-8")
    assert drawn.count("<circle") == 1
    assert drawn.count('font-weight="bold"') == 1
    assert f"({told['metrics'][told['main_metric']]['groups']})</text>" in drawn
    assert "l6 6l-6 6l-6 -6z" in drawn  # what the paper printed


def test_pages_take_their_numbers_from_the_results(house):
    found = read_results(house.folder)
    text = "is <!-- results:tiny/accuracy -->?<!-- end -->, <!-- results:tiny/none -->?<!-- end -->\n<!-- results:summary -->\n<!-- end -->"
    text += "<!-- results:tiny/missed --><!-- end -->"
    filled = fill_marks(text, found)
    score = found["tiny"]["metrics"]["accuracy"]
    groups = "group" if score["groups"] == 1 else "groups"
    assert f"{100 * score['value']:.1f}%" in filled
    assert f"; {score['groups']} {groups})<!-- end -->, <!-- results:tiny/none -->?<!-- end -->" in filled
    assert "| [tiny](RESULTS.md#tiny) |" in filled
    told = found["tiny"]
    missed = f"{told['malignant_called_benign']} of {told['malignant_images']}"
    assert filled.endswith(f"<!-- results:tiny/missed -->{missed}<!-- end -->")
    assert fill_marks(filled, found) == filled
    safeguards = "<!-- results:tiny/calibration --><!-- end --><!-- results:tiny/thresholds --><!-- end --><!-- results:tiny/referral --><!-- end -->"
    words = fill_marks(safeguards, found)
    temperature = told["trust"]["calibration"]["temperature"]
    assert f"temperature {temperature:.2f}; expected calibration error " in words
    assert words.count("for a sensitivity of ") == len(told["trust"]["operating_points"])
    assert "| least sure share referred |" in words
    del told["trust"]
    assert fill_marks(words, found) == words
    assert fill("<!-- a -->\nx<!-- end -->", {"a": "y\n"}.get) == "<!-- a -->\ny\n<!-- end -->"


def test_rows_that_are_not_made_are_named(house):
    page = make_page(read_results(house.folder), ["tiny", "greater"])
    assert "not made: greater." in page
    assert "not made" not in make_page(read_results(house.folder), ["tiny"])


def test_a_combination_that_was_named_beforehand_is_told_from_the_highest(house):
    found = read_results(house.folder)
    score = found["tiny"]["metrics"]["accuracy"]
    rows = [{"features": names, "classifier": "knn", "main": score} for names in (["a"], ["a", "b"])]
    found["tiny"]["combinations"] = {
        "compared_on": found["tiny"]["scored"], "chosen": {"features": ["a", "b"], "classifier": "knn"}, "rows": rows,
    }  # fmt: skip
    assert "named beforehand: features a + b, classifier knn. A higher score" in make_page(found)
    found["tiny"]["chosen"] = "the highest"
    assert "named beforehand" not in make_page(found)


# --- what is committed

KEPT = sorted(FOLDER.glob("*.json"))


def test_the_committed_page_is_what_the_committed_results_say():
    found = read_results(FOLDER)
    assert (ROOT / PAGE).read_text(encoding="utf-8") == make_page(found, list(read_rows()))
    assert (FOLDER / FIGURE).read_text(encoding="utf-8") == draw_forest(list(found.values()))
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert fill_marks(text, found) == text, f"{page.name} is not of these results: python -m results.page"
        assert not re.findall(r"^ *<!-- results:[^>]*-->.+", text, re.MULTILINE), (
            f"{page.name}: such a line begins no text"
        )
    # The words of studies are their own: printed scores, for one, have no interval; nor have responses and p-values of a
    # designed experiment.
    runs = {n: each | {"designed": None} for n, each in found.items() if "study" not in each}
    assert lines_without_interval(make_page(runs)) == []


def test_committed_rows_can_be_read_and_results_are_of_rows():
    rows = read_rows()
    assert {path.stem for path in KEPT if "study" not in read_object(path)} <= set(rows)
    for row in rows.values():
        assert find_state(row, Places(Path("runs"))).word.partition(";")[0] in (DONE, LACKING, MISSING), (
            row.name
        )


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_committed_result_is_whole(path):
    kept = read_object(path)
    assert kept["schema_version"] == 1
    assert list(find_paths(kept)) == []
    if "study" in kept:
        assert kept["study"] == path.stem
        return
    assert kept["row"] == path.stem
    assert kept["commit"] is not None
    file = FOLDER / kept["predictions"]["file"]
    assert file.stat().st_size < 1 << 20
    content = gzip.decompress(file.read_bytes())
    assert hashlib.sha256(content).hexdigest() == kept["predictions"]["sha256"]
    own = read_kept(file).predictions
    assert len(own) == kept["images"]
    assert confusion_matrix(own).tolist() == kept["confusion_matrix"]
    assert kept["metrics"]["accuracy"]["value"] == pytest.approx(own.right.mean())
    for name, found in kept["metrics"].items():
        assert found["value"] is None or found["low"] <= found["value"] <= found["high"], name
    honest = next(each["met"] for each in kept["criteria"] if each["criterion"] == "honest_protocol")
    assert honest or kept["chosen"]


# --- killed


@pytest.mark.slow
def test_killed_in_the_middle_the_same_command_goes_on(tmp_path):
    """By processes of their own: SIGKILL to driver and run alike, and the result of an unbroken one."""
    stage = {"name": "all", "trainable": "all", "train_batch_norm": True, "epochs": 8}
    settings = TINY | {"train": {"batch_size": 8, "stages": [stage]}}
    house = House(tmp_path)
    house.row("long", settings)
    environment = os.environ | {"KERASALL_RUNS": str(house.runs), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "results.make", "--folder", str(house.folder)]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True)
    record, until = house.runs / "long" / "run.json", time.monotonic() + 200
    while not (record.is_file() and (read_object(record)["at"] or {}).get("step") == "Trainer"):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (house.folder / "long.json").exists()
    assert subprocess.run(command, env=environment, cwd=tmp_path).returncode == 0
    assert house.states("long")["Transform"] == "cached"
    assert house.states("long")["Trainer"] == "complete"
    kept = house.result("long")
    house.row("long", settings | {"evaluate": {"resamples": 120, "gallery": 2}})
    assert subprocess.run(command, env=environment, cwd=tmp_path).returncode == 0
    assert house.states("long")["Trainer"] == "cached"
    assert house.states("long")["Evaluator"] == "complete"
    assert house.result("long")["seconds"]["steps"]["Trainer"] == kept["seconds"]["steps"]["Trainer"] > 0
    checked = subprocess.run(
        [*command, "--check"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert checked.stdout.startswith("long: reproduced: to the digit"), checked.stderr


@pytest.mark.slow
def test_ensembles_seeds_and_combinations_are_kept(tmp_path):
    place = House(tmp_path)
    network = {"backbone": "mobilenet", "alpha": 0.25, "weights": "random"}
    members = [
        {"name": name, "model": network | {"head": {"dense": [width]}}}
        for name, width in (("a", 4), ("b", 8))
    ]
    place.row(
        "voted",
        TINY
        | {
            "pipeline": "weighted_ensemble",
            "members": members,
            "ensemble": {"rule": "weighted_average", "weights": "accuracy"},
        },
        repeats=2,
    )
    sweep = {
        "backbones": [network | {"name": "m"}],
        "optimizers": [{"name": "adam", "learning_rate": 0.01}, {"name": "rmsprop", "learning_rate": 0.01}],
        "epochs": [1, 2],
    }
    place.row("swept", TINY | {"pipeline": "optimizer_sweep", "sweep": sweep})
    assert place.make() == 0
    voted, swept, page = (
        place.result("voted"),
        place.result("swept"),
        (tmp_path / PAGE).read_text(encoding="utf-8"),
    )
    assert place.calls[1][-2:] == ["--repeats", "2"]
    assert len(voted["repeats"]["models"]["ensemble"]["accuracy"]["values"]) == 2
    assert (
        list(read_kept(place.folder / voted["predictions"]["file"]).members)
        == ["a", "b"]
        == list(voted["ensemble"]["scores"])
    )
    assert len(swept["combinations"]["rows"]) == 4
    assert lines_without_interval(page) == []
    assert "2 seeds: " in page
    assert "| m | adam | 1 | " in page
