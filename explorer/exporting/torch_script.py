"""A policy document and its network as one torch script that imports nothing of ours."""

from keyword import iskeyword
from pprint import pformat

from explorer.adapters import trained_parts
from explorer.document import PolicyDocument
from explorer.exporting.torch_code import call, check_written, keeper
from explorer.exporting.torch_template import HEAD, TAIL
from explorer.exporting.trained import Trained, network_of, plain_text, trained_of
from explorer.graph import INPUT, ModelGraph

WIDTH = 80
IMAGES = "images"
OPTIMIZERS = {
    "sgd": "torch.optim.SGD(parameters, rate)",
    "sgd-momentum": "torch.optim.SGD(parameters, rate, momentum=0.9)",
    "adam": "torch.optim.Adam(parameters, rate)",
}


def torch_script(document: PolicyDocument, graph: ModelGraph) -> str:
    """Python source; SpecError or UnsupportedOpError in one sentence when there can be none."""
    network = network_of(document, graph)
    check_written(network)
    trained = trained_of(document, network)
    setup = document.setup
    text = HEAD.format(
        model=plain_text(document.model.name),
        digest=graph.digest,
        family=plain_text(document.family),
        shape=network.input_shape,
        indices=network.index_count,
        has_classifier=graph.layers[-1].op == "linear",
        micro_batch=setup.micro_batch,
        accumulation_steps=setup.accumulation_steps,
        batch_norms=_literal(_training_norms(network, trained)),
        zeroed=_literal([f"{trained_parts(one)[-1]}.weight" for one in document.adapters]),
        trained="\n".join(f"    {one.name!r}: {_part(one)}," for one in trained),
    )
    tail = TAIL.replace("{optimizer}", OPTIMIZERS[setup.optimizer])
    return text + "\n".join(_network_lines(network)) + "\n" + tail


def _network_lines(network: ModelGraph) -> list[str]:
    """The body of the constructor and the forward pass, a line an operator."""
    names = _variables(network)
    lines = [
        f"        place(self, {layer.name!r}, {kept})"
        for layer in network.layers
        if (kept := keeper(network, layer))
    ]
    lines += ["", f"    def forward(self, {IMAGES}):", '        """The embeddings or logits."""']
    lines.append("        part = self.get_submodule")
    lines += [
        f"        {names[layer.name]} = {call(network, layer, names)}" for layer in network.layers
    ]
    return [*lines, f"        return {names[network.layers[-1].name]}"]


def _variables(network: ModelGraph) -> dict[str, str]:
    """A variable for each tensor, near its name."""
    names = {INPUT: IMAGES}
    taken = {IMAGES, "part", "self", "nn", "np", "torch", "F"}
    for layer in network.layers:
        plain = "".join(one if one.isalnum() else "_" for one in layer.name)
        name = plain if plain.isidentifier() and not iskeyword(plain) else f"t_{plain}"
        while name in taken:
            name += "_"
        names[layer.name] = name
        taken.add(name)
    return names


def _training_norms(network: ModelGraph, trained: list[Trained]) -> list[str]:
    """Batch norms from the first trained layer on; those before it see nothing change."""
    start = min((network.position(one.layer) for one in trained), default=len(network.layers))
    return [layer.name for layer in network.layers[start:] if layer.op == "batchnorm"]


def _part(one: Trained) -> str:
    """What of a parameter trains, as code over several lines."""
    part = None if one.channels is None else (one.axis, one.groups, one.channels)
    return _literal(part).replace("\n", f"\n{' ' * 8}")


def _literal(value: object) -> str:
    return pformat(value, width=WIDTH, compact=True)
