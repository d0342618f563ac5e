"""What outlives the kernel and the page; last of JupyterLab's tests, for it ends its kernel."""

from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

import driving
import lab
from driving import ANSWER, DRAWN, changing
from playwright.sync_api import Browser, Page

POLL_MS = 50


def test_the_last_view_outlives_the_kernel_and_the_page(
    lab_page: Page, browser: Browser, server: lab.Lab
) -> None:
    page = lab_page
    driving.reset(page)
    lab.fill(page, "Trials", "100")
    lab.press(page, "Search")
    driving.await_status(page, "done 100/100")
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
    lab.run_first_cell(page)
    page.wait_for_selector(".explorer-app:not(.jupyter-widgets-disconnected)")
    lab.await_plot(page)
    driving.await_value(page, ANSWER, answer)
    driving.await_value(page, DRAWN, drawn)
    driving.await_status(page, "as it was left")
    page.wait_for_selector(".explorer-compare th[scope=col]")
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
    lab.save(page)
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
