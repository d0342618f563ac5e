"""The app where no kernel runs.

Below the live app stands a second output, hidden while there is one: the panels and the answer
as one piece of HTML, brought up to date when the page rests. Who opens the notebook again, or
reads it where nothing runs, sees the last view.
"""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import ipywidgets as widgets

from explorer.app.details import details_html
from explorer.app.style import STYLE
from explorer.figures import tradeoff

if TYPE_CHECKING:
    from explorer.app.main import App

_GONE = (
    "The kernel has stopped, so nothing here answers. Run this cell again (Shift+Enter; on a page "
    "without cells, reload it); in a notebook the last view comes back."
)
_LEFT = (
    "This is the last view, as it was saved. Run the cell (Shift+Enter) to go on from it; "
    "the panels are drawn where the network is reached."
)
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


def static_html(figure: Any, parts: Sequence[str]) -> str:
    """The figure, drawn by plotly from its public address, and the texts below it."""
    from plotly.offline import get_plotlyjs_version

    drawn = _DRAWN.format(
        name=f"explorer-{uuid4().hex}",
        height=figure.layout.height,
        figure=figure.to_json().replace("</", "<\\/"),
        address=f"https://cdn.plot.ly/plotly-{get_plotlyjs_version()}.min.js",
    )
    words = f'<div class="explorer-text"><i>{escape(_LEFT)}</i></div>'
    return f'{STYLE}<div class="explorer-standing">{words}{drawn}{"".join(parts)}</div>'


class Standing:
    """The output that stays when the kernel goes."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._output: Any = None
        self._figure: Any = None
        self._shown = ""

    def show(self) -> None:
        """Show the live app, and below it what stays."""
        import IPython.display

        display: Any = IPython.display.display
        self._app.figure.refresh()
        display({**self._app.box._repr_mimebundle_(), "text/plain": repr(self._app)}, raw=True)
        self._output = display(self._bundle(), raw=True, display_id=True)

    def update(self) -> None:
        """Bring what stays up to date, once it was shown."""
        if self._output is not None:
            self._output.update(self._bundle(), raw=True)

    def html(self) -> str:
        """The panels, the answer and the layers as they stand."""
        app = self._app
        answer, details = app.answer, details_html(app.view.cost)
        texts = (answer.verdict.value, answer.numbers.value, answer.decider.value, details)
        if self._figure is None:
            self._figure = tradeoff.draw(app.tradeoff_data)  # ours: a page may draw its own faster
        tradeoff.update(self._figure, app.tradeoff_data)
        return static_html(self._figure, texts)

    def _bundle(self) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": "the last view"}
