"""How many bits each thing takes in a precision.

fp16 keeps optimizer state in 32 bits; int8 is the quantised training of Lin et al.
(NeurIPS 2022): 8-bit weights and activations, 32-bit biases, and a backward pass in
32-bit floating point, gradients of activations and of weights alike. So their compiler
makes it by default (mit-han-lab/tiny-training: compilation/mcu_ir_gen.py, int8_bp off;
compilation/autodiff/diff_ops.py casts to float32), and so is the graph shipped with the
engine (mit-han-lab/tinyengine: assets/49kb-int8-graph.json). Clipping is kept as one bit
an element (code_generator/constant.py, USE_BIT_MASK).
"""

from dataclasses import dataclass

from explorer.units import BITS_PER_BYTE, bytes_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Bits of one value of each kind."""

    weight_bits: int
    bias_bits: int
    activation_bits: int
    gradient_bits: int
    weight_gradient_bits: int
    state_bits: int = 32
    statistic_bits: int = 32

    def activation_bytes(self, form: str, count: int) -> float:
        """Bytes of `count` elements of a buffer form of the schedule."""
        bits = {
            "activation": self.activation_bits,
            "gradient": self.gradient_bits,
            "mask": 1,
            "statistic": self.statistic_bits,
            "workspace": BITS_PER_BYTE,
        }[form]
        return float(bytes_of(count, bits))


FORMS = {
    "fp32": Form(
        weight_bits=32,
        bias_bits=32,
        activation_bits=32,
        gradient_bits=32,
        weight_gradient_bits=32,
    ),
    "fp16": Form(
        weight_bits=16,
        bias_bits=16,
        activation_bits=16,
        gradient_bits=16,
        weight_gradient_bits=16,
    ),
    "int8": Form(
        weight_bits=8,
        bias_bits=32,
        activation_bits=8,
        gradient_bits=32,
        weight_gradient_bits=32,
    ),
}
