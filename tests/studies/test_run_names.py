"""Other data under one name are another run; the same data are found again; a name that was given is never taken over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kerasall.errors import SettingsError
from kerasall.files import read_json, write_json
from kerasall.paths import as_file_name
from kerasall.pipeline.runner import RunPlaces, reserve_run
from kerasall.settings import Settings
from kerasall.settings.loading import validate
from kerasall.studies.experiment import _describe_other_images
from kerasall.studies.finished_run import Run
from kerasall.studies.run_names import claim_run, describe_name, find_run


def settings_for(path: str | Path, **changes) -> Settings:
    data = {"source": "folder", "path": str(path), "malignant": "ALL"} | changes.pop("data", {})
    return validate({"experiment": "cells", "pipeline": "p.py", "data": data} | changes, "here")


def claim(root: Path, settings: Settings, name: str | None = None) -> str:
    return claim_run(root, settings, name).name


def test_each_data_set_keeps_its_own_run(tmp_path):
    one, two, three = (settings_for(f"/lab/{name}") for name in ("one", "two", "three"))
    names = [claim(tmp_path, settings) for settings in (one, two, three, two, one, three)]
    assert names == ["cells", "cells-2", "cells-3", "cells-2", "cells", "cells-3"]
    assert find_run(tmp_path, settings_for("/lab/four")).name == "cells-4"
    assert not (tmp_path / "cells-4").exists()
    line = describe_name(claim_run(tmp_path, two), two)
    assert "cells-2" in line
    assert describe_name(claim_run(tmp_path, one), one) == ""


def test_a_name_leaves_room_for_the_files_that_are_named_after_it(tmp_path):
    own = settings_for("/lab/one")
    assert find_run(tmp_path, own, "ä" * 100).name == "ä" * 100
    with pytest.raises(SettingsError, match=r"at most 200 bytes, .* has 201"):
        find_run(tmp_path, own, "x" * 201)
    long = [as_file_name("ä" * 300 + end, "images") for end in "ab"]
    assert long[0] != long[1]
    assert {len(name.encode()) for name in long} <= set(range(190, 201))
    write_json(tmp_path / ("x" * 250 + ".json"), {})
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


@pytest.mark.parametrize(
    ("data", "same"),
    [
        ({}, True),
        ({"path": "/lab/./x/../one/"}, True),
        ({"malignant": ["ALL"]}, True),
        ({"malignant": ["ALL", "L2"]}, False),
        ({"source": "csv"}, False),
        ({"subject": "folder"}, False),
        ({"classes": ["ALL", "normal"]}, False),
        ({"corrections": "/lab/corrections.csv"}, False),
        ({"aria": {"blocks": 5}}, False),
    ],
)
def test_data_are_their_place_and_how_they_are_read(tmp_path, data, same):
    claim(tmp_path, settings_for("/lab/one"))
    assert claim(tmp_path, settings_for("/lab/one", data=data)) == ("cells" if same else "cells-2")


def test_other_settings_are_the_same_run(tmp_path):
    claim(tmp_path, settings_for("/lab/one"))
    assert claim(tmp_path, settings_for("/lab/one", seed=7, split={"test": 0.3})) == "cells"


def test_a_name_that_was_given_belongs_to_its_data(tmp_path):
    one, two = settings_for("/lab/one"), settings_for("/lab/two")
    assert claim(tmp_path, one, "mine") == claim(tmp_path, one, "mine") == "mine"
    before = (tmp_path / "mine" / "run.json").read_bytes()
    with pytest.raises(
        SettingsError, match=r"the run mine .* /lab/one, but /lab/two .*: give another --name"
    ):
        claim(tmp_path, two, "mine")
    assert (tmp_path / "mine" / "run.json").read_bytes() == before
    for name in ("artifacts", "cache", ".hidden", "a/b", ""):
        with pytest.raises(SettingsError, match="must be a plain folder name"):
            find_run(tmp_path, one, name)


def test_runs_that_do_not_tell_their_data_are_taken_for_the_same(tmp_path):
    write_json(tmp_path / "cells" / "run.json", {"experiment": "cells", "steps": []})
    assert claim(tmp_path, settings_for("/lab/one")) == "cells"


@pytest.mark.parametrize(("path", "name"), [("/lab/one", "cells"), ("/lab/two", "cells-2")])
def test_of_settings_of_another_version_the_place_counts(tmp_path, path, name):
    data = {"source": "folder", "path": "/lab/one", "a_key_of_old": 1}
    write_json(
        tmp_path / "cells" / "run.json",
        {"experiment": "cells", "state": "complete", "settings": {"data": data}},
    )
    assert claim(tmp_path, settings_for(path)) == name


def test_a_run_of_0_1_0_with_fewer_settings_is_found_again(tmp_path):
    settings = settings_for("/lab/one")
    stored = settings.model_dump(mode="json")
    stored["data"] = {
        key: stored["data"][key] for key in ("source", "path", "malignant", "aria", "synthetic")
    }
    reserve_run(RunPlaces(tmp_path, "cells"), "cells", stored)
    assert claim(tmp_path, settings) == "cells"


def test_another_experiments_run_of_that_name_is_passed_over(tmp_path):
    claim(tmp_path, settings_for("/lab/one", experiment="other"), "cells")
    assert claim(tmp_path, settings_for("/lab/one")) == "cells-2"


def test_a_numbered_run_is_found_where_others_are_gone(tmp_path):
    for name in ("one", "two", "three"):
        claim(tmp_path, settings_for(f"/lab/{name}"))
    for name in ("cells", "cells-2"):
        (tmp_path / name / "run.json").unlink()
    assert claim(tmp_path, settings_for("/lab/three")) == "cells-3"
    assert claim(tmp_path, settings_for("/lab/two")) == "cells"
    assert claim(tmp_path, settings_for("/lab/four")) == "cells-2"


def test_all_at_once_get_names_of_their_own(tmp_path):
    several = [settings_for(f"/lab/{number % 6}") for number in range(24)]
    with ThreadPoolExecutor(12) as pool:
        names = list(pool.map(lambda settings: claim(tmp_path, settings), several))
    assert set(names) == {"cells", *(f"cells-{number}" for number in range(2, 7))}
    for settings, name in zip(several, names, strict=True):
        assert read_json(tmp_path / name / "run.json")["settings"]["data"]["path"] == settings.data.path


def test_other_images_in_the_same_place_are_told_when_the_report_is_replaced(tmp_path):
    runs = []
    for number, fingerprint in enumerate(("one", "two", "two")):
        folder = tmp_path / str(number) / "cells"
        write_json(folder / "run.json", {"state": "complete", "steps": []})
        write_json(folder / "report.json", {"results": {"fingerprint": fingerprint}})
        runs.append(Run.read(folder))
    assert "others than when cells was run before" in _describe_other_images(runs[0], runs[1])
    assert _describe_other_images(runs[1], runs[2]) == ""
