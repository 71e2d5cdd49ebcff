"""Checklists filled in from runs: what 0.1.0 left, what was changed in it, and what the authors state."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kerasall.cli.app import app
from kerasall.data.splits import read_split, write_split
from kerasall.errors import ArtifactError
from kerasall.published.checklists import checklist_names, read_checklist
from kerasall.report.pages.checklist import ABSENT, ANSWERED, BY_AUTHORS, PARTLY, escape_markdown
from kerasall.settings import StudySettings
from kerasall.settings.loading import load_settings
from kerasall.studies.checklists.facts import RunFacts
from kerasall.studies.checklists.filled import fill_in
from kerasall.studies.checklists.rules import RULES
from kerasall.studies.finished_run import Run

WITNESS = Path(__file__).parents[1] / "data" / "witness" / "kerasall-0.1.0-demo.tar.xz"
ODD = "<script>alert(1)</script> =1+1 | `x` $y$ \x1b[2K\n# no heading\n- no item **no** [no](http://no.no)"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lists")
    with tarfile.open(WITNESS) as archive:
        wanted = [
            each
            for each in archive.getmembers()
            if "/images/" not in each.name and "variables" not in each.name
        ]
        archive.extractall(folder, members=wanted, filter="data")
    lab = folder / "kerasall-0.1.0"
    for path in lab.glob("runs/**/*.json"):
        path.write_text(path.read_text("utf-8").replace("/home/lab", str(lab)), "utf-8")
    return lab


@pytest.fixture
def old(unpacked, monkeypatch) -> Run:
    """A finished run of 0.1.0: another schema of report.json, no study, no test artifact, no page."""
    monkeypatch.setenv("KERASALL_RUNS", str(unpacked / "runs"))
    monkeypatch.chdir(unpacked)
    return Run(unpacked / "runs" / "demo")


@pytest.fixture
def changed(unpacked, tmp_path, monkeypatch):
    """The same run with parts of its run.json, its report.json and its facts changed."""
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))

    def change(settings=None, results=None, facts=None, **record) -> Run:
        found = json.loads((unpacked / "runs" / "demo" / "run.json").read_text("utf-8"))
        for step in found["steps"]:
            for output in step["outputs"].values():
                if output["type"] == "Model" and facts:
                    path = Path(output["path"]) / "facts.json"
                    output |= {"path": str(tmp_path / "trained"), "digest": ""}
                    Path(output["path"]).mkdir(exist_ok=True)
                    known = json.loads(path.read_text("utf-8")) | facts
                    (Path(output["path"]) / "facts.json").write_text(json.dumps(known), "utf-8")
        numbers = json.loads((unpacked / "runs" / "demo" / "report.json").read_text("utf-8"))
        numbers["results"] |= results or {}
        found = found | record
        found["settings"] = found["settings"] | (settings or {})
        folder = tmp_path / "runs" / "demo"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(found), "utf-8")
        (folder / "report.json").write_text(json.dumps(numbers), "utf-8")
        (folder / "predictions.csv").write_bytes(
            (unpacked / "runs" / "demo" / "predictions.csv").read_bytes()
        )
        return Run(folder)

    return change


def answers_of(run: Run, name: str) -> dict:
    return {answer.number: answer for answer in fill_in(run, name).answers}


def known(run: Run, name: str, number: str) -> str:
    return " ".join(answers_of(run, name)[number].known)


@pytest.mark.parametrize("name", checklist_names())
def test_every_item_of_a_run_of_0_1_0_is_answered_or_asked_of_the_authors(old, name):
    found = fill_in(old, name)
    assert [answer.number for answer in found.answers] == [item.number for item in read_checklist(name).items]
    for answer in found.answers:
        assert answer.known or answer.wanted or answer.absent or answer.written, answer.number
        assert answer.state in (ANSWERED, PARTLY, BY_AUTHORS, ABSENT)
        for sentence in answer.known:
            assert sentence[0].isupper() or sentence[0].isdigit(), sentence
            assert not re.search(r"\bNone\b|\bnan\b|\{|\}|  ", sentence), sentence
            assert not sentence.endswith(".."), sentence
    assert any(answer.state == ANSWERED for answer in found.answers)
    assert any(answer.state == BY_AUTHORS for answer in found.answers)


def test_answers_hold_the_numbers_of_the_run(old):
    results = old.evaluated
    assert "1 of 160 malignant images were called benign" in known(old, "claim", "39")
    assert "99.4% (95% interval 97.9% to 99.9%, 16 groups)" in known(old, "claim", "37")
    assert "train 704 images of 35 patients" in known(old, "claim", "19") or "704 images" in known(
        old, "claim", "19"
    )
    assert "Scored (test): 320 images of 16 patients" in known(old, "stard", "19")
    assert "MobileNet from random weights" in known(old, "tripod", "12c") or "mobilenet" in known(
        old, "tripod", "12c"
    )
    assert "learning rate 0.003" in known(old, "claim", "25")
    assert "batches of 16" in known(old, "claim", "25")
    assert "tensorflow 2.21.0" in known(old, "claim", "23")
    assert "kerasall 0.1.0" in known(old, "claim", "23")
    assert "219,058 parameters" in known(old, "claim", "22")
    assert "temperature 1.00" in known(old, "tripod", "24")
    table = known(old, "stard", "23")
    for label, row in zip(results["labels"], results["confusion_matrix"], strict=True):
        assert f"Of {sum(row):,} images of the class {label}" in table


def test_rendered_cells_are_called_rendered(old):
    assert "rendered by kerasall, not photographed" in known(old, "claim", "7")


def test_parts_are_apart_by_patients_only_where_patients_are_known(old, changed):
    assert "Apart by patients" in known(old, "claim", "20")
    blocks = known(changed(facts={"subject_kind": "block"}), "claim", "20")
    assert "Not by patients" in blocks
    assert "blocks of consecutive file numbers" in blocks
    assert "Apart by patients" not in blocks
    images = known(changed(facts={"subject_kind": "none"}), "claim", "20")
    assert "Not by patients" in images
    split = {"split": {"kind": "holdout", "unit": "image"}}
    assert known(changed(settings=split), "claim", "20").startswith("Single images were dealt out")


def test_blocks_are_never_called_patients_in_any_list(changed):
    run = changed(facts={"subject_kind": "block"})
    for name in checklist_names():
        for answer in fill_in(run, name).answers:
            told = " ".join(answer.known)
            assert not re.search(r"\d+ patients?\b", told), (name, answer.number, told)


def test_nothing_is_called_external_without_an_external_check(old):
    for name, number in (("claim", "33"), ("stard-ai", "29")):
        assert "No test on other data" in known(old, name, number)
    told = [s for name in checklist_names() for a in fill_in(old, name).answers for s in a.known]
    assert not [s for s in told if "external validation" in s.lower()]


def test_an_external_check_of_this_model_is_told_and_of_another_is_not(changed, tmp_path):
    run = changed()
    model = next(Path(o["path"]) / "model" for o in run.outputs if o["type"] == "SavedModel")
    score = {"value": 0.7, "low": 0.6, "high": 0.8}
    results = {
        "model": str(model), "images": 120, "fates": {"scored": 100, "could not be read": 20},
        "metrics": {"malignant_sensitivity": score},
    }  # fmt: skip
    folder = tmp_path / "runs" / "external" / "demo_on_elsewhere"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps({"results": results | {"model": "/another"}}), "utf-8")
    assert "No test on other data" in known(run, "claim", "33")
    (folder / "report.json").write_text(json.dumps({"results": results}), "utf-8")
    told = known(Run(run.folder), "claim", "33")
    assert "demo_on_elsewhere" in told
    assert "70.0% (60.0% to 80.0%)" in told
    assert "100 of 120 images" in told
    assert "for the authors to say" in told


def test_a_faithful_copy_and_scores_on_validation_images_are_called_so(changed):
    faithful = changed(settings={"protocol": "faithful"})
    assert "no fair test" in known(faithful, "claim", "6")
    validation = changed(results={"scored": "validation"})
    assert "also decided when training stopped" in known(validation, "claim", "32")
    assert "too good" in known(validation, "tripod", "26")
    assert "did decide when training stopped" in known(validation, "stard", "13a")


def test_an_ensemble_is_described_and_one_model_makes_the_item_void(old, changed):
    assert answers_of(old, "claim")["27"].state == ABSENT
    made = {"rule": "majority_vote", "weights": None, "members": ["one", "two", "three"]}
    found = answers_of(changed(results={"ensemble": made}), "claim")["27"]
    assert found.state == ANSWERED
    assert "3 members: one, two, three" in " ".join(found.known)


SYSTEMS = {
    "aria_mobilenet": (
        "The weights of the epoch with the best val_loss were kept",
        "trained on ImageNet: mobilenet",
    ),
    "weighted_ensemble": ("Each member, where it states nothing else", "trained on ImageNet: vgg16"),
    "deep_features_svm": ("Classifiers (", "trained on ImageNet: vgg16"),
    "optimizer_sweep": ("Training: stage", "trained on ImageNet: vgg16"),
    "taguchi_resnet101_vote": (
        "Settings were chosen by a designed experiment over",
        "trained on ImageNet: resnet101",
    ),
}
"""Config that comes with kerasall -> what is said of its training or its choice, and of its weights."""


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_settings_of_every_kind_of_system_are_put_in_words(name, changed):
    settings = load_settings(name).model_dump(mode="json")
    answers = answers_of(changed(settings=settings), "claim")
    told = " ".join(sentence for number in ("24", "25", "26") for sentence in answers[number].known)
    assert all(words in told for words in SYSTEMS[name])
    assert not re.search(r"\bNone\b|\{|\}|  ", told)
    single = "On the backbone" in " ".join(answers["22"].known)
    assert single is (name == "aria_mobilenet")


def test_texts_of_a_later_version_are_read_as_far_as_they_are_known(changed):
    run = changed(settings={"study": {"funding": "A fund.", "moonlight": "x", "ethics": 3}})
    assert answers_of(run, "claim")["44"].stated == {"funding": "A fund."}


def test_subgroups_are_told_with_their_intervals_and_too_small_ones_as_such(old, changed):
    assert "No subgroup was scored." in known(old, "claim", "37")
    whole = old.evaluated["metrics"]["accuracy"]
    rows = [
        {"value": "North", "images": 300, "groups": 13, "too_few": "of another score", "metrics": {"accuracy": whole}},
        {
            "value": "", "images": 20, "groups": 3, "too_few": "yes",
            "metrics": {"accuracy": whole | {"low": None, "high": None}},
        },
    ]  # fmt: skip
    told = known(changed(results={"subgroups": [{"column": "site", "rows": rows}]}), "claim", "37")
    assert (
        "By site: North, 300 images: Accuracy 99.4% (95% interval 97.9% to 99.9%, 16 groups); not known, 20 images: "
        "Accuracy 99.4% (too few groups for an interval)." in told
    )


def test_the_patients_that_a_narrower_interval_takes_are_told_with_what_they_rest_on(changed):
    found = {
        "title": "accuracy", "design_effect": 2.5, "groups": 8, "groups_needed": {"0.1": 1234}, "note": "from 8 groups: rough",
    }  # fmt: skip
    unknown = found | {"title": "specificity", "design_effect": None, "groups_needed": {}}
    told = known(changed(results={"sample_size": [found, unknown]}), "stard", "18")
    assert "the spread between 8 groups (design effect 2.5; from 8 groups: rough)" in told
    assert "that have such images, each a patient like these: 1,234 for 10 points." in told
    assert "specificity" not in told


def change_outputs(run: Run, kind: str, change) -> Run:
    """The run with a copy of an artifact's folder that was changed."""
    record = json.loads((run.folder / "run.json").read_text("utf-8"))
    for step in record["steps"]:
        for output in step["outputs"].values():
            if output["type"] == kind:
                copied = Path(shutil.copytree(output["path"], run.folder / kind))
                change(copied)
                output |= {"path": str(copied), "digest": ""}
    (run.folder / "run.json").write_text(json.dumps(record), "utf-8")
    return Run(run.folder)


def test_apart_by_patients_goes_no_further_than_the_data_tell_them_apart(old):
    told = known(old, "claim", "20")
    assert "as far as the data tell them apart" in told
    assert "a patient under two ids that nobody knows to be one may" in told


def test_nobody_says_at_which_level_parts_are_apart_once_the_split_is_gone(changed):
    run = change_outputs(changed(), "Split", lambda folder: (folder / "leaks.json").unlink())
    told = known(run, "claim", "20")
    assert "cannot be told any more" in told
    assert "Apart by patients" not in told


def test_out_of_fold_images_are_called_neither_a_test_nor_unseen_where_groups_were_divided(changed):
    whole = changed(results={"scored": "out-of-fold"})
    assert "not trained on it, its group or a known copy of it" in known(whole, "claim", "19")
    assert known(whole, "claim", "32").startswith("Internal cross-validation, without a test part")
    assert "There was no test part" in known(whole, "claim", "6")
    images = changed(
        settings={"split": {"kind": "folds", "unit": "image"}}, results={"scored": "out-of-fold"}
    )
    for number in ("19", "37"):
        told = known(images, "claim", number)
        assert "may have been on others of its patient or copies" in told
        assert "its group or a known copy" not in told


def test_a_leak_is_told_wherever_copies_and_folds_are(changed):
    def leak(folder: Path) -> None:
        (folder / "leaks.json").write_text(json.dumps([{"kind": "subject"}]), "utf-8")

    run = change_outputs(changed(results={"scored": "out-of-fold"}), "Split", leak)
    assert known(run, "claim", "20").startswith("Not wholly apart: 1 patient or group of copies stands")
    assert "may have been on others of its patient" in known(run, "claim", "19")


def test_a_designed_experiment_is_no_run_without_tests_and_its_noise_is_told(changed):
    plain = changed()
    assert "The run made no test of significance." in known(plain, "claim", "29")
    tune = {
        "factors": {"train.batch_size": [8, 16]},
        "noise": {"seed": [1, 2], "scored.preprocess": [[], []]},
    }
    run = changed(settings={"tune": tune | {"response": "accuracy", "response_on": "validation", "confirmations": 2}}, results={"tuning": {"anova": []}})  # fmt: skip
    assert "no test of significance" not in known(run, "claim", "29")
    assert "p-values of its settings" in known(run, "claim", "29")
    assert "As noise it varied seed, scored.preprocess" in known(run, "claim", "30")


def test_the_run_does_not_know_what_was_planned_before_a_score_was_seen(old, changed):
    for number in ("17", "12a"):
        told = known(old, "stard", number)
        assert "settings fixed" not in told
    assert set(answers_of(old, "stard")["12a"].wanted) == {"analysis_rationale"}
    assert set(answers_of(old, "tripod")["12e"].wanted) == {"analysis_rationale"}
    stated = load_settings("deep_features_svm").model_dump(mode="json")
    stated["deep_features"]["chosen"] = {"features": ["vgg16"], "classifier": "knn"}
    told = known(changed(settings=stated), "claim", "26")
    assert "this run did not choose it by a score" in told
    assert "before the run" not in told


def test_an_external_check_without_intervals_is_told_so(changed, tmp_path):
    run = changed()
    model = next(Path(o["path"]) / "model" for o in run.outputs if o["type"] == "SavedModel")
    scores = {
        "balanced_accuracy": {"value": 0.7, "low": None, "high": None},
        "malignant_sensitivity": {"value": None, "low": None, "high": None},
    }
    folder = tmp_path / "runs" / "external" / "elsewhere"
    folder.mkdir(parents=True)
    results = {"model": str(model), "images": 9, "fates": {"scored": 9}, "metrics": scores}
    (folder / "report.json").write_text(json.dumps({"results": results}), "utf-8")
    told = known(Run(run.folder), "claim", "33")
    assert "Balanced accuracy 70.0% (no interval), Malignant sensitivity not defined." in told


def test_the_level_of_a_threshold_is_that_of_the_thresholds_that_judged_it_with_its_interval(changed):
    """Out of fold the exported threshold, fitted to every image, reached more than what is told."""
    reached = {"value": 0.9, "low": 0.8, "high": 0.95, "confidence": 0.95}
    point = {
        "wanted": 0.95,
        "threshold": 0.94,
        "sensitivity": reached,
        "specificity": reached | {"low": None, "high": None},
    }
    fit = {"temperature": 1.0, "fitted_images": 9, "fitted_on": "out-of-fold", "cross_fitted": True}
    errors = {"expected_calibration_error": {"value": 0.01}}
    trust = {"calibration": fit | {"before": errors, "after": errors}, "operating_points": [point]}
    told = known(changed(results={"trust": trust}), "tripod", "15")
    assert (
        "the exported model has the threshold 0.94; thresholds from the other parts reached a sensitivity of"
        in told
    )
    assert "of 90.0% (95% interval 80.0% to 95.0%), with a specificity of 90.0% (no interval)." in told
    trust["calibration"]["cross_fitted"] = False
    told = known(changed(results={"trust": trust}), "tripod", "15")
    assert "on the scored images it reached a sensitivity of 90.0%" in told
    assert "none of which is scored" in told


def test_what_is_asked_of_each_part_is_answered_for_each(old):
    for name, number in (("claim", "36"), ("stard-ai", "25"), ("tripod", "20c")):
        told = known(old, name, number)
        assert all(f"Classes in the part {part}: " in told for part in ("train", "validation", "test"))


def test_blocks_that_share_copies_are_not_counted_as_groups_of_their_own(changed):
    """Of 40 blocks 33 groups were resampled in one run: no interval is over 40."""
    run = changed(facts={"subject_kind": "block"})
    assert "one group" not in known(run, "claim", "29")

    def join(folder: Path) -> None:
        split = read_split(folder / "split.json")
        first, second = sorted(set(split.table["group"]))[:2]
        table = split.table.assign(group=split.table["group"].replace(second, first))
        write_split(replace(split, table=table), folder / "split.json")

    run = change_outputs(run, "Split", join)
    assert run.output("Split", "split.json")
    count = RunFacts(run).split.table["subject"].nunique()
    assert f"; those that share copies are one group ({count} in {count - 1}, over all parts)" in known(
        run, "claim", "29"
    )


def test_epochs_that_nothing_can_end_early_are_not_called_up_to(changed):
    """With folds and no inner part every epoch of the settings is trained; the authors know how they found that number."""
    settings = load_settings("aria_mobilenet").model_dump(mode="json")
    settings["train"]["stages"][0]["patience"] = 3
    assert "up to 40 epochs, ended after 3" in known(changed(settings=settings), "claim", "25")

    def fold(folder: Path) -> None:
        split = read_split(folder / "split.json")
        table = split.table.assign(part="fold_" + (split.table["part"] == "test").astype(int).astype(str))
        write_split(replace(split, kind="folds", table=table), folder / "split.json")

    run = change_outputs(changed(settings=settings), "Split", fold)
    told = known(run, "claim", "25")
    assert ", 40 epochs; batches" in told
    assert "no image decided it in this run. How the settings were found, the authors know." in known(
        run, "claim", "26"
    )
    tune = {
        "factors": {"train.stages.0.epochs": [20, 40]}, "response": "accuracy", "response_on": "validation", "confirmations": 2,
    }  # fmt: skip
    record = json.loads((run.folder / "run.json").read_text("utf-8"))
    record["settings"]["tune"] = tune
    (run.folder / "run.json").write_text(json.dumps(record), "utf-8")
    varied = known(Run(run.folder), "claim", "26")
    assert "The number of epochs is a factor of the designed experiment." in varied
    assert "no image decided it" not in varied


def test_what_a_run_cannot_know_of_is_not_said_to_be_absent(old):
    """Patients without a file, another's test, a reader, what the training was meant for."""
    told = " ".join(s for name in checklist_names() for a in fill_in(old, name).answers for s in a.known)
    assert "so none was missing" not in told
    assert "What never came to be a file the run does not know" in told
    assert "It was not tested on data from elsewhere" not in told
    assert "for the sake of fairness" not in told
    assert "whether anybody else can get it, the run does not know" in known(old, "claim", "43")
    assert "The report says that it is for research alone" in known(old, "tripod", "27b")


def test_a_place_is_named_only_where_the_report_says_something_of_it():
    """No section of the report speaks of heat maps."""
    assert RULES["explanation"].where == ()
    assert {"thresholds", "refer"} <= set(RULES["metrics"].where)  # two of its plots


def test_columns_that_were_noise_divide_the_final_score_too(changed):
    tune = {
        "factors": {"train.batch_size": [8, 16]}, "noise": {"scored.column.site": ["n", "s"]},
        "response": "accuracy", "response_on": "validation", "confirmations": 2,
    }  # fmt: skip
    # A run that was not divided by it does not say so.
    assert "The final model was scored under none of it." in known(
        changed(settings={"tune": tune}), "claim", "30"
    )
    divided = {"subgroups": [{"column": "site", "rows": []}]}
    told = known(changed(settings={"tune": tune}, results=divided), "claim", "30")
    assert "By scored.column.site the final score is divided, too. No images" in told
    tune["noise"]["seed"] = [1, 2]
    assert "The final model was scored under none of the rest." in known(
        changed(settings={"tune": tune}, results=divided), "claim", "30"
    )


def test_blinding_is_unknown_unless_stated(old, changed):
    found = answers_of(old, "stard")["13b"]
    assert found.known == ()
    assert found.state == BY_AUTHORS
    stated = answers_of(changed(settings={"study": {"blinding": "They saw nothing else."}}), "stard")["13b"]
    assert stated.stated == {"blinding": "They saw nothing else."}
    assert stated.state == ANSWERED


def test_a_whole_study_block_leaves_the_abstract_alone_to_the_authors(changed):
    study = dict.fromkeys(StudySettings.model_fields, "As stated.")
    for name in checklist_names():
        found = fill_in(changed(settings={"study": study}), name)
        assert [answer.number for answer in found.answers if answer.state in (PARTLY, BY_AUTHORS)] == ["2"]


class Page(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_odd_texts_are_shown_as_what_they_are_on_the_page_and_in_markdown(changed, tmp_path):
    run = changed(settings={"study": {"funding": ODD, "title": "=1+1"}})
    found = fill_in(run, "claim", tmp_path / "out")
    found.write()
    page = Page(found.files[0].read_text("utf-8"))
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert "<script>alert(1)</script> =1+1 | `x` $y$" in page.text
    text = found.files[1].read_text("utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| 44 |")]
    assert row.count(" | ") == 3
    assert "\\<script\\>alert(1)\\</script\\> =1+1 \\| \\`x\\` \\$y\\$ \\x1b" in row.replace("\\\\", "\\")
    assert "[no](http" not in row
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line.startswith(("# no", "- no"))]


def test_every_row_of_the_markdown_is_one_row_and_every_item_is_there(old, tmp_path):
    for name in checklist_names():
        found = fill_in(old, name, tmp_path)
        found.write()
        rows = re.findall(r"^\| (\d+[a-g]?) \|", found.files[1].read_text("utf-8"), re.MULTILINE)
        assert rows == [answer.number for answer in found.answers]
        page = Page(found.files[0].read_text("utf-8"))
        assert not [href for tag, a in page.tags if tag == "a" and not (href := a["href"]).startswith("#")]
        assert read_checklist(name).printed_in in page.text


@pytest.mark.parametrize(
    "text", ["a|b", "*a*", "_a_", "`a`", "$a$", "<a>", "[a](b)", "# a", "a\\", "~a~", "a&b"]
)
def test_markdown_takes_nothing_for_code(text):
    escaped = escape_markdown(text)
    assert re.sub(r"\\(.)", r"\1", escaped) == text
    assert not re.search(r"(?<!\\)(?:\\\\)*[|*_`$<>\[\]#~&]", escaped)


def test_the_command_writes_both_files_and_prints_json(old, unpacked):
    out = unpacked / "given"
    done = CliRunner().invoke(
        app, ["report", "demo", "--checklist", "claim", "--checklist", "stard", "--out", str(out), "--json"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [each["checklist"] for each in found] == ["claim", "stard"]
    assert len(found[0]["items"]) == 44
    assert sorted(path.name for path in out.iterdir()) == [
        "checklist_claim.html", "checklist_claim.md", "checklist_stard.html", "checklist_stard.md",
    ]  # fmt: skip
    told = CliRunner().invoke(app, ["report", "demo", "--checklist", "claim", "--out", str(out)]).stdout
    assert "All 44 items of the list were checked against a source." in told
    assert "to be stated by the authors" in told


def test_an_interrupted_run_and_an_unknown_list_write_nothing(changed):
    run = changed(state="interrupted")
    (run.folder / "report.json").unlink()
    with pytest.raises(
        ArtifactError, match=r"must hold report.json, but does not \(the run is interrupted\)"
    ):
        fill_in(Run(run.folder), "claim")
    before = sorted(path.name for path in run.folder.iterdir())
    failed = CliRunner().invoke(app, ["report", "demo", "--checklist", "claim", "--checklist", "clam"])
    assert "must be one of claim" in str(failed.exception)
    assert sorted(path.name for path in run.folder.iterdir()) == before


def test_artifacts_that_are_gone_leave_their_sentences_out(changed):
    run = changed(steps=[])
    found = {name: fill_in(run, name) for name in checklist_names()}
    assert all(len(each.answers) == len(read_checklist(name).items) for name, each in found.items())
    assert known(run, "claim", "35") == ""
    assert answers_of(run, "claim")["35"].state == BY_AUTHORS
    assert known(run, "claim", "20").startswith("At which level they are apart cannot be told any more")
