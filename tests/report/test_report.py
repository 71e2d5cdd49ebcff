"""Reports: the document keeps its schema, the page stands alone and can be read by anyone."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sample_report import MALIGNANT, make_blocks, make_faithful_report, make_gallery, make_report

from kerasall.errors import ArtifactError
from kerasall.report import page as report_module
from kerasall.report.background import DataFacts, Stage, data_section, training_section
from kerasall.report.document import (
    Alert,
    Check,
    Code,
    Column,
    FigureBlock,
    Gallery,
    Heading,
    List,
    Report,
    Scores,
    Section,
    Table,
    Text,
    json_schema,
)
from kerasall.report.page import read_report, render_html, write_report
from kerasall.report.scores import gallery_section, subject_section
from kerasall.report.summary import MissedMalignant, Score, Verdict, format_value, summary_section

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
    write_report(folder, make_report() if request.param == "honest" else make_faithful_report())
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
    assert all("aria-labelledby" in attributes for attributes in page.of("table"))


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
    text = Page(render_html(faithful, faithful.figures())).text
    assert text.index(banner) < text.index(faithful.title, text.index("Skip"))
    assert "These scores are not a fair test" in text
    assert "watermark-print" in render_html(faithful, faithful.figures()).split("</style>")[1]
    assert "watermark" not in render_html(honest, honest.figures()).split("</style>")[1]


def test_summary_comes_first_and_answers_the_four_questions():
    document = make_report()
    text = Page(render_html(document, document.figures())).text
    summary = text[text.index("Accuracy (out of fold)") : text.index("Intervals come from")]
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


def test_reading_back_gives_the_same_document_and_page(written):
    document, figures = read_report(written)
    assert document.to_json() == json.loads((written / "report.json").read_text(encoding="utf-8"))
    assert render_html(document, figures) == (written / "report.html").read_text(encoding="utf-8")


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_report(tmp_path / name, make_faithful_report.__wrapped__())  # made anew each time
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert len(files) > 20
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_plain_document_with_given_pictures_is_written(tmp_path):
    document = make_report()
    path = write_report(tmp_path, document.to_json(), document.figures())
    assert path == tmp_path / "report.html"
    assert (tmp_path / "figures" / "confusion.svg").read_bytes() == document.figures()[
        "figures/confusion.svg"
    ]


def test_pictures_do_not_swell_the_json():
    assert len(json.dumps(make_report().to_json())) < 100_000


def test_hostile_text_is_shown_not_run():
    evil = '<script>alert("1")</script><img src=x onerror=alert(1)>'
    blocks = (
        Heading(evil),
        Text((evil,)),
        List((evil,)),
        Alert("note", evil, evil, (Check(evil),)),
        Table(evil, (Column(evil),), ((evil,),), (evil,)),
        Code(evil, evil),
    )
    page = Page(render_html(Report(evil, evil, sections=(Section("a", evil, evil, blocks),)), {}))
    assert not page.of("script", "img")
    assert page.text.count(evil) >= 12


def _broken(change) -> dict:
    document = make_report().to_json()
    change(document)
    return document


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d.pop("title"), "title"),
        (lambda d: d.update(schema_version=2), "schema_version"),
        (lambda d: d.update(protocol="dishonest"), "protocol"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d["sections"][0]["blocks"][0].update(type="video"), "sections.0.blocks.0"),
        (lambda d: d["sections"][0]["blocks"][1].update(level="fine"), "level"),
        (lambda d: d["sections"][1]["blocks"][0]["rows"][0].pop(), "sections.1.blocks.0"),
        (lambda d: d["sections"].append(d["sections"][0]), "unique"),
        (lambda d: d["sections"][0].update(id="Not an anchor"), "id"),
        (lambda d: d["sections"][2]["blocks"][0].update(alt=""), "alt"),
        (lambda d: d["results"].update(accuracy=float("nan")), "JSON"),
        (lambda d: d["results"].update(accuracy={1, 2}), "JSON"),
    ],
)
def test_a_document_that_breaks_the_schema_is_refused_naming_the_place(tmp_path, change, place):
    with pytest.raises(ArtifactError, match=place):
        write_report(tmp_path / "out", _broken(change), make_report().figures())
    assert not (tmp_path / "out").exists()


def test_json_schema_describes_what_is_written():
    schema = json_schema()
    document = make_report().to_json()
    assert set(schema["properties"]) == set(document)
    assert "content" not in json.dumps(schema)


@pytest.mark.parametrize("src", ["../outside.svg", "/absolute/x.svg", "figures/x.exe"])
def test_pictures_outside_the_folder_or_of_unknown_kind_are_refused(tmp_path, src):
    with pytest.raises(ArtifactError, match="src"):
        write_report(tmp_path / "report", Report("t"), {src: b"x"})
    assert not list(tmp_path.rglob("*"))


def test_a_missing_picture_is_refused_by_name(tmp_path):
    document = Report(
        "t", sections=(Section("a", "A", blocks=(FigureBlock("figures/gone.svg", "a curve"),)),)
    )
    with pytest.raises(ArtifactError, match=r"gone\.svg"):
        write_report(tmp_path, document)
    write_report(tmp_path, document, {"figures/gone.svg": b"<svg/>"})
    (tmp_path / "figures" / "gone.svg").unlink()
    with pytest.raises(ArtifactError, match=r"gone\.svg"):
        read_report(tmp_path)


def test_a_section_of_a_later_system_needs_no_new_template():
    document = make_report()
    later = Section("refer", "What to refer to an expert", blocks=(Text(("Five in a hundred.",)),))
    page = Page(render_html(replace(document, sections=(*document.sections, later)), document.figures()))
    assert {"href": "#refer"} in page.of("a")
    assert "Five in a hundred." in page.text


def test_only_a_perfect_share_reads_one_hundred_percent():
    values = (1.0, 0.99996, 0.9996, 0.95, 0.0004, 0.00001, 0.0, float("nan"))
    texts = ["100.0%", "> 99.99%", "99.96%", "95.0%", "0.04%", "< 0.01%", "0.0%", "–"]
    assert [format_value(value) for value in values] == texts
    assert format_value(0.98765, percent=False) == "0.988"


def _summary(**changes) -> Section:
    plain = {
        "trained": "a network",
        "data": "cells",
        "split": "by patient",
        "main": Score("Accuracy", 0.9, 0.85, 0.93),
        "resampled": "28 patients",
        "verdict": Verdict(True, (("parity", True),)),
    }
    return summary_section(**(plain | changes))


def test_summary_without_malignant_classes_or_interval_says_so():
    scores = next(b for b in _summary(main=Score("Accuracy", 0.9)).blocks if isinstance(b, Scores))
    assert [tile.label for tile in scores.items] == ["Accuracy"]
    assert scores.items[0].detail == "No interval."
    assert scores.items[0].range.low is None


def test_summary_draws_no_range_for_scores_outside_zero_to_one():
    loss = Score("Log loss", 1.7, 1.2, 2.1, percent=False)
    undefined = Score("Kappa", float("nan"), percent=False)
    absent = Score("ROC AUC", None, percent=False)
    scores = next(b for b in _summary(others=(loss, undefined, absent)).blocks if isinstance(b, Scores))
    assert [tile.range is None for tile in scores.items] == [False, True, True, True]
    assert [tile.value for tile in scores.items[2:]] == ["–", "–"]


def test_a_refused_model_shows_the_reasons_and_whether_it_was_forced():
    verdict = Verdict(
        False, (("parity", True), ("sensitivity 81% is below the floor of 95%", False)), forced=True
    )
    alert = next(b for b in _summary(verdict=verdict).blocks if isinstance(b, Alert))
    assert alert.level == "bad"
    assert [check.met for check in alert.items] == [True, False]
    assert "by force" in alert.text


def test_missed_malignant_cells_are_counted_and_put_in_a_thousand():
    missed = MissedMalignant(97, 1219, Score("Sensitivity", 0.9204, 0.861, 0.957))
    tile = next(b for b in _summary(missed=missed).blocks if isinstance(b, Scores)).items[1]
    assert (tile.value, tile.tone) == ("97 of 1,219", "bad")
    assert "About 80 in 1,000" in tile.detail
    assert "86.1% to 95.7%" in tile.detail


@pytest.mark.parametrize(("specificity", "tone"), [(0.0, "warning"), (0.9, "good")])
def test_missing_none_by_calling_everything_malignant_is_no_merit(specificity, tone):
    missed = MissedMalignant(0, 11, Score("Sensitivity", 1.0), Score("Specificity", specificity))
    tile = next(b for b in _summary(missed=missed).blocks if isinstance(b, Scores)).items[1]
    assert tile.tone == tone
    assert ("only 0.0% are called benign" in tile.detail) is (specificity == 0)


def test_gallery_puts_wrong_calls_first_and_marks_missed_malignant_ones():
    section = gallery_section(make_gallery(), MALIGNANT)
    wrong, right = (block for block in section.blocks if isinstance(block, Gallery))
    assert {item.tone for item in wrong.items} == {"bad"}
    assert {item.tone for item in right.items} == {"good"}
    missed = [item.title for item in wrong.items if "malignant called benign" in item.text]
    assert missed == [item.title for item in wrong.items if item.title.endswith("→ Benign")]
    assert missed
    assert all(len(item.content) < 30_000 for item in wrong.items + right.items)


def test_a_share_of_votes_is_not_told_as_a_probability():
    images = [replace(image, probability=2 / 3, voters=3) for image in make_gallery()]
    section = gallery_section(images)
    items = [item for block in section.blocks if isinstance(block, Gallery) for item in block.items]
    assert all("2 of 3 votes" in item.text and "2 of 3 votes" in item.alt for item in items)
    assert "probability" not in section.intro


def test_gallery_without_wrong_calls_shows_only_right_ones():
    images = [image for image in make_gallery() if image.right]
    assert [type(b) for b in gallery_section(images).blocks] == [Heading, Gallery]
    assert gallery_section([]).blocks == ()


def test_subjects_stand_worst_first_and_long_tables_scroll():
    table = next(
        b
        for b in subject_section(make_blocks(), ("Benign", "Early", "Pre", "Pro"), "block").blocks
        if isinstance(b, Table)
    )
    shares = [row[-1].share for row in table.rows]
    assert shares == sorted(shares)
    assert table.tall
    assert table.columns[0].label == "Block"


def test_data_section_shows_totals_and_anomalies():
    facts = DataFacts(
        ("a", "b"),
        ("train", "test"),
        np.array([[5, 2], [1, 9]]),
        np.array([[2, 1], [1, 3]]),
        errors=("x.bmp is empty",),
    )
    section = data_section(facts)
    table = next(b for b in section.blocks if isinstance(b, Table))
    assert table.rows[-1] == ("All", "6 (3)", "11 (4)", "17 (7)")
    assert [b.title for b in section.blocks if isinstance(b, Alert)] == ["1 error about the data"]
    clean = data_section(replace(facts, errors=()))
    assert [b.level for b in clean.blocks if isinstance(b, Alert)] == ["good"]


def test_training_without_histories_has_no_figures():
    section = training_section((Stage("head", {"Epochs": "3"}, ()),))
    assert not [b for b in section.blocks if isinstance(b, FigureBlock)]
