"""The wider vocabulary to the byte: the linear cost model against the simulator."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.design import TrainingSetup
from tests.helpers import random_policies, random_policy, setups, with_blocks
from tests.operator_nets import random_wide_graph, state_space_nets, wide_graphs
from tests.properties.test_peak import assert_equal_bytes


@pytest.mark.parametrize(
    "graph", [*wide_graphs(), *state_space_nets()], ids=lambda graph: graph.name
)
@given(data=st.data(), setup=setups, flash=st.booleans())
@settings(max_examples=12, derandomize=True, deadline=None)
def test_wide_graphs(graph, data, setup, flash):
    policy = data.draw(random_policies(graph))
    seed = data.draw(st.integers(0, 2**32 - 1))
    graph = with_blocks(graph, np.random.default_rng(seed))
    assert_equal_bytes(graph, policy, setup, flash=flash)


def test_random_wide_graphs():
    for seed in range(120):
        rng = np.random.default_rng(seed)
        graph = random_wide_graph(rng)
        recompute = str(rng.choice(["none", "blocks"]))
        setup = TrainingSetup(micro_batch=int(rng.integers(1, 5)), recompute=recompute)
        for _ in range(2):
            assert_equal_bytes(with_blocks(graph, rng), random_policy(graph, rng), setup)
