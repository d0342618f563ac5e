"""A device profile as the TOML that people fill in: each field with its unit and its meaning."""

import re
from collections.abc import Iterable, Iterator, Sequence

from explorer.device import DeviceProfile, Kernels, MemoryLevel, SourceBlock, load_device
from explorer.errors import SpecError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
COPIED_SPREAD_RATIO = 0.5  # assumed: how far rates of another board may be off, at the least
QUANTITIES = ("inference time", "training time", "energy")
WIDE = 100  # characters of a line
MEGA = 1e6

BOARD_MEANINGS = {
    "name": "as answers show it",
    "summary": "one sentence: what is measured of this board, and what is not",
    "core": "the processor, such as Cortex-M7",
    "clock_hz": "Hz, at which the rates below hold",
    "active_cores": "cores that rates are multiplied by; 1 when they are of all cores together",
    "default_precision": "fp32, fp16 or int8: one of the kernels tables below",
    "alignment_bytes": "bytes that buffers start at multiples of",
    "note": "what a reader of an answer should know",
}
LEVEL_MEANINGS = {
    "name": "as answers show it",
    "holds": "data, weights (frozen ones), inner (fast, for busy buffers) or overflow",
    "size_bytes": "bytes of the part",
    "usable_bytes": "bytes left for tensors by runtime, stack and code",
    "inside": "name of the data level, when an inner one is counted in its size",
    "bytes_per_s": "bytes per second out or back; of overflow only",
    "wait_power_w": "W while waiting for it; of overflow only",
}
KERNEL_MEANINGS = {
    "conv_macs_per_cycle": "MACs a cycle and core: convolutions",
    "pointwise_macs_per_cycle": "MACs a cycle and core: 1x1 convolutions",
    "depthwise_macs_per_cycle": "MACs a cycle and core: depthwise convolutions",
    "linear_macs_per_cycle": "MACs a cycle and core: linear layers and matrix products",
    "thin_macs_per_cycle": "MACs a cycle and core: 1-d convolutions with few channels, if apart",
    "wide_depthwise_macs_per_cycle": "MACs a cycle and core: depthwise above 3x3, if apart",
    "elements_per_cycle": "elements a cycle and core: norms, masks, sums, updates",
    "input_grad_speed_ratio": "speed per MAC of gradients of activations against forward",
    "weight_grad_speed_ratio": "speed per MAC of gradients of weights against forward",
    "depthwise_grad_speed_ratio": "that of both gradients of depthwise layers, if apart",
    "thin_grad_speed_ratio": "that of both gradients of thin layers, if apart",
    "trainer_speed_ratio": "speed of the trainer's kernels against those of inference",
    "layer_overhead_cycles": "cycles of each call of a layer",
    "thin_overhead_cycles": "cycles of each pass of a thin layer, if apart",
    "weight_bytes_per_s": "bytes per second at which weights arrive",
    "activation_bytes_per_s": "bytes per second of activations, if they add to the time",
    "active_power_w": "W of the board while it computes",
    "energy_j_per_mac": "J of each MAC, on top of that power",
    "workspace": "scratch of the kernels: none or tiny-engine",
}
SOURCE_HELP = """\
# Where each number comes from: measured, published, modelled or assumed, and its spread,
# one standard deviation relative to the value. A number without a source does not load."""
UNTESTED_HELP = "# What no measurement of this board can test yet."


def new_profile(name: str, like: str) -> DeviceProfile:
    """A profile to fill: another's numbers, all of them assumed of this board."""
    _check_name(name)
    base = load_device(like)
    cite = f"copied from {base.name}; replace"
    return base.model_copy(
        update={
            "name": name,
            "summary": f"Every number of {name} is still copied from {base.name}.",
            "note": f"Copied from {base.name}: replace each number, then its source.",
            "untested": dict.fromkeys(base.kernels, QUANTITIES),
            "source": tuple(_copied(block, cite) for block in base.source),
        }
    )


def duplicate(name: str, like: str) -> DeviceProfile:
    """Another's numbers with their sources under a name of its own, to try other ones."""
    _check_name(name)
    base = load_device(like)
    summary = f"{base.name} with other numbers; those are assumed."
    return base.model_copy(update={"name": name, "summary": summary})


def changed_numbers(profile: DeviceProfile, base: DeviceProfile) -> dict[str, str]:
    """Numbers that are not the base's, by path, as `2e8, not 3.7e8`."""
    before = dict(base.values())
    return {
        path: f"{value:g}, not {before[path]:g}" if path in before else f"{value:g}, new"
        for path, value in profile.values()
        if before.get(path) != value
    }


def with_changes_assumed(profile: DeviceProfile, base: DeviceProfile) -> DeviceProfile:
    """The profile with each changed number assumed, unless someone gave it another source.

    Nothing of a precision with such a number counts as tested.
    """
    moved: dict[float, list[str]] = {}
    for path in changed_numbers(profile, base):
        block, known = profile.find_block(path), base.find_block(path)
        if block is not None and known is not None and block.source == known.source:
            least = COPIED_SPREAD_RATIO if path.startswith("kernels") else 0.0
            moved.setdefault(max(block.plus_minus_ratio, least), []).append(path)
    paths = {path for group in moved.values() for path in group}
    cite = f"changed by hand from {base.name}; replace"
    made = [
        SourceBlock(kind="assumed", cite=cite, fields=tuple(group), plus_minus_ratio=spread)
        for spread, group in moved.items()
    ]
    general = any(not path.startswith(("kernels.", "memory.")) for path in paths)
    touched = {
        one: QUANTITIES
        for one in profile.kernels
        if general or any(path.startswith(f"kernels.{one}.") for path in paths)
    }
    source = (*kept_sources(profile, paths), *made)
    return profile.model_copy(
        update={"source": source, "untested": dict(profile.untested) | touched}
    )


def kept_sources(base: DeviceProfile, without: set[str]) -> list[SourceBlock]:
    """The sources of all numbers but some; as they are where there are none of those."""
    if not without:
        return list(base.source)
    owners = {path: base.find_block(path) for path in base.numbers() if path not in without}
    kept = []
    for block in base.source:
        fields = tuple(path for path, owner in owners.items() if owner is block)
        if fields:
            kept.append(block.model_copy(update={"fields": fields}))
    return kept


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise SpecError.of("name", name, "letters, digits, '.', '_' and '-'")


def _copied(block: SourceBlock, cite: str) -> SourceBlock:
    of_kernels = any(field.startswith("kernels") for field in block.fields)
    least = COPIED_SPREAD_RATIO if of_kernels else 0.0
    spread = max(block.plus_minus_ratio, least)
    return SourceBlock(
        kind="assumed", cite=cite, fields=block.fields, plus_minus_ratio=round(spread, 4)
    )


def profile_toml(profile: DeviceProfile) -> str:
    """The document of a profile; fields it leaves out stand as comments."""
    parts = [
        "\n".join(_table(profile, BOARD_MEANINGS, DeviceProfile)),
        *("\n".join(["[[memory]]", *_level(level)]) for level in profile.memory),
        *(
            "\n".join([f"[kernels.{precision}]", *_table(kernels, KERNEL_MEANINGS, Kernels)])
            for precision, kernels in profile.kernels.items()
        ),
    ]
    if profile.untested:
        rows = (f"{name} = {_list(words)}" for name, words in profile.untested.items())
        parts.append("\n".join([UNTESTED_HELP, "[untested]", *rows]))
    parts += [SOURCE_HELP, *("\n".join(_source(block)) for block in profile.source)]
    return "\n\n".join(parts) + "\n"


def _level(level: MemoryLevel) -> Iterator[str]:
    return _table(level, LEVEL_MEANINGS, MemoryLevel)


def _table(
    given: DeviceProfile | MemoryLevel | Kernels,
    meanings: dict[str, str],
    model: type[DeviceProfile | MemoryLevel | Kernels],
) -> Iterator[str]:
    """A line for each field in the order of the class, with its meaning behind or above it."""
    for name in (name for name in model.model_fields if name in meanings):
        value = getattr(given, name)
        left_out = value is None or name not in given.model_fields_set
        shown = f"# {name} =" if left_out else f"{name} = {_value(value)}"
        line = f"{shown} # {meanings[name]}"
        yield line if len(line) <= WIDE else f"# {meanings[name]}\n{shown}"


def _source(block: SourceBlock) -> Iterator[str]:
    yield "[[source]]"
    yield f"kind = {_value(block.kind)}"
    yield f"cite = {_value(block.cite)}"
    yield f"fields = {_list(block.fields)}"
    if "plus_minus_ratio" in block.model_fields_set:
        yield f"plus_minus_ratio = {_value(block.plus_minus_ratio)}"


def _list(words: Sequence[str]) -> str:
    flat = f"[{', '.join(_quoted(words))}]"
    if len(flat) <= WIDE - len("fields = "):
        return flat
    return "\n".join(["[", *(f"    {word}," for word in _quoted(words)), "]"])


def _quoted(words: Iterable[str]) -> Iterator[str]:
    return (_value(word) for word in words)


def _value(value: str | float) -> str:
    """A TOML value that reads back as the same."""
    if isinstance(value, str):
        return f'"{"".join(_character(one) for one in value)}"'
    if isinstance(value, int):
        return f"{value:_}"
    in_millions = f"{value / MEGA!r}e6".replace(".0e6", "e6")
    if value >= MEGA and float(in_millions) == value:
        return in_millions
    return repr(value)


def _character(one: str) -> str:
    if one in '"\\':
        return f"\\{one}"
    if "\ud800" <= one <= "\udfff":
        return "?"
    return f"\\u{ord(one):04x}" if ord(one) < 32 or ord(one) == 127 else one
