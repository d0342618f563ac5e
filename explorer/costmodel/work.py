"""How often a pass of each design runs what: the one place MACs and time are counted from.

A design that looks ahead (design.Distillation) does the work of two: its own, and that of
everything it freezes. The network then runs forward for the look-ahead, for the soft labels
and for itself, or once less where the first and the last are one. What is made once a
micro-batch counts once, also where the look-ahead changes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from explorer.costmodel.lifetimes import LifeTable, feature_values, run_again, trained_counts
from explorer.costmodel.tables import LayerTable
from explorer.design import DesignBatch, TrainingSetup
from explorer.units import BoolArray, FloatArray, IntArray

FORWARDS_AHEAD = 2  # the look-ahead's own, and that of its answers

Terms = tuple[FloatArray | BoolArray, FloatArray, IntArray]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Factors:
    """What coefficients of a life table are multiplied by: `trained` [P, 3L], `values` [P, F].

    `ahead` are those of what each design trains only to look ahead; None where none does.
    """

    designs: DesignBatch
    trained: FloatArray
    values: FloatArray
    ahead: "Factors | None"

    @classmethod
    def of(cls, life: LifeTable, designs: DesignBatch) -> "Factors":
        """Worked out once for everything that is counted of the designs."""
        ahead = looking_ahead(designs)
        return cls(
            designs=designs,
            trained=trained_counts(life.schedule.table, designs),
            values=feature_values(life, designs),
            ahead=None if ahead is None else cls.of(life, ahead),
        )


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Work:
    """Runs in one micro-batch pass of P designs.

    `forward_runs` [P] of the whole network; per operator [P, O]: `again`, forward runs in
    backward, and `passes`, dX; `operands` [P, K] gradients of products; per weighted layer
    [P, L]: `share` of dW and `runs` of it, whatever the share; `trained` [P, 3L] counts that
    are updated.
    """

    forward_runs: FloatArray
    again: FloatArray
    passes: FloatArray | BoolArray
    operands: FloatArray | BoolArray
    share: FloatArray
    runs: FloatArray | BoolArray
    trained: FloatArray

    def take(self, rows: BoolArray) -> "Work":
        """Some of the designs."""
        return Work(**{one.name: getattr(self, one.name)[rows] for one in fields(Work)})

    def terms(self, table: LayerTable) -> Mapping[str, list[Terms]]:
        """MACs of a sample by name: runs [P, N] or [P, 1], MACs of each [N] and operators [N].

        `per_pass_macs` are of a micro-batch.
        """
        layers, ops = table.op_index, np.arange(len(table.element_count))
        trained = self.trained[:, : len(layers)]
        return {
            "forward_macs": [(self.forward_runs[:, None], table.sample_macs, ops)],
            "input_grad_macs": [
                (self.passes[:, layers], table.input_macs, layers),
                (self.operands, table.operand_macs, table.operand_op),
            ],
            "weight_grad_macs": [
                (trained, table.macs_per_weight, layers),
            ],
            "recompute_macs": [(self.again, table.sample_macs, ops)],
            "per_pass_macs": [(self.runs, table.pass_macs, layers)],
        }

    def macs(self, table: LayerTable) -> dict[str, FloatArray]:
        """MACs of each design by name [P]."""
        totals = {}
        for name, parts in self.terms(table).items():
            totals[name] = np.zeros(len(self.trained))
            for runs, macs, _ in parts:
                if len(macs):
                    whole = runs.shape[1] == len(macs)
                    totals[name] += runs @ macs if whole else runs[:, 0] * macs.sum()
        return totals

    def macs_by_operator(self, table: LayerTable) -> dict[str, FloatArray]:
        """MACs of the first design by name [O]."""
        booked = {}
        for name, parts in self.terms(table).items():
            booked[name] = np.zeros(len(table.element_count))
            for runs, macs, ops in parts:
                np.add.at(booked[name], ops, runs[0] * macs)
        return booked


def work_of(life: LifeTable, factors: Factors) -> Work:
    """What designs of the life table's graph run, look-ahead included."""
    own, designs = _with_repeats(life, factors), factors.designs
    if factors.ahead is None:
        return own
    more = _with_repeats(life, factors.ahead)
    looks = np.array([one is not None for one in designs.distillations], np.float64)
    reuses = reusing(designs)
    summed = {
        name: getattr(own, name) + looks[:, None] * getattr(more, name)
        for name in ("again", "passes", "operands", "share", "runs", "trained")
    }
    return Work(forward_runs=1 + looks * (FORWARDS_AHEAD - reuses), **summed)


def reusing(designs: DesignBatch) -> BoolArray:
    """Which designs look ahead with the forward pass of their own [P]."""
    return np.array([one is not None and one.reuse_forward for one in designs.distillations])


def looking_ahead(designs: DesignBatch) -> DesignBatch | None:
    """What each design trains only to look ahead: all it freezes. None where none does."""
    if not any(designs.distillations):
        return None
    looks = np.array([[one is not None] for one in designs.distillations])
    return replace(
        designs,
        slices=looks * (designs.slice_counts - designs.slices),
        update_bias=looks & designs.axes.has_bias & ~designs.update_bias,
        update_norm=looks & designs.axes.has_norm & ~designs.update_norm,
        distillations=(),
    )


def _with_repeats(life: LifeTable, factors: Factors) -> Work:
    again = run_again(life, factors.values)
    plain = plain_work(life.schedule.table, factors.designs, factors.trained)
    return replace(plain, again=again) if len(life.again_columns) else plain


def step_macs(macs: Mapping[str, FloatArray], setup: TrainingSetup) -> FloatArray:
    """MACs of a weight update from those of a sample, and of a micro-batch, by name."""
    each = sum(column for name, column in macs.items() if name != "per_pass_macs")
    total: FloatArray = (
        each * setup.effective_batch + macs["per_pass_macs"] * setup.accumulation_steps
    )
    return total


def plain_work(table: LayerTable, designs: DesignBatch, trained: FloatArray) -> Work:
    """What designs run that neither look ahead nor run a block again; `trained` [P, 3L] counts."""
    active = table.active_sites(designs)
    passes = table.gradient_passes(active)
    trains = designs.slices > 0
    return Work(
        forward_runs=np.ones(len(designs)),
        again=np.zeros(passes.shape),
        passes=passes,
        operands=active @ table.operand_sites > 0,
        share=designs.update_ratio,
        runs=trains,
        trained=trained,
    )
