"""One JupyterLab, one Voila and one Chromium for all tests of the page."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab import Lab
    from playwright.sync_api import Browser, Page


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, where there is no browser to drive."""
    reason = _reason_against_browser()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


def _reason_against_browser() -> str:
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed"
    import lab

    return "" if Path(lab.CHROMIUM).is_file() else f"no {lab.CHROMIUM}"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the servers work; what is measured goes there too, not into the user's own ledger."""
    from explorer import paths

    place = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(paths.CACHE_VARIABLE, str(place / "cache"))
        yield place


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    import lab

    with lab.running_browser() as running:
        yield running


@pytest.fixture(scope="session")
def server(folder: Path) -> "Iterator[Lab]":
    import lab

    with lab.running_lab(folder) as running:
        yield running


@pytest.fixture(scope="session")
def lab_page(server: "Lab", browser: "Browser") -> "Page":
    """The notebook in JupyterLab after Run All."""
    import driving
    import lab

    page = lab.open_notebook(server, browser, 1280, 800)
    lab.command(page, "notebook:run-all-cells")
    lab.await_plot(page)
    lab.await_idle(page)
    driving.remember(page)
    return page


@pytest.fixture(scope="session")
def voila_page(folder: Path, browser: "Browser") -> "Iterator[Page]":
    """The notebook as a page of its own."""
    import driving
    import lab

    if importlib.util.find_spec("voila") is None:
        pytest.skip("voila is not installed")
    with lab.running_voila(folder) as address:
        page = lab.new_page(browser, 1280, 800)
        page.goto(address, wait_until="commit")
        lab.await_plot(page)
        driving.remember(page)
        yield page


@pytest.fixture(params=["lab", "voila"])
def page(request: pytest.FixtureRequest) -> "Page":
    """The app in either of them, with its first question and the first tab."""
    import driving

    found: Page = request.getfixturevalue(f"{request.param}_page")
    driving.reset(found)
    return found
