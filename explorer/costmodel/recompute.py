"""Blocks whose forward pass can be run again during backward instead of keeping its tensors.

Chen et al. 2016 (arXiv 1604.06174): keep the input of a block, drop what is inside, and run
the block again when backward reaches it. A block is a run of operators with one
`LayerSpec.block` label that reads one tensor from outside, which nothing overwrites, and
lends only its last output to others; other operators keep what they need as ever, and so
(not modelled yet) do blocks with products, attention, recurrent layers, saturating
activations or views. Run again
is what leads to something that could be kept, so not a last projection whose output no
operator of the block needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from explorer.costmodel.ops import RULES
from explorer.graph import WEIGHTED_OPS, ModelGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One block by positions among operators: all of them, and those that run again."""

    ops: range
    again: tuple[int, ...]


def segments_of(
    graph: ModelGraph, producers: Sequence[Sequence[int]], root: dict[int, int]
) -> tuple[Segment, ...]:
    """The blocks of a graph that can run again, from input to output.

    `producers` are positions by operator (-1 the input), `root` the operator whose memory a
    tensor lives in.
    """
    labels = [layer.block for layer in graph.layers]
    found = []
    for label, run in groupby(range(len(labels)), key=labels.__getitem__):
        inside = list(run)
        again = _again(graph, producers, inside)
        is_one_run = label != "" and labels.count(label) == len(inside)
        is_one_run &= all(RULES[graph.layers[op].op].runs_again for op in inside)
        if is_one_run and again and _is_closed(producers, root, inside):
            found.append(Segment(ops=range(inside[0], inside[-1] + 1), again=again))
    return tuple(found)


def _again(
    graph: ModelGraph, producers: Sequence[Sequence[int]], inside: list[int]
) -> tuple[int, ...]:
    """Operators whose output or mask backward may need, and those they come from."""
    needed: set[int] = set()
    for op in reversed(inside):
        layer = graph.layers[op]
        rule = RULES[layer.op]
        if rule.kept_beside:
            needed.add(op)
        if op in needed or layer.op in WEIGHTED_OPS:
            needed.update(source for source in producers[op] if source >= inside[0])
    return tuple(sorted(needed))


def _is_closed(producers: Sequence[Sequence[int]], root: dict[int, int], inside: list[int]) -> bool:
    first, last = inside[0], inside[-1]
    outside = {source for op in inside for source in producers[op] if source < first}
    lent = any(
        first <= source < last for op in range(last + 1, len(producers)) for source in producers[op]
    )
    kept_whole = all(root[op] >= first for op in inside)
    return len(outside) == 1 and not lent and kept_whole
