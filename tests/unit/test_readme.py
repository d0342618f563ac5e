"""The README's lines run, and its tables are those the command prints."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_python_lines_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len([line for line in lines.splitlines() if line.strip()]) == 10
    runpy.run_path(_script(tmp_path, lines))
    assert "LayerChoice" in capsys.readouterr().out


EVIDENCE = runpy.run_path(str(ROOT / "scripts" / "evidence.py"))


@pytest.mark.parametrize("page", EVIDENCE["PAGES"], ids=lambda page: page.name)
def test_evidence_is_up_to_date(page):
    text = page.read_text("utf-8")
    assert "<!-- evidence:" in text
    assert text == EVIDENCE["rewrite"](text), "run `make evidence`"


def test_every_command_in_the_readme_exists():
    from explorer.cli.shared import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    named = set(re.findall(r"^explorer (\w+)", README, re.MULTILINE))
    assert named <= known


def _script(folder, lines):
    path = folder / "readme.py"
    path.write_text(lines, "utf-8")
    return str(path)


def test_what_the_links_to_binder_open_is_there():
    links = re.findall(r"mybinder\.org/v2/gh/\S+?\?urlpath=(\S+?)\)", README)
    opened = [link.removeprefix("lab/tree/").removeprefix("voila/render/") for link in links]
    assert len(opened) == 2
    assert all((ROOT / path).is_file() for path in opened)
