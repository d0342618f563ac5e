"""Measuring designs once: look into the ledger, else fine-tune, and keep the run.

All who measure come through here: `explorer measure`, the app, a refined front, a search on
measured accuracy. A design is looked up under a lock, so of several workers that share a
ledger only one measures it. A run counts again when network, weights, task, design, seed,
episodes, protocol and data are the same.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from explorer.accuracy.progress import Cancelled, Progress
from explorer.accuracy.protocols import AnyProtocol
from explorer.accuracy.records import DesignRecord, Ledger, MeasuredRun, RunKey, run_key
from explorer.design import TrainingSetup, UpdatePolicy
from explorer.errors import check_whole
from explorer.graph import ModelGraph
from explorer.paths import check_writable
from explorer.search.locks import FileLocks

if TYPE_CHECKING:
    from explorer.accuracy.tasks import Task
    from explorer.accuracy.torch_bridge import GraphModule


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurer:
    """How designs of one network are measured on one task, and the ledger that keeps the runs.

    `module` None has the network's own weights; the rest is as `finetune.measure` takes it.
    """

    graph: ModelGraph
    task: str
    ledger: Ledger
    episodes: int = 10
    seed: int = 0
    tuning_episodes: int = 4
    protocol: AnyProtocol | None = None
    setup: TrainingSetup | None = None
    module: "GraphModule | None" = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_whole("episodes", self.episodes, 1)
        check_whole("tuning_episodes", self.tuning_episodes, 1)

    def measured(
        self,
        policy: UpdatePolicy,
        on_episode: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> MeasuredRun:
        """The run of a policy: the ledger's, or a new one that it then holds.

        CancelledError when stopped; UnkeptError, with the run, when the ledger cannot take it.
        """
        from explorer.accuracy.finetune import measure

        return self._once(
            policy,
            lambda: measure(
                self.graph,
                self.task,
                policy,
                episodes=self.episodes,
                seed=self.seed,
                protocol=self.rules,
                setup=self.setup,
                tuning_episodes=self.tuning_episodes,
                module=self.network,
                device=self.device,
                on_episode=on_episode,
                cancelled=cancelled,
            ),
        )

    def keep(self, policy: UpdatePolicy, run: MeasuredRun) -> MeasuredRun:
        """A run of a policy that was measured elsewhere, in the ledger unless it has one."""
        return self._once(policy, lambda: run)

    def known(self, policy: UpdatePolicy) -> MeasuredRun | None:
        """The ledger's run of a policy, if it has one."""
        return self.runs().get(self.key(policy))

    def runs(self) -> dict[RunKey, MeasuredRun]:
        """Every run of the ledger on the data as it is now."""
        return {run.key: run for run in self.ledger.read().of_data(self.data.digest)}

    def key(self, policy: UpdatePolicy) -> RunKey:
        """What a run of a policy is found again by."""
        from explorer.accuracy.course import measured_design

        return run_key(
            self.graph.digest,
            self.weights_digest,
            self.task,
            DesignRecord.of(measured_design(policy, self.rules, self.setup)),
            self.seed,
            self.episodes,
            self.rules,
        )

    def _once(self, policy: UpdatePolicy, make: Callable[[], MeasuredRun]) -> MeasuredRun:
        key = self.key(policy)
        name = hashlib.sha256(repr(key).encode()).hexdigest()
        check_writable(self.ledger.path)
        with FileLocks(self.ledger.path).held(name[:16], once=True):
            known = self.runs().get(key)
            if known is None:
                known = make()
                self.ledger.append(known)
        return known

    @cached_property
    def rules(self) -> AnyProtocol:
        """The protocol; the task's own if none was given."""
        from explorer.accuracy.course import task_protocol

        return self.protocol or task_protocol(self.data)

    @cached_property
    def data(self) -> "Task":
        """The task as it is now, without classes that the weights were meta-trained on."""
        from explorer.accuracy.tasks import task_for
        from explorer.accuracy.torch_bridge import unseen_task

        return unseen_task(task_for(self.task, self.graph.input_shape), self.network)

    @cached_property
    def network(self) -> "GraphModule":
        """The network that is fine-tuned."""
        from explorer.accuracy.torch_bridge import model_module

        return model_module(self.graph) if self.module is None else self.module

    @cached_property
    def weights_digest(self) -> str:
        """Digest of its weights."""
        from explorer.accuracy.torch_bridge import state_digest

        return state_digest(self.network)
