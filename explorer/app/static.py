"""The app where no kernel runs.

Below the live app stands a second output, hidden while there is one: the panels and the answer
as one piece of HTML, brought up to date when the page rests. Who opens the notebook again, or
reads it where nothing runs, sees the last view. The panels are a picture, which the page takes;
where no page is, as on a server that runs notebooks, they are drawn when somebody looks.
"""

import asyncio
import os
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import ipywidgets as widgets

from explorer.app.answer_pane import same_items
from explorer.app.details import details_html
from explorer.app.kernel import is_for_visitors
from explorer.app.picture import Picture
from explorer.app.style import STYLE
from explorer.app.view import selection_of
from explorer.figures import tradeoff
from explorer.figures.traces import TradeoffData

if TYPE_CHECKING:
    from explorer.app.main import App

_GONE = (
    "The kernel has stopped, so nothing here answers. Run this cell again (Shift+Enter; on a page "
    "without cells, reload it); in a notebook the last view comes back."
)
_LEFT = "This is the last view, as it was saved. Run the cell (Shift+Enter) to go on from it."
_NEEDS_NETWORK = "The panels are drawn where the network is reached."
# Plotly comes from its public address, and only when somebody looks.
_DRAWN = """
<div id="{name}" style="min-height: {height}px"></div>
<script>
(() => {{
  const place = document.getElementById("{name}"), figure = {figure};
  const draw = () => Plotly.newPlot(place, figure.data, figure.layout, {{displaylogo: false}});
  const fetched = () => {{
    const script = document.createElement("script");
    script.src = "{address}";
    script.onload = draw;
    document.head.append(script);
  }};
  new IntersectionObserver((seen, watcher) => {{
    if (!seen.some(one => one.isIntersecting)) return;
    watcher.disconnect();
    window.Plotly ? draw() : fetched();
  }}).observe(place);
}})();
</script>
"""


def style_and_words() -> tuple[Any, Any]:
    """The style sheet, and what is said where the kernel is gone: the style shows it then."""
    gone = widgets.HTML(f'<div class="explorer-error" role="alert">{_GONE}</div>')
    gone.add_class("explorer-gone")
    return widgets.HTML(STYLE, layout=widgets.Layout(display="none")), gone


def static_html(panels: str, parts: Sequence[str], note: str = "") -> str:
    """The panels and the texts below them; no script is needed for what they do not bring."""
    words = f'<div class="explorer-text"><i>{escape(f"{_LEFT} {note}".strip())}</i></div>'
    return f'{STYLE}<div class="explorer-standing">{words}{panels}{"".join(parts)}</div>'


def drawn_html(figure: Any) -> str:
    """A figure that plotly, from its public address, draws when it is looked at."""
    from plotly.offline import get_plotlyjs_version

    return _DRAWN.format(
        name=f"explorer-{uuid4().hex}",
        height=figure.layout.height,
        figure=figure.to_json().replace("</", "<\\/"),
        address=f"https://cdn.plot.ly/plotly-{get_plotlyjs_version()}.min.js",
    )


def panels_words(data: TradeoffData, asked: str, selected: str) -> str:
    """What the panels show, for who does not see them."""
    axes = "; ".join(f"{panel.y_axis.title} against {panel.x_axis.title}" for panel in data.panels)
    count = len({name for ids in data.trace_ids for name in ids})
    return f"{asked}: {count} designs in three panels, {axes}. Selected: {selected}."


class Standing:
    """The output that stays when the kernel goes."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._output: Any = None
        self._figure: Any = None
        self._standing: tuple[object, ...] = ()

    def show(self) -> None:
        """Show the live app, and below it what stays; nothing stays of a visitor's page."""
        import IPython.display

        display: Any = IPython.display.display
        self._app.figure.refresh()
        display({**self._app.box._repr_mimebundle_(), "text/plain": repr(self._app)}, raw=True)
        if not is_for_visitors(os.environ):
            self._standing = self._seen()
            self._output = display(self._bundle(None), raw=True, display_id=True)

    def update(self) -> None:
        """Bring what stays up to date, once it was shown; a page is asked for its picture."""
        seen = self._seen()
        if self._output is None or same_items(seen, self._standing):
            return
        if not self._app.figure.drawn_count:
            self._put(seen, None)
            return
        loop = asyncio.get_running_loop()
        self._app.figure.take_picture(
            lambda picture: loop.call_soon_threadsafe(self._put, seen, picture)
        )

    def html(self, picture: Picture | None = None) -> str:
        """The panels, the answer and the layers as they stand."""
        app = self._app
        answer, details = app.answer, details_html(app.view.cost)
        texts = (answer.verdict.value, answer.numbers.value, answer.decider.value, details)
        if picture is not None:
            session, chosen = app.view.session, selection_of(app.view)
            asked = f"{session.model} on {session.device}"
            return static_html(
                picture.html(panels_words(app.tradeoff_data, asked, chosen.label)), texts
            )
        if self._figure is None:
            self._figure = tradeoff.draw(app.tradeoff_data)  # ours: a page may draw its own faster
        tradeoff.update(self._figure, app.tradeoff_data)
        return static_html(drawn_html(self._figure), texts, _NEEDS_NETWORK)

    def _seen(self) -> tuple[object, ...]:
        """What stays is made of this; and a page that came since can send a picture."""
        app = self._app
        return app.view, app.tradeoff_data, app.figure.drawn_count

    def _put(self, seen: tuple[object, ...], picture: Picture | None) -> None:
        """Show it, unless there was a change meanwhile: then another picture is on its way."""
        if same_items(seen, self._seen()):
            self._standing = seen
            self._output.update(self._bundle(picture), raw=True)

    def _bundle(self, picture: Picture | None) -> dict[str, str]:
        return {"text/html": self.html(picture), "text/plain": "the last view"}
