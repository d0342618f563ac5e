"""How everything looks: colours, marker symbols, fonts, sizes.

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

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
FONT_SIZE = 11
LABEL_SIZE = 10
HALO = ", ".join(f"{x}px {y}px 1px white" for x in (-1, 1) for y in (-1, 1))

KIND_SYMBOLS = {
    Kind.MEASURED: "circle",
    Kind.PUBLISHED: "circle-open",
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
        "title": {"standoff": 6, "font": {"size": FONT_SIZE}},
    }
