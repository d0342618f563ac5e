"""Memory of a step whose operators run one by one, each into a tensor of its own.

So the compiler behind BioTrain does it (Deeploy, arXiv 2408.04413, training branch; Wang et
al., arXiv 2604.13359): a tensor lives from the first step that touches it to the last, both
included; a convolution's dW reads its whole input again, a norm its input and two statistics,
a ReLU its output, a maximum its input; an average reads nothing. Padding is part of the
convolution and copies nothing. With `relu_in_place` a ReLU overwrites what only it reads, and
so does its gradient.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from explorer.costmodel.eager import STATISTICS_KEPT
from explorer.costmodel.forms import FORMS
from explorer.costmodel.ops import RULES
from explorer.costmodel.tables import LayerTable, layer_table
from explorer.design import DesignBatch
from explorer.graph import INPUT, NORM_OPS, WEIGHTED_OPS, ModelGraph
from explorer.layer import CONVOLVE, SOURCES
from explorer.units import BITS_PER_BYTE, BoolArray, FloatArray, IntArray

READS_INPUT = ("groupnorm", "batchnorm", "window_max")
READS_OUTPUT = ("relu", "relu6")


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Tensors:
    """Tensors of one step [J], those of one memory as one.

    `elements` [J, 3]: activations and gradients a sample, statistics a pass. `births` [J] are
    the steps they are made at, if any of the sites `made_by` [J, 4L] trains (all zero: always).
    A use [E] is a tensor, the step of it, and the sites one of which must train [E, 4L] (all
    zero: always). `loss_step` ends the forward pass.
    """

    elements: FloatArray
    births: IntArray
    made_by: BoolArray
    used: IntArray
    use_steps: IntArray
    used_by: BoolArray
    loss_step: int


def op_by_op_bytes(
    graph: ModelGraph, designs: DesignBatch, *, relu_in_place: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Bytes of activations and their gradients [P]: saved at the loss, at the peak, in sum.

    The sum is what an allocator without any reuse takes.
    """
    sizes, alive = _alive(graph, designs, relu_in_place=relu_in_place)
    live = np.einsum("j,pjt->pt", sizes, alive)
    loss_step = tensors_of(graph, relu_in_place).loss_step
    kept = alive[:, :, loss_step - 1] & alive[:, :, loss_step + 1]
    return kept @ sizes, live.max(axis=1), alive.any(axis=2) @ sizes


def _alive(
    graph: ModelGraph, designs: DesignBatch, *, relu_in_place: bool
) -> tuple[FloatArray, BoolArray]:
    """Bytes of each tensor [J], and at which steps it is there [P, J, T]."""
    found, setup = tensors_of(graph, relu_in_place), designs.setup
    sites = _sites(layer_table(graph), designs)
    made = _any(sites, found.made_by)
    deaths = np.where(_any(sites, found.used_by), found.use_steps, -1)
    _, starts = np.unique(found.used, return_index=True)
    deaths = np.maximum.reduceat(deaths, starts, axis=1)
    steps = np.arange(int(found.use_steps.max()) + 2)
    alive = (found.births[:, None] <= steps) & (steps <= deaths[:, :, None])
    form = FORMS[setup.precision]
    bits = np.array([form.activation_bits, form.gradient_bits, form.statistic_bits])
    scale = np.array([setup.micro_batch, setup.micro_batch, 1])
    return found.elements @ (bits * scale) / BITS_PER_BYTE, alive & made[:, :, None]


def _sites(table: LayerTable, designs: DesignBatch) -> FloatArray:
    """Which sites train [P, 4L]: as in `ancestors`, then the weights alone."""
    return np.concatenate([table.active_sites(designs), designs.slices > 0], axis=1).astype(float)


def _any(sites: FloatArray, needed: BoolArray) -> BoolArray:
    """Whether any needed site trains [P, N]; none needed is always."""
    wanted: BoolArray = (sites @ needed.T > 0) | ~needed.any(axis=1)
    return wanted


@lru_cache(maxsize=32)
def tensors_of(graph: ModelGraph, relu_in_place: bool) -> Tensors:
    """The tensors of a graph's step."""
    return _Walk(graph, relu_in_place).tensors()


class _Walk:
    """Forward, the loss, then backward; a layer with weights takes dW before dX."""

    def __init__(self, graph: ModelGraph, relu_in_place: bool) -> None:
        self.graph, self.table = graph, layer_table(graph)
        self.row = {layer.name: at for at, layer in enumerate(graph.layers)}
        self.row[INPUT] = len(graph.layers)
        self.relu_in_place = relu_in_place
        self.readers = dict.fromkeys(self.row, 0)
        for layer in graph.layers:
            for source in graph.producers(layer):
                self.readers[source] += 1
        self.elements: list[tuple[float, float, float]] = []
        self.births: list[int] = []
        self.made_by: list[BoolArray] = []
        self.uses: list[tuple[int, int, BoolArray]] = []
        self.always = np.zeros(4 * len(graph.weighted), dtype=bool)
        self.step = 0

    def tensors(self) -> Tensors:
        """Walk the step and collect."""
        stored = {INPUT: self._new((self._count(INPUT), 0.0, 0.0), self.always)}
        statistics: dict[str, int] = {}
        for layer in self.graph.layers:
            sources = self.graph.producers(layer)
            for source in sources:
                self._use(stored[source], self.always)
            if self._overwrites(layer.name):
                stored[layer.name] = stored[sources[0]]
            else:
                stored[layer.name] = self._new((self._count(layer.name), 0, 0), self.always)
            self._use(stored[layer.name], self.always)
            if rule := RULES[layer.op].statistics:
                count = STATISTICS_KEPT * rule(self.graph, layer)
                per_pass = RULES[layer.op].statistics_per_batch
                elements = (0, 0, count) if per_pass else (count, 0, 0)
                statistics[layer.name] = self._new(elements, self._needing(layer.name))
            self.step += 1
        loss_step = self.step
        last = self.graph.layers[-1].name
        self._use(stored[last], self.always)
        gradient = {last: self._gradient(last)}
        self.step += 1
        for layer in reversed(self.graph.layers):
            self._backward(layer.name, stored, gradient, statistics)
        order = np.argsort([tensor for tensor, _, _ in self.uses], kind="stable")
        return Tensors(
            elements=np.array(self.elements, np.float64),
            births=np.array(self.births),
            made_by=np.array(self.made_by),
            used=np.array([self.uses[at][0] for at in order]),
            use_steps=np.array([self.uses[at][1] for at in order]),
            used_by=np.array([self.uses[at][2] for at in order]),
            loss_step=loss_step,
        )

    def _backward(
        self,
        name: str,
        stored: dict[str, int],
        gradient: dict[str, int],
        statistics: dict[str, int],
    ) -> None:
        layer = self.graph[name]
        sources = self.graph.producers(layer)
        if name not in gradient:  # nothing that trains is at or before it
            self.step += 1
            return
        own = gradient[name]
        if layer.op in WEIGHTED_OPS:
            weights = self._weights(name)
            for source in sources[:1]:
                self._use(stored[source], weights)
            self._use(own, self._reaching(name))
            self.step += 1
        elif layer.op == CONVOLVE:
            self._use(stored[sources[0]], self._reaching(sources[1]))
            self._use(own, self._reaching(name))
            self.step += 1
        for source in sources:
            passes = self._reaching(source)
            if not passes.any():
                continue
            if source not in gradient:
                gradient[source] = own if self._overwrites(name) else self._gradient(source)
            self._use(gradient[source], passes)
            self._use(own, passes)
        needed = self._needing(name)
        if needed.any() and layer.op not in WEIGHTED_OPS:
            self._use(own, needed)
            if layer.op in READS_INPUT:
                self._use(stored[sources[0]], needed)
            if layer.op in READS_OUTPUT:
                self._use(stored[name], needed)
            if name in statistics:
                self._use(statistics[name], needed)
        self.step += 1

    def _new(self, elements: tuple[float, float, float], made_by: BoolArray) -> int:
        self.elements.append(elements)
        self.births.append(self.step)
        self.made_by.append(made_by)
        self._use(len(self.births) - 1, made_by)
        return len(self.births) - 1

    def _gradient(self, name: str) -> int:
        return self._new((0, self._count(name), 0), self._reaching(name))

    def _use(self, tensor: int, sites: BoolArray) -> None:
        self.uses.append((tensor, self.step, sites))

    def _count(self, name: str) -> float:
        """Elements of a tensor; those of parameters and constants are not counted here."""
        if name != INPUT and (self.graph[name].op in SOURCES or self.graph.parameter_of(name)):
            return 0.0
        return float(np.prod(self.graph.shape(name)))

    def _overwrites(self, name: str) -> bool:
        layer = self.graph[name]
        if layer.op in SOURCES:
            return False
        source = self.graph.producers(layer)[0]
        free = (self.relu_in_place and layer.op in READS_OUTPUT) or layer.op == "reshape"
        return free and source != INPUT and self.readers[source] == 1

    def _reaching(self, name: str) -> BoolArray:
        """Sites at or before a tensor, one of which must train for it to have a gradient."""
        padding = np.zeros(len(self.graph.weighted), dtype=bool)
        return np.concatenate([self.table.ancestors[self.row[name]], padding])

    def _weights(self, name: str) -> BoolArray:
        sites = self.always.copy()
        sites[3 * len(self.graph.weighted) + self.graph.weighted.index(name)] = True
        return sites

    def _needing(self, name: str) -> BoolArray:
        """Sites that make an operator without weights run backward: below it, or its own."""
        layer = self.graph[name]
        if layer.op in (*NORM_OPS, *SOURCES):
            return self._reaching(name)
        return self._reaching(self.graph.producers(layer)[0])
