"""Small valid ONNX files of the operators that the reader knows."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def file_of(nodes, weights, shape, kind=TensorProto.FLOAT):
    """A file of one input `x` of that shape and one output `y`."""
    graph = helper.make_graph(
        [
            helper.make_node(op, i, o, name=f"/{o[0]}/{op}", **options)
            for op, i, o, options in nodes
        ],
        "net",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return model.SerializeToString()


def numbers(*shape):
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def photo_net():
    """Convolutions, norms, a residual sum, pooling, and a classifier behind a computed reshape."""
    nodes = [
        ("Conv", ["x", "stem.weight", "stem.bias"], ["a"], {"pads": [1, 1, 1, 1]}),
        ("BatchNormalization", ["a", "bn.weight", "bn.bias", "bn.mean", "bn.var"], ["b"], {}),
        ("Clip", ["b", "zero", "six"], ["c"], {}),
        ("Conv", ["c", "dw.weight"], ["d"], {"group": 4, "kernel_shape": [3, 3], "strides": [1, 1],
                                             "pads": [1, 1, 1, 1]}),
        ("Sigmoid", ["d"], ["e"], {}),
        ("Mul", ["d", "e"], ["f"], {}),
        ("Add", ["c", "f"], ["g"], {}),
        ("MaxPool", ["g"], ["h"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("GlobalAveragePool", ["h"], ["i"], {}),
        ("Shape", ["i"], ["s"], {}),
        ("Gather", ["s", "first"], ["n"], {"axis": 0}),
        ("Unsqueeze", ["n", "axes"], ["n1"], {}),
        ("Concat", ["n1", "rest"], ["wanted"], {"axis": 0}),
        ("Reshape", ["i", "wanted"], ["j"], {}),
        ("Gemm", ["j", "head.weight", "head.bias"], ["y"], {"transB": 1}),
    ]  # fmt: skip
    weights = {
        "stem.weight": numbers(4, 3, 3, 3), "stem.bias": numbers(4), "bn.weight": numbers(4),
        "bn.bias": numbers(4), "bn.mean": numbers(4), "bn.var": np.ones(4, np.float32),
        "zero": np.float32(0), "six": np.float32(6), "dw.weight": numbers(4, 1, 3, 3),
        "first": np.int64(0), "axes": np.array([0]), "rest": np.array([-1]),
        "head.weight": numbers(5, 4), "head.bias": numbers(5),
    }  # fmt: skip
    return file_of(nodes, weights, (1, 3, 8, 8))


def signal_net():
    """A transposed convolution, a pad, slices, a transpose, means, and constants to fold."""
    nodes = [
        ("Conv", ["x", "c.weight"], ["a"], {"strides": [1], "pads": [1, 1], "kernel_shape": [3]}),
        ("ConvTranspose", ["a", "up.weight"], ["b"], {"strides": [2]}),
        ("Constant", [], ["sizes"], {"value_ints": [0, 0, 1, 0, 0, 2]}),
        ("Pad", ["b", "sizes"], ["c"], {"mode": "constant"}),
        ("Slice", ["c", "starts", "ends", "axes"], ["d"], {}),
        ("Transpose", ["d"], ["e"], {"perm": [0, 2, 1]}),
        ("LeakyRelu", ["e"], ["f"], {"alpha": 0.1}),
        ("ReduceMean", ["f"], ["g"], {"axes": [1], "keepdims": 0}),
        ("Sqrt", ["four"], ["two"], {}),
        ("Div", ["g", "two"], ["h"], {}),
        ("MatMul", ["h", "w"], ["i"], {}),
        ("Add", ["i", "bias"], ["y"], {}),
    ]
    weights = {
        "c.weight": numbers(4, 2, 3), "up.weight": numbers(4, 6, 2), "starts": np.array([1]),
        "ends": np.array([9]), "axes": np.array([2]), "four": np.float32(4),
        "w": numbers(6, 3), "bias": numbers(3),
    }  # fmt: skip
    return file_of(nodes, weights, ("n", 2, 10))


def token_net():
    """An embedding, a layer norm, attention, and GELU by its error function."""
    nodes = [
        ("Gather", ["table", "x"], ["a"], {"axis": 0}),
        ("LayerNormalization", ["a", "ln.weight", "ln.bias"], ["b"], {"axis": -1}),
        ("MatMul", ["b", "q"], ["c"], {}),
        ("MatMul", ["b", "k"], ["d"], {}),
        ("Transpose", ["d"], ["e"], {"perm": [0, 2, 1]}),
        ("MatMul", ["c", "e"], ["f"], {}),
        ("Mul", ["f", "scale"], ["g"], {}),
        ("Softmax", ["g"], ["h"], {"axis": -1}),
        ("MatMul", ["h", "b"], ["i"], {}),
        ("Div", ["i", "root"], ["j"], {}),
        ("Erf", ["j"], ["k1"], {}),
        ("Add", ["k1", "one"], ["l"], {}),
        ("Mul", ["i", "l"], ["m"], {}),
        ("Mul", ["m", "half"], ["n"], {}),
        ("Flatten", ["n"], ["o"], {"axis": 1}),
        ("Gemm", ["o", "head.weight"], ["y"], {}),
    ]
    weights = {
        "table": numbers(11, 4), "ln.weight": numbers(4), "ln.bias": numbers(4),
        "q": numbers(4, 4), "k": numbers(4, 4), "scale": np.float32(0.5),
        "root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5),
        "head.weight": numbers(12, 2),
    }  # fmt: skip
    return file_of(nodes, weights, (2, 3), TensorProto.INT64)


def small_nets():
    """All of them."""
    return [photo_net(), signal_net(), token_net()]
