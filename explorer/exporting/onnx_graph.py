"""A network with its weights as a plain ONNX graph that names what a policy trains.

Parameters are initializers of the names the policy has; norms stay as they are, so that their
scales and offsets can train. Metadata under `explorer.policy` is JSON: the parameters that
train and, of those that train in part, axis, groups and channels.
"""

import copy
import json
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.document import PolicyDocument
from explorer.errors import SpecError
from explorer.exporting.trained import trained_of

if TYPE_CHECKING:
    from explorer.accuracy.torch_bridge import GraphModule

METADATA = "explorer.policy"


def onnx_graph(document: PolicyDocument, module: "GraphModule") -> bytes:
    """An ONNX file for the setup's micro-batch.

    `module` is the document's network with its weights, without adapters. SpecError without the
    `onnx` package, for another network, and where a criterion has yet to choose channels.
    """
    import torch

    from explorer.accuracy.torch_bridge import adapted_module

    try:
        import onnx
    except ImportError:
        raise SpecError("onnx: the package is not installed; pip install onnx") from None
    document.check_network(module.graph)
    network = adapted_module(module, document.adapters)
    trained = trained_of(document, network.graph)
    example = torch.zeros(document.setup.micro_batch, *network.graph.input_shape)
    if network.graph.index_count:
        example = example.long()
    # The exporter merges equal tensors, which must train apart: export others, fill in ours.
    twin = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for tensor in twin.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(1, 2)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.onnx")
        warnings.simplefilter("ignore")  # that this exporter, which needs no package more, is old
        try:
            torch.onnx.export(
                twin,
                (example,),
                file,
                input_names=["input"],
                output_names=["output"],
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                dynamo=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).splitlines()[0]
            raise SpecError(f"onnx: {network.graph.name} cannot be written: {reason}") from None
        model = onnx.load(file)
    own = network.state_dict()
    for tensor in model.graph.initializer:
        if tensor.name in own:
            values = own[tensor.name].contiguous().numpy()
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    parts = {
        one.name: None
        if one.channels is None
        else {"axis": one.axis, "groups": one.groups, "channels": one.channels}
        for one in trained
    }
    about = {
        "model": document.model.model_dump(),
        "family": document.family,
        "setup": document.setup.model_dump(),
        "trained": parts,
    }
    onnx.helper.set_model_props(model, {METADATA: json.dumps(about)})
    content: bytes = model.SerializeToString()
    return content
