"""What a session works on: entries of the catalogue and what was measured of them, kept."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from itertools import product
from pathlib import Path

from explorer import catalog
from explorer.accuracy.calibrate import Calibration
from explorer.accuracy.metrics import ACCURACY
from explorer.accuracy.records import Ledger, LedgerContent, MeasuredRun, comparable
from explorer.accuracy.scores import ScoreTable
from explorer.accuracy.tasks import seen_state, task_for
from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.tables import layer_table
from explorer.design import DesignBatch, TrainingSetup, UpdatePolicy
from explorer.device import DeviceProfile, load_device
from explorer.document import PolicyDocument
from explorer.errors import CalibrationError, ExplorerError, MissingDataError, SpecError
from explorer.family import PolicyContext
from explorer.graph import NORMS, ModelGraph, normalised
from explorer.network import check_traced, is_network_path, load_network
from explorer.paths import data_cache, file_state, user_cache
from explorer.search.criteria import Study, study
from explorer.search.judge import Judge, calibrate_runs, measured_designs
from explorer.units import FloatArray

MEASURED_WIDTHS = (8, 16, 32, 64, 128)
MEASURED_FORMS = (
    *("", ":resolution=84"),
    *(f":d_model={width},length=1024" for width in MEASURED_WIDTHS),
)


def model_graph(spec: str) -> ModelGraph:
    """A network from the catalogue by `name` or `name:key=value`, in its own norm.

    A path to a network's JSON is read again when the file has changed.
    """
    if is_network_path(spec):
        path = Path(spec).expanduser()
        return _network(path, file_state(path))
    return _entry(spec)


@lru_cache(maxsize=32)
def _network(path: Path, _state: tuple[int, ...]) -> ModelGraph:
    return load_network(path)


@lru_cache(maxsize=32)
def _entry(spec: str) -> ModelGraph:
    check_traced(spec)
    name, options = catalog.split_spec(spec)
    module = catalog.load("model", name)
    for key in options:
        if key not in module.OPTIONS:
            known = ", ".join(module.OPTIONS) or "none"
            raise SpecError.of(f"option of {name}", key, f"known options: {known}")
    graph: ModelGraph = module.build(**options)
    return graph


def model_task(spec: str) -> str:
    """The task a network is compared on unless another is asked for; empty for a path's."""
    if is_network_path(spec):
        return ""
    return str(catalog.load("model", catalog.split_spec(spec)[0]).TASK)


def model_options(spec: str) -> dict[str, tuple[str, str]]:
    """Options of a parametrised network: the default and one line of help of each, by name."""
    if is_network_path(spec):
        return {}
    entry = catalog.load("model", catalog.split_spec(spec)[0])
    defaults = signature(entry.build).parameters
    return {name: (str(defaults[name].default), words) for name, words in entry.OPTIONS.items()}


def model_home(spec: str) -> tuple[str, tuple[tuple[str, int], ...]]:
    """The device a network was published on and the update it was trained by there.

    The device is empty, and the update none, where none is known.
    """
    if is_network_path(spec):
        return "", ()
    entry = catalog.load("model", catalog.split_spec(spec)[0])
    return getattr(entry, "DEVICE", ""), tuple(getattr(entry, "UPDATE", {}).items())


def device_profile(name: str) -> DeviceProfile:
    """A device by name or by path to a TOML, which is read again when the file has changed."""
    return _device(name, file_state(Path(name)) if name.endswith(".toml") else ())


@lru_cache(maxsize=32)
def _device(name: str, _state: tuple[int, ...]) -> DeviceProfile:
    return load_device(name)


def kept_name(model: str, task: str) -> str:
    """Stem of the files of a network on a task; of a user's own its name, and a digest of where."""
    if not catalog.is_own_task(task):
        return f"{model}-{task}"
    key = catalog.task_key(task)
    name = Path(key).name.replace(":", "-")
    return f"{model}-{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def score_path(graph: ModelGraph, task: str) -> Path:
    """Where a network's score table lies: of a task of a user's own in the user's cache.

    A form other than its entry's has its own file.
    """
    entry = _catalogued(graph)
    own_form = entry is None or graph.digest == entry.digest
    form = "" if own_form else f"-{graph.digest}"
    cache = user_cache() if catalog.is_own_task(task) else data_cache()
    return cache / "fisher" / f"{kept_name(graph.name, task)}{form}.npz"


def score_table(graph: ModelGraph, task: str) -> ScoreTable | None:
    """Channel scores that `explorer fisher` made, or None where there are none of this network."""
    path = score_path(graph, task)
    state = file_state(path)
    return _score_table(graph, path, state) if state else None


@lru_cache(maxsize=32)
def _score_table(graph: ModelGraph, path: Path, _state: tuple[int, ...]) -> ScoreTable | None:
    try:
        return ScoreTable.load(path, graph)
    except (MissingDataError, SpecError):
        return None


@lru_cache(maxsize=32)
def measured_runs(graph: ModelGraph, task: str) -> tuple[MeasuredRun, ...]:
    """Runs of this very network with its own weights, from the ledger in `data_cache/runs`.

    Accuracies of two protocols or of two weights are not of one scale: of several only the
    one with most runs counts.
    """
    ledger = Ledger(data_cache() / "runs" / f"{kept_name(graph.name, task)}.jsonl")
    return _commonest(_runs_of(graph, ledger.read()))


def own_ledger(graph: ModelGraph, task: str) -> Ledger:
    """Where the app keeps what a user measures, in the user's cache."""
    return Ledger(user_cache() / "runs" / f"{kept_name(graph.name, task)}.jsonl")


def known_runs(graph: ModelGraph, task: str) -> tuple[MeasuredRun, ...]:
    """Measured runs, and those of the user's own ledger that are of one scale with them.

    Own runs are of few episodes, so they say what a design reached and calibrate nothing.
    """
    return (*measured_runs(graph, task), *beside_shipped(graph, task, own_ledger(graph, task)).runs)


def left_out(graph: ModelGraph, task: str) -> tuple[str, ...]:
    """What the user's own ledger holds that is not among the known runs, and why; sentences.

    Also where channel scores are of other data than what was measured last.
    """
    reasons = beside_shipped(graph, task, own_ledger(graph, task)).left_out
    table, runs = score_table(graph, task), known_runs(graph, task)
    scored = "" if table is None else table.meta.get("data_digest", "")
    measured = next((run.data_digest for run in reversed(runs) if run.data_digest), "")
    if "" in (scored, measured) or scored == measured:
        return reasons
    return (
        *reasons,
        f"channel scores are of other data than runs on {task}; explorer fisher makes them anew",
    )


@dataclass(frozen=True)
class Beside:
    """Runs of a ledger that can stand beside others, and sentences on those that cannot."""

    runs: tuple[MeasuredRun, ...]
    left_out: tuple[str, ...]


def beside_shipped(graph: ModelGraph, task: str, ledger: Ledger) -> Beside:
    """Runs of a ledger on a task, its data as it is now and of one scale with those shipped.

    Without shipped ones those of its commonest protocol and weights count.
    """
    state = file_state(ledger.path)
    if not state:
        return Beside((), ())
    return _beside(graph, task, ledger, (state, seen_state(task, ledger, state)))


@lru_cache(maxsize=32)
def _beside(graph: ModelGraph, task: str, ledger: Ledger, _state: tuple[object, ...]) -> Beside:
    shipped = measured_runs(graph, task)
    try:
        content = ledger.read()
    except SpecError as error:
        return Beside((), (str(error),))
    reasons = [content.problem] if content.problem else []

    def without(rest: Sequence[MeasuredRun], runs: Sequence[MeasuredRun], why: str) -> None:
        if count := len(runs) - len(rest):
            reasons.append(f"{ledger.path}: {count} of {len(runs)} runs are left out, {why}")

    key = catalog.task_key(task)
    named = [run for run in _runs_of(graph, content) if catalog.task_key(run.task) == key]
    every = [run for run in named if run.suits(graph)]
    without(every, named, f"{graph.name} cannot have their designs")
    try:
        digest = _data_digest(graph, task, shipped or tuple(every)) if every else ""
    except ExplorerError as error:
        without([], every, f"their data cannot be checked: {error}")
        return Beside((), tuple(reasons))
    same = [run for run in every if "" in (digest, run.data_digest) or run.data_digest == digest]
    without(same, every, f"their data is not what {task} holds now")
    if shipped:
        scale = (shipped[0].weights_digest, shipped[0].protocol)
        fair = tuple(run for run in same if (run.weights_digest, run.protocol) == scale)
        without(fair, same, "their weights or protocol are not those of the shipped runs")
    else:
        fair = _commonest(tuple(same))
        without(fair, same, "their weights or protocol are not those of most runs")
    return Beside(fair, tuple(reasons))


def _data_digest(graph: ModelGraph, task: str, runs: Sequence[MeasuredRun]) -> str:
    """Digest of a task's data: a user's own is read; else that of the latest run.

    Code is not run to compare.
    """
    if catalog.task_path(task) is not None:
        return task_for(task, graph.input_shape).digest
    return next((run.data_digest for run in reversed(runs) if run.data_digest), "")


def _runs_of(graph: ModelGraph, content: LedgerContent) -> tuple[MeasuredRun, ...]:
    """Of steps that are all the design's; others say nothing of it alone."""
    own = own_weights(graph)
    return tuple(
        run
        for run in content
        if run.model.digest == graph.digest
        and own in ("", run.weights_digest)
        and not run.protocol.phases
    )


def _commonest(runs: tuple[MeasuredRun, ...]) -> tuple[MeasuredRun, ...]:
    groups = comparable(runs)
    return groups[0] if groups else ()


def own_weights(graph: ModelGraph) -> str:
    """Digest of the weights that belong to a network; empty where its entry names none.

    They are those of every form with as many parameters and the same norm, such as other
    resolutions.
    """
    usual = _catalogued(graph)
    if usual is None:
        return ""
    own_form = (usual.parameter_count, usual.norm) == (graph.parameter_count, graph.norm)
    return str(getattr(catalog.load("model", graph.name), "WEIGHTS_DIGEST", "")) if own_form else ""


def _catalogued(graph: ModelGraph) -> ModelGraph | None:
    """The catalogue's network of that name; None for a network from a file."""
    return model_graph(graph.name) if graph.name in catalog.names("model") else None


def calibration_of(graph: ModelGraph, task: str, metric: str = ACCURACY) -> Calibration | None:
    """A calibration on the ledger, or None with too few runs; judge its evidence before use."""
    return _calibration(graph, task, metric, score_table(graph, task))


@lru_cache(maxsize=32)
def _calibration(
    graph: ModelGraph, task: str, metric: str, table: ScoreTable | None
) -> Calibration | None:
    try:
        return calibrate_runs(graph, measured_runs(graph, task), table, metric)
    except CalibrationError:
        return None


def calibration_beside(
    graph: ModelGraph, task: str, ledgers: Sequence[Ledger], metric: str = ACCURACY
) -> Calibration:
    """A calibration on the shipped runs and those of more ledgers that can stand beside them.

    CalibrationError with too few runs.
    """
    more = (run for ledger in ledgers for run in beside_shipped(graph, task, ledger).runs)
    runs = {run.key: run for run in (*measured_runs(graph, task), *more)}
    alike = _commonest(tuple(runs.values()))
    return calibrate_runs(graph, alike, score_table(graph, task), metric)


def policy_context(
    graph: ModelGraph,
    device: DeviceProfile,
    setup: TrainingSetup,
    scores: ScoreTable | None,
    reserve_bytes: int,
) -> PolicyContext:
    """What policy families choose by."""
    table = layer_table(graph)

    def screen(policies: Sequence[UpdatePolicy]) -> tuple[FloatArray, FloatArray]:
        costs = evaluate(graph, device, DesignBatch.of(table.axes, policies, setup))
        return costs.peak_live_bytes, costs.input_grad_macs + costs.weight_grad_macs

    return PolicyContext(
        graph=graph,
        axes=table.axes,
        weight_counts=table.weight_count,
        forward_macs=table.forward_macs,
        layer_fisher=None if scores is None else scores.layer_fisher(),
        layer_gradient=None if scores is None else scores.layer_gradient(),
        screen=screen,
        usable_bytes=float(device.ram.usable_bytes - reserve_bytes),
    )


def judge_of(graph: ModelGraph, task: str, metric: str = ACCURACY, *, predicts: bool) -> Judge:
    """Who scores designs of a network: by a predicted metric if wished and earned, or a proxy."""
    calibration = calibration_of(graph, task, metric) if predicts else None
    earned = calibration is not None and not calibration.evidence.reason_against
    return Judge(
        table=score_table(graph, task),
        calibration=calibration if earned else None,
        measured=measured_designs(graph, known_runs(graph, task), metric),
        norm=graph.norm,
        metric=metric,
    )


def measured_form(name: str, digest: str) -> ModelGraph | None:
    """The network of that name and digest, among the forms our ledgers were made with."""
    for form, norm in product(MEASURED_FORMS, (None, *NORMS)):
        try:
            graph = normalised(model_graph(name + form), norm)
        except ExplorerError:
            continue
        if graph.digest == digest:
            return graph
    return None


def network_of(document: PolicyDocument, graph: ModelGraph | None) -> ModelGraph:
    """The network that a document is for, in the norm of its setup.

    SpecError with both names where `graph` is another one, and where none is given and the
    catalogue does not have it.
    """
    named = document.model
    found = graph or measured_form(named.name, named.digest)
    if found is None and named.name in catalog.names("model"):
        found = model_graph(named.name)
    if found is None:
        raise SpecError.of(
            "network of the document",
            f"{named.name} ({named.digest}), which the catalogue does not have",
            "one given as graph=Session(model=...).graph",
        )
    network = normalised(found, document.setup.norm)
    document.check_network(network)
    return network


def shipped_runs() -> list[tuple[ModelGraph, tuple[MeasuredRun, ...]]]:
    """Groups of comparable runs in `data_cache/runs` whose network is known, with its weights."""
    groups = [
        group
        for path in sorted((data_cache() / "runs").glob("*.jsonl"))
        for group in comparable(Ledger(path).read())
    ]
    graphs = [measured_form(group[0].model.name, group[0].model.digest) for group in groups]
    return [
        (graph, group)
        for graph, group in zip(graphs, groups, strict=True)
        if graph and own_weights(graph) in ("", group[0].weights_digest)
    ]


def studies() -> list[Study]:
    """Criteria judged on every group of comparable runs in `data_cache/runs`."""
    return [study(graph, runs, score_table(graph, runs[0].task)) for graph, runs in shipped_runs()]
