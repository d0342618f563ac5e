"""Which parameters a document trains, by the names they have in a torch module."""

from dataclasses import dataclass

from explorer.adapters import adapted, trained_parts
from explorer.document import LayerChoice, PolicyDocument
from explorer.errors import SpecError
from explorer.graph import NORM_OPS, LayerSpec, ModelGraph
from explorer.layer import RECURRENT_GATES

SWAPPED = {"out": "in", "in": "out"}  # a transposed convolution has its input channels in front


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A parameter that trains; `channels` None is all of it.

    `axis` is that of the weight as torch has it.
    """

    name: str
    layer: str
    axis: str = "out"
    groups: int = 1
    channels: tuple[int, ...] | None = None


def plain_text(text: str) -> str:
    """A name for a comment of source code: what could end the comment becomes `?`."""
    return "".join(one if one.isalnum() or one in " :=,.-_()" else "?" for one in text)


def network_of(document: PolicyDocument, graph: ModelGraph) -> ModelGraph:
    """The network with the document's adapters; SpecError when it is for another one.

    So it is for steps that look ahead, which an export has no second pass for.
    """
    document.check_network(graph)
    if document.distillation is not None:
        raise SpecError("distillation: an export has no pass to look ahead; take a policy without")
    return adapted(graph, document.adapters)


def trained_of(document: PolicyDocument, network: ModelGraph) -> list[Trained]:
    """Every trained parameter, layer by layer, adapters last.

    SpecError where a criterion has yet to choose channels.
    """
    found = [one for choice in document.layers for one in _of_layer(choice, network)]
    for part in (part for one in document.adapters for part in trained_parts(one)):
        names = ("weight", "bias") if _has_bias(network[part]) else ("weight",)
        found += [Trained(name=f"{part}.{name}", layer=part) for name in names]
    return found


def channels_of(choice: LayerChoice) -> tuple[int, ...]:
    """Indices of the trained slices; SpecError where a criterion has yet to choose them."""
    channels = choice.known_channels
    if channels is None:
        raise SpecError(
            f"channels of {choice.name}: chosen by {choice.channels} on the device; export from "
            "a task with a score table, which lists them"
        )
    return channels


def _of_layer(choice: LayerChoice, network: ModelGraph) -> list[Trained]:
    layer, norm = network[choice.name], network.norm_of(choice.name)
    found = []
    if choice.slices:
        is_whole = choice.slices == choice.slice_count
        found = [
            Trained(
                name=f"{layer.name}.{weight}",
                layer=layer.name,
                axis=_axis(layer, choice.channel_axis),
                groups=layer.groups,
                channels=None if is_whole else channels_of(choice),
            )
            for weight in _weights(layer)
        ]
    if choice.update_bias:
        owner = layer.name if layer.has_bias else norm
        found.append(Trained(name=f"{owner}.bias", layer=owner or layer.name))
    if choice.update_norm and norm is not None:
        found.append(Trained(name=f"{norm}.weight", layer=norm))
    return found


def _axis(layer: LayerSpec, channel_axis: str) -> str:
    """The axis of slices in the weight; that of a layer norm has but one."""
    if layer.op == "layernorm":
        return "out"
    return SWAPPED[channel_axis] if layer.op == "conv_transpose2d" else channel_axis


def _weights(layer: LayerSpec) -> list[str]:
    """Names of a layer's weight tensors; those of a recurrent one as torch calls them."""
    if layer.op not in RECURRENT_GATES:
        return ["weight"]
    _, depth, directions, biases = (layer.whole(position) for position in range(4))
    kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if biases else ()))
    ends = ("", "_reverse")[:directions]
    return [f"cells.{kind}_l{at}{end}" for at in range(depth) for end in ends for kind in kinds]


def _has_bias(layer: LayerSpec) -> bool:
    return layer.has_bias or layer.op in NORM_OPS
