"""One exported operator, what it reads and the layer it becomes.

Views make no memory: whether an operator copies is told by the memory of what it returned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

from explorer.graph import LayerSpec

EPSILON = 1e-5
FIRST = (0, 1)

Place = tuple[int, int]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Traced:
    """A tensor that depends on the input: the layer it comes from, and its value.

    `batch_axis` is where torch has the samples. It may hold rows of a sample, too: behind each
    sample, as when heads become samples, and `lead` of them before all samples.
    """

    name: str
    value: Tensor
    batch_axis: int = 0
    lead: int = 1

    @property
    def place(self) -> Place:
        """Where the samples are: `batch_axis` and `lead`."""
        return self.batch_axis, self.lead


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Weight:
    """A parameter, or a view of one: `whole` is the parameter itself.

    `index_count` indices of its rows were computed on the way, which torch then keeps.
    """

    path: str
    value: Tensor
    whole: Tensor
    index_count: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """One exported operator: where it is, and what it returned."""

    walk: Any
    op: str
    path: str
    value: Any
    samples: int = 2

    def shape(self, value: Traced | Tensor, place: Place = FIRST) -> tuple[int, ...]:
        """Shape of one sample; rows merged into the batch axis stay where that is."""
        tensor = value.value if isinstance(value, Traced) else value
        axis, lead = value.place if isinstance(value, Traced) else place
        rows, rest = divmod(tensor.shape[axis], self.samples * lead)
        if rest:
            return ()
        own = tuple(count for count in (lead, rows) if count > 1)
        return (*tensor.shape[:axis], *own, *tensor.shape[axis + 1 :]) or (1,)

    def merged(self, value: Traced) -> bool:
        """Whether the batch axis also holds rows of a sample."""
        return value.value.shape[value.batch_axis] != self.samples

    def sample_axis(self, value: Traced, axis: int) -> int:
        """An axis of torch as one of the sample; -1 for the batch."""
        axis = axis % value.value.ndim
        before, behind = (
            value.lead > 1,
            value.value.shape[value.batch_axis] > (self.samples * value.lead),
        )
        if axis == value.batch_axis:
            return axis if behind and not before else -1
        return axis if axis < value.batch_axis else axis - 1 + before + behind

    def viewed(self, source: Traced, value: Tensor) -> Place | None:
        """Where the samples are in a view: as many elements lie before them as did."""
        before = prod(source.value.shape[: source.batch_axis]) * source.lead
        ahead = 1
        for axis, size in enumerate(value.shape):
            if before % ahead == 0 and size % (before // ahead * self.samples) == 0:
                return axis, before // ahead
            ahead *= size
        return None

    def layer(
        self,
        op: str,
        inputs: Sequence[Any],
        value: Tensor,
        *,
        name: str = "",
        shape: tuple[int, ...] | None = None,
        place: Place = FIRST,
        **rest: Any,
    ) -> Traced | None:
        """Add a layer; its inputs may be weights and constants too."""
        sample = self.shape(value, place) if shape is None else shape
        if not sample:
            return None
        names = tuple(self._source(one, place[0]) for one in inputs)
        name = name or self.walk.free_name(self.path, op)
        spec = LayerSpec(
            name=name,
            op=op,
            out_shape=sample,
            inputs=() if names == ("input",) else names,
            **rest,
        )
        return Traced(name=self.walk.append(spec), value=value, batch_axis=place[0], lead=place[1])

    def _source(self, one: Any, batch_axis: int) -> str:
        if isinstance(one, Traced):
            return one.name
        if isinstance(one, Weight):
            return self.parameter(one, _one_sample(self, one.value, batch_axis))
        return constant(self, _one_sample(self, one, batch_axis))

    def parameter(self, weight: Weight, value: Tensor) -> str:
        """A layer that is a weight's values, one sample of them."""
        key = f"{weight.path} {tuple(value.shape)} {value.storage_offset()}"
        if key in self.walk.sources:
            return str(self.walk.sources[key])
        args: tuple[int, ...] = (weight.whole.numel(), weight.index_count)
        if not weight.index_count:
            args = () if value.numel() == args[0] else args[:1]
        name = self.weighted(weight, weight.path)
        self.walk.sources[key] = self.walk.append(
            LayerSpec(name=name, op="parameter", out_shape=tuple(value.shape), args=args)
        )
        self.walk.state[f"{name}.weight"] = value
        return name

    def source(self, weight: Weight, value: Tensor) -> Traced:
        """A weight's values as a tensor of one sample, which several operators may read."""
        return Traced(name=self.parameter(weight, value), value=value[None])

    def rows(self, weight: Weight) -> Traced | None:
        """A weight, or neighbouring rows of it as a slice; None of any other view."""
        whole, value = weight.whole, weight.value
        if value is whole:
            return self.source(weight, whole)
        ahead = int(value.storage_offset()) - int(whole.storage_offset())
        start, rest = divmod(ahead, whole.stride(0))
        if rest or (value.shape[1:], value.stride()) != (whole.shape[1:], whole.stride()):
            return None
        part, ends = tuple(value.shape), (start, start + len(value), 1)
        return self.layer("slice", [self.source(weight, whole)], value[None], shape=part, args=ends)

    def weighted(self, weight: Weight, name: str) -> str:
        """The name of a layer with a weight; a weight used twice has no counterpart."""
        if weight.path in self.walk.weighted_by:
            first = self.walk.weighted_by[weight.path]
            self.walk.lacks(f"a second use of {weight.path} (as in {first})", self.path)
            return str(self.walk.free_name(self.path, "again"))
        name = name or str(self.walk.free_name(self.path, self.op))
        self.walk.weighted_by[weight.path] = name
        self.walk.used.append((weight.path,))
        return name

    def keep(self, name: str, **tensors: Weight | Tensor | None) -> None:
        """Values of a layer's parameters and buffers."""
        for part, tensor in tensors.items():
            if isinstance(tensor, Weight):
                self.walk.used.append((tensor.path,))
            if tensor is not None:
                value = tensor.value if isinstance(tensor, Weight) else tensor
                self.walk.state[f"{name}.{part}"] = value

    def view(self, source: Traced, value: Tensor) -> Traced | None:
        """A reshape, behind a copy where torch makes one."""
        place = self.viewed(source, value)
        if place is None:
            return None
        return self.layer("reshape", [self.copied(source, value)], value, place=place)

    def copied(self, source: Traced, value: Tensor) -> Traced:
        """The tensor itself, or a copy of it where `value` has memory of its own."""
        if same_memory(source.value, value):
            return source
        made = self.layer("copy", [source], source.value, place=source.place)
        return source if made is None else made


def same_memory(one: Tensor, other: Tensor) -> bool:
    """Whether one tensor is a view of the other, or both of a third."""
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _one_sample(step: Step, value: Tensor, batch_axis: int) -> Tensor:
    """Values beside a batch as those of one sample, without the batch's own axis."""
    result = step.value[0] if isinstance(step.value, list | tuple) else step.value
    if batch_axis:
        from_last = batch_axis - result.ndim
        alike = value.ndim >= -from_last and value.shape[from_last] == 1
        return value.squeeze(from_last) if alike else value
    if value.ndim < result.ndim:
        return value
    if len(value) in (1, step.samples):
        return value[0]
    return value[: len(value) // step.samples] if len(value) == len(result) else value


def constant(step: Step, value: Tensor) -> str:
    """A layer of fixed values."""
    value = value.reshape(1) if value.ndim == 0 else value
    name = step.walk.free_name(step.path, "constant")
    step.walk.append(LayerSpec(name=name, op="constant", out_shape=tuple(value.shape)))
    step.walk.state[f"{name}.values"] = value
    return str(name)


def stem(weight: Weight) -> str:
    """The path of the module that owns a weight."""
    return weight.path.rpartition(".")[0]


def is_own(*weights: Any) -> bool:
    """Whether these are whole parameters, or none."""
    return all(
        one is None or (isinstance(one, Weight) and one.value is one.whole) for one in weights
    )


def pair(value: Any) -> tuple[int, int] | None:
    """A number for rows and one for columns, of one or two; None for more."""
    numbers = [value] if isinstance(value, int) else list(value)
    return (numbers[0], numbers[-1]) if len(numbers) <= 2 else None
