"""Whether the built wheel works where there is no repository around it.

    python -m build --outdir build/dist && python scripts/check_package.py build/dist

Makes a virtual environment, installs the wheel with the tested versions, and in an empty
folder lists, prices, searches, exports and validates; then starts `explorer lab`, which must
answer on loopback with its token and refuse without. Needs a package index or a local copy.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("data_cache/README.md", "explorer/policy.schema.json", "LICENSE", "NOTICE")
PATIENCE_S = 120
SERVED = re.compile(r"(http://(?:127\.0\.0\.1|localhost):\d+)/\S*\?token=(\w+)")


def main(dist: Path) -> None:
    """Check the one wheel and the one source archive of a folder."""
    (wheel,) = dist.glob("*.whl")
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = [name for name in SHIPPED if name not in names]
    assert not missing, f"{source.name} lacks {missing}"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "work"
        folder.mkdir()
        script = installed(Path(place) / "venv", wheel)
        use(script, folder)
        serve(script, folder)
    print(f"{wheel.name}: works in a clean environment")


def installed(place: Path, wheel: Path) -> Path:
    """The console script of a fresh environment with the wheel."""
    venv.create(place, with_pip=True)
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "pip>=25.1"], check=True)
    tested = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, *tested, "torch==2.13.0"], check=True)
    subprocess.run([*pip, *tested, str(wheel)], check=True)
    return place / "bin" / "explorer"


def clean() -> dict[str, str]:
    """This environment without what could lead back to the repository."""
    left_out = ("PYTHONPATH", "VIRTUAL_ENV", "EXPLORER_DATA")
    return {name: value for name, value in os.environ.items() if name not in left_out}


def use(script: Path, folder: Path) -> None:
    """Commands that need what the wheel brings: entries, ledgers, score tables."""

    def run(*arguments: str) -> str:
        command = [str(script), *arguments]
        done = subprocess.run(
            command, cwd=folder, env=clean(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    assert "digits-cnn" in {row["name"] for row in json.loads(run("list", "models", "--json"))}
    cost = json.loads(run("cost", "mcunet-5fps", "gap9", "--policy", "tinytrain", "--json"))
    assert cost["macs"]["forward"] == 22_453_504
    run("search", "digits-cnn", "gap9", "--trials", "50", "--out", "front.json")
    candidates = json.loads((folder / "front.json").read_text("utf-8"))["candidates"]
    assert any(one["on_front"] for one in candidates)
    run("export", "front.json", "--out", "policy.json")
    run("validate", "front.json", "policy.json")
    measured = json.loads(run("calibrate", "digits-cnn", "digits", "--json"))
    assert measured[0]["run_count"] > 50


def serve(script: Path, folder: Path) -> None:
    """JupyterLab on loopback: an answer with the token, none without."""
    log = folder / "lab.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(script), "lab", "--no-browser", "--port=0"],
            cwd=folder,
            env=clean(),
            stdout=file,
            stderr=file,
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while (found := SERVED.search(log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        address, token = found.groups()
        assert status(f"{address}/api/contents/explorer.ipynb?token={token}") == 200
        assert status(f"{address}/api/contents/explorer.ipynb") == 403
    finally:
        process.terminate()
        process.wait(timeout=30)


def status(address: str) -> int:
    """What a server answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


if __name__ == "__main__":
    main(Path(sys.argv[1]))
