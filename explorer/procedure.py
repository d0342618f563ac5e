"""Choosing again on other data: a document's procedure, followed with another score table."""

from typing import TYPE_CHECKING

from explorer.accuracy.scores import ScoreTable
from explorer.costmodel.detail import report
from explorer.costmodel.evaluate import evaluate
from explorer.design import Design, DesignBatch
from explorer.device import DeviceProfile
from explorer.document import PolicyDocument
from explorer.errors import SpecError
from explorer.export import device_digest, policy_document
from explorer.family import build_policy
from explorer.graph import ModelGraph
from explorer.search.judge import Judge
from explorer.search.sources import device_profile, network_of, policy_context

if TYPE_CHECKING:
    from torch import nn


def apply_policy(
    module: "nn.Module",
    document: PolicyDocument,
    *,
    graph: ModelGraph | None = None,
    scores: ScoreTable | None = None,
) -> list[dict[str, object]]:
    """Make a module train what a document says; returns one optimiser group a layer.

    With `scores`, a document that carries a procedure is first chosen again (`reselect`), and
    channels that a document names by a criterion are looked up in them.
    `explorer.accuracy.apply.apply_policy` says the rest.
    """
    from explorer.accuracy.apply import apply_policy as apply

    if scores is not None and document.procedure is not None:
        document = reselect(document, scores, graph=graph)
    return apply(module, document, graph=graph, scores=scores)


def reselect(
    document: PolicyDocument,
    scores: ScoreTable,
    *,
    graph: ModelGraph | None = None,
    device: DeviceProfile | None = None,
) -> PolicyDocument:
    """The document that the same procedure gives on other data, with its own predictions.

    Network, device and setup stay. `graph` and `device` are those of the document where the
    catalogue does not have them. SpecError when the document has no procedure, when `scores`
    are of another network, and as families raise it.
    """
    if document.procedure is None:
        raise SpecError("procedure: the document has none; a tinytrain policy exports with one")
    setup = document.setup.setup()
    network = network_of(document, graph)
    made_for = scores.meta.get("digest", network.digest)
    if scores.layer_names != network.weighted or made_for != network.digest:
        raise SpecError.of("scores", f"a table of {made_for}", f"one of {network.digest}")
    profile = _device(document) if device is None else device
    context = policy_context(network, profile, setup, scores, reserve_bytes=0)
    policy = build_policy(context, document.procedure)
    designs = DesignBatch.of(context.axes, [policy], setup)
    worth = Judge(table=scores, calibration=None).worth(
        designs, evaluate(network, profile, designs)
    )
    return policy_document(
        network,
        profile,
        document.task,
        Design(policy=policy, setup=setup),
        report(network, profile, designs),
        worth,
        scores,
        document.procedure,
    )


def _device(document: PolicyDocument) -> DeviceProfile:
    """The device of a document from the catalogue; SpecError when it is another by now."""
    if document.device is None:
        raise SpecError("device: the document names none, and the procedure needs one")
    profile = device_profile(document.device.name)
    if device_digest(profile) != document.device.digest:
        raise SpecError(
            f"device: the document is for {document.device.name} ({document.device.digest}), "
            f"which is now {device_digest(profile)}; give the device it was made for"
        )
    return profile
