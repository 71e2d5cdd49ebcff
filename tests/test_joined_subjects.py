"""Patients who hide behind two ids, in whole runs on the publisher's parts: rendered cells under C-NMC's names."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from command_line import invoke
from test_experiment import TINY

from kerasall.components.transform import draw_split
from kerasall.data.cnmc import read_cnmc
from kerasall.data.synthetic import SyntheticSettings, render_cells
from kerasall.files import read_json
from kerasall.settings import SplitSettings

FOLDS = {
    "all": {"fold_0": ["1", "2", "3"], "fold_1": ["51", "4", "5"], "prelim": ["55", "6", "7"]},
    "hem": {"fold_0": ["H1", "H9"], "fold_1": ["H20", "H21"], "prelim": ["H25", "H26"]},
}
"""Of these ids, 51 and 55 are one patient."""
IMAGES = 6


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """A tree of C-NMC with six cells an id; each cell is rendered for an id alone, so that no pixel joins two ids."""
    folder = tmp_path_factory.mktemp("joined")
    settings = SyntheticSettings(subjects_per_class=9, images_per_subject=12, size=48, seed=5)
    rendered = render_cells(folder / "rendered", settings).examples
    table = ["Patient_ID,new_names,labels"]
    for label, folds in FOLDS.items():
        paths = iter(rendered["path"][rendered["label"] == label])
        for fold, subjects in folds.items():
            for subject in subjects:
                for number in range(1, IMAGES + 1):
                    name = f"UID_{subject}_{number}_1_{label}.bmp"
                    place = f"C-NMC_training_data/{fold}/{label}/{name}"
                    if fold == "prelim":
                        place = f"validation_data/C-NMC_test_prelim_phase_data/{len(table)}.bmp"
                        table.append(f"{name},{len(table)}.bmp,{int(label == 'all')}")
                    (folder / "tree" / place).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(next(paths), folder / "tree" / place)
    labels = folder / "tree" / "validation_data" / "C-NMC_test_prelim_phase_data_labels.csv"
    labels.write_text("\n".join(table) + "\n")
    return folder / "tree"


def run(folder, monkeypatch, cells, name, **split):
    monkeypatch.setenv("KERASALL_RUNS", str(folder / "runs"))
    monkeypatch.setenv("KERASALL_SAVEDMODELS", str(folder / "models"))
    config = folder / f"{name}.yaml"
    stage = TINY["train"]["stages"][0] | {"epochs": 1}
    changes = {
        "data": {"source": "cnmc", "path": str(cells), "malignant": ["all"]},
        "split": {"kind": "official_folds", "inner_validation": 0, "test_folds": ["prelim"]} | split,
        "train": {"batch_size": 8, "stages": [stage]},
    }
    config.write_text(yaml.safe_dump(TINY | changes))
    result = invoke("run", config)
    assert result.exit_code == 0, (result.output, result.exception)
    return result, read_json(folder / "runs" / name / "report.json")["results"]


def test_check_names_ids_that_are_one_patient_though_no_cell_of_theirs_is_alike(cells):
    found = json.loads(invoke("check", cells, "--json").stdout)
    assert found["joined_subjects"] == [
        {"subjects": ["51", "55"], "folds": ["fold_1", "prelim"], "duplicates": 0, "new": []}
    ]
    (warning,) = [each for each in found["warnings"] if each["code"] == "joined_subjects"]
    assert "51 and 55 (fold_1, prelim): no duplicates here, known of this data set" in warning["message"]


@pytest.mark.slow
def test_published_parts_drop_joined_patients_or_keep_them_with_two_scores(cells, tmp_path, monkeypatch):
    _, found = run(tmp_path, monkeypatch, cells, "dropped")
    assert (found["scored"], found["images"], found["apart"]) == ("test", 30, None)
    assert {"criterion": "patients_apart", "met": True, "images": 0} in found["criteria"]
    page = (tmp_path / "runs" / "dropped" / "report.html").read_text()
    assert "6 images are left out of training and validation" in page
    assert "51 and 55 (fold_1, prelim)" in page
    assert "patients apart" not in page

    kept, found = run(tmp_path, monkeypatch, cells, "kept", joined="keep")
    assert (found["images"], found["apart"]["images"]) == (30, 24)  # id 55 has six of them
    assert {"criterion": "patients_apart", "met": False, "images": 6} in found["criteria"]
    assert not found["blessed"]
    assert found["apart"]["metrics"]["balanced_accuracy"]["value"] is not None
    page = (tmp_path / "runs" / "kept" / "report.html").read_text()
    assert "patients apart" in page
    assert "trained on all the same (split.joined: keep)" in page
    assert "on the 24 scored images of whose patients none was trained on" in " ".join(kept.output.split())


def test_folds_that_are_drawn_keep_joined_ids_whole(cells):
    drawn = draw_split(read_cnmc(cells), SplitSettings(kind="folds", folds=3), [], 0, "")
    part = dict(zip(drawn.table["subject"], drawn.table["part"], strict=True))
    assert part["51"] == part["55"]


@pytest.mark.slow
@pytest.mark.realdata
def test_real_cells_show_who_is_joined_and_the_publishers_folds_train_on_none_of_them(real_data, tmp_path):
    """2,928 cells of folds 0 and 1: the groups that the search finds are those that are known."""
    subprocess.run(
        [sys.executable, str(real_data / "cnmc" / "unpack.py"), str(tmp_path / "cells")], check=True
    )
    found = json.loads(invoke("check", tmp_path / "cells", "--json").stdout)
    joined = {tuple(each["subjects"]): (each["duplicates"], each["new"]) for each in found["joined_subjects"]}
    assert joined == {
        ("1", "15", "16", "17", "20"): (10, []),
        ("43", "44"): (11, []),
        ("H6", "H7"): (0, []),
        ("H14", "H24"): (21, []),
    }
    collection = read_cnmc(tmp_path / "cells")
    drawn = draw_split(collection, SplitSettings(kind="official_folds"), [], 0, "")
    subject = dict(zip(drawn.table["id"], drawn.table["subject"], strict=True))
    patient = {name: min(ids) for ids in joined for name in ids}
    for fold in drawn.folds:
        held_out = {subject[each] for each in drawn.ids(fold)}
        trained = {subject[each] for each in drawn.development_ids(fold)}
        assert not {patient.get(each, each) for each in held_out} & {
            patient.get(each, each) for each in trained
        }
