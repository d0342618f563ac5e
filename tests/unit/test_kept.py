"""The view of a notebook that comes back with the next kernel."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import explorer.app as app_package
from explorer.app import App, get_app, keeper
from explorer.app import kept as kept_module
from explorer.app.bars import run_words
from explorer.app.keeper import Keeper, place_of
from explorer.app.kept import KeptView, kept_view
from explorer.app.view import CHOICE, selection_of
from explorer.document import parse_document
from explorer.session import Session

SESSION = Session()
Steps = Callable[[App, Keeper], Awaitable[None]]


def kept_in(path: Path | None, steps: Steps, session: Session = SESSION) -> None:
    """Run steps on a fresh app whose view is kept in `path`, as a kernel does."""

    async def main() -> None:
        app = App(session)
        try:
            attended = Keeper(app, path)
            await app.wait(30)
            await steps(app, attended)
        finally:
            app.close()

    asyncio.run(main())


async def nothing(app: App, keeper: Keeper) -> None:
    """Look at it and go."""


async def worked(app: App, keeper: Keeper) -> None:
    """Change what can be changed, and keep it."""
    app.controls.device.value = "stm32h743"
    app.controls.optimizer.value = "adam"
    app.controls.batch.value = 8
    app.controls.micro_batch.value = 2
    await app.wait(30)
    app.select("known:last-layer")
    app.pin()
    app.search(trials=40, seed=3)
    await app.wait(60)
    assert app.front is not None
    app.select(f"found:{app.front.rows[-1]}")
    app.pin()
    app.point_bar.fits_only.value = True
    app.tabs.open("Compare")
    await app.wait(30)
    keeper.keep()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What was kept after some work."""
    path = tmp_path_factory.mktemp("kept") / ".n.explorer.json"
    kept_in(path, worked)
    return path.read_text()


def test_everything_comes_back_with_the_next_kernel(tmp_path: Path) -> None:
    path = tmp_path / ".n.explorer.json"
    seen: list[tuple[Any, ...]] = []

    async def note(app: App, _: Keeper) -> None:
        chosen = selection_of(app.view)
        seen.append(
            (
                app.controls.read(),
                app.tabs.box.selected_index,
                app.view.fits_only,
                chosen.label,
                chosen.table.values[chosen.row],
                chosen.session,
                [(pin.label, pin.session) for pin in app.pins.pins],
                [pin.table.values[pin.row] for pin in app.pins.pins],
                run_words(app.run),
                app.searching.volumes,
                [
                    (trace.name, [] if trace.x is None else list(trace.x))
                    for trace in app.figure.data
                ],
                app.view.found and app.view.found.table.labels,
                (app.search_bar.trials.value, app.search_bar.seed.value),
                kept_view(app),
            )
        )

    async def work_and_note(app: App, keeper: Keeper) -> None:
        await worked(app, keeper)
        await note(app, keeper)

    kept_in(path, work_and_note)
    kept_in(path, note)
    before, after = seen
    for was, now in zip(before, after, strict=True):
        np.testing.assert_equal(now, was)
    assert before[0].device == "stm32h743"
    assert len(before[6]) == 2


def test_a_search_that_the_controls_left_comes_back_with_them(tmp_path: Path) -> None:
    path = tmp_path / ".n.explorer.json"

    async def leave(app: App, keeper: Keeper) -> None:
        await worked(app, keeper)
        app.controls.device.value = "gap9"
        await app.wait(30)
        assert app.run.phase == "idle"
        keeper.keep()

    async def go_back(app: App, _: Keeper) -> None:
        assert app.run.phase == "idle"
        app.controls.device.value = "stm32h743"
        await app.wait(30)
        assert (app.run.phase, app.run.done) == ("done", 40)

    kept_in(path, leave)
    kept_in(path, go_back)


def test_of_a_long_search_the_front_and_a_share_of_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module, "POINT_CAP", 30)
    path = tmp_path / ".n.explorer.json"
    fronts: list[Any] = []

    async def look(app: App, _: Keeper) -> None:
        assert app.view.found is not None
        table = app.view.found.table
        fronts.append(table.take(np.flatnonzero(table.on_front)).values)
        fronts.append(len(table))

    async def work_and_look(app: App, keeper: Keeper) -> None:
        await worked(app, keeper)
        await look(app, keeper)

    kept_in(path, work_and_look)
    kept_in(path, look)
    np.testing.assert_equal(fronts[2], fronts[0])
    assert fronts[3] < fronts[1]


def test_the_page_draws_what_came_back_and_undo_leads_to_the_question_of_the_cell(
    kept: str, tmp_path: Path
) -> None:
    path = tmp_path / ".n.explorer.json"
    path.write_text(kept)

    async def look(app: App, _: Keeper) -> None:
        assert "as it was left. Undo takes you" in app.message.value
        assert "h743" in repr(app)
        front = next(trace for trace in app.figure.data if trace.name == "front")
        assert len(front.x) > 0
        app.tabs.open("Search")
        await app.wait(30)
        app.undo()
        await app.wait(30)
        assert app.controls.device.value == SESSION.device
        assert "as it was left" not in app.message.value

    kept_in(path, look)


def test_a_kept_question_that_is_the_cells_own_offers_no_undo(tmp_path: Path) -> None:
    path = tmp_path / ".n.explorer.json"

    async def select(app: App, keeper: Keeper) -> None:
        app.select("known:full")
        await app.wait(30)
        keeper.keep()

    async def look(app: App, _: Keeper) -> None:
        assert "as it was left" in app.message.value
        assert "Undo" not in app.message.value
        assert app.controls.undo.disabled

    kept_in(path, select)
    kept_in(path, look)


@pytest.mark.parametrize(
    ("whole", "spoilt", "words"),
    [
        ("{", "not json", "not JSON"),
        ('"session": {', '"session": {"optimiser": "adam",', "optimiser"),
        ('"schema_version": 1', '"schema_version": 2', "schema_version"),
        ('"stm32h743"', '"stm32h999"', "stm32h999"),
        ('"trials"', '"trails"', "trials"),
        ('"tab": 6', '"tab": 66', "tab: got 66"),
        ('"blocks.', '"bricks.', "bricks."),
        ('"sampler": "nsga2"', '"sampler": "guess"', "sampler: got"),
    ],
)
def test_a_damaged_view_is_one_sentence_and_a_fresh_start(
    whole: str, spoilt: str, words: str, kept: str, tmp_path: Path
) -> None:
    path = tmp_path / ".n.explorer.json"
    path.write_text(kept.replace(whole, spoilt))
    assert path.read_text() != kept

    async def look(app: App, _: Keeper) -> None:
        assert "the last view cannot be shown: .n.explorer.json" in app.message.value
        assert words in app.message.value
        assert app.message.value.count("explorer-error") == 1
        assert app.view.session == SESSION
        assert app.controls.device.value == SESSION.device
        assert app.view.found is None
        assert app.pins.pins == ()
        assert app.tabs.box.selected_index == 0
        assert app.search_bar.trials.value == 400

    kept_in(path, look)


def test_a_cell_that_asks_something_else_gets_its_answer(kept: str, tmp_path: Path) -> None:
    path = tmp_path / ".n.explorer.json"
    path.write_text(kept)
    other = Session(model="digits-cnn")

    async def look(app: App, _: Keeper) -> None:
        assert app.view.session == other
        assert app.message.value == ""

    kept_in(path, look, other)


def test_a_point_that_is_gone_gives_way_to_the_choice(kept: str, tmp_path: Path) -> None:
    path = tmp_path / ".n.explorer.json"
    path.write_text(json.dumps(json.loads(kept) | {"selected": "known:no-such-policy"}))

    async def look(app: App, _: Keeper) -> None:
        assert app.view.selected_id == CHOICE

    kept_in(path, look)


def test_where_nothing_can_be_written_the_app_works_on(tmp_path: Path) -> None:
    async def steps(app: App, keeper: Keeper) -> None:
        for device in ("stm32f746", "stm32h743"):
            app.controls.device.value = device
            await app.wait(30)
            keeper.keep()
        assert "stm32h743" in repr(app)

    async def look(app: App, keeper: Keeper) -> None:
        keeper.keep()
        assert "the view is not kept: .n.explorer.json: No such file" in app.message.value
        await steps(app, keeper)
        assert "not kept" not in app.message.value  # said once

    kept_in(tmp_path / "gone" / ".n.explorer.json", look)
    kept_in(None, steps)
    assert list(tmp_path.iterdir()) == []


def test_the_view_is_kept_when_the_page_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "REST_S", 0.0)
    path = tmp_path / ".n.explorer.json"

    async def steps(app: App, _: Keeper) -> None:
        app.controls.device.value = "stm32f746"
        async with asyncio.timeout(30):
            while not path.is_file() or '"device": "stm32f746"' not in path.read_text():
                await asyncio.sleep(0.01)

    kept_in(path, steps)
    assert parse_document(KeptView, path.read_text(), path.name).settings.device == "stm32f746"
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        ({"JPY_SESSION_NAME": "/home/me/n.ipynb"}, Path("/home/me/.n.explorer.json")),
        ({"JPY_SESSION_NAME": "/home/me/console-1"}, None),
        ({"JPY_SESSION_NAME": "/home/me/n.ipynb", "SERVER_SOFTWARE": "voila/0.5.13"}, None),
    ],
)
def test_a_view_is_kept_beside_its_notebook(
    environment: dict[str, str], place: Path | None
) -> None:
    assert place_of(environment) == place


def test_the_app_of_a_kernel_is_attended(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".n.explorer.json").write_text(kept)
    monkeypatch.setattr(app_package, "_current", None)
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "n.ipynb"))
    app = get_app(SESSION)
    assert app.controls.device.value == "stm32h743"
    app.close()
