"""The notebook in JupyterLab: all of its cells, both sizes, both themes, and the page again."""

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

import driving
import lab
from driving import ANSWER, DRAWN, changing
from playwright.sync_api import Page


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
        driving.click_known(lab_page, "full")


def test_in_the_dark_axes_are_light_and_the_ground_is_not_white(lab_page: Page) -> None:
    page = lab_page
    lab.theme(page, "JupyterLab Dark")
    driving.await_value(page, f"{driving.LOOK}('.xtick text', 'fill')", "rgb(220, 220, 220)")
    assert page.evaluate(f"{driving.LOOK}('.xtick text', 'stroke')") == "none"
    assert page.evaluate(f"{driving.LOOK}('.main-svg', 'backgroundColor')") == "rgba(0, 0, 0, 0)"
    color = "part => getComputedStyle(document.querySelector(part)).backgroundColor"
    ground = page.evaluate(color, ".jp-Notebook")
    for part in (".explorer-below .lm-mod-current", ".explorer-details th"):
        assert page.evaluate(color, part) == ground
    assert page.evaluate(color, ".explorer-below .widget-tab-contents") == "rgba(0, 0, 0, 0)"
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


def test_the_panels_keep_their_height_when_the_window_does_not(lab_page: Page) -> None:
    page = lab_page
    driving.reset(page)
    driving.rest(page)
    height = driving.box(page, ".explorer-panels .js-plotly-plot")["height"]
    page.set_viewport_size({"width": 1200, "height": 800})
    page.set_viewport_size({"width": 1280, "height": 800})
    for policy in ("last-layer", "full"):
        with changing(page, DRAWN):
            lab.choose(page, "Update policy", policy)
        driving.rest(page)
    assert driving.box(page, ".explorer-panels .js-plotly-plot")["height"] == height


def test_the_cell_again_and_the_page_again_show_the_same_live_app(lab_page: Page) -> None:
    page = lab_page
    before = driving.drawn(page)
    page.evaluate("document.querySelector('.explorer-app').dataset.old = 'yes'")
    lab.run_first_cell(page)
    page.wait_for_selector(".explorer-app:not([data-old])")
    lab.await_plot(page)
    driving.await_status(page, "done 200/200")
    driving.await_value(page, DRAWN, before)

    # The page again in mid-search: the search goes on and the page follows.
    lab.fill(page, "Trials", "100000")
    lab.press(page, "Search")
    driving.await_status(page, "running")
    lab.save(page)
    page.reload()
    lab.await_plot(page)
    driving.await_status(page, "running")
    with changing(page, DRAWN):
        pass
    lab.press(page, "Stop")
    driving.await_stopped(page)
