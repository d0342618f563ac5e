"""A real JupyterLab, or Voila, on loopback and a headless Chromium, for tests and benchmark."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright
from playwright.sync_api import TimeoutError as NotThere

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "01_explorer.ipynb"
ARTIFACTS = Path(os.environ.get("EXPLORER_ARTIFACTS", Path(__file__).parent / "artifacts"))
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_TIMEOUT_S = 180
FIRST_PLOT_MS = 180_000  # a busy machine takes far longer than a quiet one
WAIT_MS = 60_000  # for anything else
HOVERS, HOVER_MS = 10, 4000
PLOT = "document.querySelector('.explorer-app .js-plotly-plot')"


class Lab:
    """A running JupyterLab: where it listens and the folder it serves."""

    def __init__(self, url: str, token: str, folder: Path) -> None:
        self.url = url
        self.token = token
        self.folder = folder

    def page_url(self, notebook: str) -> str:
        """The address of a notebook in a fresh workspace."""
        return f"{self.url}/lab/tree/{notebook}?reset&token={self.token}"


@contextmanager
def running_lab(folder: Path) -> Iterator[Lab]:
    """Serve a copy of the notebook from `folder`, with settings of its own and no news."""
    work, home = folder / "work", folder / "home"
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    for path in (work, settings):
        path.mkdir(parents=True)
    news = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(news))
    shutil.copy(NOTEBOOK, work)
    token, port = secrets.token_hex(16), _free_port()
    environment = {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    command = [
        *("jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *(f"--IdentityProvider.token={token}", "--ServerApp.disable_check_xsrf=True"),
        *(f"--ServerApp.root_dir={work}", "--LabApp.news_url=None"),
    ]
    with _running(command, port, work, environment, folder / "lab.log"):
        lab = Lab(f"http://127.0.0.1:{port}", token, work)
        yield lab
        shut_kernels(lab)


@contextmanager
def running_voila(folder: Path, *options: str) -> Iterator[str]:
    """Serve the notebook as a page, as `explorer page` does but without a token; its address."""
    port = _free_port()
    command = ["explorer", "page", "--no-browser", "--token=", f"--port={port}", *options]
    with _running(command, port, folder, {"IPYTHONDIR": str(folder)}, folder / "voila.log"):
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*CHROMIUM_FLAGS])
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: Browser, width: int, height: int) -> Page:
    """An empty page with patience for a busy machine."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(WAIT_MS)
    return page


def open_notebook(
    lab: Lab,
    browser: Browser,
    width: int,
    height: int,
    on_frame: Callable[[int], object] | None = None,
) -> Page:
    """A page with the notebook open and its kernel connected.

    `on_frame` hears the size of every websocket frame the page receives.
    """
    page = new_page(browser, width, height)
    if on_frame is not None:
        heard = on_frame
        page.on(
            "websocket",
            lambda socket: socket.on("framereceived", lambda frame: heard(len(frame))),
        )
    page.goto(lab.page_url(NOTEBOOK.name), timeout=FIRST_PLOT_MS)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=FIRST_PLOT_MS)
    page.wait_for_selector("#jp-main-statusbar >> text=| Idle", timeout=FIRST_PLOT_MS)
    return page


def command(page: Page, name: str) -> None:
    """Run a JupyterLab command without waiting for its end."""
    page.evaluate("name => { window.jupyterapp.commands.execute(name); }", name)


def run_first_cell(page: Page) -> None:
    """Run the first cell of code."""
    page.locator(".jp-CodeCell .jp-InputPrompt").first.click()
    command(page, "notebook:run-cell")


def save(page: Page) -> None:
    """Save, and wait until nothing is left to save."""
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_selector(".jp-mod-dirty", state="detached")


def await_plot(page: Page) -> None:
    """Wait until the three panels are drawn, and count repaints from then on."""
    page.wait_for_selector(".explorer-app .js-plotly-plot .main-svg", timeout=FIRST_PLOT_MS)
    page.wait_for_function(
        f"{PLOT}._fullLayout && {PLOT}._fullLayout.xaxis3", timeout=FIRST_PLOT_MS
    )
    page.evaluate(
        f"() => {{ window.paints = []; "
        f"{PLOT}.on('plotly_afterplot', () => window.paints.push(performance.now())); }}"
    )


def await_idle(page: Page, timeout_ms: int = FIRST_PLOT_MS) -> None:
    """Wait until no cell runs or waits."""
    page.wait_for_function(
        "() => ![...document.querySelectorAll('.jp-Notebook .jp-InputPrompt')]"
        ".some(prompt => prompt.textContent.includes('*'))",
        timeout=timeout_ms,
    )


def label(text: str) -> str:
    """What selects the label of a field of the app."""
    return f":is(.widget-label, .widget-label > span):text-is('{text}')"


def field(page: Page, name: str) -> Locator:
    """A drop-down of the app by its label."""
    named = page.locator(".widget-dropdown").filter(has=page.locator(label(name)))
    return named.locator("select")


def choose(page: Page, name: str, value: str) -> None:
    """Set a drop-down of the app by the text of one of its options."""
    field(page, name).select_option(value)


def fill(page: Page, name: str, value: str) -> None:
    """Type into a field of the app and leave it."""
    named = page.locator(".explorer-app .jupyter-widgets").filter(has=page.locator(label(name)))
    named.last.locator("input").last.fill(value)
    named.last.locator("input").last.press("Tab")


def press(page: Page, text: str) -> None:
    """Press a button of the app."""
    page.locator(".explorer-app button", has_text=text).first.click()


def open_tab(page: Page, title: str) -> None:
    """Open a tab of the app."""
    page.locator(f".explorer-below .lm-TabBar-tabLabel:text-is('{title}')").click()


def theme(page: Page, name: str) -> None:
    """Switch JupyterLab's theme."""
    page.evaluate(
        "theme => { window.jupyterapp.commands.execute('apputils:change-theme', { theme }); }", name
    )


def pixel_of(page: Page, trace: int, point: int) -> tuple[float, float]:
    """Where a point of a trace is on the screen."""
    x, y = page.evaluate(
        f"""([trace, point]) => {{
          const plot = {PLOT}, data = plot._fullData[trace], layout = plot._fullLayout;
          const axis = name => layout[name[0] + 'axis' + name.slice(1)];
          const [across, upward] = [axis(data.xaxis), axis(data.yaxis)];
          const box = plot.getBoundingClientRect();
          return [box.left + across._offset + across.d2p(data.x[point]),
                  box.top + upward._offset + upward.d2p(data.y[point])];
        }}""",
        [trace, point],
    )
    return float(x), float(y)


def settle(page: Page, quiet_ms: int = 200) -> None:
    """Wait until nothing was repainted for a while."""
    page.wait_for_function(
        "quiet => window.paints.length === 0 || performance.now() - window.paints.at(-1) > quiet",
        arg=quiet_ms,
    )


def click_point(page: Page, trace: int, point: int) -> None:
    """Click a point by its pixel; plotly reports a click on what it hovers, so hover first.

    Again where nothing is hovered: the page may have moved meanwhile.
    """
    hovered = f"{PLOT}._hoverdata?.length > 0"
    for _ in range(HOVERS):
        settle(page)
        page.locator(".explorer-panels .js-plotly-plot").scroll_into_view_if_needed()
        x, y = pixel_of(page, trace, point)
        page.mouse.move(x - 40, y - 40)
        page.mouse.move(x - 3, y)
        page.mouse.move(x, y)
        with suppress(NotThere):
            page.wait_for_function(hovered, timeout=HOVER_MS)
            page.mouse.click(x, y)
            return
    raise TimeoutError(f"nothing is hovered at point {point} of trace {trace}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(
    command: list[str], port: int, folder: Path, environment: dict[str, str], log: Path
) -> Iterator[None]:
    """A server of ours until the end; RuntimeError or TimeoutError when it does not listen."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with log.open("wb") as heard:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": paths} | environment,
            stdout=heard,
            stderr=subprocess.STDOUT,
        )
        try:
            _await_port(port, server, log)
            yield
        finally:
            server.terminate()
            try:
                server.wait(timeout=15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _await_port(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text()[-2000:]}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"the server does not listen: {log.read_text()[-2000:]}")


def shut_kernels(lab: Lab) -> None:
    """End every kernel of a JupyterLab."""
    for kernel in json.loads(_ask(lab, "api/kernels")):
        _ask(lab, f"api/kernels/{kernel['id']}", method="DELETE")


def _ask(lab: Lab, path: str, method: str = "GET") -> bytes:
    request = urllib.request.Request(
        f"{lab.url}/{path}", method=method, headers={"Authorization": f"token {lab.token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        body: bytes = answer.read()
        return body
