"""A paper beside a run: the list of what stands on the page, and that each figure is the right one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import command_line
import numpy as np
import pandas as pd
import pytest
from page_tables import read_tables, texts
from paper_run import PAPER, printed, write_run

from kerasall.csv_tables import read_csv
from kerasall.data.splits import Split, read_split, write_split
from kerasall.errors import ArtifactError, SettingsError
from kerasall.files import read_json, write_json
from kerasall.published.papers import papers, printed_number, read_paper
from kerasall.report.pages.paper import FilledCell, FilledRow, FilledTable, format_ours, head_rows
from kerasall.studies.finished_run import Run
from kerasall.studies.tables import KINDS, look_up
from kerasall.studies.tables.member_rows import find_unprinted
from kerasall.studies.tables.pictures import PICTURES, draw
from kerasall.studies.tables.scored import read_scored
from kerasall.studies.tables.side_by_side import choose_paper, describe_scored, fill_table

invoke = partial(command_line.invoke, "tables")
VOTES = re.compile(r"Resnet101-[357] ensemble")


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A working folder with the run ``paper``."""
    house = tmp_path_factory.mktemp("house")
    write_run(house)
    return house


@pytest.fixture
def run(house, monkeypatch) -> Run:
    """The run that found what Chen et al. printed."""
    monkeypatch.setenv("KERASALL_RUNS", str(house / "runs"))
    return Run.find("paper")


@pytest.fixture(scope="module")
def written(house) -> tuple[str, pd.DataFrame, dict]:
    """The page of the run, its table of cells, and the JSON document, once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASALL_RUNS", str(house / "runs"))
        document = json.loads(invoke("paper", "--json").stdout)
    folder = house / "runs" / "paper"
    cells = read_csv(folder / "tables.csv", dtype=str)
    return (folder / "tables.html").read_text(encoding="utf-8"), cells, document


def test_where_the_run_found_what_was_printed_every_cell_says_so_twice(written):
    """Tables 1 to 17 but for the votes of three, five and seven, which nine matrices do not settle."""
    _, cells, _ = written
    compared = 0
    for row in cells.itertuples():
        if not row.ours or VOTES.search(row.row):
            continue
        compared += 1
        if not re.fullmatch(r"[\d.,]+", row.published):
            assert row.ours == row.published
        else:
            wanted, digits = printed_number(row.published), len(row.published.partition(".")[2])
            # The paper takes η of Table 7 from accuracies that were rounded before.
            near = 6e-4 if row.row == "η value" else 0.52 * 10**-digits
            assert float(row.ours) == pytest.approx(wanted, abs=near), row
            assert row.low == "" or float(row.low) <= float(row.ours) <= float(row.high)
    assert compared > 450


def test_every_cell_of_the_paper_is_in_the_table_for_programs(written):
    _, cells, document = written
    wanted = [
        [PAPER, table.name, " / ".join(row.name), " / ".join(column.name), cell]
        for table in read_paper(PAPER).tables
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
    ]
    assert cells[["paper", "table", "row", "column", "published"]].to_numpy().tolist() == wanted
    assert len(document["cells"]) == len(wanted)
    assert list(cells.columns) == list(document["cells"][0])
    for column in ("ours", "low", "high"):  # a count stays a count
        told = [each[column] for each in document["cells"]]
        assert cells[column].tolist() == ["" if value is None else str(value) for value in told]


@pytest.mark.parametrize("name", papers())
def test_every_table_and_figure_of_a_paper_stands_on_its_page_in_order(name, house, run, tmp_path):
    """Whatever the run is: what it lacks is said, and nothing is left out."""
    paper = read_paper(name)
    result = invoke("paper", "--paper", name, "--no-maps", "--out", tmp_path)
    page = (tmp_path / "tables.html").read_text(encoding="utf-8")
    titles = re.findall(r'<section id="[\w-]+" aria-labelledby="[\w-]+">\s*<h2 [^>]*>([^<]+)</h2>', page)
    assert [title.split(":")[0] for title in titles[1:]] == [
        each.name for each in (*paper.tables, *paper.figures)
    ]
    assert set(re.findall(r'href="#([\w-]+)"', page)) <= set(re.findall(r'id="([\w-]+)"', page))
    # Members that the paper does not print stand in rows that say so.
    as_printed = re.sub(r'<tr class="unprinted">.*?</tr>', "", page, flags=re.DOTALL)
    shown = {label: texts(rows) for label, rows in read_tables(as_printed).items()}
    for table in paper.tables:
        rows = shown[table.name][-len(table.rows) :]
        for row, cells in zip(table.rows, rows, strict=True):
            for text, printed_text in zip(cells[-len(table.columns) :], row.cells, strict=True):
                assert text.replace("⚑", "").startswith(printed_text or "–")
        assert page.count("⚑") >= len(table.flags)
    assert f"{len(paper.tables)} tables" in result.stdout
    names = read_csv(tmp_path / "tables.csv", dtype=str)["row"]
    assert not names[names.str.startswith(" /") | names.str.endswith("/ ")].any()
    for figure in paper.figures:
        section = page.split(f">{figure.name}:")[1].split("</section>")[0]
        assert (
            "<img" in section
            or "Nothing of ours stands here" in section
            or figure.note in section.replace("&#39;", "'")
        )


@pytest.mark.parametrize("name", papers())
def test_every_key_is_of_a_kind_that_is_known(name):
    paper = read_paper(name)
    keys = {t.key(row, column) for t in paper.tables for row in t.rows for column in t.columns} - {""}
    assert {key.split("/")[0] for key in keys} <= set(KINDS)
    assert {figure.ours.split("/")[0] for figure in paper.figures if figure.ours} <= set(PICTURES)


def test_the_page_says_what_ours_was_scored_on_and_what_the_listed_images_tell(written):
    page, _, document = written
    assert page.count("1,867 images of 28 groups of patients") >= 18
    assert "Scores of this report were selected on the data they are reported on" in page
    facts = [fact["fact"] for fact in document["facts"]]
    assert "an accuracy of 0.8511" in facts[0]
    assert "over 28 groups" in facts[0]
    assert "Its review queue (`kerasall review paper`) holds 278 of them, 278 listed" in facts[1]


def test_a_figure_of_members_votes_and_the_matrix_is_theirs(run):
    scored = read_scored(run)
    first, nine = scored.members["model_1"], scored.predictions
    assert look_up(run, "member/1/accuracy").value == pytest.approx(first.right.mean())
    assert look_up(run, "member/model_1/recall:malignant") == look_up(run, "member/1/recall:all")
    assert look_up(run, "vote/9/accuracy") == look_up(run, "ensemble/accuracy")
    assert look_up(run, "ensemble/accuracy").value == pytest.approx(nine.right.mean())
    three = np.sum([scored.members[f"model_{k}"].right for k in (1, 2, 3)], axis=0) >= 2
    assert look_up(run, "vote/3/accuracy").value == pytest.approx(three.mean())
    count, share = (
        look_up(run, f"ensemble/predicted:benign/actual:malignant{end}") for end in ("", "/share")
    )
    assert (count.value, share.value) == (101, pytest.approx(101 / 1219))
    assert look_up(run, "ensemble/actual:malignant/predicted:benign") == count
    assert count.low <= 1219 * share.low + 1
    assert count.low <= 101 <= count.high
    sensitivity = look_up(run, "ensemble/malignant_sensitivity")
    assert (share.low, share.high) == pytest.approx((1 - sensitivity.high, 1 - sensitivity.low), abs=1e-9)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("member/vgg16/accuracy", "this run has the members model_1"),
        ("member/1/train/f1_macro", "a training reports only accuracy and loss"),
        ("member/1/recall:Early", "is not defined over the classes all, hem"),
        ("vote/11/accuracy", "this run has 9 members"),
        ("fold/1/accuracy", "this run scored no folds"),
        ("fold/1/member/model_1/accuracy", "this run scored no folds"),
        ("fold/1/member/vgg16/accuracy", "this run has the members model_1"),
        ("images/validation/malignant", "no image of this run stands in the part validation"),
        ("images/train/Pro", "this run has the classes all, hem"),
        ("levels/5/1", "this run varies 4 settings"),
        ("levels/1/4", "this factor has 3 levels"),
        ("trial/10/scored/mean", "this run has 9 rows"),
        ("trial/1/scored/run:4", "this run made 3 runs of every row"),
        ("wrong/malignant/10/count", "this run has 9 members"),
        ("setting/train.no_such", "this run has no setting train.no_such"),
        ("nothing/of/ours", "there is no figure of the kind nothing"),
    ],
)
def test_what_a_run_lacks_is_said_and_nothing_is_made_up(run, key, told):
    found = look_up(run, key)
    assert found.value is None
    assert told in found.reason


def test_settings_and_counts_are_those_of_the_run(run):
    assert look_up(run, "setting/train.batch_size").value == 65
    assert look_up(run, "setting/train/stages/0/optimizer/name").value == "adam"
    assert look_up(run, "setting/members.model_2.epochs").value == "10"
    assert look_up(run, "setting/members.1.model.backbone").value == "resnet101"
    assert look_up(run, "subjects/prelim/malignant").value == 13
    assert look_up(run, "images/prelim/benign").value == 648


def test_responses_and_counts_of_other_images_say_so(run, tmp_path):
    """What a designed experiment chose by is no score of the test part, whatever the printed row is called."""
    keys = ["trial/1/scored/run:1", "trial/1/scored/eta", "response/1/level:1", "anova/1/ss"]
    assert {look_up(run, key).reason for key in keys} == {""}
    other = Run(write_run(tmp_path))
    search, split = (tmp_path / "artifacts" / name for name in ("search/analysis.json", "split/split.json"))
    document = read_json(search)
    document["experiment"]["scored_on"] = "validation"
    write_json(search, document)
    for key in keys:
        assert look_up(other, key).reason == "on validation images, by which the levels were chosen"
    assert "validation" not in look_up(other, "trial/1/train/mean").reason
    assert "designed experiment are on validation images" in describe_scored(other, read_scored(other))[0]
    assert "on validation images" in draw(other, "factor_effects").plots[0][1]

    table = read_split(split).table
    named = table["subject"].where(table["label"] == "all", "")
    parts = [f"fold_{n % 2}" for n in range(len(table))]
    write_split(Split("folds", table.assign(part=parts, subject=named), 0), split)
    report = other.numbers
    write_json(other.folder / "report.json", {"results": report["results"] | {"scored": "out-of-fold"}})
    folds = Run(other.folder)
    assert "each fold's model" in look_up(folds, "images/train/all").reason
    assert look_up(folds, "images/test/all").reason == ""
    assert [look_up(folds, f"subjects/test/{name}").value for name in ("all", "malignant", "benign")] == [
        13,
        13,
        0,
    ]
    # As where the ensemble's record is gone, and that of a member is found in its place.
    write_json(tmp_path / "artifacts" / "record" / "training.json", {"fits": {}})
    assert look_up(folds, "member/1/train/accuracy").reason == "this run kept no history of the training"


def test_images_of_patients_who_were_trained_on_are_counted_above_every_table(run, tmp_path):
    results = run.numbers["results"] | {"apart": {"images": 1700, "metrics": {}}}
    kept = tmp_path / "kept"
    write_json(kept / "run.json", run.record)
    write_json(kept / "report.json", {"results": results})
    for told in describe_scored(Run(kept), read_scored(Run(kept))):
        assert told.startswith("1,867 images (167 of patients who were trained on) of 28 groups of patients")


def test_members_that_the_paper_does_not_print_have_rows_of_their_own(run):
    assert find_unprinted(run, read_paper(PAPER)) == []
    found = fill_table(run, printed("Table 15"), ["model_9"])
    assert [row.name for row in found.rows[18:20]] == [("model_9", "ALL"), ("model_9", "Normal")]
    assert [row.printed for row in found.rows] == [True] * 18 + [False] * 2 + [True] * 2
    assert [cell.value for cell in found.rows[18].cells] == [1099, 213]
    assert {cell.published for row in found.rows[18:20] for cell in row.cells} == {""}


def test_a_member_that_is_not_printed_stands_under_the_heading_of_names_not_of_numbers(run):
    table = next(each for each in read_paper("four_stage_vote").tables if each.name == "Table 5")
    (row,) = [each for each in fill_table(run, table, ["model_9"], most=5).rows if not each.printed]
    assert row.name == ("", "model_9")


def test_numbers_stand_as_the_column_prints_them():
    table = printed("Table 16")

    def shown(
        value: float | int | str | None, low: float | None = None, high: float | None = None
    ) -> tuple[str, str]:
        cell = FilledCell("0.8", "key", value, low, high)
        return format_ours(FilledTable(table, (FilledRow(("x",), (FilledCell("0.8512"),)),)), 0, cell)

    assert shown(0.85106, 0.72901, 0.9) == ("0.8511", "0.729 to 0.900")
    assert shown(12_345) == ("12,345", "")
    assert shown("adam") == ("adam", "")
    assert shown(None) == ("–", "")
    assert shown(0.99996, 0.9996, 1.0) == ("0.99996", "0.9996 to 1.000")  # only a perfect score reads 1
    assert shown(0.00004) == ("4e-05", "")
    percent = replace(
        FilledTable(read_paper("optimizer_sweep").tables[0], ()),
        rows=(FilledRow(("x",), (FilledCell("84.73%"),)),),
    )
    assert format_ours(percent, 0, FilledCell("", "key", 0.8123, 0.8, 0.9)) == ("81.23%", "80.00% to 90.00%")
    assert format_ours(percent, 0, FilledCell("", "key", 0.00002, 0.0, 0.99999)) == (
        "0.002%",
        "0.00% to 99.999%",
    )


def test_headings_span_the_columns_below_them():
    assert head_rows(printed("Table 5")) == [
        [("Experiments 1-9", 1, 2), ("Dataset", 1, 2), ("Runs of experiment", 3, 1), ("Average accuracy", 1, 2), ("SD", 1, 2), ("η value", 1, 2)],
        [("1", 1, 1), ("2", 1, 1), ("3", 1, 1)],
    ]  # fmt: skip


def test_a_run_that_is_not_so_far_is_refused_with_the_cure(run, house):
    record = read_json(run.folder / "run.json")
    write_json(
        house / "runs" / "begun" / "run.json", record | {"name": "begun", "steps": [], "state": "failed"}
    )
    with pytest.raises(
        ArtifactError,
        match=r"must hold predictions.npz of its Evaluation.*\(the run is failed\): run it again",
    ):
        invoke("begun")
    assert not (house / "runs" / "begun" / "tables.html").exists()
    write_json(house / "runs" / "unscored" / "run.json", record | {"name": "unscored"})
    with pytest.raises(ArtifactError, match=r"must hold report.json, but does not .*: run it again"):
        invoke("unscored", "--no-maps")


def test_the_paper_is_that_of_the_run_or_the_one_that_is_named(run, house, tmp_path):
    assert choose_paper(run, None) == choose_paper(run, "chen") == read_paper(PAPER)
    record = read_json(run.folder / "run.json")
    other = house / "runs" / "other"
    write_json(
        other / "run.json",
        record | {"name": "other", "settings": record["settings"] | {"pipeline": "single_classifier"}},
    )
    with pytest.raises(SettingsError, match=r"its pipeline is single_classifier: say which paper .* --paper"):
        choose_paper(Run(other), None)
    with pytest.raises(SettingsError, match="'Nobody' is none"):
        invoke("paper", "--paper", "Nobody")
    script = {"pipeline": f"/somewhere/{PAPER}.py"}
    write_json(other / "run.json", record | {"name": "other", "settings": record["settings"] | script})
    assert choose_paper(Run(other), None).pipeline == PAPER
