"""The door: everything that is missing is asked in one go before a pixel is read, and each cure cures."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from lab_images import evenly, touch, write_table

from kerasall.data.cnmc import LABEL_TABLE
from kerasall.errors import SettingsError
from kerasall.models.backbones import BACKBONES, WeightsFile
from kerasall.settings import Settings
from kerasall.settings.loading import apply_override, load_settings, validate
from kerasall.studies.door import ask_at_door, ask_of_images, read_names, smaller_splits
from kerasall.studies.experiment import run_experiment

BASE = {
    "experiment": "cells",
    "model": {"weights": "random"},
    "data": {"source": "csv", "malignant": ["ALL"]},
    "split": {"kind": "folds", "folds": 3, "inner_validation": 0},
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("lab")
    known = {"ALL": evenly(6, 4), "normal": evenly(6, 4, 6)}
    made = {
        "whole": known,
        "nameless": {label: {"": 24} for label in known},
        "half": {label: evenly(2, 4, 9 * i) | {"": 16} for i, label in enumerate(known)},
        "few": {"ALL": evenly(6, 4), "normal": evenly(6, 2, 6)},
        "two": {"ALL": evenly(6, 4), "normal": evenly(2, 12, 6)},
        "one": {"ALL": evenly(6, 4), "normal": evenly(1, 24, 6)},
    }
    return {name: write_table(folder / name, patients) for name, patients in made.items()}


def make(table: Path, *overrides: str, **changes) -> Settings:
    values = deepcopy(BASE) | changes
    values["data"]["path"] = str(table)
    for override in overrides:
        apply_override(values, override)
    return validate(values, "here")


def ask(settings: Settings) -> dict[str, str]:
    return dict(ask_of_images(read_names(settings.data), settings))


def options_of(text: str) -> list[str]:
    """The options of --set, and those that stand for one, that a cure spells."""
    named = re.findall(r"--(malignant|subject) (\S+?)(?=[,;:)]|$| )", text)
    return re.findall(r"--set (\S+=\S+?)(?=[,;:]?(?: |$))", text) + [f"data.{key}={v}" for key, v in named]


WHOLE = "whole"
ASKED = {
    "no malignant class": (WHOLE, ["data.malignant=null"], "malignant", r"ALL \(24 images\), normal \(24 images\)"),
    "a misspelt one": (WHOLE, ["data.malignant=al"], "malignant", r"al is not there.*--malignant ALL"),
    "no patient": ("nameless", [], "subject", r"no image has one \(such as img0000\.png\).*column:NAME.*pattern:"),
    "hardly any": ("half", [], "subject", r"32 of 48 images have none \(such as img0008\.png\): name the patients"),
    "few images": ("few", [], "images", r"normal has 12.*checks\.fewest_images=12"),
    "too many folds": (WHOLE, ["split.folds=9"], "split", r"'ALL' has only 6.*largest split that works is 6 folds"),
    "a part too many": ("two", ["split={kind: holdout}"], "split", r"'normal' has only 2.*is 2 folds"),
    "no part to stop by": ("two", ["split.inner_validation=0.2", "split.folds=2"], "split", r"'normal'.*is 2 folds;"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_what_is_missing_is_asked_and_the_cure_followed_to_the_letter_cures(tables, name):
    table, overrides, about, message = ASKED[name]
    asked = ask(make(tables[table], *overrides))
    assert list(asked) == [about]
    assert re.search(message, asked[about])
    cures = options_of(asked[about])
    # Of several places where a patient may stand only a person knows the right one; the waiver always works.
    cures = [cure for cure in cures if "subject" not in cure or cure == "data.subject=none"]
    assert cures
    assert ask(make(tables[table], *overrides, *cures)) == {}


NAMED = {
    "the first code": ("{subject}_{label}_{image}.png", r"which would find 12 such as P00"),
    "the second": ("{label}_{subject}_{image}.png", r"which would find 12 such as P00"),
    "the third": ("{label}-day-{subject}-{image}.png", r"which would find 12 such as P00"),
    "none that repeats": ("{label}_{image}.png", r"elsewhere in the name"),
    "no code": ("{image}.png", r"elsewhere in the name"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_pattern_is_offered_only_where_it_finds_patients(tmp_path, name):
    written, words = NAMED[name]
    for number in range(48):
        file = written.format(subject=f"P{number // 4:02d}", label="AB"[number // 24], image=f"{number:x}z")
        path = tmp_path / "AB"[number // 24] / file
        path.parent.mkdir(exist_ok=True)
        path.touch()  # names are looked at alone
    overrides = ["data.source=folder", "data.malignant=A"]
    asked = ask(make(tmp_path, *overrides))
    assert words in asked["subject"]
    cures = re.findall(r"--subject ('pattern:\S+\[\S+')", asked["subject"])
    assert len(cures) == ("which would find" in words)
    for cure in cures:
        assert ask(make(tmp_path, *overrides, f"data.subject={cure}")) == {}


def test_no_split_at_all_says_how_many_patients_more_are_needed(tables):
    asked = ask(make(tables["one"]))
    assert "no split by patient works here" in asked["split"]
    assert "add 1 more of normal" in asked["split"]
    patient = {"train": {"stages": [{"name": "head", "epochs": 2, "patience": 1}]}}
    asked = ask(make(tables["one"], split={"kind": "folds", "folds": 3}, **patient))
    assert "add 2 more of normal" in asked["split"]


def test_a_smaller_split_is_one_that_the_other_settings_allow(tables):
    patience = {"train": {"stages": [{"name": "head", "epochs": 2, "patience": 1}]}}
    offered = smaller_splits(make(tables["whole"], split={"kind": "folds", "folds": 3}, **patience))
    assert all(split.inner_validation or split.validation for split in offered)
    assert {split.kind for split in offered} == {"folds", "holdout"}


def test_all_that_is_missing_is_told_in_one_message(tables, tmp_path):
    known = tmp_path / "models" / "cells" / "1"
    known.mkdir(parents=True)
    (known / "labels.txt").write_text("blast\nother\n", encoding="utf-8")
    (tmp_path / "cells-2").mkdir()  # a run of that name
    settings = make(tables["few"], "split.folds=9", "data.malignant=null", model={"weights": "imagenet"})
    (tmp_path / "weights").mkdir()
    with pytest.raises(SettingsError) as error:
        ask_at_door(
            settings, "cells.yaml", "cells", runs=tmp_path, savedmodels=tmp_path / "models",
            weights=tmp_path / "weights",
        )  # fmt: skip
    lines = str(error.value).splitlines()
    assert "cells.yaml" in lines[0]
    assert "5 things are missing" in lines[0]
    words = (
        "data.malignant",
        "fewest_images",
        "split asked for",
        "--name cells-3",
        "--set model.weights=random",
    )
    assert all(word in line for word, line in zip(words, lines[1:], strict=True))


def test_a_path_that_is_wrong_is_told_with_the_rest(tmp_path):
    settings = make(tmp_path / "nowhere.csv", model={"weights": "/no/such.h5"})
    with pytest.raises(SettingsError, match=r"(?s)nowhere\.csv.*/no/such\.h5"):
        ask_at_door(settings, "here", "cells", runs=tmp_path, savedmodels=tmp_path)


def test_runs_are_not_written_among_the_images(tmp_path):
    folder = {"source": "folder", "path": str(tmp_path), "malignant": "a", "subject": "none"}
    settings = make(tmp_path, data=folder, checks={"fewest_images": 1})
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.png").touch()
    with pytest.raises(
        SettingsError, match=r"one thing is missing.*\n.*must hold images alone.*KERASALL_RUNS"
    ):
        ask_at_door(settings, "here", "x", runs=tmp_path / "runs", savedmodels=tmp_path.parent)


def test_of_rendered_cells_nothing_is_asked(tmp_path):
    rendered = {"source": "synthetic", "synthetic": {"images_per_subject": 2}}
    settings = validate(
        {"experiment": "x", "data": rendered, "split": {"kind": "folds", "folds": 999}}, "here"
    )
    ask_at_door(settings, "here", "x", runs=tmp_path, savedmodels=tmp_path)


def test_a_published_set_is_asked_for_the_parts_that_its_split_names(tmp_path):
    """Without the preliminary part a run read and compared 10,661 images before it said so."""
    names = [
        f"C-NMC_training_data/fold_{fold}/{label}/UID_{'H' * (label == 'hem')}{subject + 90 * fold}_{image}_1_{label}.bmp"
        for fold in range(3)
        for label in ("all", "hem")
        for subject in range(80, 84)
        for image in range(3)
    ]
    touch(tmp_path, *names)

    def ask(**split) -> None:
        data = {"source": "cnmc", "path": str(tmp_path)}
        settings = validate(
            {"experiment": "x", "model": {"weights": "random"}, "data": data, "split": split}, "here"
        )
        ask_at_door(settings, "here", "x", runs=tmp_path / "runs", savedmodels=tmp_path)

    with pytest.raises(
        SettingsError, match=r"is prelim, and the images are fold_0, fold_1, fold_2.*split\.test_folds=\[\]"
    ):
        ask(kind="official_folds", test_folds=["prelim"])
    ask(kind="official_folds")
    ask(
        kind="official_folds", test_folds=["prelim"], file=str(tmp_path / "split.json")
    )  # which says all parts itself
    # A cure that the other settings refuse is not told.
    named = load_settings("optimizer_sweep", [f"data.path={tmp_path}"])
    with pytest.raises(SettingsError, match=r"is prelim, and the images are") as told:
        ask_at_door(named, "here", "x", runs=tmp_path / "runs", savedmodels=tmp_path)
    assert "--set split.test_folds=[]" not in str(told.value)
    touch(tmp_path, "C-NMC_test_prelim_phase_data/1.bmp", "C-NMC_test_prelim_phase_data/2.bmp")
    with pytest.raises(SettingsError, match="its table of labels"):
        ask(kind="holdout", test_folds=["prelim"])
    rows = ["Patient_ID,new_names,labels", "UID_57_1_1_all.bmp,1.bmp,1", "UID_H25_1_1_hem.bmp,2.bmp,0"]
    (tmp_path / LABEL_TABLE).write_text("\n".join(rows), encoding="utf-8")
    ask(kind="holdout", test_folds=["prelim"])


def test_weights_that_cannot_be_fetched_are_told_with_both_cures(tables, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("KERASALL_WEIGHTS", raising=False)
    file = WeightsFile("kerasall_test_absent.h5", "http://127.0.0.1:9/absent.h5")
    monkeypatch.setitem(BACKBONES, "mobilenet", replace(BACKBONES["mobilenet"], weights={1.0: file}))
    settings = make(tables["whole"], model={"weights": "imagenet"})
    with pytest.raises(SettingsError, match=r"--weights.*--set model\.weights=random"):
        ask_at_door(settings, "here", "cells", runs=tmp_path, savedmodels=tmp_path)
    assert "MobileNet's ImageNet weights are not at hand: Keras downloads them now" in capsys.readouterr().err


def test_a_disk_that_is_too_small_for_the_pixels_is_found_before_they_are_read(tables, tmp_path):
    vast = [{"op": "resize", "height": 1_000_000, "width": 1_000_000}]
    with pytest.raises(SettingsError, match=r"exports of 48 images need .* GiB"):
        ask_at_door(
            make(tables["whole"], preprocess=vast), "here", "cells", runs=tmp_path, savedmodels=tmp_path
        )


def test_a_run_stops_at_the_door(tables, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    config = tmp_path / "cells.yaml"
    config.write_text(f"data: {{path: {tables['nameless']}}}\nmodel: {{weights: random}}\n", encoding="utf-8")
    said: list[str] = []
    with pytest.raises(SettingsError, match="2 things are missing"):
        run_experiment(config, say=said.append)
    assert said == []
    assert not (tmp_path / "runs" / "artifacts").exists()
