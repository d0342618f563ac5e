"""What one backward pass tells about each channel of each layer, for one model and task.

F1 of TinyTrain (Kwon et al., ICML 2024): Fisher information of an output channel
is `1/(2N) * sum_n (sum_d a*g)^2`. Gradient sums are of the same pass: L1 and
squared L2 of the loss gradient over each slice of a layer's weight, along output
and along input channels. All are means over the episodes named in `meta`.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.accuracy.arrays import plain_arrays
from explorer.errors import MissingDataError, SpecError
from explorer.graph import ModelGraph
from explorer.paths import write_whole
from explorer.units import FloatArray, IntArray

MOST_BYTES = 1 << 28  # of all columns
CHANNEL_COLUMNS = (
    "fisher_out",  # F1 of each output channel
    "grad_l1_out",  # sum |dL/dW| over the weights of an output channel
    "grad_l1_in",  # ... over the weights of an input channel
    "grad_sq_out",  # sum (dL/dW)^2, output channel
    "grad_sq_in",  # ... input channel
    "grad_l1_bias",  # |dL/dbias| (or of the norm's offset), output channel
    "weight_sq_out",  # sum W^2, output channel
    "weight_sq_in",  # ... input channel
)


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Channel scores of one model on one task.

    `columns[name][l]` is an array over the channels of weighted layer l. `meta` says
    where it came from: model, digest, task, seed, episodes, ways, shots, versions.
    """

    layer_names: tuple[str, ...]
    columns: dict[str, tuple[FloatArray, ...]]
    meta: dict[str, object]

    def __post_init__(self) -> None:
        for name in CHANNEL_COLUMNS:
            if len(self.columns.get(name, ())) != len(self.layer_names):
                raise SpecError.of(f"score table column {name}", name, "one array for each layer")

    def layer_fisher(self) -> FloatArray:
        """Fisher potential of each layer [L]: the sum of its channels (F2)."""
        return np.array([channel.sum() for channel in self.columns["fisher_out"]])

    def layer_gradient(self) -> FloatArray:
        """L1 norm of the loss gradient of each layer's weight [L]."""
        return np.array([channel.sum() for channel in self.columns["grad_l1_out"]])

    def order(self, layer: int, selection: str, axis: str) -> IntArray:
        """Channels of a layer, best first, under a selection and an axis.

        Fisher is defined on output channels; along input channels the gradient stands in.
        """
        whole = len(self.columns[f"grad_l1_{axis}"][layer])
        if selection == "first":
            return np.arange(whole)
        if selection == "random":
            return np.random.default_rng(layer).permutation(whole)
        column = {
            "fisher": "fisher_out" if axis == "out" else "grad_l1_in",
            "gradient": f"grad_l1_{axis}",
            "magnitude": f"weight_sq_{axis}",
        }[selection]
        return np.argsort(-self.columns[column][layer], kind="stable")

    def save(self, path: Path) -> None:
        """Write an npz without pickles; the same table gives the same arrays."""
        arrays = {
            f"{column}/{name}": values.astype(np.float32)
            for column, layers in self.columns.items()
            for name, values in zip(self.layer_names, layers, strict=True)
        }
        meta = np.frombuffer(json.dumps(self.meta, sort_keys=True).encode(), dtype=np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, meta=meta, **arrays)
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path, graph: ModelGraph) -> "ScoreTable":
        """Read a table; MissingDataError when absent, SpecError when damaged or of another network.

        A column is finite and not negative, and has a value for each slice of a layer.
        """
        if not path.is_file():
            raise MissingDataError(f"no score table {path.name}; make it with `explorer fisher`")
        arrays = plain_arrays(path, ("meta", "COLUMN/LAYER"), MOST_BYTES)
        meta = _meta(arrays.get("meta", np.zeros(0)), path.name)
        if meta.get("digest") != graph.digest:
            raise SpecError.of(f"{path.name}: model digest", meta.get("digest"), graph.digest)
        columns = {
            column: tuple(
                _column(
                    arrays.get(f"{column}/{name}", np.zeros(0)),
                    graph.slice_count(graph[name], "in" if column.endswith("_in") else "out"),
                    f"{path.name}: {column}/{name}",
                )
                for name in graph.weighted
            )
            for column in CHANNEL_COLUMNS
        }
        return cls(graph.weighted, columns, meta)


def _meta(array: NDArray[Any], place: str) -> dict[str, object]:
    """Where a table came from, from the bytes of a JSON object."""
    try:
        if array.dtype != np.uint8:
            raise ValueError
        meta = json.loads(array.tobytes().decode())
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        raise SpecError(f"{place}: its meta cannot be read as a JSON object")
    return meta


def _column(array: NDArray[Any], count: int, place: str) -> FloatArray:
    if array.shape != (count,) or array.dtype.kind != "f":
        came = f"{array.dtype} of shape {array.shape}"
        raise SpecError.of(place, came, f"floats of shape ({count},)")
    column: FloatArray = array.astype(np.float64)
    if not (np.isfinite(column).all() and column.min() >= 0):
        raise SpecError(f"{place}: got a number that is negative or not finite")
    return column
