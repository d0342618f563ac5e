"""What other tools take to cost one policy, and what they answer, in one run with ours.

Every tool sees the same network and batch on one thread. Each returns its count of
multiply-accumulates for one sample, which is compared with ours. Tools are optional
(`pip install --group bench`): one that is absent or fails is reported as that.
"""

import copy
import importlib.metadata
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from explorer.accuracy.torch_bridge import build_module
from explorer.costmodel.report import CostReport
from explorer.graph import ModelGraph

BATCH = 8
HEAD = ("tool", "time of one policy", "against ours", "trains a part", "MACs over ours", "returns")


@dataclass(frozen=True, slots=True)
class Peer:
    """One tool: its package, what it costs, and MACs of one sample by its own count.

    `macs` is None for a tool that counts none; `backward` says that the count includes it.
    """

    package: str
    name: str
    partial: str
    returns: str
    macs: Callable[[torch.nn.Module, torch.Tensor], float | None]
    backward: bool = False


def torchinfo_macs(module, batch):
    import torchinfo

    return torchinfo.summary(module, input_data=batch, verbose=0).total_mult_adds / BATCH


def fvcore_macs(module, batch):
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, batch)
    analysis.unsupported_ops_warnings(False)
    analysis.uncalled_modules_warnings(False)
    return analysis.total() / BATCH


def thop_macs(module, batch):
    import thop

    macs, _ = thop.profile(copy.deepcopy(module), inputs=(batch,), verbose=False)
    return macs / BATCH


def ptflops_macs(module, batch):
    from ptflops import get_model_complexity_info

    shape = tuple(batch.shape[1:])
    macs, _ = get_model_complexity_info(
        module, shape, as_strings=False, print_per_layer_stat=False, verbose=False
    )
    return macs


def deepspeed_macs(module, batch):
    from deepspeed.profiling.flops_profiler import get_model_profile

    _, macs, _ = get_model_profile(module, args=[batch], print_profile=False, as_string=False)
    return macs / BATCH


def flop_counter_macs(module, batch):
    with FlopCounterMode(display=False) as counter:
        module(batch).sum().backward()
    return counter.get_total_flops() / 2 / BATCH


def real_step(module, batch):
    module(batch).sum().backward()


PEERS = (
    Peer("ptflops", "ptflops, batch 1", "no", "forward MACs with activations", ptflops_macs),
    Peer("torchinfo", "torchinfo", "no", "forward MACs with biases", torchinfo_macs),
    Peer("thop", "thop", "no", "forward MACs", thop_macs),
    Peer("fvcore", "fvcore", "no", "forward MACs by operator", fvcore_macs),
    Peer("deepspeed", "DeepSpeed flops profiler", "no", "forward MACs and latency", deepspeed_macs),
    Peer(
        "torch",
        "FlopCounterMode, forward + backward",
        "whole layers",
        "MACs by operator; depthwise weight gradients times their groups",
        flop_counter_macs,
        backward=True,
    ),
    Peer("torch", "a training step itself", "whole layers", "nothing but its time", real_step),
)


def peer_rows(
    graph: ModelGraph,
    full: CostReport,
    own_s: float,
    first_s: float,
    median_s: Callable[[Callable[[], object], int], float],
) -> list[tuple[str, ...]]:
    """A row for each tool under HEAD; `full` is our cost of training everything.

    `own_s` is one policy of a network already met, `first_s` one of a new network.
    """
    torch.set_num_threads(1)
    module = build_module(graph)
    batch = torch.zeros(BATCH, *graph.input_shape)
    forward = float(full.forward_macs[0])
    total = forward + float(full.input_grad_macs[0] + full.weight_grad_macs[0])
    returns = "MACs by pass, kept bytes, peak, arena, time, energy"
    partial = "shares of channels"
    rows = [
        ("explorer", f"{own_s * 1e3:.3f} ms", "1x", partial, "1.000", returns),
        (
            "explorer, a network's first policy",
            f"{first_s * 1e3:.0f} ms",
            f"{first_s / own_s:,.0f}x",
            partial,
            "1.000",
            returns,
        ),
    ]
    for peer in PEERS:
        try:
            name = f"{peer.name} ({importlib.metadata.version(peer.package)})"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                macs = peer.macs(module, batch)
                peer_s = median_s(lambda peer=peer: peer.macs(module, batch), 5)
        except importlib.metadata.PackageNotFoundError:
            rows.append((peer.name, "not installed", "-", peer.partial, "-", peer.returns))
            continue
        except Exception as error:  # noqa: BLE001 - any failure of a foreign tool is its row
            reason = f"fails: {type(error).__name__}"
            rows.append((name, reason, "-", peer.partial, "-", peer.returns))
            continue
        ours = total if peer.backward else forward
        over = "-" if macs is None else f"{macs / ours:.3f}"
        ratio = f"{peer_s / own_s:,.0f}x"
        rows.append((name, f"{peer_s * 1e3:.0f} ms", ratio, peer.partial, over, peer.returns))
    return rows
