"""The page of trials in a real browser: sorting, filtering, finding a trial's line; and without a script.

Needs Playwright and a Chromium (KERASALL_TEST_CHROMIUM, default /usr/bin/chromium); skipped without.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import keras_tuner
import pytest

from kerasall.report.pages.trials import write_trial_page
from kerasall.taguchi.oracle import TaguchiOracle
from kerasall.taguchi.trial_events import TrialListing, list_trials

playwright = pytest.importorskip("playwright.sync_api", reason="the browser's tests need playwright")
CHROMIUM = os.environ.get("KERASALL_TEST_CHROMIUM", "/usr/bin/chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"the browser's tests need {CHROMIUM}"),
]
SCORES: list[float | None] = [0.25, None, 0.75, 0.5]


@pytest.fixture(scope="module")
def listing(tmp_path_factory) -> TrialListing:
    """Four trials of two epochs, the second of which failed."""
    folder = tmp_path_factory.mktemp("project")
    oracle = TaguchiOracle(
        keras_tuner.Objective("score", "max"),
        {"a": ["x", "y"]},
        array="L4",
        repeats=1,
        max_retries_per_trial=0,
    )
    oracle.verbose = 0
    oracle._set_project_dir(str(folder), "p")
    for number, score in enumerate(SCORES):
        trial = oracle.create_trial("tuner0")
        rows = [{"loss": 1.0}, {"loss": 0.5 + number / 9}]
        (folder / "p" / f"trial_{trial.trial_id}" / "epochs.json").write_text(json.dumps(rows))
        if score is not None:
            oracle.update_trial(trial.trial_id, {"score": score})
        trial.status = "FAILED" if score is None else "COMPLETED"
        trial.message = "lost the device" if score is None else None
        oracle.end_trial(trial)
    return list_trials(folder / "p")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(params=[(1200, True), (390, True), (390, False)], ids=["wide", "phone", "no script"])
def opened(request, browser, listing, tmp_path):
    """The page; at the end no script may have failed and nothing may have been asked for elsewhere."""
    width, script = request.param
    write_trial_page(tmp_path / "trials.html", listing, "p")
    context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=script)
    page, asked, complaints = context.new_page(), [], []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"file://{tmp_path / 'trials.html'}")
    yield page, script
    context.close()
    assert not complaints
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def shown(page) -> list[str]:
    return page.locator("#table tbody tr:visible th").all_inner_texts()


def test_the_table_sorts_filters_and_lights_its_lines(opened):
    page, script = opened
    assert [text[:4] for text in shown(page)] == ["0000", "0001", "0002", "0003"]
    assert page.locator("#filter").is_visible() == script
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    if not script:
        assert page.locator("thead button").count() == 0
        return
    assert page.evaluate(overflow) == 0  # wide things scroll by themselves
    heading = page.locator("thead th", has_text="score")
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [text[:4] for text in shown(page)] == ["0000", "0003", "0002", "0001"]  # an absent score is last
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [text[:4] for text in shown(page)] == ["0002", "0003", "0000", "0001"]

    page.get_by_label("failed (1)").uncheck()
    assert [text[:4] for text in shown(page)] == ["0002", "0003", "0000"]
    assert "3 of 4 shown" in page.locator("#shown").inner_text()
    assert page.locator('svg .trial.off[data-trial="0001"]').count() == 1  # its curve

    page.locator('tr[data-trial="0003"] td').first.hover()
    assert {e.get_attribute("data-trial") for e in page.locator("svg .trial.lit").all()} == {"0003"}
    page.locator("h1").hover()
    assert page.locator(".lit").count() == 0


def test_what_a_failed_trial_said_is_there(opened):
    page, _ = opened
    page.locator("summary").click()
    assert page.get_by_text("lost the device").is_visible()
