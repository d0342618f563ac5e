"""A FigureWidget that can be shown again, and late.

Plotly sends changes to the views that exist; what a later view starts from is
a copy made at construction. A cell that is run again, or a page that is
loaded again, would show old data. And its module is five megabytes: anywidget
drops every message to a widget whose module is not there within two seconds,
so on a slow machine the panels would be drawn once and never follow.

Two things that cost more than the drawing are left out. After every change plotly's page sends
the kernel all defaults of all traces, which nobody reads. And it draws each point as an element
of its own: a crowd (see figures.crowds) is one line without ink here, with a mark at each vertex.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import plotly
import plotly.graph_objects as go
import traitlets

from explorer.app.picture import PICTURE, Picture, picture_of
from explorer.app.picture import SCRIPT as PICTURES
from explorer.figures.crowds import CROWD

_BUNDLE = Path(plotly.__file__).parent / "package_data" / "widgetbundle.js"
_LOADED, _FRESH, _DRAWN = "loaded", "fresh", "drawn"

# There at once; plotly's module follows. What was sent meanwhile nobody heard, so the kernel is
# asked for the figure as it is; where none answers, what was saved is shown.
_BEGIN = f"""
const PATIENCE_MS = 10000;
let bundle;
const load = async text => {{
  const url = URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }}));
  try {{
    const plotly = await import(url);
    const view = plotly.FigureView?.prototype ?? {{}};
    view._sendTraceDeltas = view._sendLayoutDelta = () => {{}};
    return plotly.default;
  }} finally {{ URL.revokeObjectURL(url); }}
}};
const begin = async model => {{
  bundle ??= load(model.get("_bundle"));
  const figure = (await bundle)();
  await new Promise(begun => {{
    const start = () => {{
      clearTimeout(waiting);
      model.off("msg:custom", heard);
      figure.initialize({{ model }});
      begun();
    }};
    const heard = message => {{ if (message.kind === "{_FRESH}") start(); }};
    const waiting = setTimeout(start, PATIENCE_MS);
    model.on("msg:custom", heard);
    model.send({{ kind: "{_LOADED}" }});
  }});
  return figure;
}};
export default () => {{
  let begun;
  return {{
    initialize({{ model }}) {{ begun = begin(model); }},
    async render({{ model, el }}) {{
      const leave = (await begun).render({{ model, el }});
      el.on("plotly_afterplot", () => markCrowds(el));
      el.once("plotly_afterplot", () => model.send({{ kind: "{_DRAWN}" }}));
      const stop = sendPictures(model, el);
      return () => {{
        stop();
        leave();
      }};
    }},
  }};
}};
"""

# A crowd is drawn by SVG's own marks, shaped as plotly shapes its symbols. They stand in the
# figure, so that a dark page finds them; a new look of a crowd is a new mark.
_CROWDS = """
const circle = r => `M${r},0A${r},${r} 0 1,1 0,${-r}A${r},${r} 0 0,1 ${r},0Z`;
const SHAPES = {
  "circle": circle,
  "cross": r => `M${r * 1.2},${r * .4}h${-r * .8}v${r * .8}h${-r * .8}v${-r * .8}h${-r * .8}`
    + `v${-r * .8}h${r * .8}v${-r * .8}h${r * .8}v${r * .8}h${r * .8}Z`,
  "circle-open-dot": r => `${circle(r)}M0,.5L.5,0L0,-.5L-.5,0Z`,
};
const svg = (name, parent, attributes = {}) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
};
const markOf = (plot, { symbol, size, color, line }) => {
  // No part of the flow: as a line of text it would make the plot taller at each drawing.
  const place = { class: "crowds", style: "position: absolute; width: 0; height: 0" };
  plot.marks ??= { ids: {}, svg: svg("svg", plot, place) };
  const look = JSON.stringify([symbol, size, color, line]);
  plot.marks.ids[look] ??= (() => {
    const id = `crowd-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
    const place = { id, markerUnits: "userSpaceOnUse", overflow: "visible" };
    const mark = svg("marker", plot.marks.svg, place);
    const { style } = svg("path", mark, { class: "point", d: SHAPES[symbol](size / 2) });
    const isOpen = symbol.includes("open");
    style.fill = isOpen ? "none" : color;
    style.stroke = isOpen ? color : line.color;
    style.strokeWidth = isOpen ? line.width || 1 : line.width;
    return id;
  })();
  return `url(#${plot.marks.ids[look]})`;
};
const markCrowds = plot => {
  for (const { uid, index } of plot._fullData) {
    const { meta, mode, marker } = plot.data[index];
    if (meta !== "CROWD" || mode !== "lines") continue;
    const mark = markOf(plot, marker);
    for (const line of plot.querySelectorAll(`.trace${uid} path.js-line`))
      for (const place of ["start", "mid", "end"]) line.setAttribute(`marker-${place}`, mark);
  }
};
""".replace("CROWD", CROWD)


class LiveFigure(go.FigureWidget):  # type: ignore[misc]  # plotly ships no types
    """Every new view starts from what the figure shows now."""

    _esm = _CROWDS + PICTURES + _BEGIN
    _bundle = traitlets.Unicode().tag(sync=True)
    drawn_count = 0  # how often a page began to show it
    on_drawn: Callable[[], None] | None = None  # called then; some kernels do so in a thread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._config = {"displaylogo": False, "responsive": True}
        self._asked = 0
        self._receive: Callable[[Picture | None], None] | None = None
        self.on_msg(self._answer)

    @traitlets.default("_bundle")
    def _plotly(self) -> str:
        return _BUNDLE.read_text("utf-8")

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> Any:
        """The state that a page asks for when it is loaded again.

        Nothing is sent meanwhile: a page takes the first message as the answer it waits for.
        """
        state = super().get_state(key, drop_defaults)
        if key is None and self.comm is not None:
            for name, part in self._shown().items():
                state[name] = self.trait_metadata(name, "to_json")(part, self)
        return state

    def refresh(self) -> None:
        """Make the present figure the start of new views."""
        for name, part in self._shown().items():
            setattr(self, name, part)

    def take_picture(self, receive: Callable[[Picture | None], None]) -> None:
        """Ask the page for a picture of what it shows, or None where it cannot take one.

        The first answer counts, and none to what was asked before.
        """
        self._asked, self._receive = self._asked + 1, receive
        self.send({"kind": PICTURE, "number": self._asked})

    def _answer(self, _: object, content: dict[str, Any], buffers: Sequence[memoryview]) -> None:
        """Send the figure as it is to a page that can draw now, and hear of its drawing."""
        kind = content.get("kind")
        if kind == _LOADED:
            self.refresh()
            self.send({"kind": _FRESH})
        elif kind == _DRAWN:
            self.drawn_count += 1
            if self.on_drawn is not None:
                self.on_drawn()
        elif kind == PICTURE and content.get("number") == self._asked and self._receive is not None:
            receive, self._receive = self._receive, None
            receive(picture_of(content, buffers))

    def _shown(self) -> dict[str, Any]:
        shown = self.to_plotly_json()
        return {"_widget_data": shown["data"], "_widget_layout": shown["layout"]}
