"""Fetching from a server on this machine: whole files only, the pinned ones only."""

import hashlib
import http.server
import io
import json
import threading
import zipfile
from dataclasses import replace

import pytest

from explorer.accuracy import downloads
from explorer.accuracy.downloads import REMOTES, Remote, RemoteFile, fetch, fetched, remote
from explorer.catalog import names
from explorer.cli import run
from explorer.errors import MissingDataError, UnknownNameError
from explorer.paths import CACHE_VARIABLE, DATA_VARIABLE

COMMIT = "a" * 40
CONTENT = bytes(range(256)) * 400


def zipped(comment=COMMIT, **members) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = comment.encode()
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch):
    """Contents by path; `cut` paths promise their whole length and send half."""
    contents: dict[str, bytes] = {}
    cut: set[str] = set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = contents.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if content is not None:
                self.wfile.write(content[: len(content) // 2] if self.path in cut else content)

        def log_message(self, *_):
            pass

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    made.contents, made.cut = contents, cut
    made.url = f"http://127.0.0.1:{made.server_port}"
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def known(server, cache, monkeypatch):
    """A network `net` with a hash, and a task `set` of an archive, served here."""
    server.contents.update({"/net": CONTENT, "/set": zipped(a=b"image")})
    files = {
        "net": RemoteFile(
            url=f"{server.url}/net", name="net.pkl", sha256=hashlib.sha256(CONTENT).hexdigest()
        ),
        "set": RemoteFile(url=f"{server.url}/set", name="set.zip", archive_commit=COMMIT),
    }
    remotes = tuple(
        Remote(name=name, kind="task", repository="o/r", commit=COMMIT, licence="MIT", files=(f,))
        for name, f in files.items()
    )
    monkeypatch.setattr(downloads, "REMOTES", remotes)
    return files


def left(cache):
    return sorted(path.name for path in cache.rglob("*")) if cache.exists() else []


def test_a_file_is_fetched_once_and_found(server, cache, known):
    assert fetched("net") is None
    (path,) = fetch("net")
    assert path.read_bytes() == CONTENT
    assert fetched("net") == (path,)
    server.contents.clear()
    assert fetch("net") == (path,)
    assert left(cache) == ["net.pkl"]


def test_progress_is_shown_where_asked_for(known, cache, capfd):
    fetch("net", progressbar=True)
    assert "100%" in capfd.readouterr().err
    fetch("set")
    assert capfd.readouterr().err == ""


def test_another_file_than_the_pinned_one_is_refused(server, cache, known):
    server.contents["/net"] = CONTENT[:-1] + b"!"
    with pytest.raises(MissingDataError, match="sha256 is not the pinned one"):
        fetch("net")
    assert left(cache) == []


@pytest.mark.parametrize("name", ["net", "set"])
def test_half_a_file_leaves_nothing(server, cache, known, name):
    server.cut.add(f"/{name}")
    with pytest.raises(MissingDataError, match=name):
        fetch(name)
    assert left(cache) == []
    server.cut.clear()
    assert fetch(name)[0].is_file()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zipped("b" * 40, a=b"image"), "not the archive of commit"),
        (zipped(a=b"image")[:-60], "not a whole zip"),
        (zipped(a=b"image").replace(b"image", b"imagf"), "broken"),
        (b"<html>sign in</html>", "not a whole zip"),
    ],
)
def test_an_archive_must_be_whole_and_of_its_commit(server, cache, known, content, words):
    server.contents["/set"] = content
    with pytest.raises(MissingDataError, match=words):
        fetch("set")
    assert left(cache) == []


@pytest.mark.parametrize(("content", "words"), [(b"x" * 785, "multiple of 784"), (b"", "784")])
def test_rows_must_be_whole(cache, server, known, content, words):
    file = replace(known["net"], sha256=None, row_bytes=784)
    cache.mkdir()
    file.path.write_bytes(content)
    assert words in file.problem(file.path)
    file.path.write_bytes(b"x" * 784)
    assert file.problem(file.path) == ""


def test_a_file_changed_in_the_cache_is_said_and_fetched_again(server, cache, known):
    (path,) = fetch("net")
    path.write_bytes(b"something else")
    with pytest.raises(MissingDataError, match="explorer fetch net"):
        fetched("net")
    assert fetch("net")[0].read_bytes() == CONTENT


def test_a_refusal_of_the_server_is_one_sentence(server, cache, known):
    server.contents.clear()
    with pytest.raises(MissingDataError, match="the server says 404"):
        fetch("net")
    assert left(cache) == []


def test_without_a_network_it_is_one_sentence_and_exit_two(known, cache, monkeypatch, capsys):
    gone = replace(known["net"], url="http://127.0.0.1:9/net")
    monkeypatch.setattr(downloads, "REMOTES", (replace(remote("net"), files=(gone,)),))
    assert run(["fetch", "net"]) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1
    for word in ("net", "no connection", DATA_VARIABLE):
        assert word in err


def test_a_cache_that_cannot_be_written_is_one_sentence(known, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(MissingDataError, match=r"could not be fetched \((Not a dir|File exists)"):
        fetch("net")


def test_the_list_says_what_is_there(cache, capsys):
    assert run(["fetch", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [known.name for known in REMOTES]
    assert not any(row["present"] for row in rows)
    sizes = {row["name"]: row["size_bytes"] for row in rows}
    assert sizes["mcunet-5fps"] == 1_024_367
    assert sizes["caltech-101"] is None
    assert run(["fetch"]) == 0
    assert capsys.readouterr().out.count("unknown") == len(sizes) - 3


def test_fetching_in_a_terminal_reports_the_file(known, cache, capsys):
    assert run(["fetch", "net", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["present"]
    assert row["size_bytes"] == len(CONTENT)
    assert row["files"] == [str(cache / "net.pkl")]


def test_an_unknown_name_offers_near_ones():
    with pytest.raises(UnknownNameError, match="mcunet-5fps"):
        fetch("mcunet-5fp")


@pytest.mark.parametrize("known", REMOTES, ids=lambda known: known.name)
def test_every_download_belongs_to_an_entry_and_names_its_commit(known):
    assert known.name in names("model" if known.kind == downloads.NETWORK else "task")
    assert len(known.commit) == 40
    for file in known.files:
        assert known.commit in file.url
        assert file.url.startswith("https://")
        assert file.sha256 or known.kind == downloads.TASK
