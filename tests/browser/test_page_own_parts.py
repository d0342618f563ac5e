"""A board, a network and a task of one's own, from what the page offers for them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

import driving
import lab
from driving import ANSWER, DRAWN, changing
from PIL import Image
from playwright.sync_api import Page

from explorer.network import NetworkDocument
from explorer.paths import user_cache
from explorer.search.sources import model_graph

SHOW = ".explorer-own button:text-is('Show')"


def test_a_copy_of_the_device_is_checked_by_line_saved_and_shown(page: Page, folder: Path) -> None:
    place = driving.own_folder(page, folder) / "boards" / "board.toml"
    driving.open_all(page)
    lab.press(page, "Duplicate the device")
    page.wait_for_selector(".explorer-own :text('every number is still that of gap9')")
    assert page.evaluate(driving.CUT) == []
    profile = page.locator(".explorer-document textarea")
    text = profile.input_value()
    profile.fill(re.sub(r"clock_hz = \S+", "clock_hz = -1", text))
    page.wait_for_selector(".explorer-own .explorer-error:has-text('line 5: clock_hz: got -1')")
    profile.fill(re.sub(r"clock_hz = \S+", "clock_hz = 100e6", text))
    page.wait_for_selector(".explorer-own :text('Changed, and so assumed: clock_hz')")
    lab.fill(page, "Save as", str(place))
    with changing(page, ANSWER, DRAWN):
        lab.press(page, "Save and show")
    if driving.is_visited(page):
        driving.saved_download(page, ".explorer-own a[download]", place)
    assert "changed by hand from gap9" in place.read_text()
    lab.press(page, "Own board, network")


def test_a_network_of_ones_own_is_shown_from_its_path_and_uploaded(
    page: Page, folder: Path
) -> None:
    place = driving.own_folder(page, folder) / "own-digits.json"
    graph = model_graph("digits-cnn")
    place.write_text(NetworkDocument.of(replace(graph, name=place.stem)).to_json())
    driving.open_all(page)
    lab.fill(page, "Network JSON", "none.json")
    page.locator(SHOW).click()
    page.wait_for_selector(".explorer-own .explorer-error:has-text('none.json')")
    lab.fill(page, "Network JSON", str(place))
    with changing(page, ANSWER, DRAWN):
        page.locator(SHOW).click()
    page.wait_for_selector(f".explorer-own :text('own-digits of {len(graph.layers)} layers')")
    with changing(page, ANSWER, DRAWN):
        lab.press(page, "Undo")
    with changing(page, ANSWER, DRAWN), page.expect_file_chooser() as asked:
        lab.press(page, "Upload")
        asked.value.set_files(place)
    kept = driving.whole_path(page, "Model")
    assert kept.name == place.name
    assert (kept.parent == user_cache() / "networks") is not driving.is_visited(page)


def test_a_task_of_ones_own_is_read_and_chosen(page: Page, folder: Path) -> None:
    place = driving.own_folder(page, folder) / "photos"
    for number in range(8):
        path = place / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 20, 3), 30 * number, dtype=np.uint8)).save(path)
    driving.open_all(page)
    lab.fill(page, "Task data", "digits")
    lab.press(page, "Read task")
    page.wait_for_selector(".explorer-own .explorer-error:has-text('Task data: got')")
    lab.fill(page, "Task data", str(place))
    with changing(page, ANSWER):
        lab.press(page, "Read task")
    page.wait_for_selector(".explorer-own :text('8 images of 2 classes')")
    assert driving.whole_path(page, "Task") == place
