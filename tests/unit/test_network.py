"""A network as JSON: what is written is read back, what is wrong is one sentence."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import catalog
from explorer.costmodel.detail import report
from explorer.design import TrainingSetup
from explorer.errors import ExplorerError, SpecError
from explorer.network import NetworkDocument, load_network
from explorer.session import Session
from tests.helpers import batch_of, device_for, policy_of, small_graphs
from tests.operator_nets import gated_net, product_net, wide_graphs

NETWORKS = [
    *small_graphs(),
    *wide_graphs(),
    *(catalog.load("model", name).build() for name in ("digits-cnn", "mcunet-5fps")),
]


@pytest.fixture
def written(tmp_path):
    def write(change=lambda data: None):
        data = json.loads(NetworkDocument.of(gated_net()).to_json())
        change(data)
        path = tmp_path / "net.json"
        path.write_text(json.dumps(data))
        return path

    return write


@pytest.mark.parametrize("graph", NETWORKS, ids=lambda graph: graph.name)
def test_a_network_is_read_as_it_was_written(graph, tmp_path):
    path = tmp_path / "net.json"
    text = NetworkDocument.of(graph).to_json()
    path.write_text(text)
    again = load_network(path)
    assert again.layers == graph.layers
    assert again.digest == graph.digest
    assert NetworkDocument.of(again).to_json() == text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(schema_version=2), "schema_version"),
        (lambda data: data.update(colour="red"), "colour"),
        (lambda data: data.update(layers=[]), "layers"),
        (lambda data: data["layers"][0].update(out_shape=[8, 1, 13]), "out_shape"),
        (lambda data: data["layers"][1].update(inputs=["later"]), "an earlier layer"),
        (lambda data: data["layers"][1].update(axis=7), "axis"),
        (lambda data: data["layers"][0].update(stride=0), "stride"),
        (lambda data: data["layers"].append(data["layers"][0]), "each name once"),
    ],
)
def test_what_is_wrong_with_a_network_is_said_with_its_place(written, change, words):
    path = written(change)
    with pytest.raises(SpecError, match=words) as problem:
        load_network(path)
    assert str(path) in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_session_reads_a_changed_file_again(written):
    path = written()
    before = Session(model=str(path), device="gap9").cost()
    written(lambda data: data["layers"][-1].update(out_shape=[4]))
    after = Session(model=str(path), device="gap9").cost()
    assert after.macs["forward"] == before.macs["forward"] + 16


@given(data=st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_damage_is_an_error_of_ours_or_a_network(data, tmp_path_factory):
    document = json.loads(NetworkDocument.of(gated_net()).to_json())
    layer = data.draw(st.sampled_from(document["layers"]))
    field = data.draw(st.sampled_from(["op", "out_shape", "inputs", "axis", "args", "groups"]))
    values = st.one_of(
        st.integers(-3, 99),
        st.lists(st.integers(-1, 20), max_size=7),
        st.lists(st.sampled_from([one["name"] for one in document["layers"]]), max_size=4),
        st.sampled_from([one["op"] for graph in NETWORKS for one in map(vars_of, graph.layers)]),
    )
    layer[field] = data.draw(values)
    path = tmp_path_factory.mktemp("damaged") / "net.json"
    path.write_text(json.dumps(document))
    try:
        Session(model=str(path), device="gap9", policy="full").cost()
    except ExplorerError:
        return


def vars_of(layer):
    return {"op": layer.op}


@pytest.mark.parametrize("graph", wide_graphs(), ids=lambda graph: graph.name)
def test_rows_of_layers_sum_to_the_step(graph, tmp_path):
    path = tmp_path / "net.json"
    path.write_text(NetworkDocument.of(graph).to_json())
    cost = Session(model=str(path), device="gap9", policy="full").cost().to_dict(layers=True)
    rows = cost["layers"]
    for phase in ("forward", "input_grad", "weight_grad"):
        total = sum(row[f"{phase}_macs"] for row in rows)
        assert total == cost["macs"][phase]
    assert sum(row["time_s"] for row in rows) == pytest.approx(cost["step"]["time_s"])
    assert sum(row["saved_bytes"] for row in rows) == pytest.approx(
        cost["memory"]["saved_activation_bytes"]
    )


def test_a_product_takes_the_time_of_a_linear_layer_of_as_many_macs():
    """Scores of 4 x 6 by 6 x 4 are 96 MACs, as a linear layer from 6 to 16 features."""
    linear = NetworkDocument.model_validate(
        {
            "name": "linear",
            "input_shape": [6],
            "layers": [{"name": "layer", "op": "linear", "out_shape": [16]}],
            "cite": "test",
        }
    ).graph()
    scores = next(row for row in inference_rows(product_net()) if row["name"] == "scores")
    assert scores["forward_macs"] == 96
    assert scores["time_s"] == pytest.approx(inference_rows(linear)[0]["time_s"])


def inference_rows(graph):
    setup = TrainingSetup(micro_batch=64)  # so that weights are not what takes the time
    designs = batch_of(graph, policy_of(graph), setup=setup)
    return report(graph, device_for("fp32"), designs).to_dict(layers=True)["layers"]
