"""Small graphs with every operator that vision chains do not have."""

from math import prod

import numpy as np

from explorer.graph import INPUT, ModelGraph
from tests.helpers import Net

CURVES = ("gelu", "gelu_tanh", "silu", "hardswish", "sigmoid", "tanh", "hardsigmoid")


class WideNet(Net):
    """Adds the wider vocabulary; every method returns the name of the tensor it made."""

    def op(self, op, name, *sources, shape=None, **rest):
        """Any operator; its output has the shape of its first input unless told."""
        return self._append(op, name, sources, shape or self.shapes[sources[0]], **rest)

    def dense(self, source, name, features, *, bias=True):
        """A linear layer over the last axis."""
        *rest, _ = self.shapes[source]
        return self.op(
            "linear", name, source, shape=(*rest, features), axis=len(rest), has_bias=bias
        )

    def layernorm(self, source, name, axis=None):
        last = len(self.shapes[source]) - 1
        return self.op(
            "layernorm", name, source, axis=last if axis is None else axis, has_bias=True
        )

    def transpose(self, source, name, *order):
        shape = tuple(self.shapes[source][axis] for axis in order)
        return self.op("transpose", name, source, shape=shape, args=order)

    def reshape(self, source, name, *shape):
        return self.op("reshape", name, source, shape=shape)

    def slice(self, source, name, start, stop, axis):
        shape = list(self.shapes[source])
        shape[axis] = stop - start
        return self.op("slice", name, source, shape=tuple(shape), axis=axis, args=(start, stop, 1))

    def glu(self, source, name, axis=0):
        shape = list(self.shapes[source])
        shape[axis] //= 2
        return self.op("glu", name, source, shape=tuple(shape), axis=axis)

    def concat(self, name, *sources, axis=0):
        shape = list(self.shapes[sources[0]])
        shape[axis] = sum(self.shapes[source][axis] for source in sources)
        return self.op("concat", name, *sources, shape=tuple(shape), axis=axis)

    def mean(self, source, name, *axes, keep=False):
        sizes = enumerate(self.shapes[source])
        if keep:
            shape = tuple(1 if axis in axes else size for axis, size in sizes)
        else:
            shape = tuple(size for axis, size in sizes if axis not in axes)
        return self.op("mean", name, source, shape=shape, args=axes)

    def attention(self, name, query, key, value):
        shape = (*self.shapes[query][:-1], self.shapes[value][-1])
        args = (self.shapes[query][-1] ** -0.5,)
        return self.op("attention", name, query, key, value, shape=shape, args=args)


def gated_net() -> ModelGraph:
    """Convolutions over time with layer norm, gated units, a mean over time."""
    net = WideNet(3, 1, 12)
    end = net.op("conv2d", "stem", INPUT, shape=(8, 1, 12), kernel=(1, 3), padding=(0, 1))
    for block in "ab":
        start = end
        end = net.layernorm(end, f"{block}_norm", axis=0)
        end = net.op(
            "conv2d",
            f"{block}_filter",
            end,
            shape=(16, 1, 12),
            kernel=(1, 3),
            padding=(0, 2),
            dilation=(1, 2),
            has_bias=True,
        )
        end = net.glu(end, f"{block}_glu")
        end = net.add(f"{block}_add", start, net.conv(end, f"{block}_mix", 8, act="gelu"))
    left = net.act(net.conv(end, "left", 8), "left_gate", "sigmoid")
    right = net.conv(end, "right", 8, act="silu")
    end = net.op("mul", "product", left, right)
    end = net.concat("both", end, net.op("scale", "halved", end, args=(0.5, 1.0)))
    net.linear(net.reshape(net.mean(end, "mean", 2), "flat", 16), "head", 3)
    return net.graph("gated")


def squeeze_net() -> ModelGraph:
    """Squeeze-and-excite, hardswish, a maximum pool, padding and a transposed convolution."""
    net = WideNet(3, 9, 9)
    end = net.op("pad", "pad", INPUT, shape=(3, 10, 10), args=(0, 0, 0, 1, 0, 1))
    end = net.op("conv2d", "stem", end, shape=(8, 4, 4), kernel=(3, 3), stride=2)
    end = net.norm(end, "stem_norm", "bn")
    end = net.act(end, "stem_act", "hardswish")
    squeezed = net.mean(end, "squeeze", 1, 2, keep=True)
    squeezed = net.conv(squeezed, "reduce", 4)
    squeezed = net.op("leaky_relu", "reduce_act", squeezed, args=(0.1,))
    gate = net.act(net.conv(squeezed, "excite", 8), "gate", "hardsigmoid")
    end = net.op("mul", "scaled", end, gate)
    end = net.op("maxpool", "pool", end, shape=(8, 2, 2), kernel=(3, 3), stride=2, padding=(1, 1))
    end = net.op(
        "conv_transpose2d",
        "up",
        end,
        shape=(6, 4, 4),
        kernel=(3, 3),
        stride=2,
        padding=(1, 1),
        args=(1, 1),
        has_bias=True,
    )
    end = net.op("elu", "up_act", end, args=(1.0,))
    end = net.op("power", "squared", end, args=(2.0,))
    end = net.op("shift", "moved", end, net.op("constant", "mean_image", shape=(6, 4, 4)))
    end = net.op("roll", "rolled", end, args=(0, 1, -1))
    end = net.conv(end, "last", 6, kernel=3, groups=6)
    net.linear(net.pool(end, "mean"), "head", 4)
    return net.graph("squeeze")


def image_net() -> ModelGraph:
    """Slopes, limits, windows that overlap or reach over the edge, larger images, quotients."""
    net = WideNet(2, 9, 11)
    end = net.op("prelu", "slopes", net.conv(INPUT, "stem", 6, kernel=3), args=(6,))
    end = net.op("standardise", "centred", end, args=(1e-5, 2))
    end = net.op("groupnorm", "each", net.conv(end, "mix", 6), groups=6, args=(1e-5, 1))
    end = net.op("maxpool", "larger", end, shape=(6, 5, 6), kernel=(2, 2), stride=2)
    end = net.op("clip", "limited", net.conv(end, "second", 4, kernel=3), args=(-1.0, 2.0))
    rest = {"kernel": (3, 3), "stride": 2, "padding": (1, 1)}
    end = net.op("avgpool", "sliding", end, shape=(4, 3, 3), args=(0,), **rest)
    near = net.op("upsample_nearest", "near", end, shape=(4, 5, 6))
    wide = net.op("upsample", "wide", end, shape=(4, 5, 6), args=(1,))
    end = net.add("sum", near, net.op("mish", "mish", wide))
    end = net.op("softplus", "positive", net.conv(end, "third", 4), args=(2.0,))
    end = net.op("scale", "above", end, args=(1.0, 1.0))
    small = net.op("celu", "celu", net.op("log", "small", end), args=(0.5,))
    root = net.op("sqrt", "root_of", net.op("scale", "higher", end, args=(2.0, 0.0)))
    end = net.conv(net.op("div", "quotient", small, root), "fourth", 4)
    end = net.op("abs", "size", net.op("selu", "selu", end))
    end = net.op("rsqrt", "root", net.op("scale", "off_zero", end, args=(1.0, 1.0)))
    end = net.op("exp", "grown", net.conv(end, "fifth", 4))
    end = net.op("sin", "wave", net.conv(end, "sixth", 4))
    end = net.op("reciprocal", "turned", net.op("scale", "off_one", end, args=(1.0, 2.0)))
    end = net.op("cos", "other_wave", net.conv(end, "last", 4))
    end = net.dense(net.mean(end, "mean", 1, 2), "head", 4)
    net.op("log_softmax", "shares", end)
    return net.graph("images")


def token_net() -> ModelGraph:
    """A transformer block over token indices, with a class token and positions."""
    net = WideNet(5)
    end = net.op("embedding", "words", INPUT, shape=(5, 8), axis=1, args=(11,))
    first = net.op("parameter", "class_token", shape=(1, 8))
    end = net.concat("tokens", first, end, axis=0)
    end = net.op("shift", "placed", end, net.op("parameter", "positions", shape=(6, 8)))
    start = end
    end = net.layernorm(end, "before")
    parts = []
    for part in ("query", "key", "value"):
        tensor = net.reshape(net.dense(end, part, 8), f"{part}_heads", 6, 2, 4)
        parts.append(net.transpose(tensor, f"{part}_first", 1, 0, 2))
    end = net.attention("mix", *parts)
    end = net.op("copy", "joined", net.transpose(end, "mix_last", 1, 0, 2))
    end = net.reshape(end, "joined_flat", 6, 8)
    middle = net.add("first_add", start, net.dense(end, "project", 8))
    end = net.layernorm(middle, "between")
    end = net.act(net.dense(end, "expand", 16), "curve", "gelu_tanh")
    end = net.add("second_add", middle, net.dense(end, "shrink", 8))
    end = net.reshape(net.slice(end, "class_only", 0, 1, 0), "class_flat", 8)
    net.dense(end, "head", 3)
    return net.graph("tokens")


def tied_net() -> ModelGraph:
    """Words in and words out by one table."""
    net = WideNet(5)
    table = net.op("parameter", "table", shape=(11, 8))
    end = net.op("lookup", "words", INPUT, table, shape=(5, 8))
    end = net.act(net.dense(end, "inner", 8), "curve", "gelu")
    turned = net.transpose(table, "turned", 1, 0)
    end = net.op("matmul", "back", end, turned, shape=(5, 11))
    net.mean(end, "mean", 0)
    return net.graph("tied")


def shared_net() -> ModelGraph:
    """One head of a kernel and a bias over two scales, behind layers of their own."""
    net = WideNet(3, 8, 8)
    fine = net.conv(INPUT, "stem", 4, kernel=3, act="relu")
    coarse = net.op(
        "conv2d", "down", fine, shape=(4, 4, 4), kernel=(3, 3), stride=2, padding=(1, 1)
    )
    kernel = net.op("parameter", "kernel", shape=(4, 4, 3, 3))
    bias = net.op("parameter", "bias", shape=(4,))
    thin = net.op("parameter", "thin", shape=(4, 1, 3, 3))
    ends = []
    for part, end in (("fine", fine), ("coarse", coarse)):
        for depth in range(2):
            name = f"{part}_{depth}"
            end = net.op("convolve", name, end, kernel, bias, kernel=(3, 3), padding=(1, 1))
            end = net.act(end, f"{name}_act", "relu" if depth else "silu")
        end = net.op("convolve", f"{part}_thin", end, thin, kernel=(3, 3), padding=(1, 1), groups=4)
        ends.append(net.pool(end, f"{part}_mean"))
    net.linear(net.concat("both", *ends), "head", 3)
    return net.graph("shared")


def beside_net(*, shared: bool, groups=1) -> ModelGraph:
    """A convolution in the middle, with a kernel of its own or with one that is a parameter."""
    net = WideNet(3, 9, 9)
    end = net.conv(INPUT, "stem", 6, kernel=3, act="relu")
    how = {"shape": (6, 9, 9), "kernel": (3, 3), "padding": (1, 1), "groups": groups}
    if shared:
        kernel = net.op("parameter", "kernel", shape=(6, 6 // groups, 3, 3))
        end = net.op("convolve", "middle", end, kernel, **how)
    else:
        end = net.op("conv2d", "middle", end, **how)
    net.linear(net.pool(net.act(end, "act", "relu6"), "mean"), "head", 4)
    return net.graph("beside")


def product_net() -> ModelGraph:
    """Attention written out: one projection cut in three, products, a softmax."""
    net = WideNet(4, 6)
    end = net.dense(INPUT, "qkv", 18, bias=False)
    query, key, value = (
        net.slice(end, part, 6 * at, 6 * at + 6, 1)
        for at, part in enumerate(("query", "key", "value"))
    )
    turned = net.transpose(key, "turned", 1, 0)
    scores = net.op("matmul", "scores", query, turned, shape=(4, 4))
    scores = net.op("scale", "scaled", scores, args=(0.4, 0.0))
    weights = net.op("softmax", "weights", scores, axis=1)
    end = net.op("matmul", "mixed", weights, value, shape=(4, 6))
    end = net.act(net.dense(end, "out", 6), "out_act", "tanh")
    net.dense(net.mean(end, "mean", 0), "head", 2)
    return net.graph("products")


def recurrent_net(op: str) -> ModelGraph:
    """A recurrent layer between linear ones."""
    net = WideNet(7, 4)
    end = net.dense(INPUT, "in", 5)
    end = net.op(op, "cells", end, shape=(7, 6), axis=1, args=(3, 2, 2, 1))
    net.dense(net.mean(end, "mean", 0), "head", 2)
    return net.graph(op)


def state_space_net(op: str) -> ModelGraph:
    """A state space with dropout and a gated unit, then cells."""
    net = WideNet(3, 1, 10)
    start = net.conv(INPUT, "in", 4)
    end = net.op(op, "states", start, args=(6,))
    end = net.op("dropout2d", "dropped", net.act(end, "curve", "gelu"), args=(0.1,))
    end = net.add("sum", start, net.glu(net.conv(end, "mix", 8), "gate"))
    end = net.pool(net.layernorm(end, "norm", axis=0), "mean")
    end = net.op("cfc", "cells", end, shape=(5,))
    end = net.op("cfc", "middle_cells", end, shape=(2,))
    net.op("cfc", "last_cells", end, shape=(3,))
    return net.graph(op)


def wide_graphs() -> tuple[ModelGraph, ...]:
    """All of them, those torch's own bytes are known for first."""
    recurrent = [recurrent_net(op) for op in ("gru", "lstm")]
    plain = (
        gated_net(),
        squeeze_net(),
        image_net(),
        token_net(),
        product_net(),
        tied_net(),
        shared_net(),
    )
    return (*plain, *recurrent)


def state_space_nets() -> tuple[ModelGraph, ...]:
    """Both forms; torch counts no multiply-accumulates of their transforms."""
    return state_space_net("s4d"), state_space_net("s4d_recurrent")


def random_wide_graph(rng: np.random.Generator) -> ModelGraph:
    """A DAG of (8, 4) tensors: any operator on any earlier tensor, then all loose ends."""
    net = WideNet(8, 4)
    tensors = [net.dense(INPUT, "op0", 4)]
    loose = set(tensors)
    for number in range(1, int(rng.integers(5, 16))):
        name = f"op{number}"
        source = tensors[-1] if rng.random() < 0.6 else str(rng.choice(tensors))
        other = str(rng.choice(tensors))
        kind = str(rng.choice(["dense", "act", "norm", "view", "two", "half", "attend", "free"]))
        end = _random_op(net, rng, kind, name, source, other)
        loose -= {source, other} if kind in ("two", "attend") else {source}
        tensors.append(end)
        loose.add(end)
    ends = [tensor for tensor in tensors if tensor in loose]
    end = ends[0] if len(ends) == 1 else net.add("gather", *ends)
    net.dense(net.mean(end, "mean", 0), "head", 3)
    return net.graph("random-wide")


def _random_op(net, rng, kind, name, source, other):
    if kind == "act":
        return net.act(source, name, str(rng.choice(CURVES)))
    if kind == "norm":
        return net.layernorm(source, name)
    if kind == "view":
        turned = net.transpose(source, f"{name}_turned", 1, 0)
        return net.reshape(turned, name, 8, 4)
    if kind == "two":
        return net.op(str(rng.choice(["mul", "add", "shift"])), name, source, other)
    if kind == "half":
        halves = [net.slice(source, f"{name}_{at}", 4 * at, 4 * at + 4, 0) for at in range(2)]
        way = rng.random()
        if way < 0.3:
            return net.concat(name, halves[1], halves[0])
        product = net.op("mul" if way < 0.6 else "add", f"{name}_mul", *halves)
        return net.concat(name, product, halves[0])
    if kind == "attend":
        return net.attention(name, source, other, source)
    if kind == "free":
        width = net.op("parameter", f"{name}_own", shape=(4,))
        return net.op(str(rng.choice(["mul", "shift"])), name, source, width)
    return net.dense(source, name, 4)


def elements(graph: ModelGraph) -> int:
    """Elements of one input sample."""
    return prod(graph.input_shape)
