"""A figure that the page draws itself.

A FigureWidget brings five megabytes of script along, each; the page's own renderer has them
already. Such a figure hears nothing of clicks.
"""

import json
from typing import Any

import ipywidgets as widgets

_MIME = "application/vnd.plotly.v1+json"
_CONFIG = {"displaylogo": False, "responsive": True, "displayModeBar": False}


class Plot:
    """A place for one figure at a time; `box` is what is shown."""

    def __init__(self) -> None:
        self.box = widgets.Output()
        self.box.add_class("explorer-plot")

    def show(self, figure: Any) -> None:
        """Draw a figure in place of what stands there."""
        drawn = json.loads(figure.to_json())
        data = {_MIME: {**drawn, "config": _CONFIG}, "text/plain": "a figure"}
        self.box.layout.height = f"{figure.layout.height}px"  # redrawn while hidden it has none
        self.box.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)

    def clear(self) -> None:
        """Show nothing."""
        self.box.layout.height = None
        self.box.outputs = ()
