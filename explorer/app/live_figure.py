"""A FigureWidget that can be shown again, and late.

Plotly sends changes to the views that exist; what a later view starts from is
a copy made at construction. A cell that is run again, or a page that is
loaded again, would show old data. And its module is five megabytes: anywidget
drops every message to a widget whose module is not there within two seconds,
so on a slow machine the panels would be drawn once and never follow.
"""

from pathlib import Path
from typing import Any

import plotly
import plotly.graph_objects as go
import traitlets

_BUNDLE = Path(plotly.__file__).parent / "package_data" / "widgetbundle.js"
_LOADED, _FRESH = "loaded", "fresh"

# There at once; plotly's module follows. What was sent meanwhile nobody heard, so the kernel is
# asked for the figure as it is; where none answers, what was saved is shown.
_SCRIPT = f"""
const PATIENCE_MS = 10000;
let bundle;
const load = async text => {{
  const url = URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }}));
  try {{ return (await import(url)).default; }} finally {{ URL.revokeObjectURL(url); }}
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
    async render({{ model, el }}) {{ return (await begun).render({{ model, el }}); }},
  }};
}};
"""


class LiveFigure(go.FigureWidget):  # type: ignore[misc]  # plotly ships no types
    """Every new view starts from what the figure shows now."""

    _esm = _SCRIPT
    _bundle = traitlets.Unicode().tag(sync=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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

    def _answer(self, _: object, content: dict[str, Any], __: object) -> None:
        """Send the figure as it is to a page that can draw now."""
        if content.get("kind") == _LOADED:
            self.refresh()
            self.send({"kind": _FRESH})

    def _shown(self) -> dict[str, Any]:
        shown = self.to_plotly_json()
        return {"_widget_data": shown["data"], "_widget_layout": shown["layout"]}
