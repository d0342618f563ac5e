"""What torch really does in a step of a module, beside what a policy document says.

FlopCounterMode of torch 2.13 counts the weight gradient of a grouped convolution once for
each group too often; the counter here counts it as the forward convolution it is.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from explorer.adapters import with_adapters
from explorer.costmodel.eager import UNKNOWN, eager_saved_bytes
from explorer.costmodel.lifetimes import trained_counts
from explorer.costmodel.tables import layer_table
from explorer.costmodel.work import plain_work
from explorer.design import DesignBatch, LayerAxes, TrainingSetup
from explorer.document import PolicyDocument
from explorer.graph import ModelGraph
from explorer.layer import STATE_SPACES
from explorer.search.sources import network_of

if TYPE_CHECKING:
    import pandas as pd

PHASES = ("forward", "input_grad", "weight_grad")
FLOPS_PER_MAC = 2
aten = torch.ops.aten


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One quantity of a step: what the document needs, what eager torch should do, what it did.

    Eager torch does more than a document needs: it takes the gradient of a whole weight and
    masks it, and keeps whole inputs. `needed` is None where the document does not say,
    `expected` where what torch does of an operator cannot be foretold: MACs of Fourier
    transforms, which its counter does not see, and bytes of state spaces and recurrent cells.
    """

    quantity: str
    unit: str
    needed: float | None
    expected: float | None
    found: float

    @property
    def agrees(self) -> bool:
        """Whether torch did what was expected of it, if anything was."""
        return self.expected is None or self.expected == self.found


@dataclass(frozen=True, slots=True)
class AppliedReport:
    """Every quantity of a check: trained parameters, MACs by phase, saved bytes."""

    rows: tuple[Checked, ...]

    @property
    def agrees(self) -> bool:
        """Whether every quantity is as expected."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each quantity that is not as expected."""
        return tuple(
            f"{row.quantity}: the module has {row.found:,.0f} {row.unit}, "
            f"the document makes it {row.expected:,.0f}"
            for row in self.rows
            if row.expected is not None and not row.agrees
        )

    def to_frame(self) -> "pd.DataFrame":
        """One row a quantity: unit, needed, expected, found, agrees."""
        import pandas as pd

        columns = ("quantity", "unit", "needed", "expected", "found", "agrees")
        rows = [{name: getattr(row, name) for name in columns} for row in self.rows]
        return pd.DataFrame(rows).set_index("quantity")


def check_applied(
    module: nn.Module,
    document: PolicyDocument,
    batch: Tensor,
    *,
    graph: ModelGraph | None = None,
) -> AppliedReport:
    """Run one forward and backward pass and compare it with what the document says.

    Call it after `apply_policy`, on the same module in the mode it will train in. `batch` is
    float [B, ...] where the module is. `graph` is the network of the document where the
    catalogue does not have it. Gradients of the module are cleared, weights stay. SpecError
    when the document is for another network.
    """
    graph = network_of(document, graph)
    setup = TrainingSetup(micro_batch=len(batch), norm=document.setup.norm)
    designs = DesignBatch.of(LayerAxes.of(graph), [document.policy(graph)], setup)
    own, designs = with_adapters(graph, designs)
    table = layer_table(own)
    trained = trained_counts(table, designs)
    macs = plain_work(table, designs, trained).macs(table)
    input_grad, weight_grad = macs["input_grad_macs"], macs["weight_grad_macs"]
    whole = (designs.slices > 0) @ table.weight_macs
    phases, saved_bytes = counted_step(module, batch)
    per_sample = {phase: count / len(batch) for phase, count in phases.items()}
    count, forward = trained.sum(), table.sample_macs.sum()
    ops = {layer.op for layer in own.layers}
    kept = None if ops & UNKNOWN else eager_saved_bytes(own, designs)[0]
    is_counted = not ops & {*STATE_SPACES}
    pairs = ((forward, forward), (input_grad[0], input_grad[0]), (weight_grad[0], whole[0]))
    wanted = [(needed, does if is_counted else None) for needed, does in pairs]
    rows: tuple[tuple[str, str, float | None, float | None, float], ...] = (
        ("trained_parameters", "values", count, count, _free_values(module)),
        *(
            (f"{phase}_macs", "MACs a sample", *pair, per_sample[phase])
            for phase, pair in zip(PHASES, wanted, strict=True)
        ),
        ("saved_activation_bytes", "bytes", None, kept, saved_bytes),
    )
    return AppliedReport(tuple(_checked(*row) for row in rows))


def counted_step(module: nn.Module, batch: Tensor) -> tuple[dict[str, int], int]:
    """MACs by phase of a whole batch, and the bytes autograd keeps for its backward pass.

    Of several outputs the first is the network's, as in explorer.trace.
    A tensor saved by several operators counts once, views of it too; parameters and buffers do
    not count.
    """
    own = {_memory_of(tensor) for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _memory_of(tensor) not in own:
            kept[_memory_of(tensor)] = tensor
        return tensor

    with MacCounter(module) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = module(batch)
        if not isinstance(output, Tensor):
            output = output[0]
        if output.requires_grad:
            output.sum().backward()
    module.zero_grad(set_to_none=True)
    saved_bytes = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return {phase: counter.phases[phase] for phase in PHASES}, saved_bytes


def _memory_of(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class MacCounter(FlopCounterMode):
    """FlopCounterMode with grouped backward put right, and dX told from dW in `phases`."""

    def __init__(self, module: nn.Module | None = None) -> None:
        self.phases: Counter[str] = Counter()
        parameters = () if module is None else module.parameters()
        self._parameters = {_memory_of(parameter) for parameter in parameters}
        super().__init__(
            display=False,
            custom_mapping={
                aten.convolution: self._convolution,
                aten.convolution_backward: self._convolution_backward,
                aten.addmm: self._addmm,
                aten.mm: self._mm,
                aten.bmm: self._bmm,
                aten._scaled_dot_product_flash_attention_for_cpu: self._attention,
                aten._scaled_dot_product_flash_attention_for_cpu_backward: self._attention_back,
            },
        )

    def _convolution(
        self,
        inputs: Sequence[int],  # noqa: ARG002 - the counter's signature
        weight: Sequence[int],
        *rest: Any,  # noqa: ARG002
        out_shape: Sequence[int],
        **options: Any,  # noqa: ARG002
    ) -> int:
        return self._count("forward", _positions(out_shape) * prod(weight))

    def _convolution_backward(
        self,
        output: Sequence[int],
        inputs: Sequence[int],  # noqa: ARG002
        weight: Sequence[int],
        *rest: Any,
        out_shape: Any,  # noqa: ARG002
        **options: Any,  # noqa: ARG002
    ) -> int:
        wants_input, wants_weight = rest[-1][:2]
        macs = _positions(output) * prod(weight)
        return self._count("input_grad", wants_input * macs) + self._count(
            "weight_grad", wants_weight * macs
        )

    def _addmm(
        self,
        bias: Sequence[int],  # noqa: ARG002
        left: Sequence[int],
        right: Sequence[int],
        *rest: Any,  # noqa: ARG002
        **options: Any,  # noqa: ARG002
    ) -> int:
        return self._count("forward", left[0] * left[1] * right[1])

    def _mm(self, left: Tensor, right: Tensor, **options: Any) -> int:  # noqa: ARG002
        """A linear layer without bias, or either gradient: that of the input reads the weight."""
        if torch._C._current_graph_task_id() < 0:  # not inside backward
            phase = "forward"
        else:
            phase = "input_grad" if _memory_of(right) in self._parameters else "weight_grad"
        return self._count(phase, left.shape[0] * left.shape[1] * right.shape[1])

    def _bmm(
        self,
        left: Sequence[int],
        right: Sequence[int],
        *rest: Any,  # noqa: ARG002
        **options: Any,  # noqa: ARG002
    ) -> int:
        """A product of two activations: either gradient of one goes to an input."""
        phase = "forward" if torch._C._current_graph_task_id() < 0 else "input_grad"
        return self._count(phase, prod(left) * right[2])

    def _attention(
        self,
        query: Sequence[int],
        key: Sequence[int],
        value: Sequence[int],
        *rest: Any,  # noqa: ARG002
        **options: Any,  # noqa: ARG002
    ) -> int:
        return self._count("forward", _attention_macs(query, key, value))

    def _attention_back(
        self,
        gradient: Sequence[int],  # noqa: ARG002
        query: Sequence[int],
        key: Sequence[int],
        value: Sequence[int],
        *rest: Any,  # noqa: ARG002
        **options: Any,  # noqa: ARG002
    ) -> int:
        """Two products for each of the two forward; torch makes the scores again beside."""
        return self._count("input_grad", 2 * _attention_macs(query, key, value))

    _mm._get_raw = True  # type: ignore[attr-defined] # tensors instead of their shapes

    def _count(self, phase: str, macs: int) -> int:
        self.phases[phase] += macs
        return FLOPS_PER_MAC * macs


def _positions(shape: Sequence[int]) -> int:
    """Samples x output positions: how often each weight is used."""
    return shape[0] * prod(shape[2:])


def _attention_macs(query: Sequence[int], key: Sequence[int], value: Sequence[int]) -> int:
    """Scores from queries [..., T, F] and keys, then their products with the values."""
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _free_values(module: nn.Module) -> int:
    """How many values of the parameters get a gradient, by the masks that are on them."""
    free = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not free:
        return 0
    torch.stack([parameter.sum() for parameter in free]).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in free]
    module.zero_grad(set_to_none=True)
    return sum(int(gradient.count_nonzero()) for gradient in gradients if gradient is not None)


def _checked(
    quantity: str, unit: str, needed: float | None, expected: float | None, found: float
) -> Checked:
    return Checked(
        quantity=quantity,
        unit=unit,
        needed=None if needed is None else float(needed),
        expected=None if expected is None else float(expected),
        found=float(found),
    )
