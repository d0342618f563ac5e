"""EpiDeNet for eye movements, as BioTrain adapts it (Ingolfsson et al., arXiv 2309.07135).

Two electrode differences in, eleven movements out. `same` pads the three convolutions in
time, which fits the operations BioTrain publishes (arXiv 2604.13359, Table IV); `valid` is
the public training graph (pulp-platform/Onnx4Deeploy). Group norm with one group and average
pools, as BioTrain trains it; the original pools by maximum (`pool=max`).
"""

from explorer.errors import SpecError
from explorer.graph import ModelGraph
from explorer.provenance import Kind, Source
from explorer.zoo._chain import POOLS, Chain

SUMMARY = "EpiDeNet, EOG: 2 signals x 1000 samples to 11 movements, 4,179 parameters"
MODALITY = "eog"
DEVICE = "gap9"
UPDATE = {"batch": 8, "micro_batch": 1}  # of BioTrain (arXiv 2604.13359)
TASK = "eog-saccades"
WEIGHTS_DIGEST = "c65746622d77"
OPTIONS = {"form": "same or valid: whether convolutions in time pad", "pool": "avg or max"}
EXPECTED = {"forward_macs": 420_528, "weight_count": 4_032}
SOURCE = Source(kind=Kind.PUBLISHED, cite="arXiv 2309.07135, widths of pulp-platform/Onnx4Deeploy")
SIGNALS, SAMPLES, CLASSES, CHANNELS = 2, 1000, 11, 16
FORMS = ("same", "valid")

# One row a convolution in time: channels out, taps, window of the pool behind it.
TEMPORAL = ((4, 4, 8), (16, 16, 4), (16, 8, 4))


def build(form: str = "same", pool: str = "avg") -> ModelGraph:
    """Three convolutions in time, one across the signals, one pointwise, global average."""
    if form not in FORMS:
        raise SpecError.of("form", form, ", ".join(FORMS))
    if pool not in POOLS:
        raise SpecError.of("pool", pool, ", ".join(POOLS))
    chain = Chain((1, SIGNALS, SAMPLES))
    for index, (channels, taps, window) in enumerate(TEMPORAL, start=1):
        _conv(chain, f"conv{index}", channels, (1, taps), valid=form == "valid")
        chain.pool(f"pool{index}", (1, window), op=POOLS[pool])
    _conv(chain, "conv4", CHANNELS, (SIGNALS, 1), valid=True)
    _conv(chain, "conv5", CHANNELS, (1, 1), valid=True)
    chain.average_pool("pool")
    chain.linear("classifier", CLASSES)
    return chain.graph("epidenet", SOURCE)


def _conv(chain: Chain, name: str, channels: int, kernel: tuple[int, int], *, valid: bool) -> None:
    chain.conv(name, channels, kernel=kernel, valid=valid, has_bias=False, norm="gn", act="relu")
