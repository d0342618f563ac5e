"""Evidence tables of README.md and docs/evidence.md: golden rows, ledgers, benchmarks.

`make evidence` rewrites everything between `<!-- evidence:NAME -->` and
`<!-- end -->`; nobody types those tables.
"""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from accuracy_evidence import (  # noqa: E402
    beside,
    calibration,
    calibrations,
    measured,
    measured_all,
    meta,
    proxies,
    schedules,
    table,
)
from golden.device_error import FIT_ERROR, DeviceError, coverage, device_errors, reasons, untested  # noqa: E402
from golden.reproduce import Golden, golden_rows  # noqa: E402 - the tests' own rows

from explorer.costmodel.op_by_op import op_by_op_bytes  # noqa: E402
from explorer.session import Session  # noqa: E402
from explorer.units import MEGA  # noqa: E402

PAGES = (ROOT / "README.md", ROOT / "docs" / "evidence.md")
RESULTS = ROOT / "benchmarks" / "results"
SIGNAL_MODELS = (
    "mi-bminet",
    "mi-bminet:form=m8",
    "mi-bminet:form=m8-d2",
    "epidenet",
    "epidenet:form=valid",
)
SECTION = re.compile(r"(<!-- evidence:(\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def golden() -> str:
    """How many rows of each source are met."""
    rows = golden_rows()
    found = []
    for name in dict.fromkeys(row.name for row in rows):
        group = [row for row in rows if row.name == name]
        missed = sum(not row.met for row in group)
        found.append(
            (name.replace("_", " "), str(len(group)), str(len(group) - missed), str(missed))
        )
    return table(("published in", "rows", "met", "not met, with the reason"), found)


def golden_all() -> str:
    """Every row."""
    return _golden_table(golden_rows())


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
        f"{table(head, rows)}"
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


def devices() -> str:
    """Mean error of the shipped profiles by precision and phase."""
    rows = [
        (
            row.device,
            row.precision or "any",
            row.phase,
            str(row.row_count),
            f"{100 * row.mean_error_ratio:.1f}",
            "{} of {}".format(*coverage()[row.key]) if row.key in coverage() else "",
        )
        for row in device_errors()
        if row.shipped
    ]
    head = ("device", "precision", "phase", "rows", "mean error, %", "in the 90 % interval")
    return table(head, rows)


def devices_all() -> str:
    """Error on every device of the table, and why some of its figures are not predicted."""
    refused = table(
        ("why a published figure is not predicted", "figures"),
        [(reason, str(count)) for reason, count in reasons()],
    )
    return f"{_error_table(device_errors())}\n\n{_no_row()}\n\n{refused}"


def speed() -> str:
    """Cost model beside torch's own counter, in one run."""
    return table(("what", "time", "ratio"), _results("cost_model.json"))


def peers() -> str:
    """Other tools on the same network and batch, in one run."""
    head, *rows = _results("peers.json")
    return table(head, rows)


def search() -> str:
    """Share of the additive proxy's optimum that searches reach."""
    found = json.loads((RESULTS / "search.json").read_text("utf-8"))
    shares = found["shares"]
    names = [name for name in shares[0] if name.startswith("share")]
    rows = [(row["model"], *(f"{row[name]:.3f}" for name in names)) for row in shares]
    cost, targets = found["cost"], found["targets"]
    wanted = ", ".join(f"{share} at {count}" for count, share in targets.items())
    return (
        f"{table(('network', *(name.removeprefix('share ') for name in names)), rows)}\n\n"
        f"Medians of {found['seeds']} seeds; wanted of the warm guided search: {wanted} "
        f"evaluations. Optuna takes {cost['overhead_cpu_ms_a_trial']:.2f} ms a trial."
    )


def browser() -> str:
    """What a person waits for, measured in headless Chromium."""
    return table(("in the browser", "median", "95 %"), _results("browser.json"))


def fuzz() -> str:
    """Hostile inputs to every reader of files, in one run."""
    found = json.loads((RESULTS / "fuzz.json").read_text("utf-8"))
    rows = [
        (
            row["reader"],
            *(f"{row[name]:,}" for name in ("inputs", "read", "refused", "findings")),
            f"{row['slowest_s']:.2f}",
            f"{row['peak_bytes'] / MEGA:,.0f}",
        )
        for row in found["readers"]
    ]
    head = (
        "reader", "inputs", "read", "refused in a sentence", "anything else",
        "slowest, s", "most memory, MB",
    )  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f"{table(head, rows)}\n\n{found['inputs']:,} inputs of seed {found['seed']} in "
        f"{found['wall_time_s'] / 60:.0f} minutes, with Python {found['python']}, {versions}."
    )


TABLES: dict[str, Callable[[], str]] = {
    "golden": golden,
    "golden-all": golden_all,
    "biotrain": biotrain,
    "measured": measured,
    "measured-all": measured_all,
    "meta": meta,
    "calibration": calibration,
    "calibrations": calibrations,
    "proxies": proxies,
    "schedules": schedules,
    "beside": beside,
    "devices": devices,
    "devices-all": devices_all,
    "speed": speed,
    "peers": peers,
    "search": search,
    "browser": browser,
    "fuzz": fuzz,
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
    return table(head, rows)


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
    return table(head, rows)


def _no_row() -> str:
    return table(("shipped profile", "precision", "no row can test its"), untested())


def _results(name: str) -> list[list[str]]:
    rows: list[list[str]] = json.loads((RESULTS / name).read_text("utf-8"))
    return rows


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
