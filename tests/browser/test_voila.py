"""The notebook as a page of its own."""

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

import driving
import lab
import psutil
from playwright.sync_api import Browser, Page

KERNEL = "JSON.parse(document.querySelector('#jupyter-config-data').textContent).kernelId"


def test_the_page_shows_the_app_and_no_code(voila_page: Page) -> None:
    page = voila_page
    driving.reset(page)
    assert page.locator("h1").inner_text() == (
        "Explorer: what to train on the device, and what it costs"
    )
    assert page.locator(".jp-Cell:visible").count() == 2
    code = ".jp-InputArea-editor, .highlight:not(.js-plotly-plot *), .jp-InputPrompt:visible"
    assert page.locator(code).count() == 0
    assert "Shift+Enter" not in page.inner_text("body")
    driving.picture(page, "6-voila")
    panels, side = driving.box(page, ".explorer-panels"), driving.box(page, ".explorer-side")
    assert side["x"] > panels["x"] + panels["width"] - 1  # no side bars, so there is room
    output = "document.querySelector('.jp-OutputArea-output:has(> .explorer-app)')"
    assert page.evaluate(f"{output}.scrollHeight <= {output}.offsetHeight")


def test_the_page_can_be_dark(voila_page: Page, browser: Browser) -> None:
    page = lab.new_page(browser, 1280, 800)
    page.goto(f"{voila_page.url}?theme=dark", wait_until="commit")
    lab.await_plot(page)
    assert page.evaluate(f"{driving.LOOK}('.xtick text', 'fill')") == "rgb(220, 220, 220)"
    assert page.evaluate(f"{driving.LOOK}('.main-svg', 'backgroundColor')") == "rgba(0, 0, 0, 0)"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground != "rgb(255, 255, 255)"
    driving.picture(page, "7-voila-dark")

    # Its kernel dies: there is no cell to run again, so the page says what to do instead.
    assert not page.locator(".explorer-gone").is_visible()
    name = page.evaluate(KERNEL)
    for process in psutil.process_iter(["cmdline"]):
        if any(name in word for word in process.info["cmdline"] or ()):
            process.kill()
    page.locator(".explorer-gone:has-text('reload it')").wait_for()
    page.close()
