"""Spaces, the loop, resuming a study."""

import json

import numpy as np
import pytest

from explorer import catalog
from explorer.errors import SpecError
from explorer.search.control import SearchControl
from explorer.search.space import LEVELS, SearchSpace
from explorer.session import Session

DIGITS = Session(model="digits-cnn", policy="none")


@pytest.fixture(params=["guided", "layers"])
def space(request) -> SearchSpace:
    return DIGITS._space(request.param)


def test_genes_decode_inside_their_depth(space):
    rng = np.random.default_rng(0)
    low = np.array([gene.low for gene in space.genes])
    high = np.array([gene.high for gene in space.genes])
    genes = rng.integers(low, high + 1, (200, len(low)))
    designs = space.decode(genes)
    layer_count = len(space.axes.names)
    position = np.arange(layer_count)
    outside = position < layer_count - genes[:, :1]
    assert not designs.slices[outside].any()
    early = position < layer_count - genes[:, 1:2]
    assert not designs.update_bias[early].any()
    ratio = designs.update_ratio
    nearest = np.abs(ratio[..., None] - LEVELS).min(axis=-1)
    assert nearest.max() <= 1 / space.axes.out_channels.min()


def test_seeds_hold_the_plain_policies(space):
    designs = space.decode(space.seeds())
    whole = np.where(designs.update_bias.all(axis=1))[0]
    assert any(np.array_equal(designs.slices[row], space.axes.out_channels) for row in whole)
    nothing = ~designs.slices.any(axis=1) & ~designs.update_bias.any(axis=1)
    assert nothing.any()


def test_guided_takes_the_most_important_layers_first():
    space = DIGITS._space("guided")
    layer_count = len(space.axes.names)
    for share, at_least in ((1, 1), (2, 2), (4, 4)):
        genes = [layer_count, 0, share, 4, 0, 1, 0, 1]
        taken = np.flatnonzero(space.decode(np.array([genes])).slices[0])
        kind = np.flatnonzero(space.kind_of == 0)
        best = kind[np.argsort(-space.importance[kind])][: len(taken)]
        assert set(taken) == set(best)
        assert len(taken) >= min(at_least, len(kind))


def test_unknown_space_is_refused():
    with pytest.raises(SpecError, match="guided"):
        DIGITS.search(1, space="plain")


def test_callback_sees_every_batch_and_hypervolume_never_shrinks():
    seen = []
    DIGITS.search(60, on_batch=lambda done, _, table, volume: seen.append((done, table, volume)))
    dones = [done for done, *_ in seen]
    assert dones == [0] * (len(seen) - 3) + [25, 50, 60]
    sizes = [len(table) for _, table, _ in seen]
    assert sizes == sorted(set(sizes))
    assert sizes[0] > len(DIGITS.compare()) + 25  # good designs come before the first trial
    volumes = [volume for *_, volume in seen]
    assert volumes == sorted(volumes)


@pytest.mark.parametrize(("warm", "done"), [(True, 0), (False, 25)])
def test_stop_ends_after_the_running_batch(warm, done):
    control, seen = SearchControl(), []

    def stop(*report):
        seen.append(report)
        control.stop()

    front = DIGITS.search(500, warm=warm, control=control, on_batch=stop)
    assert (front.trial_count, len(seen)) == (done, 1)
    assert len(front.table) == len(seen[0][2])


def test_a_named_study_resumes_and_equals_one_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = DIGITS.search(50, seed=1, study="kept", warm=False)
    assert (tmp_path / "kept.journal").is_file()
    more = DIGITS.search(75, seed=1, study="kept", warm=False)
    known = len(DIGITS.compare())
    assert more.trial_count == 75
    assert np.array_equal(
        first.table.designs.slices[known:], more.table.designs.slices[known : known + 50]
    )
    idle = DIGITS.search(75, seed=1, study="kept", warm=False)
    assert idle.hypervolume == more.hypervolume


def test_a_study_of_another_question_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    DIGITS.search(10, study="kept")
    with pytest.raises(SpecError, match=r"device was gap9.*is stm32h743"):
        DIGITS.with_device("stm32h743").search(10, study="kept")


def test_when_nothing_fits_the_front_is_of_the_smallest_violation():
    session = DIGITS.with_limits(memory_limit_bytes=1000)
    front = session.search(50)
    over = np.maximum(front.table.violations, 0).sum(axis=1)
    assert not front.table.feasible.any()
    assert np.allclose(over[front.rows], over.min())
    assert front.hypervolume == 0


def test_front_members_fit_when_any_candidate_does():
    session = DIGITS.with_limits(memory_limit_bytes=60_000)
    front = session.search(100)
    assert front.table.feasible[front.rows].all()
    assert front.table.peak_live_bytes[front.rows].max() <= 60_000
    settled = session.problem.settle(front.table)
    rows = np.flatnonzero(settled.on_front)
    assert np.isfinite(settled.costs.arena_bytes[rows]).all()
    assert settled.costs.arena_bytes[rows].max() <= 60_000


def test_front_document_tells_how_its_hypervolume_was_computed():
    from explorer.search.front import Objective, hypervolume

    front = DIGITS.search(50)
    document = json.loads(DIGITS.front_document(front).to_json())
    objectives = tuple(Objective(**row) for row in document["objectives"])
    values = np.array(
        [
            [candidate["objectives"][o.name] for o in objectives]
            for candidate in document["candidates"]
            if candidate["on_front"]
        ]
    )
    assert hypervolume(values, objectives) == pytest.approx(document["hypervolume"])


def test_two_workers_share_a_study_and_its_candidates(tmp_path):
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    DIGITS.search(25, study="shared", storage=storage, seed=1)
    joined = DIGITS.search(50, study="shared", storage=storage, seed=2, warm=False)
    assert joined.trial_count == 50
    assert len(joined.table) == 50 + len(DIGITS.compare())


@pytest.mark.parametrize("sampler", catalog.names("sampler"))
def test_every_sampler_searches_under_constraints(sampler):
    session = DIGITS.with_limits(memory_limit_bytes=60_000).with_objectives(
        DIGITS.objectives, ("trained-parameters=5k",)
    )
    trials = 30 if sampler != "gp" else 27  # two trials of a model, which take seconds
    front = session.search(trials, sampler, warm=False, seed=1)
    assert front.trial_count == trials
    assert front.sampler == sampler
    assert front.hypervolume > 0
    assert front.table.peak_live_bytes[front.rows].max() <= 60_000
    assert front.table.costs.trained_parameter_count[front.rows].max() <= 5000
    known = len(session.compare())
    found = front.table.designs.slices[known:]
    assert len(np.unique(found, axis=0)) > 5
    again = session.search(25, sampler, warm=False, seed=1)
    assert np.array_equal(again.table.designs.slices[known:], found[:25])


def test_a_sampler_that_cannot_do_with_so_many_objectives_says_so():
    words = ("score", "memory", "energy", "macs", "trained-parameters")
    session = DIGITS.with_objectives(words)
    with pytest.raises(SpecError, match="objectives: got 5, allowed: at most 4 with sampler gp"):
        session.search(5, "gp")
    assert session.search(30, "nsga3", warm=False).hypervolume > 0


def test_six_samplers_of_optuna_are_offered():
    assert {"gp", "nsga2", "nsga3", "qmc", "random", "tpe"} <= set(catalog.names("sampler"))
