"""Train as a policy says, without Explorer: train_from_json.py policy.json network.py out.pt."""

import json
import runpy
import sys
from pathlib import Path

import torch


def freed(network, document):
    """Freeze a network but for what a document trains; a mask stops the rest of a weight."""
    parts, trained = dict(network.requires_grad_(False).named_modules()), []
    for row in document["layers"]:
        layer, norm = parts.get(row["name"]), parts.get(f"{row['name']}_norm")
        whole = row["slices"] in (0, row["slice_count"]) or row["channels"] == "first"
        listed = list(range(row["slices"])) if whole else row["channels"]
        is_plain = isinstance(layer, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Linear)
        if isinstance(listed, str) or not is_plain or document["adapters"]:
            sys.exit(f"{row['name']}: only listed channels of a Conv or Linear train, no adapters")
        weight, groups = layer.weight, getattr(layer, "groups", 1)
        chosen = torch.zeros(row["slice_count"]).index_fill(0, torch.tensor(listed).long(), 1)
        if row["channel_axis"] == "in":  # an input channel belongs to one group
            chosen = chosen.view(groups, -1).repeat_interleave(len(weight) // groups, 0)
        mask = chosen.reshape(len(weight), -1, *[1] * (weight.ndim - 2))
        own = layer if layer.bias is not None else norm
        flags = row["slices"], row["update_bias"], row["update_norm"]
        wanted = zip(flags, (layer, own, norm), ("weight", "bias", "weight"), strict=True)
        trained += [getattr(part, key).requires_grad_() for flag, part, key in wanted if flag]
        if row["slices"]:
            weight.register_hook(lambda gradient, mask=mask: gradient * mask)
    return trained


own = runpy.run_path(sys.argv[2])  # your file: `network`, a module, and `batch`, its input
optimizer = torch.optim.SGD(freed(own["network"], json.loads(Path(sys.argv[1]).read_text())), 0.1)
own["network"](own["batch"]).square().mean().backward()
optimizer.step()
torch.save(own["network"].state_dict(), sys.argv[3])
