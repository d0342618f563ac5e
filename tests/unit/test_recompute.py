"""Blocks that run again in backward, by hand and on real networks."""

import pytest

from explorer.costmodel.schedule import schedule_of
from explorer.session import Session

FULL = Session(model="mcunet-5fps", device="gap9", policy="full", batch=8)


def again_of(session: Session) -> list[str]:
    layers = session.graph.layers
    return [
        layers[op].name
        for _, ops in schedule_of(session.graph, "none", "blocks").again
        for op in ops
    ]


def test_the_last_projection_of_a_block_is_not_run_again_unless_a_norm_keeps_it():
    names = again_of(FULL)
    assert "blocks.1.pointwise1" in names
    assert "blocks.1.depthwise_relu6" in names
    assert not any(name.endswith((".pointwise2", ".add")) for name in names)
    assert "blocks.1.pointwise2" in again_of(FULL.with_norm("gn"))


def test_full_training_pays_the_inner_layers_once_more_and_keeps_block_inputs():
    cost, plain = FULL.with_recompute("blocks").cost(), FULL.cost()
    graph, inner = FULL.graph, ("pointwise1", "depthwise")
    macs = {row["name"]: row["forward_macs"] for row in plain.layer_rows}
    expected = sum(macs[name] for name in graph.weighted if graph[name].role in inner)
    assert cost.macs["recompute"] == expected
    assert cost.macs | {"recompute": 0} == plain.macs
    assert cost.memory["peak_live_bytes"] < plain.memory["peak_live_bytes"] / 2
    rows = cost.layer_rows
    assert sum(row["recompute_macs"] for row in rows) == expected
    assert sum(row["time_s"] for row in rows) == pytest.approx(cost.step_time_s)
    forward_s = Session(model="mcunet-5fps", device="gap9", policy="none", batch=8).cost()
    paid = cost.step_time_s - plain.step_time_s
    assert 0 < paid < forward_s.step_time_s


def test_nothing_is_run_again_below_the_earliest_trained_layer():
    late = FULL.with_policy("last-k:k=4").with_recompute("blocks").cost()
    repeated = {row["name"] for row in late.layer_rows if row["recompute_macs"]}
    assert repeated
    assert all(name.startswith(("blocks.12.", "blocks.13.")) for name in repeated)
    frozen = FULL.with_policy("none").with_recompute("blocks").cost()
    assert frozen.macs["recompute"] == 0
    assert frozen.memory == FULL.with_policy("none").cost().memory


def test_a_recompute_is_paid_in_every_pass_of_an_accumulated_step():
    roomy = FULL.with_device("radxa-zero").with_recompute("blocks")
    once, twice = (roomy.with_batch(n, 8) for n in (8, 16))
    plain = [session.with_recompute("none").cost().step_time_s for session in (once, twice)]
    paid = [
        session.cost().step_time_s - base
        for session, base in zip((once, twice), plain, strict=True)
    ]
    assert paid[1] == pytest.approx(2 * paid[0])
