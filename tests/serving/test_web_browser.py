"""The page in a real browser: images of each class and a broken one, by choosing, dropping and keyboard.

Needs Playwright and a Chromium (KERASALL_TEST_CHROMIUM, default /usr/bin/chromium); skipped without.
Set KERASALL_TEST_SCREENSHOTS to a folder to keep pictures of what was seen.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from web_server import TOLERANT_LIMITS, export_plain_model, picture, serving

from kerasall.data.synthetic import SyntheticSettings, render_cells
from kerasall.serving.web.server import format_share

playwright = pytest.importorskip("playwright.sync_api", reason="the browser's tests need playwright")
CHROMIUM = os.environ.get("KERASALL_TEST_CHROMIUM", "/usr/bin/chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"the browser's tests need {CHROMIUM}"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """A rendered cell of each class, another kind of file, one that lies about its kind, one cut off."""
    folder = tmp_path_factory.mktemp("cells")
    examples = render_cells(folder / "rendered", SyntheticSettings("cnmc", 2, 2, size=128)).examples
    chosen = [Path(p) for p in examples.groupby("label")["path"].first()]
    (folder / "photo.tif").write_bytes(picture(3, "TIFF", (60, 50)))
    (folder / "broken.png").write_bytes(picture(1)[:200])
    (folder / "=cmd,<b>.jpg").write_bytes(picture(5, "JPEG", (90, 60)))
    return [*chosen, folder / "photo.tif", folder / "broken.png", folder / "=cmd,<b>.jpg"]


@pytest.fixture(scope="module")
def running(web_model):
    with serving(web_model, TOLERANT_LIMITS) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture(params=[1200, 390])
def page(request, browser, running):
    """The opened page; at the end nothing may have gone elsewhere, been blocked, or failed in a script."""
    context = browser.new_context(viewport={"width": request.param, "height": 900}, accept_downloads=True)
    opened = context.new_page()
    asked, complaints = [], []
    opened.on("request", lambda sent: asked.append(sent.url))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console", lambda line: complaints.append(line.text) if "Security Policy" in line.text else None
    )
    opened.goto(f"http://127.0.0.1:{running.port}/")
    yield opened
    context.close()
    assert not complaints
    own = (f"http://127.0.0.1:{running.port}/", f"blob:http://127.0.0.1:{running.port}/", "data:")
    assert [url for url in asked if not url.startswith(own)] == []


def shoot(page, name: str) -> None:
    if folder := os.environ.get("KERASALL_TEST_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}_{page.viewport_size['width']}.png", full_page=True)


def wait_for_cards(page, count: int) -> None:
    # Not wait_for_function, which evaluates text: the page's policy forbids that.
    page.locator(".card .answer, .card .alert.bad").nth(count - 1).wait_for(timeout=30_000)


def test_cards_tell_what_the_api_tells(page, files, running):
    shoot(page, "empty")
    page.set_input_files("#files", [str(path) for path in files])
    wait_for_cards(page, len(files))
    shoot(page, "cards")
    cards = page.locator(".card")
    for number, path in enumerate(files):
        reply = running.predict((path.name, path.read_bytes()))
        card = cards.nth(number)
        assert path.name in card.locator(".name").inner_text()
        if reply.status != 200:
            assert card.locator(".alert.bad").inner_text() == reply.json["error"]
            continue
        result = reply.json["results"][0]
        assert card.locator(".label").inner_text() == result["label"]
        assert card.locator(".probability").inner_text() == format_share(result["probability"])
        assert card.locator("meter").count() == 2
        assert ("Refer to a person" in card.inner_text()) == result["refer"]
        card.locator("summary").click()
        assert "first" in card.locator(".members").inner_text()
    assert "1 could not be read" in page.locator("#summary").inner_text()
    assert page.locator(".card b").count() == 0
    shoot(page, "members")


def test_shares_read_alike_with_and_without_javascript(page):
    for share in (1.0, 0.9996, 0.9994, 0.3, 1 / 16, 0.0006, 1e-9, 0.0):
        for votes in (True, False):
            shown = page.evaluate("([share, votes]) => percent(share, votes)", [share, votes])
            assert shown == format_share(share, votes)


def test_the_overlay_comes_and_goes(page, files):
    page.set_input_files("#files", str(files[0]))
    wait_for_cards(page, 1)
    button, canvas = page.locator(".picture button"), page.locator(".picture canvas")
    pixels = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 256, 256).data).join()"
    plain = canvas.evaluate(pixels)
    assert len(set(plain.split(","))) > 20
    button.click()
    page.wait_for_selector("button[aria-pressed=true]")
    shown = canvas.evaluate(pixels)
    assert shown != plain
    assert "more evidence for" in page.locator(".picture .note").inner_text()
    shoot(page, "overlay")
    button.click()
    page.wait_for_selector("button[aria-pressed=false]")
    assert canvas.evaluate(pixels) == plain


def test_the_table_holds_every_image(page, files, running):
    page.set_input_files("#files", [str(path) for path in files])
    wait_for_cards(page, len(files))
    with page.expect_download() as caught:
        page.click("#download")
    text = Path(caught.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["path"].lstrip("'") for row in rows] == [path.name for path in files]
    assert rows[-1]["path"].startswith("'=")
    for row, path in zip(rows, files, strict=True):
        reply = running.predict((path.name, path.read_bytes()))
        if reply.status == 200:
            result = reply.json["results"][0]
            assert row["label"] == result["label"]
            assert float(row["all"]) == pytest.approx(result["probabilities"]["all"], abs=1e-8)
            assert row["refer"] == str(result["refer"]).lower()
        else:
            assert row["error"] == reply.json["error"]


def test_drop_and_keyboard(page, files):
    payload = page.evaluate_handle(
        """() => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array([66, 77])], "dropped.bmp")); return data; }"""
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": payload})
    wait_for_cards(page, 1)
    assert "dropped.bmp" in page.locator(".card").inner_text()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "files":
            break
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(str(files[0]))
    wait_for_cards(page, 2)
    page.click("#clear")
    assert page.locator(".card").count() == 0
    assert page.evaluate("document.activeElement.id") == "files"


def test_without_javascript_the_form_answers(browser, running, files):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{running.port}/")
    page.set_input_files("#files", [str(path) for path in files])
    page.click("button[type=submit]")
    assert page.locator(".card").count() == len(files)
    assert page.locator(".card.failed").count() == 1
    shoot(page, "without_script")
    context.close()


def test_a_single_network_shows_no_more_than_it_says(browser, files, tmp_path):
    with serving(export_plain_model(tmp_path / "plain"), TOLERANT_LIMITS) as running:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{running.port}/")
        page.set_input_files("#files", str(files[0]))
        wait_for_cards(page, 1)
        lines = page.locator(".card .content").inner_text().split()
        page.close()
    assert lines[0] == files[0].name
    assert [line for line in lines if "%" not in line][1:] in (["all", "all", "hem"], ["hem", "all", "hem"])


def test_every_control_has_a_name(page, files):
    page.set_input_files("#files", [str(path) for path in files])
    wait_for_cards(page, len(files))
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, meter, progress, canvas, summary")]
        .filter((e) => !e.hidden && !(e.innerText || e.getAttribute("aria-label") || (e.labels && e.labels.length)))
        .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
