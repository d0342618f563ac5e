"""The `biotrain` accounting: one operator at a time, each into a tensor of its own."""

import numpy as np
import pytest

from explorer.costmodel.op_by_op import op_by_op_bytes
from explorer.design import TrainingSetup
from explorer.graph import INPUT, normalised
from explorer.session import Session
from tests.helpers import BIOSIGNALS, Net, batch_of, policy_of, random_policy, small_graphs
from tests.operator_nets import beside_net, wide_graphs

EDGE, BASELINE, LAST = "biotrain-edge", "biotrain-full-bn", "biotrain-last-layer"
# MB of peak and sum, ReLU not in place, then in place: an independent computation from the
# same rules. Of the M32 form it made a copy for each padding, which ours does not.
INDEPENDENT = {
    "mi-bminet:form=m8": (0.418, 0.728, 0.366, 0.597),
    "mi-bminet:form=m8-d2": (0.653, 1.152, 0.550, 0.889),
    "epidenet:form=valid": (0.136, 0.319, 0.121, 0.221),
    "epidenet": (0.140, 0.343, 0.128, 0.237),
}


def measures(session: Session, *, relu_in_place: bool) -> list[float]:
    _, peak, total = op_by_op_bytes(session.graph, session.designs, relu_in_place=relu_in_place)
    return [float(peak[0]) / 1e6, float(total[0]) / 1e6]


@pytest.mark.parametrize("spec", INDEPENDENT)
def test_peaks_and_sums_are_those_of_an_independent_computation(spec):
    session = Session(model=spec).with_policy(EDGE)
    ours = [mb for relu in (False, True) for mb in measures(session, relu_in_place=relu)]
    assert ours == pytest.approx(INDEPENDENT[spec], abs=0.0005)


def test_padding_copies_are_what_the_m32_form_lacks():
    """32 x 2027 and 32 x 252 numbers, which the independent computation has and their gradients."""
    session = Session(model="mi-bminet").with_policy(EDGE)
    peak, total = measures(session, relu_in_place=False)
    copies = 2 * 4 * 32 * (1900 + 127 + 237 + 15) / 1e6
    assert total + copies == pytest.approx(3.387, abs=0.0005)
    assert peak == pytest.approx(1.536, abs=4 * 32 * (127 + 15) / 1e6)


@pytest.mark.parametrize("spec", BIOSIGNALS)
@pytest.mark.parametrize("accounting", ["biotrain", "biotrain-relu-in-place"])
def test_the_published_eightfold_is_the_batch_size(spec, accounting):
    """Batch norm over 8 against group norm one by one; at equal batch the norm changes nothing."""
    session = Session(model=spec, accounting=accounting)
    memory = {p: session.with_policy(p).cost().memory for p in (EDGE, BASELINE)}
    whole = session.with_policy(EDGE).with_batch(8, 8).cost().memory
    parameters = memory[EDGE]["weight_bytes"] + memory[EDGE]["gradient_bytes"]

    def activations(entry):
        return entry["saved_activation_bytes"] + entry["workspace_bytes"]

    assert activations(memory[BASELINE]) / activations(memory[EDGE]) == pytest.approx(8.0, abs=0.1)
    assert activations(whole) == pytest.approx(activations(memory[BASELINE]), rel=0.001)
    peak = memory[EDGE]["peak_live_bytes"]
    assert peak == activations(memory[EDGE]) + parameters


def test_a_step_by_hand():
    """A convolution of 3 to 5 channels on 2x2, a ReLU, a mean and a classifier of 4."""
    net = Net(3, 2, 2)
    end = net.conv(INPUT, "conv", 5, bias=False, act="relu")
    net.linear(net.pool(end), "head", 4)
    graph = net.graph()
    designs = batch_of(graph, policy_of(graph, 1.0, bias=True), policy_of(graph, [0, 1]))
    saved, peak, total = op_by_op_bytes(graph, designs, relu_in_place=False)
    # input 12, convolution 20, ReLU 20, mean 5, logits 4, and gradients of all but the input
    assert total.tolist() == [4 * (61 + 49), 4 * (61 + 4)]
    assert saved.tolist() == [4 * (12 + 20 + 5), 4 * 5]
    # ReLU's backward: input, its output, both gradients; or forward: two maps of 20
    assert peak.tolist() == [4 * (12 + 3 * 20), 4 * (20 + 20)]
    _, in_place, _ = op_by_op_bytes(graph, designs, relu_in_place=True)
    assert in_place.tolist() == [4 * (12 + 20 + 20 + 5), 4 * (12 + 20)]


@pytest.mark.parametrize("graph", small_graphs(), ids=lambda graph: graph.name)
def test_any_designs_at_once_are_each_alone(graph):
    rng = np.random.default_rng(5)
    policies = [random_policy(graph, rng) for _ in range(6)]
    setup = TrainingSetup(micro_batch=3)
    for relu in (False, True):
        together = op_by_op_bytes(
            graph, batch_of(graph, *policies, setup=setup), relu_in_place=relu
        )
        for row, policy in enumerate(policies):
            alone = op_by_op_bytes(graph, batch_of(graph, policy, setup=setup), relu_in_place=relu)
            assert [column[row] for column in together] == [column[0] for column in alone]
        saved, peak, total = together
        assert np.all(saved <= peak)
        assert np.all(peak <= total)


def test_nothing_trained_saves_nothing():
    session = Session(model="epidenet", accounting="biotrain", policy="none")
    assert session.cost().memory["saved_activation_bytes"] == 0
    assert normalised(session.graph, "gn") is session.graph


@pytest.mark.parametrize("share", [(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)])
def test_a_kernel_that_is_a_parameter_takes_what_a_layers_own_does(share):
    setup = TrainingSetup(micro_batch=3)
    found = []
    for shared in (False, True):
        graph = beside_net(shared=shared)
        designs = batch_of(graph, policy_of(graph, share), setup=setup)
        found.append([list(one) for one in op_by_op_bytes(graph, designs, relu_in_place=False)])
    assert found[0] == found[1]


@pytest.mark.parametrize("graph", wide_graphs(), ids=lambda graph: graph.name)
def test_networks_with_parameters_are_counted_too(graph):
    nothing, everything = (
        op_by_op_bytes(graph, batch_of(graph, policy_of(graph, share)), relu_in_place=True)
        for share in (0.0, 1.0)
    )
    assert nothing[0][0] <= everything[0][0]
    assert nothing[1][0] < everything[1][0]
    assert nothing[2][0] < everything[2][0]
