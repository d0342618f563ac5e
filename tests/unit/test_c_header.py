"""`explorer export --format c-header`: the policy and the arena map, in C."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from explorer import Session
from explorer.cli import run
from explorer.document import load_policy
from explorer.errors import SpecError
from explorer.exporting.c_header import c_header

FREE = "free:feature_mix=0.25,blocks.2.depthwise=0.5,bias=1"
QUESTIONS = (
    {"model": "digits-cnn", "policy": FREE},
    {"model": "digits-cnn", "policy": "tinytl"},
    {"model": "digits-cnn", "policy": "none"},
    {"model": "digits-cnn", "policy": "tinytrain:macs=0.3", "device": "stm32f746"},
    {"model": "mcunet-5fps", "policy": "sparse-update:scheme=49kb", "device": "stm32h743"},
    {"model": "mi-bminet", "policy": "last-k:k=2"},
    {"model": "digits-cnn", "policy": "lora"},
)
COMPILER = shutil.which("cc")


def session_of(question):
    session = Session(model=question["model"], device=question.get("device", "gap9"))
    return session.with_policy(question["policy"])


def header_of(session):
    return c_header(session.export(), session.graph, session.profile)


def rows(text, name):
    """Lines of a table in the header, split at commas outside of strings."""
    found = re.search(rf"{name}\[\] = {{\n(.*?)\n}};", text, re.DOTALL)
    lines = found[1].splitlines() if found else []
    return [re.findall(r'"[^"]*"|[\w.]+', line) for line in lines]


def defined(text, name):
    return int(re.search(rf"#define {name} (\d+)u", text)[1])


@pytest.mark.skipif(COMPILER is None, reason="no C compiler here")
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["policy"])
def test_a_compiler_takes_it(question, tmp_path):
    (tmp_path / "policy.h").write_text(header_of(session_of(question)))
    source = tmp_path / "main.c"
    source.write_text(
        '#include "policy.h"\n#include "policy.h"\n'
        "static uint8_t arena[ARENA_BYTES];\n"
        "int main(void) { return arena[arena_buffers[0].offset_bytes] + POLICY_LAYER_COUNT; }\n"
    )
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-Wno-unused-const-variable"]
    command = [COMPILER, *flags, "-fsyntax-only", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["policy"])
def test_it_says_what_the_document_says(question):
    session = session_of(question)
    document, text = session.export(), header_of(session)
    table = rows(text, "policy_layers")
    assert len(table) == len(document.layers) == defined(text, "POLICY_LAYER_COUNT")
    for row, layer in zip(table, document.layers, strict=True):
        name, index, *numbers, listed = row
        assert name == f'"{layer.name}"'
        assert session.graph.weighted[int(index)] == layer.name
        flags = [layer.channel_axis == "in", layer.update_bias, layer.update_norm]
        assert list(map(int, numbers)) == [*flags, layer.slice_count, layer.slices]
        if 0 < layer.slices < layer.slice_count:
            channels = [int(one) for line in rows(text, listed) for one in line]
            assert tuple(channels) == layer.known_channels
        else:
            assert listed == "0"
    assert [row[0] for row in rows(text, "policy_adapters")] == [
        f'"{block}"' for block in document.adapters
    ]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["policy"])
def test_buffers_in_use_at_once_lie_apart_in_the_arena(question):
    session = session_of(question)
    text = header_of(session)
    arena_bytes, steps = defined(text, "ARENA_BYTES"), defined(text, "ARENA_STEP_COUNT")
    assert arena_bytes == session.export().predicted["arena_bytes"].value
    assert len(rows(text, "arena_steps")) == steps
    table = rows(text, "arena_buffers")
    assert len(table) == defined(text, "ARENA_BUFFER_COUNT")
    offset, size, first, last = np.array([row[1:] for row in table], dtype=int).T
    assert (offset + size).max() <= arena_bytes
    assert (first <= last).all()
    assert last.max() < steps
    at_once = (first[:, None] <= last) & (first <= last[:, None])
    share = (offset[:, None] < (offset + size)) & (offset < (offset + size)[:, None])
    assert not (at_once & share & ~np.eye(len(table), dtype=bool)).any()


def test_the_terminal_writes_it_for_the_policys_device_or_another(tmp_path, capsys):
    policy, out = tmp_path / "policy.json", tmp_path / "policy.h"
    session = session_of(QUESTIONS[3])
    policy.write_text(session.export().to_json())
    command = ["export", str(policy), "--format", "c-header", "--out", str(out)]
    assert run(command) == 0
    assert out.read_text() == header_of(session)
    assert run([*command, "--device", "gap9"]) == 0
    own, other = header_of(session), c_header(load_policy(policy), session.graph, Session().profile)
    assert out.read_text() == other != own
    nowhere = session.export().model_copy(update={"device": None})
    policy.write_text(nowhere.to_json())
    capsys.readouterr()
    assert run(command) == 2
    assert "give --device" in capsys.readouterr().err


def test_what_cannot_be_written_is_refused():
    session = session_of(QUESTIONS[0])
    document = session.export()
    other = Session(model="mcunet-5fps")
    with pytest.raises(SpecError, match=r"digits-cnn .* not for mcunet-5fps"):
        c_header(document, other.graph, other.profile)
    first = document.layers[0].model_copy(update={"channels": "fisher"})
    with pytest.raises(SpecError, match=f"channels of {first.name}: chosen by fisher"):
        c_header(document.model_copy(update={"layers": (first,)}), session.graph, session.profile)


def test_a_name_cannot_end_a_comment_or_a_string():
    session = session_of(QUESTIONS[0])
    odd = session.export().model_copy(update={"family": '*/ #error "no"\n'})
    text = c_header(odd, session.graph, session.profile)
    assert "#error" not in text
    assert text.count("*/") == header_of(session).count("*/")
