"""Device profiles: a board's numbers, each with its source, read from TOML.

Kernel rates belong to a precision: MACs per cycle by kind of operator (over
`active_cores` cores), how backward compares with forward, streams, overhead
and power. A number that no `[[source]]` covers does not load.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from explorer import catalog
from explorer.errors import SpecError
from explorer.provenance import Kind, Source

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Name = Annotated[str, Field(min_length=1)]
PRECISIONS = ("fp32", "fp16", "int8")
Precision = Literal["fp32", "fp16", "int8"]
Quantity = Literal["inference time", "training time", "energy"]
Workspace = Literal["none", "tiny-engine"]
TINY_ENGINE = "tiny-engine"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceBlock(_Document):
    """One origin and the numbers it covers, by dotted path or prefix."""

    kind: Literal["measured", "published", "modelled", "assumed"]
    cite: str
    fields: tuple[str, ...]
    plus_minus_ratio: NotNegative = 0.0

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
    size_bytes: PositiveInt
    usable_bytes: PositiveInt
    inside: Name | None = None
    bytes_per_s: Positive | None = None
    wait_power_w: Positive | None = None

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
    `workspace` names the engine whose scratch the kernels need.
    """

    conv_macs_per_cycle: Positive
    pointwise_macs_per_cycle: Positive
    depthwise_macs_per_cycle: Positive
    linear_macs_per_cycle: Positive
    thin_macs_per_cycle: Positive | None = None
    wide_depthwise_macs_per_cycle: Positive | None = None
    elements_per_cycle: Positive
    input_grad_speed_ratio: Positive
    weight_grad_speed_ratio: Positive
    depthwise_grad_speed_ratio: Positive | None = None
    thin_grad_speed_ratio: Positive | None = None
    trainer_speed_ratio: Positive = 1.0
    layer_overhead_cycles: NotNegative
    weight_bytes_per_s: Positive
    activation_bytes_per_s: Positive | None = None
    active_power_w: Positive
    energy_j_per_mac: NotNegative = 0.0
    workspace: Workspace = "none"


class DeviceProfile(_Document):
    """One board. `clock_hz` and `active_cores` are those the kernel rates refer to.

    `untested` names what no published measurement of the board can test in a precision.
    """

    name: Name
    summary: str
    core: str
    clock_hz: Positive
    active_cores: PositiveInt = 1
    default_precision: Precision
    alignment_bytes: PositiveInt = 16
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
        if sum(level.holds == "data" for level in self.memory) != 1:
            raise ValueError("memory: exactly one level with holds = 'data'")
        for level in self.memory:
            around = next((outer for outer in self.memory if outer.name == level.inside), None)
            if level.inside and (around is None or around.size_bytes < level.size_bytes):
                raise ValueError(f"memory.{level.name}: no larger level {level.inside} around it")
        bare = [path for path in self.numbers() if self.find_source(path) is None]
        if bare:
            raise ValueError(f"{bare[0]} has no source; name it in the fields of a [[source]]")
        return self

    def __hash__(self) -> int:
        return hash((self.name, self.clock_hz, self.default_precision))

    @classmethod
    def from_toml(cls, text: str, origin: str = "device TOML") -> "DeviceProfile":
        """Parse and check; SpecError names the field, what came and what is allowed."""
        try:
            return cls.model_validate(tomllib.loads(text))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise SpecError(f"{origin}: not TOML: {error}") from None
        except ValidationError as error:
            raise SpecError(f"{origin}: {first_problem(error)}") from None

    def numbers(self) -> Iterator[str]:
        """Dotted paths of every number that was given."""
        given = self.model_dump(exclude={"source"}, exclude_unset=True)
        yield from _numeric_paths(given, "")

    def find_source(self, path: str) -> Source | None:
        """The source covering a number."""
        block = self.find_block(path)
        return block.source if block else None

    def find_block(self, path: str) -> SourceBlock | None:
        """The block covering a number: the longest matching path or prefix."""
        best: tuple[int, SourceBlock] | None = None
        for block in self.source:
            for field in block.fields:
                covers = path == field or path.startswith(f"{field}.")
                if covers and (best is None or len(field) > best[0]):
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


def read_text(path: Path) -> str:
    """The text of a file; SpecError in one sentence when it cannot be read."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not UTF-8 text") from None


def first_problem(error: ValidationError) -> str:
    """One sentence for the first problem of a pydantic error: field, what came, why."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{where}: {message}" if where else message
    came = repr(problem["input"])
    came = came if len(came) <= 60 else f"{came[:57]}..."
    return f"{where}: got {came}: {message[0].lower()}{message[1:]}"


def _numeric_paths(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _numeric_paths(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            label = item["name"] if isinstance(item, dict) and "name" in item else "?"
            yield from _numeric_paths(item, f"{path}.{label}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path
