"""A question as linear rows, for an exact optimum.

With an additive score every goal of a design is linear in a few columns: one of each
level of each layer, one of each bias, whether any of a set of sites trains (a gradient
passes, a mask is kept), and the largest share of an input several layers need. The
peak is the highest of several rows. No formula stands here twice: rows are fitted to what
the cost model and the judge say of random designs, and further designs must obey them.
"""

from dataclasses import dataclass

import numpy as np

from explorer.costmodel.evaluate import evaluate, live_profile
from explorer.costmodel.lifetimes import life_table, saved_share
from explorer.costmodel.tables import LayerTable
from explorer.design import DesignBatch
from explorer.device import DeviceProfile
from explorer.errors import SpecError
from explorer.search.problem import Problem
from explorer.search.quantities import SCORES
from explorer.search.space import LEVELS, SearchSpace
from explorer.units import BoolArray, FloatArray, IntArray

RANDOM_PROBES_PER_LAYER = 6
HELD_OUT = 64
TOLERANCE = 1e-6
NOISE_DECIMALS = 12  # of a share of the goal's largest value
ROUNDING = 1e-6
ROOMY_BYTES = 2**50


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Columns:
    """What goals are linear in, N columns in this order.

    Levels [Y]: `level_layer` and `level_slices`, a column for each distinct trained count of
    a layer; `level_share` is the share of the layer's input it keeps. Biases [B]: `bias_layer`.
    Sets [R]: `reach` [R, 2L] over weights and biases of layers, 1 when any member trains.
    Shared inputs [V]: `shared` holds the layers of each, the value is their largest share.
    """

    table: LayerTable
    level_layer: IntArray
    level_slices: IntArray
    level_share: FloatArray
    bias_layer: IntArray
    reach: BoolArray
    shared: tuple[IntArray, ...]

    @property
    def binary_count(self) -> int:
        """Columns that are decisions; the others follow from them."""
        return len(self.level_layer) + len(self.bias_layer)

    def __len__(self) -> int:
        return self.binary_count + len(self.reach) + len(self.shared)

    @classmethod
    def of(cls, space: SearchSpace, table: LayerTable, saved_sets: list[IntArray]) -> "Columns":
        """Columns of a space over a network; `saved_sets` are layers that share an input."""
        axes = table.axes
        layer_count = len(axes.names)
        counts = axes.slices(np.repeat(LEVELS[1:, None], layer_count, axis=1))
        pairs = [(at, count) for at, row in enumerate(counts.T) for count in np.unique(row)]
        layer, slices = np.array(pairs).T
        alone = np.zeros((len(pairs), layer_count), dtype=np.int64)
        alone[np.arange(len(pairs)), layer] = slices
        frozen = np.zeros(alone.shape, dtype=bool)
        share = saved_share(table, space.designs(alone, frozen, "probe"))
        return cls(
            table=table,
            level_layer=layer,
            level_slices=slices,
            level_share=share[np.arange(len(pairs)), layer],
            bias_layer=np.flatnonzero(axes.has_bias),
            reach=_reach_sets(table, space),
            shared=tuple(members for members in saved_sets if len(members) > 1),
        )

    def values(self, designs: DesignBatch) -> FloatArray:
        """Columns of designs whose slices are levels [P, N]."""
        level = designs.slices[:, self.level_layer] == self.level_slices
        bias = designs.update_bias[:, self.bias_layer]
        trains = np.concatenate([designs.slices > 0, designs.update_bias], axis=1)
        reached = trains.astype(np.float64) @ self.reach.T > 0
        share = saved_share(self.table, designs)
        largest = [share[:, members].max(axis=1, keepdims=True) for members in self.shared]
        return np.concatenate([level, bias, reached, *largest], axis=1).astype(np.float64)

    def slices_and_biases(self, decisions: FloatArray) -> tuple[IntArray, BoolArray]:
        """Trained slices and biases [P, L] of decisions [P, Y + B], each rounded to 0 or 1."""
        taken = np.round(decisions).astype(np.int64)
        size = (len(decisions), len(self.table.axes.names))
        slices, biases = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=bool)
        level_count = len(self.level_layer)
        for column in range(level_count):
            slices[:, self.level_layer[column]] += taken[:, column] * self.level_slices[column]
        biases[:, self.bias_layer] = taken[:, level_count:] > 0
        return slices, biases

    def rounded(self, shares: FloatArray) -> tuple[IntArray, BoolArray]:
        """Slices and biases [2, L] of shares of decisions [Y + B]: the nearest, and none above."""
        layer_count, level_count = len(self.table.axes.names), len(self.level_layer)
        wanted = np.bincount(
            self.level_layer, shares[:level_count] * self.level_slices, minlength=layer_count
        )
        slices = np.zeros((2, layer_count), dtype=np.int64)
        for layer, count in zip(self.level_layer, self.level_slices, strict=True):
            nearer = abs(count - wanted[layer]) < abs(slices[0, layer] - wanted[layer])
            slices[0, layer] = count if nearer else slices[0, layer]
            slices[1, layer] = count if count <= wanted[layer] + ROUNDING else slices[1, layer]
        biases = np.zeros(slices.shape, dtype=bool)
        biases[:, self.bias_layer] = shares[level_count:] > np.array([[0.5], [1 - ROUNDING]])
        return slices, biases


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Additive:
    """The goals of a problem over `columns`, for designs that train something.

    `score` [N + 1], `live` [T', N + 1] bytes at each step that can be the peak (above those of
    inference where the problem counts so; `roof_bytes` is the most that fits), and `spending`
    [C, N + 1], the problem's other goals in natural units; the last column is the constant.
    `names` are the goals that are spent, in the problem's order, and memory always among them,
    last where it is no objective: what does not fit is no candidate anyway.
    """

    problem: Problem
    space: SearchSpace
    columns: Columns
    names: tuple[str, ...]
    score: FloatArray
    live: FloatArray
    roof_bytes: float
    spending: FloatArray

    @classmethod
    def of(cls, problem: Problem, space: SearchSpace) -> "Additive":
        """Fit and check; SpecError says which goal is not linear."""
        life = life_table(problem.graph, space.setup)
        columns = Columns.of(space, life.schedule.table, list(life.saved_sets))
        names = tuple(o.name for o in problem.objectives if o.name not in SCORES)
        if len(names) == len(problem.objectives):
            raise SpecError("exact front: there is no score among the objectives")
        names += () if problem.memory_name in names else (problem.memory_name,)
        probes = _probes(space, columns)
        device = roomy(problem.device)
        costs = evaluate(problem.graph, device, probes)
        memory = problem.memory_name
        offset = float((costs.peak_live_bytes - getattr(costs, memory))[0])
        goals = {
            "the score": problem.judge.proxy(probes, costs)[:, None],
            memory: live_profile(problem.graph, device, probes)[0] - offset,
        } | {name: getattr(costs, name)[:, None] for name in names if name != memory}
        values = np.concatenate([columns.values(probes), np.ones((len(probes), 1))], axis=1)
        rows = _fitted(values, goals)
        others = [rows[name] for name in names if name != memory]
        return cls(
            problem=problem,
            space=space,
            columns=columns,
            names=names,
            score=rows["the score"][0],
            live=_possible_peaks(rows[memory]),
            roof_bytes=problem.usable_bytes - offset,
            spending=np.concatenate(others) if others else np.zeros((0, len(columns) + 1)),
        )

    @property
    def scales(self) -> FloatArray:
        """What a goal is measured by [C]: its objective's scale, else the most RAM there is."""
        known = {objective.name: objective.scale for objective in self.problem.objectives}
        return np.array([known.get(name, self.roof_bytes) for name in self.names])

    def goals(self, designs: DesignBatch) -> tuple[FloatArray, FloatArray]:
        """Score [P] and what is spent [P, len(names)] by the rows alone."""
        values = np.concatenate([self.columns.values(designs), np.ones((len(designs), 1))], axis=1)
        spent = iter((values @ self.spending.T).T)
        peak = (values @ self.live.T).max(axis=1)
        ordered = [peak if name == self.problem.memory_name else next(spent) for name in self.names]
        return values @ self.score, np.stack(ordered, axis=1)


def roomy(device: DeviceProfile) -> DeviceProfile:
    """The device with memory that never runs out: what does not fit is no candidate anyway."""
    room = {"size_bytes": ROOMY_BYTES, "usable_bytes": ROOMY_BYTES}
    return device.model_copy(
        update={"memory": tuple(level.model_copy(update=room) for level in device.memory)}
    )


def _reach_sets(table: LayerTable, space: SearchSpace) -> BoolArray:
    """Distinct sets of two or more members, as [R, 2L] over weights and biases of layers.

    A set of all members always trains here, and one member is its own column.
    """
    life = life_table(table.graph, space.setup)
    axes = table.axes
    passes = np.pad(table.passes, ((0, len(axes.names)), (0, 0)))
    sites = np.concatenate([life.needs, passes], axis=1).T > 0
    weight, scale, offset, weight_alone = np.split(sites, 4, axis=1)
    weights = weight | weight_alone | (scale & axes.has_norm)
    biases = np.where(table.own_bias, weight, offset) & axes.has_bias
    sets = np.unique(np.concatenate([weights, biases], axis=1), axis=0)
    whole = len(axes.names) + int(axes.has_bias.sum())
    size = sets.sum(axis=1)
    kept: BoolArray = sets[(size > 1) & (size < whole)]
    return kept[np.argsort(kept.sum(axis=1), kind="stable")]


def _probes(space: SearchSpace, columns: Columns) -> DesignBatch:
    """Designs that determine every row.

    Each decision alone, beside the first layer (which nearly every set holds), against all
    others, and random designs.
    """
    rng = np.random.default_rng(0)
    axes = space.axes
    layer_count, level_count = len(axes.names), len(columns.level_layer)
    size = (columns.binary_count, layer_count)
    alone, alone_bias = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=bool)
    rows = np.arange(columns.binary_count)
    alone[rows[:level_count], columns.level_layer] = columns.level_slices
    alone_bias[rows[level_count:], columns.bias_layer] = True
    against = np.where(alone > 0, alone, axes.out_channels)
    beside = np.where((alone == 0) & (np.arange(layer_count) == 0), axes.out_channels, alone)
    count = HELD_OUT + RANDOM_PROBES_PER_LAYER * layer_count
    depth = 1 + np.arange(count)[:, None] % layer_count
    inside = np.arange(layer_count) >= layer_count - depth
    weights = inside & (rng.random(inside.shape) < rng.random((count, 1)))
    biases = inside & (rng.random(inside.shape) < rng.random((count, 1))) & axes.has_bias
    weights[:, -1] |= ~(weights | biases).any(axis=1)
    ratios = np.where(weights, LEVELS[rng.integers(1, len(LEVELS), inside.shape)], 0.0)
    return space.designs(
        np.concatenate([axes.slices(ratios), alone, beside, against]),
        np.concatenate([biases, alone_bias, alone_bias, ~alone_bias]),
        "probe",
    )


def _fitted(values: FloatArray, goals: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Rows [., N + 1] with `values @ row` equal to each goal [P, .]; SpecError where none are."""
    scales = {name: np.abs(goal).max() or 1.0 for name, goal in goals.items()}
    stacked = np.concatenate([goals[name] / scales[name] for name in goals], axis=1)
    fit: FloatArray = np.asarray(
        np.linalg.lstsq(values[HELD_OUT:], stacked[HELD_OUT:], rcond=None)[0]
    ).round(NOISE_DECIMALS)
    error = np.abs(values @ fit - stacked).max(axis=0)
    rows, start = {}, 0
    for name, goal in goals.items():
        stop = start + goal.shape[1]
        if error[start:stop].max() > TOLERANCE:
            raise SpecError(f"exact front: {name} is not linear in what trains")
        rows[name] = fit[:, start:stop].T * scales[name]
        start = stop
    return rows


def _possible_peaks(live: FloatArray) -> FloatArray:
    """Rows that no other row reaches in every coefficient."""
    rows = np.unique(live, axis=0)
    rows = rows[np.argsort(-rows.sum(axis=1), kind="stable")]
    kept: list[FloatArray] = []
    for row in rows:
        if not any(np.all(other >= row) for other in kept):
            kept.append(row)
    return np.array(kept)
