"""What `explorer lab` and `explorer page` start, and what the page leaves out."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from socket import socket
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from explorer.cli import files
from explorer.cli.shared import app

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "01_explorer.ipynb"
runner = CliRunner()


class StartedError(Exception):
    """Stands for the program that would have been started."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []

    def start(program: str, command: list[str]) -> None:
        commands.append(command)
        raise StartedError

    monkeypatch.setattr(os, "execv", start)
    monkeypatch.setattr(os, "chdir", lambda path: None)
    return commands


@pytest.mark.parametrize(("command", "module"), [("lab", "jupyterlab"), ("page", "voila")])
def test_a_server_of_the_notebook_on_loopback(
    command: str, module: str, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    result = runner.invoke(app, [command, "--port=8123"])
    assert isinstance(result.exception, StartedError)
    (words,) = started
    assert words[:4] == [sys.executable, "-m", module, str(NOTEBOOK)]
    assert any(word.endswith("ip=127.0.0.1") for word in words)
    assert words[-1] == "--port=8123"


@pytest.mark.parametrize(
    ("command", "first", "guarded"),
    [("lab", "/lab", "/api/contents"), ("page", "/", "/api/kernels/none")],
)
def test_a_server_listens_on_loopback_and_asks_for_its_token(
    command: str, first: str, guarded: str, tmp_path: Path
) -> None:
    """Really started: without the token nothing is given, with it what is asked for."""
    if command == "page":
        pytest.importorskip("voila")
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    environment = os.environ | {name: str(tmp_path / name) for name in folders}
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["-m", "explorer", command, "--no-browser", f"--port={port}"]
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        try:
            lines = iter(server.stderr.readline, "")
            found = (re.search(r"(http://\S+:\d+)/\S*\?token=(\w+)", line) for line in lines)
            url, token = next(one.groups() for one in found if one is not None)
            assert url.startswith("http://127.0.0.1:")
            assert len(token) >= 32
            for asked in (first, guarded):
                assert is_refused(f"{url}{asked}")
                assert is_refused(f"{url}{asked}?token={'0' * len(token)}")
            assert not is_refused(f"{url}{guarded}?token={token}")
        finally:
            server.kill()


def is_refused(url: str) -> bool:
    """Whether a server forbids it or wants a login first."""
    address = urlsplit(url)
    for _ in range(100):  # it tells its address before it listens there
        connection = HTTPConnection(address.netloc, timeout=60)
        try:
            connection.request("GET", f"{address.path}?{address.query}")
            answer = connection.getresponse()
            return answer.status == 403 or "/login" in answer.getheader("Location", "")
        except ConnectionRefusedError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise AssertionError(f"{url} does not listen")


def test_without_voila_a_sentence_says_what_to_install(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = runner.invoke(app, ["page"])
    assert "pip install 'ondevice-explorer[page]'" in str(result.exception)
    assert started == []


@pytest.mark.parametrize("command", ["lab", "page"])
def test_an_installed_package_brings_the_notebook_into_the_working_folder(
    command: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    started = request.getfixturevalue("started")  # which stays where it is
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(files, "is_checkout", lambda: False)
    monkeypatch.setattr(files, "shipped", lambda folder: ROOT / folder)
    for content in (NOTEBOOK.read_bytes(), b"changed by its reader"):
        assert isinstance(runner.invoke(app, [command]).exception, StartedError)
        own = tmp_path / "explorer.ipynb"
        assert started[-1][3] == str(own)
        assert own.read_bytes() == content
        own.write_bytes(b"changed by its reader")


def test_a_page_that_was_left_gives_its_kernel_back_and_one_that_is_open_keeps_it() -> None:
    manager = pytest.importorskip("jupyter_server.services.kernels.kernelmanager")
    settings = json.loads((ROOT / "voila.json").read_text())["MappingKernelManager"]
    traits = manager.MappingKernelManager.class_traits(config=True)
    assert settings.keys() <= traits.keys()
    assert 60 <= settings["cull_interval"] < settings["cull_idle_timeout"] <= 3600
    assert not traits["cull_connected"].default_value


def test_the_page_keeps_the_app_and_leaves_out_what_is_for_readers_of_code() -> None:
    settings = json.loads((ROOT / "voila.json").read_text())["TagRemovePreprocessor"]
    assert settings["enabled"]
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    left_out = set(settings["remove_cell_tags"])
    kept = [cell for cell in cells if not left_out & set(cell["metadata"].get("tags", ()))]
    code = ["".join(cell["source"]) for cell in kept if cell["cell_type"] == "code"]
    assert code == ["import explorer\n\napp = explorer.app()\napp"]
    assert "Run the next cell" not in json.dumps(kept)
