"""Write the pictures of the app in docs/images: JupyterLab in light and dark, and the page.

They are taken of the notebook after Run All by the browser of the tests, with their 256 most
frequent colours, so that they stay small.
"""

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "tests" / "browser"))

import driving  # noqa: E402 - beside the tests
import lab  # noqa: E402


def write(page: Page, name: str) -> None:
    """Keep what the page shows, once nothing moves."""
    driving.rest(page)
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        pixels = np.asarray(shot.convert("RGB"))
    colors, which, counts = np.unique(
        pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
    )
    most = colors[np.argsort(counts)[-256:]]
    nearest = np.square(colors[:, None].astype(int) - most).sum(axis=2).argmin(axis=1)
    few = Image.fromarray(nearest[which].reshape(pixels.shape[:2]).astype(np.uint8))
    few.putpalette(most.tobytes())
    few.save(IMAGES / f"{name}.png", optimize=True)
    print(f"{name}.png: {(IMAGES / f'{name}.png').stat().st_size:,} bytes")


def from_lab(browser: Browser, folder: Path) -> None:
    """The answer beside the panels, the dark theme, and the tab of the search."""
    with lab.running_lab(folder) as server:
        page = lab.open_notebook(server, browser, 1920, 1080)
        lab.command(page, "notebook:run-all-cells")
        lab.await_plot(page)
        lab.await_idle(page)
        driving.await_status(page, "done 200/200")
        driving.select_point(page, "your choice")
        to_the_top(page)
        write(page, "explorer")
        page.set_viewport_size({"width": 1280, "height": 800})
        lab.theme(page, "JupyterLab Dark")
        page.wait_for_selector("[data-jp-theme-light=false]", state="attached")
        to_the_top(page)
        write(page, "explorer-dark")
        lab.theme(page, "JupyterLab Light")
        page.wait_for_selector("[data-jp-theme-light=true]", state="attached")
        lab.open_tab(page, "Search")
        page.wait_for_selector(".explorer-below .parcoords", state="attached")
        page.locator(".explorer-below").scroll_into_view_if_needed()
        write(page, "explorer-search")


def from_voila(browser: Browser, folder: Path) -> None:
    """The notebook as a page of its own."""
    with lab.running_voila(folder) as address:
        page = lab.new_page(browser, 1280, 800)
        page.goto(address, wait_until="commit")
        lab.await_plot(page)
        write(page, "explorer-page")


def to_the_top(page: Page) -> None:
    """Scroll the app to the top of what is seen."""
    driving.rest(page)
    page.evaluate("document.querySelector('.explorer-app').scrollIntoView()")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, lab.running_browser() as opened:
        from_voila(opened, Path(place))
        from_lab(opened, Path(place))
