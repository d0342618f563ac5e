"""The app where no kernel runs: the panels and the answer as they stood, as one piece of HTML."""

from collections.abc import Sequence
from typing import Any

from explorer.app.style import STYLE


def static_html(figure: Any, parts: Sequence[str]) -> str:
    """The figure, drawn by plotly from its public address, and the texts below it."""
    import plotly.io

    drawn = plotly.io.to_html(
        figure, include_plotlyjs="cdn", full_html=False, config={"displaylogo": False}
    )
    return f'{STYLE}<div class="explorer-app">{drawn}{"".join(parts)}</div>'
