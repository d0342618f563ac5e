"""The exact front: linear rows, optima against brute force, bounds, the share of a search."""

import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from helpers import Net, depthwise_net, parallel_branches, residual_net

from explorer.accuracy.scores import CHANNEL_COLUMNS, ScoreTable
from explorer.design import DesignBatch, LayerAxes, TrainingSetup, everything, nothing
from explorer.device import load_device
from explorer.errors import SpecError
from explorer.graph import INPUT
from explorer.search.additive import Additive, roomy
from explorer.search.candidates import ParetoFront, concatenate
from explorer.search.control import SearchControl
from explorer.search.exact import exact_front, exact_share
from explorer.search.judge import Judge
from explorer.search.problem import Problem
from explorer.search.program import Program
from explorer.search.sources import calibration_of
from explorer.search.space import LEVELS, SearchSpace
from explorer.search.sweep import budget_grid, sweep, warm_start
from explorer.session import Session

SETUPS = (
    TrainingSetup(),
    TrainingSetup(micro_batch=4, optimizer="adam", precision="fp16"),
    TrainingSetup.of_batch(6, 3, optimizer="sgd-momentum"),
)


def six_layers():
    """Six weighted layers: a residual sum, a depthwise convolution, norms, no biases but one."""
    net = Net(2, 6, 6)
    start = net.conv(INPUT, "stem", 4, kernel=3, norm="gn", act="relu6")
    inner = net.conv(start, "expand", 8, bias=False, act="relu6")
    inner = net.conv(inner, "depth", 8, kernel=3, groups=8, bias=False, act="relu6")
    end = net.add("sum", start, net.conv(inner, "project", 4, bias=False))
    end = net.conv(end, "last", 6, bias=False, act="relu")
    net.linear(net.pool(end), "head", 3)
    return net.graph("six")


def scores_of(graph, seed=0):
    """Random channel scores with heavy tails."""
    rng = np.random.default_rng(seed)
    axes = LayerAxes.of(graph)
    sizes = {"out": axes.out_channels, "in": axes.in_channels, "bias": axes.out_channels}
    columns = {
        name: tuple(rng.pareto(2.0, size) + 0.01 for size in sizes[name.rsplit("_", 1)[1]])
        for name in CHANNEL_COLUMNS
    }
    return ScoreTable(graph.weighted, columns, {"digest": graph.digest})


def asked(graph, *, scored=True, setup=None, **limits):
    """A problem on GAP9 and the space of layers."""
    setup = setup or TrainingSetup()
    axes = LayerAxes.of(graph)
    table = scores_of(graph) if scored else None
    anchors = DesignBatch.of(axes, [nothing(axes), everything(axes)], setup)
    judge = Judge(table=table, calibration=None)
    problem = Problem.of(graph, load_device("gap9"), judge, anchors, **limits)
    importance = np.ones(len(axes.names))
    return problem, SearchSpace.of("layers", graph, importance, setup, "fisher")


def random_designs(space, count, seed=0):
    """Levels and biases of any depth and density."""
    rng = np.random.default_rng(seed)
    layer_count = len(space.axes.names)
    inside = np.arange(layer_count) >= rng.integers(0, layer_count, (count, 1))
    taken = inside & (rng.random((count, layer_count)) < rng.random((count, 1)))
    ratios = np.where(taken, rng.choice(LEVELS[1:], taken.shape), 0.0)
    biases = inside & (rng.random(taken.shape) < rng.random((count, 1)))
    designs = space.designs(space.axes.slices(ratios), biases, "random")
    return designs.take(designs.slices.any(axis=1) | designs.update_bias.any(axis=1))


def all_designs(space):
    """Every combination of distinct levels and biases."""
    axes = space.axes
    choices = [np.unique(axes.slices(LEVELS[:, None] * np.ones(len(axes.names)))[:, at]).tolist()
               for at in range(len(axes.names))]  # fmt: skip
    flags = [(False, True) if has else (False,) for has in axes.has_bias]
    slices = np.array(list(product(*choices)))
    biases = np.array(list(product(*flags)))
    rows = np.arange(len(slices))
    return space.designs(
        slices[np.repeat(rows, len(biases))], np.tile(biases, (len(rows), 1)), "all"
    )


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("scored", [True, False])
@pytest.mark.parametrize(
    "make", [six_layers, lambda: residual_net("bn"), depthwise_net, lambda: parallel_branches("gn")]
)
def test_rows_are_what_the_cost_model_and_the_judge_say(make, scored, setup):
    problem, space = asked(make(), scored=scored, setup=setup)
    designs = random_designs(space, 300, seed=1)
    score, spent = Additive.of(problem, space).goals(designs)
    said = problem.screen(designs).values
    assert np.allclose(score, said[:, 0], rtol=1e-9, atol=1e-9)
    assert np.allclose(spent, said[:, 1:], rtol=1e-9)


@pytest.mark.parametrize("norm", [None, "gn", "bn"])
@pytest.mark.parametrize("model", ["proxyless-w0.3-tinytrain", "mcunet-5fps", "digits-cnn"])
def test_rows_hold_for_the_catalogue(model, norm):
    session = Session(model=model, policy="none", norm=norm, batch=4)
    space = session._space("layers")
    designs = random_designs(space, 100)
    score, spent = Additive.of(session.problem, space).goals(designs)
    unlimited = replace(session.problem, device=roomy(session.profile))
    said = unlimited.screen(designs).values
    assert np.allclose(score, said[:, 0], rtol=1e-9, atol=1e-9)
    assert np.allclose(spent, said[:, 1:], rtol=1e-9)


def test_optimum_equals_brute_force():
    problem, space = asked(six_layers())
    every = problem.screen(all_designs(space))
    assert len(every) == 19_200
    program = Program(Additive.of(problem, space))
    low, high = every.values[:, 1:].min(axis=0), every.values[:, 1:].max(axis=0)
    solved = 0
    for part in product((0.02, 0.3, 0.6, 1.0), (0.05, 0.3, 0.7, 1.0)):
        budgets = low + (high - low) * np.array(part)
        inside = (every.values[:, 1:] <= budgets).all(axis=1)
        inside &= every.designs.slices.any(axis=1) | every.designs.update_bias.any(axis=1)
        optimum = program.best(budgets)
        assert optimum.is_proven
        if not inside.any():
            assert optimum.design is None
            continue
        best = every.score[inside].max()
        found = problem.screen(optimum.design)
        assert found.score[0] == pytest.approx(best, rel=1e-6)
        assert optimum.score_bound == pytest.approx(best, rel=2e-6)
        assert (found.values[0, 1:] <= budgets * (1 + 1e-9)).all()
        assert program.relaxed(budgets)[0] >= best * (1 - 1e-6)
        solved += 1
    assert solved >= 8


def test_front_equals_brute_force_within_its_bound():
    problem, space = asked(six_layers())
    every = problem.screen(all_designs(space))
    exact = exact_front(problem, space, {"test": "brute force"}, time_limit_s=5)
    assert 0 < exact.proven_count <= exact.budget_count
    assert exact.hypervolume <= every.hypervolume * (1 + 1e-9)
    assert exact.hypervolume >= 0.97 * every.hypervolume
    assert exact.hypervolume_limit >= every.hypervolume
    pairs = concatenate([exact.table, every])
    assert pairs.hypervolume == pytest.approx(every.hypervolume, rel=1e-9)


@pytest.mark.parametrize("model", ["mcunet-5fps", "mbv2-w0.35", "mbv2-w0.35-tinytrain"])
def test_no_design_beats_the_optimum_at_its_own_budgets(model):
    session = Session(model=model, policy="none")
    problem, space = session.problem, session._space("layers")
    question = Additive.of(problem, space)
    program = Program(question)
    several = concatenate(
        [problem.screen(random_designs(space, 20)), problem.screen(sweep(question, 40))]
    )
    for row in np.random.default_rng(0).permutation(len(several))[:4]:
        score, *budgets = several.values[row]
        optimum = program.best(np.array(budgets), time_limit_s=3)
        assert optimum.score_bound >= score * (1 - 1e-6)
        assert program.relaxed(np.array(budgets))[0] >= score * (1 - 1e-6)
        if optimum.is_proven:
            assert problem.screen(optimum.design).score[0] >= score * (1 - 2e-6)


def test_the_solver_prints_nothing(capfd):
    session = Session(model="mcunet-5fps", policy="none")
    program = Program(Additive.of(session.problem, session._space("layers")))
    _, upper = budget_grid(program.question, 3, 3)
    for budgets in upper[4:7]:
        program.best(budgets)
    assert capfd.readouterr() == ("", "")


class StopsAtThird(SearchControl):
    """A person who stops at the third time of asking."""

    asked = 0

    def proceed(self) -> bool:
        self.asked += 1
        if self.asked == 3:
            self.stop()
        return super().proceed()


def test_stopped_among_the_bounds_it_solves_no_more_and_claims_nothing(monkeypatch):
    problem, space = asked(six_layers())
    solved, control, solve = [], StopsAtThird(), Program._solve
    monkeypatch.setattr(
        Program, "_solve", lambda *a, **options: solved.append(options) or solve(*a, **options)
    )
    exact = exact_front(problem, space, {"test": "stopped early"}, control=control)
    assert [one["relaxed"] for one in solved] == [True, True]
    assert not exact.is_finished
    assert exact.hypervolume_limit == np.inf


ENDS_WHILE_SOLVING = """
import threading
from explorer.search.additive import Additive
from explorer.search.program import Program
from explorer.search.sweep import budget_grid
from explorer.session import Session

session = Session(model="digits-cnn", policy="none")
question = Additive.of(session.problem, session._space("layers"))
_, upper = budget_grid(question, 3, 3)
solver = Program(question)
solver.relaxed(upper[4])
def work():
    while True:
        solver.relaxed(upper[4])
threading.Thread(target=work, daemon=True).start()
held = [[] for _ in range(1_000_000)]  # so that there is much to take down
"""


def test_a_process_that_ends_while_a_thread_solves_ends_well():
    ended = subprocess.run(
        [sys.executable, "-c", ENDS_WHILE_SOLVING], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_share_of_a_search_is_of_the_union():
    problem, space = asked(six_layers())
    exact = exact_front(problem, space, {"test": "share"}, time_limit_s=1)
    few = problem.screen(random_designs(space, 10))
    share = exact_share(ParetoFront(table=few, seed=0, sampler="none", trial_count=10), exact)
    assert share == pytest.approx(
        few.hypervolume / concatenate([few, exact.table]).hypervolume, rel=1e-12
    )
    assert 0 < share < 1
    itself = ParetoFront(table=exact.table, seed=0, sampler="none", trial_count=0)
    assert exact_share(itself, exact) == pytest.approx(1)


def test_nothing_fits_has_no_share():
    problem, space = asked(six_layers(), memory_limit_bytes=10)
    exact = exact_front(problem, space, {"test": "nothing fits"})
    assert exact.hypervolume == 0
    front = ParetoFront(table=exact.table, seed=0, sampler="none", trial_count=0)
    assert exact_share(front, exact) is None


def test_optima_respect_the_memory_limit():
    problem, space = asked(six_layers())
    most = problem.screen(all_designs(space)).peak_live_bytes
    limit = int(np.quantile(most, 0.3))
    narrow, _ = asked(six_layers(), memory_limit_bytes=limit)
    exact = exact_front(narrow, space, {"test": "limit"}, time_limit_s=1)
    assert exact.table.peak_live_bytes.max() <= limit
    assert exact.table.feasible.all()


def test_a_question_is_solved_once_unless_there_is_more_time():
    problem, space = asked(six_layers())
    stopped = SearchControl()
    stopped.stop()
    question = {"test": "kept"}
    first = exact_front(problem, space, question, time_limit_s=30, control=stopped)
    assert not first.is_finished
    assert first.hypervolume_limit == np.inf
    seen = []
    again = exact_front(
        problem, space, question, time_limit_s=2, on_optimum=lambda *report: seen.append(report)
    )
    assert again is not first
    assert again.hypervolume >= first.hypervolume
    assert all(1 <= done <= total for done, total, *_ in seen)
    volumes = [volume for *_, volume in seen]
    assert volumes == sorted(volumes)
    assert exact_front(problem, space, question, time_limit_s=1) is again


def test_predicted_accuracy_has_no_exact_front():
    session = Session(model="digits-cnn", policy="none")
    calibrated = Judge(table=None, calibration=calibration_of(session.graph, session.task_name))
    assert calibrated.calibration is not None
    problem, space = asked(six_layers())
    with pytest.raises(SpecError, match="not additive"):
        exact_front(
            Problem(
                graph=problem.graph,
                device=problem.device,
                judge=calibrated,
                objectives=problem.objectives,
            ),
            space,
            {"test": "accuracy"},
        )


def test_a_goal_that_is_not_linear_is_named(monkeypatch):
    problem, space = asked(six_layers())
    monkeypatch.setattr(Judge, "proxy", lambda self, designs, costs: costs.step_energy_j**2)
    with pytest.raises(SpecError, match="score is not linear"):
        Additive.of(problem, space)
    assert list(warm_start(problem, space, 10)) == []


def test_the_sweep_stays_in_the_space_and_beats_random_designs():
    problem, space = asked(residual_net("gn"))
    question = Additive.of(problem, space)
    designs = sweep(question, 60)
    assert 20 <= len(designs) <= 60
    keys = {(row.tobytes(), bias.tobytes())
            for row, bias in zip(designs.slices, designs.update_bias, strict=True)}  # fmt: skip
    assert len(keys) == len(designs)
    nearest = np.abs(designs.update_ratio[..., None] - LEVELS).min(axis=-1)
    assert nearest.max() <= 1 / space.axes.out_channels.min()
    random = problem.screen(random_designs(space, len(designs)))
    assert problem.screen(designs).hypervolume > random.hypervolume
    again = sweep(question, 60)
    assert np.array_equal(designs.slices, again.slices)


def test_warm_start_joins_a_search_outside_the_study():
    session = Session(model="digits-cnn", policy="none")
    warm, cold = session.search(25), session.search(25, warm=False)
    assert warm.trial_count == cold.trial_count == 25
    assert len(cold.table) == 25 + len(session.compare())
    assert {"sweep", "exact", "tinytrain:macs=0.5"} <= set(warm.table.designs.families)
    assert warm.hypervolume > cold.hypervolume
    trials = slice(-25, None)
    assert np.array_equal(warm.table.designs.slices[trials], cold.table.designs.slices[trials])


def test_bytes_above_inference_have_an_exact_front_too():
    session = Session("digits-cnn", "gap9", policy="none", memory_objective="above-inference")
    space = session._space("layers")
    designs = random_designs(space, 100)
    question = Additive.of(session.problem, space)
    assert np.allclose(question.goals(designs)[1], session.problem.screen(designs).values[:, 1:])
    front = session.search(trials=40, seed=0)
    assert 0 < exact_share(front, session.exact_front(time_limit_s=2)) <= 1
