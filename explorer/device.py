"""Device profiles: a board's numbers, each with its source, read from TOML.

Kernel rates belong to a precision: MACs per cycle by kind of operator (over
`active_cores` cores), how backward compares with forward, streams, overhead
and power. A number that no `[[source]]` covers does not load.
"""

import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from explorer import catalog
from explorer.errors import SpecError, cut, shown
from explorer.provenance import Kind, Source
from explorer.toml_lines import line_of

LARGEST_BYTES = 1 << 50
# Ranges far wider than any board's, so that what follows from them stays finite.
Hertz = Annotated[float, Field(ge=1e3, le=1e12, allow_inf_nan=False, strict=True)]
PerCycle = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False, strict=True)]
Ratio = Annotated[float, Field(ge=1e-3, le=1e3, allow_inf_nan=False, strict=True)]
BytesPerSecond = Annotated[float, Field(ge=1, le=1e15, allow_inf_nan=False, strict=True)]
Watt = Annotated[float, Field(ge=1e-9, le=1e6, allow_inf_nan=False, strict=True)]
Cycles = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False, strict=True)]
JoulePerMac = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Spread = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, strict=True)]
Bytes = Annotated[int, Field(ge=1, le=LARGEST_BYTES, strict=True)]
Alignment = Annotated[int, Field(ge=1, le=1 << 20, strict=True)]
Cores = Annotated[int, Field(ge=1, le=1 << 16, strict=True)]
Name = Annotated[str, Field(min_length=1)]
Cite = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
PRECISIONS = ("fp32", "fp16", "int8")
Precision = Literal["fp32", "fp16", "int8"]
Quantity = Literal["inference time", "training time", "energy"]
Workspace = Literal["none", "tiny-engine"]
TINY_ENGINE = "tiny-engine"
M = TypeVar("M", bound=BaseModel)


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceBlock(_Document):
    """One origin and the numbers it covers, by dotted path or prefix."""

    kind: Literal["measured", "published", "modelled", "assumed"]
    cite: Cite
    fields: tuple[str, ...]
    plus_minus_ratio: Spread = 0.0

    @property
    def source(self) -> Source:
        """The same as a Source."""
        return Source(
            kind=Kind.of(self.kind), cite=self.cite, plus_minus_ratio=self.plus_minus_ratio
        )


class MemoryLevel(_Document):
    """A region: `data` holds activations and trained weights, `weights` the frozen ones.

    A device without a `weights` level keeps every weight in its `data` level. `inner` is a
    fast region for buffers with much traffic, counted in the size of the level it is
    `inside` of, if any. `overflow` takes what `data` does not hold, at `bytes_per_s` out
    or back, with `wait_power_w` meanwhile.
    """

    name: Name
    holds: Literal["data", "weights", "inner", "overflow"]
    size_bytes: Bytes
    usable_bytes: Bytes
    inside: Name | None = None
    bytes_per_s: BytesPerSecond | None = None
    wait_power_w: Watt | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "MemoryLevel":
        if self.usable_bytes > self.size_bytes:
            raise ValueError("usable_bytes is larger than size_bytes")
        overflows = self.holds == "overflow"
        if overflows != (self.bytes_per_s is not None) or overflows != bool(self.wait_power_w):
            raise ValueError("bytes_per_s and wait_power_w belong to holds = 'overflow', both")
        if self.inside is not None and self.holds != "inner":
            raise ValueError("inside belongs to holds = 'inner'")
        return self


class Kernels(_Document):
    """Sustained rates of one precision on one device.

    `*_grad_speed_ratio` is the speed of dX or dW per MAC relative to forward,
    `trainer_speed_ratio` that of training kernels relative to inference ones. A profile
    may give thin convolutions and wide depthwise ones (costmodel/ops.py says which) a rate
    of their own, and thin or depthwise layers one ratio of their own for both dX and dW.
    `thin_overhead_cycles` are those of each pass of a thin layer, forward, dX or dW, with what
    goes with it; without it that of any layer counts, slower in backward as its work is.
    `workspace` names the engine whose scratch the kernels need.
    """

    conv_macs_per_cycle: PerCycle
    pointwise_macs_per_cycle: PerCycle
    depthwise_macs_per_cycle: PerCycle
    linear_macs_per_cycle: PerCycle
    thin_macs_per_cycle: PerCycle | None = None
    wide_depthwise_macs_per_cycle: PerCycle | None = None
    elements_per_cycle: PerCycle
    input_grad_speed_ratio: Ratio
    weight_grad_speed_ratio: Ratio
    depthwise_grad_speed_ratio: Ratio | None = None
    thin_grad_speed_ratio: Ratio | None = None
    trainer_speed_ratio: Ratio = 1.0
    layer_overhead_cycles: Cycles
    thin_overhead_cycles: Cycles | None = None
    weight_bytes_per_s: BytesPerSecond
    activation_bytes_per_s: BytesPerSecond | None = None
    active_power_w: Watt
    energy_j_per_mac: JoulePerMac = 0.0
    workspace: Workspace = "none"


class DeviceProfile(_Document):
    """One board. `clock_hz` and `active_cores` are those the kernel rates refer to.

    `untested` names what no published measurement of the board can test in a precision.
    """

    name: Name
    summary: str
    core: str
    clock_hz: Hertz
    active_cores: Cores = 1
    default_precision: Precision
    alignment_bytes: Alignment = 16
    memory: tuple[MemoryLevel, ...]
    kernels: dict[Precision, Kernels]
    source: tuple[SourceBlock, ...]
    note: str = ""
    untested: dict[Precision, tuple[Quantity, ...]] = {}

    @model_validator(mode="after")
    def _complete(self) -> "DeviceProfile":
        if self.default_precision not in self.kernels:
            raise ValueError(f"kernels.{self.default_precision} is missing (default_precision)")
        for precision in self.untested:
            if precision not in self.kernels:
                raise ValueError(f"untested.{precision}: there is no kernels.{precision}")
        self._check_levels()
        self._check_sources()
        return self

    def _check_levels(self) -> None:
        """One level of a kind, of data always, and each under its own name."""
        kinds = [level.holds for level in self.memory]
        names = [level.name for level in self.memory]
        if "data" not in kinds:
            raise ValueError("memory: exactly one level with holds = 'data'")
        for level in self.memory:
            if kinds.count(level.holds) > 1:
                most = "exactly" if level.holds == "data" else "at most"
                raise ValueError(f"memory: {most} one level with holds = '{level.holds}'")
            if names.count(level.name) > 1:
                raise ValueError(f"memory: each name only once, not {level.name!r} twice")
            if level.inside not in (None, self.ram.name):
                raise ValueError(
                    f"memory.{level.name}.inside: got {level.inside!r}, allowed: "
                    f"{self.ram.name!r}, the level that holds data"
                )
            if level.inside and level.size_bytes > self.ram.size_bytes:
                raise ValueError(f"memory.{level.name}: larger than {level.inside} around it")

    def _check_sources(self) -> None:
        """Each number has a source, and each field of a source a number."""
        numbers = list(self.numbers())
        for path in numbers:
            if self.find_source(path) is None:
                raise ValueError(f"{path} has no source; name it in the fields of a [[source]]")
        for field in (field for block in self.source for field in block.fields):
            if not any(_covers(field, path) for path in numbers):
                raise ValueError(f"source: the field {field!r} covers no number")

    def __hash__(self) -> int:
        return hash((self.name, self.clock_hz, self.default_precision))

    @classmethod
    def from_toml(cls, text: str, origin: str = "device TOML") -> "DeviceProfile":
        """Parse and check; SpecError names line and field, what came and what is allowed."""
        return parse_toml(cls, text, origin, _place)

    def numbers(self) -> Iterator[str]:
        """Dotted paths of every number that was given."""
        return (path for path, _ in self.values())

    def values(self) -> Iterator[tuple[str, float]]:
        """The same, each with its value."""
        given = self.model_dump(exclude={"source"}, exclude_unset=True)
        yield from _numbers_in(given, "")

    def find_source(self, path: str) -> Source | None:
        """The source covering a number."""
        block = self.find_block(path)
        return block.source if block else None

    def find_block(self, path: str) -> SourceBlock | None:
        """The block covering a number: the longest matching path or prefix."""
        best: tuple[int, SourceBlock] | None = None
        for block in self.source:
            for field in block.fields:
                if _covers(field, path) and (best is None or len(field) > best[0]):
                    best = (len(field), block)
        return best[1] if best else None

    def level(self, holds: str) -> MemoryLevel | None:
        """The memory level that holds this, if there is one."""
        return next((level for level in self.memory if level.holds == holds), None)

    @property
    def ram(self) -> MemoryLevel:
        """The one level that holds data."""
        return next(level for level in self.memory if level.holds == "data")

    @property
    def fit_levels(self) -> tuple[MemoryLevel, ...]:
        """Levels a design must fit in; an inner or an overflow level refuses nothing."""
        return tuple(level for level in self.memory if level.holds in ("data", "weights"))

    def without_flash(self, reserve_bytes: int) -> "DeviceProfile":
        """The device with so much less usable where frozen weights stay, if they have a level."""
        weights = self.level("weights")
        if weights is None or not reserve_bytes:
            return self
        left = weights.model_copy(
            update={"usable_bytes": max(weights.usable_bytes - reserve_bytes, 0)}
        )
        levels = tuple(left if level is weights else level for level in self.memory)
        return self.model_copy(update={"memory": levels})

    @property
    def runs_from_flash(self) -> bool:
        """Whether frozen weights stay in a level of their own."""
        return self.level("weights") is not None

    def kernels_for(self, precision: str) -> Kernels:
        """Rates of a precision; SpecError lists those the device has."""
        for known, kernels in self.kernels.items():
            if known == precision:
                return kernels
        raise SpecError.of(f"precision on {self.name}", precision, ", ".join(self.kernels))


def load_device(name_or_path: str) -> DeviceProfile:
    """A profile from the catalogue by name, or from a path that ends in `.toml`."""
    if name_or_path.endswith(".toml"):
        return DeviceProfile.from_toml(read_text(Path(name_or_path)), origin=name_or_path)
    return DeviceProfile.from_toml(catalog.read("device", name_or_path), origin=name_or_path)


def parse_toml(
    kind: type[M],
    text: str,
    origin: str,
    place: Callable[[str, dict[str, Any]], Sequence[str | int]],
) -> M:
    """TOML text to a document; SpecError names line and field, what came and what is allowed.

    `place(sentence, document)` has the keys and indices of what a check of the whole is about.
    """
    try:
        return kind.model_validate(tomllib.loads(text))
    except ValidationError as error:
        problem = error.errors()[0]
        at: Sequence[str | int] = problem["loc"]
        if not at and problem["type"] == "value_error":
            at = place(problem["msg"].removeprefix("Value error, "), tomllib.loads(text))
        line = line_of(text, at)
        where = origin if line is None else f"{origin}, line {line}"
        raise SpecError(f"{where}: {first_problem(error)}") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{origin}: not TOML: {' '.join(str(error).split())}") from None


def read_text(path: Path) -> str:
    """The text of a file; SpecError in one sentence when it cannot be read."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not UTF-8 text") from None


def _place(sentence: str, document: dict[str, Any]) -> tuple[str | int, ...]:
    """Keys and indices of what a check of the whole profile is about.

    Its sentence names a number by its dotted path, a field of a source in quotes.
    """
    for index, block in enumerate(document.get("source", ())):
        if any(f"the field {field!r} " in sentence for field in block["fields"]):
            return ("source", index, "fields")
    named = sentence.partition(" has no source")[0].partition(":")[0].partition(" is missing")[0]
    levels = [level["name"] for level in document.get("memory", ())]
    for index, name in enumerate(levels):
        if named.startswith(f"memory.{name}"):
            return ("memory", index, named.removeprefix(f"memory.{name}.").partition(" ")[0])
    for index, name in enumerate(levels):
        if f"{name!r} twice" in sentence and name in levels[:index]:
            return ("memory", index)
    return tuple(named.split("."))


def first_problem(error: ValidationError) -> str:
    """One sentence for the first problem of a pydantic error: field, what came, why."""
    problem = error.errors()[0]
    where = cut(".".join(str(part) for part in problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{where}: {message}" if where else message
    if problem["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: got {shown(problem['input'])}: {message[0].lower()}{message[1:]}"


def _covers(field: str, path: str) -> bool:
    """Whether a field of a source is a number's path, or a prefix of it."""
    return path == field or path.startswith(f"{field}.")


def _numbers_in(value: object, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers_in(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            label = item["name"] if isinstance(item, dict) and "name" in item else "?"
            yield from _numbers_in(item, f"{path}.{label}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value
