"""What a trace is given, checked: a module that runs, and a batch of two samples for it."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from explorer.errors import SpecError, is_whole

SAMPLES = 2  # of the example: one alone would look like an axis of size 1


def plain(module: Any) -> nn.Module:
    """A copy in evaluation mode on the CPU, in 32-bit numbers."""
    if not isinstance(module, nn.Module):
        raise SpecError.of("module", type(module).__name__, "a torch module")
    for path, tensor in (*module.named_parameters(), *module.named_buffers()):
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise SpecError.of(
                f"module: values of {path}", "none", "numbers; give it weights first"
            )
    try:
        return copy.deepcopy(module).cpu().float().eval()
    except Exception as problem:
        raise SpecError(
            f"{type(module).__name__} cannot be copied: {_reason(problem)}"
        ) from problem


def check_runs(module: nn.Module, batch: Tensor, title: str) -> None:
    """SpecError with torch's own reason where a network does not run on a batch."""
    try:
        with torch.no_grad():
            module(batch)
    except SpecError:
        raise
    except Exception as problem:
        given = f"{len(batch)} samples of {tuple(batch.shape[1:])} {str(batch.dtype)[6:]} numbers"
        reason = f"{title} does not run on {given} as its one input: {_reason(problem)}"
        raise SpecError(reason) from problem


def _reason(problem: Exception) -> str:
    """The first line of what an exception says."""
    return f"{type(problem).__name__}: {str(problem).strip()}".split("\n")[0]


def batch_of(example: Any) -> Tensor:
    """Two samples: those of a batch, or random ones of a shape."""
    if not isinstance(example, Tensor):
        sizes: tuple[Any, ...] = tuple(example) if isinstance(example, Sequence) else (example,)
        if any(isinstance(size, Tensor) for size in sizes):
            raise SpecError.of("example", f"{len(sizes)} tensors", "one: a network of one input")
        if not sizes or not all(is_whole(size) and size > 0 for size in sizes):
            raise SpecError.of("example", sizes, "the sizes of one sample")
        return torch.randn(SAMPLES, *sizes)
    if example.ndim < 2:
        raise SpecError.of("example", tuple(example.shape), "a batch of samples")
    return torch.cat([example, example])[:SAMPLES].cpu()


def exported(module: nn.Module, batch: Tensor, title: str) -> torch.export.ExportedProgram:
    """Torch's own trace; SpecError with its reason where there is none."""
    try:
        with warnings.catch_warnings():  # torch's own recurrent layers set such attributes
            warnings.filterwarnings("ignore", "The tensor attribute", UserWarning)
            return torch.export.export(module, (batch,))
    except GuardOnDataDependentSymNode as problem:
        reason = "a branch or a size depends on the values of the input"
        raise SpecError(f"{title}: torch.export cannot trace it: {reason}") from problem
    except Exception as problem:
        reason = _reason(problem)
        raise SpecError(f"{title}: torch.export cannot trace it: {reason}") from problem
