"""A FigureWidget that can be shown again.

Plotly sends changes to the views that exist; what a later view starts from is
a copy made at construction. A cell that is run again, or a page that is
loaded again, would show old data.
"""

from typing import Any

import plotly.graph_objects as go


class LiveFigure(go.FigureWidget):  # type: ignore[misc]  # plotly ships no types
    """Every new view starts from what the figure shows now."""

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

    def _shown(self) -> dict[str, Any]:
        shown = self.to_plotly_json()
        return {"_widget_data": shown["data"], "_widget_layout": shown["layout"]}
