"""The house: floors, file lengths, docstrings, unit endings, the public surface."""

import ast
import dataclasses
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import explorer

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "explorer").rglob("*.py"))
LONGEST_FILE = 400

UNIT_ENDINGS = (
    "_bytes",
    "_s",
    "_j",
    "_w",
    "_hz",
    "_macs",
    "_bits",
    "_per_cycle",
    "_per_s",
    "_per_mac",
    "_cycles",
    "_ratio",
    "_ratios",
    "_count",
    "_counts",
    "_steps",
    "_step",
)
PURE_NUMBERS = {
    # whole numbers that count what their name says
    "batch", "micro_batch", "episodes", "seed", "stride", "groups", "ways", "shots", "steps",
    "samples", "passes", "slices", "slice_counts", "active_cores", "trained_parameters", "birth",
    "death", "views", "tuning_episodes", "axis", "batch_axis", "lead", "rank", "alpha",
    "schema_version", "cost_model_version", "low", "high", "layer", "row", "label_index",
    # pure numbers of statistics, and natural values whose unit stands beside them
    "accuracy", "accuracy_before", "accuracies", "standard_error", "standard_error_gain", "nll",
    "nll_before", "rates", "learning_rate", "value", "reference", "scale", "hypervolume", "tau",
    "measured", "measured_error", "needed", "expected", "found",
    "reliability", "ceiling_tau", "lead_low", "chosen_tau", "fitted_tau",
    "full_gain", "full_gain_error", "coverage", "front_coverage", "p_faster", "ratio",
    "ratio_low", "worth", "ratio_high",
    "p_less_energy", "mean_error", "half_width", "intercept",
    "channels", "pixel_maximum", "max_shift", "start", "query_count", "corrupt_lines",
    # trials, elementwise passes, and pixels and opacity of what is drawn
    "done", "total", "gained_at", "forward_passes", "backward_passes", "left", "right", "bottom",
    "top", "size", "width", "opacity", "outline_width",
    "per_episode_accuracy", "per_episode_accuracy_before", "offset", "score_bound",
    "hypervolume_limit", "hypervolume_before", "hypervolume_after", "score_before",
    "least_episodes",
}  # fmt: skip


def modules():
    for info in pkgutil.walk_packages(explorer.__path__, "explorer."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def dataclasses_of_the_package():
    seen = set()
    for module in modules():
        for value in vars(module).values():
            ours = isinstance(value, type) and value.__module__.startswith("explorer")
            if ours and dataclasses.is_dataclass(value) and value not in seen:
                seen.add(value)
                yield value


def test_numeric_fields_end_in_a_unit():
    bare = [
        f"{cls.__qualname__}.{field.name}"
        for cls in dataclasses_of_the_package()
        for field in dataclasses.fields(cls)
        if field.type in (int, float, "int", "float")
        and not field.name.endswith(UNIT_ENDINGS)
        and field.name not in PURE_NUMBERS
    ]
    assert not bare


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_short_and_says_what_it_is_for(path):
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    assert ast.get_docstring(ast.parse(text))


def test_public_surface():
    assert sorted(explorer.__all__) == [
        "ExplorerError",
        "Session",
        "SpecError",
        "app",
        "apply_policy",
        "check_applied",
        "load_policy",
        "measure",
        "reselect",
        "trace",
    ]
    for name in explorer.__all__:
        assert getattr(explorer, name) is not None


def test_names_that_are_not_loaded_yet_are_offered():
    code = "import explorer; print('Session' in vars(explorer), 'Session' in dir(explorer))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_import_is_light():
    code = (
        "import sys, explorer; explorer.Session().cost(); "
        "print([m for m in ('torch', 'plotly', 'optuna', 'ipywidgets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_imports_only_point_down():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
