"""The notebook app: controls, three linked panels, a search that streams, details, export.

Callbacks of widgets only note what happened and wake the pump, one asyncio
task on the kernel's loop that alone changes what is shown: it takes reports
from the worker, asks the session, draws, and waits for the browser.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from explorer.app import state
from explorer.app.advice_bar import AdviceBar
from explorer.app.answer import error_html, note_html
from explorer.app.answer_pane import AnswerPane, misfit_html, same_items
from explorer.app.bars import MeasureBar, PointBar, SearchBar, close_tree
from explorer.app.controls import Controls
from explorer.app.exporting import Exporting
from explorer.app.frame_clock import FrameClock
from explorer.app.layout import laid_out
from explorer.app.live_figure import LiveFigure
from explorer.app.look import changed_settings, look, opened, put, settings_of
from explorer.app.measuring import Measuring
from explorer.app.numbers import Clamps
from explorer.app.panes import Shown, panes
from explorer.app.past import Past
from explorer.app.pins import PinsPane
from explorer.app.searching import Searching
from explorer.app.state import Settings
from explorer.app.static import Standing
from explorer.app.style import BUSY
from explorer.app.tabs import Tabs
from explorer.app.view import (
    CHOICE,
    Found,
    View,
    choices_of,
    panels_of,
    picks_of,
    rejudged,
    selection_of,
)
from explorer.errors import ExplorerError, SpecError
from explorer.figures import tradeoff
from explorer.search.candidates import CandidateTable, ParetoFront
from explorer.session import Session

_JOIN_TIMEOUT_S = 5.0


class App:
    """One page over one session; `display(app)` shows it, `close` takes it down as a whole.

    Raises ExplorerError when the session it starts from has no answer.
    """

    def __init__(self, session: Session) -> None:
        self.origin, session = session, opened(session)
        self.failure: BaseException | None = None
        self._are_settings_new = self.is_closed = False
        self.on_rest: Callable[[], None] = lambda: None  # called when nothing is left to draw
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump_task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self._drawn: tuple[object, ...] = ()
        self.controls = Controls(self._settings_changed)
        self.search_bar = SearchBar()
        self.searching = Searching(self.search_bar, self._wake)
        self.point_bar, self.measure_bar = PointBar(), MeasureBar()
        self.exporting = Exporting(self.point_bar, lambda: selection_of(self.view))
        self.measuring = Measuring(self.measure_bar, self._wake)
        self.advice_bar = AdviceBar(lambda: self.view, self._change_taken)
        self.message = widgets.HTML()
        self.answer = AnswerPane(self.measure_bar, self.advice_bar)
        self.pins = PinsPane(self._wake)
        self.tabs = Tabs(panes(self.pins, session.battery), self._wake)
        self.clock = FrameClock()
        self.view = View(
            session=session, cost=session.cost(), chosen=session.chosen(), known=session.compare()
        )
        put(self.origin, self.controls, settings_of(self.origin), self.view.known.labels)
        self.past = Past(self.controls.read())
        self.tradeoff_data = panels_of(self.view)
        self.figure: Any = LiveFigure(tradeoff.draw(self.tradeoff_data))
        self.standing = Standing(self)
        self.box = laid_out(
            self.controls.box,
            self.controls.own_parts.box,
            [self.message, self.search_bar.box],
            [self.figure, self.point_bar.box],
            self.answer.box,
            self.tabs.box,
            self.clock,
        )
        self._bind()
        self.message.value = misfit_html(self.view)
        self._render()
        self._start_pump()

    def __repr__(self) -> str:
        session = self.view.session
        return f"<explorer app: {session.model} on {session.device}, {self.run.phase}>"

    def _ipython_display_(self) -> None:
        self.standing.show()

    # What a person, or a cell, can ask for.

    def search(
        self, trials: int | None = None, seed: int | None = None, *, warm: bool = True
    ) -> None:
        """Start a search of what the controls say, or do nothing while one is active."""
        with self.controls.writing():
            if trials is not None:
                self.search_bar.trials.value = trials
            if seed is not None:
                self.search_bar.seed.value = seed
        self._take_settings()
        if self.run.is_active:
            return
        self.failure = None
        self.view = replace(self.view, found=None)
        self.searching.start(self.view.session, warm=warm)

    @property
    def run(self) -> state.Run:
        """Where the search is."""
        return self.searching.run

    @property
    def front(self) -> ParetoFront | None:
        """The result of the last search."""
        return self.searching.front

    def pause_or_resume(self) -> None:
        """Pause a running search, or let a paused one go on."""
        self.searching.pause_or_resume()

    def stop(self) -> None:
        """End the search after the batch it is at."""
        self.searching.stop()

    def measure(self, episodes: int | None = None, *, picks: bool = False) -> None:
        """Really fine-tune the selected policy, or three picks of the front, on the task.

        Ignored while one is measured. `wait` waits for it; a failure is one sentence.
        """
        if episodes is not None:
            self.measure_bar.episodes.value = episodes
        self._take_settings()
        if self.measuring.is_active:
            return
        designs = picks_of(self.view) if picks else [selection_of(self.view)]
        if not designs:
            raise SpecError("picks: there are none before a search of these settings")
        self.failure, self.message.value = None, misfit_html(self.view)
        self.measuring.start(designs, self.measure_bar.episodes.value)

    def select(self, point_id: str) -> None:
        """Select a point everywhere."""
        self.view = replace(self.view, selected_id=point_id)
        self._wake()

    def pin(self) -> None:
        """Keep the selected design in the comparison; nothing when that is full."""
        self.pins.pin(selection_of(self.view))

    def undo(self) -> None:
        """Ask the question before again."""
        self._ask(self.past.undo())

    def redo(self) -> None:
        """Ask the question that was undone."""
        self._ask(self.past.redo())

    def show_question(self, settings: Settings) -> None:
        """Ask a question at once; ExplorerError, and the last view stays, when it has no answer."""
        put(self.origin, self.controls, settings)
        self._look()
        self._wake()

    def export(self, path: str | Path) -> Path:
        """Write the selected design as a policy document; makes the folder if it is missing."""
        return self.exporting.write(path)

    @property
    def table(self) -> CandidateTable:
        """Candidates of the search, or the known policies before there are any."""
        return self.view.known if self.view.found is None else self.view.found.table

    async def wait(self, timeout_s: float = 300.0) -> state.Run:
        """Wait until nothing is searched or measured and everything is drawn.

        Raises what the search or the measurement raised, and TimeoutError after `timeout_s`.
        Interrupting the wait stops both.
        """
        self._start_pump()
        self._settled.clear()
        self._wake()
        try:
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
                while self.run.is_active or self.measuring.is_active:
                    self._settled.clear()
                    await self._settled.wait()
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.stop()
            self.measuring.cancel()
            raise
        if self.failure is not None:
            raise self.failure
        return self.run

    def close(self) -> None:
        """Stop the search and the measurement, and close every widget, leaves first."""
        self.is_closed = True
        self.measuring.cancel()
        self.searching.close(_JOIN_TIMEOUT_S)
        self.measuring.join(_JOIN_TIMEOUT_S)
        if self._pump_task is not None:
            self._pump_task.cancel()
        close_tree(self.box)

    # Callbacks: note and wake.

    def _bind(self) -> None:
        bar, points = self.search_bar, self.point_bar
        self.figure.on_drawn = self._wake
        bar.start.on_click(lambda _: self.search())
        bar.pause.on_click(lambda _: self.pause_or_resume())
        bar.stop.on_click(lambda _: self.stop())
        points.pin.on_click(lambda _: self.pin())
        self.controls.undo.on_click(lambda _: self.undo())
        self.controls.redo.on_click(lambda _: self.redo())
        points.points.observe(self._point_picked, names="value")
        points.fits_only.observe(self._filter_changed, names="value")
        points.back.on_click(lambda _: self._step(-1))
        points.ahead.on_click(lambda _: self._step(1))
        measure = self.measure_bar
        measure.measure.on_click(lambda _: self.measure())
        measure.picks.on_click(lambda _: self.measure(picks=True))
        measure.cancel.on_click(lambda _: self.measuring.cancel())
        alone = (bar.trials, bar.seed, measure.episodes)
        self._clamps = Clamps(self.box, alone, self._settings_changed)
        for number in range(len(self.tradeoff_data.trace_ids)):
            self.figure.data[number].on_click(partial(self._point_clicked, number))

    def _settings_changed(self) -> None:
        self._are_settings_new = True
        self._wake()

    def _ask(self, settings: Settings) -> None:
        put(self.origin, self.controls, settings)
        self._settings_changed()

    def _change_taken(self, asked: Session, setting: str) -> None:
        self._ask(changed_settings(self.controls.read(), setting, asked))

    def _point_clicked(self, number: int, _: object, hit: Any, __: object) -> None:
        ids = self.tradeoff_data.trace_ids[number]
        if hit.point_inds and hit.point_inds[0] < len(ids):
            self.select(ids[hit.point_inds[0]])

    def _point_picked(self, change: Any) -> None:
        if not self.point_bar.is_listing and change["new"] != self.view.selected_id:
            self.select(change["new"])

    def _filter_changed(self, change: Any) -> None:
        self.view = replace(self.view, fits_only=change["new"])
        self._wake()

    def _step(self, step: int) -> None:
        ids = [name for _, name in choices_of(self.view)]
        self.select(ids[(ids.index(self.view.selected_id) + step) % len(ids)])

    # The pump.

    def _wake(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits for news
                self._loop.call_soon_threadsafe(self._news.set)

    def _start_pump(self) -> None:
        """Start the pump on the loop that runs now; without one `wait` will."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._pump_task is None or self._pump_task.done() or self._loop is not loop:
            self._loop = loop
            self._news, self._settled = asyncio.Event(), asyncio.Event()
            self._news.set()  # what is added at rest is there before anything is touched
            self._pump_task = loop.create_task(self._pump())

    async def _pump(self) -> None:
        while not self.is_closed:
            await self._news.wait()
            self._news.clear()
            self.box.add_class(BUSY)
            try:
                self._step_once()
            except Exception as error:  # noqa: BLE001 - shown, and raised by wait
                self.failure = error
                is_ours = isinstance(error, ExplorerError)
                sentence = str(error) if is_ours else f"{type(error).__name__}: {error}"
                self.message.value = error_html(sentence)
            await self.clock.tick()
            if not self._news.is_set():
                self._complete()
                self.box.remove_class(BUSY)
                self._settled.set()

    def _step_once(self) -> None:
        news, session = self.searching.take(), self.searching.session
        if news.table is not None and session is not None:
            self.view = replace(self.view, found=Found(session=session, table=news.table))
        if news.is_over:
            self.view = rejudged(self.view)
        if news.error is not None:
            self.failure = news.error
            self.message.value = error_html(f"search failed: {news.error}")
        self._take_settings()
        self.searching.age(self.view.session)
        self.searching.take_share()
        has_measured, error = self.measuring.take()
        if has_measured:
            self.view = rejudged(self.view)
        self._render()
        if error is not None:
            raise error

    def _take_settings(self) -> None:
        """Look at what the controls say; on an error the last good view stays."""
        if not self._are_settings_new:
            return
        self._are_settings_new = False
        clamped = error_html(self._clamps.take())
        try:
            self._look()
        except ExplorerError as error:
            self.past.go_astray()
            words = error_html(f"{error}; what is shown is the question before")
            self.message.value = clamped + words
            return
        self.message.value = clamped + self.message.value
        if self.searching.is_old(self.view.session):
            self.stop()

    def _look(self) -> None:
        self.view, note, brought = look(self.origin, self.controls, self.view)
        self.past.note(self.controls.read())
        self.message.value = note_html(note) + note_html(brought) + misfit_html(self.view)

    # Drawing.

    def _render(self) -> None:
        view = self.view
        self.searching.show()
        self.measure_bar.picks.disabled = self.measuring.is_active or not picks_of(view)
        self.advice_bar.keep_for(view)
        self.controls.show_past(self.past.undo_count, self.past.redo_count)
        self.point_bar.pin.disabled = self.pins.is_full or self.pins.has(selection_of(view))
        drawn = view.known, view.found, view.cost, view.selected_id, view.fits_only, self.run.phase
        if not same_items(drawn, self._drawn):
            before, self._drawn = self.tradeoff_data, drawn
            self.tradeoff_data = panels_of(view, is_streaming=self.run.is_active)
            tradeoff.update(self.figure, self.tradeoff_data, before=before, has_crowds=True)
            self.point_bar.offer(choices_of(view), view.selected_id)
        self.answer.show(view)

    def _complete(self) -> None:
        """Add what takes longer to work out than a person waits for a control."""
        self.answer.complete(self.view, self.pins.pins)
        chosen, cost = self.answer.chosen, self.answer.cost
        if chosen is not None and cost is not None:
            self.tabs.show(
                Shown(view=self.view, chosen=chosen, cost=cost, searching=self.searching)
            )
        is_choice = self.view.selected_id == CHOICE  # others at the button: it takes long
        if is_choice and not (self.view.cost.fits_all or self.advice_bar.is_answered):
            self.advice_bar.advise()
        self.on_rest()
