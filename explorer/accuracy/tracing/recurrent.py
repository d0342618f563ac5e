"""Exported GRU and LSTM layers; handlers as in layers.py.

What torch gives beside the states of every position, those at the end, is a part of them: the
last position of the last layer, the first one of the direction that runs backwards.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from explorer.accuracy.tracing.step import Step, Traced, Weight, is_own, stem
from explorer.layer import RECURRENT_GATES


@dataclass(frozen=True, eq=False, slots=True)
class LastStates:
    """States at the end of every layer and direction, made where something reads them.

    `value` is torch's (layers times directions, N, hidden).
    """

    step: Step
    made: Traced
    value: Tensor
    direction_count: int

    def read_by(self, node: fx.Node) -> "Traced | dict[Any, Any] | None":
        """As one tensor, or by row where only rows are read; None where a layer inside is."""
        rows = len(self.value)
        wanted: list[Any] = [user.args[2] for user in node.users if _picks_row(user)]
        if len(wanted) < len(node.users):
            return self._whole() if rows == self.direction_count else None
        if any(row % rows < rows - self.direction_count for row in wanted):
            return None
        return {row: self._one(row % rows) for row in wanted}

    def _at_end(self, direction: int) -> Traced | None:
        """(1, N, hidden): the end of one direction of the last layer."""
        length = self.step.shape(self.made)[0]
        hidden = self.value.shape[-1]
        first = 0 if direction else length - 1
        row = len(self.value) - self.direction_count + direction
        value = self.value[row : row + 1]
        whole = value.repeat(1, 1, self.direction_count)
        rest: dict[str, Any] = {"place": (1, 1), "axis": 0, "args": (first, first + 1, 1)}
        made = self.step.layer("slice", [self.made], whole, **rest)
        if made is None or self.direction_count == 1:
            return made
        rest |= {"axis": 1, "args": (direction * hidden, (direction + 1) * hidden, 1)}
        return self.step.layer("slice", [made], value, **rest)

    def _one(self, row: int) -> Traced | None:
        made = self._at_end(row % self.direction_count)
        return made and self.step.layer("reshape", [made], self.value[row])

    def _whole(self) -> Traced | None:
        ends = [self._at_end(direction) for direction in range(self.direction_count)]
        if len(ends) == 1:
            return ends[0]
        return self.step.layer("concat", ends, self.value, place=(1, 1))


def _picks_row(user: fx.Node) -> bool:
    """Whether a reader of last states picks one layer and direction."""
    return user.target is torch.ops.aten.select.int and bool(user.args[1] == 0)


def _recurrent(
    step: Step, x: Traced, start: Any, params: list[Weight], biases: bool, depth: int, *rest: Any
) -> Any:
    _dropout, _train, both, first = rest
    value, directions = step.value, 1 + bool(both)
    if x.batch_axis != 1 - first or not is_own(*params) or len(step.shape(x)) != 2:
        return None
    starts = start if isinstance(start, list | tuple) else [start]
    if any(not isinstance(one, Tensor) or one.any() for one in starts):
        return None
    hidden = params[0].value.shape[0] // RECURRENT_GATES[step.op]
    if value[0].shape[-1] != hidden * directions:
        return None
    name = step.weighted(params[0], stem(params[0]))
    for weight in params:
        part = weight.path.rpartition(".")[2]
        step.keep(name, **{f"cells.{part}": weight})
    args = (hidden, depth, directions, int(biases))
    made = step.layer(step.op, [x], value[0], name=name, place=x.place, axis=1, args=args)
    return made and [made, LastStates(step, made, value[1], directions)]


HANDLERS: dict[str, Callable[..., Any]] = dict.fromkeys(RECURRENT_GATES, _recurrent)
