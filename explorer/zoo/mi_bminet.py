"""MI-BMInet for two-class EEG, as BioTrain adapts it (Wang et al., arXiv 2203.14592).

`m32` has the widths in the weight files of the same group's on-device example; it gives the
parameters and operations BioTrain publishes (arXiv 2604.13359, Table IV). `m8` is what the
public export scripts build (pulp-platform/Onnx4Deeploy): 8 filters, no padding; `m8-d2` has
two temporal filters each. Group norm with one group, as BioTrain trains it; `--norm bn` is
its baseline. Dropout is left out. `pool=max` is for comparison: BioTrain averages.
"""

from dataclasses import dataclass

from explorer.errors import SpecError
from explorer.graph import ModelGraph
from explorer.provenance import Kind, Source
from explorer.zoo._chain import POOLS, Chain

SUMMARY = "MI-BMInet, EEG: 8 electrodes x 1900 samples to 2 classes, 7,938 parameters (m32)"
MODALITY = "eeg"
DEVICE = "gap9"
UPDATE = {"batch": 8, "micro_batch": 1}  # of BioTrain (arXiv 2604.13359)
TASK = "eeg-motor"
WEIGHTS_DIGEST = "7a521199ca79"
OPTIONS = {"form": "m32, m8 or m8-d2", "pool": "avg or max"}
EXPECTED = {"forward_macs": 8_634_688, "weight_count": 7_744}
SOURCE = Source(
    kind=Kind.PUBLISHED, cite="arXiv 2203.14592, widths of pulp-bio's on-device example"
)
ELECTRODES, SAMPLES, CLASSES = 8, 1900, 2
POOL = (1, 8)
SEPARABLE = (1, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Spatial filters, temporal filters of each, taps of these, and whether they pad."""

    filter_count: int
    depth_count: int
    tap_count: int
    pads: bool


FORMS = {
    "m32": Form(filter_count=32, depth_count=1, tap_count=128, pads=True),
    "m8": Form(filter_count=8, depth_count=1, tap_count=64, pads=False),
    "m8-d2": Form(filter_count=8, depth_count=2, tap_count=64, pads=False),
}


def build(form: str = "m32", pool: str = "avg") -> ModelGraph:
    """Electrodes mixed, filtered in time, then a separable convolution and the classifier."""
    if form not in FORMS:
        raise SpecError.of("form", form, ", ".join(FORMS))
    if pool not in POOLS:
        raise SpecError.of("pool", pool, ", ".join(POOLS))
    size = FORMS[form]
    wide = size.filter_count * size.depth_count
    valid = not size.pads
    chain = Chain((1, ELECTRODES, SAMPLES))
    _conv(chain, "spatial", size.filter_count, (ELECTRODES, 1), valid=True, act=None)
    _conv(chain, "temporal", wide, (1, size.tap_count), groups=size.filter_count, valid=valid)
    chain.pool("pool1", POOL, op=POOLS[pool])
    _conv(chain, "depthwise", wide, SEPARABLE, groups=wide, valid=valid, norm="none", act=None)
    _conv(chain, "pointwise", wide, (1, 1), valid=True)
    chain.pool("pool2", POOL, op=POOLS[pool])
    chain.flatten("flatten")
    chain.linear("classifier", CLASSES)
    return chain.graph("mi-bminet", SOURCE)


def _conv(
    chain: Chain,
    name: str,
    channels: int,
    kernel: tuple[int, int],
    *,
    valid: bool,
    groups: int = 1,
    norm: str = "gn",
    act: str | None = "relu",
) -> None:
    chain.conv(
        name,
        channels,
        kernel=kernel,
        groups=groups,
        valid=valid,
        has_bias=False,
        norm=norm,
        act=act,
    )
