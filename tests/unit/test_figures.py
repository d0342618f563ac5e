"""Figures: what is drawn is decided in the data, and a click can be mapped back to a design."""

from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from explorer.app.live_figure import LiveFigure
from explorer.app.view import Found, View, points_of
from explorer.errors import SpecError
from explorer.figures import axes, crowds, layers, memory, theme, tradeoff
from explorer.figures.labels import place_labels, short_label
from explorer.figures.points import Budget, Points, worth_text
from explorer.figures.roles import PLAIN_HOVER, ROLES
from explorer.figures.thinning import POINT_CAP, thinned
from explorer.figures.traces import TraceData, TradeoffData
from explorer.provenance import Kind
from explorer.session import Session
from explorer.units import KIB, MIB, format_bytes, format_joules, format_seconds, shown_unit

ROLE_NAMES = [role.name for role in ROLES]


def points(count: int, seed: int = 0, **changes: object) -> Points:
    draws = np.random.default_rng(seed)
    share = draws.random(count)
    nothing = np.zeros(count, dtype=bool)
    columns: dict[str, object] = {
        "ids": tuple(f"p{row}" for row in range(count)),
        "labels": tuple(f"label {row}" for row in range(count)),
        "worth": share * draws.random(count),
        "worth_name": "proxy score: gradient norm",
        "worth_kind": (Kind.MODELLED,) * count,
        "memory_bytes": (64 + 900 * share) * KIB,
        "energy_j": 1e-3 * (1 + 9 * share),
        "feasible": share < 0.7,
        "on_front": nothing,
        "known": nothing,
        "stale": nothing,
        "budgets": (Budget(label="L2", limit_bytes=700.0 * KIB),),
    }
    return Points(**(columns | changes))


def trace(data: TradeoffData, role: str, panel: int = 0) -> TraceData:
    return data.panels[panel].traces[ROLE_NAMES.index(role)]


def mask(count: int, *rows: int) -> np.ndarray:
    return np.isin(np.arange(count), rows)


def test_points_check_their_lengths_and_ids() -> None:
    with pytest.raises(SpecError, match=r"points\.known"):
        points(3, known=np.zeros(2, dtype=bool))
    with pytest.raises(SpecError, match="each id once"):
        points(2, ids=("a", "a"))


def test_joined_points_keep_order_and_names() -> None:
    one, two = points(2, ids=("a", "b")), points(1, seed=1, ids=("c",))
    both = one.join([two])
    assert both.ids == ("a", "b", "c")
    np.testing.assert_array_equal(both.worth, [*one.worth, *two.worth])


def test_an_accuracy_is_a_percentage_and_a_score_is_not() -> None:
    assert worth_text(0.7123, "accuracy") == "71.2%"
    assert worth_text(0.7123, "proxy score: depth") == "0.712"
    assert worth_text(float("nan"), "accuracy") == "-"


def test_every_point_plays_exactly_one_role() -> None:
    count = 60
    given = points(
        count,
        on_front=mask(count, 1, 2, 3),
        known=mask(count, 3, 4),
        stale=mask(count, 5, 6),
        choice_id="p7",
    )
    data = tradeoff.tradeoff_data(given, "p1")
    for panel in range(3):
        roles = ("stale", "misfit", "candidate", "front", "known", "choice")
        shown = [name for role in roles for name in trace(data, role, panel).ids]
        assert sorted(shown) == sorted(given.ids)
        assert trace(data, "selected", panel).ids == ("p1",)
    assert trace(data, "front").ids == ("p1", "p2")
    assert trace(data, "known").ids == ("p3", "p4")
    assert trace(data, "stale").ids == ("p5", "p6")


def test_panels_are_linked_by_id_and_hold_the_right_columns() -> None:
    given = points(30, known=mask(30, 4))
    data = tradeoff.tradeoff_data(given)
    columns = ((given.memory_bytes, given.worth), (given.energy_j, given.worth))
    for panel, (x, y) in enumerate((*columns, (given.energy_j, given.memory_bytes))):
        for role in ("known", "candidate", "misfit"):
            shown = trace(data, role, panel)
            rows = [int(name[1:]) for name in shown.ids]
            np.testing.assert_array_equal(shown.x, x[rows].astype(np.float32))
            np.testing.assert_array_equal(shown.y, y[rows].astype(np.float32))
            assert shown.x.dtype == shown.y.dtype == np.float32


def test_thinning_keeps_front_known_choice_and_selection() -> None:
    count, cap = 9000, 500
    given = points(
        count,
        on_front=mask(count, *range(0, 300, 3)),
        known=mask(count, 5000, 5001),
        choice_id="p8999",
    )
    rows = thinned(given, "p4321", cap)
    assert len(rows) == cap
    must = {*range(0, 300, 3), 5000, 5001, 8999, 4321}
    assert must <= set(rows.tolist())
    kept = np.sort(given.memory_bytes[rows])
    assert kept[0] < np.quantile(given.memory_bytes, 0.01)
    assert kept[-1] > np.quantile(given.memory_bytes, 0.99)
    for panel in tradeoff.tradeoff_data(given).panels:
        assert sum(len(trace.ids) for trace in panel.traces) <= POINT_CAP + 1


def test_of_many_candidates_the_front_the_selection_and_a_share_become_points() -> None:
    session, cap = Session(), 60
    table = session.search(200, "random", 0).table
    view = View(
        session=session,
        cost=session.cost(),
        chosen=session.chosen(),
        known=session.compare(),
        found=Found(session=session, table=table),
    )
    every = points_of(view)
    found = [row for row, name in enumerate(every.ids) if name.startswith("found:")]
    kept = {every.ids[row] for row in found if every.on_front[row] or every.measured[row]}
    dominated = next(every.ids[row] for row in found if every.ids[row] not in kept)
    few = points_of(replace(view, selected_id=dominated), cap)
    rows = [every.ids.index(name) for name in few.ids]
    assert {dominated} | kept <= set(few.ids)
    assert len(few) < len(every)
    assert sum(name.startswith("found:") for name in few.ids) == max(cap, len(kept) + 1 + cap // 4)
    np.testing.assert_array_equal(few.energy_j, every.energy_j[rows])
    assert few.worth_kind == tuple(every.worth_kind[row] for row in rows)


def test_crowded_dominated_points_are_drawn_as_one_and_the_front_whole() -> None:
    count, cell = 3000, 0.05
    front = mask(count, *range(0, count, 7))
    given = points(count, on_front=front, known=mask(count, 1, 2), choice_id="p3")
    data = tradeoff.tradeoff_data(given, "p4", count, cell)
    axis_pairs = [(panel.x_axis, panel.y_axis) for panel in data.panels]
    columns = (
        (given.memory_bytes, given.worth),
        (given.energy_j, given.worth),
        (given.energy_j, given.memory_bytes),
    )
    for panel, ((x_axis, y_axis), (x, y)) in enumerate(zip(axis_pairs, columns, strict=True)):
        squares = np.floor(np.column_stack([x_axis.place(x), y_axis.place(y)]) / cell)
        rows = {
            role: [int(name[1:]) for name in trace(data, role, panel).ids]
            for role in ("front", "candidate", "misfit", "known", "choice")
        }
        drawn = {tuple(squares[row]) for shown in rows.values() for row in shown}
        assert drawn == {tuple(square) for square in squares}
        assert rows["front"] == np.flatnonzero(front).tolist()
        with_front = {tuple(square) for square in squares[front]}
        others = [tuple(squares[row]) for row in rows["candidate"] + rows["misfit"] if row != 4]
        assert len(others) == len(set(others))
        assert not set(others) & with_front
        assert trace(data, "known", panel).ids == ("p1", "p2")
        assert trace(data, "selected", panel).ids == ("p4",)
    whole = trace(tradeoff.tradeoff_data(given, "p4", count), "envelope")
    np.testing.assert_array_equal(trace(data, "envelope").x, whole.x)


def test_while_points_stream_the_front_has_one_hover_text_and_known_policies_their_own() -> None:
    given = points(60, on_front=mask(60, 5, 6, 7), known=mask(60, 1))
    streamed, whole = (tradeoff.tradeoff_data(given, "p6", cell=cell) for cell in (0.03, 0.0))
    assert trace(streamed, "front").hovers == PLAIN_HOVER.format("front")
    assert trace(streamed, "known").hovers == trace(whole, "known").hovers
    assert trace(streamed, "selected").hovers == trace(whole, "selected").hovers
    assert len(trace(whole, "front").hovers) == 3
    assert not trace(streamed, "front").is_outlined
    assert trace(whole, "front").is_outlined


def test_a_front_larger_than_the_cap_is_drawn_whole() -> None:
    given = points(50, on_front=np.ones(50, dtype=bool))
    assert len(thinned(given, None, 10)) == 50


def test_beside_a_large_front_some_of_the_others_are_drawn() -> None:
    given = points(500, on_front=mask(500, *range(400)))
    rows = thinned(given, None, 80)
    assert set(range(400)) < set(rows.tolist())
    assert len(rows) == 400 + 20


def test_a_point_without_worth_is_left_out_of_two_panels_only() -> None:
    given = points(4)
    worth = given.worth.copy()
    worth[2] = np.nan
    data = tradeoff.tradeoff_data(points(4, worth=worth, known=np.ones(4, dtype=bool)))
    assert [len(trace(data, "known", panel).ids) for panel in range(3)] == [3, 3, 4]


def test_symbols_say_how_worth_is_known_and_costs_in_the_third_panel() -> None:
    kinds = (Kind.MEASURED, Kind.PUBLISHED, Kind.MODELLED, Kind.ASSUMED)
    data = tradeoff.tradeoff_data(points(4, worth_kind=kinds, known=np.ones(4, dtype=bool)))
    assert trace(data, "known").symbols == tuple(theme.KIND_SYMBOLS[kind] for kind in kinds)
    assert trace(data, "known", 2).symbols == theme.KIND_SYMBOLS[Kind.MODELLED]
    assert data.kinds == frozenset(Kind)
    assert len(set(theme.KIND_SYMBOLS.values())) == len(Kind)


def test_axis_titles_name_the_quantity_and_its_kind() -> None:
    panel = tradeoff.tradeoff_data(points(5)).panels[0]
    assert panel.y_axis.title == "proxy score: gradient norm (modelled)"
    assert panel.x_axis.title == "peak live memory (modelled)"
    data = tradeoff.tradeoff_data(points(5, energy_kind=Kind.ASSUMED))
    assert data.panels[1].x_axis.title == "energy of a step (assumed)"
    assert trace(data, "candidate", 2).symbols == theme.KIND_SYMBOLS[Kind.ASSUMED]
    assert trace(data, "candidate", 0).symbols == theme.KIND_SYMBOLS[Kind.MODELLED]


def test_a_budget_is_a_line_where_memory_is_and_a_word_when_far_away() -> None:
    data = tradeoff.tradeoff_data(points(40))
    line = trace(data, "budget")
    assert set(line.x[~np.isnan(line.x)]) == {np.float32(700 * KIB)}
    assert "L2" in "".join(line.texts)
    assert len(trace(data, "budget", 1).x) == 0
    upward = trace(data, "budget", 2).y
    assert set(upward[~np.isnan(upward)]) == {np.float32(700 * KIB)}
    far = points(40, budgets=(Budget(label="DRAM", limit_bytes=4096.0 * MIB),))
    data = tradeoff.tradeoff_data(far)
    assert data.panels[0].x_axis.high < 64 * MIB
    assert trace(data, "budget").texts[1] == "DRAM \N{RIGHTWARDS ARROW}"
    near_nothing = points(40, budgets=(Budget(label="tiny", limit_bytes=1.0),))
    label = trace(tradeoff.tradeoff_data(near_nothing), "budget").texts[1]
    assert label == "\N{LEFTWARDS ARROW} tiny"


def test_the_envelope_is_a_staircase_of_what_fits() -> None:
    given = points(
        5,
        memory_bytes=np.array([1.0, 2.0, 3.0, 4.0, 5.0]) * MIB,
        energy_j=np.array([5.0, 4.0, 3.0, 2.0, 1.0]),
        worth=np.array([0.2, 0.1, 0.5, 0.9, 0.7]),
        feasible=np.array([True, True, True, False, True]),
    )
    data = tradeoff.tradeoff_data(given)
    np.testing.assert_allclose(trace(data, "envelope").y, [0.2, 0.5, 0.7])
    np.testing.assert_allclose(trace(data, "envelope", 2).x, [1.0, 3.0, 4.0, 5.0])


def test_old_points_do_not_stretch_the_axes() -> None:
    memory_bytes = np.array([1.0, 2.0, 900.0]) * MIB
    data = tradeoff.tradeoff_data(
        points(3, memory_bytes=memory_bytes, stale=mask(3, 2), budgets=())
    )
    assert data.panels[0].x_axis.high < 10 * MIB


def test_draw_has_the_same_traces_whatever_the_data() -> None:
    first, second = tradeoff.tradeoff_data(points(3)), tradeoff.tradeoff_data(points(400, seed=2))
    figure = tradeoff.draw(first)
    names = [drawn.name for drawn in figure.data]
    assert names == [drawn.name for drawn in tradeoff.draw(second).data]
    tradeoff.update(figure, second)
    assert len(figure.data) == len(names)
    assert len(second.trace_ids) == 3 * len(ROLES)
    for drawn, ids in zip(figure.data, second.trace_ids, strict=False):
        assert not ids or len(drawn.x) == len(ids)
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.yaxis.type == "linear"


def test_a_crowd_is_one_line_through_all_its_points_where_the_page_can_mark_them() -> None:
    count = 300
    given = points(count, on_front=mask(count, *range(100)), feasible=np.ones(count, dtype=bool))
    data = tradeoff.tradeoff_data(given, "p250")
    figure = tradeoff.draw(data)
    assert {drawn.mode for drawn in figure.data if drawn.name == "front"} == {"markers"}
    tradeoff.update(figure, data, has_crowds=True)
    front = [drawn for drawn in figure.data if drawn.name == "front" and not drawn.showlegend]
    for drawn in front:
        assert (drawn.mode, drawn.meta, len(drawn.x)) == ("lines", crowds.CROWD, 100)
        assert drawn.line.width == 0
        assert not drawn.line.simplify
    mixed = replace(given, worth_kind=(Kind.MEASURED, *given.worth_kind[1:]))
    tradeoff.update(figure, tradeoff.tradeoff_data(mixed, "p250"), has_crowds=True)
    assert [drawn.mode for drawn in front] == ["markers", "markers", "lines"]
    few = replace(given, on_front=mask(count, 1, 2))
    tradeoff.update(figure, tradeoff.tradeoff_data(few, "p250"), has_crowds=True)
    assert {drawn.mode for drawn in front} == {"markers"}


def test_an_update_leaves_alone_what_is_as_before() -> None:
    before = tradeoff.tradeoff_data(points(40, known=mask(40, 1)), "p2")
    after = tradeoff.tradeoff_data(points(40, known=mask(40, 1)), "p3")
    figure, fresh = tradeoff.draw(before), tradeoff.draw(after)
    touched = []
    for number, drawn in enumerate(figure.data):
        drawn.on_change(lambda *_, number=number: touched.append(number), "x", "y")
    tradeoff.update(figure, after, before=before)
    assert figure == fresh
    assert {ROLE_NAMES[number % len(ROLES)] for number in touched} == {"selected"}


def test_the_page_has_a_shape_for_every_symbol_of_a_crowd() -> None:
    for symbol in crowds.SYMBOLS:
        assert f'"{symbol}": ' in LiveFigure._esm


def test_the_legend_shows_what_is_there_and_only_that() -> None:
    figure = tradeoff.draw(tradeoff.tradeoff_data(points(30, known=mask(30, 1))))
    shown = {entry.name for entry in figure.data if entry.showlegend and entry.visible}
    assert {"known", "modelled", "fits", "misfit", "limit"} <= shown
    assert not {"measured", "earlier setup", "your choice", "front"} & shown


def test_an_empty_figure_can_be_drawn() -> None:
    figure = tradeoff.draw(tradeoff.tradeoff_data(points(0)))
    assert isinstance(figure, go.Figure)


def test_hover_texts_carry_units_and_kinds() -> None:
    data = tradeoff.tradeoff_data(points(3, known=mask(3, 0)))
    assert "(modelled)" in trace(data, "known").hovers[0]
    assert "KiB" in trace(data, "known").hovers[0]
    assert trace(data, "candidate").hovers == ()


def test_log_ticks_lie_inside_and_read_well() -> None:
    axis = axes.byte_axis("memory", np.array([100.0 * KIB, 6.0 * MIB]), format_bytes)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert "1 MiB" in axis.tick_texts or "512 KiB" in axis.tick_texts
    assert 3 <= len(axis.ticks) <= 6
    energy = axes.decimal_axis("energy", np.array([2.4e-3, 9e-3]), format_joules)
    assert len(energy.ticks) >= 3
    placed = energy.place(np.array([energy.low, energy.high, energy.value_at(0.25)]))
    np.testing.assert_allclose(placed, [0.0, 1.0, 0.25])


@pytest.mark.parametrize(
    ("most", "unit", "texts"),
    [
        (0.0266, "s", ("0", "10 ms", "20 ms")),
        (9e-5, "s", ("0", "20 µs", "40 µs", "60 µs", "80 µs")),
        (600.0, "s", ("0", "2 min", "4 min", "6 min", "8 min", "10 min")),
        (1.5e-3, "J", ("0", "0.5 mJ", "1 mJ", "1.5 mJ")),
        (1.5 * MIB, "byte", ("0", "0.5 MiB", "1 MiB", "1.5 MiB")),
        (270.0 * KIB, "byte", ("0", "64 KiB", "128 KiB", "192 KiB", "256 KiB")),
        (22.5e6, "MAC", ("0", "5 M", "10 M", "15 M", "20 M")),
    ],
)
def test_an_axis_from_zero_has_round_ticks_of_one_unit(
    most: float, unit: str, texts: tuple[str, ...]
) -> None:
    axis = axes.axis_from_zero("quantity", most, unit)
    assert axis.tick_texts == texts
    assert axis.low == axis.ticks[0] == 0
    assert axis.ticks[-1] <= most * (1 + 1e-9) < axis.high
    for tick, text in zip(axis.ticks[1:], axis.tick_texts[1:], strict=True):
        scale, word = shown_unit(most, unit)
        assert text.split() == [f"{tick / scale:g}", word]


def test_an_axis_from_zero_of_nothing_draws() -> None:
    assert axes.axis_from_zero("quantity", 0.0, "J").high > 0


def test_ticks_of_a_quantity_are_never_left_to_plotly() -> None:
    options = axes.decimal_axis("time", np.array([0.01, 1.0]), format_seconds).options
    assert options["type"] == "log"
    assert options["range"] == pytest.approx([-2.25, 0.25])
    assert options["ticktext"] == ("10 ms", "100 ms", "1 s")
    drawn = layers.draw(layers.layers_data(LAYERS)).layout
    for axis in (drawn.xaxis2, drawn.xaxis3):
        assert axis.tickmode == "array"
        assert len(axis.tickvals) == len(axis.ticktext) > 1
    assert theme.axis()["exponentformat"] == "none"


def test_an_accuracy_axis_is_in_per_cent_as_its_texts_are() -> None:
    accuracy = tradeoff.tradeoff_data(points(5, worth_name="accuracy")).panels[0].y_axis
    assert accuracy.options["tickformat"] == axes.PERCENT
    assert tradeoff.tradeoff_data(points(5)).panels[0].y_axis.options["tickformat"] == ""


@pytest.mark.parametrize("values", [[], [np.nan], [0.0], [0.5], [3.0, 3.0], [-1.0, 1.0]])
def test_linear_axis_contains_its_values(values: list[float]) -> None:
    axis = axes.linear_axis("score", np.array(values))
    assert axis.low < axis.high
    assert all(axis.low < value < axis.high for value in values if np.isfinite(value))


def test_axes_rarely_move_while_points_stream_in() -> None:
    draws = np.random.default_rng(3).random(2000) + 0.1
    ends = {
        (axis.low, axis.high)
        for count in range(200, 2000, 50)
        for axis in [axes.decimal_axis("energy", draws[:count], format_joules)]
    }
    assert len(ends) <= 3


def test_labels_do_not_cover_one_another() -> None:
    texts, _ = place_labels(["first", "second", "third"], np.full(3, 0.5), np.full(3, 0.5))
    assert texts[0] == "first"
    many, _ = place_labels(["a long label"] * 40, np.full(40, 0.5), np.full(40, 0.5))
    assert 1 <= sum(bool(text) for text in many) <= 8
    apart, _ = place_labels(["one", "two"], np.array([0.2, 0.8]), np.array([0.2, 0.8]))
    assert apart == ("one", "two")


def test_short_labels() -> None:
    assert short_label("sparse-update:scheme=99kb") == "sparse-update 99kb"
    assert short_label("tinytrain:memory=device,macs=0.15") == "tinytrain device 0.15"
    assert short_label("full") == "full"


LAYERS = pd.DataFrame(
    {
        "name": ["first", "first_relu", "last"],
        "op": ["conv2d", "relu6", "linear"],
        "trained_ratio": [0.0, 0.0, 0.5],
        "forward_macs": [100.0, 0.0, 40.0],
        "input_grad_macs": [0.0, 0.0, 40.0],
        "weight_grad_macs": [0.0, 0.0, 20.0],
        "recompute_macs": [0.0, 0.0, 0.0],
        "saved_bytes": [0.0, 0.0, 128.0],
    }
)


def test_layers_keep_those_that_do_something() -> None:
    data = layers.layers_data(LAYERS)
    assert data.names == ("first", "last")
    np.testing.assert_array_equal(data.total_macs, [100.0, 100.0])
    figure = layers.draw(data)
    assert next(bar.name for bar in figure.data) == "trained share"
    assert sum(len(bar.x) for bar in figure.data) == 2 * 5
    repeated = layers.draw(layers.layers_data(LAYERS.assign(recompute_macs=[5.0, 0.0, 0.0])))
    assert {bar.name for bar in repeated.data} - {bar.name for bar in figure.data} == {
        "run again MACs"
    }


def test_memory_parts_and_limit() -> None:
    sizes = dict.fromkeys(memory.PART_WORDS, 10.0) | {"peak_live_bytes": 35.0}
    data = memory.memory_data(sizes, limit_bytes=50.0, limit_label="L2")
    assert [part.size_bytes for part in data.parts] == [10.0] * 5
    assert data.scale_bytes == 35.0
    assert len(memory.draw(data).data) == 2
    assert len(memory.draw(memory.memory_data(sizes)).data) == 1
