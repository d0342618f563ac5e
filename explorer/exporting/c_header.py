"""A policy document as a C header for firmware: what trains, and where each buffer lies."""

import json

from explorer.costmodel.lifetimes import Buffer
from explorer.costmodel.memory_map import MemoryMap, memory_map
from explorer.design import DesignBatch, LayerAxes
from explorer.device import DeviceProfile
from explorer.document import LayerChoice, PolicyDocument
from explorer.exporting.trained import channels_of, network_of, plain_text
from explorer.graph import ModelGraph

TYPES = """\
#include <stdint.h>

typedef struct {
    const char *name;
    uint16_t layer;            /* index among the layers that have weights, 0 is the first */
    uint8_t along_inputs;      /* 1: slices are input channels, 0: output channels */
    uint8_t train_bias;        /* the bias, or the offset of the norm behind the layer */
    uint8_t train_norm;        /* the scale of the norm behind the layer */
    uint32_t channel_count;    /* channels the weight has along that axis */
    uint32_t trained_count;    /* how many of them train */
    const uint16_t *channels;  /* which ones; 0 when all or none of them do */
} policy_layer_t;

typedef struct {
    const char *name;
    uint32_t offset_bytes;
    uint32_t size_bytes;
    uint16_t first_step;  /* the buffer is in use from here */
    uint16_t last_step;   /* to here, both included */
} arena_buffer_t;
"""
PER_LINE = 16


def c_header(document: PolicyDocument, graph: ModelGraph, device: DeviceProfile) -> str:
    """C99 source; buffers are those of one step in one arena of the device's data memory.

    SpecError where a criterion has yet to choose channels, or for another network.
    """
    network_of(document, graph)
    policy = document.policy(graph)
    designs = DesignBatch.of(LayerAxes.of(graph), [policy], document.setup.setup())
    placed = memory_map(graph, device, designs)
    model, on = plain_text(document.model.name), plain_text(device.name)
    guard = "EXPLORER_POLICY_H"
    lines = [
        f"/* {model} ({graph.digest}) on {on}, micro-batch {document.setup.micro_batch},",
        f" * {document.setup.precision}, {document.setup.optimizer}; written by explorer export",
        f" * from the policy {plain_text(document.family)}. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        TYPES,
        *_policy(document, graph),
        "",
        *_adapters(document),
        *_arena(placed, device.alignment_bytes),
        "",
        f"#endif /* {guard} */",
    ]
    return "\n".join(lines) + "\n"


def _policy(document: PolicyDocument, graph: ModelGraph) -> list[str]:
    lines, rows = [], []
    for position, choice in enumerate(document.layers):
        listed = "0"
        if 0 < choice.slices < choice.slice_count:
            listed = f"policy_channels_{position}"
            lines += _array(f"static const uint16_t {listed}", channels_of(choice))
        rows.append(_layer_row(choice, graph.weighted.index(choice.name), listed))
    return [
        *lines,
        f"#define POLICY_LAYER_COUNT {len(rows)}u",
        *_table("policy_layer_t policy_layers", rows),
    ]


def _layer_row(choice: LayerChoice, layer: int, listed: str) -> str:
    flags = (choice.channel_axis == "in", choice.update_bias, choice.update_norm)
    numbers = [layer, *map(int, flags), choice.slice_count, choice.slices]
    return f"{{{_text(choice.name)}, {', '.join(map(str, numbers))}, {listed}}}"


def _adapters(document: PolicyDocument) -> list[str]:
    """Blocks and layers with an adapter, which trains wholly."""
    if not document.adapters:
        return []
    names = [_text(str(one)) for one in document.adapters]
    return [
        f"#define POLICY_ADAPTER_COUNT {len(names)}u",
        *_table("char *const policy_adapters", names),
        "",
    ]


def _arena(placed: MemoryMap, alignment_bytes: int) -> list[str]:
    rows = [_buffer_row(buffer, offset) for buffer, offset in placed.placed]
    return [
        f"#define ARENA_BYTES {placed.arena_bytes}u",
        f"#define ARENA_ALIGNMENT_BYTES {alignment_bytes}u",
        f"#define ARENA_STEP_COUNT {len(placed.step_labels)}u",
        f"#define ARENA_BUFFER_COUNT {len(rows)}u",
        *_table("arena_buffer_t arena_buffers", rows),
        *_table("char *const arena_steps", [_text(label) for label in placed.step_labels]),
    ]


def _buffer_row(buffer: Buffer, offset: int) -> str:
    numbers = (offset, buffer.size_bytes, buffer.birth, buffer.death - 1)
    return f"{{{_text(f'{buffer.label} ({buffer.form})')}, {', '.join(map(str, numbers))}}}"


def _table(name: str, rows: list[str]) -> list[str]:
    """An array; C99 has none without elements, so an empty one is left out."""
    if not rows:
        return []
    return [f"static const {name}[] = {{", *(f"    {row}," for row in rows), "};"]


def _array(name: str, numbers: tuple[int, ...]) -> list[str]:
    chunks = [numbers[at : at + PER_LINE] for at in range(0, len(numbers), PER_LINE)]
    return [f"{name}[] = {{", *(f"    {', '.join(map(str, chunk))}," for chunk in chunks), "};"]


def _text(text: str) -> str:
    """A C string; other characters than plain ones would need escapes C does not share."""
    return json.dumps(plain_text(text))
