"""TinyTrain's greedy choice against a plain rewrite of it, its options and its warning."""

import json

import numpy as np
import pytest

from explorer.cli import run
from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.tables import layer_table
from explorer.design import TrainingSetup, everything
from explorer.errors import SpecError
from explorer.session import Session
from tests.helpers import batch_of

MEMORY_BYTES = {"digits-cnn": 60_000, "mcunet-5fps": 800_000}
MODELS = tuple(MEMORY_BYTES)


def chosen(model: str, options: str):
    return Session(model=model, policy=f"tinytrain:{options}").chosen_policy


def budgets(model: str) -> str:
    return f"memory={MEMORY_BYTES[model]},macs=0.15"


def spent(session: Session, policy) -> tuple[float, float]:
    """Peak live bytes and backward MACs under the session's setup."""
    setup = TrainingSetup(precision=session.profile.default_precision)
    designs = batch_of(session.graph, policy, setup=setup)
    costs = evaluate(session.graph, session.profile, designs)
    backward = costs.input_grad_macs + costs.weight_grad_macs
    return float(costs.peak_live_bytes[0]), float(backward[0])


@pytest.mark.parametrize("criterion", ["f3", "fisher", "gradient"])
@pytest.mark.parametrize("model", MODELS)
def test_the_choice_is_that_of_the_published_rule(model, criterion):
    session = Session(model=model, policy=f"tinytrain:{budgets(model)},criterion={criterion}")
    table, scores = layer_table(session.graph), session.scores
    values = []
    for index in range(len(table.axes.names)):
        potential = scores.columns["fisher_out"][index].sum()
        size = table.weight_count[index] / max(table.weight_count)
        macs = table.forward_macs[index] / max(table.forward_macs)
        slope = scores.columns["grad_l1_in"][index].sum()
        values.append({"f3": potential / size / macs, "fisher": potential, "gradient": slope})
    order = sorted(range(len(values)), key=lambda index: -values[index][criterion])
    budget = 0.15 * spent(session, everything(table.axes))[1]
    kept = dict.fromkeys(range(len(order)), 0)
    for index in order:
        tried = kept | {index: int(table.axes.out_channels[index]) // 2}
        names = dict(zip(table.axes.names, tried.values(), strict=True))
        whole = dict(zip(table.axes.names, table.axes.out_channels, strict=True))
        spec = ",".join(f"{name}={count / whole[name]}" for name, count in names.items())
        peak, macs = spent(session, session.with_policy(f"free:{spec}").chosen_policy)
        if peak <= MEMORY_BYTES[model] and macs <= budget:
            kept = tried
    assert list(session.chosen_policy.slices) == list(kept.values())
    assert any(kept.values())


@pytest.mark.parametrize("model", MODELS)
def test_a_refill_only_adds_and_stays_within_the_budgets(model):
    plain, filled = (chosen(model, f"{budgets(model)}{more}") for more in ("", ",refill=1"))
    session = Session(model=model)
    before, after = np.array(plain.slices), np.array(filled.slices)
    added = after[before == 0]
    assert np.array_equal(before[before > 0], after[before > 0])
    assert added.any()
    assert np.all(added <= np.array(filled.slice_counts)[before == 0] / 4)
    full = spent(session, everything(layer_table(session.graph).axes))[1]
    peak, macs = spent(session, filled)
    assert peak <= MEMORY_BYTES[model]
    assert spent(session, plain)[1] < macs <= 0.15 * full


def test_the_channel_baselines_train_as_much_of_the_same_layers():
    fisher = chosen("digits-cnn", "macs=0.3")
    for selection in ("magnitude", "random", "gradient"):
        other = chosen("digits-cnn", f"macs=0.3,selection={selection}")
        assert (other.selection, other.slices) == (selection, fisher.slices)


@pytest.mark.parametrize("option", ["criterion=f2", "selection=first", "refill=yes"])
def test_a_word_that_is_none_of_the_choices_is_refused(option):
    with pytest.raises(SpecError, match=r"got '\w+', allowed: "):
        chosen("digits-cnn", option)


def test_too_few_eligible_layers_are_said_and_counted_alone(capsys):
    """Layers that fit alone, one design each; eight of them need no word."""
    session = Session(model="mcunet-5fps")
    for macs in (0.1, 0.15, 0.3):
        axes = layer_table(session.graph).axes
        budget = macs * spent(session, everything(axes))[1]
        half = [session.with_policy(f"free:{name}=0.5").chosen_policy for name in axes.names]
        fitting = sum(spent(session, policy)[1] <= budget for policy in half)
        found = session.with_policy(f"tinytrain:macs={macs}").cost().warnings
        said = [line for line in found if line.startswith("tinytrain: ")]
        assert len(said) == (fitting < 8)
        assert not said or f"only {fitting} of 42 layers" in said[0]
    assert run(["compare", "digits-cnn", "gap9", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    warned = {row["policy"] for row in rows if row["warnings"]}
    assert warned == {"tinytrain:macs=0.15", "tinytrain:macs=0.3"}
