"""The notebook in JupyterLab: all of its cells, both sizes, both themes, and what outlives what."""

from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

import driving
import lab
from driving import ANSWER, DRAWN, changing
from playwright.sync_api import Browser, Page

POLL_MS = 50
FIRST_CELL = ".jp-CodeCell .jp-InputPrompt"


def run_first_cell(page: Page) -> None:
    page.locator(FIRST_CELL).first.click()
    lab.command(page, "notebook:run-cell")


def saved(page: Page) -> None:
    """Save, and wait until nothing is left to save."""
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_selector(".jp-mod-dirty", state="detached")


def test_all_cells_run_and_the_first_paint_is_complete(lab_page: Page) -> None:
    page = lab_page
    assert page.locator(".jp-OutputArea-output[data-mime-type*='error']").count() == 0
    assert page.locator(".explorer-app .js-plotly-plot").count() == 1
    driving.await_status(page, "done 200/200")
    page.evaluate("document.querySelector('.explorer-app').scrollIntoView()")
    driving.picture(page, "1-first-paint")
    assert page.evaluate(driving.CUT) == []
    panels, side = driving.box(page, ".explorer-panels"), driving.box(page, ".explorer-side")
    assert panels["y"] + panels["height"] < 620
    assert side["y"] > panels["y"] + panels["height"] - 1


def test_a_click_counts_after_a_cell_that_awaited(lab_page: Page) -> None:
    with changing(lab_page, ANSWER):
        lab.click_point(lab_page, driving.trace(lab_page, "known"), 0)


def test_in_the_dark_axes_are_light_and_the_ground_is_not_white(lab_page: Page) -> None:
    page = lab_page
    lab.theme(page, "JupyterLab Dark")
    driving.await_value(page, f"{driving.LOOK}('.xtick text', 'fill')", "rgb(220, 220, 220)")
    assert page.evaluate(f"{driving.LOOK}('.xtick text', 'stroke')") == "none"
    assert page.evaluate(f"{driving.LOOK}('.main-svg', 'backgroundColor')") == "rgba(0, 0, 0, 0)"
    driving.picture(page, "2-dark")
    lab.theme(page, "JupyterLab Light")
    page.wait_for_function(f"{driving.LOOK}('.xtick text', 'fill') !== 'rgb(220, 220, 220)'")


def test_on_a_wide_screen_the_answer_stands_beside_the_panels(lab_page: Page) -> None:
    page = lab_page
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.wait_for_function(
        "() => document.querySelector('.explorer-side').getBoundingClientRect().left >"
        " document.querySelector('.explorer-panels').getBoundingClientRect().right - 1"
    )
    page.evaluate("document.querySelector('.explorer-app').scrollIntoView()")
    driving.picture(page, "3-wide")
    assert page.evaluate(driving.CUT) == []
    panels, side = driving.box(page, ".explorer-panels"), driving.box(page, ".explorer-side")
    assert abs(side["y"] - panels["y"]) < 2
    legend = driving.box(page, ".explorer-panels .legend")
    for title in page.locator(".explorer-panels :is(.xtitle, .x2title, .x3title)").all():
        place = title.bounding_box()
        assert place is not None
        assert place["y"] + place["height"] <= legend["y"]
    page.set_viewport_size({"width": 1280, "height": 800})


def test_the_cell_again_and_the_page_again_show_the_same_live_app(lab_page: Page) -> None:
    page = lab_page
    before = driving.drawn(page)
    page.evaluate("document.querySelector('.explorer-app').dataset.old = 'yes'")
    run_first_cell(page)
    page.wait_for_selector(".explorer-app:not([data-old])")
    lab.await_plot(page)
    driving.await_status(page, "done 200/200")
    driving.await_value(page, DRAWN, before)

    # The page again in mid-search: the search goes on and the page follows.
    lab.fill(page, "Trials", "100000")
    lab.press(page, "Search")
    driving.await_status(page, "running")
    saved(page)
    page.reload()
    lab.await_plot(page)
    driving.await_status(page, "running")
    with changing(page, DRAWN):
        pass
    lab.press(page, "Stop")
    driving.await_status(page, "stopped")


def test_the_last_view_outlives_the_kernel_and_the_page(
    lab_page: Page, browser: Browser, server: lab.Lab
) -> None:
    page = lab_page
    driving.reset(page)
    kept = server.folder / ".01_explorer.explorer.json"
    with changing(page, ANSWER, DRAWN):
        lab.choose(page, "Device", "stm32h743")
    with changing(page, ANSWER):
        driving.select_point(page, "last-layer")
    page.locator(driving.PIN).click()
    lab.open_tab(page, "Compare")
    page.wait_for_selector(".explorer-compare th[scope=col]")
    answer, drawn = driving.answer(page), driving.drawn(page)
    _await_kept(page, kept, '"selected": "known:last-layer"', '"tab": 6')

    # The kernel again: the page says what to do, and doing it brings all back.
    assert not page.locator(".explorer-gone").is_visible()
    page.evaluate(
        "() => { window.jupyterapp.commands.execute('kernelmenu:restart').catch(() => null); }"
    )
    page.locator(".jp-Dialog button:has-text('Restart')").click()
    page.locator(".explorer-gone:has-text('Run this cell again')").wait_for()
    driving.picture(page, "4-kernel-gone")
    page.wait_for_selector("#jp-main-statusbar >> text=| Idle", timeout=lab.FIRST_PLOT_MS)
    run_first_cell(page)
    page.wait_for_selector(".explorer-app:not(.jupyter-widgets-disconnected)")
    lab.await_plot(page)
    driving.await_value(page, ANSWER, answer)
    driving.await_value(page, DRAWN, drawn)
    driving.await_status(page, "as it was left")
    assert page.locator(".explorer-compare th[scope=col]").all_text_contents() == ["last-layer"]

    # Opened again without a kernel: the last view stands there, as it was saved.
    with changing(page, ANSWER):
        driving.select_point(page, "full")
    words = page.locator(".explorer-side .explorer-answer b").first.inner_text()
    page.wait_for_function(
        "words => document.querySelector('.explorer-standing').textContent.includes(words)",
        arg=words,
    )
    assert not page.locator(".explorer-standing").is_visible()
    saved(page)
    page.close()
    lab.shut_kernels(server)
    again = lab.open_notebook(server, browser, 1280, 800)
    again.locator(".explorer-standing").wait_for()
    assert "the last view" in again.locator(".explorer-standing").inner_text()
    assert words in again.locator(".explorer-standing").inner_text()
    assert again.locator(".explorer-app").count() == 0
    assert not again.get_by_text("Error displaying widget").is_visible()
    again.screenshot(path=lab.ARTIFACTS / "5-without-kernel.png")


def _await_kept(page: Page, place: Path, *words: str) -> None:
    """Wait until the kernel has written words into a file; the page goes on meanwhile."""
    for _ in range(lab.FIRST_PLOT_MS // POLL_MS):
        text = place.read_text() if place.is_file() else ""
        if all(word in text for word in words):
            return
        page.wait_for_timeout(POLL_MS)
    raise TimeoutError(f"{place.name} never held {words}")
