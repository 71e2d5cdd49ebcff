"""``kerasall init`` by options and as a person at a terminal, and ``train`` at the door (``tests/test_python_names.py`` trains)."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import command_line
import pytest
from lab_images import evenly, write_table

from kerasall.cli.init import init
from kerasall.errors import SettingsError
from kerasall.settings.loading import load_settings


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    write_table(tmp_path, {"ALL": {"": 24}, "normal": {"": 24}})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> str:
    """Standard output; errors are raised."""
    return command_line.invoke("init", *arguments).stdout


def test_a_config_is_written_and_the_next_command_printed(here):
    out = call(
        "cells.csv", "--malignant", "all", "--subject", "none", "--set", "seed=3", "--out", "first.yaml"
    )
    assert out == "kerasall run first.yaml\n"
    settings = load_settings("first.yaml")
    assert (settings.experiment, settings.seed, settings.data.malignant) == ("first", 3, ("ALL",))
    assert settings.data.path == str(here / "cells.csv")


def test_nothing_is_written_over(here):
    for _ in range(2):
        call("cells.csv", "--malignant", "ALL", "--subject", "none", "--force")
    before = Path("cells.yaml").read_text(encoding="utf-8")
    with pytest.raises(SettingsError, match=r"cells\.yaml must not be there yet.*--force.*--out"):
        call("cells.csv", "--malignant", "normal", "--subject", "none")
    assert Path("cells.yaml").read_text(encoding="utf-8") == before
    with pytest.raises(SettingsError, match=r"--out must name a \.yaml file"):
        call("cells.csv", "--out", "cells.txt")


def test_without_a_terminal_all_that_is_missing_is_an_error(here):
    with pytest.raises(SettingsError, match=r"(?s)2 things are missing.*--malignant ALL.*--subject none"):
        call("cells.csv")
    assert not Path("cells.yaml").exists()


def test_columns_and_names_reach_the_config(tmp_path, monkeypatch):
    table = write_table(tmp_path, {"0": evenly(4, 5), "1": evenly(4, 5, 4)})
    monkeypatch.chdir(tmp_path)
    call(str(table), "--malignant", "1", "--columns", "subject=subject,label=label", "--name", "mine")
    settings = load_settings("mine.yaml")
    assert settings.data.malignant == ("1",)
    assert settings.data.columns == {"subject": "subject", "label": "label"}
    with pytest.raises(SettingsError, match="--columns must be key=NAME"):
        call(str(table), "--columns", "subject")


def test_a_person_at_a_terminal_is_asked_until_it_is_known(here):
    chief, worker = os.openpty()
    command = [sys.executable, "-m", "kerasall", "init", "cells.csv"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, stdin=worker, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        os.write(chief, b"blasts\nall\nnone\n")
        out, err = process.communicate(timeout=60)
    os.close(worker)
    os.close(chief)
    assert process.returncode == 0, err
    assert out == "kerasall run cells.yaml\n"
    assert err.count("Which classes mean leukaemia (ALL, normal") == 2
    assert "blasts is not there" in err
    assert "Where does the patient stand" in err
    settings = load_settings("cells.yaml")
    assert (settings.data.malignant, settings.data.subject) == (("ALL",), "none")


def test_nothing_is_left_of_a_training_that_is_refused_at_the_door(here, monkeypatch):
    monkeypatch.setenv("KERASALL_RUNS", str(here / "runs"))
    train = ["train", "cells.csv", "--subject", "none", "--set", "model.weights=/no/such.h5"]
    with pytest.raises(
        SettingsError, match=r"(?s)2 things are missing.*--malignant ALL.*no/such\.h5 must exist"
    ):
        command_line.invoke(*train)
    assert [path.name for path in here.iterdir() if path.suffix != ".png"] == ["cells.csv"]


def test_the_end_of_input_ends_the_questions(here, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal("ALL\n"))
    with pytest.raises(SettingsError, match="one thing is missing"):
        init(Path("cells.csv"))
    assert not Path("cells.yaml").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
