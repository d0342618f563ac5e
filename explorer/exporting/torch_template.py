"""Text of a torch script around what torch_script.py writes for a network and a policy."""

HEAD = '''"""Train {model} ({digest}), written by `explorer export` from the policy

    {family}

    python train.py WEIGHTS [--data SAMPLES.npz] [--steps N] [--rate R] [--out TRAINED.npz]

WEIGHTS is a safetensors or npz of the parameters by name. SAMPLES has `images` [N, ...] and
`labels` [N]; without it one batch is drawn at random. Everything is computed in float32.
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

INPUT_SHAPE = {shape}
INDICES_BELOW = {indices}  # of an input of indices; 0 for any numbers
HAS_CLASSIFIER = {has_classifier}  # otherwise the outputs are compared with class means
MICRO_BATCH = {micro_batch}
ACCUMULATION_STEPS = {accumulation_steps}
# Norms that use the batch's own statistics in training.
BATCH_NORMS = {batch_norms}
# Scales and matrices of new adapters that start at 0.
ZEROED = {zeroed}
# Parameters that train: None for all of one, or (axis, groups, channels) of the part that does.
TRAINED = {{
{trained}
}}


def place(root, name, part):
    """Put a module at a dotted name."""
    *path, leaf = name.split(".")
    for step in path:
        if step not in dict(root.named_children()):
            root.add_module(step, nn.Module())
        root = root.get_submodule(step)
    for inner, child in dict(root.named_children()).get(leaf, nn.Module()).named_children():
        part.add_module(inner, child)
    root.add_module(leaf, part)


def held(**parts):
    """A module that only holds parameters, fixed tensors or modules by name."""
    holder = nn.Module()
    for name, part in parts.items():
        is_fixed = isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter)
        holder.register_buffer(name, part) if is_fixed else setattr(holder, name, part)
    return holder


class Network(nn.Module):
    """{model}: layers are submodules of the names that the policy has."""

    def __init__(self):
        super().__init__()
'''
TAIL = '''

def load(network, path):
    """Fill a network from a file; adapters may be new."""
    if path.endswith(".npz"):
        with np.load(path) as archive:
            tensors = {name: torch.from_numpy(archive[name]) for name in archive.files}
    else:
        from safetensors.torch import load_file

        tensors = load_file(path)
    own = network.state_dict()
    new = {name for name in own if "adapter_" in name or name.endswith("num_batches_tracked")}
    if missing := sorted(own.keys() - tensors.keys() - new):
        raise SystemExit(f"{path}: no {missing[0]}, and {len(missing) - 1} more are missing")
    for name in ZEROED:
        nn.init.zeros_(network.get_parameter(name))
    network.load_state_dict(network.state_dict() | {n: tensors[n] for n in own if n in tensors})


def trained_parameters(network):
    """Freeze all but the policy's parameters, and mask the gradient of those it trains in part."""
    network.requires_grad_(False)
    for name, part in TRAINED.items():
        parameter = network.get_parameter(name).requires_grad_(True)
        if part is not None:
            mask = mask_of(parameter, *part)
            parameter.register_hook(lambda gradient, mask=mask: gradient * mask)
    return [network.get_parameter(name) for name in TRAINED]


def mask_of(weight, axis, groups, channels):
    """Ones where the slices of a weight are; an input channel belongs to one group."""
    mask, index = torch.zeros_like(weight), torch.tensor(channels)
    if axis == "out":
        mask[index] = 1
    else:
        width = weight.shape[1]
        grouped = mask.view(groups, len(weight) // groups, *weight.shape[1:])
        grouped[index // width, :, index % width] = 1
    return mask


def make_optimizer(parameters, rate):
    """The policy's optimizer; no weight decay, which would move masked entries."""
    return {optimizer}


def class_means(network, images, labels):
    """Unit means of each class's outputs [classes, F], as the device keeps them in a step."""
    with torch.no_grad():
        outputs = torch.cat([network(part).flatten(1) for part in images.split(MICRO_BATCH)])
        member = F.one_hot(labels).to(outputs)
        return F.normalize(member.T @ outputs, dim=1)


def loss_of(outputs, labels, means):
    """Cross-entropy of the classifier, or of ten times the cosine to the class means."""
    if not HAS_CLASSIFIER:
        outputs = 10 * F.normalize(outputs.flatten(1), dim=1) @ means.T
    return F.cross_entropy(outputs, labels)


def train_step(network, optimizer, images, labels):
    """One update from a batch, gradients accumulated over its micro-batches; its mean loss."""
    network.eval()
    for name in BATCH_NORMS:
        network.get_submodule(name).train()
    means = None if HAS_CLASSIFIER else class_means(network, images, labels)
    optimizer.zero_grad()
    total = 0.0
    for part, classes in zip(images.split(MICRO_BATCH), labels.split(MICRO_BATCH), strict=True):
        loss = loss_of(network(part), classes, means) * len(part) / len(images)
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


def batches(path, count):
    """Batches of the policy's size, over and over."""
    size = MICRO_BATCH * ACCUMULATION_STEPS
    if path is None:
        shape = (max(size, 8), *INPUT_SHAPE)
        images = torch.randint(INDICES_BELOW, shape) if INDICES_BELOW else torch.randn(shape)
        labels = torch.arange(len(images)) % 2
    else:
        with np.load(path) as archive:
            images, labels = (torch.from_numpy(archive[name]) for name in ("images", "labels"))
    for step in range(count):
        rows = torch.arange(step * size, (step + 1) * size) % len(images)
        yield images[rows], labels[rows].long()


def main():
    """Train and, if asked, save what came of it."""
    parser = argparse.ArgumentParser(description="One network, one policy.")
    parser.add_argument("weights")
    parser.add_argument("--data")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--out")
    asked = parser.parse_args()
    torch.manual_seed(0)
    network = Network()
    load(network, asked.weights)
    parameters = trained_parameters(network)
    if not parameters:
        raise SystemExit("the policy trains nothing")
    optimizer = make_optimizer(parameters, asked.rate)
    for step, (images, labels) in enumerate(batches(asked.data, asked.steps), start=1):
        print(f"step {step}: loss {train_step(network, optimizer, images, labels):.6f}")
    if asked.out:
        np.savez(asked.out, **{name: value.numpy() for name, value in network.state_dict().items()})


if __name__ == "__main__":
    main()
'''
