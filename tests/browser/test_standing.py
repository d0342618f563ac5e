"""What a saved notebook shows where nothing runs: no kernel, no network, no trust."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

import driving
import lab
from playwright.sync_api import Browser, Page

NAME = "standing.ipynb"
PICTURE = ".explorer-standing img"
# How many designs the picture is said to show.
DESIGNS = f"Number(document.querySelector('{PICTURE}')?.alt.match(/(\\d+) designs/)?.[1] ?? 0)"
# Of the pixels of the picture: the first, and the shares that are white, and blue as the front.
PIXELS = f"""
() => {{
  const image = document.querySelector("{PICTURE}"), canvas = document.createElement("canvas");
  Object.assign(canvas, {{ width: image.naturalWidth, height: image.naturalHeight }});
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  const {{ data }} = pen.getImageData(0, 0, canvas.width, canvas.height);
  const is = (at, color) => color.every((part, n) => Math.abs(data[at + n] - part) < 24);
  let white = 0, blue = 0;
  for (let at = 0; at < data.length; at += 4) {{
    white += is(at, [255, 255, 255]);
    blue += is(at, [0, 114, 178]);
  }}
  return [[...data.slice(0, 3)], 4 * white / data.length, 4 * blue / data.length];
}}
"""


def open_copy(server: lab.Lab, browser: Browser, name: str) -> Page:
    """A page with another notebook than the other tests' open, and its kernel connected."""
    page = lab.new_page(browser, 1280, 800)
    page.goto(server.page_url(name))
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_selector("#jp-main-statusbar >> text=| Idle")
    return page


def assert_panels(page: Page) -> None:
    """The picture is there, wide enough to read, on white, with the crowds in it."""
    picture = page.locator(PICTURE)
    picture.wait_for()
    page.wait_for_function(f"document.querySelector('{PICTURE}').naturalWidth > 600")
    place, width = picture.bounding_box(), page.evaluate("window.innerWidth")
    assert place is not None
    assert place["width"] > 600
    assert place["x"] + place["width"] <= width
    first, white, blue = page.evaluate(PIXELS)
    assert min(first) > 250
    assert 0.6 < white < 0.97
    assert blue > 0.002


def test_the_panels_are_seen_without_a_kernel_the_network_or_trust(
    server: lab.Lab, browser: Browser, tmp_path: Path
) -> None:
    notebook = server.folder / NAME
    shutil.copy(lab.NOTEBOOK, notebook)
    page = open_copy(server, browser, NAME)
    lab.theme(page, "JupyterLab Dark")
    lab.run_first_cell(page)
    lab.await_plot(page)
    page.locator(PICTURE).wait_for(state="attached")
    lab.fill(page, "Trials", "100")
    lab.press(page, "Search")
    driving.await_status(page, "done 100/100")
    page.wait_for_function(f"{DESIGNS} > 100")
    assert page.locator(".explorer-standing script").count() == 0
    assert not page.locator(".explorer-standing").is_visible()
    lab.save(page)
    page.close()

    # Exported, on a page as narrow as nbviewer's.
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter().from_filename(str(notebook))
    (tmp_path / "exported.html").write_text(html, encoding="utf-8")
    page = lab.new_page(browser, 940, 900)
    page.context.set_offline(True)
    page.goto((tmp_path / "exported.html").as_uri(), wait_until="commit")
    assert_panels(page)
    assert "<explorer app" not in page.locator("body").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 940
    page.screenshot(path=lab.ARTIFACTS / "8-exported.png", full_page=True)
    page.close()

    # Changed by somebody else: JupyterLab trusts no output of it.
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["cells"][0]["source"] = "# From somebody else"
    (server.folder / f"other-{NAME}").write_text(json.dumps(content), encoding="utf-8")
    page = open_copy(server, browser, f"other-{NAME}")
    assert_panels(page)
    assert page.locator(".jp-OutputArea-output style").count() == 0
    page.screenshot(path=lab.ARTIFACTS / "9-untrusted-dark.png")
    lab.theme(page, "JupyterLab Light")
    page.wait_for_selector("body[data-jp-theme-light='true']", state="attached")
    page.close()
