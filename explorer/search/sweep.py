"""Good designs before the first trial: a Lagrangian sweep and a few rough optima.

At a fixed depth and fixed prices of memory, energy and the rest an additive question
falls apart into layers, and each chooses its best level alone. Memory has a price at
every step that can be the peak; a few rounds move it to the steps where the chosen designs
peak. A maximum is no sum, so the designs are good, not optimal.
"""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from explorer.design import DesignBatch
from explorer.errors import SpecError
from explorer.search.additive import Additive
from explorer.search.candidates import CandidateTable
from explorer.search.problem import Problem
from explorer.search.program import Program
from explorer.search.space import SearchSpace
from explorer.units import BoolArray, FloatArray

LOWEST_PRICE, HIGHEST_PRICE = 0.03, 30.0  # scales of the score for one scale of a goal
ROUNDS = 8
TRIES = 2  # prices for each design wanted: near ones lead to the same design
CHUNK = 2048
LARGEST_SWEEP = 2000
ROUGH_OPTIMA, TRIALS_PER_OPTIMUM = 12, 20
FINER = 1.5


def warm_start(problem: Problem, space: SearchSpace, count: int) -> Iterator[CandidateTable]:
    """About `count` good candidates, LARGEST_SWEEP at most, then a few rough optima, each as found.

    Nothing where the proxy score or a goal is not additive, or nothing is asked for.
    """
    if count < 1:
        return
    try:
        question = Additive.of(problem, space)
    except SpecError:
        return
    yield problem.screen(space.spread(sweep(question, min(count, LARGEST_SWEEP))))
    program = Program(question)
    budgets = min(ROUGH_OPTIMA, count // TRIALS_PER_OPTIMUM) ** (
        1 / max(len(question.names) - 1, 1)
    )
    for row in budget_grid(question, 1, round(budgets))[1]:
        design = program.rough(row).design
        if design is not None:
            yield problem.screen(space.spread(design))


def rounded_designs(
    question: Additive, answers: Sequence[tuple[float, FloatArray | None]]
) -> DesignBatch:
    """Relaxed answers rounded to designs, two for each: to the nearest level and down."""
    columns = question.columns
    none = columns.slices_and_biases(np.zeros((0, columns.binary_count)))
    rounded = [columns.rounded(shares) for _, shares in answers if shares is not None]
    slices, biases = (np.concatenate(part) for part in zip(none, *rounded, strict=True))
    return question.space.designs(slices, biases, "relaxed")


def budget_grid(question: Additive, memory_side: int, side: int) -> tuple[FloatArray, FloatArray]:
    """Lower and upper corners [K, C] of cells from what any training spends to the most of use.

    Memory in even steps up to what the device has; everything else finer towards little, up
    to its limit where the user set one.
    """
    bounds = {limit.name: limit.value for limit in question.problem.limits}
    others, memory = iter(question.spending), question.problem.memory_name
    edges = []
    for name in question.names:
        row = question.live if name == memory else next(others)[None]
        least, most = row[:, -1].max(), row.sum(axis=1).max()
        if name == memory:
            most = min(most, question.roof_bytes)
            edges.append(np.linspace(least, most, memory_side + 1))
        else:
            most = max(least, min(most, bounds.get(name, np.inf)))
            edges.append(least + (most - least) * np.linspace(0, 1, side + 1) ** FINER)
    lower = np.array(list(product(*(edge[:-1] for edge in edges))))
    upper = np.array(list(product(*(edge[1:] for edge in edges))))
    return lower, upper


def sweep(question: Additive, count: int, seed: int = 0) -> DesignBatch:
    """At most `count` different designs over all depths and prices."""
    from scipy.stats.qmc import Halton

    points = Halton(1 + len(question.names), rng=seed).random(TRIES * count)
    starts = range(0, len(points), CHUNK)
    chosen = np.concatenate([_chosen(question, points[at : at + CHUNK]) for at in starts])
    chosen = chosen[chosen.any(axis=1)]
    _, rows = np.unique(chosen, axis=0, return_index=True)
    slices, biases = question.columns.slices_and_biases(chosen[np.sort(rows)[:count]])
    return question.space.designs(slices, biases, "sweep")


def _chosen(question: Additive, points: FloatArray) -> BoolArray:
    """Decisions [P, Y + B] at depths and prices given as points [P, 1 + C] of the unit cube."""
    columns = question.columns
    layer_count = len(columns.table.axes.names)
    depth = 1 + np.floor(points[:, :1] * layer_count)
    layer_of = np.concatenate([columns.level_layer, columns.bias_layer])
    wanted = {objective.name for objective in question.problem.objectives}
    gain = np.tile(question.score[: columns.binary_count], (len(points), 1))
    others = iter(question.spending)
    memory_price = np.zeros((len(points), 1))
    along = points[:, 1:, None].swapaxes(0, 1)
    for name, scale, point in zip(question.names, question.scales, along, strict=True):
        price = LOWEST_PRICE * (HIGHEST_PRICE / LOWEST_PRICE) ** point / scale
        if name == question.problem.memory_name:
            memory_price = price if name in wanted else memory_price
        else:
            gain -= price * next(others)[: columns.binary_count]
    gain[layer_of < layer_count - depth] = -np.inf
    live = question.live[:, : columns.binary_count]
    row, peak_count = np.arange(len(points)), np.zeros((len(points), len(live)))
    chosen = _best_levels(question, gain)
    for round_number in range(ROUNDS):
        peak_count[row, _live_bytes(question, chosen).argmax(axis=1)] += 1
        share = peak_count / (round_number + 1)
        chosen = _best_levels(question, gain - memory_price * (share @ live))
    return chosen


def _live_bytes(question: Additive, chosen: BoolArray) -> FloatArray:
    """Bytes at each step that can be the peak [P, T'] for decisions [P, Y + B]."""
    slices, biases = question.columns.slices_and_biases(chosen.astype(np.float64))
    values = question.columns.values(question.space.designs(slices, biases, "sweep"))
    total: FloatArray = values @ question.live[:, :-1].T + question.live[:, -1]
    return total


def _best_levels(question: Additive, net: FloatArray) -> BoolArray:
    """What pays: for each layer its best level, and every bias, at net gains [P, Y + B]."""
    layers = question.columns.level_layer
    levels = net[:, : len(layers)]
    first = np.flatnonzero(np.diff(layers, prepend=-1))
    best = np.maximum.reduceat(levels, first, axis=1)[:, layers]
    chosen: BoolArray = net > 0
    chosen[:, : len(layers)] &= levels == best
    return chosen
