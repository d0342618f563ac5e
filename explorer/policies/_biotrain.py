"""What BioTrain's policies share (Wang et al., arXiv 2604.13359; pulp-platform/Onnx4Deeploy).

One update is of eight samples by plain SGD. The public export trains every weight and scale
and the classifier's bias, but no offset of a norm; whether the paper's does is not clear (its
parameter count of the EEG network has the offsets, that of the EOG network has not).
"""

from collections.abc import Mapping

import numpy as np

from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext

OPTIONS = {
    "norm_bias": Option(default="0", help="1 trains the offsets of norms too", choices=("0", "1"))
}
UPDATE = {"batch": 8, "optimizer": "sgd", "update_timing": "deferred"}


def is_published_for(context: PolicyContext) -> bool:
    """Whether the network filters signals in time: no convolution over two sides."""
    kernels = [layer.kernel for layer in context.graph.layers if layer.op == "conv2d"]
    return any(max(kernel) > 1 for kernel in kernels) and all(min(k) == 1 for k in kernels)


def whole_network(family: str, context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Every weight, scale and own bias; offsets of norms only where asked."""
    axes, given = context.axes, options.get("norm_bias", OPTIONS["norm_bias"].default)
    own_bias = np.array([context.graph[name].has_bias for name in axes.names])
    return UpdatePolicy.of(
        f"{family}:norm_bias=1" if given == "1" else family,
        axes,
        slices=axes.out_channels,
        update_bias=axes.has_bias if given == "1" else own_bias,
    )
