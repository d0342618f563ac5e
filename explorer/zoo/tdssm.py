"""TDSSM: a tiny diagonal state-space model for 12-lead ECG (Huang et al., 2024 and 2025).

Encoder: a linear map at every sample. Middle: S4D, GELU, 1x1 convolution and GLU around a
residual sum with a layer norm behind it. Decoder: the mean over time and three layers of CfC
neurons, wired as a neural circuit policy, which see each signal as one step of its own.
Signals are images of height 1, (C, 1, L); outputs are logits of labels that are each true
or not, all within (-1, 1).

The authors' code lets the decoder run along the batch as if it were time, so that a sample
sees those before it; ours does not.
"""

from explorer.errors import SpecError
from explorer.graph import ModelGraph
from explorer.provenance import Kind, Source
from explorer.zoo._chain import Chain

SUMMARY = "state-space model for 12-lead ECG, 58,509 parameters with masks, 177 M MACs"
MODALITY = "ecg"
DEVICE = "radxa-zero"
UPDATE = {"batch": 32}  # of the authors' code
TASK = "ecg-rhythm"
OPTIONS = {
    "d_model": "channels of the state space, 8 to 256",
    "length": "samples of a signal",
    "labels": "logits of the decoder, 1 to 16",
    "form": "fft or recurrent: how the state space runs",
}
EXPECTED = {"forward_macs": 176_690_916}
SOURCE = Source(
    kind=Kind.PUBLISHED,
    cite="Huang et al. 2025, 10.1088/3049-477X/add26a, with the code NeuroSyd/uTraining",
)
LEADS = 12
STATES = 64
NEURONS = 20  # of the decoder; those that are no label are 2 to 3 command and inter neurons
COMMAND_RATIO = 0.4
DROPPED = 0.1
FORMS = {"fft": "s4d", "recurrent": "s4d_recurrent"}


def build(
    d_model: str = "128", length: str = "4096", labels: str = "6", form: str = "fft"
) -> ModelGraph:
    """Encoder, one state-space block, decoder; each is a block of that name."""
    motor = _whole("labels", labels, 1, 16)
    command = int(COMMAND_RATIO * (NEURONS - motor))
    channels = _whole("d_model", d_model, 1, 4096)
    if form not in FORMS:
        raise SpecError.of("form", form, ", ".join(FORMS))
    chain = Chain((LEADS, 1, _whole("length", length, 2, 1_000_000)))
    chain.conv("encoder.linear", channels, block="encoder", act=None)
    entry = chain.end
    chain.then("middle.s4d", FORMS[form], args=(STATES,), block="middle")
    chain.then("middle.gelu", "gelu", block="middle")
    chain.then("middle.dropout", "dropout2d", args=(DROPPED,), block="middle")
    chain.conv("middle.output", 2 * channels, block="middle", act=None)
    chain.then("middle.glu", "glu", shape=(channels, *chain.shape[1:]), block="middle")
    chain.then("middle.late_dropout", "dropout2d", args=(DROPPED,), block="middle")
    chain.add("middle.add", entry, block="middle")
    chain.then("middle.norm", "layernorm", has_bias=True, role="norm", block="middle")
    chain.average_pool("decoder.mean")
    inter = NEURONS - motor - command
    for name, neurons in (("inter", inter), ("command", command), ("motor", motor)):
        chain.then(f"decoder.{name}", "cfc", shape=(neurons,), block="decoder")
    return chain.graph("tdssm", SOURCE)


def _whole(option: str, text: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise SpecError.of(option, text, f"a whole number from {low} to {high}")
    return int(text)
