"""How fast the page is: control to repaint, repaints while streaming, time to first plot.

Starts JupyterLab and Chromium as the browser tour does, prints rows and keeps them in
`results/browser.json`, from where `make evidence` takes them.
Budgets (two cores, no GPU): control to repaint 150 ms median, 300 ms p95; 4 repaints a second
while 10,000 candidates stream; stop, pause and resume answered in 300 ms, nothing drawn a second
after a stop; 15 s and 8 MB to the first plot; memory that does not grow from search to search.

    python benchmarks/browser_latency.py [--samples 24] [--trials 10000] [--searches 20]
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

import lab
from playwright.sync_api import Page

from explorer.figures.roles import ROLES

STREAM_S = 60.0  # at most
PRESSES = 10
ENDLESS = 100_000  # trials of a search that does not end meanwhile
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
# Resolves when a button that was pressed is disabled or says something else.
ANSWER = """
text => new Promise((resolve, reject) => {
  const button = [...document.querySelectorAll('.explorer-app button')]
    .find(one => one.textContent === text);
  const start = performance.now();
  const watcher = new MutationObserver(() => {
    if (!button.disabled && button.textContent === text) return;
    watcher.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - start), 0));
  });
  watcher.observe(button, { attributes: true, childList: true, subtree: true });
  setTimeout(() => reject(new Error('no answer to ' + text)), 10000);
  button.click();
})
"""
# Points of a role, or of all, in the panel that shows most.
COUNT = f"""
role => Math.max(...[0, 1, 2].map(panel => {lab.PLOT}._fullData
  .slice({len(ROLES)} * panel, {len(ROLES)} * (panel + 1))
  .filter(trace => !role || trace.name === role)
  .reduce((sum, trace) => sum + (trace.x || []).length, 0)))
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
        found[name] = spread_ms(times)
    return found


def spread_ms(times: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {"median_ms": float(np.median(times)), "p95_ms": float(np.percentile(times, 95))}


def status(page: Page) -> str:
    """What the search says of itself, `running 120/400, ...`."""
    words: str = page.locator(".explorer-text", has_text="trials/s").first.inner_text()
    return words


def start_search(page: Page, trials: int) -> dict[str, float]:
    """Start a search; seconds to its first designs and to its first trials."""
    lab.fill(page, "Trials", str(trials))
    lab.settle(page)
    start, took = time.perf_counter(), {}
    lab.press(page, "Search")
    for name, words in {"first_designs_s": "hypervolume", "first_trials_s": "trials/s"}.items():
        said = f".explorer-text:has-text('running'):has-text('{words}')"
        page.wait_for_selector(said, timeout=120_000)
        took[name] = time.perf_counter() - start
    return took


def streaming(page: Page, trials: int) -> dict[str, Any]:
    """Repaints a second during a long search, answers of its buttons, and a stop until drawn.

    Counted from the first trials on; the start designs before them are a wait of their own.
    """
    started = start_search(page, trials)
    page.evaluate("window.paints.length = 0")
    start = time.perf_counter()
    is_active, done = 1, 0
    while time.perf_counter() - start < STREAM_S and is_active:
        page.wait_for_timeout(500)
        is_active = page.locator("button:text-is('Stop'):enabled").count()
        done = int(status(page).split()[1].split("/")[0])
    took = time.perf_counter() - start
    paints = page.evaluate("window.paints.length")
    points, front = page.evaluate(COUNT, ""), page.evaluate(COUNT, "front")
    if not is_active:
        start_search(page, ENDLESS)
    answers: dict[str, list[float]] = {"Pause": [], "Resume": []}
    for _ in range(PRESSES):
        for word, times in answers.items():
            times.append(page.evaluate(ANSWER, word))
            page.wait_for_timeout(300)
    start = time.perf_counter()
    stop_ms = page.evaluate(ANSWER, "Stop")
    page.wait_for_selector(".explorer-text:has-text('stopped')", timeout=20_000)
    lab.settle(page, 300)
    return {
        **started,
        "repaints_per_s": paints / took,
        "trials_done": float(done),
        "points_per_panel": float(points),
        "front_points": float(front),
        "pause": spread_ms(answers["Pause"]),
        "resume": spread_ms(answers["Resume"]),
        "stop_ms": [stop_ms],
        "stop_to_quiet_s": time.perf_counter() - start - 0.3,
    }


def memory_bytes(page: Page) -> tuple[float, float]:
    """What the page's scripts hold, and what the kernel does."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    kernels = [
        process
        for process in psutil.Process().children(recursive=True)
        if any("ipykernel" in word for word in process.cmdline())
    ]
    return float(heap), float(sum(process.memory_info().rss for process in kernels))


def searching_again(page: Page, searches: int) -> dict[str, Any]:
    """Search and stop many times: answers of the stop button, growth of memory.

    The first quarter is left out of the growth: what is made once is no leak.
    """
    stops, before = [], (0.0, 0.0)
    for search in range(searches):
        if search == searches // 4:
            before = memory_bytes(page)
        start_search(page, ENDLESS)
        stops.append(page.evaluate(ANSWER, "Stop"))
        page.wait_for_selector(".explorer-text:has-text('stopped')", timeout=20_000)
    growth = [after - first for after, first in zip(memory_bytes(page), before, strict=True)]
    return {
        "searches": searches,
        "grown_over": searches - searches // 4,
        "stop_ms": stops,
        "page_growth_bytes": growth[0],
        "kernel_growth_bytes": growth[1],
    }


def table(result: dict[str, Any]) -> list[list[str]]:
    """The result as rows: what, median or value, 95th percentile."""
    rows = [
        [f"{name} to all panels repainted", f"{ms['median_ms']:.0f} ms", f"{ms['p95_ms']:.0f} ms"]
        for name, ms in result["control"].items()
    ]
    first, stream, again = result["first"], result["streaming"], result["again"]
    pressed = {word: stream[word] for word in ("pause", "resume")}
    pressed["stop"] = spread_ms(stream["stop_ms"] + again["stop_ms"])
    rows += [
        [f"{word} to button answered", f"{ms['median_ms']:.0f} ms", f"{ms['p95_ms']:.0f} ms"]
        for word, ms in pressed.items()
    ]
    return [
        *rows,
        ["run cell to first plot", f"{first['first_plot_s']:.1f} s", ""],
        ["websocket bytes to first plot", f"{first['first_plot_bytes'] / 1e6:.1f} MB", ""],
        ["search to first designs", f"{stream['first_designs_s']:.1f} s", ""],
        ["search to first trials", f"{stream['first_trials_s']:.1f} s", ""],
        [
            f"repaints while {stream['trials_done']:,.0f} candidates stream, "
            f"{stream['points_per_panel']:.0f} points a panel, "
            f"{stream['front_points']:.0f} of them the whole front",
            f"{stream['repaints_per_s']:.1f} /s",
            "",
        ],
        ["stop to last repaint", f"{stream['stop_to_quiet_s']:.1f} s", ""],
        *(
            [
                f"memory of the {part}, growth over {again['grown_over']} searches",
                f"{again[f'{part}_growth_bytes'] / 1e6:+.1f} MB",
                "",
            ]
            for part in ("page", "kernel")
        ),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--searches", type=int, default=20)
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
            "again": searching_again(page, options.searches),
        }
    rows = table(result)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    for row in rows:
        print(" | ".join(row))


if __name__ == "__main__":
    main()
