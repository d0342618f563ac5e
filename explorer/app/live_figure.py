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
        """The state that a page asks for when it is loaded again."""
        if key is None and self.comm is not None:
            self.refresh()
        return super().get_state(key, drop_defaults)

    def refresh(self) -> None:
        """Make the present figure the start of new views."""
        shown = self.to_plotly_json()
        self._widget_data, self._widget_layout = shown["data"], shown["layout"]
