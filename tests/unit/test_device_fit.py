"""A profile fitted to timings: known numbers come back, and its error is that of new rows."""

import csv
import json

import numpy as np
import pytest

from explorer.cli import run
from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.fitting import FITTED, Timing, fit_rates, hold_out, log_errors, spread_ratio
from explorer.costmodel.timing import rates_of
from explorer.costmodel.uncertainty import step_spending
from explorer.device import DeviceProfile, Kernels, load_device
from explorer.device_text import profile_toml
from explorer.errors import CalibrationError, SpecError
from explorer.fitting import fit_device
from explorer.measurements import COLUMNS, grouped, read_measurements
from explorer.session import Session

MODELS = ("mcunet-5fps", "mbv2-w0.35", "proxyless-w0.3", "digits-cnn", "epidenet")
VISION = MODELS[:3]
RUNS = (("none", 1), ("none", 8), ("last-layer", 1), ("last-k:k=4", 1), ("full", 1), ("full", 8))
BASE = "gap9"


def board(**factors):
    """The base with some numbers of fp32 times a factor."""
    base = load_device(BASE)
    kernels = base.kernels["fp32"]
    moved = {name: getattr(kernels, name) * factor for name, factor in factors.items()}
    kernels = {**base.kernels, "fp32": kernels.model_copy(update=moved)}
    return base.model_copy(update={"name": "true", "kernels": kernels})


def session(model, policy, batch):
    return Session(model=model, device=BASE, policy=policy, batch=batch, precision="fp32")


def seconds(profile, model, policy, batch):
    """By the other door: what screening says of the step."""
    asked = session(model, policy, batch)
    return evaluate(asked.graph, profile, asked.designs).step_time_s[0]


def table(profile, models=MODELS, runs=RUNS, noise=0.0, seed=0, power=False):
    rng = np.random.default_rng(seed)
    rows = []
    for model in models:
        for policy, batch in runs:
            time_s = seconds(profile, model, policy, batch) * np.exp(noise * rng.normal())
            phase = "inference" if policy == "none" else "step"
            row = {"model": model, "policy": policy, "batch": batch, "phase": phase}
            row |= {"time_s": repr(float(time_s)), "precision": "fp32"}
            if power:
                row["power_w"] = repr(0.06 * float(np.exp(noise * rng.normal())))
            rows.append(row)
    return rows


def written(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def timings(tmp_path, rows):
    return [
        row.timing for row in grouped(read_measurements(written(tmp_path / "m.csv", rows), BASE))
    ]


def fitted(tmp_path, rows):
    return fit_device(written(tmp_path / "mine.csv", rows), BASE, "mine")


def values(fit):
    return {number.path.removeprefix("kernels.fp32."): number for number in fit.numbers}


def test_every_number_is_one_of_a_profile():
    assert set(FITTED) <= set(Kernels.model_fields)


def test_known_factors_come_back(tmp_path):
    factors = {
        "conv_macs_per_cycle": 2.0,
        "pointwise_macs_per_cycle": 2.0,
        "depthwise_macs_per_cycle": 3.0,
        "layer_overhead_cycles": 4.0,
    }
    fit = fitted(tmp_path, table(board(**factors), noise=0.02))
    truth = board(**factors).kernels["fp32"]
    for name in factors:
        found = getattr(fit.profile.kernels["fp32"], name)
        assert found == pytest.approx(getattr(truth, name), rel=0.25), name
        assert values(fit)[name].reference == getattr(load_device(BASE).kernels["fp32"], name)
    for one in fit.held_out:
        assert one.error_ratio < one.base_error_ratio / 2
        assert (one.group_count, one.left_out) == (len(MODELS), "one model")


def test_a_board_that_is_faster_in_all_takes_one_number(tmp_path):
    """Rates times three and overheads by three divide forward times by three."""
    names = [name for name in FITTED if name.endswith(("_per_cycle", "_bytes_per_s"))]
    known = [name for name in names if getattr(load_device(BASE).kernels["fp32"], name)]
    slower = {"layer_overhead_cycles": 1 / 3, "thin_overhead_cycles": 1 / 3}
    truth = board(**dict.fromkeys(known, 3.0), **slower)
    fit = fitted(tmp_path, table(truth, VISION, (("none", 1), ("none", 4)), noise=0.01))
    moved = values(fit)
    assert {number.kind for number in moved.values()} == {"modelled"}
    for name, number in moved.items():
        up = number.value / number.reference
        assert up == pytest.approx(1 / 3 if "overhead" in name else 3, rel=0.03), name
        assert number.plus_minus_ratio < 0.05
    assert "input_grad_speed_ratio" not in moved
    assert "thin_macs_per_cycle" not in moved  # of 1-D networks; no row says anything


def test_backward_is_fitted_from_steps_alone_on_known_forward_rates(tmp_path):
    ratios = {"input_grad_speed_ratio": 0.4, "weight_grad_speed_ratio": 0.4}
    fit = fitted(tmp_path, table(board(**ratios), models=VISION, noise=0.01))
    for name in ratios:
        truth = getattr(board(**ratios).kernels["fp32"], name)
        assert getattr(fit.profile.kernels["fp32"], name) == pytest.approx(truth, rel=0.1)


def test_a_number_fitted_alone_is_measured_and_one_in_company_modelled(tmp_path):
    fit = fitted(tmp_path, table(board(depthwise_macs_per_cycle=5.0), noise=0.01))
    number = values(fit)["depthwise_macs_per_cycle"]
    assert (number.kind, number.together) == ("measured", ())
    assert number.value == pytest.approx(5 * 0.3, rel=0.1)
    block = fit.profile.find_block(number.path)
    assert block.kind == "measured"
    assert block.cite == "fitted to 30 timings of mine.csv"
    assert block.plus_minus_ratio == number.plus_minus_ratio
    for other in fit.numbers:
        assert (other.kind == "modelled") == bool(other.together)


def test_what_no_row_tells_is_kept_with_its_source(tmp_path):
    base = load_device(BASE)
    fit = fitted(tmp_path, table(board(conv_macs_per_cycle=2.0), models=("mcunet-5fps",)))
    moved = {number.path for number in fit.numbers}
    assert "kernels.fp32.thin_macs_per_cycle" not in moved
    assert any("thin_macs_per_cycle" in note for note in fit.notes)
    assert "fp16: no row, so nothing of it is fitted" in fit.notes
    for path in set(base.numbers()) - moved:
        assert fit.profile.find_source(path) == base.find_source(path)
    assert fit.profile.kernels["fp16"] == base.kernels["fp16"]
    assert fit.profile.memory == base.memory


def test_the_spread_is_that_of_networks_not_fitted_to(tmp_path):
    """One network is twice as slow as the model can say: the rows fitted to must not hide it."""
    rows = table(load_device(BASE), noise=0.02)
    for row in rows:
        if row["model"] == "proxyless-w0.3":
            row["time_s"] = repr(2 * float(row["time_s"]))
    rows = timings(tmp_path, rows)
    base = rates_of(load_device(BASE), "fp32")
    held = hold_out(base, rows)
    inside = log_errors(base, rows, fit_rates(base, rows))
    odd = np.array([row.group.startswith("proxyless") for row in rows])
    assert np.sqrt(np.mean(held[odd] ** 2)) > 0.5
    assert np.sqrt(np.mean(held**2)) > 1.5 * np.sqrt(np.mean(inside**2))


def test_what_ran_on_one_network_alone_is_held_out_by_design(tmp_path):
    """Inference of three networks, steps of one: its backward ratios are held out too."""
    ratios = {"input_grad_speed_ratio": 0.4, "weight_grad_speed_ratio": 0.4}
    rows = table(board(**ratios), VISION, RUNS[:2], noise=0.01)
    rows += table(board(**ratios), VISION[:1], RUNS[2:], noise=0.01)
    inference, step = fitted(tmp_path, rows).held_out
    assert (inference.left_out, inference.group_count) == ("one model", 3)
    assert (step.left_out, step.group_count) == ("one design", len(RUNS) - 2)
    assert step.error_ratio < 0.15 < step.base_error_ratio


def test_a_network_held_out_is_not_seen_in_its_steps(tmp_path):
    """Its wrong steps alone would else pull the fit that predicts its forward pass."""
    rows = table(load_device(BASE), VISION, RUNS[:2])
    rows += table(load_device(BASE), VISION[:1], RUNS[2:])
    base = rates_of(load_device(BASE), "fp32")
    for row in rows[2 * len(VISION) :]:
        row["time_s"] = repr(9 * float(row["time_s"]))
    errors = hold_out(base, timings(tmp_path, rows))
    assert errors[:2] == pytest.approx(0, abs=1e-3)
    assert np.abs(errors[2 * len(VISION) :]).max() > 0.1


def test_the_held_out_error_of_noise_is_the_noise(tmp_path):
    """Over many tables: what is held out errs as rows measured anew do, and no less."""
    held, new = [], []
    base = rates_of(load_device(BASE), "fp32")
    for seed in range(6):
        rows = timings(tmp_path, table(board(conv_macs_per_cycle=2.0), noise=0.1, seed=seed))
        fresh = timings(tmp_path, table(board(conv_macs_per_cycle=2.0), noise=0.1, seed=99 + seed))
        held.append(np.mean(hold_out(base, rows) ** 2))
        new.append(np.mean(log_errors(base, fresh, fit_rates(base, rows)) ** 2))
    assert 0.09 < np.sqrt(np.mean(held)) < 0.2
    assert np.sqrt(np.mean(held)) > 0.85 * np.sqrt(np.mean(new))


def test_a_spread_of_few_groups_is_wider():
    """Student's 95 % point: 2.92 of two, 1.645 of very many."""
    errors = np.full(4, 0.1)
    assert spread_ratio(errors, 10**6) == pytest.approx(np.expm1(0.1), rel=1e-3)
    assert spread_ratio(errors, 2) == pytest.approx(np.expm1(0.1 * 2.920 / 1.645), rel=1e-3)


def test_a_row_is_timed_as_the_interval_is_drawn(tmp_path):
    """The fit's seconds are those of the profile's own answer."""
    for row in timings(tmp_path, table(load_device(BASE), models=("digits-cnn", "epidenet"))):
        assert isinstance(row, Timing)
        assert log_errors(rates_of(load_device(BASE), "fp32"), [row]) == pytest.approx(0, abs=1e-9)
    asked = session("digits-cnn", "full", 8)
    step = step_spending(asked.graph, asked.profile, asked.designs).time_s.value
    assert step == pytest.approx(seconds(asked.profile, "digits-cnn", "full", 8), rel=1e-12)


def test_power_is_the_mean_of_what_rows_say(tmp_path):
    truth = load_device(BASE)
    fit = fitted(tmp_path, table(truth, noise=0.02, power=True))
    number = values(fit)["active_power_w"]
    assert number.value == pytest.approx(0.06, rel=0.02)
    assert 0.005 < number.plus_minus_ratio < 0.05
    assert fit.held_out[-1].quantity == "power"


def test_power_from_energy_leaves_out_the_waiting_for_external_memory(tmp_path):
    """What the base says of energy gives back its power, also of steps that spill."""
    base, rows = load_device(BASE), table(load_device(BASE), VISION)
    waits = []
    for row in rows:
        asked = session(row["model"], row["policy"], row["batch"])
        cost = evaluate(asked.graph, base, asked.designs)
        row["energy_j"] = repr(float(cost.step_energy_j[0]))
        waits.append(cost.peak_live_bytes[0] > base.ram.usable_bytes)
    assert any(waits)
    power_w = values(fitted(tmp_path, rows))["active_power_w"].value
    assert power_w == pytest.approx(base.kernels["fp32"].active_power_w, rel=1e-3)


def test_energy_per_mac_is_taken_off_the_power(tmp_path):
    """0.01 W + 1 pJ a MAC, all rows exact."""
    base = load_device(BASE)
    kernels = base.kernels["fp32"].model_copy(update={"energy_j_per_mac": 1e-12})
    block = base.source[0].model_copy(update={"fields": ("kernels.fp32.energy_j_per_mac",)})
    device = base.model_copy(
        update={
            "kernels": {**base.kernels, "fp32": kernels},
            "source": (*base.source, block),
        }
    )
    rows = table(base, models=("digits-cnn", "epidenet"), runs=RUNS[:2])
    for row in rows:
        asked = session(row["model"], row["policy"], row["batch"])
        macs = evaluate(asked.graph, base, asked.designs).forward_macs[0] * row["batch"]
        row["energy_j"] = repr(float(0.01 * float(row["time_s"]) + 1e-12 * macs))
    path = tmp_path / "base.toml"
    path.write_text(profile_toml(device), "utf-8")
    fit = fit_device(written(tmp_path / "mine.csv", rows), str(path), "mine")
    assert values(fit)["active_power_w"].value == pytest.approx(0.01, rel=1e-3)
    for row in rows:
        row["energy_j"] = "1e-12"
    with pytest.raises(SpecError, match=r"mine.csv, line 2: .* J in .* s is less than MACs"):
        fit_device(written(tmp_path / "mine.csv", rows), str(path), "mine")


@pytest.mark.parametrize(
    "runs", [(("full", 1),), (("full", 1), ("full", 1))], ids=["one", "the same twice"]
)
def test_too_few_rows_are_refused(tmp_path, runs):
    rows = table(load_device(BASE), models=("digits-cnn",), runs=runs)
    words = "mine.csv: too few rows: fp32: rows of one piece of work"
    with pytest.raises(CalibrationError, match=words):
        fitted(tmp_path, rows)


def test_two_rows_take_one_number_and_say_so(tmp_path):
    rows = table(load_device(BASE), models=("digits-cnn",), runs=(("none", 1), ("full", 1)))
    fit = fitted(tmp_path, rows)
    assert not any("grad" in number.path for number in fit.numbers)
    assert [one.row_count for one in fit.held_out] == [1, 1]
    assert {one.left_out for one in fit.held_out} == {"one design"}


def test_the_terminal_fits_and_the_result_costs(tmp_path, capsys):
    path = written(tmp_path / "mine.csv", table(board(conv_macs_per_cycle=2.0), noise=0.02))
    assert run(["device", "fit", str(path), "--base", BASE, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["file"] == str(tmp_path / "mine.toml")
    profile = DeviceProfile.from_toml((tmp_path / "mine.toml").read_text("utf-8"))
    assert profile.name == "mine"
    found = {number["path"]: number["value"] for number in answer["fitted"]}
    assert found["kernels.fp32.conv_macs_per_cycle"] == profile.kernels["fp32"].conv_macs_per_cycle
    assert "fp32" not in profile.untested
    assert run(["validate", answer["file"]]) == 0
    assert run(["cost", "mcunet-5fps", answer["file"], "--policy", "full", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))
    truth = seconds(board(conv_macs_per_cycle=2.0), "mcunet-5fps", "full", 1)
    assert cost["step"]["time_s"] == pytest.approx(truth, rel=0.1)
    assert run(["device", "fit", str(path), "--base", answer["file"]]) == 2
    assert "another file than one that is read" in capsys.readouterr().err
    out = tmp_path / "again.toml"
    assert run(["device", "fit", str(path), "--base", answer["file"], "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "held out" in shown
    assert DeviceProfile.from_toml(out.read_text("utf-8")).name == "again"


def test_the_help_names_every_column(capsys):
    run(["device", "fit", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in COLUMNS)


GOOD = "model,phase,time_s,policy,batch,micro_batch,precision,power_w,energy_j\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no header; its columns are of model, "),
        ("model,phase,tme_s\n", "line 1: column: got 'tme_s', allowed: model, policy, "),
        ("model;phase;time_s\n", "line 1: column: got 'model;phase;time_s', allowed: model"),
        ("model,phase\n", "line 1: the column time_s is missing"),
        ("model,model\n", "line 1: column: got 'model', allowed: each column once"),
        (f"{GOOD}digits-cnn,inference\n", "line 2: time_s is missing"),
        (f"{GOOD}\n\ndigits-cnn,infer,1\n", "line 4: phase: got 'infer': input should be 'infere"),
        (f"{GOOD}digits-cnn,inference,-1\n", "line 2: time_s: got '-1': "),
        (f"{GOOD}digits-cnn,inference,nan\n", "line 2: time_s: got 'nan': "),
        (f"{GOOD}digits-cnn,inference,1e400\n", "line 2: time_s: got '1e400': "),
        (f"{GOOD}digits-cnn,inference,fast\n", "line 2: time_s: got 'fast': "),
        (f"{GOOD}digits,inference,1\n", "line 2: unknown model 'digits'; did you mean digits-cnn"),
        (f"{GOOD}digits-cnn,step,1,lastlayer\n", "line 2: unknown policy 'lastlayer'"),
        (f"{GOOD}digits-cnn,step,1\n", "line 2: policy of phase step: got 'none', allowed: one"),
        (f"{GOOD}digits-cnn,inference,1,full\n", "line 2: policy of phase inference: got 'full'"),
        (f"{GOOD}digits-cnn,step,1,full,8,3\n", "line 2: micro_batch: got 3, allowed: a divisor"),
        (f"{GOOD}digits-cnn,step,1,full,8,,fp8\n", "line 2: precision: got 'fp8'"),
        (f"{GOOD}digits-cnn,step,1,full,8,,,1,1\n", "line 2: got power_w and energy_j"),
        (f"{GOOD}digits-cnn,step,1,full,8,,,1,,7\n", "line 2: cells: got 10, allowed: 9, as"),
        (f'{GOOD}digits-cnn,"step\n', "line 2: not CSV: "),
        (
            f"\ufeff{GOOD}".replace("\n", "\r\n") + "digits-cnn,inference,0\r\n",
            "line 2: time_s: got '0'",
        ),
        (GOOD, "too few rows: fp32: no row"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence_with_its_line(tmp_path, capsys, text, words):
    path = tmp_path / "mine.csv"
    path.write_bytes(text.encode())
    assert run(["device", "fit", str(path), "--base", BASE]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "mine.toml").exists()


def test_a_precision_that_the_base_has_not_is_refused(tmp_path, capsys):
    row = {"model": "digits-cnn", "phase": "inference", "time_s": "1", "precision": "fp16"}
    path = written(tmp_path / "mine.csv", [row])
    assert run(["device", "fit", str(path), "--base", "stm32f746"]) == 2
    error = capsys.readouterr().err
    assert "line 2: precision on stm32f746: got 'fp16', allowed: int8, fp32" in error


def test_times_far_outside_what_a_board_can_be_are_refused(tmp_path, capsys):
    rows = table(load_device(BASE), runs=RUNS[:2])
    for row in rows:
        row["time_s"] = repr(1e11 * float(row["time_s"]))
    path = written(tmp_path / "mine.csv", rows)
    assert run(["device", "fit", str(path), "--base", BASE]) == 2
    assert "the fitted profile of mine, line " in capsys.readouterr().err


def test_a_fit_worse_than_the_base_is_said(tmp_path):
    """Two networks that contradict each other: either predicts the other worse."""
    rows = table(load_device(BASE), ("digits-cnn", "mcunet-5fps"), (("none", 1), ("none", 2)))
    for row in rows:
        factor = 4.0 if row["model"] == "digits-cnn" else 0.25
        row["time_s"] = repr(factor * float(row["time_s"]))
    assert any("predicted worse than by gap9" in note for note in fitted(tmp_path, rows).notes)
