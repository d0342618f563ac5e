"""Evidence tables of README.md and docs/evidence.md: golden rows, ledgers, benchmarks.

`make evidence` rewrites everything between `<!-- evidence:NAME -->` and
`<!-- end -->`; nobody types those tables.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from golden.device_error import FIT_ERROR, DeviceError, coverage, device_errors, reasons, untested  # noqa: E402
from golden.reproduce import Golden, golden_rows  # noqa: E402 - the tests' own rows

from explorer.accuracy.published import PERCENT, published_accuracy  # noqa: E402
from explorer.accuracy.ranking import NULL_MODELS, Interval  # noqa: E402
from explorer.accuracy.records import Protocol  # noqa: E402
from explorer.costmodel.op_by_op import op_by_op_bytes  # noqa: E402
from explorer.search.criteria import TRIED, Study, leave_one_out  # noqa: E402
from explorer.search.sources import shipped_runs, studies  # noqa: E402
from explorer.session import Session  # noqa: E402
from explorer.units import MEGA  # noqa: E402

PAGES = (ROOT / "README.md", ROOT / "docs" / "evidence.md")
RESULTS = ROOT / "benchmarks" / "results"
WANTED_SHARE = 0.8
SIGNAL_MODELS = (
    "mi-bminet",
    "mi-bminet:form=m8",
    "mi-bminet:form=m8-d2",
    "epidenet",
    "epidenet:form=valid",
)
SECTION = re.compile(r"(<!-- evidence:(\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def golden() -> str:
    """Rows met by paper; TinyTrain's table and the engine's figure in full."""
    rows = golden_rows()
    counts = [
        f"{sum(row.met for row in group)} of {len(group)} ({name.replace('_', ' ')})"
        for name in dict.fromkeys(row.name for row in rows)
        if (group := [row for row in rows if row.name == name])
    ]
    shown = _golden_table([row for row in rows if row.name in ("tinytrain", "engine")])
    return f"Rows met: {', '.join(counts)}; all of them in docs/evidence.md.\n\n{shown}"


def golden_all() -> str:
    """Every row."""
    return _golden_table(golden_rows())


def measured() -> str:
    """Really fine-tuned policies: accuracy with its standard error over episodes."""
    parts = []
    for graph, runs in shipped_runs():
        known = _known_specs(graph.name, runs[0].task)
        rows = [
            (
                run.design.family,
                f"{100 * run.accuracy:.1f} ± {100 * (run.standard_error or 0):.1f}",
                f"{100 * (run.accuracy - run.accuracy_before):+.1f} ± "
                f"{100 * (run.standard_error_gain or 0):.1f}",
                f"{run.learning_rate:.2g}",
                str(run.episodes),
            )
            for run in runs
            if run.design.family in known
        ]
        rows.sort(key=lambda row: float(row[1].split()[0]))
        unit = "px" if isinstance(runs[0].protocol, Protocol) else "samples"
        title = (
            f"`{graph.name}` at {graph.input_shape[-1]} {unit} on `{runs[0].task}`: {len(runs)} "
            f"designs measured, {runs[0].protocol.words}; the known policies among them:"
        )
        head = ("policy", "accuracy, %", "gain, points (paired)", "learning rate", "episodes")
        parts.append(f"{title}\n\n{_table(head, rows)}")
    return "\n\n".join(parts)


def biotrain() -> str:
    """BioTrain's rows, and what its eightfold is made of, by form of the networks."""
    head = (
        "network", "Edge-FT, MB", "ReLU in place", "nothing reused", "allocator gain",
        "device accounting", "batch norm, 8 at once", "over Edge-FT",
    )  # fmt: skip
    rows = [_eightfold(model) for model in SIGNAL_MODELS]
    told = _golden_table([row for row in golden_rows() if row.name == "biotrain"])
    return (
        f"{told}\n\nMB are 1e6 bytes with weights and their accumulators, of one micro-batch.\n\n"
        f"{_table(head, rows)}"
    )


def _eightfold(model: str) -> tuple[str, ...]:
    session = Session(model=model, accounting="biotrain").with_policy("biotrain-edge")
    memory = session.cost().memory
    kept = memory["weight_bytes"] + memory["gradient_bytes"]
    in_place = replace(session, accounting="biotrain-relu-in-place").cost().memory
    own = replace(session, accounting="device").cost().memory
    whole = session.with_policy("biotrain-full-bn").cost().memory
    _, _, total = op_by_op_bytes(session.graph, session.designs, relu_in_place=False)
    peak, without_reuse = memory["peak_live_bytes"], float(total[0]) + kept
    sizes = (peak, in_place["peak_live_bytes"], without_reuse)
    return (
        model,
        *(f"{size / MEGA:.3f}" for size in sizes),
        f"{without_reuse / peak:.2f}",
        f"{own['peak_live_bytes'] / MEGA:.3f}",
        f"{whole['peak_live_bytes'] / MEGA:.2f}",
        f"{whole['peak_live_bytes'] / peak:.2f}",
    )


def calibration() -> str:
    """Rank correlation with measured accuracy: predictor, proxies, null models, ceiling."""
    evidence = Session(model="digits-cnn", policy="none").evidence
    if evidence is None:
        return "No calibration: too few measured runs."
    rows = [("prediction, families held out", f"{evidence.tau:.2f}")]
    rows += [(name, f"{tau:.2f}") for name, tau in evidence.proxy_taus.items()]
    rows.append(("ceiling of the measurement noise", f"{evidence.ceiling_tau:.2f}"))
    verdict = evidence.reason_against or "earned: the axis shows accuracy"
    return (
        f"{_table(('digits-cnn on digits', 'Kendall tau'), rows)}\n\n"
        f"{evidence.run_count} runs, interval coverage {evidence.coverage:.0%}, mean error "
        f"{100 * evidence.mean_error:.1f} points. Verdict: {verdict}."
    )


def proxies() -> str:
    """Criteria against measured gains on every ledger: ceilings, taus, and unseen ledgers."""
    shown = studies()
    head = (
        "ledger", "designs x episodes", "gain of full training, points", "reliability",
        "ceiling of tau", "may criteria be judged here",
    )  # fmt: skip
    rows = [
        (
            study.name,
            f"{(ranking := study.ranking).design_count} x {ranking.episodes}",
            f"{100 * ranking.full_gain:+.1f} ± {100 * ranking.full_gain_error:.1f}",
            f"{ranking.reliability:.2f}",
            f"{ranking.ceiling_tau:.2f}",
            ranking.reason_against or "yes",
        )
        for study in shown
    ]
    parts = [_table(head, rows)]
    judged = [study for study in shown if not study.ranking.reason_against]
    if judged:
        parts += [_tau_table(judged), *(_verdict(study) for study in judged), _unseen(judged)]
    return "\n\n".join(parts)


def beside() -> str:
    """Our measured accuracy of the paper's methods, beside the paper's on its own data."""
    table = published_accuracy()
    ledgers = {
        f"{runs[0].task} at {graph.input_shape[-1]} px, {runs[0].protocol.ways}-way": runs
        for graph, runs in shipped_runs()
        if graph.name == table.model and isinstance(runs[0].protocol, Protocol)
    }
    frame = table.beside(ledgers)
    rows = [
        (
            *index,
            f"{PERCENT * row['published omniglot']:.1f}",
            f"{PERCENT * row['published mean']:.1f}",
            *(_share_cell(row[name], row[f"{name} ±"]) for name in ledgers),
        )
        for index, row in frame.iterrows()
    ]
    head = ("method", "our policy", "published, Omniglot", "published, mean of nine", *ledgers)
    return (
        f"{_table(head, rows)}\n\nAccuracy in per cent. Published: {table.cite}; {table.protocol}. "
        f"Ours: fixed ways and shots, no meta-training. Compare down a column, not along a row."
    )


def devices() -> str:
    """Error of the shipped profiles by precision and phase, and what no row can test."""
    return f"{_error_table([row for row in device_errors() if row.shipped])}\n\n{_no_row()}"


def devices_all() -> str:
    """Error on every device of the table, and why some of its figures are not predicted."""
    refused = _table(
        ("why a published figure is not predicted", "figures"),
        [(reason, str(count)) for reason, count in reasons()],
    )
    return f"{_error_table(device_errors())}\n\n{_no_row()}\n\n{refused}"


def speed() -> str:
    """Cost model beside torch's own counter, in one run."""
    return _table(("what", "time", "ratio"), _results("cost_model.json"))


def peers() -> str:
    """Other tools on the same network and batch, in one run."""
    head, *rows = _results("peers.json")
    return _table(head, rows)


def search() -> str:
    """Share of the additive proxy's optimum that searches reach."""
    found = json.loads((RESULTS / "search.json").read_text("utf-8"))
    shares = found["shares"]
    names = [name for name in shares[0] if name.startswith("share")]
    rows = [(row["model"], *(f"{row[name]:.3f}" for name in names)) for row in shares]
    cost, targets = found["cost"], found["targets"]
    wanted = ", ".join(f"{share} at {count}" for count, share in targets.items())
    return (
        f"{_table(('network', *(name.removeprefix('share ') for name in names)), rows)}\n\n"
        f"Medians of {found['seeds']} seeds; wanted of the warm guided search: {wanted} "
        f"evaluations. Optuna takes {cost['overhead_cpu_ms_a_trial']:.2f} ms a trial."
    )


def browser() -> str:
    """What a person waits for, measured in headless Chromium."""
    return _table(("in the browser", "median", "95 %"), _results("browser.json"))


TABLES: dict[str, Callable[[], str]] = {
    "golden": golden,
    "golden-all": golden_all,
    "biotrain": biotrain,
    "measured": measured,
    "calibration": calibration,
    "proxies": proxies,
    "beside": beside,
    "devices": devices,
    "devices-all": devices_all,
    "speed": speed,
    "peers": peers,
    "search": search,
    "browser": browser,
}


def _golden_table(shown: list[Golden]) -> str:
    head = ("network", "policy", "quantity", "published", "ours", "ratio", "verdict")
    rows = [
        (
            row.model,
            row.policy,
            row.quantity.replace("_", " "),
            f"{row.published} {row.unit if row.unit != '1' else ''}".strip(),
            f"{row.value:,.4g}" if row.unit != "1" else f"{row.value:.0f}",
            f"{row.ratio:.3f}",
            "met" if row.met else f"not met: {row.missed}",
        )
        for row in shown
    ]
    return _table(head, rows)


def _tau_table(judged: list[Study]) -> str:
    """Tau with its interval and its share of the ceiling; what was tried comes last."""
    names = dict.fromkeys(name for study in judged for name in study.ranking.taus)
    rows = [
        (
            f"{name} (tried)" if name in TRIED else name,
            *(_tau_cell(study, study.ranking.taus.get(name)) for study in judged),
            f"{_mean_share(judged, name):.0%}",
        )
        for name in names
    ]
    head = ("Kendall tau (share of the ceiling)", *(study.name for study in judged), "mean share")
    return _table(head, rows)


def _mean_share(judged: list[Study], name: str) -> float:
    rankings = [study.ranking for study in judged if name in study.ranking.taus]
    shares = [ranking.taus[name].value / ranking.ceiling_tau for ranking in rankings]
    return sum(shares) / len(shares)


def _share_cell(share: float, error: float) -> str:
    return f"{PERCENT * share:.1f} ± {PERCENT * error:.1f}" if share == share else ""


def _tau_cell(study: Study, tau: Interval | None) -> str:
    if tau is None or tau.value != tau.value:
        return ""
    share = tau.value / study.ranking.ceiling_tau
    return f"{tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}] ({share:.0%})"


def _verdict(study: Study) -> str:
    """What beats the best null model with confidence, and what comes near the ceiling."""
    ranking = study.ranking
    leading = [
        f"{name} (by {lead.value:.2f} [{lead.low:.2f}, {lead.high:.2f}])"
        for name, lead in ranking.leads.items()
        if lead.low > 0
    ]
    near = [
        name
        for name, tau in ranking.taus.items()
        if tau.value >= WANTED_SHARE * ranking.ceiling_tau
    ]
    return (
        f"{study.name}: better than the best null model with confidence: "
        f"{', '.join(leading) or 'nothing'}; from {WANTED_SHARE:.0%} of the ceiling up: "
        f"{', '.join(near) or 'nothing'}."
    )


def _unseen(judged: list[Study]) -> str:
    """What was chosen, or fitted, on the other ledgers and judged on the one left out."""
    found = leave_one_out(judged)
    tried = f"{len(TRIED)} combinations without a fitted weight and one regression were tried"
    if not found:
        return f"{tried}; with one ledger to judge on, none can be tested on an unseen one."
    head = (
        "ledger left out", "chosen on the others", "its tau", "regression fitted on the others",
        "best null model", "ceiling",
    )  # fmt: skip
    rows = [
        (
            one.study.name,
            one.chosen,
            f"{one.chosen_tau:.2f}",
            f"{one.fitted_tau:.2f}",
            f"{max(one.study.ranking.taus[name].value for name in NULL_MODELS):.2f}",
            f"{one.study.ranking.ceiling_tau:.2f}",
        )
        for one in found
    ]
    return f"{tried}.\n\n{_table(head, rows)}"


def _error_table(shown: list[DeviceError]) -> str:
    head = (
        "device", "precision", "phase", "profile", "rows", "mean error, %", "median bias, %",
        "worst, %", "the fit's own, %", "in the 90 % interval",
    )  # fmt: skip
    rows = [
        (
            row.device,
            row.precision or "any",
            row.phase,
            row.profile if row.shipped else f"{row.profile} (in the tests)",
            str(row.row_count),
            f"{100 * row.mean_error_ratio:.1f}",
            f"{100 * row.median_bias_ratio:+.1f}",
            f"{100 * row.worst_error_ratio:+.0f} ({row.worst_workload})",
            str(FIT_ERROR.get(row.key, "")),
            "{} of {}".format(*coverage()[row.key]) if row.key in coverage() else "",
        )
        for row in shown
    ]
    return _table(head, rows)


def _no_row() -> str:
    return _table(("shipped profile", "precision", "no row can test its"), untested())


def _known_specs(model: str, task: str) -> set[str]:
    return set(Session(model=model, task=task, policy="none").compare().labels)


def _results(name: str) -> list[list[str]]:
    rows: list[list[str]] = json.loads((RESULTS / name).read_text("utf-8"))
    return rows


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rewrite(text: str) -> str:
    """A page with every evidence section made anew."""
    return SECTION.sub(
        lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}",
        text,
    )


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(rewrite(page.read_text("utf-8")), "utf-8")
        print(page.name)
