"""Reports: the page stands alone and can be read by anyone, and says what its numbers say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sample_report import (
    CLASSES,
    MALIGNANT,
    make_blocks,
    make_faithful_report,
    make_gallery,
    make_report,
    make_summary,
)

from kerasall.errors import ArtifactError
from kerasall.evaluation.predictions import Predictions
from kerasall.report import page as report_module
from kerasall.report.format import Score, format_value
from kerasall.report.page import Picture, render_page, render_section, write_page
from kerasall.report.pages.run import measure_peak
from kerasall.report.pages.run_training import list_stages, training_section
from kerasall.report.sections import choose_gallery, data_section, gallery_section, subject_section
from kerasall.settings.loading import load_settings

WEAKNESSES = {
    "synthetic": False, "kind": "none", "leaks": 0, "near_duplicates": True, "stained": False, "no_maps": {},
}  # fmt: skip
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Elements of a page in order, as (tag, attributes, parents' tags), and all visible text."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict, tuple[str, ...]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def of(self, *tags: str) -> list[dict]:
        """Attributes of all elements with these tags."""
        return [attributes for tag, attributes, _ in self.elements if tag in tags]


@pytest.fixture(scope="module", params=["honest", "faithful"])
def written(request, tmp_path_factory) -> Path:
    """Folder of a written sample report."""
    folder = tmp_path_factory.mktemp(request.param)
    write_page(folder, make_report() if request.param == "honest" else make_faithful_report())
    return folder


@pytest.fixture(scope="module")
def page(written) -> Page:
    return Page((written / "report.html").read_text(encoding="utf-8"))


def test_page_asks_nothing_of_the_network_and_runs_no_script(written, page):
    html = (written / "report.html").read_text(encoding="utf-8")
    assert not page.of("script", "iframe", "object")
    for attributes in page.of("img", "link", "a"):
        target = attributes.get("src") or attributes.get("href") or ""
        assert target.startswith(("data:", "#")), target
    style = html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert not [name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")]


def test_page_stays_light(written):
    assert (written / "report.html").stat().st_size < 1_500_000


def test_elements_are_closed_and_ids_are_unique_and_found(page):
    assert page.open == []
    ids = Counter(a["id"] for _, a, _ in page.elements if "id" in a)
    assert [name for name, count in ids.items() if count > 1] == []
    targets = {a["aria-labelledby"] for _, a, _ in page.elements if "aria-labelledby" in a}
    targets |= {a["href"][1:] for a in page.of("a")}
    assert targets <= set(ids)


def test_headings_start_at_one_and_skip_no_level(page):
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_picture_has_alternative_text_and_every_table_header_a_scope(page):
    assert page.of("img")
    assert all(len(attributes.get("alt", "")) > 10 for attributes in page.of("img"))
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.of("th"))
    assert all(attributes.get("aria-label") for attributes in page.of("table"))


def test_page_has_language_landmarks_and_a_skip_link(page):
    assert page.of("html")[0]["lang"] == "en"
    assert len(page.of("main")) == len(page.of("nav")) == len(page.of("header")) == 1
    first_link = page.of("a")[0]
    assert first_link["href"] == "#content"
    assert page.of("main")[0]["id"] == "content"
    assert "width=device-width" in next(a for a in page.of("meta") if a.get("name") == "viewport")["content"]


def test_scrolling_regions_can_be_reached_by_keyboard(page):
    regions = [a for _, a, _ in page.elements if "scroll" in a.get("class", "").split()]
    assert regions
    assert all(a["tabindex"] == "0" and a["role"] == "region" for a in regions)


def _variables() -> dict[str, str]:
    style = (Path(report_module.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", style))


def _luminance(color: str) -> float:
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(
    ("ink", "grounds"),
    [
        ("ink", ("paper", "ground", "good-ground", "bad-ground", "warning-ground", "note-ground")),
        ("muted", ("paper", "ground")),
        ("accent", ("paper", "ground")),
        ("good", ("paper", "good-ground")),
        ("bad", ("paper", "bad-ground")),
        ("warning", ("paper", "warning-ground")),
        ("note", ("note-ground",)),
    ],
)
def test_text_contrast_reaches_aa(ink, grounds):
    colors = _variables()
    for ground in grounds:
        light, dark = sorted((_luminance(colors[ink]), _luminance(colors[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_only_a_faithful_copy_is_watermarked():
    banner = "Scores of this report were selected on the data they are reported on"
    faithful, honest = make_faithful_report(), make_report()
    text = Page(render_page(faithful)).text
    assert text.index(banner) < text.index(faithful.title, text.index("Skip"))
    assert "These scores are not a fair test" in text
    assert "watermark-print" in render_page(faithful).split("</style>")[1]
    assert "watermark" not in render_page(honest).split("</style>")[1]


def test_summary_comes_first_and_answers_the_four_questions():
    text = Page(render_page(make_report())).text
    summary = text[text.index("Guessing reaches") - 300 : text.index("Intervals resample")]
    for answer in (
        "97.5%",
        "96.1% to 98.5%",
        "40 blocks of images",
        "11 of 2,752",
        "About 4 in 1,000",
        "Passed every check for export",
        "not a diagnostic device",
        "no patient id",
        "5-fold cross-validation",
    ):
        assert answer in summary


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_page(tmp_path / name, make_faithful_report.__wrapped__())  # made anew each time
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert len(files) > 20
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_numbers_stand_beside_the_page(written):
    document = json.loads((written / "report.json").read_text(encoding="utf-8"))
    assert set(document) == {"schema_version", "title", "protocol", "results"}
    assert document["schema_version"] == 2
    assert document["protocol"] == written.name.rstrip("0123456789")


def test_hostile_text_is_shown_not_run():
    evil = '<script>alert("1")</script><img src=x onerror=alert(1)>'
    sections = (
        render_section("weaknesses", **WEAKNESSES, stated=[evil], departures=[evil]),
        render_section("provenance", command=evil, settings=evil, environment={evil: evil}),
        data_section(
            (evil,), (evil,), np.ones((1, 1), int), None, "subject", fingerprint=evil, sizes={evil: 1},
            errors=[{"message": evil}], warnings=[], duplicates=[evil],
        ),
        subject_section(make_blocks()[:3], ("Benign",), "block", evil),
        make_summary(model=evil, blessed=False, criteria=[(evil, False)]),
    )  # fmt: skip
    page = Page(render_page(report_module.Page(evil, sections, evil, facts={evil: evil})))
    assert not page.of("script")
    assert all(attributes["src"].startswith("data:") for attributes in page.of("img"))
    assert page.text.count(evil) >= 12


@pytest.mark.parametrize("src", ["../outside.svg", "/absolute/x.svg", "figures/x.exe"])
def test_pictures_outside_the_folder_or_of_unknown_kind_are_refused(tmp_path, src):
    picture = Picture(src, "a curve of something", b"x")
    with pytest.raises(ArtifactError, match="src"):
        write_page(
            tmp_path / "report", report_module.Page("t", [render_section("roc", picture=picture, caption="")])
        )
    assert not list(tmp_path.rglob("*"))


def test_words_are_escaped_once():
    section = subject_section(
        make_blocks(), CLASSES, "block", "Chosen by the model's probability & <chance>."
    )
    text = Page(render_page(report_module.Page("t", [section]))).text
    assert "model's probability & <chance>." in text


def test_a_section_without_content_is_left_out():
    assert render_section("weaknesses", **WEAKNESSES, stated=(), departures=()) is not None
    assert render_section("combinations", tables=()) is None


def test_only_a_perfect_share_reads_one_hundred_percent():
    values = (1.0, 0.99996, 0.9996, 0.95, 0.0004, 0.00001, 0.0, float("nan"))
    texts = ["100.0%", "> 99.99%", "99.96%", "95.0%", "0.04%", "< 0.01%", "0.0%", "–"]
    assert [format_value(value) for value in values] == texts
    assert format_value(0.98765, percent=False) == "0.988"


def _tiles(section) -> list[tuple[str, str]]:
    """Class and text of every large figure."""
    return [
        (found[0], Page(found[1]).text)
        for found in re.findall(r'<div class="(tile[^"]*)">(.*?)</div>', section.body, re.DOTALL)
    ]


def test_summary_without_malignant_classes_or_interval_says_so():
    ((_, text),) = _tiles(make_summary(main=Score("Accuracy", 0.9), missed=None, others=[]))
    assert "No interval." in text


def test_summary_says_of_which_model_each_score_is():
    held_out = {
        "score": Score("Accuracy", 0.814, 0.77, 0.85, groups=51, over="51 groups"),
        "images": 8000,
        "far": "15.1 points lower",
        "chosen": False,
    }
    training = {"parameters": 1, "how": None, "stages": [1], "each": False, "final": [[7]]}
    section = make_summary(
        main=Score("Accuracy", 0.663), held_out=held_out, missed=None, others=[], training=training
    )
    (_, final), (_, folds) = _tiles(section)
    assert "Of the final model, on the test part" in final
    assert "Of the folds' models, on 8,000 images, each while held out" in folds
    assert "77.0% to 85.0%, 51 groups" in folds
    assert "flatter" not in folds
    chosen = make_summary(held_out=held_out | {"chosen": True}, missed=None, others=[])
    assert "chosen on these very predictions: they flatter" in _tiles(chosen)[1][1]
    assert "on the test part is 15.1 points lower" in folds
    assert "the score is that of this final model on the test part" in Page(section.body).text
    assert "the score is that of the folds' models" in Page(make_summary(training=training).body).text


def test_summary_draws_no_range_for_scores_outside_zero_to_one():
    loss = Score("Log loss", 1.7, 1.2, 2.1, percent=False)
    undefined = Score("Kappa", float("nan"), percent=False)
    absent = Score("ROC AUC", None, percent=False)
    section = make_summary(missed=None, others=[loss, undefined, absent])
    assert section.body.count('class="range"') == 1
    assert ["–" in text for _, text in _tiles(section)[2:]] == [True, True]


def test_a_refused_model_shows_the_reasons():
    criteria = [("parity", True), ("sensitivity 81% is below the floor of 95%", False)]
    page = Page(make_summary(blessed=False, criteria=criteria).body)
    (alert,) = [a for a in page.of("div") if "alert-bad" in a.get("class", "")]
    assert alert["aria-label"] == "Did not pass the checks for export"
    assert [a["class"] for a in page.of("li") if a.get("class")] == ["met", "unmet"]


def test_missed_malignant_cells_are_counted_and_put_in_a_thousand():
    sensitivity = Score("Sensitivity", 0.9204, 0.861, 0.957)
    missed = {"called_benign": 97, "total": 1219, "sensitivity": sensitivity, "specificity": Score("S", 0.7)}
    tone, text = _tiles(make_summary(missed=missed))[1]
    assert tone == "tile tone-bad"
    for words in ("97 of 1,219", "About 80 in 1,000", "86.1% to 95.7%"):
        assert words in text


@pytest.mark.parametrize(("specificity", "tone"), [(0.0, "warning"), (0.9, "good")])
def test_missing_none_by_calling_everything_malignant_is_no_merit(specificity, tone):
    found = {"sensitivity": Score("Sensitivity", 1.0), "specificity": Score("Specificity", specificity)}
    shown, text = _tiles(make_summary(missed={"called_benign": 0, "total": 11, **found}))[1]
    assert shown == f"tile tone-{tone}"
    assert ("only 0.0% are called benign" in text) is (specificity == 0)


def _items(section) -> list[tuple[str, str]]:
    """Tone and text of every picture of a gallery, in order."""
    return [
        (tone, Page(text).text)
        for tone, text in re.findall(r'<li class="item tone-(\w+)">(.*?)</li>', section.body, re.DOTALL)
    ]


def test_gallery_puts_wrong_calls_first_and_marks_missed_malignant_ones():
    section = gallery_section(make_gallery(), MALIGNANT)
    tones = [tone for tone, _ in _items(section)]
    assert tones == sorted(tones)  # bad, good
    missed = [text for _, text in _items(section) if "malignant called benign" in text]
    assert missed == [text for tone, text in _items(section) if tone == "bad" and "→ Benign" in text]
    assert missed
    assert all(len(picture.content) < 30_000 for picture in section.pictures)


def test_a_share_of_votes_is_not_told_as_a_probability():
    images = [replace(image, probability=2 / 3, voters=3) for image in make_gallery()]
    section = gallery_section(images, ())
    assert all("2 of 3 votes" in text for _, text in _items(section))
    assert all("2 of 3 votes" in picture.alt for picture in section.pictures)
    assert "probability" not in section.intro


def test_gallery_without_wrong_calls_shows_only_right_ones():
    images = [image for image in make_gallery() if image.right]
    assert "Wrong calls" not in gallery_section(images, ()).body
    assert gallery_section([], ()) is None


def test_a_gallery_shows_the_surest_mistakes_and_right_calls_of_any_kind():
    labels = np.array([0, 1] * 20)
    decisions = np.where(np.arange(40) < 10, 1 - labels, labels)
    sure = 0.6 + 0.001 * np.arange(40)[:, None]
    probabilities = np.where(np.eye(2, dtype=bool)[decisions], sure, 1 - sure)
    names = np.array([f"i{number}" for number in range(40)])
    predictions = Predictions(names, names, names, labels, probabilities, ("a", "b"), decisions)
    rows = choose_gallery(predictions, 12, seed=0)
    assert rows[:6] == [9, 8, 7, 6, 5, 4]
    assert len(rows) == 12
    assert all(row >= 10 for row in rows[6:])


def test_subjects_stand_worst_first_and_long_tables_scroll():
    section = subject_section(make_blocks(), ("Benign", "Early", "Pre", "Pro"), "block")
    shares = [float(text) for text in re.findall(r'<span style="width:([\d.]+)%', section.body)]
    assert shares == sorted(shares)
    assert 'class="scroll tall"' in section.body
    assert '<th scope="col">Block</th>' in section.body


def test_data_section_shows_totals_and_anomalies():
    images, subjects = np.array([[5, 2], [1, 9]]), np.array([[2, 1], [1, 3]])
    words = {"fingerprint": "", "sizes": {"8x8": 17}, "warnings": (), "duplicates": ()}
    section = data_section(
        ("a", "b"),
        ("train", "test"),
        images,
        subjects,
        "subject",
        errors=[{"message": "x.bmp is empty"}],
        **words,
    )
    last = section.body[section.body.index('<th scope="row">All</th>') :]
    assert re.findall(r'<td class="number">(.*?)</td>', last) == ["6 (3)", "11 (4)", "17 (7)"]
    assert "1 error about the data" in section.body
    clean = data_section(("a", "b"), ("train", "test"), images, subjects, "subject", errors=(), **words)
    assert "alert-good" in clean.body


def test_training_without_histories_has_no_figures():
    section = training_section([("head", {"Epochs": "3"}, [])], "")
    assert "<figure" not in section.body


def test_the_peak_of_memory_is_of_this_program_and_not_of_what_started_it():
    held = np.ones(1 << 30, np.uint8)  # of the parent
    code = """
import numpy as np
from kerasall.report.pages.run import measure_peak
before = measure_peak()
held = np.ones(1 << 28, np.uint8)
assert before < len(held) * 4 and measure_peak() >= before + len(held) // 2
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert measure_peak() >= len(held)


def test_epochs_are_called_up_to_so_many_only_where_a_stage_could_have_ended_early():
    settings = load_settings("aria_mobilenet", ["train.stages.0.patience=3"])

    def epochs(val_loss) -> str:
        row = {"loss": 0.5, "accuracy": 0.9, "val_loss": val_loss, "val_accuracy": val_loss}
        fits = {"fold_0": [{"epochs": [row], "best_epoch": 1}]}
        ((_, facts, _),) = list_stages({"fits": fits}, settings)
        return facts["Epochs"]

    assert (epochs(0.6), epochs(None)) == ("up to 40, patience 3", "40")
