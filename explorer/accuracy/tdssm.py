"""The two operators of the tiny diagonal state-space model: S4D and wired CfC cells.

S4D (Gu et al., NeurIPS 2022): every channel h runs N/2 complex modes with poles A, step dt
and outputs C. Zero-order hold gives Ct = C (exp(A dt) - 1) / A and the kernel
k[l] = 2 Re sum_n Ct_n exp(A_n dt l); the output is u * k + D u, the same as the recurrence
s[t] = exp(A dt) s[t-1] + u[t], y[t] = 2 Re sum_n Ct_n s_n[t] + D u[t].

CfC (Hasani et al., 2022) in the wiring of a neural circuit policy (Lechner et al., 2020):
h' = f (1 - T) + g T with f, g = tanh, T = sigmoid of four linear maps of [input, state], of
which f and g are masked. The wiring is that of ncps 1.0.1, whose draws are repeated here.
"""

from functools import lru_cache
from math import isqrt, log, pi
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explorer.errors import SpecError
from explorer.graph import LayerSpec, ModelGraph

S4D_FORMS = ("fft", "recurrent")
SHORTEST_STEP, LONGEST_STEP = 0.001, 0.1  # of dt, at first
DECAY = 0.5  # minus the real part of every pole, at first
WIRING_SEED = 22222
DENSITY = 0.5  # of the wiring
GATES = ("f", "g", "time_a", "time_b")
MASKED_GATES = 2

Mask = NDArray[np.bool_]


class S4d(nn.Module):
    """A diagonal state space of N states (N/2 conjugate pairs) in each of H channels.

    Parameters [H]: `skip` (D), `log_step` (log dt); [H, N/2]: `log_decay` (log of minus the
    real part of A), `frequency` (imaginary part); `output` (C) [H, N/2, 2]. The kernel's
    spectrum is kept and used again as long as no parameter changes and none needs a gradient.
    """

    def __init__(self, channels: int, states: int, form: str = "fft") -> None:
        super().__init__()
        if form not in S4D_FORMS:
            raise SpecError.of("form of s4d", form, ", ".join(S4D_FORMS))
        if states < 2 or states % 2:
            raise SpecError.of("states of s4d", states, "an even number from 2")
        self.form = form
        pairs = states // 2
        low, high = log(SHORTEST_STEP), log(LONGEST_STEP)
        self.skip = nn.Parameter(torch.randn(channels))
        self.log_step = nn.Parameter(low + (high - low) * torch.rand(channels))
        self.output = nn.Parameter(torch.randn(channels, pairs, 2) * 0.5**0.5)
        self.log_decay = nn.Parameter(torch.full((channels, pairs), log(DECAY)))
        self.frequency = nn.Parameter(pi * torch.arange(pairs).repeat(channels, 1).float())
        self._kept: tuple[object, Tensor] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Signals [B, H, ...] with time last to the same shape."""
        signal = inputs.flatten(2)
        mixed = self.convolve(signal) if self.form == "fft" else self.recur(signal)
        return (mixed + self.skip[:, None] * signal).reshape(inputs.shape)

    def convolve(self, signal: Tensor) -> Tensor:
        """Causal convolution of [B, H, L] with the kernel, by Fourier transforms of 2 L."""
        spectrum = self.spectrum(signal.shape[-1])
        convolved: Tensor = _Convolution.apply(signal, spectrum)  # type: ignore[no-untyped-call]
        return convolved

    def recur(self, signal: Tensor) -> Tensor:
        """The same step by step, with a state of [B, H, N/2]."""
        factor, output = self._discrete()
        state = torch.zeros((), dtype=factor.dtype, device=factor.device)
        outputs = []
        for now in signal.unbind(-1):
            state = factor.exp() * state + now[..., None]
            outputs.append(2 * (output * state).sum(-1).real)
        return torch.stack(outputs, -1)

    def kernel(self, length: int) -> Tensor:
        """Kernel [H, L]. With l = width a + b only 2 sqrt(L) exponentials a mode are needed."""
        factor, output = self._discrete()
        width = isqrt(length - 1) + 1
        count = -(-length // width)
        steps = torch.arange(max(width, count), device=factor.device)
        coarse = output[..., None] * (factor[..., None] * (width * steps[:count])).exp()
        fine = (factor[..., None] * steps[:width]).exp()
        rows = torch.cat((coarse.real, -coarse.imag), 1).transpose(1, 2)
        columns = torch.cat((fine.real, fine.imag), 1)
        return 2 * (rows @ columns).flatten(1)[:, :length]

    def spectrum(self, length: int) -> Tensor:
        """Fourier transform of the kernel padded to 2 L [H, L + 1], complex."""
        parameters = list(self.parameters())
        if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
            self._kept = None
            return self._transformed(length)
        stamp = (length, [(p.data_ptr(), p._version, p.dtype, p.device) for p in parameters])
        if self._kept is None or self._kept[0] != stamp:
            self._kept = (stamp, self._transformed(length).detach())
        return self._kept[1]

    def _transformed(self, length: int) -> Tensor:
        spectrum: Tensor = torch.fft.rfft(self.kernel(length), 2 * length)
        return spectrum

    def _discrete(self) -> tuple[Tensor, Tensor]:
        """A dt and the discrete C, both [H, N/2] complex."""
        pole = torch.complex(-self.log_decay.exp(), self.frequency)
        factor = pole * self.log_step.exp()[:, None]
        return factor, torch.view_as_complex(self.output) * (factor.exp() - 1) / pole


class _Convolution(torch.autograd.Function):
    """First half of a circular convolution of padded signals [B, H, L] with a real kernel.

    The kernel comes as the transform [H, L + 1] of 2 L samples. Backward is as the cost model
    counts it: one real transform of dy, a product and one transform back for the signal, a
    product summed over the batch for the kernel. Autograd's own takes complex transforms.
    """

    @staticmethod
    def forward(ctx: Any, signal: Tensor, spectrum: Tensor) -> Tensor:
        """The signals convolved, [B, H, L]."""
        transformed = torch.fft.rfft(signal, 2 * signal.shape[-1])
        convolved = _back(transformed * spectrum)
        kept = transformed.conj_physical_() if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(spectrum, kept)
        return convolved

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of the signals and of the spectrum, whose inner bins stand for two."""
        spectrum, conjugate = ctx.saved_tensors
        length = gradient.shape[-1]
        of_output = torch.fft.rfft(gradient, 2 * length)
        of_signal = _back(of_output * spectrum.conj()) if ctx.needs_input_grad[0] else None
        of_spectrum = None
        if conjugate is not None:
            of_spectrum = (of_output * conjugate).sum(0) / length
            of_spectrum[..., [0, length]] /= 2
        return of_signal, of_spectrum


def _back(transformed: Tensor) -> Tensor:
    """Bins [..., L + 1] to the first L of 2 L samples."""
    length = transformed.shape[-1] - 1
    whole: Tensor = torch.fft.irfft(transformed, 2 * length)
    return whole[..., :length]


class CfcCell(nn.Module):
    """One layer of CfC neurons, each sample a sequence of its own.

    `weight` [hidden, inputs + hidden, 4] and `bias` [hidden, 4] hold the maps in the order of
    GATES; `mask` [hidden, inputs + hidden] is constant. Time passes by 1 in a step.
    """

    mask: Tensor

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        hidden, columns = mask.shape
        bound = columns**-0.5
        maps = [nn.init.xavier_uniform_(torch.empty(hidden, columns)) for _ in GATES]
        self.weight = nn.Parameter(torch.stack(maps, -1))
        self.bias = nn.Parameter(bound * (2 * torch.rand(hidden, len(GATES)) - 1))
        self.register_buffer("mask", torch.from_numpy(mask).to(torch.get_default_dtype()))

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> Tensor:
        """Inputs [B, F] and states [B, hidden], zero if not given, to new states."""
        masked, dense = self.weight[..., :MASKED_GATES], self.weight[..., MASKED_GATES:]
        weight = torch.cat((masked * self.mask[..., None], dense), -1)
        if state is None:
            weight = weight[:, : inputs.shape[1]]
        else:
            inputs = torch.cat((inputs, state), 1)
        f, g, a, b = (torch.einsum("bi,hig->bhg", inputs, weight) + self.bias).unbind(-1)
        gate = torch.sigmoid(a + b)
        return torch.tanh(f) * (1 - gate) + torch.tanh(g) * gate


def s4d_of(graph: ModelGraph, layer: LayerSpec) -> S4d:
    """The operator of a layer of a graph; its number of states is its argument."""
    return S4d(
        graph.in_channels(layer),
        layer.whole(0),
        "recurrent" if layer.op == "s4d_recurrent" else "fft",
    )


def cfc_of(graph: ModelGraph, layer: LayerSpec) -> CfcCell:
    """The cell of a layer of a graph, whose three cells are wired together."""
    cells = [other for other in graph.layers if other.op == "cfc"]
    if len(cells) != 3:
        raise SpecError.of(f"cfc cells of {graph.name}", len(cells), "3: inter, command, motor")
    sensory = graph.shape(graph.producers(cells[0])[0])[0]
    masks = circuit_masks(sensory, *(cell.out_shape[0] for cell in cells))
    return CfcCell(masks[cells.index(layer)])


@lru_cache(maxsize=32)
def circuit_masks(sensory: int, inter: int, command: int, motor: int) -> tuple[Mask, Mask, Mask]:
    """Which inputs each neuron of three layers reads, [hidden, inputs + hidden].

    Fans are the layers' sizes times the density. Every draw of a synapse is followed by one
    of its sign, which this cell does not use; nor does it use recurrent command synapses.
    """
    draw = np.random.RandomState(WIRING_SEED)  # the published wiring is of this generator
    to_inter = _synapses(draw, sensory, inter, _fan(inter)).T
    to_command = _synapses(draw, inter, command, _fan(command)).T
    for _ in range(max(int(command * DENSITY * 2), 1)):
        draw.choice(command), draw.choice(command), draw.choice(2)
    to_motor = _synapses(draw, motor, command, _fan(command))
    return _with_own(to_inter), _with_own(to_command), _with_own(to_motor)


def _fan(neurons: int) -> int:
    return max(int(neurons * DENSITY), 1)


def _synapses(draw: np.random.RandomState, rows: int, columns: int, fan: int) -> Mask:
    """Each row draws `fan` columns; a column nobody drew draws rows, as many as the mean."""
    wired = np.zeros((rows, columns), dtype=bool)

    def take(count: int, size: int) -> list[int]:
        taken = []
        for index in draw.choice(count, size=size, replace=False):
            draw.choice(2)
            taken.append(int(index))
        return taken

    for row in range(rows):
        wired[row, take(columns, fan)] = True
    for column in np.flatnonzero(~wired.any(axis=0)):
        wired[take(rows, min(max(rows * fan // columns, 1), rows)), column] = True
    return wired


def _with_own(mask: Mask) -> Mask:
    return np.concatenate([mask, np.ones((len(mask), len(mask)), dtype=bool)], axis=1)
