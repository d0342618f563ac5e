"""What a design is worth: measured, predicted from measured runs, or a proxy score.

Accuracy is measured or calibrated, else the score keeps its own name. Proxy scores
are shares of what full training would capture, so 1 is everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from explorer.accuracy.calibrate import Calibration, fit
from explorer.accuracy.metrics import ACCURACY, METRIC_NAMES
from explorer.accuracy.proxy import proxy_scores
from explorer.accuracy.ranking import BACKWARD_MACS, paired_gains, reliability
from explorer.accuracy.records import MeasuredRun
from explorer.accuracy.scores import ScoreTable
from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.report import CostReport
from explorer.design import DesignBatch, LayerAxes, TrainingSetup, everything
from explorer.device import load_device
from explorer.graph import ModelGraph
from explorer.low_rank import Adapter
from explorer.phases import Distillation
from explorer.provenance import Kind
from explorer.search.candidates import Worth
from explorer.units import BoolArray, FloatArray

DesignKey = tuple[bytes, bytes, bytes, bool, str, tuple[Adapter, ...], Distillation | None]
Figure = TypeVar("Figure")
ANY_DEVICE = "gap9"
NULL_PROXY = BACKWARD_MACS
PROXY_NAMES = {"gradient": "gradient norm", "fisher": "Fisher shares"}


class Known(NamedTuple, Generic[Figure]):
    """What a ledger knows of a design, or of several as columns [N], as shares; nan is unknown.

    `measured` is the metric asked for, `forgotten` what the source lost of its accuracy; errors
    are standard errors.
    """

    measured: Figure
    measured_error: Figure
    accuracy: Figure
    accuracy_error: Figure
    forgotten: Figure


UNKNOWN = Known(*[np.nan] * len(Known._fields))


@dataclass(frozen=True, eq=False, kw_only=True)
class Judge:
    """Scores designs of one network on one task.

    Without a score table the null model stands in: backward MACs, which ranked about as
    well as any criterion in our pilot. A calibration, when there is one, leads, and what was
    `measured`, by design, leads over that; that was of the network in its `norm`, and says
    nothing of others. None is for designs of one norm. A setup without a norm means `own_norm`,
    `norm` if absent. `metric` is a column of explorer.accuracy.metrics; the calibration
    predicts it.
    """

    table: ScoreTable | None
    calibration: Calibration | None
    measured: Mapping[DesignKey, Known[float]] = field(default_factory=dict)
    criterion: str = "gradient"
    norm: str | None = None
    own_norm: str | None = None
    metric: str = ACCURACY

    @property
    def name(self) -> str:
        """Name of the axis."""
        if self.calibration is not None:
            return METRIC_NAMES[self.metric]
        proxy = NULL_PROXY if self.table is None else PROXY_NAMES[self.criterion]
        return f"proxy score: {proxy}"

    def worth(self, designs: DesignBatch, costs: CostReport) -> Worth:
        """Worth of each design [P], given its costs."""
        usual = self.own_norm or self.norm
        found = known_columns(
            [
                self.measured.get(key, UNKNOWN)
                if self.norm is None or (setup.norm or usual) == self.norm
                else UNKNOWN
                for key, setup in zip(design_keys(designs), designs.row_setups, strict=True)
            ]
        )
        known = np.isfinite(found.measured) & (self.calibration is not None)
        if self.calibration is None:
            value, half_width = self.proxy(designs, costs), np.full(len(designs), np.nan)
        else:
            predicted = self.calibration.predict(features(self.table, designs, costs))
            value = np.clip(np.where(known, found.measured, predicted), 0, 1)
            half_width = np.where(known, 2 * found.measured_error, self.calibration.half_width)
        return Worth(
            name=self.name,
            is_merit=self.calibration is not None,
            value=value,
            low=np.maximum(value - half_width, 0),
            high=np.minimum(value + half_width, 1),
            kind=np.where(known, Kind.MEASURED, Kind.MODELLED).astype(np.int64),
            **found._asdict(),
            metric=self.metric,
        )

    def proxy(self, designs: DesignBatch, costs: CostReport) -> FloatArray:
        """Proxy score [P] as a share of full training's."""
        if self.table is None:
            captured = costs.input_grad_macs + costs.weight_grad_macs
            whole = 2 * costs.forward_macs
        else:
            captured = proxy_scores(self.table, designs, self.criterion)
            whole = proxy_scores(self.table, full_design(designs), self.criterion)
        share: FloatArray = captured / whole
        return share


def design_keys(designs: DesignBatch) -> list[DesignKey]:
    """What makes rows the same design; how channels are chosen counts where it can matter."""
    cut: BoolArray = (designs.slices > 0) & (designs.slices < designs.slice_counts)
    partial: list[bool] = np.any(cut, axis=1).tolist()
    return [
        (
            designs.slices[row].tobytes(),
            designs.update_bias[row].tobytes(),
            designs.update_norm[row].tobytes(),
            bool(designs.axis_in[row]) and partial[row],
            designs.selections[row] if partial[row] else "",
            designs.adapters[row],
            designs.distillations[row],
        )
        for row in range(len(designs))
    ]


def measured_designs(
    graph: ModelGraph, runs: Sequence[MeasuredRun], metric: str = ACCURACY
) -> dict[DesignKey, Known[float]]:
    """What a ledger knows of its designs; of several runs the longest with the metric counts."""
    if not runs:
        return {}
    runs = sorted(runs, key=lambda run: (run.figure(metric) is not None, run.episodes))
    designs = ledger_designs(graph, runs)
    return {key: known_of(run, metric) for key, run in zip(design_keys(designs), runs, strict=True)}


def known_of(run: MeasuredRun, metric: str) -> Known[float]:
    """What a run says of its design."""
    figure = run.figure(metric)
    return Known(
        measured=_or_nan(None if figure is None else figure.after),
        measured_error=_or_nan(None if figure is None else figure.standard_error),
        accuracy=run.accuracy,
        accuracy_error=_or_nan(run.standard_error),
        forgotten=_or_nan(run.forgotten_accuracy),
    )


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def known_columns(known: Sequence[Known[float]]) -> Known[FloatArray]:
    """What is known of N designs as columns [N]."""
    rows = np.array(known, dtype=np.float64).reshape(len(known), len(UNKNOWN))
    return Known(*rows.T)


def calibrate_runs(
    graph: ModelGraph,
    runs: Sequence[MeasuredRun],
    table: ScoreTable | None,
    metric: str = ACCURACY,
) -> Calibration:
    """A calibration from a ledger's runs; CalibrationError when they are too few.

    Only runs that have the metric count. MACs and sizes do not depend on the device, so any
    profile serves.
    """
    found = [(run, figure.after) for run in runs if (figure := run.figure(metric)) is not None]
    runs = [run for run, _ in found]
    designs = ledger_designs(graph, runs)
    costs = evaluate(graph, load_device(ANY_DEVICE), designs)
    return fit(
        features(table, designs, costs),
        np.array([value for _, value in found]),
        reliability(paired_gains(runs, metric)[1]),
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
        BACKWARD_MACS: (costs.input_grad_macs + costs.weight_grad_macs) / costs.forward_macs,
    }
    if table is not None:
        whole = full_design(designs)
        for criterion, name in PROXY_NAMES.items():
            share = proxy_scores(table, designs, criterion) / proxy_scores(table, whole, criterion)
            columns[name] = np.sqrt(share)
    return columns


def ledger_designs(graph: ModelGraph, runs: Sequence[MeasuredRun]) -> DesignBatch:
    """Designs of measured runs, in their order."""
    policies = [run.design.policy(graph) for run in runs]
    return DesignBatch.of(LayerAxes.of(graph), policies, TrainingSetup())


def full_design(designs: DesignBatch) -> DesignBatch:
    """Training everything, under the setup of `designs`."""
    return DesignBatch.of(designs.axes, [everything(designs.axes)], designs.setup)
