"""Opened genes: setups and adapters in one space, priced as each would be alone."""

import json

import numpy as np
import pytest

from explorer.adapters import adapter_blocks
from explorer.cli import run
from explorer.costmodel.report import CostReport
from explorer.design import DesignBatch, LayerAxes
from explorer.errors import SpecError
from explorer.export import load_front, pick
from explorer.search.candidates import concatenate
from explorer.search.openings import setups_of
from explorer.search.sources import model_graph
from explorer.session import Session

DIGITS = Session(model="digits-cnn", policy="none", batch=8)
EVERYTHING = ("micro-batch", "norm", "optimizer", "precision", "recompute", "update", "adapters")


def random_genes(space, count, seed=0):
    rng = np.random.default_rng(seed)
    low = np.array([gene.low for gene in space.genes])
    high = np.array([gene.high for gene in space.genes])
    return rng.integers(low, high + 1, (count, len(low)))


@pytest.mark.parametrize("name", ["guided", "layers"])
@pytest.mark.parametrize("norm", [None, "bn", "none"])
def test_a_mixed_batch_costs_what_each_row_costs_alone(name, norm):
    session = DIGITS.with_norm(norm).with_genes(EVERYTHING)
    space = session._space(name)
    designs = space.decode(random_genes(space, 60))
    assert len(set(designs.row_setups)) > 30
    mixed = session.problem.screen(designs).costs
    for row in range(0, 60, 4):
        setup = designs.row_setups[row]
        alone = Session(
            model="digits-cnn",
            policy="none",
            batch=8,
            micro_batch=setup.micro_batch,
            norm=setup.norm,
            optimizer=setup.optimizer,
            precision=setup.precision,
            recompute=setup.recompute,
            update_timing=setup.update_timing,
        )
        policy = designs.policy(row)
        axes = LayerAxes.of(alone.graph)
        assert not np.any(np.array(policy.update_norm) & ~axes.has_norm)
        single = DesignBatch.of(axes, [policy], alone._setup())
        expected = alone.problem.screen(single).costs
        for column in CostReport.columns():
            here, there = getattr(mixed, column)[row], getattr(expected, column)[0]
            assert here == pytest.approx(there, nan_ok=True), column
        shown = session.candidate_cost(session.problem.screen(designs), row)
        assert shown.setup["norm"] == alone.graph.norm
        assert shown.step_energy_j == pytest.approx(expected.step_energy_j[0])


def test_every_value_of_a_gene_becomes_its_setup():
    session = DIGITS.with_genes(("norm=gn/bn/none", "adapters", "micro-batch=2/8"))
    space = session._space("guided")
    own = len(space._policy_genes)
    assert [gene.name for gene in space.genes[own:]] == ["norm", "adapters", "micro-batch"]
    blocks = adapter_blocks(session.graph)
    for at, norm in enumerate(("gn", "bn", "none")):
        for kept in (0, len(blocks)):
            for size_at, size in enumerate((2, 8)):
                genes = [*[0] * own, at, kept, size_at]
                (setup,) = space.decode(np.array([genes])).row_setups
                assert setup.norm == norm
                # over parts of a batch, batch norm is other mathematics
                assert setup.micro_batch == (8 if norm == "bn" else size)
                assert setup.effective_batch == 8
                assert len(space.decode(np.array([genes])).adapters[0]) == kept


def test_the_families_lie_in_the_space_with_adapters():
    session = DIGITS.with_genes(("adapters",))
    space = session._space("layers")
    table = session.compare()
    layer_count, blocks = len(space.axes.names), adapter_blocks(session.graph)
    wanted = {"tinytl": len(blocks), "full": 0, "bias-only:last=all": 0}
    for label, kept in wanted.items():
        row = table.labels.index(label)
        depth = layer_count if label == "full" else 0
        genes = [depth, layer_count, *[4] * layer_count, kept]
        found = space.decode(np.array([genes]))
        assert np.array_equal(found.slices[0], table.designs.slices[row])
        assert np.array_equal(found.update_bias[0], table.designs.update_bias[row])
        assert found.adapters[0] == table.designs.adapters[row]
    assert any(len(row) == len(blocks) for row in space.decode(space.seeds()).adapters)


def test_seeds_are_of_the_usual_setup():
    session = DIGITS.with_genes(("optimizer", "norm", "micro-batch"))
    seeded = session._space("guided").decode(session._space("guided").seeds())
    usual = Session(model="digits-cnn", policy="none", batch=8)._space("guided")
    plain = usual.decode(usual.seeds())
    assert np.array_equal(seeded.slices, plain.slices)
    own = DIGITS.with_norm("gn").with_optimizer("adam").with_genes(("optimizer", "norm"))
    (setup,) = set(own._space("guided").decode(own._space("guided").seeds()).row_setups)
    assert setup == own._setup()


def test_spreading_keeps_what_trains_and_half_of_the_setups():
    session = DIGITS.with_genes(("micro-batch", "norm"))
    space = session._space("layers")
    closed = session._space("layers", is_open=False)
    before = closed.decode(random_genes(closed, 64))
    after = space.spread(before)
    assert np.array_equal(after.slices, before.slices)
    assert all(setup == session._setup() for setup in after.row_setups[::2])
    assert set(after.row_setups[1::2]) == set(space.setups)


def test_joined_batches_keep_their_setups():
    session = DIGITS.with_genes(EVERYTHING)
    space = session._space("guided")
    tables = [session.problem.screen(space.decode(random_genes(space, 5, seed))) for seed in (1, 2)]
    whole = concatenate([session.compare(), *tables])
    known = len(session.compare())
    assert whole.designs.row_setups[known : known + 5] == tables[0].designs.row_setups
    picked = whole.take(np.array([0, known + 7]))
    assert picked.designs[1].setup == tables[1].designs.row_setups[2]
    assert np.isfinite(session.problem.place(picked).costs.arena_bytes).all()
    assert {"norm", "precision"} <= set(whole.to_frame().columns)
    again = concatenate([tables[0].take(np.array([0])), tables[0].take(np.array([0]))])
    assert again.designs.setups == ()


@pytest.mark.parametrize(
    ("genes", "words"),
    [
        (("depth",), "genes: got 'depth', allowed: micro-batch, norm"),
        (("norm=in",), "gene norm: got 'in', allowed: bn/gn/frozen-bn/none"),
        (("micro-batch=3",), "allowed: 1/2/4/8"),
        (("norm", "norm=gn"), "every gene once"),
        ("norm", "a list of texts"),
    ],
)
def test_wrong_genes_are_refused(genes, words):
    with pytest.raises(SpecError, match=words):
        Session(model="digits-cnn", policy="none", batch=8, genes=genes)


def test_setups_are_the_product_of_the_genes():
    assert setups_of(DIGITS.with_genes(("adapters",))._openings) == [{}]
    genes = ("optimizer=sgd/adam", "adapters", "micro-batch")
    found = setups_of(DIGITS.with_genes(genes)._openings)
    assert len(found) == 8
    assert found[1] == {"optimizer": "sgd", "micro_batch": 2}


def test_smaller_micro_batches_save_memory_in_a_search():
    free = DIGITS.search(50)
    opened = DIGITS.search(50, genes=("micro-batch",))
    assert opened.hypervolume > free.hypervolume
    sizes = {one.micro_batch for one in opened.table.take(opened.rows).designs.row_setups}
    assert len(sizes) > 1
    assert "not micro-batch" in opened.notes[-1]
    with pytest.raises(SpecError, match="these genes are open: micro-batch"):
        DIGITS.with_genes(("micro-batch",)).exact_front()


def test_an_accuracy_is_only_claimed_for_the_norm_it_was_measured_in():
    session = DIGITS.with_genes(("norm=gn/frozen-bn",))
    known = session.compare()
    measured = np.flatnonzero(np.isfinite(known.worth.measured))
    row = known.designs.take(measured[-1:])
    setups = session._setups()
    assert [setup.norm for setup in setups] == ["gn", "frozen-bn"]
    claims = [
        np.isfinite(session.problem.screen(row.under([setup])).worth.measured[0])
        for setup in setups
    ]
    assert claims == [True, False]


def test_a_document_states_each_setup_and_its_members_can_be_exported(tmp_path, capsys):
    path = tmp_path / "front.json"
    command = ["search", "digits-cnn", "gap9", "--trials", "50", "--batch", "4"]
    command += ["--genes", "micro-batch, norm=gn/frozen-bn, optimizer=sgd/sgd-momentum"]
    assert run([*command, "--out", str(path)]) == 0
    assert "setup" in capsys.readouterr().out
    document = load_front(path)
    graph = model_graph("digits-cnn")
    members = [at for at, one in enumerate(document.candidates) if one.on_front]
    setups = {(one.setup.norm, one.setup.micro_batch) for one in document.candidates}
    assert len(setups) > 3
    assert all(
        (one.model is None) == (one.cost["setup"]["norm"] == graph.norm)
        for one in document.candidates
    )
    other = next(at for at in members if document.candidates[at].model is not None)
    out = tmp_path / "policy.json"
    assert run(["export", str(path), "--pick", str(other), "--out", str(out)]) == 0
    policy = json.loads(out.read_text())
    assert policy["setup"] == pick(document, str(other)).setup.model_dump()
    assert policy["model"]["digest"] != graph.digest
    assert run(["validate", str(path), str(out)]) == 0
    capsys.readouterr()
    assert run(["cost", "digits-cnn", "gap9", "--policy", str(out), "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    expected = document.candidates[other].cost
    assert cost["memory"]["peak_live_bytes"] == expected["memory"]["peak_live_bytes"]
    assert cost["step"] == pytest.approx(expected["step"])
