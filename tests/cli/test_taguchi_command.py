"""The two commands, as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from textbook_data import RESNET_ACCURACY, RESNET_CONFIRMATION, resnet_table
from typer.testing import CliRunner

from kerasall.cli.taguchi import taguchi_app
from kerasall.errors import DataError, SettingsError


def _call(*arguments: str):
    return CliRunner().invoke(taguchi_app, list(arguments), catch_exceptions=False)


@pytest.fixture
def paper(tmp_path):
    rows = [
        ",".join(map(str, [*levels, *responses]))
        for levels, responses in zip(zip(*resnet_table().values(), strict=True), RESNET_ACCURACY, strict=True)
    ]
    path = tmp_path / "paper.csv"
    path.write_text("\n".join(["A,B,C,D,y1,y2,y3", *rows]) + "\n", encoding="utf-8")
    return path


def test_analyze_prints_only_json(paper):
    found = _call(
        "analyze", str(paper), "--signal", "target:1", "--levels", "A=adam,sgdm,adam", "--json",
        "--confirm", ",".join(map(str, RESNET_CONFIRMATION)),
    )  # fmt: skip
    document = json.loads(found.stdout)
    assert document["anova"][0]["f"] == pytest.approx(36.8, abs=0.05)
    assert document["predicted"]["value"] == pytest.approx(15.38, abs=0.005)
    assert document["predicted"]["confirmed"] == pytest.approx(14.94, abs=0.005)
    none, luckiest = document["warnings"]
    assert none == "No factor is significant at 0.05: the smallest p is 0.104 (A)."
    assert "0.8209, outside the 0.8365 to 0.8614 expected of the mean of 9 runs" in luckiest
    assert (document["raw"]["error"]["df"], round(document["raw"]["anova"][0]["f"])) == (19, 319)


def test_separate_levels_saturate(paper):
    options = ["--signal", "target:1", "--levels", "A=adam,sgdm,adam", "--levels-as", "separate"]
    document = json.loads(_call("analyze", str(paper), *options, "--json").stdout)
    assert [row["df"] for row in document["anova"]] == [2, 2, 2, 2]
    assert document["anova"][0]["f"] is None
    assert "10.4812" in _call("analyze", str(paper), *options).stdout


def test_pooling_and_figures(paper, tmp_path):
    found = _call(
        "analyze", str(paper), "--signal", "target:1", "--pool", "B, C", "--figures", str(tmp_path / "figures")
    )  # fmt: skip
    assert "(B, pooled)" in found.stdout
    stems = sorted(path.stem for path in (tmp_path / "figures").glob("*.svg"))
    assert stems == ["aliased_interaction_A_D", "half_normal", "main_effects"]
    assert "half_normal.svg" in found.stderr


def test_a_plan_is_filled_in_and_analysed(tmp_path):
    out = tmp_path / "plan.csv"
    made = _call(
        "plan", "--factors", "A=adam,sgdm", "B=32,64", "--factors", "C=a b,c", "--out", str(out), "--json"
    )
    document = json.loads(made.stdout)
    assert (document["array"], document["rows"]) == ("L4(2^3)", 4)
    assert document["factors"]["C"] == ["a b", "c"]
    assert '--levels "A=adam,sgdm"' in made.stderr
    lines = out.read_text().splitlines()
    filled = [
        lines[0],
        *[line.rstrip(",") + f",{i}.5,{i}.6,{i}.9" for i, line in enumerate(lines[1:], start=1)],
    ]
    out.write_text("\n".join(filled))
    found = json.loads(_call("analyze", str(out), "--json").stdout)
    assert found["best_levels"]["A"] == 2
    assert any("saturated" in text for text in found["warnings"])


def test_a_plan_for_excel_is_analysed_and_its_names_are_utf8_in_any_locale(tmp_path):
    """The locale C, an ASCII terminal, and Python told to believe them."""
    places = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)}
    locale = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [
        sys.executable,
        "-m",
        "kerasall.cli.app",
        "taguchi",
        "plan",
        "--factors",
        "Färbung=a,b",
        "C=c,d",
    ]
    made = subprocess.run(
        [*command, "--out", "Plan ä.csv", "--excel"],
        cwd=tmp_path,
        env=places | locale,
        capture_output=True,
        timeout=60,
    )
    assert made.returncode == 0, made.stderr
    assert rb"F\xe4rbung" in made.stdout
    content = (tmp_path / "Plan ä.csv").read_bytes()
    assert content.startswith("\ufeffrow,Färbung,C,y1".encode())
    assert os.fsencode(os.listdir(tmp_path)[0]) == "Plan ä.csv".encode()
    filled = [
        f"{line.rstrip(',')},{n}.5,{n}.6,{n}" if n else line
        for n, line in enumerate(content.decode().splitlines())
    ]
    (tmp_path / "plan.csv").write_text("\n".join(filled), encoding="utf-8")
    assert json.loads(_call("analyze", str(tmp_path / "plan.csv"), "--json").stdout)["best_levels"]["Färbung"]


def test_factors_come_in_one_word_or_from_yaml(tmp_path):
    path = tmp_path / "factors.yaml"
    path.write_text("optimizer: [adam, sgdm, adam]\nbatch: [60, 65, 70]\n")
    text = _call("plan", "--factors", str(path), "--factors", "epochs=8,10,12; rate=1,2,3").stdout
    assert text.startswith(
        "L9(3^4): 9 runs; degrees of freedom: optimizer 1, batch 2, epochs 2, rate 2, error 1"
    )
    assert "optimizer×batch: aliased with epochs, rate" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan"], "at least one factor"),
        (["plan", "--factors", "A"], "NAME=level"),
        (["plan", "--factors", "A=1,2", "A=3,4"], "given twice"),
        (["plan", "--factors", "absent.yaml"], "must be a YAML file"),
        (["plan", "--factors", "A=1,2", "--array", "L64(2^31)"], "L64.*L32"),
        (["analyze", "PAPER", "--levels", "A:adam"], "NAME=level"),
        (["analyze", "PAPER", "--signal", "target:1", "--confirm", "high"], "numbers separated by commas"),
        (["analyze", "PAPER", "--signal", "target:1", "--confirm", "nan"], "numbers separated by commas"),
        (["analyze", "PAPER", "--levels", "A=a,b,c", "--levels", "A=a,b,a"], "names A twice"),
        (["analyze", "PAPER", "--pool", "Z"], "pooled factor"),
    ],
)
def test_wrong_options_are_errors_of_the_user(arguments, message, paper):
    with pytest.raises(SettingsError, match=message):
        _call(*[str(paper) if a == "PAPER" else a for a in arguments])


def test_an_analysis_that_fails_names_the_file_and_the_row(tmp_path):
    path = tmp_path / "hit.csv"
    path.write_text("A,B,y1\n1,1,0.5\n1,2,-1\n2,1,0.7\n2,2,0.8\n")
    with pytest.raises(DataError, match=r"hit\.csv .*must not be negative.*in row 2"):
        _call("analyze", str(path), "--signal", "larger")


def test_commands_and_analysis_load_no_framework():
    script = (
        "import sys, kerasall.cli.taguchi, kerasall.taguchi.analysis, kerasall.taguchi.design\n"
        "loaded = {'tensorflow', 'keras', 'jax', 'pydoe', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
