"""Modules of our own through the trace: every form of an operator, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import explorer
from explorer import catalog
from explorer.accuracy.apply import apply_choices
from explorer.accuracy.torch_bridge import build_module, loaded_module
from explorer.accuracy.tracing import trace
from explorer.cli import run
from explorer.costmodel.eager import eager_saved_bytes
from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.tables import layer_table
from explorer.design import TrainingSetup
from explorer.document import (
    MadeWith,
    Named,
    PolicyDocument,
    SetupRecord,
    choices_of,
    parse_document,
)
from explorer.errors import SpecError, UnsupportedOpError
from explorer.network import NetworkDocument, load_network
from tests.helpers import batch_of, device_for, policy_of, random_policy
from tests.train.small_nets import NETS
from tests.train.test_eager import hooked_bytes
from tests.train.test_wide_macs import counted_macs

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]


class Sound(nn.Module):
    """Convolutions over time, gates, recurrent layers, a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(2, 8, 5, stride=2, padding=2)
        self.norm = nn.BatchNorm1d(8)
        self.gate = nn.Conv1d(8, 16, 3, padding="same", dilation=2)
        self.up = nn.ConvTranspose1d(8, 6, 4, stride=2, padding=1)
        self.rows = nn.GRU(6, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.memory = nn.LSTM(10, 4, batch_first=True, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, signal):
        values = functional.leaky_relu(self.norm(self.stem(signal)), 0.2)
        values = functional.glu(self.gate(values), dim=1)
        left, right = values.chunk(2, dim=1)
        values = torch.cat([right * torch.sigmoid(left), functional.elu(left)], dim=1)
        values = self.up(values).transpose(1, 2)
        values = self.memory(self.rows(values)[0])[0]
        return self.head(values.mean(dim=1))


class Look(nn.Module):
    """Squeeze-and-excite, pools, attention with the samples on another axis for a while."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(4, 8)
        self.reduce, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.scale = nn.Parameter(torch.full((8, 1, 1), 0.5))
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.before = nn.LayerNorm(8)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.GELU(approximate="tanh"), nn.Linear(8, 2))

    def forward(self, images):
        maps = functional.hardswish(self.norm(self.stem(images)))
        squeezed = functional.adaptive_avg_pool2d(maps, 1)
        maps = maps * functional.hardsigmoid(self.excite(functional.silu(self.reduce(squeezed))))
        maps = functional.max_pool2d(maps, 3, stride=2, padding=1) * self.scale
        maps = functional.avg_pool2d(maps, 2)
        tokens = maps.flatten(2).transpose(1, 2)
        samples, count, width = tokens.shape
        parts = self.qkv(self.before(tokens)).reshape(samples, count, 3, 2, width // 2)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        tokens = tokens + self.out(mixed.transpose(1, 2).reshape(samples, count, width))
        scores = (query @ key.transpose(-2, -1) / 2).softmax(dim=-1) @ value
        tokens = tokens - 0.1 * scores.permute(0, 2, 1, 3).flatten(2).roll(1, dims=1)
        return self.head(torch.tanh(tokens[:, -1]) ** 2)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Hardshrink())
        self.again = nn.LayerNorm(4)

    def forward(self, values):
        values = torch.cumsum(self.inner(values), dim=1)
        return self.again(self.again(values))


class Steps(nn.Module):
    """Strides, kernels and dilations that differ between rows and columns."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, (3, 5), stride=(2, 3), padding=(1, 2), dilation=(1, 2))
        self.up = nn.ConvTranspose2d(6, 4, (2, 3), stride=(1, 2), output_padding=(0, 1))
        self.down = nn.Conv2d(4, 4, (1, 3), stride=(1, 2), groups=4, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        maps = functional.max_pool2d(functional.relu(self.stem(images)), (2, 1), stride=(1, 2))
        return self.head(self.down(self.up(maps)).mean((2, 3)))


class Turned(nn.Module):
    """Torch's encoder with the samples second, and a place for each position."""

    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.randn(5, 1, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu")
        self.head = nn.Linear(8, 3)

    def forward(self, rows):
        return self.head(self.encoder(rows.transpose(0, 1) + self.places).mean(0))


class Shared(nn.Module):
    """One matrix for three layers, twice as it is and once by its rows."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 6)
        self.inner = nn.Linear(6, 6)
        self.head = nn.Linear(6, 9)
        self.head.weight = self.words.weight

    def forward(self, indices):
        return self.head(self.inner(torch.tanh(self.inner(self.words(indices)))))


OWN = [
    (Sound, (2, 40)),
    (Look, (3, 16, 16)),
    (Steps, (3, 17, 29)),
    (Turned, (5, 8)),
    (Shared, (4,)),
]


def samples_of(make, shape, count):
    return torch.randint(9, (count, *shape)) if make is Shared else torch.randn(count, *shape)


@pytest.mark.parametrize(("make", "shape"), OWN)
def test_a_trace_computes_what_the_module_does(make, shape):
    torch.manual_seed(0)
    module = make().eval()
    made = trace(module, samples_of(make, shape, 2))
    batch = samples_of(make, shape, 3)
    with torch.no_grad():
        torch.testing.assert_close(made.module(batch), module(batch))
    assert made.graph.parameter_count == sum(one.numel() for one in module.parameters())
    assert made.unused == ()
    document = NetworkDocument.of(made.graph).to_json()
    assert parse_document(NetworkDocument, document, "x.json").graph().digest == made.graph.digest


@pytest.mark.parametrize(("make", "shape"), OWN[2:])
def test_macs_and_saved_bytes_are_those_of_the_module(make, shape):
    torch.manual_seed(0)
    module, batch = make().eval(), samples_of(make, shape, 2)
    graph = trace(module, batch).graph
    rng = np.random.default_rng(0)
    policies = [random_policy(graph, rng, whole_layers=True) for _ in range(6)]
    torch.backends.mha.set_fastpath_enabled(False)
    for policy in [*policies, policy_of(graph, 1.0, bias=True), policy_of(graph, bias=True)]:
        apply_choices(module, choices_of(policy), graph=graph)
        designs = batch_of(graph, policy, setup=TrainingSetup(micro_batch=2))
        costs = evaluate(graph, device_for("fp32"), designs)
        macs = costs.forward_macs + costs.input_grad_macs + costs.weight_grad_macs
        assert macs.tolist() == [counted_macs(module, batch)]
        assert eager_saved_bytes(graph, designs).tolist() == [hooked_bytes(module, batch)]
    torch.backends.mha.set_fastpath_enabled(True)


def check_training_of_parameters(module, made, batch, names, policy):
    """Gradients of parameters by name are those of the module, and a step under a policy agrees."""
    for one in (module, made.module.requires_grad_(True)):
        one(batch).square().sum().backward()
    for name in names:
        own = made.module.get_parameter(f"{name}.weight").grad
        torch.testing.assert_close(own, module.get_parameter(name).grad)
    document = PolicyDocument(
        model=Named(name=made.graph.name, digest=made.graph.digest),
        family="test",
        setup=SetupRecord(micro_batch=len(batch)),
        layers=choices_of(policy),
        made_with=MadeWith(version="0", cost_model_version=0),
    )
    explorer.apply_policy(module, document, graph=made.graph)
    report = explorer.check_applied(module, document, batch, graph=made.graph)
    assert report.agrees, report.problems


def test_a_shared_weight_counts_once_and_its_gradients_add():
    torch.manual_seed(0)
    module = Shared()
    batch = samples_of(Shared, (4,), 2)
    made = trace(module, batch)
    assert made.graph.weighted == ("words.weight", "inner.weight", "inner.bias", "head.bias")
    table = layer_table(made.graph)
    assert table.weight_macs.tolist() == [4 * 6 * 9, 2 * 4 * 6 * 6, 0, 0]
    policy = policy_of(made.graph, 1.0)
    check_training_of_parameters(module, made, batch, made.graph.weighted, policy)


@pytest.mark.parametrize(("name", "count"), [("Siamese", 3), ("pyramid", 8), ("decoder", 2)])
def test_a_weight_of_several_places_counts_once_and_its_gradients_add(name, count):
    make, shape = NETS[name]
    torch.manual_seed(0)
    module, batch = make().eval(), torch.randn(3, *shape)
    made = trace(module, batch)
    assert made.graph.parameter_count == sum(one.numel() for one in module.parameters())
    shared = [name for name in made.graph.weighted if made.graph[name].op == "parameter"]
    assert len(shared) == count
    policy = policy_of(made.graph, 1.0, bias=True)
    check_training_of_parameters(module, made, batch, shared, policy)


def test_a_trace_of_a_network_of_ours_costs_the_same():
    graph = catalog.load("model", "digits-cnn").build()
    made = trace(build_module(graph), graph.input_shape).graph
    assert made.weighted == graph.weighted
    policy = policy_of(graph, 0.5, bias=True)
    mine, theirs = (
        evaluate(one, device_for("int8"), batch_of(one, policy)) for one in (graph, made)
    )
    for field in ("peak_live_bytes", "saved_activation_bytes", "forward_macs", "weight_grad_macs"):
        assert getattr(mine, field).tolist() == getattr(theirs, field).tolist()
    assert mine.step_time_s.tolist() == pytest.approx(theirs.step_time_s.tolist())


def test_all_unknown_operators_are_listed_with_their_modules():
    with pytest.raises(UnsupportedOpError) as problem:
        trace(Odd(), (3, 4))
    text = str(problem.value)
    for part in ("hardshrink in inner.1", "cumsum in the module itself", "again.weight"):
        assert part in text


class LastState(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(3, 4, batch_first=True)

    def forward(self, values):
        return self.cells(values)[1][1][0]


class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, values):
        return self.inner(values - values.mean(0, keepdim=True))


@pytest.mark.parametrize(
    ("module", "example", "words"),
    [
        (LastState(), (5, 3), "output 2 of lstm in cells"),
        (nn.GRU(3, 4), (5, 3), "gru in the module itself"),
        (Centred(), (3,), "mean in the module itself"),
    ],
)
def test_what_has_no_counterpart_is_named_whatever_comes_behind_it(module, example, words):
    with pytest.raises(UnsupportedOpError, match=words):
        trace(module, example)


@pytest.mark.filterwarnings("always")
def test_a_recurrent_network_is_traced_without_a_word_of_torch(recwarn):
    trace(nn.Sequential(LastStep()), (5, 3))
    assert not [one for one in recwarn if "tensor attribute" in str(one.message)]


class LastStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, values):
        return self.head(self.cells(values)[0][:, -1])


class Branches(nn.Module):
    def forward(self, values):
        return values if values.sum() > 0 else -values


class TwoInputs(nn.Module):
    def forward(self, values, others):
        return values + others


class Insists(nn.Module):
    """Drops, and normalises by its own batch, in evaluation too."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.scale = nn.Linear(3, 1)

    def forward(self, values):
        values = functional.dropout(values, 0.5, training=True)
        parts = self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias
        values = functional.batch_norm(self.scale(values) + values, *parts, training=True)
        return values * values.amax().item()


def test_what_only_training_does_is_named():
    with pytest.raises(UnsupportedOpError) as problem:
        trace(Insists(), (3,))
    for part in ("dropout in the module itself", "batch_norm in", "amax in", "item in"):
        assert part in str(problem.value)


def test_a_network_of_half_precision_is_traced_in_single():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).half()
    made = trace(module, (3,))
    assert made.graph.weighted == ("0", "2")
    assert {one.dtype for one in made.module.parameters()} == {torch.float32}
    assert {one.dtype for one in module.parameters()} == {torch.float16}


def test_a_layer_alone_is_a_network():
    made = trace(nn.Linear(3, 2), (3,))
    assert made.graph.weighted == ("linear",)
    assert made.graph.parameter_count == 8


@pytest.mark.parametrize(
    ("module", "example", "words"),
    [
        (Branches(), (3,), "a branch or a size depends on the values of the input"),
        (
            nn.Linear(3, 2),
            (4,),
            r"does not run on 2 samples of \(4,\) float32 numbers .*2x4 and 3x2",
        ),
        (nn.Embedding(9, 4), (5,), "Embedding does not run on .*float32.*Long"),
        (TwoInputs(), (3,), "as its one input: .*missing 1 required .* 'others'"),
        (nn.Linear(3, 2, device="meta"), (3,), "values of weight: got 'none'"),
        (nn.LazyLinear(2), (3,), "values of weight: got 'none'"),
        (functional.relu, (3,), "module: got 'function', allowed: a torch module"),
        (Odd(), (), "example"),
        (Odd(), (0, 4), "example"),
        (Odd(), torch.zeros(4), "a batch of samples"),
        (Odd(), None, "example: got"),
        (Odd(), (torch.zeros(1, 3), torch.zeros(1, 3)), "got '2 tensors', allowed: one"),
        (nn.ReLU(), (3,), "no layer with weights"),
    ],
)
def test_what_cannot_be_traced_is_said_in_one_sentence(module, example, words):
    with pytest.raises(SpecError, match=words):
        trace(module, example)


def test_a_saved_trace_is_a_model_everywhere(tmp_path):
    torch.manual_seed(0)
    module = Look().eval()
    path = tmp_path / "look.json"
    trace(module, (3, 16, 16), "look").save(path)
    session = explorer.Session(model=str(path), device="gap9", policy="last-k:k=3", batch=2)
    assert session.cost().model == "look"
    document = session.export()
    groups = explorer.apply_policy(module, document, graph=session.graph)
    names = [group["name"] for group in groups]
    assert names == ["out", "head.0", "head.2"]
    trained = {name for name, one in module.named_parameters() if one.requires_grad}
    assert trained == {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    graph = load_network(path)
    batch = torch.randn(2, 3, 16, 16)
    again = loaded_module(graph, path.with_suffix(".safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(again(batch), module(batch))


def test_the_command_writes_a_model_that_the_others_read(tmp_path, capsys):
    code = tmp_path / "nets.py"
    code.write_text(
        "from torch import nn\n"
        "def small():\n"
        "    return nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 2))\n"
    )
    out = tmp_path / "small.json"
    options = ["--example", "5", "--tokens", "9", "--out", str(out), "--json"]
    assert run(["trace", f"{code}:small", *options]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["layers"], row["parameters"]) == (2, 9 * 4 + 20 * 2 + 2)
    assert run(["cost", str(out), "gap9", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["macs"]["forward"] == 40
    assert run(["validate", str(out)]) == 0
    capsys.readouterr()
    for wrong in (f"{code}:nothing", "nowhere", f"{tmp_path}/no.py:small", "no.such.package:net"):
        assert run(["trace", wrong, *options]) == 2
    assert run(["trace", f"{code}:small", "--example", "5,x", "--out", str(out)]) == 2


@pytest.mark.parametrize("name", ["file/net.json", "net.txt", "/proc/nothing.json", "taken.json"])
def test_a_place_that_cannot_be_written_is_told_before_tracing(name, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise AssertionError("traced before it had to fail")

    (tmp_path / "file").write_text("a file, no folder")
    (tmp_path / "taken.safetensors").mkdir()
    monkeypatch.setattr("explorer.cli.tracing._made", refuse)
    command = ["trace", "torch.nn:Identity", "--example", "3", "--out", str(tmp_path / name)]
    assert run(command) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in sentence or "a name that ends in .json" in sentence
