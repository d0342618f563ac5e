"""Where the parts of the app stand: the question, the panels, the answer, and the tabs below.

On a wide page the question is on the left and the answer on the right; on a narrow one the
question is on top, and on a narrower one the answer follows the panels. The style sheet decides.
"""

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from explorer.app.static import style_and_words


def laid_out(
    question: Any,
    own_parts: Any,
    bars: Sequence[Any],
    panels: Sequence[Any],
    answer: Any,
    tabs: Any,
    clock: Any,
) -> Any:
    """The box of an app; `bars` stand above the panels, and `clock` watches how wide it is."""
    body = _column("explorer-body", [_column("explorer-panels", panels), answer, tabs])
    rest = _column("explorer-rest", [*bars, body])
    main = _column("explorer-main", [question, own_parts, rest])
    return _column("explorer-app", [*style_and_words(), main, clock])


def _column(name: str, children: Sequence[Any]) -> Any:
    box = widgets.VBox(list(children))
    box.add_class(name)
    return box
