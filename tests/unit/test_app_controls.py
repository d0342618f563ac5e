"""The controls of the app: what a person chose, what policy and network say, own parts."""

import asyncio
import base64
import html
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from explorer import catalog, paths
from explorer.app import App, fields, visitors
from explorer.app.kept import KeptView, kept_view, restore
from explorer.app.look import settings_of
from explorer.app.view import points_of, same_space
from explorer.device import DeviceProfile, load_device
from explorer.device_text import changed_numbers
from explorer.document import PolicyDocument, parse_document
from explorer.figures.hovers import hover_texts
from explorer.network import NetworkDocument
from explorer.search.sources import (
    known_runs,
    model_graph,
    model_home,
    model_options,
    model_task,
    own_ledger,
)
from explorer.session import ALWAYS_APPLICABLE, Session

NOW = datetime.now(UTC)
ROOT = Path(__file__).resolve().parents[2]


def driven(steps: Callable[[App], Awaitable[None]], session: Session | None = None) -> None:
    """Run steps on a fresh app under a loop, and close it."""

    async def main() -> None:
        app = App(session or Session(model="digits-cnn"))
        try:
            await app.wait(30)
            await steps(app)
        finally:
            app.close()

    asyncio.run(main())


async def turned(app: App, field: Any, value: object) -> Session:
    """A person turns a control; what is shown then."""
    field.value = value
    await app.wait(60)
    return app.view.session


# What a policy brings.


def test_a_policy_brings_its_setup_and_another_gives_back_what_was_chosen() -> None:
    async def steps(app: App) -> None:
        controls = app.controls
        edge = await turned(app, controls.policy, "biotrain-edge")
        shown = (controls.norm.value, controls.batch.value, controls.micro_batch.value)
        assert shown == ("gn", 8, 1)
        assert edge.setup == Session(model="digits-cnn", policy="biotrain-edge").setup
        assert "Brought by biotrain-edge" in controls.batch.tooltip
        assert "explorer-brought" in controls.batch._dom_classes
        assert "under its published setup: batch 8" in app.message.value
        full = await turned(app, controls.policy, "full")
        assert full.setup == Session(model="digits-cnn").setup
        assert (controls.norm.value, controls.batch.value) == ("", 1)
        assert "explorer-brought" not in controls.batch._dom_classes
        assert app.message.value == ""

    driven(steps, Session(model="digits-cnn", policy="full"))


def test_what_a_person_chose_wins_over_the_policy_and_outlasts_it() -> None:
    async def steps(app: App) -> None:
        controls = app.controls
        await turned(app, controls.optimizer, "adam")
        edge = await turned(app, controls.policy, "biotrain-edge")
        assert (edge.optimizer, edge.batch) == ("adam", 8)
        assert (await turned(app, controls.batch, 4)).micro_batch == 1
        assert "You chose it" in controls.batch.tooltip
        full = await turned(app, controls.policy, "full")
        assert (full.optimizer, full.batch, full.norm) == ("adam", 4, None)
        assert controls.read().batch == 4
        app.undo()
        await app.wait(30)
        assert app.view.session.brought_setup == {
            "norm": "gn",
            "update_timing": "deferred",
            "micro_batch": 1,
        }
        app.undo()
        await app.wait(30)
        assert (app.view.session.batch, controls.read().batch) == (8, None)

    driven(steps, Session(model="digits-cnn", policy="full"))


def test_a_micro_batch_is_chosen_with_the_batch_that_it_is_of() -> None:
    async def steps(app: App) -> None:
        controls = app.controls
        await turned(app, controls.policy, "biotrain-edge")
        await turned(app, controls.micro_batch, 4)
        assert (controls.read().batch, controls.read().micro_batch) == (8, 4)
        full = await turned(app, controls.policy, "full")
        assert (full.batch, full.micro_batch) == (8, 4)
        assert (await turned(app, controls.micro_batch, 0)).micro_batch is None
        assert (controls.batch.value, controls.micro_batch.value) == (1, 1)
        await turned(app, controls.batch, 2)
        await turned(app, controls.optimizer, "adam")
        controls.forget.click()
        await app.wait(30)
        assert app.view.session.own_setup == {}

    driven(steps, Session(model="digits-cnn", policy="full"))


@pytest.mark.parametrize(
    "session",
    [
        Session(),
        Session(model="mi-bminet", policy="biotrain-edge"),
        Session(model="tdssm:d_model=16", device="gap9", batch=4, policy="mu-finetune"),
        Session(model="digits-cnn", device="jetson-nano", precision="fp16", task="omniglot"),
    ],
    ids=lambda session: session.model,
)
def test_the_controls_tell_the_session_they_started_from(session: Session) -> None:
    async def steps(app: App) -> None:
        before = app.view.session
        app._settings_changed()
        await app.wait(30)
        after = app.view.session
        for name in ("model", "device", "task_name", "setup", "chosen_policy", "reserve_bytes"):
            now, then = getattr(after, name), getattr(before, name)
            if name == "chosen_policy":  # whose default options need no name
                now, then = replace(now, family=""), replace(then, family="")
            assert now == then, name
        kept = settings_of(session)
        assert replace(app.controls.read(), options=()) == replace(kept, options=())

    driven(steps, session)


# What the network says.


@pytest.mark.parametrize("model", catalog.names("model"))
def test_only_tasks_that_the_network_reads_are_offered_and_its_own_is_chosen(model: str) -> None:
    async def steps(app: App) -> None:
        await turned(app, app.controls.task, "omniglot")
        session = await turned(app, app.controls.model, model)
        own, names = model_task(model), [value for _, value in app.controls.task.options]
        reads_drawings = model_graph(model).input_shape[1] == model_graph(model).input_shape[2]
        assert session.task_name == ("omniglot" if reads_drawings else own)
        assert app.controls.task.value == ("omniglot" if reads_drawings else "")
        assert names[0] == ""
        assert own in app.controls.task.options[0][0]
        assert ("omniglot" in names) == reads_drawings
        signals = {"ecg-rhythm", "eeg-motor", "eog-saccades"} - {own}
        assert not signals & set(names)

    driven(steps)


@pytest.mark.parametrize(
    ("model", "device", "batch", "micro_batch"),
    [("mi-bminet", "gap9", 8, 1), ("epidenet", "gap9", 8, 1), ("tdssm", "radxa-zero", 32, 32)],
)
def test_a_biosignal_network_is_shown_as_it_was_published(
    model: str, device: str, batch: int, micro_batch: int
) -> None:
    async def steps(app: App) -> None:
        session = await turned(app, app.controls.model, model)
        assert (session.device, session.task_name) == (device, model_task(model))
        assert (session.setup.effective_batch, session.setup.micro_batch) == (batch, micro_batch)
        assert app.controls.read().device is app.controls.read().batch is None
        assert {one.effective_batch for one in app.view.known.designs.row_setups} == {batch}
        if device != "gap9":
            assert f"shown on {device}, where it was published" in app.message.value
        back = await turned(app, app.controls.model, "digits-cnn")
        assert (back.device, back.batch) == ("gap9", 1)

    driven(steps)


def test_a_device_and_a_batch_that_a_person_chose_stay() -> None:
    async def steps(app: App) -> None:
        await turned(app, app.controls.device, "jetson-nano")
        await turned(app, app.controls.batch, 2)
        session = await turned(app, app.controls.model, "tdssm")
        assert (session.device, session.batch) == ("jetson-nano", 2)
        app.undo()
        await app.wait(30)
        app.undo()
        await app.wait(30)
        assert app.controls.read().batch is None
        session = await turned(app, app.controls.model, "tdssm")
        assert (session.device, session.batch) == ("jetson-nano", 32)

    driven(steps)


@pytest.mark.parametrize("model", catalog.names("model"))
def test_where_a_network_was_published_is_a_device_it_can_be_asked_about(model: str) -> None:
    device, update = model_home(model)
    assert device in ("", *catalog.names("device"))
    Session(model=model, device=device or "gap9", policy=ALWAYS_APPLICABLE, usual=update).cost()


# A board and a network of one's own.


def test_a_device_is_copied_changed_checked_and_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def steps(app: App) -> None:
        parts = app.controls.own_parts
        assert parts.save.disabled
        assert parts.profile.disabled
        parts.copy.click()
        assert parts.device_path.value == "my-gap9.toml"
        assert "every number is still that of gap9" in parts.device_words.value
        good = parts.profile.value
        lines = good.splitlines()
        at = next(number for number, line in enumerate(lines) if line.startswith("clock_hz = "))
        parts.profile.value = "\n".join([*lines[:at], "clock_hz = -1", *lines[at + 1 :]])
        assert f"profile, line {at + 1}: clock_hz: got -1" in parts.device_words.value
        assert parts.save.disabled
        parts.profile.value = "\n".join([*lines[:at], "clock_hz = 200e6", *lines[at + 1 :]])
        assert "clock_hz 2e+08, not 3.7e+08" in parts.device_words.value
        parts.save.click()
        await app.wait(30)
        session = app.view.session
        assert session.device == app.controls.device.value == "my-gap9.toml"
        assert session.profile.find_block("clock_hz").kind == "assumed"
        assert list(changed_numbers(session.profile, load_device("gap9"))) == ["clock_hz"]
        assert app.controls.read().device == "my-gap9.toml"
        parts.save.click()
        assert "my-gap9.toml: is already there" in parts.device_words.value
        parts.device_path.value = "board.txt"
        parts.save.click()
        assert "a path that ends in .toml" in parts.device_words.value
        await turned(app, app.controls.device, "stm32f746")
        assert ("my-gap9.toml", "my-gap9.toml") in app.controls.device.options
        assert (await turned(app, app.controls.device, "my-gap9.toml")).profile.clock_hz == 200e6

    driven(steps)


def test_a_network_comes_from_a_path_or_an_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "net.json"
    text = NetworkDocument.of(model_graph("mi-bminet")).to_json()
    path.write_text(text)

    async def steps(app: App) -> None:
        parts = app.controls.own_parts
        parts.network_path.value = str(path)
        parts.show_network.click()
        await app.wait(30)
        assert app.view.session.model == app.controls.model.value == str(path)
        assert "layers is shown" in parts.network_words.value
        assert app.controls.task.options[0] == ("none", "")
        assert app.controls.model_fields == {}
        parts.network_path.value = str(tmp_path / "nothing.json")
        parts.show_network.click()
        assert "nothing.json: cannot be read" in parts.network_words.value
        parts.network_path.value = "net.onnx"
        parts.show_network.click()
        assert "a path that ends in .json" in parts.network_words.value
        file = {"name": "../sent.json", "content": memoryview(text.encode())}
        parts.upload.value = ({"type": "", "size": 1, "last_modified": NOW, **file},)
        await app.wait(30)
        kept = tmp_path / "cache" / "networks" / "sent.json"
        assert app.view.session.model == str(kept)
        assert kept.read_text() == text
        file = {"name": "code.py", "content": memoryview(b"1")}
        parts.upload.value = ({"type": "", "size": 1, "last_modified": NOW, **file},)
        assert "a path that ends in .json" in parts.network_words.value
        assert list(kept.parent.iterdir()) == [kept]
        file = {"name": "bad.json", "content": memoryview(b"{}")}
        parts.upload.value = ({"type": "", "size": 2, "last_modified": NOW, **file},)
        assert "bad.json" in parts.network_words.value
        assert "explorer-error" in parts.network_words.value
        await app.wait(30)
        assert app.view.session.model == str(kept)

    driven(steps)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("digits-cnn", "digits-cnn"),
        ("mbv2-w0.35-tinytrain", "mbv2-w0.35-tinytrain"),
        ("nets/net.json", "nets/net.json"),
        ("/home/me/nets/net.json", "/home/me…/net.json"),
        ("../boards/mine/my-long-board.toml", "…/my-long-board.toml"),
        ("/home/me/my_task.py:load", "/…/my_task.py:load"),
    ],
)
def test_of_a_path_a_list_shows_the_file(path: str, text: str) -> None:
    assert fields.shown(path) == (text, path)


def test_a_path_that_is_cut_is_whole_on_hover(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_text(NetworkDocument.of(model_graph("mi-bminet")).to_json())

    async def steps(app: App) -> None:
        field = app.controls.model
        assert "Shown" not in field.description
        app.controls.choose("model", str(path))
        await app.wait(30)
        assert (field.label, field.value) == fields.shown(str(path))
        assert f". Shown: {path}" in field.description
        await turned(app, field, "digits-cnn")
        assert "Shown" not in field.description
        assert fields.shown(str(path)) in field.options

    driven(steps)


async def read_task(app: App, path: object) -> str:
    """A person enters a task of their own; what is said of it."""
    parts = app.controls.own_parts
    parts.task_path.value = str(path)
    parts.read_task.click()
    async with asyncio.timeout(30):
        while parts.read_task.disabled:
            await asyncio.sleep(0.01)
    await app.wait(30)
    return str(parts.task_words.value)


CODE = """
import numpy as np
from pathlib import Path

with Path(__file__).with_name("ran").open("a") as file:
    file.write("x")

def load():
    return np.arange(24 * 64).astype("uint8").reshape(24, 8, 8), list("abcd") * 6
"""


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task of each kind: images of code, photographs, and signals as one file and as many."""
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "my_task.py").write_text(CODE)
    labels, signals = [0, 1] * 4, np.random.default_rng(0).normal(size=(8, 8, 1900))
    np.savez(tmp_path / "eeg.npz", signals=signals, labels=labels)
    for name in ("signals", "photos/cat", "photos/dog"):
        (tmp_path / name).mkdir(parents=True)
    rows = ["file,label"]
    for number, (label, signal) in enumerate(zip(labels, signals[:, :, :40], strict=True)):
        np.savetxt(tmp_path / "signals" / f"{number}.csv", signal.T, delimiter=",")
        rows.append(f"{number}.csv,{label}")
        image = Image.fromarray(np.full((20, 20, 3), 30 * number, dtype=np.uint8))
        image.save(tmp_path / "photos" / ("cat", "dog")[label] / f"{number}.png")
    (tmp_path / "signals" / "labels.csv").write_text("\n".join(rows))
    return tmp_path


def test_a_task_of_ones_own_is_read_and_offered_where_the_network_reads_it(own_data: Path) -> None:
    code, photos = f"{own_data}/my_task.py:load", str(own_data / "photos")

    async def steps(app: App) -> None:
        field = app.controls.task
        assert "24 images of 4 classes, and the task is shown" in await read_task(app, code)
        assert app.view.session.task == field.value == code
        assert "8 images of 2 classes" in await read_task(app, photos)
        assert app.view.session.task == field.value == photos
        names = [value for _, value in field.options]
        assert names[:3] == ["", photos, code]
        assert "omniglot" in names
        await turned(app, field, "omniglot")
        assert [value for _, value in field.options] == names
        # a network that reads neither, and then the first again
        await turned(app, app.controls.model, "mi-bminet")
        assert not {code, photos} & {value for _, value in field.options}
        words = await read_task(app, own_data / "eeg.npz")
        assert "8 signals of 2 classes" in words
        assert app.view.session.task == str(own_data / "eeg.npz")
        await turned(app, app.controls.model, "digits-cnn")
        assert app.view.session.task is None
        assert [value for _, value in field.options] == names

    driven(steps)


def test_a_task_that_cannot_be_is_one_sentence_and_the_view_stays(own_data: Path) -> None:
    async def steps(app: App) -> None:
        before = app.view.session
        for name, words in {
            "digits": "allowed: a folder, an .npz, file.py:name or package.module:name",
            "": "Task data: got ''",
            "nowhere.py:load": "task: no file nowhere.py",
            f"{own_data}/my_task.py:laod": "no laod in",
            f"{own_data}/nothing": "no such folder",
            f"{own_data}/eeg.npz": "eeg.npz: got (8, 1900), allowed: channels and samples (8, 8)",
            f"{own_data}/signals": "signals: got (8, 40), allowed",
        }.items():
            said = await read_task(app, name)
            assert "explorer-error" in said
            assert words in html.unescape(said)
        assert app.view.session == before
        assert str(own_data) not in str(app.controls.task.options)

    driven(steps)


def test_visitors_of_a_page_run_no_code(own_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.13")

    async def steps(app: App) -> None:
        for code in (f"{own_data}/my_task.py:load", "os:abort"):
            assert "not by visitors" in await read_task(app, code)
        assert not (own_data / "ran").exists()
        assert "8 images of 2 classes" in await read_task(app, own_data / "photos")

    driven(steps)


def downloaded(words: str) -> tuple[str, str]:
    """Name and text of the file that a link saves."""
    (link,) = re.findall(r'<a download="([^"]+)" href="data:[^,]+;base64,([^"]+)">', words)
    return link[0], base64.b64decode(link[1]).decode()


def test_visitors_of_a_page_download_and_write_to_no_path_they_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.13")
    network = NetworkDocument.of(model_graph("mi-bminet")).to_json()

    async def steps(app: App) -> None:
        bar, parts = app.point_bar, app.controls.own_parts
        bar.path.value = str(tmp_path / "taken" / "mine.json")
        bar.export.click()
        name, text = downloaded(bar.saved.value)
        assert name == "mine.json"
        assert parse_document(PolicyDocument, text, name).model.name == "digits-cnn"
        bar.path.value = ""
        bar.export.click()
        assert "Export needs a file name" in bar.saved.value

        parts.copy.click()
        assert parts.device_path.value == "my-gap9.toml"
        parts.profile.value = re.sub(r"clock_hz = \S+", "clock_hz = 1e8", parts.profile.value)
        parts.device_path.value = str(tmp_path / "boards" / "my-gap9.toml")
        parts.save.click()
        name, text = downloaded(parts.device_words.value)
        assert name == "my-gap9.toml"
        assert DeviceProfile.from_toml(text, name).clock_hz == 1e8
        await app.wait(30)
        assert app.view.session.profile.clock_hz == 1e8
        await turned(app, app.controls.device, "gap9")
        parts.copy.click()
        assert parts.device_path.value == "my-gap9-2.toml"
        await turned(app, app.controls.device, str(visitors.place_for(Path(name))))

        file = {"name": "../net.json", "content": memoryview(network.encode())}
        parts.upload.value = ({"type": "", "size": 1, "last_modified": NOW, **file},)
        await app.wait(30)
        places = [Path(app.view.session.model), Path(app.view.session.device)]
        assert {place.parent for place in places} == {visitors._visit()}
        assert list(tmp_path.iterdir()) == []

    driven(steps)


def test_a_kept_view_of_a_task_of_code_runs_nothing(own_data: Path) -> None:
    code = f"{own_data}/my_task.py:load"
    kept = []

    async def ask(app: App) -> None:
        await turned(app, app.controls.policy, "last-layer")
        app.controls.choose("task", code)
        await app.wait(30)
        kept.append(kept_view(app).to_json())

    async def show(app: App) -> None:
        restore(app, parse_document(KeptView, kept[0], "kept"))
        await app.wait(30)
        assert app.view.session.task == app.controls.task.value == code
        app.tabs.open("Evidence")
        await app.wait(30)
        assert not (own_data / "ran").exists()
        app.measure(1)
        await app.wait(60)
        assert "on " + code in app.measure_bar.status.value
        assert (own_data / "ran").read_text() == "x"
        (run,) = own_ledger(app.view.session.graph, code).read()
        assert run.accuracy == known_runs(app.view.session.graph, code)[0].accuracy

    driven(ask)
    driven(show)


def test_options_of_a_network_are_fields_that_say_what_is_allowed() -> None:
    async def steps(app: App) -> None:
        controls = app.controls
        assert controls.model_fields == {}
        await turned(app, controls.model, "tdssm")
        assert list(controls.model_fields) == list(model_options("tdssm"))
        field = controls.model_fields["d_model"]
        assert (field.placeholder, field.value) == ("128", "")
        assert "8 to 256" in field.tooltip
        assert "8 to 256" in controls.words.value
        session = await turned(app, field, "16")
        assert session.model == "tdssm:d_model=16"
        assert session.graph.parameter_count == model_graph("tdssm:d_model=16").parameter_count
        assert controls.more.description == "More (1 set)"
        await turned(app, field, "many")
        assert "d_model: got" in app.message.value
        assert app.view.session.model == "tdssm:d_model=16"
        for model, value in (("tdssm:d_model=16", "16"), ("tdssm", "")):
            app.undo()
            await app.wait(30)
            assert (app.view.session.model, field.value) == (model, value)
            assert "d_model: got" not in app.message.value
        await turned(app, field, "16")
        assert (await turned(app, controls.model, "mcunet-5fps")).model == "mcunet-5fps"
        session = await turned(app, controls.model_fields["resolution"], "96")
        assert session.graph.input_shape == (3, 96, 96)

    driven(steps)


def test_options_of_a_first_network_are_shown() -> None:
    async def steps(app: App) -> None:
        assert app.controls.model.value == "mcunet-5fps"
        assert app.controls.model_fields["resolution"].value == "84"
        assert app.view.session.model == "mcunet-5fps:resolution=84"

    driven(steps, Session(model="mcunet-5fps:resolution=84"))


# Keyboard and explanations.

INTERACTIVE = (
    widgets.Button,
    widgets.ToggleButton,
    widgets.Checkbox,
    widgets.Dropdown,
    widgets.Combobox,
    widgets.Text,
    widgets.Textarea,
    widgets.IntSlider,
    widgets.IntText,
    widgets.FloatText,
    widgets.FileUpload,
)


def within(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from within(child)


PAPER = re.compile(r"[A-Z]\w+ et al\., (arXiv \d{4}\.\d{5}|[A-Z]\w+ \d{4})")


def is_source(text: str) -> bool:
    """Whether it names a paper, or a file or a module that is there."""
    place = text.removeprefix("defined here: ")
    if PAPER.fullmatch(place) or (ROOT / place).exists():
        return place != ""
    return place.startswith("explorer.") and find_spec(place) is not None


def test_a_source_is_a_paper_or_something_that_is_there() -> None:
    for text in ("Lin et al., NeurIPS 2022", "docs/cost-model.md", "explorer.policies.full"):
        assert is_source(text)
        assert not is_source(f"{text}x")
    for text in ("", "defined here: ", "defined here: this page", "known", "us, 2026"):
        assert not is_source(text)


@pytest.mark.parametrize(
    ("model", "policy"),
    [
        ("digits-cnn", "full"),
        ("tdssm", "mu-distilled"),
        ("mcunet-5fps", "tinytrain"),
        ("mcunet-5fps", "free"),
        ("mi-bminet", "biotrain-edge"),
    ],
)
def test_every_control_has_a_name_and_one_line_that_says_what_it_is_and_by_whom(
    model: str, policy: str
) -> None:
    async def steps(app: App) -> None:
        app.pin()
        app.tabs.open("Compare")
        app.advice_bar.ask.click()
        await app.wait(30)
        found = [one for one in within(app.box) if isinstance(one, INTERACTIVE)]
        assert len(found) > 30
        for one in found:
            words = one.tooltip
            assert one.description, f"{words}: no name"
            said, _, source = words.rpartition(". Source: ")
            assert said, f"{one.description}: no explanation"
            assert is_source(source), f"{one.description}: {source!r} is no source"
            assert "\n" not in words
            assert one.tabbable in (None, True)

        app.controls.policy.value = "last-k"
        await app.wait(30)
        assert app.controls.option_fields["k"].tooltip.endswith("explorer.policies.last_k")

    driven(steps, Session(model=model, policy=policy))


def test_tab_goes_from_the_question_to_the_answer() -> None:
    async def steps(app: App) -> None:
        order = [one for one in within(app.box) if isinstance(one, INTERACTIVE)]
        controls = app.controls
        stops = [
            controls.model,
            controls.device,
            controls.policy,
            controls.more,
            controls.undo,
            controls.own_button,
            controls.own_parts.copy,
            app.search_bar.start,
            app.point_bar.points,
            app.measure_bar.measure,
        ]
        places = [order.index(one) for one in stops]
        assert places == sorted(places)

    driven(steps)


def test_the_list_of_points_says_which_are_of_another_batch() -> None:
    async def steps(app: App) -> None:
        texts = {name: text for text, name in app.point_bar.points.options}
        assert texts["known:biotrain-full-bn"].endswith(", batch 8 by 8")
        for spec in ("biotrain-edge", "full"):
            assert "batch" not in texts[f"known:{spec}"]
        await turned(app, app.controls.policy, "biotrain-full-bn")
        texts = {name: text for text, name in app.point_bar.points.options}
        assert "batch" not in texts["known:biotrain-full-bn"]
        assert texts["known:full"].endswith(", batch 8 by 1")

    driven(steps, Session(model="mi-bminet", policy="full"))


def test_a_cell_that_names_a_biosignal_network_is_shown_as_it_was_published() -> None:
    async def steps(app: App) -> None:
        before = app.view.session
        assert (before.setup.effective_batch, before.setup.micro_batch) == (8, 1)
        assert app.origin.batch == 1
        app._settings_changed()
        await app.wait(30)
        assert app.view.session == before

    driven(steps, Session(model="mi-bminet", policy="full"))


# What is worth showing.


def test_the_worth_axis_can_show_what_was_measured_alone() -> None:
    async def steps(app: App) -> None:
        axis = app.controls.worth_axis
        assert [word for _, word in axis.options] == ["", "f1", "accuracy", "auroc"]
        of_score = points_of(app.view)
        known = app.view.known
        row = of_score.ids.index("known:mu-train")
        assert of_score.worth_name == known.score_name
        assert of_score.measured[row].startswith("macro F1 ")
        hover = hover_texts(of_score, None, has_front=True)[row]
        assert of_score.worth_name in hover
        assert of_score.measured[row] in hover
        session = await turned(app, axis, "auroc")
        assert session.metric_column == "macro_auroc"
        shown = points_of(app.view)
        row = shown.ids.index("known:mu-train")
        assert shown.worth_name == "macro AUROC"
        assert shown.worth[row] == app.view.known.worth.measured[row]
        hover = hover_texts(shown, None, has_front=True)[row]
        assert hover.split("<br>")[1] == shown.measured[row]
        assert app.tradeoff_data.panels[0].y_axis.title == "macro AUROC (measured)"
        digits = await turned(app, app.controls.model, "digits-cnn")
        assert digits.metric is None
        assert [word for _, word in axis.options] == ["", "accuracy"]

    narrow = Session(model="tdssm:d_model=32,length=1024", device="radxa-zero")
    driven(steps, narrow)


def test_a_metric_that_is_the_tasks_own_is_no_other_search() -> None:
    session = Session(model="digits-cnn", policy="none")
    assert same_space(session, session.with_metric("accuracy"))
    narrow = Session(model="tdssm:d_model=32,length=1024", policy="none")
    assert same_space(narrow.with_metric("f1"), narrow)
    assert not same_space(narrow.with_metric("auroc"), narrow)
    assert not same_space(narrow.with_metric("accuracy"), session)


def test_published_accuracies_stand_on_the_axis_of_measured_ones() -> None:
    async def steps(app: App) -> None:
        assert not np.isfinite([mark.worth for mark in points_of(app.view).marks]).any()
        await turned(app, app.controls.worth_axis, "accuracy")
        worths = [mark.worth for mark in points_of(app.view).marks]
        assert max(worths) == pytest.approx(0.864)
        await turned(app, app.controls.worth_axis, "f1")
        assert not np.isfinite([mark.worth for mark in points_of(app.view).marks]).any()

    driven(steps, Session(model="mi-bminet", device="gap9", policy="biotrain-edge"))
