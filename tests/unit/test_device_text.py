"""Profiles as text: what is written reads back, and a problem is found on its line."""

import re
import tomllib

import pytest

from explorer import catalog
from explorer.cli import run
from explorer.device import DeviceProfile, Kernels, MemoryLevel, SourceBlock, load_device
from explorer.device_text import (
    BOARD_MEANINGS,
    COPIED_SPREAD_RATIO,
    KERNEL_MEANINGS,
    LEVEL_MEANINGS,
    changed_numbers,
    duplicate,
    kept_sources,
    new_profile,
    profile_toml,
    with_changes_assumed,
)
from explorer.errors import SpecError
from explorer.toml_lines import line_of, lines_of

DEVICES = catalog.names("device")


def test_every_field_has_its_meaning():
    apart = {"memory", "kernels", "source", "untested"}
    assert set(BOARD_MEANINGS) == set(DeviceProfile.model_fields) - apart
    assert set(LEVEL_MEANINGS) == set(MemoryLevel.model_fields)
    assert set(KERNEL_MEANINGS) == set(Kernels.model_fields)


@pytest.mark.parametrize("name", DEVICES)
def test_a_profile_reads_back_as_it_was(name):
    profile = load_device(name)
    text = profile_toml(profile)
    assert DeviceProfile.from_toml(text) == profile
    texts = ("summary = ", "note = ", "cite = ")
    assert all(len(line) <= 100 or line.startswith(texts) for line in text.splitlines())


def test_any_text_reads_back():
    odd = 'a "quote", a \\ and\na line\x7f\t\x00, é'
    profile = load_device("gap9").model_copy(update={"summary": odd, "note": "\ud800"})
    read = DeviceProfile.from_toml(profile_toml(profile))
    assert (read.summary, read.note) == (odd, "?")


@pytest.mark.parametrize("name", DEVICES)
def test_a_new_profile_is_wholly_assumed(name):
    base, profile = load_device(name), new_profile("board", name)
    assert profile.kernels == base.kernels
    for path in profile.numbers():
        block = profile.find_block(path)
        assert (block.kind, block.cite) == ("assumed", f"copied from {name}; replace")
        assert block.plus_minus_ratio >= base.find_block(path).plus_minus_ratio
        assert block.plus_minus_ratio >= COPIED_SPREAD_RATIO or not path.startswith("kernels")
    assert set(profile.untested) == set(profile.kernels)


def test_new_in_the_terminal_validates_and_costs(tmp_path, capsys):
    path = tmp_path / "board.toml"
    assert run(["device", "new", "stm32f767", "--out", str(path)]) == 0
    assert "stm32f746" in capsys.readouterr().out
    assert run(["validate", str(path)]) == 0
    assert run(["cost", "digits-cnn", str(path)]) == 0
    capsys.readouterr()
    assert run(["device", "new", "stm32f767", "--out", str(path)]) == 2
    assert "is already there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["zzz"], "no shipped device has a name like 'zzz'; say which one"),
        (["a/b", "--like", "gap9"], "name: got 'a/b', allowed: letters"),
        (["mine", "--like", "gap8"], "unknown device 'gap8'; did you mean gap9"),
    ],
)
def test_a_new_profile_that_cannot_be_is_one_sentence(tmp_path, capsys, arguments, words):
    assert run(["device", "new", *arguments, "--out", str(tmp_path / "x.toml")]) == 2
    assert words in capsys.readouterr().err


def line_with(text, part):
    return next(at for at, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.mark.parametrize(
    ("old", "new", "words", "at"),
    [
        ("clock_hz = 370e6", "clock_hz = -1", "clock_hz: got -1", "clock_hz = -1"),
        ("conv_macs_per_cycle = 3.7", "conv_macs_per_cycle = -0.5", "fp16.conv", "= -0.5"),
        ("linear_macs_per_cycle = 3.3\n", "", "fp16.linear_macs_per_cycle is missing", "fp16]"),
        ("size_bytes = 131_072", 'size_bytes = "big"', "memory.2.size_bytes: got 'big'", '"big"'),
        ("usable_bytes = 1_363_148", "usable_bytes = 1_572_865", "memory.0", "[[memory]]"),
        ('holds = "inner"\n', 'holds = "inner"\nspeed = 1\n', "memory.2.speed: got 1", "speed = 1"),
        ('cite = "recalled from', 'cite = " " # "recalled', "source.9.cite", 'cite = " "'),
        ('fields = ["active_cores"]', 'fields = ["memory.L1.usable_bytes"]', "active_cores has no",
         "active_cores = 1"),
        ('fields = ["active_cores"]', 'fields = ["active_cores", "turbo"]', "'turbo'", '"turbo"]'),
        ('fields = ["memory.L1.usable_bytes"]', "fields = []", "memory.L1.usable_bytes has no",
         "usable_bytes = 110_080"),
        ('name = "eMRAM"', 'name = "L2" # again', "not 'L2' twice", "[[memory]]"),
        ('default_precision = "fp32"', 'default_precision = "fp8"', "default_precision", "fp8"),
        ("[untested]\n", "[untested]\nfp64 = []\n", "untested", "fp64"),
    ],
)  # fmt: skip
def test_a_problem_is_found_on_its_line(tmp_path, capsys, old, new, words, at):
    text = catalog.read("device", "gap9")
    assert old in text
    text = text.replace(old, new, 1)
    line = line_with(text, at)
    if at == "[[memory]]":
        line = [n for n, row in enumerate(text.splitlines(), 1) if row == at]
        line = line[1] if "twice" in words else line[0]
    path = tmp_path / "board.toml"
    path.write_text(text, "utf-8")
    assert run(["validate", str(path)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"{path}, line {line}: ")
    assert words in error
    assert "\n" not in error


def test_a_syntax_error_has_its_line():
    text = catalog.read("device", "gap9").replace("clock_hz = 370e6", "clock_hz = ")
    line = line_with(text, "clock_hz = ")
    with pytest.raises(SpecError, match=f"not TOML: .*at line {line}"):
        DeviceProfile.from_toml(text)


DOCUMENT = '''
a = """
b = 1
[c]
"""
"quoted key" = [
  1,
  2,
]
d.e = 3
[f.g]
h = { i = 1 }
[[j]]
k = 1
[[j]]
k = 2
[j.l]
m = 3
'''


def test_lines_of_every_shape_of_key():
    assert lines_of(DOCUMENT) == {
        ("a",): 2, ("quoted key",): 6, ("d",): 10, ("d", "e"): 10, ("f",): 11, ("f", "g"): 11,
        ("f", "g", "h"): 12, ("f", "g", "h", "i"): 12, ("j",): 13, ("j", 0): 13,
        ("j", 0, "k"): 14, ("j", 1): 15, ("j", 1, "k"): 16, ("j", 1, "l"): 17,
        ("j", 1, "l", "m"): 18,
    }  # fmt: skip
    assert line_of(DOCUMENT, ("j", 1, "absent", 3)) == 15
    assert line_of(DOCUMENT, ("absent",)) is None


def test_only_a_newline_ends_a_line():
    """Other characters that Python splits at may stand in a string."""
    text = 'a = "x\u2028y\x85"\r\nb = 1\r\n[c]\r\nd = 2'
    assert lines_of(text) == {("a",): 1, ("b",): 2, ("c",): 3, ("c", "d"): 4}


@pytest.mark.parametrize("name", DEVICES)
def test_each_key_of_a_document_stands_on_its_line(name):
    text = catalog.read("device", name)
    lines, document = text.splitlines(), tomllib.loads(text)
    for path, at in lines_of(text).items():
        value = document
        for part in path:
            value = value[part]
        if not isinstance(value, dict | list):
            assert re.match(rf"{path[-1]} = ", lines[at - 1])


@pytest.mark.parametrize("name", DEVICES)
def test_a_duplicate_keeps_every_number_and_its_source(name):
    base, copy = load_device(name), duplicate("mine", name)
    assert DeviceProfile.from_toml(profile_toml(copy)) == copy
    assert changed_numbers(copy, base) == {}
    assert with_changes_assumed(copy, base) == copy
    for path in base.numbers():
        assert copy.find_block(path) == base.find_block(path)


@pytest.mark.parametrize("name", DEVICES)
def test_only_what_was_changed_becomes_assumed(name):
    base = load_device(name)
    text = profile_toml(duplicate("mine", name))
    clock = next(line for line in text.splitlines() if line.startswith("clock_hz = "))
    edited = DeviceProfile.from_toml(text.replace(clock, "clock_hz = 123e6"))
    saved = DeviceProfile.from_toml(profile_toml(with_changes_assumed(edited, base)))
    assert dict(saved.values()) == dict(base.values()) | {"clock_hz": 123e6}
    assert list(changed_numbers(saved, base)) == ["clock_hz"]
    block = saved.find_block("clock_hz")
    assert (block.kind, block.fields) == ("assumed", ("clock_hz",))
    assert f"changed by hand from {name}" in block.cite
    for path in set(base.numbers()) - {"clock_hz"}:
        assert saved.find_block(path).source == base.find_block(path).source
    assert set(saved.untested) == set(base.kernels)


def test_a_changed_number_with_a_source_of_its_own_keeps_it():
    base, path = load_device("gap9"), "kernels.fp32.conv_macs_per_cycle"
    copy = duplicate("mine", "gap9")
    own = SourceBlock(kind="measured", cite="my bench", fields=(path,))
    faster = copy.kernels["fp32"].model_copy(update={"conv_macs_per_cycle": 9.5})
    edited = copy.model_copy(
        update={
            "kernels": dict(copy.kernels) | {"fp32": faster},
            "source": (*kept_sources(copy, {path}), own),
        }
    )
    saved = DeviceProfile.from_toml(profile_toml(with_changes_assumed(edited, base)))
    assert changed_numbers(saved, base) == {path: "9.5, not 2.3"}
    assert saved.find_block(path) == own
    assert saved.untested == base.untested
