"""The `backward_config` of mit-han-lab/tiny-training (Lin et al., NeurIPS 2022), both ways.

A configuration trains the biases of the last n convolutions and, in listed ones (0-based
from the input, ascending, among those n), the weights of a share of the input channels. It
cannot name channels or output channels, and it trains the classifier in any case; what a
policy loses on the way out is said in `notes`, and its channels go to a side file.
Lists are text with dashes, because that repository splits text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from explorer.backward_config import SPLIT, BackwardConfig
from explorer.catalog import split_spec
from explorer.design import LayerAxes, UpdatePolicy
from explorer.device import first_problem
from explorer.errors import SpecError
from explorer.family import whole_number
from explorer.graph import ModelGraph
from explorer.units import FloatArray, IntArray

FAMILY = "sparse-update"
TINYTRAIN_SUFFIX = "-tinytrain"
# model -> label -> (biases of the last n, convolution indices, share of input channels)
SCHEMES: dict[str, dict[str, tuple[int, str, str]]] = {
    "mcunet-5fps": {
        "49kb": (20, "23-24-27-30-33-39", "0-0.25-0.5-0.5-0-0"),
        "74kb": (21, "21-23-24-26-27-30", "1-0-1-0-0.5-1"),
        "99kb": (22, "21-24-27-30-36-39", "1-1-1-1-0.125-0.25"),
        "124kb": (24, "21-24-27-30-33-39", "0.25-1-1-1-0.5-0.5"),
        "148kb": (23, "21-24-27-30-36-39", "1-1-1-1-1-0.5"),
    },
    "mbv2-w0.35": {
        "49kb": (16, "36-39-40-41-42-45-48-49", "1-1-0-0.25-0.125-0.125-0.125-0.125"),
        "73kb": (20, "32-33-36-39-41-42-45-48", "0.125-0.5-0.5-1-0.25-0.125-0.125-1"),
        "99kb": (25, "27-30-33-36-39-42-45-48", "1-1-1-1-1-0.125-0.5-1"),
        "123kb": (31, "27-30-33-36-39-42-45-48", "1-1-1-1-1-0.5-1-1"),
        "138kb": (34, "27-30-33-36-39-42-45-48", "1-1-1-1-1-1-1-1"),
    },
    "proxyless-w0.3": {
        "49kb": (21, "39-42-44-45-50-51-54-57", "0.25-1-0-1-0-0.125-0.25-0.25"),
        "74kb": (28, "33-36-39-42-45-51-54-57", "0.5-0.25-1-1-1-0.5-0.25-0.5"),
        "98kb": (25, "36-39-42-45-48-51-54-57", "1-0.5-1-1-0.25-0.5-1-1"),
        "120kb": (32, "36-39-42-45-48-51-54-57", "1-1-1-1-0.5-1-1-1"),
        "148kb": (45, "36-39-42-45-48-51-54-57", "1-1-1-1-1-1-1-1"),
    },
}
EIGHTHS = tuple(count / 8 for count in range(9))
CRITERIA = {"magnitude": "magnitude+", "random": "random"}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A configuration, the channels it cannot name, and what it trains differently.

    `channels` names, for each convolution whose channels are listed, its index among the
    convolutions, the axis and the channels.
    """

    config: BackwardConfig
    channels: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]


def published_name(graph: ModelGraph) -> str:
    """The network's name in that repository, where the feature mix of TinyTrain is missing."""
    return graph.name.removesuffix(TINYTRAIN_SUFFIX)


def config_from(options: Mapping[str, str], graph: ModelGraph) -> BackwardConfig:
    """A published scheme by its label, or one of any network by its parts.

    The parts are `biases`, `layers`, `shares` and `criterion`. SpecError lists the labels, or
    names the part.
    """
    if label := options.get("scheme"):
        known = SCHEMES.get(published_name(graph))
        if known is None:
            raise SpecError(
                f"no scheme is published for {graph.name}; there are for {', '.join(SCHEMES)}, "
                "and biases, layers and shares make one for any network"
            )
        if label not in known:
            raise SpecError.of(f"scheme for {published_name(graph)}", label, ", ".join(known))
        bias_count, indices, shares = known[label]
        return BackwardConfig(
            n_bias_update=bias_count, manual_weight_idx=indices, weight_update_ratio=shares
        )
    biases = options.get("biases", "all")
    criterion = options.get("criterion", "magnitude")
    if criterion not in CRITERIA:
        raise SpecError.of("criterion", criterion, ", ".join(CRITERIA))
    count = len(_convolutions(graph))
    fields = {
        "n_bias_update": "all" if biases == "all" else whole_number("biases", biases, 0, count),
        "manual_weight_idx": options.get("layers"),
        "weight_update_ratio": options.get("shares"),
        "weight_select_criteria": CRITERIA[criterion],
    }
    try:
        return BackwardConfig.model_validate(fields)
    except ValidationError as error:
        raise SpecError(first_problem(error)) from None


def spec_of(config: BackwardConfig, graph: ModelGraph) -> str:
    """A configuration as a policy spec that says the same."""
    config = _in_force(config)
    convs = _convolutions(graph)
    bias_count = _bias_count(config, len(convs))
    listed = _listed(config, graph, convs, bias_count)
    texts = [np.format_float_positional(share, trim="-") for share in config.shares(len(listed))]
    parts = [f"biases={bias_count}"]
    if len(listed):
        parts += [f"layers={SPLIT.join(map(str, listed))}", f"shares={SPLIT.join(texts)}"]
    if (criterion := _selection(config)) != "magnitude":
        parts.append(f"criterion={criterion}")
    return f"{FAMILY}:{','.join(parts)}"


def policy_from(config: BackwardConfig, graph: ModelGraph, family: str) -> UpdatePolicy:
    """What a configuration trains of a network; SpecError where that repository would fail."""
    config = _in_force(config)
    axes = LayerAxes.of(graph)
    convs = _convolutions(graph)
    bias_count = _bias_count(config, len(convs))
    listed = _listed(config, graph, convs, bias_count)
    ratios = np.zeros(len(axes.names))
    ratios[convs[listed]] = config.shares(len(listed))
    taken = np.floor(ratios * axes.in_channels + 1e-9).astype(np.int64)
    biases = np.zeros(len(axes.names), dtype=bool)
    biases[convs[len(convs) - bias_count :]] = True
    return UpdatePolicy.of(
        family,
        axes,
        slices=taken,
        update_bias=biases,
        channel_axis="in",
        selection=_selection(config),
    )


def config_of(policy: UpdatePolicy, graph: ModelGraph) -> Exported:
    """A policy as a configuration; SpecError for what that repository does not have at all.

    That is a norm, and an adapter; what it has otherwise is in `notes`.
    """
    if graph.norm != "none":
        raise SpecError(
            f"norm: tiny-training folds norms away and {graph.name} has {graph.norm} here; "
            "make the policy with norm none"
        )
    if policy.adapters:
        raise SpecError(
            f"adapters: tiny-training has none and the policy trains {len(policy.adapters)}; "
            "export one without"
        )
    if policy.distillation:
        raise SpecError("distillation: tiny-training does not look ahead; export a policy without")
    axes = LayerAxes.of(graph)
    convs = _convolutions(graph)
    taken = np.array(policy.slices)[convs]
    whole = np.array(policy.slice_counts)[convs]
    biases = np.array(policy.update_bias)[convs]
    if (asked := _asked(policy, graph)) is not None:
        return Exported(config=asked, channels={}, notes=())
    listed = np.flatnonzero(taken)
    trains = np.flatnonzero((taken > 0) | biases)
    bias_count = len(convs) - int(trains[0]) if len(trains) else 0
    shares = _share_texts(taken[listed], whole[listed], axes.in_channels[convs[listed]])
    names = [axes.names[conv] for conv in convs]
    config = BackwardConfig(
        n_bias_update=bias_count,
        manual_weight_idx=SPLIT.join(map(str, listed)) or None,
        weight_update_ratio=SPLIT.join(shares) or None,
        weight_select_criteria="random" if policy.selection == "random" else "magnitude+",
    )
    channels = {}
    if policy.channels is not None:
        for index in listed:
            channels[names[index]] = {
                "index": int(index),
                "axis": policy.channel_axis,
                "channels": list(policy.channels[convs[index]]),
            }
    return Exported(
        config=config,
        channels=channels,
        notes=_losses(policy, graph, names, listed, biases[len(convs) - bias_count :]),
    )


def _in_force(config: BackwardConfig) -> BackwardConfig:
    """What counts of a configuration: when it is switched off, everything trains."""
    if config.enable_backward_config:
        return config
    return BackwardConfig(n_bias_update="all", n_weight_update="all")


def _selection(config: BackwardConfig) -> str:
    """How its channels are chosen, in our word."""
    return next(ours for ours, c in CRITERIA.items() if c == config.weight_select_criteria)


def _asked(policy: UpdatePolicy, graph: ModelGraph) -> BackwardConfig | None:
    """The configuration a sparse-update spec stands for, if the policy is still that."""
    name, options = split_spec(policy.family)
    if name != FAMILY:
        return None
    config = config_from(options, graph)
    same = policy_from(config, graph, policy.family) == policy
    return config if same else None


def _losses(
    policy: UpdatePolicy,
    graph: ModelGraph,
    names: list[str],
    listed: IntArray,
    late_biases: FloatArray,
) -> tuple[str, ...]:
    """What training by the configuration does differently, one sentence each."""
    notes = []
    partial = [names[at] for at in listed if 0 < _ratio(policy, names[at]) < 1]
    if policy.channel_axis == "out" and partial:
        notes.append(
            f"{partial[0]} and {len(partial) - 1} more train output channels here, "
            "the same share of input channels there"
        )
    if partial and policy.selection not in CRITERIA:
        notes.append(
            f"channels are chosen by {policy.selection} here, by magnitude there; "
            "the side file lists ours"
        )
    untrained = int((~late_biases.astype(bool)).sum())
    if untrained:
        notes.append(f"{untrained} biases frozen here train there: it takes all of the last n")
    dense = [
        name
        for name in partial
        if graph[name].kernel != (1, 1) and graph[name].groups != graph[name].out_shape[0]
    ]
    if dense:
        notes.append(f"its compiler takes a share only of 1x1 and depthwise layers, not {dense[0]}")
    heads = [name for name in graph.weighted if graph[name].op == "linear"]
    if any(_ratio(policy, name) < 1 for name in heads):
        notes.append("the classifier, frozen or partly trained here, trains whole there")
    return tuple(notes)


def _ratio(policy: UpdatePolicy, name: str) -> float:
    return policy.update_ratio[policy.layer_names.index(name)]


def _convolutions(graph: ModelGraph) -> IntArray:
    """Positions among the weighted layers of the convolutions, which alone are counted.

    A feature mix that TinyTrain put behind them is not in that repository.
    """
    convs = np.flatnonzero([graph[name].op == "conv2d" for name in graph.weighted])
    return convs[:-1] if graph.name.endswith(TINYTRAIN_SUFFIX) else convs


def _bias_count(config: BackwardConfig, count: int) -> int:
    wanted = count if config.n_bias_update == "all" else config.n_bias_update
    if wanted > count:
        raise SpecError.of("n_bias_update", wanted, f"all, or 0 to {count} convolutions")
    return wanted


def _listed(
    config: BackwardConfig, graph: ModelGraph, convs: IntArray, bias_count: int
) -> IntArray:
    """Indices among the convolutions whose weights train, ascending."""
    if (indices := config.indices) is None:
        last = bias_count if config.n_weight_update == "all" else config.n_weight_update or 0
        if last > bias_count:
            raise SpecError.of(
                "n_weight_update", last, f"all, or 0 to {bias_count}, the biases that train"
            )
        index = np.arange(len(convs) - last, len(convs))
    else:
        index = np.array(indices)
    low = len(convs) - bias_count
    if len(index) and (np.any(np.diff(index) <= 0) or index[0] < low or index[-1] >= len(convs)):
        raise SpecError.of(
            "manual_weight_idx",
            SPLIT.join(map(str, index)),
            f"ascending indices {low} to {len(convs) - 1}, the last n_bias_update convolutions",
        )
    if config.pw1_weight_only:
        index = index[[_expands(graph, int(convs[at])) for at in index]]
    return index


def _expands(graph: ModelGraph, position: int) -> bool:
    layer = graph[graph.weighted[position]]
    return layer.kernel == (1, 1) and layer.out_shape[0] > graph.in_channels(layer)


def _share_texts(taken: IntArray, whole: IntArray, in_channels: IntArray) -> list[str]:
    """Shares as text: the smallest eighth that gives the same count of channels, else exact."""
    texts = []
    for count, slices, channels in zip(
        taken.tolist(), whole.tolist(), in_channels.tolist(), strict=True
    ):
        wanted = max(1, round(count * channels / slices))
        eighth = next((share for share in EIGHTHS if int(channels * share) == wanted), None)
        if eighth is None:
            eighth = next(
                share
                for share in (round(wanted / channels + 1e-9, digits) for digits in range(3, 12))
                if int(channels * share) == wanted
            )
        texts.append(np.format_float_positional(eighth, trim="-"))
    return texts
