"""How fast the page is: control to repaint, repaints while streaming, time to first plot.

Starts JupyterLab and Chromium as the browser tour does, prints rows and keeps them in
`results/browser.json`, from where `make evidence` takes them.
Budgets (two shared cores, no GPU): control to repaint 250 ms median, 400 ms p95; 2 repaints a
second at 2,000 trials; 15 s and 8 MB to the first plot.

    python benchmarks/browser_latency.py [--samples 24] [--trials 20000]
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

import lab
from playwright.sync_api import Page

from explorer.figures.roles import ROLES

STREAM_S = 6.0
RESULTS = Path(__file__).parent / "results" / "browser.json"
CHANGES = {
    "device": ("Device", ("stm32f746", "gap9", "stm32h743")),
    "optimizer": ("Optimizer", ("adam", "sgd", "sgd-momentum")),
    "policy": ("Update policy", ("last-layer", "full", "tinytrain")),
    "model": ("Model", ("mbv2-w0.35", "proxyless-w0.3", "mcunet-5fps")),
}
# Resolves when the panels were repainted and the frame is shown; the clock starts at the change.
REPAINT = f"""
([label, value]) => new Promise((resolve, reject) => {{
  const fields = [...document.querySelectorAll('.explorer-app .widget-dropdown')];
  const field = fields.find(f => f.querySelector('label').textContent === label);
  const select = field.querySelector('select');
  const option = [...select.options].find(o => o.textContent === value);
  const start = performance.now();
  const done = () => requestAnimationFrame(() => setTimeout(() => {{
    {lab.PLOT}.removeListener('plotly_afterplot', done);
    resolve(performance.now() - start);
  }}, 0));
  {lab.PLOT}.on('plotly_afterplot', done);
  setTimeout(() => reject(new Error('no repaint after ' + value)), 10000);
  select.value = option.value;
  select.dispatchEvent(new Event('change', {{ bubbles: true }}));
}})
"""


def first_plot(server: lab.Lab, browser: Any) -> tuple[Page, dict[str, float]]:
    """Run the first cell of a fresh notebook; seconds, and bytes of every websocket."""
    page = lab.open_notebook(server, browser, 1280, 800, on_frame=(frames := []).append)
    page.locator(".jp-CodeCell .jp-InputPrompt").first.click()
    before, start = sum(frames), time.perf_counter()
    lab.command(page, "notebook:run-cell")
    lab.await_plot(page)
    took = time.perf_counter() - start
    page.wait_for_timeout(1000)
    return page, {"first_plot_s": took, "first_plot_bytes": float(sum(frames) - before)}


def control_latency(page: Page, samples: int) -> dict[str, dict[str, float]]:
    """Milliseconds from the change of a control to the repaint, by control."""
    found = {}
    for name, (label, values) in CHANGES.items():
        times = []
        for sample in range(samples):
            lab.settle(page, 300)
            times.append(page.evaluate(REPAINT, [label, values[sample % len(values)]]))
        found[name] = {
            "median_ms": float(np.median(times)),
            "p95_ms": float(np.percentile(times, 95)),
            "samples": float(samples),
        }
    return found


def streaming(page: Page, trials: int) -> dict[str, float]:
    """Repaints a second during a long search, and how long a stop takes to be drawn.

    Counted from the first batch on; the start designs before it are a wait of their own.
    """
    lab.fill(page, "Trials", str(trials))
    lab.settle(page)
    start = time.perf_counter()
    lab.press(page, "Search")
    page.wait_for_selector(".explorer-text:has-text('trials/s')", timeout=60_000)
    first_batch_s = time.perf_counter() - start
    page.evaluate("window.paints.length = 0")
    page.wait_for_timeout(STREAM_S * 1000)
    paints = page.evaluate("window.paints.length")
    drawn = page.evaluate(
        f"Math.max(...[0, 1, 2].map(panel => {lab.PLOT}._fullData"
        f".slice({len(ROLES)} * panel, {len(ROLES)} * (panel + 1))"
        ".reduce((sum, trace) => sum + ((trace.x || []).length), 0)))"
    )
    start = time.perf_counter()
    lab.press(page, "Stop")
    page.wait_for_selector(".explorer-text:has-text('stopped')", timeout=20_000)
    lab.settle(page, 300)
    words = page.locator(".explorer-text", has_text="stopped").first.inner_text()
    return {
        "first_batch_s": first_batch_s,
        "repaints_per_s": paints / STREAM_S,
        "points_per_panel": float(drawn),
        "trials_done": float(words.split()[1].split("/")[0]),
        "stop_to_quiet_s": time.perf_counter() - start - 0.3,
    }


def table(result: dict[str, Any]) -> list[list[str]]:
    """The result as rows: what, median or value, 95th percentile."""
    rows = [
        [f"{name} to all panels repainted", f"{ms['median_ms']:.0f} ms", f"{ms['p95_ms']:.0f} ms"]
        for name, ms in result["control"].items()
    ]
    first, stream = result["first"], result["streaming"]
    return [
        *rows,
        ["run cell to first plot", f"{first['first_plot_s']:.1f} s", ""],
        ["websocket bytes to first plot", f"{first['first_plot_bytes'] / 1e6:.1f} MB", ""],
        ["search to first batch", f"{stream['first_batch_s']:.1f} s", ""],
        [
            f"repaints while streaming, {stream['points_per_panel']:.0f} points a panel",
            f"{stream['repaints_per_s']:.1f} /s",
            "",
        ],
        ["stop to last repaint", f"{stream['stop_to_quiet_s']:.1f} s", ""],
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--trials", type=int, default=20_000)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        lab.running_lab(Path(folder)) as server,
        lab.running_browser() as browser,
    ):
        page, first = first_plot(server, browser)
        result = {
            "first": first,
            "control": control_latency(page, options.samples),
            "streaming": streaming(page, options.trials),
        }
    rows = table(result)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    for row in rows:
        print(" | ".join(row))


if __name__ == "__main__":
    main()
