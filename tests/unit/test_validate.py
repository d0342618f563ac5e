"""What `explorer validate` accepts is what its readers take: every field changed, one by one."""

import copy
import json
import re

import pytest

from explorer import catalog
from explorer.backward_config import BackwardConfig
from explorer.cli import run
from explorer.cli.validating import _row
from explorer.errors import ExplorerError
from explorer.export import load_front, pick, policy_of_candidate
from explorer.network import NetworkDocument
from explorer.paths import check_writable
from explorer.search.sources import measured_runs
from explorer.session import Session

SESSION = Session(model="digits-cnn", policy="last-k:k=2")
VALUES = (None, -1, 1e308, [], "bn")


def places(value, path=()):
    """Paths of every value; of a list its first and last."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in sorted({0, len(value) - 1} & set(range(len(value)))):
            yield from places(value[index], (*path, index))


def changed(document):
    """The document with a value left out, or with another; each of them once."""
    for path in places(document):
        for value in (..., *VALUES):
            copied = copy.deepcopy(document)
            at = copied
            for key in path[:-1]:
                at = at[key]
            if value is ...:
                del at[path[-1]]
            else:
                at[path[-1]] = value
            yield f"{path} {value!r}", copied


def refusal(use):
    """What an error of ours says; empty when there is none."""
    try:
        use()
    except ExplorerError as error:
        return str(error)
    return ""


def use_policy(path):
    SESSION.with_policy(str(path)).designs  # noqa: B018 - raises when it cannot be


def use_front(path):
    document = load_front(path)
    pick(document, "knee")
    for candidate in document.candidates:
        graph = SESSION.with_norm(candidate.setup.norm).graph
        policy_of_candidate(document, candidate, graph, None).policy(graph)


def use_network(path):
    Session(model=str(path), policy="full").cost()


def policy():
    return json.loads(SESSION.export().to_json())


def front():
    document = json.loads(SESSION.front_document(SESSION.search(5)).to_json())
    document["candidates"] = [one for one in document["candidates"] if one["on_front"]][:1]
    estimates = document["candidates"][0]["cost"]["provenance"]
    for name in set(estimates) - {"memory", "step.time_s", "step.energy_j"}:
        del estimates[name]
    return document


def network():
    return json.loads(NetworkDocument.of(SESSION.graph).to_json())


@pytest.mark.parametrize(
    ("document", "use"),
    [(policy, use_policy), (front, use_front), (network, use_network)],
    ids=lambda value: value.__name__,
)
def test_what_cannot_be_used_does_not_validate(document, use, tmp_path):
    path, refused = tmp_path / "document.json", 0
    for change, text in changed(document()):
        path.write_text(json.dumps(text))
        row = _row(path, "digits-cnn")
        error = refusal(lambda: use(path))
        refused += bool(error)
        assert not (error and row["valid"]), (change, error)
    assert refused > 40


LINE = re.compile(r"^(\s*)([\w.-]+)(\s*[=:]\s*)(.*)$")


def changed_lines(text, values):
    """The text without a line, or with another value on it."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        found = LINE.match(line)
        others = [found[1] + found[2] + found[3] + value for value in values] if found else []
        for other in ("", *others):
            yield f"{line} -> {other}", "\n".join([*lines[:index], other, *lines[index + 1 :]])


def test_a_device_that_cannot_be_used_does_not_validate(tmp_path):
    path, refused = tmp_path / "device.toml", 0
    values = ("-1", '"int8"')
    for change, text in changed_lines(catalog.read("device", "stm32f746"), values):
        path.write_text(text)
        row = _row(path, None)
        error = refusal(lambda: Session(model="digits-cnn", device=str(path), policy="none").cost())
        refused += bool(error)
        assert not (error and row["valid"]), (change, error)
    assert refused > 40


def test_a_scheme_that_no_network_can_have_does_not_validate(tmp_path):
    path = tmp_path / "scheme.yaml"
    mcunet = Session(policy="none")
    text = BackwardConfig(
        n_bias_update=22, manual_weight_idx="21-24-39", weight_update_ratio="1-1-0.5"
    ).to_yaml()
    values = ("0", "-1", "2", "1.5", "[]", "x", "all", "null", "1-2", "40", "0.5-0.5-0.5")
    depends = re.compile(r"allowed: (ascending indices \d|all, or 0 to 42)")
    refused = 0
    for change, changed_text in changed_lines(text, values):
        path.write_text(changed_text)
        row = _row(path, None)
        error = refusal(lambda: mcunet.with_policy(str(path)).cost())
        refused += bool(error)
        assert not (error and row["valid"]) or depends.search(error), (change, error)
    assert refused > 40


def test_a_policy_is_compared_with_the_network_that_is_named(tmp_path, capsys):
    path = tmp_path / "policy.json"
    document = policy()
    document["model"] = {"name": "mine", "digest": "123456789abc"}
    path.write_text(json.dumps(document))
    assert run(["validate", str(path), "--model", "digits-cnn"]) == 2
    err = capsys.readouterr().err
    assert "the document is for mine (123456789abc), not for digits-cnn" in err
    assert "options" not in err
    document["model"]["name"] = "digits-cnn"
    path.write_text(json.dumps(document))
    assert run(["validate", str(path), "--model", "digits-cnn"]) == 2
    assert "with other options" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mine", "digits-cnn"])
@pytest.mark.parametrize("kind", ["policy", "front"])
def test_a_document_for_a_network_nobody_knows_asks_for_it(kind, name, tmp_path, capsys):
    """With the name of one that is known, it was made for another form of it."""
    path = tmp_path / "document.json"
    document = policy() if kind == "policy" else front()
    digest = document["model"]["digest"]
    document["model"] = {"name": name, "digest": "123456789abc"}
    path.write_text(json.dumps(document))
    assert run(["validate", str(path)]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"model: got {name} (123456789abc), which is not known, allowed: " in sentence
    assert sentence.endswith("the network it is for, as --model")
    assert (f"digits-cnn ({digest}) or" in sentence) == (name == "digits-cnn")


def test_a_ledger_is_validated_row_by_row(tmp_path, capsys):
    path = tmp_path / "runs.jsonl"
    check_writable(path)
    good, other = measured_runs(SESSION.graph, "digits")[:2]
    row = other.model_dump(mode="json")
    assert run(["validate", str(path)]) == 2
    path.write_text(good.model_dump_json() + "\n" + json.dumps(row) + "\n")
    assert run(["validate", str(path)]) == 0
    row["design"]["layers"] = [good_layer | {"name": "nowhere"} for good_layer in
                               json.loads(SESSION.export().to_json())["layers"][:1]]  # fmt: skip
    path.write_text(good.model_dump_json() + "\n" + json.dumps(row) + "\n")
    assert run(["validate", str(path)]) == 2
    row["episodes"] = 7
    path.write_text(good.model_dump_json() + "\n" + json.dumps(row) + "\n")
    assert run(["validate", str(path)]) == 2
    none, design, episodes = capsys.readouterr().err.splitlines()
    assert "no such file" in none
    assert "run 2: digits-cnn cannot have its design" in design
    assert "1 of 2 lines cannot be read and are left out, the first is line 2" in episodes
