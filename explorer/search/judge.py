"""What a design is worth: measured, predicted from measured runs, or a proxy score.

Accuracy is measured or calibrated, else the score keeps its own name. Proxy scores
are shares of what full training would capture, so 1 is everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.accuracy.calibrate import Calibration, fit
from explorer.accuracy.proxy import proxy_scores
from explorer.accuracy.records import MeasuredRun
from explorer.accuracy.scores import ScoreTable
from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.report import CostReport
from explorer.design import DesignBatch, LayerAxes, TrainingSetup, UpdatePolicy
from explorer.device import load_device
from explorer.graph import ModelGraph
from explorer.provenance import Kind
from explorer.search.candidates import WORTH, Worth
from explorer.units import FloatArray

ANY_DEVICE = "gap9"
NULL_PROXY = "backward MACs"
PROXY_NAMES = {"gradient": "gradient norm", "fisher": "Fisher shares"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Judge:
    """Scores designs of one network on one task.

    Without a score table the null model stands in: backward MACs, which ranked about as
    well as any criterion in our pilot. A calibration, when there is one, leads.
    """

    table: ScoreTable | None
    calibration: Calibration | None
    criterion: str = "gradient"

    @property
    def name(self) -> str:
        """Name of the axis."""
        if self.calibration is not None:
            return WORTH
        proxy = NULL_PROXY if self.table is None else PROXY_NAMES[self.criterion]
        return f"proxy score: {proxy}"

    def worth(self, designs: DesignBatch, costs: CostReport) -> Worth:
        """Worth of each design [P], given its costs."""
        nan = np.full(len(designs), np.nan)
        if self.calibration is not None:
            value, low, high, measured = self.calibration.predict(
                designs, features(self.table, designs, costs)
            )
            kind = np.where(measured, Kind.MEASURED, Kind.MODELLED)
        else:
            value, low, high = self.proxy(designs, costs), nan, nan
            kind = np.full(len(designs), Kind.MODELLED)
        return Worth(
            name=self.name,
            is_accuracy=self.calibration is not None,
            value=value,
            low=low,
            high=high,
            kind=kind.astype(np.int64),
        )

    def proxy(self, designs: DesignBatch, costs: CostReport) -> FloatArray:
        """Proxy score [P] as a share of full training's."""
        if self.table is None:
            captured = costs.input_grad_macs + costs.weight_grad_macs
            whole = 2 * costs.forward_macs
        else:
            captured = proxy_scores(self.table, designs, self.criterion)
            whole = proxy_scores(self.table, _full(designs), self.criterion)
        share: FloatArray = captured / whole
        return share


def nothing(axes: LayerAxes) -> UpdatePolicy:
    """All layers frozen."""
    frozen = np.zeros(len(axes.names), dtype=bool)
    return UpdatePolicy.of("none", axes, slices=frozen * 1, update_bias=frozen)


def everything(axes: LayerAxes) -> UpdatePolicy:
    """All layers trained."""
    return UpdatePolicy.of("full", axes, slices=axes.out_channels, update_bias=axes.has_bias)


def calibrate_runs(
    graph: ModelGraph, runs: Sequence[MeasuredRun], table: ScoreTable | None
) -> Calibration:
    """A calibration from a ledger's runs; CalibrationError when they are too few.

    MACs and sizes do not depend on the device, so any profile serves.
    """
    axes = LayerAxes.of(graph)
    designs = DesignBatch.of(axes, [run.design.policy(graph) for run in runs], TrainingSetup())
    costs = evaluate(graph, load_device(ANY_DEVICE), designs)
    return fit(
        designs,
        features(table, designs, costs),
        np.array([run.accuracy for run in runs]),
        np.array([run.standard_error or 0.0 for run in runs]),
        [run.design.family for run in runs],
    )


def features(
    table: ScoreTable | None, designs: DesignBatch, costs: CostReport
) -> dict[str, FloatArray]:
    """Columns a calibration may use [P]; the null models are among them."""
    trains = (designs.slices > 0) | designs.update_bias | designs.update_norm
    layer_count = trains.shape[1]
    depth = np.where(trains.any(axis=1), layer_count - trains.argmax(axis=1), 0)
    columns: dict[str, FloatArray] = {
        "depth": depth / layer_count,
        "trained parameters": np.log1p(costs.trained_parameter_count),
        "backward MACs": (costs.input_grad_macs + costs.weight_grad_macs) / costs.forward_macs,
    }
    if table is not None:
        whole = _full(designs)
        for criterion, name in PROXY_NAMES.items():
            share = proxy_scores(table, designs, criterion) / proxy_scores(table, whole, criterion)
            columns[name] = np.sqrt(share)
    return columns


def _full(designs: DesignBatch) -> DesignBatch:
    return DesignBatch.of(designs.axes, [everything(designs.axes)], designs.setup)
