"""Crowds: traces of many points that all look alike.

A page that draws every point as an element of its own is slow with hundreds of them. Where the
page can do better, a crowd is sent as one line through its points, which has no width; the page
puts a mark at each of its vertices. Elsewhere a crowd is drawn as any other trace.
"""

from explorer.figures import theme
from explorer.provenance import Kind

CROWD = "crowd"  # the meta of a trace that may be one
ROLES_OF_CROWDS = frozenset({"stale", "misfit", "candidate", "front"})
LINE = {"width": 0, "simplify": False}  # a simplified line has fewer vertices than points
SYMBOLS = frozenset(
    theme.KIND_SYMBOLS[kind] for kind in (Kind.MEASURED, Kind.MODELLED, Kind.ASSUMED)
)
_FEW = 20


def is_crowd(count: int, symbols: str | tuple[str, ...], outlines: str | tuple[str, ...]) -> bool:
    """Whether points are many, and alike in a way that the page knows how to draw."""
    return count > _FEW and symbols in SYMBOLS and isinstance(outlines, str)
