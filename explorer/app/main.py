"""The notebook app: controls, three linked panels, a search that streams, details, export.

Callbacks of widgets only note what happened and wake the pump, one asyncio
task on the kernel's loop that alone changes what is shown: it takes reports
from the worker, asks the session, draws, and waits for the browser.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from explorer.app import state
from explorer.app.advice_bar import AdviceBar
from explorer.app.answer import error_html
from explorer.app.answer_pane import AnswerPane, misfit_html, same_items
from explorer.app.bars import MeasureBar, PointBar, SearchBar, close_tree
from explorer.app.controls import Controls
from explorer.app.exporting import saved_words, write_policy
from explorer.app.frame_clock import FrameClock
from explorer.app.live_figure import LiveFigure
from explorer.app.look import families_of, look
from explorer.app.measuring import Measuring
from explorer.app.optimum import Optimum
from explorer.app.runner import Batch, Ended, Report, Runner
from explorer.app.style import STYLE
from explorer.app.view import (
    Found,
    View,
    choices_of,
    picks_of,
    points_of,
    rejudged,
    same_space,
    selection_of,
)
from explorer.errors import ExplorerError, SpecError
from explorer.figures import tradeoff
from explorer.search.candidates import CandidateTable, ParetoFront
from explorer.session import Session

_STREAM_LIMITS: dict[str, Any] = {"cap": 500, "cell": 0.03}  # points a panel, and their distance
_JOIN_TIMEOUT_S = 5.0


class App:
    """One page over one session; `display(app)` shows it, `close` takes it down as a whole.

    Raises ExplorerError when the session it starts from has no answer.
    """

    def __init__(self, session: Session) -> None:
        self.origin = session
        self.run = state.Run()
        self.failure: BaseException | None = None
        self.front: ParetoFront | None = None
        self._runner: Runner | None = None
        self._optimum = Optimum(self._wake)
        self._searched: Session | None = None
        self._are_settings_new = False
        self._is_listing = False
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump_task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self._drawn: tuple[object, ...] = ()
        self.controls = Controls(session, self._settings_changed)
        self.search_bar = SearchBar()
        self.point_bar = PointBar()
        self.measure_bar = MeasureBar()
        self.measuring = Measuring(self.measure_bar, self._wake)
        self.advice_bar = AdviceBar(lambda: self.view.session)
        self.message = widgets.HTML()
        self.answer = AnswerPane(self.measure_bar, self.advice_bar)
        self.clock = FrameClock()
        self.controls.adapt_device(session.device)
        self.view = View(
            session=session, cost=session.cost(), chosen=session.chosen(), known=session.compare()
        )
        self.controls.adapt_policies(families_of(session), session.policy, self.view.known.labels)
        self.tradeoff_data = self._make_data()
        self.figure: Any = LiveFigure(tradeoff.draw(self.tradeoff_data))
        self.figure._config = {"displaylogo": False, "responsive": True}
        self.box = self._laid_out()
        self._bind()
        self.message.value = misfit_html(self.view)
        self._render()
        self._start_pump()

    def __repr__(self) -> str:
        session = self.view.session
        return f"<explorer app: {session.model} on {session.device}, {self.run.phase}>"

    def _repr_mimebundle_(self, **options: object) -> object:
        self.figure.refresh()
        return self.box._repr_mimebundle_(**options)

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
        session, bar = self.view.session, self.search_bar
        self.failure, self.front = None, None
        self._optimum.stop()
        self._searched = session
        self.run = state.reduce(self.run, state.Started(total=bar.trials.value))
        self.view = replace(self.view, found=None)
        asked = (bar.trials.value, bar.sampler.value, bar.seed.value)
        self._runner = Runner(partial(session.search, *asked, warm=warm), self._wake)
        self._runner.start()
        self._wake()

    def pause_or_resume(self) -> None:
        """Pause a running search, or let a paused one go on."""
        if self._runner is None:
            return
        if self.run.phase is state.Phase.RUNNING:
            self._runner.pause()
            self.run = state.reduce(self.run, state.PauseAsked())
        elif self.run.phase is state.Phase.PAUSED:
            self._runner.resume()
            self.run = state.reduce(self.run, state.ResumeAsked())
        self._wake()

    def stop(self) -> None:
        """End the search after the batch it is at."""
        if self._runner is not None and self.run.is_active:
            self._runner.stop()
            self.run = state.reduce(self.run, state.StopAsked())
            self._wake()

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

    def export(self, path: str | Path) -> Path:
        """Write the selected design as a policy document; makes the folder if it is missing."""
        return write_policy(selection_of(self.view), Path(path))

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
        self._is_closed = True
        self._optimum.stop()
        self.measuring.cancel()
        if self._runner is not None:
            self._runner.stop()
            self._runner.join(_JOIN_TIMEOUT_S)
        self.measuring.join(_JOIN_TIMEOUT_S)
        if self._pump_task is not None:
            self._pump_task.cancel()
        close_tree(self.box)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def _laid_out(self) -> Any:
        """The question above, panels beside the answer where there is room, layers below."""
        panels = widgets.VBox([self.figure, self.point_bar.box])
        panels.add_class("explorer-panels")
        body = widgets.VBox([panels, self.answer.box, self.answer.details])
        body.add_class("explorer-body")
        style = widgets.HTML(STYLE, layout=widgets.Layout(display="none"))
        parts = [style, self.controls.box, self.message, self.search_bar.box, body, self.clock]
        box = widgets.VBox(parts)
        box.add_class("explorer-app")
        return box

    # Callbacks: note and wake.

    def _bind(self) -> None:
        bar, points = self.search_bar, self.point_bar
        bar.start.on_click(lambda _: self.search())
        bar.pause.on_click(lambda _: self.pause_or_resume())
        bar.stop.on_click(lambda _: self.stop())
        points.points.observe(self._point_picked, names="value")
        points.fits_only.observe(self._filter_changed, names="value")
        points.back.on_click(lambda _: self._step(-1))
        points.ahead.on_click(lambda _: self._step(1))
        points.export.on_click(lambda _: self._export_clicked())
        measure = self.measure_bar
        measure.measure.on_click(lambda _: self.measure())
        measure.picks.on_click(lambda _: self.measure(picks=True))
        measure.cancel.on_click(lambda _: self.measuring.cancel())
        for number in range(len(self.tradeoff_data.trace_ids)):
            self.figure.data[number].on_click(partial(self._point_clicked, number))

    def _settings_changed(self) -> None:
        self._are_settings_new = True
        self._wake()

    def _point_clicked(self, number: int, _: object, hit: Any, __: object) -> None:
        ids = self.tradeoff_data.trace_ids[number]
        if hit.point_inds and hit.point_inds[0] < len(ids):
            self.select(ids[hit.point_inds[0]])

    def _point_picked(self, change: Any) -> None:
        if not self._is_listing and change["new"] != self.view.selected_id:
            self.select(change["new"])

    def _filter_changed(self, change: Any) -> None:
        self.view = replace(self.view, fits_only=change["new"])
        self._wake()

    def _step(self, step: int) -> None:
        ids = [name for _, name in choices_of(self.view)]
        self.select(ids[(ids.index(self.view.selected_id) + step) % len(ids)])

    def _export_clicked(self) -> None:
        try:
            words = saved_words(self.export(self.point_bar.path.value))
        except ExplorerError as error:
            words = error_html(str(error))
        self.point_bar.saved.value = words

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
            self._pump_task = loop.create_task(self._pump())

    async def _pump(self) -> None:
        while not self._is_closed:
            await self._news.wait()
            self._news.clear()
            try:
                self._step_once()
            except Exception as error:  # noqa: BLE001 - shown, and raised by wait
                self.failure = error
                is_ours = isinstance(error, ExplorerError)
                sentence = str(error) if is_ours else f"{type(error).__name__}: {error}"
                self.message.value = error_html(sentence)
            await self.clock.tick()
            self.answer.complete()
            if not self._news.is_set():
                self._settled.set()

    def _step_once(self) -> None:
        if self._runner is not None:
            self._take_reports(self._runner.drain())
        self._take_settings()
        if self._is_search_old():
            self._optimum.stop()
            self.run = state.reduce(self.run, state.Outdated())
        self.front = self._optimum.take() or self.front
        has_measured, error = self.measuring.take()
        if has_measured:
            self.view = rejudged(self.view)
        self._render()
        if error is not None:
            raise error

    def _is_search_old(self) -> bool:
        return self._searched is not None and not same_space(self._searched, self.view.session)

    def _take_reports(self, reports: list[Report]) -> None:
        for report in reports:
            match report:
                case Batch():
                    front_count = int(report.table.on_front.sum())
                    event = state.Progressed(
                        done=report.done,
                        total=report.total,
                        hypervolume=report.hypervolume,
                        front_count=front_count,
                        elapsed_s=report.elapsed_s,
                    )
                    self.run = state.reduce(self.run, event)
                    self._show_found(report.table)
                case Ended(result=ParetoFront() as front):
                    self.front = front
                    self.run = state.reduce(self.run, state.Finished())
                    self._show_found(front.table)
                    self.view = rejudged(self.view)
                    if self._searched is not None:
                        self._optimum.start(self._searched, front)
                case Ended(error=error):
                    self.failure = error
                    self.run = state.reduce(self.run, state.Failed(error=str(error)))
                    self.message.value = error_html(f"search failed: {error}")

    def _show_found(self, table: CandidateTable) -> None:
        if self._searched is not None:
            self.view = replace(self.view, found=Found(session=self._searched, table=table))

    def _take_settings(self) -> None:
        """Look at what the controls say; on an error the last good view stays."""
        if not self._are_settings_new:
            return
        self._are_settings_new = False
        try:
            self.view, note = look(self.origin, self.controls, self.view)
        except ExplorerError as error:
            self.message.value = error_html(str(error))
            return
        self.message.value = error_html(note) + misfit_html(self.view)
        if self._is_search_old():
            self.stop()

    # Drawing.

    def _make_data(self) -> tradeoff.TradeoffData:
        limits = _STREAM_LIMITS if self.run.is_active else {}
        return tradeoff.tradeoff_data(points_of(self.view), self.view.selected_id, **limits)

    def _render(self) -> None:
        view = self.view
        share = None if self.front is None else self.front.exact_hypervolume_ratio
        self.search_bar.show(self.run, share if self.run.phase is state.Phase.DONE else None)
        self.measure_bar.picks.disabled = self.measuring.is_active or not picks_of(view)
        self.advice_bar.keep_for(view.session)
        shown = view.known, view.found, view.cost, view.selected_id, view.fits_only
        drawn = (*shown, self.run.phase)
        if not same_items(drawn, self._drawn):
            self._drawn = drawn
            self.tradeoff_data = self._make_data()
            tradeoff.update(self.figure, self.tradeoff_data)
            self._show_list()
        self.answer.show(view)

    def _show_list(self) -> None:
        box, rows = self.point_bar.points, choices_of(self.view)
        self._is_listing = True
        if tuple(box.options) != tuple(rows):
            box.options = rows
        box.value = self.view.selected_id
        self._is_listing = False
