"""The page without a mouse: Tab reaches every control, and keys do what a click does."""

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

import driving
import lab
from driving import ANSWER, DRAWN, changing
from playwright.sync_api import Page

# What a person can use now, in the order of the page; one entry for each.
USABLE = """
[...document.querySelectorAll('.explorer-app :is(select, input, textarea, button, .noUi-handle)')]
  .filter(e => e.offsetParent && !e.disabled && !e.closest('.js-plotly-plot'))
"""
# What has the focus, its place among these, and whether that can be seen.
FOCUSED = f"""
(() => {{
  const one = document.activeElement, look = getComputedStyle(one);
  const seen = look.outlineStyle !== 'none' && parseFloat(look.outlineWidth) > 0;
  const tab = one.closest('.lm-TabBar-tab');
  return [{USABLE}.indexOf(one), seen || look.boxShadow !== 'none', tab ? tab.textContent : '',
          one.title || one.textContent || one.outerHTML.slice(0, 80)];
}})()
"""
MOST_STEPS = 80


def focus(page: Page, element: str) -> None:
    """Put the focus on something, as Tab would."""
    page.locator(element).first.focus()


def test_tab_reaches_every_control_in_the_order_of_the_page(page: Page) -> None:
    usable = page.evaluate(f"{USABLE}.length")
    page.evaluate(f"{USABLE}[0].focus()")
    page.keyboard.press("Shift+Tab")
    reached, unseen, tabs = [], [], []
    for _ in range(MOST_STEPS):
        page.keyboard.press("Tab")
        place, is_seen, tab, words = page.evaluate(FOCUSED)
        if place >= 0:
            reached.append(place)
        if tab:
            tabs.append(tab)
        if not is_seen and (place >= 0 or tab):
            unseen.append(words)
        if tab:
            break
    assert reached == list(range(usable))
    assert tabs == ["Layers"]
    assert unseen == []


def test_tabs_are_switched_by_keys(page: Page) -> None:
    focus(page, ".explorer-below .lm-TabBar-tab.lm-mod-current")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".explorer-below .lm-TabBar-tab:focus:has-text('Network')")
    page.keyboard.press("Enter")
    page.wait_for_selector(".explorer-below .js-plotly-plot .bars .point", state="attached")


def test_a_search_is_started_and_stopped_by_keys(page: Page) -> None:
    lab.fill(page, "Trials", "100000")
    focus(page, ".explorer-app button:text-is('Search')")
    with changing(page, DRAWN):
        page.keyboard.press("Enter")
        driving.await_status(page, "running")
    focus(page, ".explorer-app button:text-is('Stop')")
    page.keyboard.press("Space")
    driving.await_stopped(page)


def test_a_point_is_selected_and_a_number_changed_by_keys(page: Page) -> None:
    lab.field(page, "Point").focus()
    with changing(page, ANSWER):
        page.keyboard.press("ArrowDown")
    focus(page, ".explorer-app button:text-is('▶')")
    with changing(page, ANSWER):
        page.keyboard.press("Enter")
    focus(page, ".explorer-app .widget-hslider .noUi-handle")
    with changing(page, ANSWER, DRAWN):
        page.keyboard.press("ArrowRight")


def test_letters_choose_in_a_list_and_leave_the_cells_alone(page: Page) -> None:
    cells = page.locator(".jp-Cell").count()
    lab.field(page, "Optimizer").focus()
    with changing(page, ANSWER):
        page.keyboard.press("a")
    assert lab.field(page, "Optimizer").input_value() == "adam"
    assert page.locator(".jp-Cell").count() == cells
