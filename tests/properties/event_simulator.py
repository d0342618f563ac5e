"""A slow oracle for memory: runs one training step operator by operator over real buffers.

Shares no code with `explorer.costmodel`. A buffer is alive while somebody holds it:
a tensor still to be read, or a layer that needs a share of it for its weight gradient.
The conventions, as the cost model states them:

* a convolution, linear layer, pool or sum writes a new tensor; an activation, norm or
  reshape overwrites its input when it is the only reader (never the network's input), and
  then so does its gradient;
* an activation keeps one bit an element if a gradient passes it, a maximum as many bits an
  output as tell the inputs of its window apart, a norm in training mode
  its normalised input and its reciprocal deviations, also when only its scale trains;
* a layer whose weights train keeps the input channels it needs: its own slices along the
  in axis or in a depthwise layer (as many groups as outputs), else all; readers of one
  tensor keep it once;
* a curved activation keeps its input, a sigmoid, tanh or softmax holds its output, which
  nobody then overwrites; a product holds each operand that another's gradient needs, a glu its
  input, attention its three and the softmax of its scores; a maximum pool keeps the places of
  its maxima in as few bits as they need; a recurrent layer its gates and a state; a cell its
  gates; dropout the factor of each channel; a state space that runs step by step, while its
  weights train, two stretches of states of sqrt(L) samples;
* the spectrum of a state space's kernel and constant masks are always there;
* a view (reshape, transpose, slice) is its input, and so are their gradients, but a layer that
  needs a slice for its weight gradient keeps a copy of what it needs of that; parameters used as
  tensors take no room beside the weights;
* the gradient of a sum becomes that of its oldest input; another input shares it if nobody
  writes to it before that input has read it, else it gets a copy. Which one is decided by
  the graph alone, whatever trains;
* backward of a layer with weights, or of a convolution whose kernel is a parameter that others
  use too, takes two steps, dW then dX with the update; a fused
  gradient lives through both (a norm's through its one), deferred ones all the time;
* a kernel of TinyEngine has scratch of its own in its one step, of one sample: forward two
  padded planes (depthwise), or two 16-bit columns and a widened kernel; dW two float planes'
  worth (depthwise: one padded input plane and the whole gradient) or twenty float rows; dX of
  a depthwise layer one float plane with a margin. Linear layers have none;
* with recompute, a block (neighbours of one label, fed by one tensor that none of them
  overwrites, read by others only at its end) keeps nothing inside in the forward pass but
  holds its input; before its backward it runs what leads to anything it needs once more, if
  it needs anything, and lets the input go after the last of those that read it;
* the gradient of a parameter used as a tensor is one buffer, to which each reader adds in its
  backward, through any views;
* trained weights and optimizer state are in RAM all the time, frozen ones where there is no
  flash. Inference is the forward pass alone.
"""

from dataclasses import dataclass, field
from math import ceil, log2, prod

from explorer.design import TrainingSetup, UpdatePolicy
from explorer.graph import INPUT, LayerSpec, ModelGraph

# bits of: weight, bias, activation, gradient of an activation, gradient of a weight
BITS = {"fp32": (32, 32, 32, 32, 32), "fp16": (16, 16, 16, 16, 16), "int8": (8, 32, 8, 32, 32)}
STATISTIC_BITS = STATE_BITS = 32
STATES = {"sgd": 0, "sgd-momentum": 1, "adam": 2}
DENSE = {"conv2d", "linear", "conv_transpose2d"}
GATES = {"gru": 3, "lstm": 4}
SPACES = {"s4d", "s4d_recurrent"}
WHOLE = {"embedding", "parameter", "prelu", "cfc", *GATES, *SPACES}
WEIGHTED = {*DENSE, "layernorm", *WHOLE}
ACTIVATIONS = {"relu", "relu6", "leaky_relu", "hardsigmoid", "clip", "abs"}
CURVED = {
    *("gelu", "gelu_tanh", "silu", "hardswish", "elu", "selu", "celu", "mish", "softplus"),
    *("power", "log", "sin", "cos"),
}
SATURATING = {
    *("sigmoid", "tanh", "softmax", "log_softmax", "exp", "sqrt", "rsqrt", "reciprocal"),
}
MAXIMA = {"maxpool", "window_max"}
NORMS = {"batchnorm", "groupnorm", "frozen_batchnorm"}
COPYING_NORMS = {"batchnorm", "groupnorm", "layernorm", "standardise", "prelu"}
OVERWRITING = {
    *(*ACTIVATIONS, *CURVED, *SATURATING, *NORMS),
    *("layernorm", "standardise", "prelu", "shift", "scale", "dropout2d"),
}
SOURCES = {"parameter", "constant"}
VIEWS = {"reshape", "transpose", "slice"}
NEVER_AGAIN = {
    *("mul", "div", "matmul", "convolve", "lookup", "attention", "glu", "dropout2d", "cfc"),
    *(*SATURATING, *VIEWS, *GATES, *SPACES),
}


@dataclass(eq=False)
class Buffer:
    """Alive while held: in whole by tensors, in part by layers that wait for backward."""

    whole_bytes: int
    holders: set[str] = field(default_factory=set)
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return self.whole_bytes if self.holders else max(self.parts.values(), default=0)


@dataclass(frozen=True)
class Block:
    """Layers that are run again together: all of them, the repeated ones, what feeds them."""

    names: list[str]
    repeated: list[str]
    source: str


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one step."""

    peak_bytes: int
    inference_bytes: int
    saved_bytes: int
    live_bytes: tuple[int, ...]
    scratch_bytes: int
    repeated_macs: int

    @property
    def extra_bytes(self) -> int:
        return self.peak_bytes - self.inference_bytes


def simulate(
    graph: ModelGraph,
    policy: UpdatePolicy,
    setup: TrainingSetup,
    *,
    weights_in_flash: bool = True,
    tiny_engine: bool = False,
) -> StepMemory:
    """Run inference, then a training step, and look at memory at every step."""
    frozen = _Trained(graph, None)
    inference = _Run(graph, frozen, setup, weights_in_flash, tiny_engine)
    inference.forward()
    training = _Run(graph, _Trained(graph, policy), setup, weights_in_flash, tiny_engine)
    training.forward()
    training.loss()
    training.backward()
    return StepMemory(
        peak_bytes=max(training.live_bytes),
        inference_bytes=max(inference.live_bytes),
        saved_bytes=training.saved_bytes,
        live_bytes=tuple(training.live_bytes),
        scratch_bytes=training.scratch_bytes,
        repeated_macs=training.repeated_macs,
    )


class _Trained:
    """Trained weights, biases (or norm offsets) and norm scales, by the operator they are in."""

    def __init__(self, graph: ModelGraph, policy: UpdatePolicy | None) -> None:
        self.weights: dict[str, int] = {}
        self.others: dict[str, int] = {}  # biases, offsets and scales
        self.scales: set[str] = set()
        self.kept_channels: dict[str, int] = {}
        self.total = [0, 0]  # every weight, every other parameter
        norm_behind: dict[str, str] = {}
        for layer in graph.layers:
            if layer.op in NORMS:
                norm_behind.setdefault(layer.inputs[0].removesuffix(".adapter_sum"), layer.name)
                self.total[1] += 2 * layer.out_shape[0]
        for index, name in enumerate(graph.weighted):
            layer = graph[name]
            outside = layer.out_shape[layer.axis]
            inside = 1 if layer.op in WHOLE else _tensor_shape(graph, layer)[layer.axis]
            weights = outside * (inside // layer.groups) * prod(layer.kernel)
            if layer.op == "layernorm":
                weights = outside
            elif layer.op in WHOLE:
                weights, outside = _whole_weights(graph, layer), 1
            self.total[0] += weights + (_mask(graph, layer) if layer.op == "cfc" else 0)
            self.total[1] += outside * layer.has_bias
            if policy is None:
                continue
            along_in = policy.channel_axis == "in"
            slices = policy.slices[index]
            if slices:
                self.weights[name] = weights // (inside if along_in else outside) * slices
                reads = inside // layer.groups if layer.groups == outside else None
                if along_in:
                    self.kept_channels[name] = slices
                else:
                    self.kept_channels[name] = inside if reads is None else slices * reads
            if policy.update_bias[index]:
                where = name if layer.has_bias else norm_behind[name]
                self.others[where] = self.others.get(where, 0) + layer.out_shape[layer.axis]
            if policy.update_norm[index]:
                where = norm_behind[name]
                self.others[where] = self.others.get(where, 0) + layer.out_shape[layer.axis]
                self.scales.add(where)

    def trains(self, name: str) -> bool:
        return name in self.weights or name in self.others


class _Run:
    """The state of a run: what is alive, and what each tensor lives in."""

    def __init__(
        self,
        graph: ModelGraph,
        trained: _Trained,
        setup: TrainingSetup,
        weights_in_flash: bool,
        tiny_engine: bool,
    ) -> None:
        self.tiny_engine = tiny_engine
        self.scratch_bytes = 0
        self.graph, self.trained, self.setup = graph, trained, setup
        self.bits = BITS[setup.precision]
        self.buffers: list[Buffer] = []
        self.live_bytes: list[int] = []
        self.saved_bytes = 0
        self.store: dict[str, Buffer] = {}
        self.kept: dict[str, list[Buffer]] = {}
        self.copies: dict[str, Buffer] = {}
        self.gradient: dict[str, Buffer] = {}
        self.added_up: dict[str, Buffer] = {}
        self.age = {INPUT: -1} | {layer.name: i for i, layer in enumerate(graph.layers)}
        self.readers: dict[str, list[str]] = {name: [] for name in self.age}
        self.has_gradient = {INPUT: False}
        for layer in graph.layers:
            sources = graph.producers(layer)
            for source in dict.fromkeys(sources):
                self.readers[source].append(layer.name)
            upstream = any(self.has_gradient[source] for source in sources)
            self.has_gradient[layer.name] = upstream or trained.trains(layer.name)
        self.unread = {name: len(readers) for name, readers in self.readers.items()}
        self.resident_bytes = self._resident(weights_in_flash)
        self.repeated_macs = 0
        self.blocks = self._blocks() if setup.recompute == "blocks" else []
        self.dropped = {name for block in self.blocks if self._runs(block) for name in block.names}

    def _resident(self, weights_in_flash: bool) -> int:
        counts = sum(self.trained.weights.values()), sum(self.trained.others.values())
        in_ram = counts if weights_in_flash else self.trained.total
        total = ceil(in_ram[0] * self.bits[0] / 8) + ceil(in_ram[1] * self.bits[1] / 8)
        total += STATES[self.setup.optimizer] * sum(counts) * STATE_BITS // 8
        if self._deferred:
            total += sum(counts) * self.bits[4] // 8
        for layer in self.graph.layers:
            if layer.op == "s4d":
                channels, length = layer.out_shape[0], prod(layer.out_shape[1:])
                total += ceil(channels * (length + 1) * 2 * self.bits[2] / 8)
        return total

    @property
    def _deferred(self) -> bool:
        return self.setup.update_timing == "deferred" or self.setup.accumulation_steps > 1

    def _sample_bytes(self, count: int, bits: int) -> int:
        return ceil(count * bits / 8) * self.setup.micro_batch

    def _new(self, size_bytes: int, holder: str) -> Buffer:
        buffer = Buffer(size_bytes, {holder})
        self.buffers.append(buffer)
        return buffer

    def _tick(self, scratch_bytes: int = 0) -> None:
        """A step is under way: everything it reads and writes is alive."""
        alive = sum(buffer.size_bytes for buffer in self.buffers) + scratch_bytes
        self.scratch_bytes = max(self.scratch_bytes, scratch_bytes)
        self.live_bytes.append(alive + self.resident_bytes)

    def _scratch(self, layer: LayerSpec, step: str) -> int:
        if not self.tiny_engine or layer.op not in ("conv2d", "convolve"):
            return 0
        inside, rows, columns = _tensor_shape(self.graph, layer)
        outside, out_rows, out_columns = layer.out_shape
        high, wide = layer.kernel
        if layer.groups == outside and outside > 1:  # depthwise
            (above, below), (left, right) = layer.pads
            plane = (rows + above + below) * (columns + left + right)
            return {
                "forward": 2 * plane,
                "dW": 4 * plane + 4 * outside * out_rows * out_columns,
                "dX": 4 * (rows + high - 1) * (columns + wide - 1),
            }[step]
        widened = 2 * outside * (inside // layer.groups) * high * wide if high * wide > 1 else 0
        return {
            "forward": 4 * high * wide * inside + widened,
            "dW": 80 * out_rows * out_columns,
            "dX": 0,
        }[step]

    def _overwrites(self, layer: LayerSpec) -> bool:
        if layer.op not in OVERWRITING:
            return False
        reader, source = layer.name, self.graph.producers(layer)[0]
        while source != INPUT and self.readers[source] == [reader]:
            made_by = self.graph[source]
            if made_by.op not in VIEWS:
                return made_by.op not in SATURATING | SOURCES
            reader, source = source, self.graph.producers(made_by)[0]
        return False

    # blocks that run again

    def _blocks(self) -> list[Block]:
        found = []
        for label in {layer.block for layer in self.graph.layers} - {""}:
            layers = [layer for layer in self.graph.layers if layer.block == label]
            names = [layer.name for layer in layers]
            ages = sorted(self.age[name] for name in names)
            outside = {s for layer in layers for s in self.graph.producers(layer)} - set(names)
            readers = [reader for name in names[:-1] for reader in self.readers[name]]
            repeated = self._repeated(layers)
            if (
                ages == list(range(ages[0], ages[0] + len(ages)))
                and len(outside) == 1
                and not set(readers) - set(names)
                and not any(
                    self._overwrites(layer) and self.graph.producers(layer)[0] in outside
                    for layer in layers
                )
                and repeated
                and not any(layer.op in NEVER_AGAIN for layer in layers)
            ):
                found.append(Block(names, repeated, outside.pop()))
        return found

    def _repeated(self, layers: list[LayerSpec]) -> list[str]:
        names = [layer.name for layer in layers]
        wanted = {
            layer.name
            for layer in layers
            if layer.op in ACTIVATIONS | CURVED | COPYING_NORMS | MAXIMA
        }
        wanted |= {s for layer in layers if layer.op in WEIGHTED for s in layer.inputs}
        wanted &= set(names)
        while True:
            more = {s for name in wanted for s in self.graph.producers(self.graph[name])}
            if more & set(names) <= wanted:
                return [name for name in names if name in wanted]
            wanted |= more & set(names)

    def _runs(self, block: Block) -> bool:
        """Whether anything inside would be kept."""
        for name in block.names:
            layer = self.graph[name]
            source = (*self.graph.producers(layer), None)[0]
            beside = ACTIVATIONS | CURVED | COPYING_NORMS | MAXIMA
            if layer.op in beside and self.has_gradient[source]:
                return True
            if layer.op in COPYING_NORMS and name in self.trained.scales | {*self.trained.weights}:
                return True
            if name in self.trained.weights and source in block.names:
                return True
        return False

    def _run_again(self, block: Block) -> None:
        runs = self._runs(block)
        unread = {
            name: [reader for reader in readers if reader in block.repeated]
            for name, readers in self.readers.items()
        }
        for name in block.repeated:
            layer = self.graph[name]
            if runs:
                self._write_output(layer)
                self.kept[name] = self._saved_beside(layer)
                for reader in self.readers[name]:
                    dense = self.graph[reader].op in DENSE
                    if dense and reader in block.names and reader in self.trained.weights:
                        self._keep_input(self.graph[reader])
                if layer.op in DENSE:
                    shape = _tensor_shape(self.graph, layer)
                    weights = shape[layer.axis] // layer.groups * prod(layer.kernel)
                    spread = layer.op == "conv_transpose2d"  # a kernel for each input position
                    places = shape[1:] if spread else layer.out_shape[1:]
                    self.repeated_macs += weights * layer.out_shape[0] * prod(places)
            self._tick(self._scratch(layer, "forward") if runs else 0)
            for source in dict.fromkeys(self.graph.producers(layer)):
                unread[source].remove(name)
                if not unread[source]:
                    holder = block.names[0] + " again" if source == block.source else source
                    self.store[source].holders.discard(holder)
            if not unread[name]:
                self.store[name].holders.discard(name)

    # forward

    def forward(self) -> None:
        elements = prod(self.graph.input_shape)
        self.store[INPUT] = self._new(self._sample_bytes(elements, self.bits[2]), INPUT)
        for layer in self.graph.layers:
            self._write_output(layer)
            self._keep_for_backward(layer)
            self._tick(self._scratch(layer, "forward"))
            for source in dict.fromkeys(self.graph.producers(layer)):
                self.unread[source] -= 1
                if not self.unread[source]:
                    self.store[source].holders.discard(source)
            for block in self.blocks:
                if layer.name == block.names[0] and layer.name in self.dropped:
                    self.store[block.source].holders.add(layer.name + " again")

    def _write_output(self, layer: LayerSpec) -> None:
        if layer.op in VIEWS or self._overwrites(layer):
            self.store[layer.name] = self.store[self.graph.producers(layer)[0]]
            self.store[layer.name].holders.add(layer.name)
        else:
            elements = 0 if layer.op in SOURCES else prod(layer.out_shape)
            size = self._sample_bytes(elements, self.bits[2])
            self.store[layer.name] = self._new(size, layer.name)

    def _keep_for_backward(self, layer: LayerSpec) -> None:
        self.kept[layer.name] = [] if layer.name in self.dropped else self._saved_beside(layer)
        for tensor in self._held(layer):
            self.store[tensor].holders.add(f"{layer.name} holds")
        if layer.op not in DENSE | WHOLE - {"prelu"} or not self.graph.producers(layer):
            return
        source = self.graph.producers(layer)[0]
        made_again = layer.name in self.dropped and source in self.dropped
        made_again = made_again and self.graph[source].block == layer.block
        if layer.name in self.trained.weights and not made_again:
            self._keep_input(layer)

    def _keep_input(self, layer: LayerSpec) -> None:
        """The channels that a layer's weight gradient needs."""
        source = self.graph.producers(layer)[0]
        shape = _tensor_shape(self.graph, layer)
        share = prod(shape)
        if layer.op not in WHOLE:
            share = share // shape[layer.axis] * self.trained.kept_channels[layer.name]
        kept = self.store[source]
        if self._elements(source) != prod(shape):  # a slice is copied
            kept = self.copies[layer.name] = Buffer(0)
            self.buffers.append(kept)
        kept.parts[layer.name] = self._sample_bytes(share, self.bits[2])

    def _saved_beside(self, layer: LayerSpec) -> list[Buffer]:
        """Masks, normalised inputs and statistics, as buffers."""
        passes = any(self.has_gradient[source] for source in self.graph.producers(layer))
        count = prod(layer.out_shape)
        sizes: list[int] = []
        if layer.op in ACTIVATIONS and passes:
            sizes = [self._sample_bytes(count, 1)]
        if layer.op in MAXIMA and passes:
            places = prod(layer.kernel)
            sizes = [self._sample_bytes(count * ceil(log2(places)), 1)]
        if layer.op in CURVED and passes:
            sizes = [self._sample_bytes(count, self.bits[2])]
        if layer.op == "attention" and passes:
            query, key = (self.graph.shape(name) for name in layer.inputs[:2])
            sizes = [self._sample_bytes(prod(query[:-1]) * key[-2], self.bits[2])]
        if layer.op == "dropout2d" and passes:
            sizes = [self._sample_bytes(layer.out_shape[0], self.bits[2])]
        if layer.op == "cfc" and (passes or layer.name in self.trained.weights):
            sizes = [self._sample_bytes(3 * layer.out_shape[0], self.bits[2])]
        if layer.op == "s4d_recurrent" and layer.name in self.trained.weights:
            channels, length = layer.out_shape[0], prod(layer.out_shape[1:])
            states = channels * int(layer.args[0]) * ceil(length**0.5)
            sizes = [self._sample_bytes(2 * states, self.bits[2])]
        if layer.op in GATES and (passes or layer.name in self.trained.weights):
            positions, _ = layer.out_shape
            hidden, depth, directions, _ = (int(number) for number in layer.args)
            each = positions * hidden * depth * directions
            sizes = [self._sample_bytes(each * (GATES[layer.op] + 1), self.bits[2])]
        scale = layer.name in self.trained.scales | self.trained.weights.keys()
        if layer.op in COPYING_NORMS and (passes or scale):
            sizes = [self._sample_bytes(count, self.bits[2])]
            if layer.op == "batchnorm":
                sizes.append(layer.out_shape[0] * STATISTIC_BITS // 8)
            elif layer.op != "prelu":
                rows = layer.groups
                if layer.op == "standardise":
                    rows = count // prod(layer.out_shape[-int(layer.args[1]) :])
                if layer.op == "layernorm":
                    rows = count // layer.out_shape[layer.axis]
                sizes.append(self._sample_bytes(rows, STATISTIC_BITS))
        return [self._new(size, layer.name) for size in sizes]

    def _held(self, layer: LayerSpec) -> set[str]:
        """Whole tensors that backward of an operator reads."""
        sources = self.graph.producers(layer)
        if layer.op in SATURATING and self.has_gradient[sources[0]]:
            return {layer.name}
        if layer.op in ("glu", "div", "attention") and any(self.has_gradient[s] for s in sources):
            return set(sources)
        if layer.op in ("mul", "matmul", "lookup", "convolve"):
            left, right = sources[:2]
            pairs = ((left, right), (right, left))
            return {one for one, other in pairs if self.has_gradient[other]}
        return set()

    # backward

    def loss(self) -> None:
        """Alive between the passes: the output, and everything saved."""
        output = self.graph.layers[-1].name
        last = self.store[output]
        self.store[output].holders.discard(output)
        saved = [buffer.size_bytes for buffer in self.buffers]
        last.holders.add(output)
        self.saved_bytes = sum(saved)
        if self.has_gradient[output]:
            self._receive(output)
        self._tick()
        self.store[output].holders.discard(output)

    def backward(self) -> None:
        for layer in reversed(self.graph.layers):
            for block in self.blocks:
                if layer.name == block.names[-1]:
                    self._run_again(block)
            if layer.op in WEIGHTED:
                self._backward_weighted(layer)
            elif layer.op == "convolve":
                self._backward_convolve(layer)
            elif layer.op in VIEWS:
                self._backward_view(layer)
            elif layer.op == "add":
                self._backward_sum(layer)
            else:
                self._backward_element(layer)
        assert not any(buffer.size_bytes for buffer in self.buffers)

    def _backward_weighted(self, layer: LayerSpec) -> None:
        update = self._weight_gradient(layer)
        self._tick(self._scratch(layer, "dW") if layer.name in self.trained.weights else 0)
        if layer.op == "s4d_recurrent":
            for buffer in self.kept[layer.name]:
                buffer.holders.clear()
        below = False
        self._add_up(layer)
        for source in self.graph.producers(layer):
            self.copies.get(layer.name, self.store[source]).parts.pop(layer.name, None)
            below = self.has_gradient[source]
            if below:
                self._pass_on(layer, source)
        if not below:
            self._release(layer.name)
        # dX and the update
        self._tick(self._scratch(layer, "dX") if below else 0)
        self._release(layer.name)
        for buffer in (update, *self.kept[layer.name]):
            buffer.holders.clear()

    def _backward_convolve(self, layer: LayerSpec) -> None:
        """As of a layer with weights, whose kernel and bias are parameters of others, too."""
        images, kernel = self.graph.producers(layer)[:2]
        self._add_up(layer)
        self._tick(self._scratch(layer, "dW") if self.has_gradient[kernel] else 0)
        for tensor in self._held(layer):
            self.store[tensor].holders.discard(f"{layer.name} holds")
        if self.has_gradient[images]:
            self._pass_on(layer, images)
        else:
            self._release(layer.name)
        self._tick(self._scratch(layer, "dX") if self.has_gradient[images] else 0)
        self._release(layer.name)

    def _backward_view(self, layer: LayerSpec) -> None:
        """The gradient of what it is a view of is there already, in whole."""
        (source,) = self.graph.producers(layer)
        if self.has_gradient[source]:
            self._receive(source)
        self._tick()
        self._release(layer.name)

    def _pass_on(self, layer: LayerSpec, source: str) -> None:
        if self._overwrites(layer) and source == self.graph.producers(layer)[0]:
            self._share(layer.name, source)
        else:
            self._receive(source)

    def _backward_element(self, layer: LayerSpec) -> None:
        """Activation, norm, pool, product or join."""
        update = self._weight_gradient(layer)
        self._add_up(layer)
        for source in self.graph.producers(layer):
            if self.has_gradient[source]:
                self._pass_on(layer, source)
        self._tick()
        self._release(layer.name)
        for tensor in self._held(layer):
            self.store[tensor].holders.discard(f"{layer.name} holds")
        for buffer in (update, *self.kept[layer.name]):
            buffer.holders.clear()

    def _backward_sum(self, layer: LayerSpec) -> None:
        sources = sorted(set(self.graph.producers(layer)), key=self._root_age)
        oldest = sources[0]
        self._add_up(layer)
        for source in sources:
            if not self.has_gradient[source] or source in self.gradient:
                continue  # not wanted, or added to what is there
            fits = self._elements(source) == prod(layer.out_shape)
            oldest_fits = fits and source == oldest and not self._present(source)
            if oldest_fits or (fits and self._only_read(layer, source, oldest)):
                self._share(layer.name, source)
            else:
                self._receive(source)
        self._tick()
        self._release(layer.name)

    def _only_read(self, layer: LayerSpec, source: str, oldest: str) -> bool:
        """Nobody writes to the sum's gradient before the maker of `source` has read it."""
        made_by = self.graph[source]
        overwrites = made_by.op in VIEWS or self._overwrites(made_by)
        if overwrites or self.readers[source] != [layer.name]:
            return False
        writers = [name for name in self._all_readers(oldest) if name != layer.name]
        return all(self.age[name] < self.age[source] for name in writers)

    def _all_readers(self, tensor: str) -> list[str]:
        """Readers of everything that lives where this tensor lives."""
        same = [name for name, buffer in self.store.items() if buffer is self.store[tensor]]
        return [reader for name in same for reader in self.readers[name]]

    def _root_age(self, tensor: str) -> int:
        return min(
            self.age[name] for name, buffer in self.store.items() if buffer is self.store[tensor]
        )

    def _weight_gradient(self, layer: LayerSpec) -> Buffer:
        if layer.name in self.added_up:
            return self.added_up[layer.name]
        return self._new(self._weight_gradient_bytes(layer), layer.name)

    def _add_up(self, layer: LayerSpec) -> None:
        """Parameters that an operator reads get their gradient, which the next one adds to."""
        for source in self.graph.producers(layer):
            while source != INPUT and self.graph[source].op in VIEWS:
                (source,) = self.graph.producers(self.graph[source])
            if source != INPUT and self.graph[source].op == "parameter":
                self.added_up[source] = self._weight_gradient(self.graph[source])

    def _weight_gradient_bytes(self, layer: LayerSpec) -> int:
        if self._deferred:
            return 0
        count = self.trained.weights.get(layer.name, 0) + self.trained.others.get(layer.name, 0)
        return count * self.bits[4] // 8

    def _receive(self, tensor: str) -> None:
        """A gradient is added to that of a tensor, which is made when not there yet."""
        if tensor in self.gradient:
            return
        same = self._present(tensor)
        if same:
            self._share(same, tensor)
        else:
            size = self._sample_bytes(self._elements(tensor), self.bits[3])
            self.gradient[tensor] = self._new(size, tensor)

    def _present(self, tensor: str) -> str | None:
        """A tensor in the same memory that has its gradient already."""
        here = self.store[tensor]
        return next((name for name in self.gradient if self.store[name] is here), None)

    def _elements(self, tensor: str) -> int:
        """Of the oldest tensor in the same memory, of which others may be slices."""
        here = self.store[tensor]
        oldest = min((n for n, b in self.store.items() if b is here), key=self.age.__getitem__)
        if oldest != INPUT and self.graph[oldest].op in SOURCES:
            return 0
        return prod(self.graph.shape(oldest))

    def _share(self, owner: str, tensor: str) -> None:
        self.gradient[tensor] = self.gradient[owner]
        self.gradient[tensor].holders.add(tensor)

    def _release(self, tensor: str) -> None:
        if tensor in self.gradient:
            self.gradient.pop(tensor).holders.discard(tensor)


def _whole_weights(graph: ModelGraph, layer: LayerSpec) -> int:
    if layer.op == "parameter":
        return prod(layer.out_shape)
    if layer.op == "embedding":
        return int(layer.args[0]) * layer.out_shape[-1]
    if layer.op == "prelu":
        return int(layer.args[0])
    if layer.op in SPACES:
        return layer.out_shape[0] * (2 + 2 * int(layer.args[0]))
    if layer.op == "cfc":
        return 4 * (_mask(graph, layer) + layer.out_shape[0])
    hidden, depth, directions, biases = (int(number) for number in layer.args)
    total, features = 0, _tensor_shape(graph, layer)[-1]
    for _ in range(depth):
        for _ in range(directions):
            gates = GATES[layer.op] * hidden
            total += gates * features + gates * hidden + 2 * gates * biases
        features = hidden * directions
    return total


def _mask(graph: ModelGraph, layer: LayerSpec) -> int:
    hidden = layer.out_shape[0]
    return hidden * (_tensor_shape(graph, layer)[0] + hidden)


def _tensor_shape(graph: ModelGraph, layer: LayerSpec) -> tuple[int, ...]:
    return graph.shape(graph.producers(layer)[0])
