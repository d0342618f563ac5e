"""Claims and lines show the values they were given, on an axis that holds all of them."""

import numpy as np
import pytest

from explorer.figures import claim, lines
from explorer.units import format_bytes


@pytest.mark.parametrize(
    ("values", "published", "is_log"),
    [
        ({"as printed": 8.0, "equal": 1.0}, 8.1, False),
        ({"batch 100": 1095.2, "batch 1": 17.9}, 1098.0, True),
        ({"printed": 5.0, "ours": -1.3}, None, False),
        ({"one": 0.0}, 35.0, False),
        ({"published": 35.6, "ours": 0.38}, 35.0, False),
    ],
)
def test_a_claim_shows_every_setting_and_the_published_number(values, published, is_log):
    data = claim.claim_data("times", values, published)
    figure = claim.draw(data)
    assert list(figure.data[0].y) == list(values)
    assert list(figure.data[0].x) == list(values.values())
    assert data.axis.is_log == is_log
    seen = [*values.values(), *([] if published is None else [published])]
    assert data.axis.low <= min(seen)
    assert max(seen) <= data.axis.high
    assert [set(trace.x) for trace in figure.data[1:]] == ([{published}] if published else [])


def test_numbers_keep_every_digit_before_the_point():
    assert [claim.number_text(value) for value in (1098.2, 101, 17.88, 0.0494, -1.3)] == [
        "1,098",
        "101",
        "17.9",
        "0.0494",
        "-1.3",
    ]


def test_lines_hold_their_values_and_the_limit():
    made = {"bn": [8e6, 64e6], "gn": [8e6, 8e6]}
    data = lines.lines_data("batch", [1, 8], "memory", made, limit=1.5e6)
    figure = lines.draw(data)
    assert {trace.name: list(trace.y) for trace in figure.data} == made
    assert data.axis.low <= 1.5e6
    assert data.axis.high >= 64e6
    assert data.texts["gn"] == (format_bytes(8e6),) * 2
    low, high = figure.layout.xaxis.range
    assert low <= 0
    assert np.log10(8) <= high
    assert figure.layout.shapes[0].y0 == 1.5e6
    assert not lines.draw(lines.lines_data("batch", [1, 8], "memory", made)).layout.shapes


def test_settings_close_to_each_other_share_a_label():
    data = lines.lines_data("width", [8, 16, 96, 128, 160], "energy", {"full": [1, 2, 3, 4, 5]})
    assert data.ticks == (8, 16, 96, 160)
    assert list(lines.draw(data).data[0].x) == [8, 16, 96, 128, 160]


def test_a_claim_of_positive_numbers_starts_at_zero():
    assert claim.claim_data("times", {"a": 8.0, "b": 1.0}, 8.1).axis.low == 0
    assert claim.claim_data("points", {"a": 8.0, "b": -1.0}, 8.1).axis.low < -1
