"""What a policy family is given and what it declares.

A family is a file in `policies/`: SUMMARY, OPTIONS, `reason_against(context)`,
`known(context)` (specs worth comparing) and `build(context, options)`; if it likes,
`warnings(context, options)`, sentences to show beside what was built, `procedure(context,
options)`, the spec that chooses alike on other data, its budgets in numbers, and SETUP, fields
of a question (batch, micro_batch, norm ...) it is published with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from explorer import catalog
from explorer.design import Design, LayerAxes, TrainingSetup, UpdatePolicy
from explorer.errors import SpecError
from explorer.graph import ModelGraph
from explorer.units import FloatArray

Screen = Callable[[Sequence[UpdatePolicy]], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of a family: its default as text, one line of help, allowed words if few."""

    default: str
    help: str
    choices: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class PolicyContext:
    """Everything a family may choose by.

    `weight_counts`, `forward_macs` [L]; `layer_fisher` [L] Fisher potential (F2) and
    `layer_gradient` [L] L1 norm of the weight gradient, None without a score table; `screen`
    gives peak live bytes [P] and backward MACs [P] of candidate policies under the session's
    setup; `usable_bytes` is the device's RAM.
    """

    graph: ModelGraph
    axes: LayerAxes
    weight_counts: FloatArray
    forward_macs: FloatArray
    layer_fisher: FloatArray | None
    layer_gradient: FloatArray | None
    screen: Screen
    usable_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyInfo:
    """A family as faces show it; `reason` says why it does not apply, if so."""

    name: str
    summary: str
    options: Mapping[str, Option]
    reason: str

    @property
    def applicable(self) -> bool:
        """Whether the family can be built here."""
        return not self.reason


def families(context: PolicyContext) -> list[FamilyInfo]:
    """Every family of the catalogue, applicable or not."""
    found = []
    for name in catalog.names("policy"):
        module = catalog.load("policy", name)
        found.append(
            FamilyInfo(
                name=name,
                summary=module.SUMMARY,
                options=module.OPTIONS,
                reason=module.reason_against(context),
            )
        )
    return found


def known_specs(context: PolicyContext) -> list[str]:
    """Specs of all applicable known policies, family by family."""
    return [spec for name in catalog.names("policy") for spec in known_of(context, name)]


def known_of(context: PolicyContext, name: str) -> list[str]:
    """Specs of a family's known policies, from the least trained to the most."""
    module = catalog.load("policy", name)
    specs: list[str] = [] if module.reason_against(context) else module.known(context)
    return specs


def build_policy(context: PolicyContext, spec: str) -> UpdatePolicy:
    """A policy from `name:key=value,...`; SpecError or UnknownNameError in one sentence."""
    name, options = catalog.split_spec(spec)
    module = catalog.load("policy", name)
    if reason := module.reason_against(context):
        raise SpecError(f"policy {name}: {reason}")
    if not getattr(module, "ANY_OPTION", False):
        for key in options:
            if key not in module.OPTIONS:
                known = ", ".join(module.OPTIONS) or "none"
                raise SpecError.of(f"option of {name}", key, f"known options: {known}")
            allowed = module.OPTIONS[key].choices
            if allowed is not None and options[key] not in allowed:
                raise SpecError.of(key, options[key], ", ".join(allowed))
    policy: UpdatePolicy = module.build(context, options)
    return policy


def policy_setup(spec: str) -> Mapping[str, Any]:
    """The setup a family is published with, as fields of a question; mostly none."""
    module = catalog.load("policy", catalog.split_spec(spec)[0])
    setup: Mapping[str, Any] = getattr(module, "SETUP", {})
    return setup


def policy_warnings(context: PolicyContext, spec: str) -> list[str]:
    """What a family says against a policy that can be built; mostly nothing."""
    name, options = catalog.split_spec(spec)
    found = getattr(catalog.load("policy", name), "warnings", None)
    return [] if found is None else list(found(context, options))


def policy_procedure(context: PolicyContext, design: Design, setup: TrainingSetup) -> str | None:
    """The spec that makes a policy again from other scores, in a context's own setup.

    None where scores do not choose the policy, and for a design of another setup.
    """
    policy = design.policy
    name = policy.family.partition(":")[0]
    if name not in catalog.names("policy") or design.setup != setup:
        return None
    module = catalog.load("policy", name)
    if not hasattr(module, "procedure") or module.reason_against(context):
        return None
    spec: str = module.procedure(context, catalog.split_spec(policy.family)[1])
    again = build_policy(context, spec)
    return spec if replace(again, family=policy.family) == policy else None


def whole_number(name: str, text: str, low: int, high: int) -> int:
    """A whole number within bounds, or SpecError."""
    if not text.lstrip("-").isdecimal() or not low <= int(text) <= high:
        raise SpecError.of(name, text, f"a whole number from {low} to {high}")
    return int(text)


def number(name: str, text: str, low: float, high: float) -> float:
    """A number within bounds, or SpecError."""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not low <= value <= high:
        raise SpecError.of(name, text, f"a number from {low:g} to {high:g}")
    return value


def f3_divisor(weight_counts: FloatArray, forward_macs: FloatArray) -> FloatArray:
    """What TinyTrain's multi-objective score divides a layer's potential by [L].

    Its share of the largest layer's weights times that of the most MACs (F3 of Kwon et al.,
    ICML 2024). A norm that counts as a layer of its own has no MACs and is taken as one.
    """
    size = weight_counts / weight_counts.max()
    divisor: FloatArray = size * (np.maximum(forward_macs, 1) / forward_macs.max())
    return divisor
