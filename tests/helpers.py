"""Small graphs, random policies and hypothesis strategies for the cost-model tests."""

import itertools
from dataclasses import replace
from math import gcd

import numpy as np
from hypothesis import strategies as st

from explorer.adapters import adapted, adapter_blocks
from explorer.design import (
    CHANNEL_AXES,
    OPTIMIZERS,
    RECOMPUTES,
    UPDATE_TIMINGS,
    DesignBatch,
    LayerAxes,
    TrainingSetup,
    UpdatePolicy,
)
from explorer.device import PRECISIONS, DeviceProfile, load_device
from explorer.graph import INPUT, NORM_OP_OF, LayerSpec, ModelGraph
from explorer.low_rank import LowRank, largest_rank
from explorer.provenance import Kind, Source

SOURCE = Source(kind=Kind.ASSUMED, cite="test")
BIOSIGNALS = ("mi-bminet", "mi-bminet:form=m8-d2", "epidenet", "epidenet:form=valid")
NORM_CHOICES = (*NORM_OP_OF, "none")


class Net:
    """Writes a graph down; every method returns the name of the tensor it made."""

    def __init__(self, *input_shape: int) -> None:
        self.shapes = {INPUT: input_shape}
        self.layers: list[LayerSpec] = []

    def conv(
        self,
        source,
        name,
        channels,
        *,
        kernel=1,
        stride=1,
        padding=None,
        groups=1,
        bias=True,
        norm="none",
        act="",
    ):
        """A convolution, then its norm and its activation; the last tensor's name."""
        extents = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = padding or tuple((extent - 1) // 2 for extent in extents)
        pads = padding if len(padding) == 4 else (padding[0], padding[0], padding[1], padding[1])
        sides = [
            (size + before + after - extent) // stride + 1
            for size, before, after, extent in zip(
                self.shapes[source][1:], pads[::2], pads[1::2], extents, strict=True
            )
        ]
        tensor = self._append(
            "conv2d",
            name,
            (source,),
            (channels, *sides),
            kernel=extents,
            stride=stride,
            padding=padding,
            groups=groups,
            has_bias=bias and norm == "none",
        )
        if norm != "none":
            tensor = self.norm(tensor, f"{name}_norm", norm)
        return self.act(tensor, f"{name}_act", act) if act else tensor

    def norm(self, source, name, norm):
        groups = gcd(self.shapes[source][0], 2) if norm == "gn" else 1
        return self._append(NORM_OP_OF[norm], name, (source,), self.shapes[source], groups=groups)

    def act(self, source, name, op="relu6"):
        return self._append(op, name, (source,), self.shapes[source])

    def add(self, name, *sources):
        return self._append("add", name, sources, self.shapes[sources[0]])

    def window(self, source, name, op, kernel):
        channels, height, width = self.shapes[source]
        shape = (channels, height // kernel[0], width // kernel[1])
        return self._append(op, name, (source,), shape, kernel=kernel)

    def reshape(self, source, name):
        return self._append("reshape", name, (source,), (int(np.prod(self.shapes[source])),))

    def pool(self, source, name="pool"):
        return self._append("global_avgpool", name, (source,), self.shapes[source][:1])

    def linear(self, source, name, features, *, bias=True):
        return self._append("linear", name, (source,), (features,), has_bias=bias)

    def graph(self, name="net") -> ModelGraph:
        return ModelGraph(name, self.shapes[INPUT], tuple(self.layers), SOURCE)

    def _append(self, op, name, inputs, out_shape, **rest):
        named = () if inputs == (INPUT,) else inputs
        self.layers.append(LayerSpec(name=name, op=op, inputs=named, out_shape=out_shape, **rest))
        self.shapes[name] = out_shape
        return name


def conv_chain() -> ModelGraph:
    """Strided, grouped and plain convolutions with every kind of bias, then a classifier."""
    net = Net(3, 9, 9)
    end = net.conv(INPUT, "a", 6, kernel=3, stride=2, act="relu6")
    end = net.conv(end, "b", 8, kernel=3, groups=2, bias=False, act="relu")
    end = net.conv(end, "c", 5, bias=True)
    end = net.conv(end, "d", 12, kernel=5, bias=False, act="relu6")
    end = net.conv(end, "e", 4, kernel=3, groups=4)  # each output reads three inputs of its own
    net.linear(net.pool(end), "head", 7)
    return net.graph("chain")


def residual_net(norm: str = "none") -> ModelGraph:
    """Two residual blocks behind one another, an activation behind the second sum."""
    net = Net(2, 6, 6)
    end = net.conv(INPUT, "stem", 8, kernel=3, norm=norm, act="relu6")
    for block in "ab":
        inner = net.conv(end, f"{block}1", 12, norm=norm, act="relu6")
        inner = net.conv(inner, f"{block}2", 8, kernel=3, norm=norm)
        end = net.add(f"{block}_add", end, inner)
    end = net.act(end, "last_act", "relu")
    net.linear(net.pool(end), "head", 4, bias=False)
    return net.graph(f"residual-{norm}")


def depthwise_net(norm: str = "none") -> ModelGraph:
    """Inverted residual blocks, one strided, with depthwise convolutions."""
    net = Net(3, 8, 8)
    start = net.conv(INPUT, "stem", 8, kernel=3, norm=norm, act="relu6")
    end = net.conv(start, "a_expand", 16, norm=norm, act="relu6")
    end = net.conv(end, "a_depth", 16, kernel=3, groups=16, norm=norm, act="relu6")
    end = net.add("a_add", start, net.conv(end, "a_project", 8, norm=norm))
    end = net.conv(end, "b_depth", 8, kernel=5, stride=2, groups=8, norm=norm, act="relu6")
    net.pool(net.conv(end, "b_project", 12, norm=norm, act="relu6"))
    return net.graph(f"depthwise-{norm}")


def two_consumers(norm: str = "none") -> ModelGraph:
    """One tensor read by a depthwise and a dense convolution; the input is read twice too."""
    net = Net(4, 5, 5)
    left = net.conv(INPUT, "left", 6, kernel=3, norm=norm, act="relu6")
    right = net.conv(INPUT, "right", 6, norm=norm)
    start = net.add("start", left, right)
    shared = net.act(start, "shared")
    one = net.conv(shared, "one", 6, kernel=3, groups=6, norm=norm, act="relu6")
    two = net.conv(shared, "two", 6, norm=norm)
    net.linear(net.pool(net.add("sum", one, two)), "head", 3)
    return net.graph(f"two-consumers-{norm}")


def parallel_branches(norm: str = "none") -> ModelGraph:
    """Two branches whose operators take turns, and a sum of three tensors."""
    net = Net(2, 6, 6)
    start = net.conv(INPUT, "stem", 4, kernel=3, act="relu6")
    left = net.conv(start, "left1", 10, norm=norm)
    right = net.conv(start, "right1", 4, kernel=3, norm=norm, act="relu")
    left = net.act(left, "left1_late_act")
    right = net.conv(right, "right2", 4, groups=4, kernel=3)
    left = net.conv(left, "left2", 4, kernel=3)
    total = net.add("total", left, right, start)
    net.pool(net.conv(total, "out", 8, norm=norm, act="relu6"))
    return net.graph(f"parallel-{norm}")


def signal_net(norm: str = "none") -> ModelGraph:
    """Filters in time with uneven padding, both kinds of windows, and a classifier of it all."""
    net = Net(1, 2, 21)
    end = net.conv(INPUT, "across", 6, kernel=(2, 1), padding=(0, 0), norm=norm)
    end = net.conv(end, "in_time", 12, kernel=(1, 6), padding=(0, 0, 2, 3), groups=6, norm=norm)
    end = net.window(net.act(end, "in_time_act", "relu"), "means", "avgpool", (1, 4))
    end = net.conv(end, "depth", 12, kernel=(1, 4), padding=(0, 0, 1, 2), groups=12, bias=False)
    end = net.conv(end, "mixed", 9, norm=norm, act="relu")
    end = net.window(end, "maxima", "window_max", (1, 3))
    net.linear(net.reshape(end, "flat"), "head", 3)
    return net.graph(f"signal-{norm}")


def preactivation_net() -> ModelGraph:
    """A tensor read by an activation and by a sum, so the activation cannot overwrite it."""
    net = Net(2, 6, 6)
    start = net.conv(INPUT, "stem", 8, kernel=3, norm="gn")
    inner = net.act(start, "pre_act")
    inner = net.conv(inner, "inner", 8, kernel=3, norm="gn")
    end = net.add("sum", start, inner)
    net.pool(net.conv(end, "out", 4, act="relu6"))
    return net.graph("preactivation")


def block_net(norm: str = "none") -> ModelGraph:
    """Blocks of every kind an adapter meets: odd sides and channels, strides, a sum, side 1.

    `b3` ends in an activation behind its sum, `b5` has two inputs, so no adapter.
    """
    net = Net(2, 9, 6)
    stem = net.conv(INPUT, "stem", 6, kernel=3, norm=norm, act="relu6")
    end = net.conv(stem, "b0_project", 4, norm=norm)
    end = net.conv(end, "b1_expand", 10, norm=norm, act="relu6")
    end = net.conv(end, "b1_depth", 10, kernel=3, stride=2, groups=10, norm=norm, act="relu6")
    end = net.conv(end, "b1_project", 5, norm=norm)
    inner = net.conv(end, "b2_dense", 5, kernel=3, norm=norm, act="relu6")
    end = net.add("b2_add", end, inner)
    inner = net.conv(end, "b3_dense", 5, kernel=3, norm=norm)
    end = net.act(net.add("b3_add", end, inner), "b3_act", "relu")
    wide = net.conv(end, "b4_depth", 5, kernel=3, stride=3, groups=5, norm=norm)
    wide = net.conv(wide, "b4_project", 8, norm=norm)
    both = net.conv(wide, "b5_left", 4), net.conv(wide, "side", 4)
    end = net.conv(net.add("b5_add", *both), "b5_out", 8, norm=norm)
    end = net.conv(end, "b6_dense", 8, kernel=3, stride=2, norm=norm, act="relu6")
    end = net.conv(end, "b7_dense", 8, kernel=3, norm=norm)
    net.linear(net.pool(end), "head", 3)
    graph = net.graph(f"blocks-{norm}")
    labelled = (
        replace(layer, block=layer.name[:2] if layer.name[0] == "b" else "")
        for layer in graph.layers
    )
    return replace(graph, layers=tuple(labelled))


def adapted_nets(*norms: str) -> tuple[ModelGraph, ...]:
    """The block net with all its adapters, and with some, in each kind of norm."""
    made = []
    for norm in norms or NORM_CHOICES:
        graph = block_net(norm)
        blocks = adapter_blocks(graph)
        for kept in (blocks, blocks[1::2]):
            name = f"adapted-{len(kept)}-{norm}"
            made.append(replace(adapted(graph, kept), name=name))
    return tuple(made)


def with_some_adapters(
    graph: ModelGraph, policy: UpdatePolicy, rng: np.random.Generator
) -> UpdatePolicy:
    """The policy with adapters on random blocks."""
    blocks = adapter_blocks(graph)
    return replace(policy, adapters=tuple(block for block in blocks if rng.random() < 0.5))


def small_graphs() -> tuple[ModelGraph, ...]:
    """Every small graph, those with norms in each kind of norm; two have adapters."""
    makers = (residual_net, depthwise_net, two_consumers, parallel_branches, signal_net)
    made = [make(norm) for make in makers for norm in NORM_CHOICES]
    return (conv_chain(), preactivation_net(), adapted_nets("gn")[0], low_rank_net(), *made)


def low_rank_net() -> ModelGraph:
    """The residual net with a low-rank adapter on every layer that can have one."""
    graph = residual_net("gn")
    names = [name for name in graph.weighted if largest_rank(graph, name) > 1]
    wide = adapted(graph, tuple(LowRank(layer=name, rank=2, alpha=3.0) for name in names))
    return replace(wide, name="low-rank")


def random_graph(rng: np.random.Generator) -> ModelGraph:
    """A DAG of eight-channel tensors: any operator on any earlier tensor, then all loose ends."""
    net = Net(8, 4, 4)
    tensors = [net.conv(INPUT, "op0", 8, kernel=3)]
    loose = set(tensors)
    for number in range(1, int(rng.integers(4, 14))):
        name = f"op{number}"
        # mostly the newest tensor, as networks do
        source = tensors[-1] if rng.random() < 0.6 else str(rng.choice(tensors))
        kind = rng.choice(["dense", "depthwise", "normed", "act", "add"])
        if kind == "add" and len(tensors) > 1:
            other = str(rng.choice([tensor for tensor in tensors if tensor != source]))
            end = net.add(name, other, source)
            loose.discard(other)
        elif kind in ("act", "add"):
            end = net.act(source, name)
        else:
            groups = 8 if kind == "depthwise" else 1
            norm = str(rng.choice(["gn", "bn"])) if kind == "normed" else "none"
            end = net.conv(source, name, 8, kernel=3, groups=groups, norm=norm)
        loose.discard(source)
        tensors.append(end)
        loose.add(end)
    ends = [tensor for tensor in tensors if tensor in loose]
    net.pool(ends[0] if len(ends) == 1 else net.add("gather", *ends))
    return net.graph("random")


def with_blocks(graph: ModelGraph, rng: np.random.Generator) -> ModelGraph:
    """The same layers in blocks cut at random; a few are in none."""
    names, layers = itertools.count(), []
    block = str(next(names))
    for layer in graph.layers:
        if rng.random() < 0.3:
            block = str(next(names)) if rng.random() < 0.9 else ""
        layers.append(replace(layer, block=block))
    return replace(graph, layers=tuple(layers))


def random_policy(
    graph: ModelGraph, rng: np.random.Generator, *, whole_layers: bool = False
) -> UpdatePolicy:
    """Any depth and density; slices along either axis, or whole layers only."""
    axes = LayerAxes.of(graph)
    layer_count = len(axes.names)
    axis = str(rng.choice(CHANNEL_AXES))
    channels = axes.channels(axis)
    density, bias_density, norm_density = rng.choice([0.0, 0.3, 0.7, 1.0], 3)
    deep_enough = np.arange(layer_count) >= rng.integers(0, layer_count)
    trained = deep_enough & (rng.random(layer_count) < density)
    some = channels if whole_layers else rng.integers(1, channels + 1)
    return UpdatePolicy.of(
        "random",
        axes,
        slices=np.where(trained, some, 0),
        update_bias=deep_enough & (rng.random(layer_count) < bias_density),
        update_norm=deep_enough & (rng.random(layer_count) < norm_density),
        channel_axis=axis,
    )


def policy_of(graph: ModelGraph, share=0.0, *, bias=False, norm=False, axis="out") -> UpdatePolicy:
    """The same share, bias and norm flag in every layer, or one entry a layer."""
    axes = LayerAxes.of(graph)
    shape = len(axes.names)
    return UpdatePolicy.of(
        "test",
        axes,
        slices=axes.slices(np.broadcast_to(np.asarray(share, float), shape), axis),
        update_bias=np.broadcast_to(bias, shape),
        update_norm=np.broadcast_to(norm, shape),
        channel_axis=axis,
    )


def batch_of(
    graph: ModelGraph, *policies: UpdatePolicy, setup: TrainingSetup | None = None
) -> DesignBatch:
    """Policies of one graph under one setup."""
    return DesignBatch.of(LayerAxes.of(graph), policies, setup or TrainingSetup())


def device_for(
    precision: str, *, weights_in_flash: bool = True, workspace: str = "none"
) -> DeviceProfile:
    """GAP9, which has every precision, with or without its level for frozen weights."""
    gap9 = load_device("gap9")
    kernels = gap9.kernels[precision].model_copy(update={"workspace": workspace})
    gap9 = gap9.model_copy(update={"kernels": {**gap9.kernels, precision: kernels}})
    if weights_in_flash:
        return gap9
    return gap9.model_copy(update={"memory": (gap9.level("data"),), "name": "no-flash"})


def random_policies(graph: ModelGraph, **options) -> st.SearchStrategy[UpdatePolicy]:
    """Policies of a graph; drawn as one seed, because networks have up to 60 layers."""
    seeds = st.integers(0, 2**32 - 1)
    return seeds.map(lambda seed: random_policy(graph, np.random.default_rng(seed), **options))


setups = st.builds(
    TrainingSetup,
    micro_batch=st.sampled_from([1, 2, 5, 8]),
    accumulation_steps=st.sampled_from([1, 1, 3]),
    optimizer=st.sampled_from(OPTIMIZERS),
    precision=st.sampled_from(PRECISIONS),
    update_timing=st.sampled_from(UPDATE_TIMINGS),
    recompute=st.sampled_from(RECOMPUTES),
)
