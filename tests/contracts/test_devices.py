"""Contract of device profiles: every entry loads, cites each number and keeps its identities."""

import re
import tomllib

import pytest

from explorer import catalog
from explorer.device import DeviceProfile, load_device
from explorer.errors import SpecError

DEVICES = catalog.names("device")
STM32 = ("stm32f746", "stm32h743", "stm32h7a3")
LINUX = ("jetson-nano", "pi-zero-2w", "radxa-zero")
SOURCE_MARK = re.compile(r"^\[\[source\]\]$", flags=re.MULTILINE)
# name: clock_hz, active_cores, precisions (the first one is the default)
EXPECTED = {
    "gap9": (370e6, 1, ("fp32", "fp16", "int8")),
    "jetson-nano": (921.6e6, 1, ("fp16",)),
    "pi-zero-2w": (1.0e9, 4, ("fp32", "int8")),
    "radxa-zero": (1.8e9, 4, ("fp32",)),
    "stm32f746": (216e6, 1, ("int8", "fp32")),
    "stm32h743": (480e6, 1, ("int8", "fp32")),
    "stm32h7a3": (280e6, 1, ("int8", "fp32")),
}


def covers(field, path):
    return path == field or path.startswith(f"{field}.")


def test_names_are_exactly_the_seven():
    assert sorted(EXPECTED) == DEVICES


@pytest.mark.parametrize("name", DEVICES)
def test_file_loads_under_its_own_name(name):
    profile = load_device(name)
    assert profile.name == name
    assert profile.summary.endswith(".")
    assert "\n" not in profile.summary
    assert profile.note


@pytest.mark.parametrize("name", DEVICES)
def test_clock_cores_and_precisions(name):
    profile = load_device(name)
    clock_hz, cores, precisions = EXPECTED[name]
    assert (profile.clock_hz, profile.active_cores) == (clock_hz, cores)
    assert profile.default_precision == precisions[0]
    assert set(profile.kernels) == set(precisions)


@pytest.mark.parametrize("name", DEVICES)
def test_every_number_has_one_source_and_no_field_is_dead(name):
    profile = load_device(name)
    fields = [field for block in profile.source for field in block.fields]
    numbers = list(profile.numbers())
    assert numbers
    assert len(set(fields)) == len(fields)
    for path in numbers:
        assert sum(covers(field, path) for field in fields) == 1, path
    for field in fields:
        assert any(covers(field, path) for path in numbers), field


@pytest.mark.parametrize("name", DEVICES)
def test_sources_are_honest(name):
    for block in load_device(name).source:
        assert block.kind != "measured", block.cite
        assert block.cite.strip()
        assert ".md" not in block.cite
        if block.kind == "assumed":
            assert block.cite.startswith(("assumed: ", "recalled")), block.cite
            assert block.plus_minus_ratio > 0, block.cite


@pytest.mark.parametrize("name", DEVICES)
def test_removing_any_source_block_is_refused_by_the_bare_field(name):
    head, *blocks = SOURCE_MARK.split(catalog.read("device", name))
    profile = load_device(name)
    assert len(blocks) == len(profile.source) > 0
    for gone, block in enumerate(profile.source):
        rest = "[[source]]".join([head, *blocks[:gone], *blocks[gone + 1 :]])
        bare = next(p for p in profile.numbers() if any(covers(f, p) for f in block.fields))
        with pytest.raises(SpecError, match=rf"(^|\s){re.escape(bare)} has no source"):
            DeviceProfile.from_toml(rest)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("table", ["", "memory", "kernels"])
def test_unknown_field_is_refused_by_name(name, table):
    header = re.compile(rf"^\[+{table}[^\]]*\]+\n" if table else r"\A", flags=re.MULTILINE)
    text = catalog.read("device", name)
    spoilt = header.sub(lambda found: f"{found[0]}turbo_hz = 1\n", text, count=1)
    assert tomllib.loads(spoilt) != tomllib.loads(text)
    with pytest.raises(SpecError, match="turbo_hz"):
        DeviceProfile.from_toml(spoilt)


@pytest.mark.parametrize("name", DEVICES)
def test_memory_levels(name):
    profile = load_device(name)
    for level in profile.memory:
        assert 0 < level.usable_bytes <= level.size_bytes
    levels = {level.holds: level.name for level in profile.memory}
    if name == "pi-zero-2w":
        assert levels == {"data": "RAM", "overflow": "swap"}
    elif name in LINUX:
        assert levels == {"data": "RAM"}
    elif name in STM32:
        assert levels == {"data": "SRAM", "weights": "flash", "inner": "DTCM"}
    else:
        named = {"data": "L2", "weights": "eMRAM", "inner": "L1", "overflow": "external RAM"}
        assert levels == named
    assert profile.ram == profile.memory[0]  # faces show the first level first


# on-chip RAM of the part, KB
PARTS = {"stm32f746": 320, "stm32h743": 1024, "stm32h7a3": 1433.6, "gap9": 1536 + 128}


@pytest.mark.parametrize("name", PARTS)
def test_regions_add_up_to_the_part(name):
    """A region inside another is not counted twice."""
    levels = [level for level in load_device(name).memory if level.holds in ("data", "inner")]
    apart = [level.size_bytes for level in levels if level.inside is None]
    assert sum(apart) == int(1024 * PARTS[name])
    sizes = {level.name: level.size_bytes for level in levels}
    for level in levels:
        assert level.size_bytes <= sizes[level.inside or level.name]


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("gap9", "1_363_148", "1_572_865", "usable_bytes is larger than size_bytes"),
        ("gap9", 'holds = "overflow"', 'holds = "inner"', "bytes_per_s and wait_power_w belong"),
        ("pi-zero-2w", "wait_power_w = 0.8\n", "", "bytes_per_s and wait_power_w belong"),
        ("gap9", 'holds = "inner"', 'holds = "overflow"', "bytes_per_s and wait_power_w belong"),
        ("stm32f746", 'inside = "SRAM"', 'inside = "AXI"', "inside: got 'AXI', allowed: 'SRAM'"),
        ("stm32f746", 'inside = "SRAM"', 'inside = "flash"', "DTCM.inside: got 'flash'"),
        ("stm32f746", 'inside = "SRAM"', 'inside = "DTCM"', "DTCM.inside: got 'DTCM'"),
        ("stm32f746", "= 65_536", "= 327_681", "DTCM: larger than SRAM around it"),
        ("gap9", 'holds = "weights"', 'holds = "inner"', "at most one level with holds = 'inner'"),
        ("gap9", 'holds = "inner"', 'holds = "weights"', "at most one level with .* 'weights'"),
        ("gap9", 'name = "eMRAM"', 'name = "L2"', "each name only once, not 'L2' twice"),
        ("stm32f746", 'holds = "inner"', 'holds = "weights"', "inside belongs to holds = 'inner'"),
        ("stm32f746", 'name = "flash"\nholds = "weights"', 'name = "flash"\nholds = "data"',
         "exactly one level with holds = 'data'"),
    ],
)  # fmt: skip
def test_levels_that_contradict_themselves_are_refused(name, old, new, problem):
    text = catalog.read("device", name)
    assert old in text
    with pytest.raises(SpecError, match=rf"memory.*{problem}"):
        DeviceProfile.from_toml(text.replace(old, new))


HUGE = "9" * 330


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("size_bytes = 8_388_608", f"size_bytes = {HUGE}", "memory.3.size_bytes: got 9"),
        ("usable_bytes = 1_363_148", f"usable_bytes = {HUGE}", "memory.0.usable_bytes: got 9"),
        ("active_cores = 1", f"active_cores = {HUGE}", "active_cores: got 9"),
        ("active_cores = 1", f"active_cores = {'9' * 5000}", "not TOML"),
        ("active_cores = 1", f"active_cores = 1\nalignment_bytes = {1 << 62}", "alignment_bytes"),
        ("clock_hz = 370e6", "clock_hz = 1e-300", "clock_hz: got 1e-300"),
        ("clock_hz = 370e6", "clock_hz = 1e308", r"clock_hz: got 1e\+308"),
        ("clock_hz = 370e6", "clock_hz = nan", "clock_hz: got nan"),
        ("plus_minus_ratio = 1.0", "plus_minus_ratio = 1e308", r"plus_minus_ratio: got 1e\+308"),
        ("active_power_w = 0.047", "active_power_w = 1e300", r"active_power_w: got 1e\+300"),
        ("weight_bytes_per_s = 2.479e9", "weight_bytes_per_s = 1e-9", "weight_bytes_per_s: got"),
        ("layer_overhead_cycles = 4000", "layer_overhead_cycles = 1e300", "overhead_cycles: got"),
        ("trainer_speed_ratio = 1.0", "trainer_speed_ratio = 1e99", "trainer_speed_ratio: got"),
        ("elements_per_cycle = 3.0", "elements_per_cycle = 1e-99", "elements_per_cycle: got"),
        ('fields = ["active_cores"]', 'fields = ["active_cores", "turbo"]', "'turbo' covers no"),
        ('"memory.L1.size_bytes"', '"memory.L1.size_bytes", "memory.L3"', "'memory.L3' covers no"),
        ('cite = "recalled from', 'cite = " " # "recalled from', r"source\.9\.cite"),
    ],
)
def test_numbers_and_sources_that_cannot_be_are_refused_in_one_sentence(old, new, problem):
    text = catalog.read("device", "gap9")
    assert old in text
    with pytest.raises(SpecError, match=problem) as caught:
        DeviceProfile.from_toml(text.replace(old, new, 1))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", STM32)
def test_cortex_m7_boards_share_their_rates_and_stream_by_the_cycle(name):
    profile, reference = load_device(name), load_device("stm32f746")
    own = {"weight_bytes_per_s", "active_power_w", "wide_depthwise_macs_per_cycle"}
    for precision, per_cycle in (("int8", 3.0), ("fp32", 0.72)):
        kernels = profile.kernels_for(precision)
        expected = reference.kernels_for(precision).model_dump(exclude=own)
        assert kernels.model_dump(exclude=own) == expected
        assert kernels.weight_bytes_per_s / profile.clock_hz == pytest.approx(per_cycle)
    linear = profile.kernels_for("fp32").linear_macs_per_cycle
    assert linear * 4 == pytest.approx(0.72)  # one fp32 weight of 4 bytes per MAC


@pytest.mark.parametrize(("precision", "weight_bytes"), [("fp32", 4), ("fp16", 2)])
def test_gap9_linear_is_its_weight_stream(precision, weight_bytes):
    profile = load_device("gap9")
    kernels = profile.kernels_for(precision)
    per_cycle = kernels.weight_bytes_per_s / profile.clock_hz
    assert per_cycle == pytest.approx(6.7)
    assert kernels.linear_macs_per_cycle == pytest.approx(per_cycle / weight_bytes, rel=0.02)


@pytest.mark.parametrize("name", ["pi-zero-2w", "radxa-zero"])
def test_cortex_a_backward_takes_1p55_forward_times(name):
    for kernels in load_device(name).kernels.values():
        backward = 1 / kernels.input_grad_speed_ratio + 1 / kernels.weight_grad_speed_ratio
        assert backward == pytest.approx(1.55, rel=0.005)
        assert kernels.trainer_speed_ratio == 0.5
        assert kernels.linear_macs_per_cycle == kernels.pointwise_macs_per_cycle
        assert kernels.activation_bytes_per_s


def test_pi_power_is_the_fit_at_its_clock_and_cores():
    profile = load_device("pi-zero-2w")
    clock_ghz = profile.clock_hz / 1e9
    power_w = (775 + 628 * clock_ghz + 235 * profile.active_cores * clock_ghz) / 1e3
    for kernels in profile.kernels.values():
        assert kernels.active_power_w == pytest.approx(power_w)
