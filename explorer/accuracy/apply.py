"""A policy on a torch module: which parameters train, with masks on the others' gradients.

Masks are hooks on the weights, so any optimiser without weight decay leaves the entries
outside the policy bit-identical. The trainer's own convolutions compute the gradient of the
trained slices alone instead. Applying another policy to a module takes both off again.
"""

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from explorer.accuracy.convolution import Convolution, Slices
from explorer.accuracy.low_rank import attach
from explorer.accuracy.norms import set_norms
from explorer.accuracy.scores import ScoreTable
from explorer.accuracy.slices import LayerWeights, layer_weights
from explorer.accuracy.torch_bridge import GraphModule
from explorer.adapters import trained_parts
from explorer.design import UpdatePolicy
from explorer.document import LayerChoice, PolicyDocument, choices_of
from explorer.errors import SpecError
from explorer.graph import ModelGraph, normalised
from explorer.low_rank import LowRank

_HOOKS: WeakKeyDictionary[nn.Module, list[RemovableHandle]] = WeakKeyDictionary()


def apply_policy(
    module: nn.Module,
    document: PolicyDocument,
    *,
    graph: ModelGraph | None = None,
    scores: ScoreTable | None = None,
) -> list[dict[str, object]]:
    """Make a module train what a document says; returns one optimiser group a layer.

    Adapters of blocks must be in the module (`torch_bridge.adapted_module` puts them in);
    SpecError where one is not. Low-rank ones are put in (explorer.accuracy.low_rank).

    Layers are found as submodules of the same name. The norm of a layer is the one that
    `graph` puts behind it, or the submodule `NAME_norm`. Channels that the document names
    by a criterion are looked up in `scores`; `first` needs none. Use the groups with an
    optimiser without weight decay.

    The norm of the document's setup is set first (explorer.accuracy.norms): `gn` puts group
    norms in the place of batch norms, `frozen-bn` keeps batch norms in evaluation mode. What
    already is as asked, such as our own module of a normalised graph, stays as it is.
    """
    for choice in document.layers:
        _check_size(layer_weights(module, choice.name), choice)
    for adapter in document.adapters:
        if isinstance(adapter, LowRank):
            attach(module, adapter)
    parts = [name for adapter in document.adapters for name in trained_parts(adapter)]
    for name in parts:
        if name not in dict(module.named_modules()):
            raise SpecError(
                f"adapters: the module has no {name}; put adapters in with "
                f"explorer.accuracy.torch_bridge.adapted_module first"
            )
    frozen = set_norms(module, document.setup.norm)
    if isinstance(module, GraphModule):
        module.graph = normalised(module.graph, document.setup.norm)
    groups = apply_choices(module, document.layers, graph=graph, scores=scores)
    _HOOKS[module] += frozen
    for name in parts:
        part = module.get_submodule(name).requires_grad_(True)
        groups.append({"name": name, "params": list(part.parameters())})
    return groups


def apply_choices(
    module: nn.Module,
    choices: tuple[LayerChoice, ...],
    *,
    graph: ModelGraph | None = None,
    scores: ScoreTable | None = None,
    slice_gradients: bool = False,
) -> list[dict[str, object]]:
    """The same for the layers of a policy alone; a layer of another size is refused first.

    With `slice_gradients` our own convolutions compute no more than a policy trains.
    """
    for choice in choices:
        _check_size(layer_weights(module, choice.name), choice)
    for handle in _HOOKS.pop(module, []):
        handle.remove()
    for part in module.modules():
        if isinstance(part, Convolution):
            part.trained = None
    handles: list[RemovableHandle] = []
    module.requires_grad_(False)
    groups: list[dict[str, object]] = []
    for choice in choices:
        layer = layer_weights(module, choice.name)
        norm = _norm_behind(module, choice.name, graph)
        channels = chosen_channels(choice, scores)
        trained = _free(layer, norm, choice, channels, handles, slice_gradients)
        groups.append({"name": choice.name, "params": trained})
    _HOOKS[module] = handles
    return groups


def trained_parameters(groups: list[dict[str, object]]) -> list[nn.Parameter]:
    """All parameters of optimiser groups, in order."""
    found: list[nn.Parameter] = []
    for group in groups:
        params = group["params"]
        assert isinstance(params, list)
        found.extend(params)
    return found


def chosen_channels(choice: LayerChoice, scores: ScoreTable | None) -> tuple[int, ...]:
    """Indices of a layer's trained slices: listed, or the best under a criterion."""
    if choice.known_channels is not None:
        return choice.known_channels
    if scores is None:
        raise SpecError.of(
            f"channels of {choice.name}", choice.channels, "indices, or a score table beside it"
        )
    order = scores.order(
        scores.layer_names.index(choice.name), str(choice.channels), choice.channel_axis
    )
    return tuple(int(index) for index in order[: choice.slices])


def needs_scores(policy: UpdatePolicy) -> bool:
    """Whether a criterion has to choose channels of a layer trained in part."""
    partial = any(0 < t < w for t, w in zip(policy.slices, policy.slice_counts, strict=True))
    return policy.channels is None and policy.selection != "first" and partial


def apply_to_copy(
    student: nn.Module, graph: ModelGraph, policy: UpdatePolicy, scores: ScoreTable | None
) -> list[nn.Parameter]:
    """Make a module of a graph train a policy; returns the parameters that train."""
    if policy.layer_names != graph.weighted:
        raise SpecError.of(
            f"layers of policy {policy.family}", policy.layer_names[:3], f"those of {graph.name}"
        )
    return trained_parameters(
        apply_choices(student, choices_of(policy), graph=graph, scores=scores, slice_gradients=True)
    )


def _check_size(layer: LayerWeights, choice: LayerChoice) -> None:
    """SpecError when a layer does not have the slices a document counts."""
    whole = layer.slice_count(choice.channel_axis)
    if choice.slices and whole != choice.slice_count:
        raise SpecError.of(
            f"{choice.name}.slice_count",
            choice.slice_count,
            f"{whole} {choice.channel_axis}put channels, as the module has",
        )


def _free(
    layer: LayerWeights,
    norm: nn.Module | None,
    choice: LayerChoice,
    channels: tuple[int, ...],
    handles: list[RemovableHandle],
    slice_gradients: bool,
) -> list[nn.Parameter]:
    trained: list[nn.Parameter] = []
    if choice.slices:
        trained += [_trained(weight, f"{choice.name}.weight") for weight in layer.tensors]
        is_partial = choice.slices < choice.slice_count
        owner = layer.owner if slice_gradients else None
        if isinstance(owner, Convolution) and owner.can_slice:
            index = torch.as_tensor(channels, device=owner.weight.device) if is_partial else None
            owner.trained = Slices(choice.channel_axis, index)
        elif is_partial:
            mask = layer.mask(choice.channel_axis, channels)
            handles.append(layer.tensors[0].register_hook(_masking(mask)))  # type: ignore[no-untyped-call]
    if choice.update_bias:
        bias = getattr(norm, "bias", None) if layer.bias is None else layer.bias
        trained.append(_trained(bias, f"{choice.name}.bias"))
    if choice.update_norm:
        if norm is None:
            raise SpecError.of(f"{choice.name}.update_norm", True, "false, no norm follows it")
        trained.append(_trained(getattr(norm, "weight", None), f"{choice.name} norm scale"))
    return trained


def _trained(found: object, name: str) -> nn.Parameter:
    """A weight or bias, set to train."""
    if not isinstance(found, nn.Parameter):
        raise SpecError.of(name, found, "a parameter of the module")
    found.requires_grad_(True)
    return found


def _submodule(module: nn.Module, name: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError:
        raise SpecError.of("layer.name", name, "the name of a submodule") from None


def _norm_behind(module: nn.Module, name: str, graph: ModelGraph | None) -> nn.Module | None:
    if graph is not None:
        norm = graph.norm_of(name)
        return None if norm is None else _submodule(module, norm)
    return dict(module.named_modules()).get(f"{name}_norm")


def _masking(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient * mask
