"""One tour through the real page: JupyterLab, Chromium, every way to use the app."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

import lab
from playwright.sync_api import Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(lab.CHROMIUM).is_file(), reason=f"no {lab.CHROMIUM}"),
]
# The verdict and the numbers; memory levels follow later.
DETAILS = (
    "[...document.querySelectorAll('.explorer-side .explorer-answer')]"
    ".slice(0, 2).map(e => e.textContent).join()"
)
STATUS = "[...document.querySelectorAll('.explorer-app .explorer-text')].map(e => e.textContent)"

# What each tab draws.
TABS = {
    "Network": ".js-plotly-plot .bars .point",
    "Memory map": ".js-plotly-plot .bars .point",
    "Time and energy": ".js-plotly-plot .bars .point",
    "Search": ".js-plotly-plot .parcoords",
    "Evidence": ".explorer-evidence td.source",
    "Compare": ".explorer-compare td.differs",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    with lab.running_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="module")
def page(server: lab.Lab) -> Iterator[Page]:
    with lab.running_browser() as browser:
        yield lab.open_notebook(server, browser, 1280, 800)


def test_tour(server: lab.Lab, page: Page) -> None:
    lab.ARTIFACTS.mkdir(parents=True, exist_ok=True)

    # Run All: the app shows a complete answer, and the cells below it pass.
    lab.command(page, "notebook:run-all-cells")
    lab.await_plot(page)
    lab.await_idle(page)
    assert page.locator(".jp-OutputArea-output[data-mime-type*='error']").count() == 0
    assert page.locator(".explorer-app .js-plotly-plot").count() == 1
    page.evaluate("document.querySelector('.explorer-app').scrollIntoView()")
    _picture(page, "1-first-paint")
    assert page.evaluate(_CUT) == []
    panels, answer = _box(page, ".explorer-panels"), _box(page, ".explorer-side")
    assert panels["y"] + panels["height"] < 620
    assert answer["y"] > panels["y"] + panels["height"] - 1

    # A click still counts after a cell that awaited a search.
    _await_status(page, "done 200/200")
    numbers = page.evaluate(DETAILS)
    lab.click_point(page, _trace(page, "known"), 0)
    page.wait_for_function(f"old => {DETAILS} !== old", arg=numbers)

    # Rare settings open in a row of their own, and no word is cut.
    lab.press(page, "More settings")
    page.wait_for_selector("label:text-is('Weight update')")
    assert page.evaluate(_CUT) == []
    lab.choose(page, "Weight update", "deferred")
    page.wait_for_selector("button:has-text('Fewer (1 set)')")
    lab.choose(page, "Weight update", "fused")
    lab.press(page, "Fewer")

    # Another device: panels and numbers follow.
    before, numbers = _drawn(page), page.evaluate(DETAILS)
    lab.choose(page, "Device", "stm32f746")
    page.wait_for_function(f"old => {DETAILS} !== old", arg=numbers)
    page.wait_for_function(f"old => {_DRAWN} !== old", arg=before)
    assert "int8" in lab.field(page, "Precision").inner_text()
    page.wait_for_selector(".explorer-side:has-text('busiest buffers in DTCM')")
    _picture(page, "2-other-device")

    # A copy of the device: what is wrong is said by its line, and what is saved is shown.
    lab.press(page, "More settings")
    lab.press(page, "Own board, network")
    lab.press(page, "Duplicate the device")
    profile = page.locator(".explorer-document textarea")
    page.wait_for_selector(".explorer-own :text('every number is still that of stm32f746')")
    text = profile.input_value()
    profile.fill(re.sub(r"clock_hz = \S+", "clock_hz = -1", text))
    page.wait_for_selector(".explorer-own .explorer-error:has-text('line 5: clock_hz: got -1')")
    profile.fill(re.sub(r"clock_hz = \S+", "clock_hz = 100e6", text))
    page.wait_for_selector(".explorer-own :text('Changed, and so assumed: clock_hz')")
    _picture(page, "2-own-device")
    assert page.evaluate(_CUT) == []
    numbers = page.evaluate(DETAILS)
    lab.press(page, "Save and show")
    page.wait_for_function(f"old => {DETAILS} !== old", arg=numbers)
    assert (server.folder / "my-stm32f746.toml").is_file()
    lab.press(page, "Fewer")

    # A bad combination is one sentence, and the last good view stays.
    numbers = page.evaluate(DETAILS)
    lab.fill(page, "Micro-batch", "3")
    page.wait_for_selector(".explorer-error:has-text('micro_batch')")
    assert page.evaluate(DETAILS) == numbers
    lab.fill(page, "Micro-batch", "0")
    page.wait_for_selector(".explorer-error", state="detached")

    # Search: pause holds it, resume brings it to its end.
    lab.choose(page, "Device", "gap9")
    lab.fill(page, "Trials", "2000")
    lab.press(page, "Search")
    _await_status(page, "running")
    lab.press(page, "Pause")
    _await_status(page, "paused")
    page.wait_for_timeout(700)
    held = page.evaluate(STATUS)
    page.wait_for_timeout(700)
    assert page.evaluate(STATUS) == held
    lab.press(page, "Resume")
    _await_status(page, "done 2000/2000", timeout_ms=90_000)
    _picture(page, "3-searched")

    # A short search, as most people run it.
    lab.fill(page, "Trials", "200")
    lab.press(page, "Search")
    _await_status(page, "done 200/200")

    # A click on a point of the first panel selects it everywhere: a known policy, and the best
    # of the front (its first member is that policy again).
    known, front = _trace(page, "known"), _trace(page, "front")
    best = page.evaluate(f"{lab.PLOT}._fullData[{front}].x.length - 1")
    for trace, point in ((known, 1), (front, best)):
        numbers = page.evaluate(DETAILS)
        lab.click_point(page, trace, point)
        page.wait_for_function(f"old => {DETAILS} !== old", arg=numbers)
    _picture(page, "4-selected")

    # Every tab says something about it; pinned designs stand side by side.
    press_pin = page.locator(".explorer-app button:text-is('Pin')")
    press_pin.click()
    lab.press(page, "▶")
    page.wait_for_selector(".explorer-app button:text-is('Pin'):enabled")
    press_pin.click()
    for title, drawn in TABS.items():
        lab.open_tab(page, title)
        page.wait_for_selector(f".explorer-below {drawn}", state="attached")
        _picture(page, f"4-{title.lower().replace(' ', '-')}")
    page.wait_for_function(
        "document.querySelectorAll('.explorer-compare th[scope=col]').length > 1"
    )
    lab.open_tab(page, "Layers")

    # In the dark theme axes are light and the panels have no white ground.
    lab.theme(page, "JupyterLab Dark")
    page.wait_for_function(f"{_LOOK}('.xtick text', 'fill') === 'rgb(220, 220, 220)'")
    assert page.evaluate(f"{_LOOK}('.main-svg', 'backgroundColor')") == "rgba(0, 0, 0, 0)"
    _picture(page, "4-dark")
    lab.theme(page, "JupyterLab Light")

    # The question before, and again.
    numbers = page.evaluate(DETAILS)
    lab.choose(page, "Optimizer", "adam")
    page.wait_for_function(f"old => {DETAILS} !== old", arg=numbers)
    lab.press(page, "Undo")
    page.wait_for_function(_OPTIMIZER, arg="sgd")
    lab.press(page, "Redo")
    page.wait_for_function(_OPTIMIZER, arg="adam")
    lab.press(page, "Undo")
    _await_status(page, "done 200/200")

    # Export writes a document that the terminal accepts.
    lab.fill(page, "File", "toured.json")
    lab.press(page, "Export policy")
    page.wait_for_selector(".explorer-text:has-text('saved toured.json')")
    exported = server.folder / "toured.json"
    assert json.loads(exported.read_text())["schema_version"] == 1
    validated = subprocess.run(
        [sys.executable, "-m", "explorer", "validate", str(exported)],
        cwd=lab.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert validated.returncode == 0, validated.stderr

    # The cell again, then the page again: the same live app with the same data.
    before = _drawn(page)
    page.locator(".jp-CodeCell .jp-InputPrompt").first.click()
    lab.command(page, "notebook:run-cell")
    lab.await_idle(page)
    page.wait_for_timeout(1500)
    _await_status(page, "done 200/200")
    assert _drawn(page) == before
    lab.command(page, "docmanager:save")
    page.wait_for_timeout(1500)
    page.reload()
    lab.await_plot(page)
    _await_status(page, "done 200/200")
    assert _drawn(page) == before

    page.set_viewport_size({"width": 1920, "height": 1080})
    page.wait_for_timeout(1500)
    page.evaluate("document.querySelector('.explorer-app').scrollIntoView()")
    _picture(page, "5-wide")
    assert page.evaluate(_CUT) == []
    panels, answer = _box(page, ".explorer-panels"), _box(page, ".explorer-side")
    assert answer["x"] > panels["x"] + panels["width"] - 1
    assert abs(answer["y"] - panels["y"]) < 2
    legend = _box(page, ".explorer-panels .legend")
    for title in page.locator(".explorer-panels :is(.xtitle, .x2title, .x3title)").all():
        place = title.bounding_box()
        assert place is not None
        assert place["y"] + place["height"] <= legend["y"]


_LOOK = "((part, key) => getComputedStyle(document.querySelector('.explorer-panels ' + part))[key])"
_OPTIMIZER = """
wanted => [...document.querySelectorAll('.explorer-app .widget-dropdown')]
  .find(e => e.querySelector('label').textContent === 'Optimizer')
  .querySelector('select').selectedOptions[0].textContent === wanted
"""
_DRAWN = (
    f"JSON.stringify({lab.PLOT}._fullData.slice(0, 9)"
    ".map(trace => [...(trace.x || [])].concat([...(trace.y || [])])))"
)


# Texts of labels and buttons that are wider than their place.
_CUT = """
[...document.querySelectorAll('.explorer-app label, .explorer-app button')]
  .filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)
"""


def _box(page: Page, selector: str) -> dict[str, float]:
    """Where something is on the screen."""
    found = page.locator(selector).bounding_box()
    assert found is not None
    return dict(found)


def _trace(page: Page, name: str) -> int:
    """The number of the first trace of a name."""
    find = f"name => {lab.PLOT}._fullData.findIndex(trace => trace.name === name)"
    return int(page.evaluate(find, name))


def _drawn(page: Page) -> str:
    return str(page.evaluate(_DRAWN))


def _await_status(page: Page, words: str, timeout_ms: int = 30_000) -> None:
    page.wait_for_selector(f".explorer-text:has-text('{words}')", timeout=timeout_ms)


def _picture(page: Page, name: str) -> None:
    lab.settle(page)
    page.screenshot(path=lab.ARTIFACTS / f"{name}.png")
