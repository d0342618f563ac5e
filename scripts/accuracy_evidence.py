"""Evidence tables on measured accuracy: ledgers, criteria, calibration, published beside ours."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from explorer.accuracy.metrics import METRIC_NAMES, METRICS
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.published import PERCENT, published_accuracy
from explorer.accuracy.ranking import NULL_MODELS, Interval
from explorer.accuracy.records import Ledger, MeasuredRun, Metric, standard_error
from explorer.accuracy.tasks import task_metrics
from explorer.errors import CalibrationError
from explorer.paths import data_cache
from explorer.search.criteria import TRIED, Study, form_of, leave_one_out
from explorer.search.judge import calibrate_runs
from explorer.search.sources import score_table, shipped_runs, studies
from explorer.session import Session

WANTED_SHARE = 0.8


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def measured() -> str:
    """Each ledger in a row: nothing trained, the last layer, the best known policy, all of it."""
    found = []
    for graph, runs in shipped_runs():
        known = _known_specs(graph.name, runs[0].task)
        by_policy = {run.design.family: run for run in runs if run.design.family in known}
        best = max(by_policy.values(), key=lambda run: _figure(run).after)
        cells = [
            _merit(by_policy[name]) if name in by_policy else ""
            for name in ("none", "last-layer", "full")
        ]
        found.append(
            (
                f"{form_of(graph, runs)} on {runs[0].task}",
                runs[0].protocol.words,
                METRIC_NAMES[_metric(runs[0])],
                str(len(runs)),
                *cells,
                f"{best.design.family}: {_merit(best)}",
            )
        )
    head = (
        "network, task",
        "protocol",
        "metric, %",
        "designs",
        "none",
        "last-layer",
        "full",
        "best known policy",
    )
    return table(head, found)


def measured_all() -> str:
    """Really fine-tuned policies: their task's metric with its standard error over episodes."""
    parts = []
    for graph, runs in shipped_runs():
        known = _known_specs(graph.name, runs[0].task)
        rows = [
            (
                run.design.family,
                _merit(run),
                f"{100 * ((figure := _figure(run)).after - figure.before):+.1f} ± "
                f"{100 * (figure.standard_error_change or 0):.1f}",
                f"{run.learning_rate:.2g}",
                str(run.episodes),
            )
            for run in runs
            if run.design.family in known
        ]
        rows.sort(key=lambda row: float(row[1].split()[0]))
        title = (
            f"`{form_of(graph, runs)}` on `{runs[0].task}`: "
            f"{len(runs)} designs measured, {runs[0].protocol.words}; known policies among them:"
        )
        name = f"{METRIC_NAMES[_metric(runs[0])]}, %"
        head = ("policy", name, "gain, points (paired)", "learning rate", "episodes")
        parts.append(f"{title}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


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
        f"{table(('digits-cnn on digits', 'Kendall tau'), rows)}\n\n"
        f"{evidence.run_count} runs, interval coverage {evidence.coverage:.0%} (on the "
        f"{evidence.front_count} a search would offer {evidence.front_coverage:.0%}), mean error "
        f"{100 * evidence.mean_error:.1f} points. Verdict: {verdict}."
    )


def calibrations() -> str:
    """On every ledger with enough runs: does a prediction of its metric beat the null models."""
    rows = []
    for graph, runs in shipped_runs():
        metric, scores = _metric(runs[0]), score_table(graph, runs[0].task)
        try:
            found = calibrate_runs(graph, runs, scores, metric).evidence
        except CalibrationError:
            continue
        best = max(NULL_MODELS, key=lambda name: found.proxy_taus[name])
        rows.append(
            (
                f"{form_of(graph, runs)} on {runs[0].task}",
                METRIC_NAMES[metric],
                str(found.run_count),
                f"{found.tau:.2f}",
                f"{best} {found.proxy_taus[best]:.2f}",
                f"{found.ceiling_tau:.2f}",
                f"{found.reliability:.2f}",
                f"{found.coverage:.0%}",
                found.reason_against or "earned",
            )
        )
    head = (
        "network, task", "metric", "runs", "tau, families held out", "best null model", "ceiling",
        "reliability", "coverage", "verdict",
    )  # fmt: skip
    return table(head, rows)


def schedules() -> str:
    """Source training by mu-Training's schedules: means over seeds, with their standard error."""
    rows = json.loads((data_cache() / "schedules.json").read_text("utf-8"))
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["schedule"], row["policy"]), []).append(row)
    shown = [
        (
            model,
            f"{name}, {policy}" if policy else name,
            " + ".join(f"{count} {spec}" for spec, count in group[0]["phases"]),
            str(len(group)),
            *(
                _over_seeds([row[domain][column] for row in group])
                for domain in ("source", "target", "tuned_target", "tuned_source")
                for column in ("macro_f1", "macro_auroc")
            ),
        )
        for (model, name, policy), group in groups.items()
    ]
    domains = ("source", "target", "target, tuned", "source, tuned")
    figures = (f"{domain}: {name}" for domain in domains for name in ("F1", "AUROC"))
    return (
        f"{table(('network', 'schedule', 'steps', 'seeds', *figures), shown)}\n\n"
        "Macro figures in per cent, mean and standard error over seeds of the training; source: "
        "its held-out part; tuned: after mu-finetune on the target, eight repeats."
    )


def _over_seeds(values: list[float]) -> str:
    error = standard_error(np.array(values))
    spread = "" if error is None else f" ± {PERCENT * error:.1f}"
    return f"{PERCENT * np.mean(values):.1f}{spread}"


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
            f"{100 * ranking.full_gain:+.1f} ± {100 * ranking.full_gain_error:.1f}"
            if ranking.full_gain == ranking.full_gain
            else "not measured",
            f"{ranking.reliability:.2f}",
            f"{ranking.ceiling_tau:.2f}",
            ranking.reason_against or "yes",
        )
        for study in shown
    ]
    parts = [table(head, rows)]
    judged = [study for study in shown if not study.ranking.reason_against]
    if judged:
        parts += [_tau_table(judged), *(_verdict(study) for study in judged), _unseen(judged)]
    return "\n\n".join(parts)


def beside() -> str:
    """Our measured accuracy of the paper's methods, beside the paper's on its own data."""
    paper = published_accuracy()
    ledgers = {
        f"{runs[0].task} at {graph.input_shape[-1]} px, {runs[0].protocol.ways}-way": runs
        for graph, runs in shipped_runs()
        if graph.name == paper.model and isinstance(runs[0].protocol, Protocol)
    }
    frame = paper.beside(ledgers)
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
        f"{table(head, rows)}\n\nAccuracy in per cent. Published: {paper.cite}; {paper.protocol}. "
        f"Ours: fixed ways and shots, no meta-training. Compare down a column, not along a row."
    )


def meta() -> str:
    """The same policies on the same episodes from weights that were meta-trained before."""
    parts = []
    for path in sorted((data_cache() / "runs").glob("*-meta-*.jsonl")):
        runs = Ledger(path).read().runs
        plain = {
            (run.design, run.seed): run
            for graph, group in shipped_runs()
            for run in group
            if (graph.digest, run.task, run.protocol)
            == (runs[0].model.digest, runs[0].task, runs[0].protocol)
        }
        rows = []
        for run in runs:
            other = plain.get((run.design, run.seed))
            if other is None:
                continue
            without = np.array(other.per_episode_accuracy[: run.episodes])
            difference = np.array(run.per_episode_accuracy) - without
            error = difference.std(ddof=1) / len(difference) ** 0.5
            rows.append(
                (
                    run.design.family,
                    f"{PERCENT * without.mean():.1f}",
                    f"{PERCENT * run.accuracy:.1f}",
                    f"{PERCENT * difference.mean():+.1f} ± {PERCENT * error:.1f}",
                )
            )
        title = (
            f"`{runs[0].model.name}` on `{runs[0].task}`, {runs[0].protocol.words}, "
            f"{runs[0].episodes} paired episodes; accuracy in per cent:"
        )
        head = ("policy", "without", "with meta-training", "difference (paired)")
        parts.append(f"{title}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


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
    return table(head, rows)


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
    return f"{tried}.\n\n{table(head, rows)}"


def _metric(run: MeasuredRun) -> str:
    """The column that ranks runs on a run's task."""
    return METRICS[task_metrics(run.task)[0]]


def _figure(run: MeasuredRun) -> Metric:
    figure = run.figure(_metric(run))
    assert figure is not None, f"a run on {run.task} without {_metric(run)}"
    return figure


def _merit(run: MeasuredRun) -> str:
    figure = _figure(run)
    return f"{100 * figure.after:.1f} ± {100 * (figure.standard_error or 0):.1f}"


def _known_specs(model: str, task: str) -> set[str]:
    return set(Session(model=model, task=task, policy="none").compare().labels)
