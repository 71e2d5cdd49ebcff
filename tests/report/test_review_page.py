"""The page for experts: well formed, self-contained, nothing of a file's name is markup, answers become labels."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from page_tables import read_tables, texts
from PIL import Image

from kerasall.data.examples import Collection, make_examples
from kerasall.data.label_corrections import Correction, CorrectionFile, apply_corrections
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.review import ReviewQueue, ReviewRecord, ReviewSource, build_queue
from kerasall.report.pages.review import PageFacts, review_section, to_table, write_review_page
from kerasall.report.pages.run import corrections_section

CLASSES = ("all", "hem")
EVIL = 'all/<script>alert(1)</script>"onload=x.png'
VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """Elements of a page; fails on tags that do not close in order."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, (tag, self.getpos())

    def all(self, tag: str, **having: str) -> list[dict[str, str | None]]:
        wanted = having.items()
        return [found for name, found in self.elements if name == tag and wanted <= found.items()]


@pytest.fixture
def record(tmp_path) -> ReviewRecord:
    """Three cells that two of three members get wrong, one of them of a hostile name, one of them deleted since."""
    ids = [EVIL, "hem/b.png", "all/gone.png", "hem/fine.png"]
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((40, 50, 3), 60 * number, np.uint8)).save(path)
    paths[2].unlink()
    labels = [0, 1, 0, 1]
    wrong, right = np.array([[0.2, 0.8], [0.9, 0.1]]), np.array([[0.8, 0.2], [0.1, 0.9]])
    shares = [
        np.stack([(wrong if n < 3 and k else right)[label] for n, label in enumerate(labels)])
        for k in range(3)
    ]
    members = {
        f"m{k}": Predictions(ids, ["<i>S1</i>"] * 4, ids, labels, shares[k], CLASSES) for k in range(3)
    }
    images = pd.DataFrame(
        {
            "id": ids,
            "path": [str(path) for path in paths],
            "label": [CLASSES[label] for label in labels],
            "subject": "<i>S1</i>",
            "group": ids,
            "part": "test",
        }
    )
    return ReviewRecord(CLASSES, [ReviewSource("test", members["m1"], members)], images)


@pytest.fixture
def queue(record) -> ReviewQueue:
    return build_queue(record)


def test_every_image_has_its_picture_votes_and_choices(queue, tmp_path):
    write_review_page(queue, tmp_path / "out" / "review.html", PageFacts("a run"))
    page = Page(tmp_path / "out" / "review.html")
    articles = page.all("article")
    assert [each["data-id"] for each in articles] == [item.id for item in queue.items]
    assert [each["data-label"] for each in articles] == [item.label for item in queue.items]
    assert len(page.all("img")) == 2  # one file is gone
    for item in queue.items:
        values = [radio["value"] for radio in page.all("input", type="radio", name=f"answer-{item.rank}")]
        assert values == [*CLASSES, "exclude"]
        assert page.all("label", **{"for": f"image-{item.rank}-comment"})
    named = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(named) == len(set(named))
    pointed = [part for _, each in page.elements for part in (each.get("aria-labelledby") or "").split()]
    assert set(pointed) <= set(named)
    assert all(image["alt"] for image in page.all("img"))


def test_nothing_of_a_file_name_is_markup_and_nothing_is_asked_of_the_network(queue, tmp_path):
    write_review_page(queue, tmp_path / "review.html", PageFacts("<b>run</b>"))
    text = (tmp_path / "review.html").read_text(encoding="utf-8")
    page = Page(tmp_path / "review.html")
    assert EVIL in [each["data-id"] for each in page.all("article")]
    assert len(page.all("script")) == 1
    assert "<script>alert" not in text
    assert not page.all("i")
    assert not page.all("b", onload="x.png")
    assert "http://" not in text
    assert "https://" not in text
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.all("img"))
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert f"script-src 'sha256-{digest}'" in (policy["content"] or "")
    assert "default-src 'none'" in (policy["content"] or "")


def test_an_overlay_stands_beside_the_image_where_there_is_one(queue, tmp_path):
    def overlay(item):
        return (
            None
            if item.label == "hem"
            else (np.zeros((20, 20, 3), np.uint8), f"Where it sees {item.decision}")
        )

    facts = PageFacts("a run", overlay=overlay)
    write_review_page(queue, tmp_path / "review.html", facts)
    alts = [image["alt"] or "" for image in Page(tmp_path / "review.html").all("img")]
    assert sum("Where it sees hem" in alt for alt in alts) == 1
    assert len(alts) == 3


def test_an_empty_queue_is_said_to_be_empty(queue, tmp_path):
    write_review_page(replace(queue, items=[]), tmp_path / "review.html", PageFacts("a run"))
    assert "The queue is empty" in (tmp_path / "review.html").read_text(encoding="utf-8")


def test_the_filled_table_becomes_new_labels(record, queue, tmp_path):
    rows = record.images[["id", "path", "label", "subject"]].to_dict("records")
    collection = Collection("folder", tmp_path, make_examples(rows), CLASSES, subject_kind="subject")
    table = to_table(queue)
    assert table["id"].tolist() == [item.id for item in queue.items]
    decided = {EVIL: "hem", "hem/b.png": "hem", "all/gone.png": "exclude"}
    table["corrected_label"] = table["id"].map(decided)
    table["reviewer"] = "Dr. Ada"
    table.to_csv(tmp_path / "review.csv", index=False)
    corrected, (file,) = apply_corrections(collection, [tmp_path / "review.csv"])
    labels = dict(zip(corrected.examples["id"], corrected.examples["label"], strict=True))
    assert labels == {EVIL: "hem", "hem/b.png": "hem", "hem/fine.png": "hem"}
    assert {each.id: each.kind for each in file.corrections} == {
        EVIL: "changed",
        "hem/b.png": "confirmed",
        "all/gone.png": "excluded",
    }


def test_the_report_shows_the_head_and_the_command(queue):
    section = review_section(queue, "my_run")
    assert re.findall(r'<span class="title">(.*?)</span>', section.body) == ["hem → all", "all → hem"]
    assert len(section.pictures) == 2
    assert "<code>kerasall review my_run</code>" in section.body
    assert "No label was changed" in section.intro


def corrections(part: str) -> list[CorrectionFile]:
    confirmed = [Correction(f"c{number}", "all", "all") for number in range(3)]
    changed = [
        Correction("a", "all", "hem", "Dr. Ada", part=part),
        Correction("b", "hem", "exclude", part=part),
    ]
    return [CorrectionFile("c.csv", "f" * 64, (*changed, *confirmed))]


def test_corrections_of_scored_images_are_said_to_make_another_set():
    score = {"title": "Accuracy", "before": "90.0%", "after": "95.0%"}
    body = corrections_section(corrections("test"), ["a", "x"], "test", score, frozen=True).body
    assert "alert-warning" in body
    assert "1 of the 2 scored images (test) carry a corrected label, and 1 were left out" in body
    assert "95.0% on the corrected labels, 90.0% on those before" in body
    tables = {caption: texts(rows) for caption, rows in read_tables(body).items()}
    assert tables["Files of corrections"][1][:4] == ["c.csv", "1", "1", "3"]
    assert [row[:3] for row in tables["Every change"][1:]] == [["a", "all", "hem"], ["b", "hem", "left out"]]


def test_corrections_of_training_images_raise_no_alarm_but_a_new_split_does():
    body = corrections_section(corrections("train"), ["x"], "test", None, frozen=True).body
    assert "alert" not in body
    body = corrections_section(corrections("train"), ["x"], "test", None, frozen=False).body
    assert "alert-note" in body
    assert "split.file" in body


def test_no_corrections_no_section():
    assert corrections_section([], ["x"], "test", None, frozen=False) is None


def test_a_carriage_return_in_a_name_reaches_the_script_as_it_is(record, tmp_path):
    images = record.images.assign(id=record.images["id"].replace("hem/b.png", "hem/b\r\n.png"))
    sources = [
        replace(
            each,
            predictions=renamed(each.predictions),
            members={name: renamed(member) for name, member in each.members.items()},
        )
        for each in record.sources
    ]
    queue = build_queue(replace(record, images=images, sources=sources))
    write_review_page(queue, tmp_path / "review.html", PageFacts("title"))
    page = (tmp_path / "review.html").read_bytes().decode()
    assert 'data-id="hem/b&#13;\n.png"' in page
    assert "hem/b\r\n.png" in [item["data-id"] for item in Page(tmp_path / "review.html").all("article")]


def renamed(predictions: Predictions) -> Predictions:
    return replace(
        predictions, ids=np.where(predictions.ids == "hem/b.png", "hem/b\r\n.png", predictions.ids)
    )
