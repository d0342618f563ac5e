"""What twenty searches leave behind: no thread, no process, no memory."""

import asyncio
import gc
import threading
import time
import tracemalloc

import psutil
import pytest

from explorer.app import App
from explorer.app.keeper import Keeper
from explorer.app.runner import Runner
from explorer.errors import SpecError
from explorer.search.control import SearchControl
from explorer.session import Session
from explorer.units import MIB

SEARCHES = 20
MOST_GROWTH_BYTES = 1 * MIB  # 0.26 MiB was seen
SESSION = Session(model="digits-cnn")


async def searched(app: App, keeper: Keeper, seed: int) -> None:
    """A search from its start to its drawn end, a selection, and the view kept."""
    app.search(trials=20, seed=seed)
    await app.wait(60)
    app.select(f"found:{app.front.rows[0]}")
    await app.wait(60)
    while app.searching.share is None:
        await app.wait(60)
    keeper.keep()


def held_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_twenty_searches_leave_no_thread_no_process_and_no_memory(tmp_path) -> None:
    threads, children = set(threading.enumerate()), psutil.Process().children(recursive=True)

    async def main() -> None:
        app = App(SESSION)
        keeper = Keeper(app, tmp_path / ".n.explorer.json")
        await app.wait(60)
        for seed in range(3):
            await searched(app, keeper, seed)
        tracemalloc.start()
        try:
            await searched(app, keeper, 3)
            before = held_bytes()
            for seed in range(SEARCHES):
                await searched(app, keeper, 4 + seed % 2)
                running = set(threading.enumerate()) - threads
                assert len(running) <= 2, running  # the loop's own pool has at most a few
            assert held_bytes() - before < MOST_GROWTH_BYTES
        finally:
            tracemalloc.stop()
            app.close()

    asyncio.run(main())
    assert set(threading.enumerate()) <= threads
    assert psutil.Process().children(recursive=True) == children


def test_impatient_searches_leave_one_solver_at_work_and_none_after_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads, working, most = set(threading.enumerate()), [], []

    def slow_to_stop(_: Session, *, control: SearchControl, **options: object) -> None:
        working.append(control)
        most.append(len(working))
        while control.proceed():
            time.sleep(0.01)
        time.sleep(0.2)
        working.remove(control)
        raise SpecError("stopped")

    monkeypatch.setattr(Session, "exact_front", slow_to_stop)

    async def main() -> None:
        app = App(SESSION)
        for seed in range(4):
            app.search(trials=10, seed=seed, warm=False)
            await app.wait(60)
        app.close()

    asyncio.run(main())
    assert most
    assert set(most) == {1}
    assert set(threading.enumerate()) <= threads


def test_closing_in_the_middle_of_a_search_ends_its_thread() -> None:
    threads = set(threading.enumerate())

    async def main() -> None:
        app = App(SESSION)
        await app.wait(60)
        app.search(trials=100_000)
        while app.run.done == 0:
            await asyncio.sleep(0.01)
        assert set(threading.enumerate()) > threads
        app.close()

    asyncio.run(main())
    assert set(threading.enumerate()) <= threads


def test_a_search_thread_that_dies_in_silence_is_shown_and_raised_by_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Runner, "_work", lambda _: time.sleep(0.5))

    async def main() -> None:
        app = App(SESSION)
        try:
            await app.wait(60)
            app.search(trials=20)
            with pytest.raises(RuntimeError, match="the search thread ended without a word"):
                await app.wait(60)
            assert "the search thread ended without a word" in app.message.value
            assert app.run.phase == "failed"
            assert not app.search_bar.start.disabled
        finally:
            app.close()

    asyncio.run(main())
