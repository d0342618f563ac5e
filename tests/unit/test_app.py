"""The app without a browser: widgets are driven, awaited and read."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from plotly.callbacks import Points as Hit

import explorer
import explorer.app as app_package
from explorer import catalog, paths
from explorer.accuracy.finetune import measure
from explorer.app import App, get_app, optimum, state
from explorer.app.answer import error_html, fit_line, levels_html, numbers_html, verdict_html
from explorer.app.asked import asked_about
from explorer.app.bars import run_words
from explorer.app.compare import PIN_CAP, compare_html
from explorer.app.details import details_html
from explorer.app.frame_clock import FrameClock
from explorer.app.numbers import numbers_of
from explorer.app.panes import Shown
from explorer.app.runner import Batch, Ended, Runner, Worker
from explorer.app.state import Phase, Run, reduce
from explorer.app.view import CHOICE, Selection, picks_of, selection_of
from explorer.costmodel.report import Fit
from explorer.document import load_policy
from explorer.errors import MissingDataError, SpecError
from explorer.figures.roles import ROLES
from explorer.search.control import SearchControl
from explorer.search.picks import NEAR_RATIO
from explorer.search.sources import measured_runs, own_ledger
from explorer.session import ALWAYS_APPLICABLE, Session
from explorer.units import format_bytes, format_joules, format_seconds

KNOWN, CHOSEN, BUDGET = (
    [role.name for role in ROLES].index(name) for name in ("known", "choice", "budget")
)
SESSION = Session()


@dataclass(frozen=True)
class Broken(Session):
    """A session whose search raises."""

    def search(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("<b>boom</b>")


@dataclass(frozen=True)
class Slow(Session):
    """A session whose search finds the known policies again and again."""

    def search(self, trials: int = 400, *args: Any, **options: Any) -> Any:
        table = self.compare()
        for done in range(1, trials + 1):
            if not options["control"].proceed():
                break
            time.sleep(0.01)
            options["on_batch"](done, trials, table, 0.5)
        return super().search(trials=0)


def driven(steps: Callable[[App], Awaitable[None]], session: Session = SESSION) -> None:
    """Run steps on a fresh app under a loop, and close it."""

    async def main() -> None:
        app = App(session)
        try:
            await app.wait(30)
            await steps(app)
        finally:
            app.close()

    asyncio.run(main())


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def option_texts(field: Any) -> list[str]:
    return [option if isinstance(option, str) else option[0] for option in field.options]


# The reducer.

PROGRESS = state.Progressed(done=5, total=10, hypervolume=0.5, front_count=3, elapsed_s=2.0)
WORKER = (PROGRESS, state.Finished(), state.Failed(error="x"))


@pytest.mark.parametrize(
    ("before", "event", "after"),
    [
        (Phase.IDLE, state.Started(total=9), Phase.RUNNING),
        (Phase.DONE, state.Started(total=9), Phase.RUNNING),
        (Phase.FAILED, state.Started(total=9), Phase.RUNNING),
        (Phase.RUNNING, state.PauseAsked(), Phase.PAUSED),
        (Phase.PAUSED, state.ResumeAsked(), Phase.RUNNING),
        (Phase.RUNNING, state.StopAsked(), Phase.STOPPING),
        (Phase.PAUSED, state.StopAsked(), Phase.STOPPING),
        (Phase.STOPPING, state.Finished(), Phase.DONE),
        (Phase.RUNNING, state.Finished(), Phase.DONE),
        (Phase.PAUSED, PROGRESS, Phase.PAUSED),
        (Phase.STOPPING, PROGRESS, Phase.STOPPING),
        (Phase.RUNNING, state.Failed(error="x"), Phase.FAILED),
        (Phase.DONE, state.Outdated(), Phase.IDLE),
        (Phase.FAILED, state.Outdated(), Phase.IDLE),
    ],
)
def test_legal_events(before: Phase, event: state.Event, after: Phase) -> None:
    assert reduce(Run(phase=before), event).phase is after


@pytest.mark.parametrize(
    ("phase", "event"),
    [
        (Phase.RUNNING, state.Started(total=9)),
        (Phase.PAUSED, state.PauseAsked()),
        (Phase.DONE, state.PauseAsked()),
        (Phase.DONE, state.ResumeAsked()),
        (Phase.RUNNING, state.ResumeAsked()),
        (Phase.IDLE, state.StopAsked()),
        (Phase.STOPPING, state.StopAsked()),
        (Phase.RUNNING, state.Outdated()),
    ],
)
def test_what_a_person_asks_too_late_is_ignored(phase: Phase, event: state.Event) -> None:
    run = Run(phase=phase, done=3)
    assert reduce(run, event) is run


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.DONE, Phase.FAILED])
@pytest.mark.parametrize("event", WORKER)
def test_what_a_worker_cannot_say_raises(phase: Phase, event: state.Event) -> None:
    with pytest.raises(ValueError, match="no search is active"):
        reduce(Run(phase=phase), event)


def test_a_run_knows_its_rate_and_when_it_last_gained() -> None:
    run = reduce(Run(phase=Phase.RUNNING, total=10), PROGRESS)
    run = reduce(run, replace(PROGRESS, done=8))
    assert (run.done, run.gained_at, run.trials_per_s) == (8, 5, 4.0)


# Control and runner.


def test_control_holds_and_releases() -> None:
    control, passed = SearchControl(), threading.Event()
    control.pause()
    thread = threading.Thread(target=lambda: (control.proceed(), passed.set()))
    thread.start()
    assert not passed.wait(0.1)
    control.resume()
    assert passed.wait(2)
    thread.join()
    assert control.proceed()


def test_stopping_wakes_a_paused_search_and_is_final() -> None:
    control = SearchControl()
    control.pause()
    threading.Timer(0.05, control.stop).start()
    assert not control.proceed()
    control.pause()
    assert not control.proceed()
    assert control.is_stopped


def test_runner_reports_batches_and_the_result() -> None:
    table, woken = SESSION.compare(), []

    def search(on_batch: Any, control: SearchControl) -> Any:
        on_batch(1, 2, table, 0.1)
        on_batch(2, 2, table, 0.2)
        return "front"

    runner = Runner(search, lambda: woken.append(True))
    assert runner.drain() == []
    runner.start()
    assert runner.join(5)
    first, second, last = runner.drain()
    assert isinstance(first, Batch)
    assert (second.done, second.hypervolume) == (2, 0.2)
    assert last == Ended(result="front")
    assert len(woken) == 4  # by each report, and by the end of the thread
    assert runner.drain() == []


def test_a_run_says_what_it_is_at_and_how_long_it_takes_yet() -> None:
    run = reduce(Run(), state.Started(total=100))
    assert run_words(run) == "<b>running</b> 0/100, starting from good designs"
    shown = state.Progressed(done=0, total=100, hypervolume=0.5, front_count=3, elapsed_s=0.0)
    run = reduce(run, shown)
    words = "<b>running</b> 0/100, starting from good designs, front 3, hypervolume 0.5"
    assert run_words(run) == words
    run = reduce(run, replace(shown, done=25, elapsed_s=0.5))
    words = "50 trials/s, 1.50 s left, front 3, hypervolume 0.5 (no gain for 25)"
    assert run_words(run) == f"<b>running</b> 25/100, {words}"
    words = words.replace(" 1.50 s left,", "")
    assert run_words(reduce(run, state.PauseAsked())) == f"<b>paused</b> 25/100, {words}"
    assert run_words(reduce(run, state.Finished())) == f"<b>stopped</b> 25/100, {words}"


def test_the_rate_counts_from_the_first_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, table = [0.0], SESSION.compare()
    clock = SimpleNamespace(monotonic=lambda: now_s[0])
    monkeypatch.setattr("explorer.app.runner.time", clock)

    def search(on_batch: Any, control: SearchControl) -> Any:
        for done, at_s in ((0, 3.0), (0, 5.0), (2, 6.0)):
            now_s[0] = at_s
            on_batch(done, 2, table, 0.1)

    runner = Runner(search, lambda: None)
    runner.start()
    assert runner.join(5)
    times = [report.elapsed_s for report in runner.drain() if isinstance(report, Batch)]
    assert times == [0.0, 0.0, 1.0]


def test_runner_brings_an_exception_home() -> None:
    def search(on_batch: Any, control: SearchControl) -> Any:
        raise KeyError("lost")

    runner = Runner(search, lambda: None)
    runner.start()
    assert runner.join(5)
    (report,) = runner.drain()
    assert isinstance(report.error, KeyError)


def test_runner_notices_a_thread_that_died_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, "_work", lambda self: None)
    runner = Runner(lambda on_batch, control: None, lambda: None)
    runner.start()
    assert runner.join(5)
    (report,) = runner.drain()
    assert "without a word" in str(report.error)


# The frame clock and the figure.


def test_clock_waits_for_the_browser_once_there_is_one() -> None:
    async def main() -> None:
        clock = FrameClock()
        await asyncio.wait_for(clock.tick(), 0.5)
        assert not clock.is_attended
        clock.ack = 1
        waiting = asyncio.create_task(clock.tick())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        clock.ack = clock.seq
        await asyncio.wait_for(waiting, 0.5)
        await asyncio.wait_for(clock.tick(), 2)
        clock.close()

    asyncio.run(main())


def test_a_page_that_loads_again_gets_what_is_shown_now() -> None:
    async def steps(app: App) -> None:
        app.controls.device.value = "stm32f746"
        await app.wait(30)
        sent_to_page: list[Any] = []
        app.figure.comm.send = lambda *words, **more: sent_to_page.append((words, more))
        state_now = app.figure.get_state()
        assert sent_to_page == []  # a page takes the first message as the answer it waits for
        shown = np.asarray(app.figure.data[KNOWN].x)
        packed = state_now["_widget_data"][KNOWN]["x"]
        sent = np.frombuffer(base64.b64decode(packed["bdata"]), dtype=packed["dtype"])
        np.testing.assert_array_equal(sent, shown)

    driven(steps)


# Details.


def test_a_misfit_says_by_how_many_bytes() -> None:
    line = fit_line(Fit(level="SRAM", needed_bytes=300_000, usable_bytes=262_144))
    assert line == (
        "SRAM: needs 293 KiB of 256 KiB usable: does not fit, 37,856 bytes (37.0 KiB) over"
    )
    assert fit_line(Fit(level="L2", needed_bytes=10, usable_bytes=10)).endswith(": fits")


def test_details_escape_what_people_typed() -> None:
    text = verdict_html(SESSION.cost(), "<script>alert(1)</script>", "a < b")
    assert "<script>" not in text
    assert "a &lt; b" in text
    assert error_html("<i>") == '<div class="explorer-error" role="alert">&lt;i&gt;</div>'
    assert error_html("") == ""


@pytest.mark.parametrize("path", ["step.time_s", "step.energy_j", "session.time_s"])
def test_numbers_give_kind_and_interval(path: str) -> None:
    cost = SESSION.cost()
    known = cost.provenance[path]
    text_of = format_seconds if path.endswith("time_s") else format_joules
    interval = f"{known.kind}, 90 %: {text_of(known.low)} to {text_of(known.high)}"
    assert interval in numbers_html(cost)


def test_details_name_what_trains_adapters_included() -> None:
    cost = replace(SESSION, policy="tinytl:blocks=2").cost()
    trained = int((cost.layers["trained_ratio"] > 0).sum())
    text = details_html(cost)
    assert f"What trains: {trained} of" in text
    assert text.count("_adapter_conv</td>") == 2


def test_numbers_tell_of_the_session_and_what_training_adds() -> None:
    cost = replace(SESSION, steps=77, policy="tinytrain").cost()
    text = numbers_html(cost)
    assert "<td>77 steps</td>" in text
    assert format_joules(cost.session["energy_j"]) in text
    assert f"{format_seconds(cost.session['selection_time_s'])} of the session to choose" in text
    extra = format_bytes(cost.memory["training_extra_bytes"])
    assert f'above inference</td><td class="number">{extra}</td>' in text


def test_every_level_has_a_bar_as_long_as_its_need() -> None:
    cost = replace(SESSION, policy="full").cost()
    data, weights = cost.fits
    assert weights.fits
    assert not data.fits
    text = verdict_html(cost, "x", "")
    assert '<i class="need" style="width:100.0%"></i>' in text
    assert f"left:{100 * data.usable_bytes / data.needed_bytes:.1f}%" in text
    assert f"{data.needed_bytes - data.usable_bytes:,.0f} bytes over" in text
    assert f'style="width:{100 * weights.needed_bytes / weights.usable_bytes:.1f}%"' in text
    assert cost.warnings
    for warning in cost.warnings:
        assert f'<div class="warning">{warning}</div>' in text


def test_levels_say_what_each_holds() -> None:
    levels = SESSION.memory_map().levels
    text = levels_html(levels)
    assert text.count("L1") == 1
    assert "in L1 (the busiest buffers)</span>" in text
    for use in levels:
        held, usable = format_bytes(use.needed_bytes), format_bytes(use.usable_bytes)
        assert f"{held} of {usable} in {use.level}" in text
    assert levels_html(levels[:1]) == ""


def test_a_candidate_is_compared_and_mapped_as_the_session_that_names_it() -> None:
    known = SESSION.compare()
    row = known.labels.index("last-layer")
    other = SESSION.with_policy("last-layer")
    assert SESSION.against(SESSION, known, row) == other.against(SESSION)
    assert SESSION.memory_map(known, row).levels == other.memory_map().levels


def test_numbers_say_what_placing_ahead_is_worth() -> None:
    cost = SESSION.cost()
    text = numbers_html(cost)
    ahead, in_order = (cost.memory[name] for name in ("arena_bytes", "runtime_arena_bytes"))
    assert f"placed ahead {format_bytes(ahead)}; a run-time allocator in order of need: " in text
    assert f"{format_bytes(in_order)}, {in_order / ahead - 1:+.0%}" in text
    other = replace(SESSION, accounting="tinytrain").cost()
    assert "run-time allocator" not in numbers_html(other)


# The app.


def test_first_paint_is_complete() -> None:
    async def steps(app: App) -> None:
        known = app.view.known.labels
        assert set(app.tradeoff_data.trace_ids[KNOWN]) == {f"known:{name}" for name in known}
        assert "fits" in app.answer.verdict.value
        assert "steps" in app.answer.numbers.value
        assert "in L1 (the busiest buffers)" in app.answer.levels.value
        assert app.run.phase is Phase.IDLE
        assert app.search_bar.pause.disabled
        assert app.search_bar.stop.disabled
        limits = app.figure.data[[role.name for role in ROLES].index("budget")].x
        energy_kind = app.view.cost.provenance["step.energy_j"].kind
        assert f"({energy_kind})" in app.figure.layout.xaxis2.title.text
        assert SESSION.profile.memory[0].usable_bytes == pytest.approx(limits[0], rel=1e-6)

    driven(steps)


@pytest.mark.parametrize("device", catalog.names("device"))
def test_another_device_changes_every_panel_and_the_precisions(device: str) -> None:
    async def steps(app: App) -> None:
        before = [np.array(app.figure.data[len(ROLES) * panel + KNOWN].x) for panel in range(3)]
        app.controls.device.value = device
        await app.wait(30)
        assert app.view.session.device == device
        assert app.message.value == ""
        after = [np.array(app.figure.data[len(ROLES) * panel + KNOWN].x) for panel in range(3)]
        assert any(
            old.shape != new.shape or (old != new).any()
            for old, new in zip(before, after, strict=True)
        )
        profile = app.view.session.profile
        assert [name for _, name in app.controls.precision.options] == ["", *profile.kernels]

    driven(steps, Session(device="jetson-nano" if device != "jetson-nano" else "gap9"))


@pytest.mark.parametrize("model", catalog.names("model"))
def test_every_model_can_be_shown(model: str) -> None:
    async def steps(app: App) -> None:
        app.controls.model.value = model
        await app.wait(60)
        assert app.view.session.model == model
        assert len(app.tradeoff_data.trace_ids[KNOWN])

    driven(steps, Session(device="jetson-nano"))


def test_a_bad_combination_is_one_sentence_and_the_view_stays() -> None:
    async def steps(app: App) -> None:
        view = app.view
        app.controls.batch.value = 4
        await app.wait(30)
        app.controls.micro_batch.value = 3
        await app.wait(30)
        assert "micro_batch" in app.message.value
        assert app.view.session.batch == 4
        assert app.view.session.micro_batch is None
        app.controls.micro_batch.value = 2
        await app.wait(30)
        assert app.message.value == ""
        assert app.view.session.micro_batch == 2
        assert app.view is not view

    driven(steps)


def test_a_precision_the_new_device_lacks_gives_way_to_its_own() -> None:
    async def steps(app: App) -> None:
        app.controls.precision.value = "fp16"
        await app.wait(30)
        assert app.view.session.precision == "fp16"
        app.controls.device.value = "stm32f746"
        await app.wait(30)
        assert app.view.session.precision is None

    driven(steps)


def test_when_nothing_fits_the_page_says_by_how_much() -> None:
    async def steps(app: App) -> None:
        assert "no known policy fits; nearest is" in app.message.value
        assert "bytes (" in app.message.value
        assert "bytes over" in app.answer.verdict.value
        app.controls.device.value = "jetson-nano"
        await app.wait(30)
        assert app.message.value == ""

    driven(steps, Session(device="stm32f746", batch=64))


def test_advice_is_about_what_the_controls_say() -> None:
    async def steps(app: App) -> None:
        assert app.advice_bar.answer.value == ""
        app.advice_bar.ask.click()
        assert "smallest device that fits" in app.advice_bar.answer.value
        assert "(modelled)" in app.advice_bar.answer.value.rpartition("<div>")[2]
        assert app.advice_bar.changes.children
        assert app.advice_bar.ask.layout.display == "none"
        app.controls.optimizer.value = "adam"
        await app.wait(30)
        assert app.advice_bar.answer.value == ""
        assert app.advice_bar.changes.children == ()
        assert app.advice_bar.ask.layout.display is None

    driven(steps)


def test_advice_is_about_the_selected_design_and_a_change_is_one_of_it() -> None:
    async def steps(app: App) -> None:
        app.select("known:biotrain-full-bn")
        await app.wait(30)
        assert app.advice_bar.answer.value == ""
        app.advice_bar.ask.click()
        asked = replace(app.view.session, policy="biotrain-full-bn")
        assert asked.setup == selection_of(app.view).setup != app.view.session.setup
        once, device = asked.advise().sentences
        said = app.advice_bar.answer.value
        assert f"for biotrain-full-bn: {once}; {device} (modelled)" in said
        buttons = [row.children[0] for row in app.advice_bar.changes.children]
        (split,) = [one for one in buttons if one.description.startswith("micro_batch=1")]
        split.click()
        await app.wait(30)
        session = app.view.session
        assert (session.policy, session.batch) == ("biotrain-full-bn", 8)
        assert (session.micro_batch, session.norm) == (1, "gn")

    driven(steps, Session(model="mi-bminet", policy="full"))


def test_advice_on_a_design_of_a_search_is_about_that_design_and_has_no_buttons() -> None:
    async def steps(app: App) -> None:
        app.search(trials=40)
        await app.wait(60)
        table = app.table
        row = next(row for row in np.flatnonzero(table.on_front) if not table.labels[row])
        app.select(f"found:{row}")
        await app.wait(30)
        app.advice_bar.ask.click()
        assert f"for candidate {row}: largest" in app.advice_bar.answer.value
        asked = asked_about(app.view)
        np.testing.assert_equal(
            asked.cost().memory, app.view.session.candidate_cost(table, row).memory
        )
        assert asked.cost().macs == app.view.session.candidate_cost(table, row).macs
        assert app.advice_bar.changes.children
        for line in app.advice_bar.changes.children:
            (words,) = line.children
            assert "saves " in words.value
        halved = asked.with_optimizer("adam").with_batch(4, 2)
        assert halved.chosen_policy == table.designs.policy(row)
        assert halved.with_policy("last-layer").chosen_policy.family == "last-layer"
        app.select(CHOICE)
        await app.wait(30)
        assert app.advice_bar.answer.value == ""

    driven(steps, Session(model="digits-cnn", policy="full", batch=8, optimizer="adam"))


def test_a_misfit_comes_with_fixes_that_a_button_applies() -> None:
    async def steps(app: App) -> None:
        assert not app.view.cost.fits_all
        assert "one sample at a time fits" in app.advice_bar.answer.value
        button = app.advice_bar.changes.children[0].children[0]
        setting = button.description
        button.click()
        await app.wait(30)
        assert app.view.cost.fits_all
        for part in setting.split(", "):
            name, _, value = part.partition("=")
            assert str(getattr(app.view.session, name)) == value
        assert app.advice_bar.answer.value == ""
        app.controls.undo.click()
        await app.wait(30)
        assert not app.view.cost.fits_all

    driven(steps, Session(device="stm32f746", policy="full", batch=8))


def test_a_question_can_be_undone_and_redone() -> None:
    async def steps(app: App) -> None:
        first = app.view.session
        assert app.controls.undo.disabled
        assert app.controls.redo.disabled
        app.controls.model.value = "digits-cnn"
        await app.wait(30)
        app.controls.policy.value = "last-k"
        await app.wait(30)
        app.controls.option_fields["k"].value = "2"
        await app.wait(30)
        last = app.view.session
        assert last.policy == "last-k:k=2"
        for _ in range(10):
            app.controls.undo.click()
            await app.wait(30)
        assert app.view.session == first
        assert app.controls.undo.disabled
        for _ in range(10):
            app.controls.redo.click()
            await app.wait(30)
        assert app.view.session == last
        app.controls.undo.click()
        await app.wait(30)
        app.controls.batch.value = 4
        await app.wait(30)
        assert app.controls.redo.disabled

    driven(steps)


def test_going_back_to_what_was_searched_shows_its_run_again() -> None:
    async def steps(app: App) -> None:
        app.search(trials=20)
        await app.wait(60)
        app.controls.batch.value = 2
        await app.wait(30)
        assert app.run.phase is Phase.IDLE
        app.controls.undo.click()
        await app.wait(30)
        assert app.run.phase is Phase.DONE
        assert "done</b> 20/20" in app.search_bar.status.value
        app.controls.redo.click()
        await app.wait(30)
        assert app.run.phase is Phase.IDLE

    driven(steps, Session(model="digits-cnn"))


def test_tabs_describe_what_is_selected() -> None:
    async def steps(app: App) -> None:
        _, network, memory, spent, battery, search, _, evidence = app.tabs.box.children
        assert network.children[1].outputs == ()
        drawn = {}
        for title, box in (
            ("Network", network.children[1]),
            ("Memory map", memory),
            ("Time and energy", spent),
            ("Battery", battery.children[1]),
            ("Search", search.children[0]),
        ):
            app.tabs.open(title)
            await app.wait(30)
            drawn[title] = json.dumps(box.outputs[0]["data"]["application/vnd.plotly.v1+json"])
        assert "No search yet" in search.children[1].value
        assert search.children[2].outputs == ()
        assert '"parcoords"' in drawn["Search"]
        app.tabs.open("Evidence")
        await app.wait(30)
        for path in app.view.cost.provenance:
            assert path in evidence.value
        app.search(trials=40)
        await app.wait(60)
        app.tabs.open("Search")
        await app.wait(60)
        assert "40 of 40 trials" in search.children[1].value
        assert search.children[2].outputs
        lines, run = search.children[0].outputs, app.searching.run
        full = selection_of(replace(app.view, selected_id="known:full"))
        shown = Shown(view=app.view, chosen=full, cost=app.view.cost, searching=app.searching)
        app.searching.run = replace(run, phase=Phase.RUNNING)
        app.tabs.show(shown)
        assert search.children[0].outputs == lines  # they rest while candidates stream in
        assert "the lines follow" in search.children[1].value
        app.searching.run = run
        app.tabs.show(shown)
        assert search.children[0].outputs != lines
        app.tabs.open("Network")
        app.select("known:full")
        await app.wait(30)
        assert json.dumps(network.children[1].outputs) != drawn["Network"]
        network.children[0].children[0].value = "energy_j"
        assert "energy" in json.dumps(network.children[1].outputs)

    driven(steps, Session(model="digits-cnn"))


def test_pinned_designs_stand_side_by_side() -> None:
    async def steps(app: App) -> None:
        app.tabs.open("Compare")
        await app.wait(30)
        assert "Nothing is pinned" in app.pins.table.value
        app.point_bar.pin.click()
        await app.wait(30)
        assert app.point_bar.pin.disabled
        app.controls.device.value = "jetson-nano"
        app.controls.optimizer.value = "adam"
        await app.wait(30)
        for label in ("known:full", "known:last-layer", "known:none"):
            app.select(label)
            await app.wait(30)
            app.point_bar.pin.click()
            await app.wait(30)
        assert [pin.label for pin in app.pins.pins][1:] == ["full", "last-layer", "none"]
        table = app.pins.table.value
        assert "<td>gap9</td><td class=differs>jetson-nano</td>" in table
        assert "<td class=differs>adam</td>" in table
        full = app.view.session.candidate_cost(app.view.known, app.view.known.labels.index("full"))
        assert format_bytes(full.memory["peak_live_bytes"]) in table
        app.select("known:bias-only:last=12")
        await app.wait(30)
        assert app.point_bar.pin.disabled  # there is room for four
        app.pin()
        assert len(app.pins.pins) == PIN_CAP
        app.pins.buttons.children[0].click()
        await app.wait(30)
        assert len(app.pins.buttons.children) == 3
        assert "gap9" not in app.pins.table.value
        assert not app.point_bar.pin.disabled

    driven(steps)


def test_a_label_in_the_comparison_is_escaped() -> None:
    pin = Selection(session=SESSION, label="<i>", table=SESSION.chosen(), row=0)
    assert "&lt;i&gt;" in compare_html([(pin, SESSION.cost())])


def test_options_follow_the_policy() -> None:
    async def steps(app: App) -> None:
        for family in SESSION.policies():
            app.controls.policy.value = family.name
            await app.wait(30)
            fields = app.controls.option_fields
            assert list(fields) == list(family.options)
        app.controls.policy.value = "last-k"
        await app.wait(30)
        (k,) = app.controls.option_fields.values()
        k.value = "7"
        await app.wait(30)
        assert app.view.session.policy == "last-k:k=7"
        k.value = "many"
        await app.wait(30)
        assert "many" in app.message.value
        assert app.view.session.policy == "last-k:k=7"

    driven(steps)


def test_rare_settings_are_put_away_and_counted() -> None:
    async def steps(app: App) -> None:
        controls = app.controls
        assert controls.rare_grid.layout.display == "none"
        assert controls.more.description == "More settings"
        own = [controls.option_fields[name] for name in ("biases", "layers", "shares")]
        assert set(own) <= set(controls.rare_grid.children)
        assert controls.option_fields["scheme"] in controls.grid.children
        controls.more.value = True
        assert controls.rare_grid.layout.display == ""
        controls.recompute.value = "blocks"
        await app.wait(30)
        assert controls.more.description == "Fewer (1 set)"
        controls.option_fields["scheme"].value = ""
        controls.option_fields["biases"].value = "3"
        await app.wait(30)
        assert app.message.value == ""
        assert app.view.session.policy == "sparse-update:biases=3"
        assert controls.more.description == "Fewer (2 set)"
        controls.policy.value = "adapter-drop"
        await app.wait(30)
        assert controls.more.description == "Fewer (1 set)"
        assert "_adapter_conv" in app.tabs.box.children[0].value

    driven(steps)


def test_a_policy_that_the_new_model_lacks_is_replaced_with_a_word() -> None:
    async def steps(app: App) -> None:
        app.controls.model.value = "digits-cnn"
        await app.wait(30)
        assert app.view.session.model == "digits-cnn"
        assert "no scheme is published for digits-cnn" in app.message.value
        assert "explorer-error" not in app.message.value
        assert app.view.session.policy == ALWAYS_APPLICABLE
        assert app.controls.read().policy_spec == ALWAYS_APPLICABLE.removesuffix(":k=4")

    driven(steps)


def test_a_policy_from_a_file_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(SESSION.with_norm("gn").export().to_json())

    async def steps(app: App) -> None:
        assert app.controls.policy.value == str(path)
        app.controls.batch.value = 2
        await app.wait(30)
        assert "policy.json is shown under its own setup: norm gn" in app.message.value
        assert app.view.session.policy == str(path)
        assert app.view.session.batch == 2

    driven(steps, Session(policy=str(path)))


def test_a_search_streams_selects_and_exports(tmp_path: Path) -> None:
    async def steps(app: App) -> None:
        app.search_bar.trials.value = 200
        app.search_bar.start.click()
        assert app.run.phase is Phase.RUNNING
        run = await app.wait(60)
        assert (run.phase, run.done) == (Phase.DONE, 200)
        assert len(app.front) > 0
        assert run.front_count == len(app.front)
        assert not app.search_bar.start.disabled
        shown = {name for ids in app.tradeoff_data.trace_ids for name in ids}
        found = {name for name in shown if name.startswith("found:")}
        assert len(found) >= 200

        texts = {name: text for text, name in app.point_bar.points.options}
        front = [name for name in texts if name.startswith("found:")]
        assert front
        for name in front:
            assert texts[name].startswith(f"candidate {name.partition(':')[2]}: ")

        app.select(sorted(found)[0])
        await app.wait(30)
        assert app.point_bar.points.value == sorted(found)[0]
        assert "candidate" in app.answer.verdict.value
        app.point_bar.path.value = str(tmp_path / "out" / "policy.json")
        app.point_bar.export.click()
        assert "policy.json (" in app.point_bar.saved.value
        document = load_policy(tmp_path / "out" / "policy.json")
        assert document.model.name == "mcunet-5fps"

        app.point_bar.fits_only.value = True
        await app.wait(30)
        misfits = app.tradeoff_data.trace_ids[[role.name for role in ROLES].index("misfit")]
        assert misfits == ()

    driven(steps)


def test_a_click_selects_in_every_panel() -> None:
    async def steps(app: App) -> None:
        for panel in range(3):
            number = len(ROLES) * panel + KNOWN
            wanted = app.tradeoff_data.trace_ids[number][panel]
            app.figure.data[number]._dispatch_on_click(Hit(point_inds=[panel]), None)
            await app.wait(30)
            assert app.view.selected_id == wanted
            ring = [role.name for role in ROLES].index("selected")
            rings = [app.tradeoff_data.trace_ids[len(ROLES) * at + ring] for at in range(3)]
            assert rings == [(wanted,)] * 3
            assert wanted.partition(":")[2] in app.answer.verdict.value
            words = f"against your choice {app.view.session.policy}: faster with probability "
            assert app.answer.decider.value.count(words) == 1

    driven(steps)


def test_every_point_of_the_list_can_be_reached_by_buttons() -> None:
    async def steps(app: App) -> None:
        count = len(app.point_bar.points.options)
        seen = []
        for _ in range(count):
            app.point_bar.ahead.click()
            await app.wait(30)
            seen.append(app.view.selected_id)
        assert sorted(seen) == sorted(name for _, name in app.point_bar.points.options)
        app.point_bar.back.click()
        await app.wait(30)
        assert app.view.selected_id == seen[-2]

    driven(steps)


def test_pause_resume_and_stop() -> None:
    async def steps(app: App) -> None:
        app.search(trials=400)
        await until(lambda: app.run.done > 2)
        app.search_bar.pause.click()
        assert app.search_bar.pause.description == "Resume"  # before anything else is drawn
        await asyncio.sleep(0.2)
        held = app.run.done
        assert app.run.phase is Phase.PAUSED
        await asyncio.sleep(0.2)
        assert app.run.done == held
        app.search_bar.pause.click()
        await until(lambda: app.run.done > held)
        app.search_bar.stop.click()
        assert app.search_bar.stop.disabled
        run = await app.wait(30)
        assert run.phase is Phase.DONE
        assert run.done < 400

    driven(steps, Slow())


def test_another_device_stops_the_search_and_greys_what_it_found() -> None:
    async def steps(app: App) -> None:
        app.search(trials=100)
        await app.wait(60)
        app.controls.device.value = "stm32f746"
        await app.wait(30)
        assert app.run.phase is Phase.IDLE
        assert "the last search was of another question" in app.search_bar.status.value
        stale = app.tradeoff_data.trace_ids[[role.name for role in ROLES].index("stale")]
        assert len(stale) >= 100
        assert all(name.startswith("old:") for name in stale)
        app.select(stale[3])
        await app.wait(30)
        assert "earlier setup" in app.answer.verdict.value
        app.controls.device.value = "gap9"
        await app.wait(30)
        assert app.view.selected_id == CHOICE
        assert "done" in app.search_bar.status.value

    driven(steps)

    async def slow_steps(app: App) -> None:
        app.search(trials=500)
        await until(lambda: app.run.done > 2)
        app.controls.optimizer.value = "adam"
        run = await app.wait(30)
        assert run.done < 500
        assert not run.is_active

    driven(slow_steps, Slow())


def test_update_timing_and_the_memory_axis_are_controls() -> None:
    async def steps(app: App) -> None:
        peak = app.view.cost.memory["peak_live_bytes"]
        app.controls.update_timing.value = "deferred"
        await app.wait(30)
        assert app.view.cost.setup["update_timing"] == "deferred"
        assert app.view.cost.memory["peak_live_bytes"] > peak
        assert len(app.tradeoff_data.panels[0].traces[BUDGET].x) > 0
        app.controls.recompute.value = "blocks"
        await app.wait(30)
        assert app.view.cost.setup["recompute"] == "blocks"
        assert app.view.cost.macs["recompute"] > 0
        app.controls.memory_objective.value = "above-inference"
        await app.wait(30)
        title = app.tradeoff_data.panels[0].x_axis.title
        assert title == "memory above inference (modelled)"
        choice = app.tradeoff_data.panels[0].traces[CHOSEN]
        assert choice.x.tolist() == [app.view.cost.memory["training_extra_bytes"]]
        assert len(app.tradeoff_data.panels[0].traces[BUDGET].x) == 0

    driven(steps)


def test_what_the_search_raises_is_shown_and_raised_by_wait() -> None:
    async def steps(app: App) -> None:
        app.search()
        with pytest.raises(RuntimeError, match="boom"):
            await app.wait(30)
        assert app.run.phase is Phase.FAILED
        assert "&lt;b&gt;boom" in app.message.value
        assert not app.search_bar.start.disabled

    driven(steps, Broken())


def test_what_drawing_raises_is_raised_by_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(app: App) -> None:
        monkeypatch.setattr(app, "_render", lambda: 1 / 0)
        app.controls.batch.value = 2
        with pytest.raises(ZeroDivisionError):
            await app.wait(30)

    driven(steps)


def test_wait_gives_up_after_its_time() -> None:
    async def steps(app: App) -> None:
        app.search(trials=100_000)
        with pytest.raises(TimeoutError):
            await app.wait(0.2)

    driven(steps, Slow())


def test_export_to_a_bad_place_is_a_sentence(tmp_path: Path) -> None:
    async def steps(app: App) -> None:
        (tmp_path / "a").write_text("a file, no folder")
        app.point_bar.path.value = str(tmp_path / "a" / "b" / "policy.json")
        app.point_bar.export.click()
        assert "cannot be written" in app.point_bar.saved.value
        app.point_bar.path.value = " "
        app.point_bar.export.click()
        needs = "Export needs a file name, such as exports/policy.json"
        assert app.point_bar.saved.value == error_html(needs)

    driven(steps)


def test_a_number_out_of_range_is_brought_back_with_a_word() -> None:
    async def steps(app: App) -> None:
        quiet = app.message.value
        for field, asked, words, taken in (
            (app.search_bar.trials, 5, "Trials: got 5, allowed: 20 to 100,000; 20 is taken", 20),
            (app.controls.micro_batch, -3, "Micro-batch: got -3, allowed: 0 to 128", 1),
            (app.measure_bar.episodes, 1001, "Episodes: got 1,001, allowed: 1 to 1,000", 1000),
        ):
            field.set_state({"value": asked})  # as the browser sends it
            await app.wait(30)
            assert words in app.message.value
            assert app.message.value.endswith(quiet)
            assert field.value == taken
        assert not app.past.undo_count
        app.search_bar.seed.value = 7
        await app.wait(30)
        assert app.message.value == quiet
        volts = app.tabs.box.children[4].children[0].children[1]
        volts.value = 0.0
        await app.wait(30)
        assert "V: got 0, allowed: 0.1 to 1,000; 0.1 is taken" in app.message.value
        app.controls.optimizer.value = "adam"
        await app.wait(30)
        assert "taken" not in app.message.value

    driven(steps)


def test_every_number_field_of_the_page_says_when_it_is_out_of_range() -> None:
    app = App(SESSION)
    names = {field.name for field in numbers_of(app.box)}
    expected = {"Trials", "Seed", "Episodes", "Micro-batch", "App reserve (KiB)", "Cell, mAh", "V"}
    assert names == expected
    app.close()


def test_one_app_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_package, "_current", None)
    first = get_app()
    assert explorer.app() is first
    assert app_package() is first
    other = get_app(Session(device="stm32f746"))
    assert other is not first
    assert first.is_closed
    assert first.box.comm is None
    assert first.figure.comm is None
    again = get_app(Session(device="stm32f746"))
    assert again is other
    other.close()
    latest = get_app(Session(device="stm32f746"))
    assert latest is not other
    latest.close()


def test_an_app_made_outside_a_loop_works_once_it_is_awaited() -> None:
    app = App(SESSION)
    app.search(trials=50)
    run = asyncio.run(app.wait(60))
    assert run.done == 50
    app.close()


def test_the_app_shows_itself_and_what_stays_without_a_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, shown = App(SESSION), []
    monkeypatch.setattr("IPython.display.display", lambda data, **how: shown.append(data))
    app._ipython_display_()
    live, stays = shown
    assert live["application/vnd.jupyter.widget-view+json"]["model_id"] == app.box.model_id
    static = stays["text/html"]
    assert "Plotly.newPlot" in static
    assert "fits" in static
    assert "What trains" in static
    assert "mcunet-5fps on gap9" in repr(app)
    app.close()


def test_details_name_the_measured_accuracy_beside_a_proxy():
    session = Session(model="digits-cnn", policy="last-layer")
    selection = Selection(session=session, label="last-layer", table=session.chosen(), row=0)
    assert "proxy score" in selection.worth_words
    assert "% (measured, trained in fp32)" in selection.worth_words
    unmeasured = session.with_policy("free:first_conv=0.5")
    words = Selection(session=unmeasured, label="x", table=unmeasured.chosen(), row=0).worth_words
    assert "measured" not in words


# Measuring, and how near a search came to the optimum.

DIGITS = Session(model="digits-cnn", policy="bias-only:last=5")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path))
    return tmp_path


def said_by(bar: Any) -> list[str]:
    """Everything a status is made to say from now on."""
    said: list[str] = []
    bar.status.observe(lambda change: said.append(change["new"]), names="value")
    return said


def test_measuring_shows_the_accuracy_of_the_point_at_once(own_cache: Path) -> None:
    async def steps(app: App) -> None:
        assert "measured" not in app.answer.verdict.value
        said = said_by(app.measure_bar)
        app.measure_bar.episodes.value = 3
        app.measure_bar.measure.click()
        assert app.measure_bar.measure.disabled
        assert not app.measure_bar.cancel.disabled
        app.controls.batch.value = 2
        await until(lambda: app.view.session.batch == 2)
        assert app.measuring.is_active
        await app.wait(60)
        assert not app.measure_bar.measure.disabled
        assert app.measure_bar.cancel.disabled

        (run,) = own_ledger(DIGITS.graph, "digits").read()
        shipped = measured_runs(DIGITS.graph, "digits")
        assert (run.episodes, run.tuning.episodes) == (3, 2)
        assert (run.protocol, run.seed) == (shipped[0].protocol, shipped[0].seed)
        reached = f"{run.accuracy:.1%} ± {run.standard_error:.1%}"
        assert reached in app.measure_bar.status.value
        assert f"accuracy on digits {reached} (measured" in app.answer.verdict.value
        assert app.view.session.batch == 2
        count = 3 + 2 * len(run.tuning.rates)
        assert any(f"{count}/{count} fine-tunings" in words for words in said)

    driven(steps, DIGITS)


def test_measured_runs_agree_with_a_measurement_of_their_own(own_cache: Path) -> None:
    async def steps(app: App) -> None:
        app.measure(episodes=2)
        await app.wait(60)
        (run,) = own_ledger(DIGITS.graph, "digits").read()
        again = measure(
            DIGITS.graph,
            "digits",
            DIGITS.chosen_policy,
            episodes=2,
            tuning_episodes=2,
            protocol=run.protocol,
            seed=run.seed,
        )
        assert run.key == again.key
        assert run.per_episode_accuracy == again.per_episode_accuracy

    driven(steps, DIGITS)


def test_picks_of_the_front_are_measured_and_known_to_the_search(own_cache: Path) -> None:
    async def steps(app: App) -> None:
        assert app.measure_bar.picks.disabled
        with pytest.raises(SpecError, match="before a search"):
            app.measure(picks=True)
        app.search(trials=60)
        await app.wait(60)
        assert not app.measure_bar.picks.disabled
        picks = picks_of(app.view)
        rows = [pick.row for pick in picks]
        table = app.table
        assert len(set(rows)) == len(rows) <= 3
        assert app.front.knee() in rows
        assert table.on_front[rows].all()
        best = table.score[table.on_front].max()
        near = np.flatnonzero(
            table.on_front & (table.score >= best - NEAR_RATIO * table.objectives[0].scale)
        )
        words = {word for pick in picks for word in pick.label.partition(": ")[0].split(", ")}
        assert words == {"knee", "best", "cheapest-near-best"}  # of whatever metric
        cheapest = next(pick for pick in picks if "cheapest" in pick.label)
        assert table.step_energy_j[cheapest.row] == table.step_energy_j[near].min()
        unknown = [row for row in rows if np.isnan(table.worth.measured[row])]
        app.measure(episodes=2, picks=True)
        await app.wait(120)
        assert len(own_ledger(DIGITS.graph, "digits").read()) == len(rows)
        assert unknown
        assert np.isfinite(app.table.worth.measured[rows]).all()
        np.testing.assert_array_equal(app.table.score, table.score)
        app.select(f"found:{unknown[0]}")
        await app.wait(30)
        assert "% (measured, trained in fp32)" in app.answer.verdict.value

    driven(steps, DIGITS)


def test_measuring_can_be_cancelled(own_cache: Path) -> None:
    async def steps(app: App) -> None:
        app.measure(episodes=1000)
        await until(lambda: "1/" in app.measure_bar.status.value, 60)
        app.measure()
        app.measure_bar.cancel.click()
        await app.wait(30)
        assert "stopped after" in app.measure_bar.status.value
        assert not own_ledger(DIGITS.graph, "digits").path.exists()
        assert app.message.value == ""

        app.measure(episodes=1000)
        waiting = asyncio.create_task(app.wait(60))
        await until(lambda: "1/" in app.measure_bar.status.value, 60)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await app.wait(30)
        assert "stopped after" in app.measure_bar.status.value

        app.measure(episodes=1000)
        app.close()
        assert app.measuring.join(0)

    driven(steps, DIGITS)


def test_missing_data_is_one_sentence_and_raised_by_wait(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(paths.DATA_VARIABLE, raising=False)

    async def steps(app: App) -> None:
        app.measure()
        with pytest.raises(MissingDataError) as missing:
            await app.wait(60)
        assert app.message.value == error_html(str(missing.value))
        assert app.measure_bar.status.value == ""
        assert not app.measure_bar.measure.disabled

    driven(steps, replace(DIGITS, task="trashnet"))


def test_a_ledger_that_cannot_be_written_is_said_before_the_work() -> None:
    async def steps(app: App) -> None:
        app.measure()
        with pytest.raises(SpecError, match="cannot be written"):
            await app.wait(60)
        assert "cannot be written" in app.message.value

    driven(steps, DIGITS)


def test_a_measuring_thread_that_dies_is_raised_by_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(app: App) -> None:
        monkeypatch.setattr(Worker, "_work", lambda self: None)
        app.measure()
        with pytest.raises(RuntimeError, match="the measure thread ended without a word"):
            await app.wait(30)

    driven(steps, DIGITS)


def test_after_a_search_its_share_of_the_optimum_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimum, "TIME_LIMIT_S", 1.0)

    async def steps(app: App) -> None:
        app.search(trials=60)
        await app.wait(60)
        await until(lambda: app.front.exact_hypervolume_ratio is not None, 60)
        await app.wait(30)
        share = app.front.exact_hypervolume_ratio
        assert 0.5 < share <= 1
        words = f"{share:.1%} of the additive-proxy optimum (not about accuracy)"
        assert words in app.search_bar.status.value
        app.controls.optimizer.value = "adam"
        await app.wait(30)
        assert "optimum" not in app.search_bar.status.value

    driven(steps, Session(model="digits-cnn"))


@dataclass(frozen=True)
class Unadditive(Session):
    """A session whose score has no exact optimum, and one that waits to be told to stop."""

    def exact_front(self, *, control: SearchControl, **options: Any) -> Any:
        if self.batch == 1:
            raise SpecError("not additive")
        while control.proceed():
            time.sleep(0.01)
        stopped.append(control)
        raise SpecError("stopped")


stopped: list[SearchControl] = []


def test_without_an_additive_score_nothing_is_shown_and_a_new_search_cancels() -> None:
    async def steps(app: App) -> None:
        app.search(trials=20)
        await app.wait(60)
        await until(lambda: not app.searching.optimum.is_active)
        assert "optimum" not in app.search_bar.status.value
        assert app.message.value == ""
        app.controls.batch.value = 2
        app.search(trials=20)
        await app.wait(60)
        assert app.searching.optimum.is_active
        app.search(trials=20)
        await until(lambda: len(stopped) == 1)
        await app.wait(60)
        assert app.run.phase is Phase.DONE

    driven(steps, Unadditive(model="digits-cnn"))
