"""What a diagonal state space (S4D) computes: multiply-accumulates of its parts."""

from dataclasses import dataclass
from math import log2, prod

from explorer.layer import LayerSpec


@dataclass(frozen=True, slots=True)
class StateSpace:
    """Counts of S4D over a signal of L samples in H channels of N/2 complex modes.

    A real Fourier transform of n numbers takes 2.5 n log2(n) floating-point operations, a
    multiply-accumulate is two; the signal is padded to n = 2 L. The kernel is a product of
    complex exponentials, of which only 2 sqrt(L) a mode are computed; these do not count.
    The gradient of the kernel takes the spectrum of the signal: neither kept beside the signal
    nor counted again, so one of the two is missing (a transform is 4 % of a full step).
    """

    channels: int
    sample_count: int
    pair_count: int

    @classmethod
    def of(cls, layer: LayerSpec) -> "StateSpace":
        """The counts of a layer, whose one argument is the number of states."""
        channels, *positions = layer.out_shape
        return cls(channels, prod(positions), layer.whole(0) // 2)

    @property
    def skip(self) -> int:
        """The signal times a weight a channel."""
        return self.channels * self.sample_count

    @property
    def transform(self) -> int:
        """One transform of the padded signal."""
        size = 2 * self.sample_count
        return round(self.channels * 2.5 * size * log2(size) / 2)

    @property
    def product(self) -> int:
        """Spectra multiplied: three multiply-accumulates a complex number."""
        return 3 * self.channels * (self.sample_count + 1)

    @property
    def vandermonde(self) -> int:
        """Real part of the sum over modes that a kernel is."""
        return 2 * self.channels * self.pair_count * self.sample_count

    @property
    def recurrence(self) -> int:
        """Six real multiply-accumulates a mode and sample: state times factor, times output."""
        return 6 * self.channels * self.pair_count * self.sample_count
