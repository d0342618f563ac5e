"""Every reader under very many hostile inputs: `python -m tests.fuzz.run`, or `make fuzz`.

A reader has a process of its own, which mutates and reads in a loop from a seed; a process that
dies or stands still is a finding, and another goes on behind that input. What is found is kept
under `--findings` as the files that did it; a summary is written as JSON.
"""

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
LONGEST_SENTENCE = 3000
STANDSTILL_S = 120  # of this machine's clock, for work that no timer can break off
MOST_FINDINGS = 200
MOST_WORKER_BYTES = 6 << 30  # beside the bound of each input, against a leak
PACKAGES = ("numpy", "pydantic", "pyyaml", "pillow", "onnx", "torch")


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=8000, help="for a reader with share 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=None, help="names of readers")
    parser.add_argument("--out", type=Path, default=None, help="write the summary here")
    parser.add_argument("--findings", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--worker", nargs=3, default=None, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.worker:
        name, start, stop = asked.worker
        _work(name, int(start), int(stop), asked.seed, asked.findings)
        return 0
    from tests.fuzz.readers import READERS

    began, rows = time.monotonic(), []
    for name in asked.only or READERS:
        rows.append(_attacked(name, max(1, round(asked.inputs * READERS[name].share)), asked))
        print(json.dumps(rows[-1]), flush=True)
    findings = sum(row["findings"] for row in rows)
    summary = {
        "seed": asked.seed,
        "inputs": sum(row["inputs"] for row in rows),
        "findings": findings,
        "wall_time_s": round(time.monotonic() - began, 1),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "readers": rows,
    }
    if asked.out is not None:
        asked.out.write_text(json.dumps(summary, indent=2) + "\n")
    print(f"{summary['inputs']} inputs, {findings} findings, {summary['wall_time_s']} s")
    return int(findings > 0)


def _attacked(name, count, asked):
    """The row of a reader: processes one behind another until every input was read."""
    began = time.monotonic()
    row = {"reader": name, "inputs": 0, "read": 0, "refused": 0, "findings": 0}
    row |= {"slowest_s": 0.0, "peak_bytes": 0}
    while row["inputs"] < count and row["findings"] < MOST_FINDINGS:
        command = [sys.executable, "-m", "tests.fuzz.run", "--seed", str(asked.seed)]
        command += ["--worker", name, str(row["inputs"]), str(count)]
        command += ["--findings", str(asked.findings)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
            _follow(worker, row)
        if row["inputs"] < count:  # the input behind the last one that was told ended it
            ended = f"input {row['inputs']} of seed {asked.seed}: ended with {worker.returncode}"
            print(f"FINDING {name}: {ended}", flush=True)
            row["findings"] += 1
            row["inputs"] += 1
    row["wall_time_s"] = round(time.monotonic() - began, 1)
    return row


def _follow(worker, row):
    """Add up what a process tells, an input a line; one that stands still is ended."""
    signal.signal(signal.SIGALRM, lambda *_: worker.kill())
    signal.alarm(STANDSTILL_S)
    ready = False
    for line in worker.stdout:
        signal.alarm(STANDSTILL_S)
        ready = ready or line.startswith("READY")
        if line.startswith("FINDING"):
            print(line, end="", flush=True)
            row["findings"] += 1
        elif line.startswith("["):
            is_read, took_s, peak_bytes = json.loads(line)
            row["inputs"] += 1
            row["read" if is_read else "refused"] += 1
            row["slowest_s"] = max(row["slowest_s"], took_s)
            row["peak_bytes"] = max(row["peak_bytes"], peak_bytes)
    signal.alarm(0)
    if not ready:
        raise RuntimeError(f"{row['reader']}: its process did not start")


def _work(name, start, stop, seed, findings):
    """Mutate and read inputs `start` to `stop` of a seed."""
    from tests.fuzz.readers import READERS, outcome, watched

    reader = READERS[name]
    documents = reader.valid()
    now, most = resource.getrlimit(resource.RLIMIT_AS)
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
        path, whole = reader.put(Path(folder))
        for document in documents:  # whole ones are read, and import what reading needs
            path.write_bytes(reader.pack(document))
            assert outcome(reader.read, whole) is None
        for broken in (b"", b"{}", b"[[[", b"\xff"):
            path.write_bytes(broken)
            outcome(reader.read, whole)
        resource.setrlimit(resource.RLIMIT_AS, (MOST_WORKER_BYTES, most))
        print("READY", flush=True)
        for index in range(start, stop):
            rng = Random(f"{seed} {name} {index}")
            path.write_bytes(reader.hostile(rng, rng.choice(documents)))
            began, problem = time.thread_time(), ""
            try:
                with watched(whole, reader.allowed):
                    said = outcome(reader.read, whole)
                if said is not None and (not said or "\n" in said or len(said) > LONGEST_SENTENCE):
                    problem = f"no sentence: {said!r:.200}"
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is a finding
                said, problem = "", f"{type(error).__name__}: {error!s:.200}"
            took_s = time.thread_time() - began
            if problem:
                kept = findings / f"{name.replace(' ', '-')}-{seed}-{index}{path.suffix}"
                findings.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(path.read_bytes())
                print(f"FINDING {name}: {kept.name}: {' '.join(problem.split())}", flush=True)
            peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps([said is None, round(took_s, 3), peak_bytes]), flush=True)
    resource.setrlimit(resource.RLIMIT_AS, (now, most))


def _memory_folder():
    """Where files cost no disk, if there is such a place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
