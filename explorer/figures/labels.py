"""Which point labels can be written without covering each other, and where.

Greedy: each label takes the first free place around its point; one that has
none is left out (its text is still shown on hover). Sizes are estimates for a
panel of the usual size, in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from explorer.figures.theme import LABEL_SIZE
from explorer.units import FloatArray

_PANEL_WIDTH = 205.0
_PANEL_HEIGHT = 215.0
_CHARACTER_WIDTH = LABEL_SIZE * 0.6
_LINE_HEIGHT = LABEL_SIZE * 1.25
_GAP = 7.0
# name of the place, shift of the label's centre in half label sizes, in gaps
_PLACES = (
    ("top center", 0, 1),
    ("bottom center", 0, -1),
    ("middle right", 1, 0),
    ("middle left", -1, 0),
    ("top right", 1, 1),
    ("top left", -1, 1),
    ("bottom right", 1, -1),
    ("bottom left", -1, -1),
)


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    right: float
    bottom: float
    top: float

    def meets(self, other: "_Box") -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )


def short_label(spec: str) -> str:
    """`sparse-update:scheme=99kb` -> `sparse-update 99kb`: values without their keys."""
    name, _, options = spec.partition(":")
    values = [option.rpartition("=")[2] for option in options.split(",")]
    return " ".join(filter(None, [name, *values]))


def place_labels(
    labels: Sequence[str],
    across: FloatArray,
    upward: FloatArray,
    obstacles: Sequence[tuple[float, float]] = (),
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts (empty where there is no room) and their places.

    `across` and `upward` [P] are positions in the panel, 0 to 1; so are the
    obstacles, large marks that no label may cover.
    """
    centres = [(x * _PANEL_WIDTH, y * _PANEL_HEIGHT) for x, y in zip(across, upward, strict=True)]
    taken = [_around(x, y, 5.0, 5.0) for x, y in centres]
    taken += [_around(x * _PANEL_WIDTH, y * _PANEL_HEIGHT, 10.0, 10.0) for x, y in obstacles]
    texts, places = [], []
    for label, (x, y) in zip(labels, centres, strict=True):
        found = _free_place(label, x, y, taken)
        texts.append(label if found else "")
        places.append(found[0] if found else "top center")
        if found:
            taken.append(found[1])
    return tuple(texts), tuple(places)


def _free_place(label: str, x: float, y: float, taken: list[_Box]) -> tuple[str, _Box] | None:
    half_width, half_height = len(label) * _CHARACTER_WIDTH / 2 + 2, _LINE_HEIGHT / 2
    for place, right, up in _PLACES:
        box = _around(
            x + right * (half_width + _GAP),
            y + up * (half_height + _GAP * 0.7),
            half_width,
            half_height,
        )
        inside = box.left >= 0 and box.right <= _PANEL_WIDTH
        inside = inside and box.bottom >= 0 and box.top <= _PANEL_HEIGHT
        if inside and not any(box.meets(other) for other in taken):
            return place, box
    return None


def _around(x: float, y: float, half_width: float, half_height: float) -> _Box:
    return _Box(x - half_width, x + half_width, y - half_height, y + half_height)
