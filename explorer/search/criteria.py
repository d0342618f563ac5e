"""Every criterion that might order designs, judged on a ledger of measured ones.

Combinations were fixed before their correlations were looked at; none has a fitted
weight. What is chosen or fitted is chosen or fitted on the other ledgers and judged on
the one left out, so the best of many tries cannot pass for a finding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.accuracy.metrics import ACCURACY, METRIC_NAMES, METRICS
from explorer.accuracy.protocols import LessonProtocol
from explorer.accuracy.proxy import layer_captures, proxy_scores
from explorer.accuracy.ranking import Ranking, kendall_tau, paired_gains, rank
from explorer.accuracy.records import MeasuredRun
from explorer.accuracy.scores import ScoreTable
from explorer.accuracy.tasks import task_metrics
from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.tables import layer_table
from explorer.design import DesignBatch
from explorer.device import load_device
from explorer.family import f3_divisor
from explorer.graph import ModelGraph
from explorer.search.judge import ANY_DEVICE, design_keys, features, full_design, ledger_designs
from explorer.units import FloatArray, IntArray

COMBINATIONS: Mapping[str, tuple[str, ...]] = {
    "Fisher shares + parameters": ("Fisher shares", "trained parameters"),
    "depth + parameters": ("depth", "trained parameters"),
    "depth + gradient norm": ("depth", "gradient norm"),
    "gradient norm + MACs + parameters": ("gradient norm", "backward MACs", "trained parameters"),
}
REFORMED = ("root of layer gradients", "gradient by kernel kind", "gradient shares")
TRIED = (*COMBINATIONS, *REFORMED)
FITTED_ON = ("depth", "trained parameters", "backward MACs", "gradient norm", "Fisher shares")
RIDGE_STRENGTH = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Study:
    """Criteria of P measured designs beside what they gained, a share [P] of `metric`.

    `gain_error` is the standard error of the gain over episodes; `measured_with` says under
    which protocol. `designs` are different ones that train something and have no adapters.
    """

    model: str
    task: str
    metric: str
    measured_with: str
    designs: DesignBatch
    criteria: Mapping[str, FloatArray]
    combinations: Mapping[str, FloatArray]
    gain: FloatArray
    gain_error: FloatArray
    ranking: Ranking

    @property
    def name(self) -> str:
        """Network, task, metric where it is not accuracy, and protocol."""
        of = "" if self.metric == ACCURACY else f"{METRIC_NAMES[self.metric]}, "
        return f"{self.model} on {self.task}, {of}{self.measured_with}"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Unseen:
    """One ledger judged by what the others say.

    `chosen` is the combination with the best mean tau on the others; `fitted_tau` is of a
    ridge regression of the rank of the gain on ranks, fitted on the others.
    """

    study: Study
    chosen: str
    chosen_tau: float
    fitted_tau: float


def study(graph: ModelGraph, runs: Sequence[MeasuredRun], table: ScoreTable | None) -> Study:
    """Judge criteria on comparable runs of a network; none of them is fine, too.

    Gains are of the metric that ranks runs on their task.
    """
    metric = METRICS[task_metrics(runs[0].task if runs else "")[0]]
    paired, gains = paired_gains(runs, metric)
    designs = ledger_designs(graph, paired)
    rows = _different(designs)
    full = design_keys(full_design(designs))[0]
    is_full = np.array([key == full for key in design_keys(designs)], dtype=bool)
    fulls = [run.figure(metric) for run, flag in zip(paired, is_full, strict=True) if flag]
    full_gains = np.array([figure.gains for figure in fulls[:1] if figure is not None])
    full_gains = full_gains[np.isfinite(full_gains)]
    designs, gains = designs.take(rows), gains[rows]
    kept = [paired[row] for row in rows]
    criteria = _criteria(graph, table, designs, kept)
    combinations = _combinations(graph, table, designs, criteria)
    return Study(
        model=form_of(graph, runs),
        task=runs[0].task if runs else "",
        metric=metric,
        measured_with=runs[0].protocol.words if runs else "not measured",
        designs=designs,
        criteria=criteria,
        combinations=combinations,
        gain=gains.sum(axis=1) / max(gains.shape[1], 1),
        gain_error=_standard_error(gains),
        ranking=rank({**criteria, **combinations}, gains, full_gains),
    )


def leave_one_out(studies: Sequence[Study]) -> list[Unseen]:
    """Each usable study judged by the others; empty with fewer than two."""
    usable = [one for one in studies if one.combinations and not one.ranking.reason_against]
    if len(usable) < 2:
        return []
    return [_unseen(one, [other for other in usable if other is not one]) for one in usable]


def _unseen(left_out: Study, others: Sequence[Study]) -> Unseen:
    means = [np.mean([other.ranking.taus[name].value for other in others]) for name in TRIED]
    chosen = TRIED[int(np.argmax(means))]
    columns = np.vstack([_ranked(other.criteria) for other in others])
    gained = np.concatenate([_rank_share(other.gain) for other in others])
    weights = np.linalg.solve(
        columns.T @ columns + RIDGE_STRENGTH * np.eye(columns.shape[1]), columns.T @ gained
    )
    return Unseen(
        study=left_out,
        chosen=chosen,
        chosen_tau=left_out.ranking.taus[chosen].value,
        fitted_tau=kendall_tau(_ranked(left_out.criteria) @ weights, left_out.gain),
    )


def _different(designs: DesignBatch) -> IntArray:
    """The first row of each design that trains something and has no adapters."""
    first: dict[object, int] = {}
    for row, key in enumerate(design_keys(designs)):
        if designs.trains[row] and not designs.adapters[row]:
            first.setdefault(key, row)
    return np.array(list(first.values()), dtype=np.int64)


def _criteria(
    graph: ModelGraph,
    table: ScoreTable | None,
    designs: DesignBatch,
    runs: Sequence[MeasuredRun],
) -> dict[str, FloatArray]:
    """What was known before the paired episodes, by name [P]; higher should be better."""
    costs = evaluate(graph, load_device(ANY_DEVICE), designs)
    columns = features(table, designs, costs)
    if table is not None:
        layers = layer_table(graph)
        divisor = f3_divisor(layers.weight_count, layers.forward_macs)
        fisher = layer_captures(table, designs, "fisher-sum")
        columns |= {
            "gradient L2 norm": proxy_scores(table, designs, "gradient-l2"),
            "Fisher sum": fisher.sum(axis=1),
            "F3-weighted sum": fisher @ (1 / divisor),
        }
    columns["learning rate, low first"] = -np.array([run.learning_rate for run in runs])
    columns["tuning episodes"] = np.array(
        [max(run.tuning.accuracies, default=np.nan) for run in runs]
    )
    return columns


def _combinations(
    graph: ModelGraph,
    table: ScoreTable | None,
    designs: DesignBatch,
    criteria: Mapping[str, FloatArray],
) -> dict[str, FloatArray]:
    """The combinations, by name [P]; none without a score table."""
    if table is None:
        return {}
    full = full_design(designs)
    whole = features(table, full, evaluate(graph, load_device(ANY_DEVICE), full))
    shares = {name: criteria[name] / column[0] for name, column in whole.items()}
    columns = {
        name: np.sum([shares[part] for part in parts], axis=0)
        for name, parts in COMBINATIONS.items()
    }
    gradient = layer_captures(table, designs, "gradient")
    most = layer_captures(table, full, "gradient")[0]
    kinds = np.array(layer_table(graph).kind)
    by_kind = [
        gradient[:, kinds == kind].sum(axis=1) / most[kinds == kind].sum()
        for kind in np.unique(kinds)
    ]
    reformed = (
        np.sqrt(gradient).sum(axis=1),
        np.sum(by_kind, axis=0),
        (gradient / most).sum(axis=1),
    )
    return columns | dict(zip(REFORMED, reformed, strict=True))


def _ranked(criteria: Mapping[str, FloatArray]) -> FloatArray:
    return np.stack([_rank_share(criteria[name]) for name in FITTED_ON], axis=1)


def _rank_share(column: FloatArray) -> FloatArray:
    """Mean rank of each value [P], centred, from -0.5 to 0.5."""
    from scipy.stats import rankdata

    ranks: FloatArray = (rankdata(column) - 0.5) / len(column) - 0.5
    return ranks


def _standard_error(gains: FloatArray) -> FloatArray:
    episodes = gains.shape[1]
    if episodes < 2:
        return np.full(len(gains), np.nan)
    error: FloatArray = gains.std(axis=1, ddof=1) / episodes**0.5
    return error


def form_of(graph: ModelGraph, runs: Sequence[MeasuredRun]) -> str:
    """A network with its input's size; for signals with its norm, or without one its size."""
    if runs and isinstance(runs[0].protocol, LessonProtocol):
        form = graph.norm if graph.norm != "none" else f"{graph.parameter_count:,} parameters"
        return f"{graph.name} ({form})"
    return f"{graph.name} at {graph.input_shape[-1]} px"
