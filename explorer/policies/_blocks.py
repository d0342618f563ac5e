"""Blocks of a network as its layers name them, such as a transformer's `layer.5`."""

from explorer.graph import ModelGraph


def blocks_of(graph: ModelGraph) -> tuple[str, ...]:
    """Blocks that have weights, from input to output."""
    named = (graph[name].block for name in graph.weighted)
    return tuple(dict.fromkeys(block for block in named if block))


def last_blocks(graph: ModelGraph, count: int) -> tuple[str, ...]:
    """So many blocks, counted from the output."""
    blocks = blocks_of(graph)
    return blocks[len(blocks) - count :]
