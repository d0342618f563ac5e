"""How everything looks: colours, marker symbols, fonts, sizes.

Figures are drawn for a light page; `dark_rules` turns the same drawing for a dark one.
Colours are those of Okabe and Ito (readable with colour blindness); colour and
size say the role of a point, the symbol says how its worth is known.
"""

from explorer.provenance import Kind

BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#9A9A9A"
INK = "#333333"
GRID = "#E6E6E6"
FROZEN = "#D5D5D5"

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
FONT_SIZE = 11
LABEL_SIZE = 10
HALO = ", ".join(f"{x}px {y}px 1px white" for x in (-1, 1) for y in (-1, 1))

KIND_SYMBOLS = {
    Kind.MEASURED: "circle",
    Kind.PUBLISHED: "star",
    Kind.MODELLED: "cross",
    Kind.ASSUMED: "circle-open-dot",
}

MEMORY_COLORS = {
    "weight_bytes": BLUE,
    "saved_activation_bytes": ORANGE,
    "gradient_bytes": GREEN,
    "optimizer_bytes": PURPLE,
    "workspace_bytes": GREY,
}
MAC_COLORS = {
    "forward_macs": SKY_BLUE,
    "input_grad_macs": ORANGE,
    "weight_grad_macs": BLUE,
    "recompute_macs": PURPLE,
}


def layout(height: int) -> dict[str, object]:
    """Layout options every figure shares."""
    return {
        "height": height,
        "autosize": True,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": {"family": FONT, "size": FONT_SIZE, "color": INK},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "white", "font": {"family": FONT, "size": FONT_SIZE}},
    }


def axis() -> dict[str, object]:
    """Axis options every figure shares."""
    return {
        "gridcolor": GRID,
        "linecolor": GREY,
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "ticklen": 3,
        "automargin": True,
        "exponentformat": "none",
        "separatethousands": True,
        "title": {"standoff": 6, "font": {"size": FONT_SIZE}},
    }


def dark_rules(figure: str) -> str:
    """CSS that makes a drawn figure, given by its selector, readable on a dark page.

    Canvases and images are reached by a filter only: lightness is turned round and the hue
    kept, so that what is pale on white is faint on black, too.
    """
    return (
        f"{figure} {{--ink: #DCDCDC; --grid: #454545; --line: #8C8C8C; --paper: #111111;"
        f"{_DARK_RULES}}}"
    )


_DARK_RULES = """
  .main-svg {background: transparent !important;}
  :is(.bglayer, .legend, .cartesianlayer) .bg {fill: transparent !important;}
  text {fill: var(--ink) !important; text-shadow: none !important;}
  .gridlayer path {stroke: var(--grid) !important;}
  path:is(.xlines-above, .ylines-above, .xtick, .ytick, .ticks) {stroke: var(--line) !important;}
  :is(.xaxislayer-above, .yaxislayer-above) path {stroke: var(--line) !important;}
  :is(.point, .legendpoints path)[style*="stroke: rgb(0, 0, 0)"] {stroke: white !important;}
  path[style*="stroke: rgb(51, 51, 51)"] {stroke: var(--ink) !important;}
  :is(.point, .legendpoints path)[style*="fill: rgb(51, 51, 51)"] {fill: var(--ink) !important;}
  .point[style*="stroke: rgb(255, 255, 255)"] {stroke: var(--paper) !important;}
  :is(.point, .legendpoints) path[style*="fill: rgb(213, 213, 213)"] {fill: #4D4D4D !important;}
  :is(.point, .legendpoints) path[style*="stroke: rgb(229, 236, 246)"] {
    stroke: var(--paper) !important;}
  .hovertext path {fill: #2B2B2B !important;}
  :is(.gl-canvas, .hm image, .cbfills) {filter: invert(1) hue-rotate(180deg);}
  .parcoords text {text-shadow: 1px 1px 1px var(--paper), -1px -1px 1px var(--paper),
    1px -1px 1px var(--paper), -1px 1px 1px var(--paper) !important;}
  .parcoords .axis :is(line, path.domain) {stroke: var(--line) !important;}
"""
