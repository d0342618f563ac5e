"""A session: one question about one network on one device, and the whole flow.

Frozen: every change is a new Session, so a face holds nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from explorer import catalog
from explorer.accuracy.proxy import layer_scores
from explorer.accuracy.records import AccuracyCurve
from explorer.accuracy.scores import ScoreTable
from explorer.advice import Advice, advise
from explorer.backward_config import read_config
from explorer.costmodel.adaptation import Plan
from explorer.costmodel.battery import Battery
from explorer.costmodel.detail import report
from explorer.costmodel.memory_map import MemoryMap, memory_map
from explorer.costmodel.procedure import ProcedureCost, procedure_cost
from explorer.costmodel.report import Cost
from explorer.costmodel.tables import layer_table
from explorer.costmodel.uncertainty import Against, Spending, step_spending
from explorer.design import DesignBatch, UpdatePolicy, everything, nothing
from explorer.device import read_text
from explorer.document import PolicyDocument, policy_file
from explorer.engine import Verdict, verdicts
from explorer.errors import SpecError
from explorer.export import FrontDocument, device_digest, front_document, policy_document
from explorer.family import (
    FamilyInfo,
    build_policy,
    families,
    known_of,
    known_specs,
    policy_procedure,
    policy_setup,
    policy_warnings,
)
from explorer.phases import Procedure, procedure_named
from explorer.question import DEFAULT_POLICY, Question, is_file
from explorer.search.candidates import CandidateTable, ParetoFront
from explorer.search.control import SearchControl
from explorer.search.exact import TIME_LIMIT_S, ExactFront, OnOptimum, exact_front, reason_against
from explorer.search.judge import Judge
from explorer.search.loop import OnBatch, explore
from explorer.search.measured import MeasuredProblem, Measuring
from explorer.search.named import StudyPlace
from explorer.search.problem import Problem
from explorer.search.quantities import check_sampler
from explorer.search.sources import calibration_of, judge_of, model_graph
from explorer.search.space import SearchSpace
from explorer.tiny_training import spec_of
from explorer.units import FloatArray

if TYPE_CHECKING:
    from explorer.accuracy.calibrate import Evidence

FIRST_POLICY = "sparse-update:scheme=99kb"
ALWAYS_APPLICABLE = "last-k:k=4"
GREEDY_MACS = (0.05, 0.5, 0.8)  # beside those known as policies


@dataclass(frozen=True)
class Session(Question):
    """A question and its answers; the fields are those of Question."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy == DEFAULT_POLICY:
            applies = self._reason_against(FIRST_POLICY) == ""
            object.__setattr__(self, "policy", FIRST_POLICY if applies else ALWAYS_APPLICABLE)

    def with_model(self, model: str) -> "Session":
        """Another network with its own task; a policy that does not apply is replaced."""
        changed = replace(self, model=model, task=None, metric=None).measured_by(self.metric)
        if changed._reason_against(self.policy):
            return replace(changed, policy=DEFAULT_POLICY)
        return changed

    def with_policy(self, policy: str) -> "Session":
        """Another policy; SpecError or UnknownNameError when it cannot be built here."""
        changed = replace(self, policy=policy)
        changed.designs  # noqa: B018 - raises when it cannot be built
        return changed

    def cost(self) -> Cost:
        """The chosen policy's cost in full."""
        cost = report(
            self.graph,
            self.profile,
            self.designs,
            self.reserve_bytes,
            self.accounting,
            self._plan(),
        )
        cost = replace(cost, warnings=(*cost.warnings, *self.warnings(self.policy)))
        return cost if self.battery is None else cost.with_battery(Battery.of(self.battery))

    def warnings(self, policy: str) -> list[str]:
        """What a policy's family says against it here; a document says nothing."""
        return [] if is_file(policy) else policy_warnings(self._context, policy)

    def procedure(self, procedure: Procedure | str) -> ProcedureCost:
        """What a procedure, or a published one by name, costs over the kept samples."""
        if isinstance(procedure, str):
            procedure = procedure_named(procedure)
        policies = [build_policy(self._context, phase.policy) for phase in procedure.phases]
        designs = self._batch(policies)
        return procedure_cost(self.graph, self.profile, designs, procedure, self.samples)

    def against(
        self, other: "Session", table: CandidateTable | None = None, row: int = 0
    ) -> Against:
        """How likely a sample trains faster, and with less energy, than another question's.

        Ours is the chosen policy, or a candidate of a table. The same device errs for both
        alike, two devices each in their own way.
        """
        mine = self._sample_spending(self._designs_of(table, row))
        return Against.of(mine, other._sample_spending(other._designs_of()), other.policy)

    def seconds_of(self, curve: AccuracyCurve) -> FloatArray:
        """Modelled time on the device at the steps of a measured curve [S].

        A step is that of the measured setup; choosing channels, where a policy does, comes first.
        """
        setup = replace(curve.run.design.setup.setup(), precision=self._setup().precision)
        policy = curve.run.design.policy(self.graph)
        designs = DesignBatch.of(self._context.axes, [policy], setup)
        samples = curve.run.protocol.support_count
        cost = report(self.graph, self.profile, designs, plan=Plan(steps=None, samples=samples))
        selection_s: float = cost.session["selection_time_s"]
        return selection_s + np.array(curve.steps) * cost.step_time_s

    def chosen_with(self, scores: ScoreTable) -> UpdatePolicy:
        """What the chosen policy trains when other scores than the session's are asked."""
        if is_file(self.policy):
            return self.chosen_policy
        return build_policy(self._context_of(scores), self.policy)

    def compare(self) -> CandidateTable:
        """Every known policy that applies, one row each, labelled by its spec.

        Each is under what was chosen and what its family is published with. Where retention is
        asked, those of which it was measured; SpecError where of none.
        """
        own = replace(self, policy="none")
        asked = [
            (name, replace(self, policy=name) if policy_setup(name) else own)
            for name in catalog.names("policy")
        ]
        rows = [(spec, one) for name, one in asked for spec in known_of(one._context, name)]
        designs = [one._batch([build_policy(one._context, spec)]) for spec, one in rows]
        return self.problem.screen_known(DesignBatch.joined(designs), [spec for spec, _ in rows])

    def chosen(self) -> CandidateTable:
        """The chosen policy as a candidate."""
        return self.problem.screen(self.designs, self.designs.families)

    @property
    def chosen_policy(self) -> UpdatePolicy:
        """What the chosen policy trains; SpecError or UnknownNameError when it cannot."""
        if self.policy.endswith(".json"):
            return policy_file(self.policy).policy(self.graph)
        spec = self.policy
        if spec.endswith((".yaml", ".yml")):
            spec = spec_of(read_config(read_text(Path(spec)), spec), self.graph)
        return build_policy(self._context, spec)

    @cached_property
    def designs(self) -> DesignBatch:
        """The chosen policy under the setup, one row; errors as of `chosen_policy`."""
        return self._batch([self.chosen_policy])

    def policies(self) -> list[FamilyInfo]:
        """Policy families with their options, and why some do not apply."""
        return families(self._context)

    def search(
        self,
        trials: int = 400,
        sampler: str = "nsga2",
        seed: int = 0,
        *,
        space: str = "guided",
        study: str | None = None,
        storage: str | None = None,
        warm: bool = True,
        genes: Sequence[str] | None = None,
        measuring: Measuring | None = None,
        on_batch: OnBatch | None = None,
        control: SearchControl | None = None,
    ) -> ParetoFront:
        """Multi-objective search over what to train; known policies are among the candidates.

        `warm` adds good designs of a few cheap rules before the first trial; `genes` opens
        others than the question does (explorer.search.openings). With `measuring` every trial
        is really fine-tuned and kept in its ledger, and nothing else is a candidate.
        """
        asked = self if genes is None else self.with_genes(genes)
        check_sampler(sampler, len(asked.problem.objectives))
        if storage is not None and study is None:
            raise SpecError.of("study", None, "a name, when a storage is given")
        problem, question = asked.problem, asked._question(space)
        if measuring is None:
            known = asked._known(warm=warm)
        else:
            if not asked.predicts:
                raise SpecError("measuring: got a proxy, or the gene norm; allowed: neither")
            cancelled = None if control is None else lambda: control.is_stopped
            problem = MeasuredProblem.on(problem, asked.task_name, measuring, cancelled)
            known, question = problem.screen(asked._batch([])), question | measuring.question
        return explore(
            problem,
            asked._space(space),
            known,
            trials=trials,
            sampler=sampler,
            seed=seed,
            question=question,
            place=None if study is None else StudyPlace(name=study, storage=storage),
            warm=warm and measuring is None,
            on_batch=on_batch,
            control=control,
        )

    def exact_front(
        self,
        *,
        time_limit_s: float = TIME_LIMIT_S,
        on_optimum: OnOptimum | None = None,
        control: SearchControl | None = None,
    ) -> ExactFront:
        """Optima of the additive proxy score, to compare a search with; kept for the question.

        SpecError when the score is not additive, as predicted accuracy is not.
        """
        if reason := self.reason_against_exact:
            raise SpecError(f"exact front: {reason}")
        return exact_front(
            self.problem,
            self._space("layers", is_open=False),
            self._question("layers"),
            time_limit_s=time_limit_s,
            on_optimum=on_optimum,
            control=control,
        )

    @property
    def reason_against_exact(self) -> str:
        """Why there is no exact front of what is asked; empty when there is."""
        if self.genes:
            return f"it is of one setup, and these genes are open: {', '.join(self.genes)}"
        return reason_against(self.problem)

    def memory_map(self, table: CandidateTable | None = None, row: int = 0) -> MemoryMap:
        """Every buffer of a step, placed, and the live bytes of each of its steps.

        The step is the chosen policy's, or that of a candidate of a table.
        """
        designs = self._designs_of(table, row)
        return memory_map(self._network(designs), self.profile, designs)

    def advise(self) -> Advice:
        """Largest micro-batch, smallest device, and changes that save memory."""
        return advise(self)

    def candidate_cost(self, table: CandidateTable, row: int) -> Cost:
        """One candidate's cost in full."""
        designs = self._designs_of(table, row)
        network = self._network(designs)
        return report(network, self.profile, designs, self.reserve_bytes, plan=self._plan())

    def engines(self) -> tuple[Verdict, ...]:
        """Which training engines run the chosen policy as it is, and why others do not."""
        return verdicts(self.graph, self.chosen().designs[0])

    def export(self, table: CandidateTable | None = None, row: int = 0) -> PolicyDocument:
        """A candidate, or the chosen policy, as a policy document.

        SpecError when the table is of another network or has no such row.
        """
        table = self.chosen() if table is None else table
        if table.designs.axes.names != self._context.axes.names:
            raise SpecError(f"table: its candidates are not of {self.graph.name}")
        if not 0 <= row < len(table):
            raise SpecError.of("row", row, f"0 to {len(table) - 1}")
        return policy_document(
            self._network(table.designs.take(np.array([row]))),
            self.profile,
            self.task_name,
            table.designs[row],
            self.candidate_cost(table, row),
            table.worth.take(np.array([row])),
            self.scores,
            policy_procedure(self._context, table.designs[row], self._setup()),
        )

    def front_document(self, front: ParetoFront) -> FrontDocument:
        """A search's result as a document."""
        return front_document(front, self.problem, self.task_name)

    @property
    def evidence(self) -> "Evidence | None":
        """How well the metric is predicted here; None without enough measured runs."""
        calibration = calibration_of(self.graph, self.task_name, self.metric_column)
        return None if calibration is None else calibration.evidence

    @cached_property
    def problem(self) -> Problem:
        """What a search optimises."""
        metric = self.metric_column
        return self.problem_judged(
            judge_of(self.graph, self.task_name, metric, predicts=self.predicts)
        )

    def problem_judged(self, judge: Judge) -> Problem:
        """What a search optimises when a judge scores."""
        origin = model_graph(self.model)
        return Problem.of(
            self.graph,
            self.profile,
            replace(judge, own_norm=origin.norm),
            self._batch([nothing(self._context.axes), everything(self._context.axes)]),
            reserve_bytes=self.reserve_bytes,
            memory_limit_bytes=self.memory_limit_bytes,
            memory_objective=self.memory_objective,
            objectives=self.objectives,
            limits=self.limits,
            origin=origin,
        )

    def _reason_against(self, policy: str) -> str:
        """Why a policy cannot be built here; empty when it can."""
        try:
            replace(self, policy=policy).chosen_policy  # noqa: B018 - raises when it cannot
        except (SpecError, LookupError) as error:
            return str(error)
        return ""

    def _designs_of(self, table: CandidateTable | None = None, row: int = 0) -> DesignBatch:
        """A candidate, or the chosen policy, as a batch of one."""
        if table is None:
            return self.designs
        return table.designs.take(np.array([row]))

    def _sample_spending(self, designs: DesignBatch) -> Spending:
        step = step_spending(self._network(designs), self.profile, designs)
        return step.times(1 / designs.setup.effective_batch)

    def _batch(self, policies: Sequence[UpdatePolicy]) -> DesignBatch:
        return DesignBatch.of(self._context.axes, policies, self._setup())

    def _known(self, *, warm: bool) -> CandidateTable:
        """Known policies under the setup in force; none that is published with another.

        `warm` adds TinyTrain's greedy choice at several budgets, where there is a score table.
        """
        setup, context = self._setup(), self._context
        specs = [
            spec
            for spec in known_specs(context)
            if not policy_setup(spec) or replace(self, policy=spec)._setup() == setup
        ]
        shares = GREEDY_MACS if warm and self.scores is not None else ()
        greedy = [f"tinytrain:macs={share}" for share in shares]
        policies = [build_policy(context, spec) for spec in (*specs, *greedy)]
        return self.problem.screen(self._batch(policies), [*specs, *("" for _ in greedy)])

    def _space(self, name: str, *, is_open: bool = True) -> SearchSpace:
        """The genes; without those the user opened where only one setup can be answered for."""
        if self.scores is None:
            importance, selection = layer_table(self.graph).forward_macs, "first"
        else:
            importance, selection = layer_scores(self.scores, "gradient"), "fisher"
        return SearchSpace.of(
            name,
            self.graph,
            importance,
            self._setup(),
            selection,
            self._openings if is_open else (),
            self._setups() if is_open else (),
            model_graph(self.model),
        )

    def _question(self, space: str) -> dict[str, object]:
        worth = self.problem.judge.name
        device = f"{self.profile.name} ({device_digest(self.profile)})"
        return {"device": device, "space": space, "worth": worth} | self._asked()

    def _repr_html_(self) -> str:
        return self.cost()._repr_html_()
