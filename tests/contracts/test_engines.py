"""Contract of engine entries, and what they say to policies whose answer is known."""

import json
import tomllib

import pytest

from explorer import Session, catalog
from explorer.cli import run
from explorer.device import SourceBlock
from explorer.engine import FACTS, Engine, load_engine, reason_against, verdicts
from explorer.errors import SpecError

ENGINES = catalog.names("engine")
NAMED_BY_THE_ISSUE = {
    "aifes",
    "deeploy",
    "executorch",
    "onnxruntime-training",
    "pulp-trainlib",
    "pytorch",
    "ti-odt",
    "tiny-training-engine",
}


def reasons(spec, model="mcunet-5fps", device="pi-zero-2w", **question):
    session = Session(model=model, device=device, policy=spec, **question)
    return {verdict.engine: verdict.reason for verdict in session.engines()}


def test_every_engine_is_there():
    assert set(ENGINES) == NAMED_BY_THE_ISSUE


@pytest.mark.parametrize("name", ENGINES)
def test_file_loads_under_its_own_name_and_says_where_each_fact_is_from(name):
    engine = load_engine(name)
    assert engine.name == name
    assert engine.summary.endswith(".")
    assert all(isinstance(block, SourceBlock) for block in engine.source)
    covered = [field for block in engine.source for field in block.fields]
    assert len(set(covered)) == len(covered)
    assert set(covered) <= set(FACTS)


@pytest.mark.parametrize("name", ENGINES)
def test_a_fact_without_a_source_does_not_load(name):
    data = tomllib.loads(catalog.read("engine", name))
    for block in data["source"]:
        block["fields"] = [field for field in block["fields"] if field != "optimizers"]
    with pytest.raises(ValueError, match="no source covers optimizers"):
        Engine.model_validate(data)


@pytest.mark.parametrize(
    ("old", "new", "words", "at"),
    [
        ('partial = "', 'partial = "most', "partial: got 'most", 'partial = "'),
        ("norms = ", "normz = ", "norms is missing", None),
        ("adapters = ", "extra = 1\nadapters = ", "extra: got 1", "extra = "),
        ("fields = [", 'fields = ["luck", ', "source: 'luck' is covered and not", '"luck"'),
        ('"optimizers"', '"optimizers_"', "", ""),
    ],
)
def test_a_problem_of_an_engine_is_found_on_its_line(old, new, words, at):
    text = catalog.read("engine", "aifes").replace(old, new, 1)
    with pytest.raises(SpecError) as raised:
        Engine.from_toml(text, "mine.toml")
    said = str(raised.value)
    if not words:  # a fact that lost its source is named on the line that states it
        words, at = "optimizers: no source covers optimizers", "optimizers = "
    if at is not None:
        line = next(n for n, row in enumerate(text.split("\n"), 1) if at in row)
        assert said.startswith(f"mine.toml, line {line}: "), said
    assert words in said


@pytest.mark.parametrize("name", ENGINES)
def test_training_nothing_runs_everywhere(name):
    precision = load_engine(name).precisions[0]
    device = "stm32f746" if precision == "int8" else "gap9"
    assert reasons("none", device=device, precision=precision)[name] == ""


def test_eager_torch_runs_every_known_policy():
    session = Session(model="digits-cnn", device="pi-zero-2w")
    designs = session.compare().designs
    for row in range(len(designs)):
        by_engine = {one.engine: one for one in verdicts(session.graph, designs[row])}
        assert by_engine["pytorch"].runs, by_engine["pytorch"].reason


def test_a_published_scheme_runs_on_its_own_engine_alone():
    found = reasons("sparse-update:scheme=99kb", device="stm32f746")
    assert [name for name, reason in found.items() if not reason] == ["tiny-training-engine"]


@pytest.mark.parametrize("name", sorted(NAMED_BY_THE_ISSUE - {"pytorch", "tiny-training-engine"}))
def test_an_output_channel_slice_is_named_with_its_layer(name):
    reason = reasons("free:blocks.10.pointwise1=0.5")[name]
    assert reason == "trains whole weights, not 120 of 240 output channels of blocks.10.pointwise1"


def test_first_reasons():
    scheme = reasons("free:blocks.10.pointwise1=0.5", device="stm32f746")
    assert scheme["tiny-training-engine"].startswith("trains input-channel slices, not 120 of 240")
    classifier = reasons("last-layer", model="mcunet-5fps:classes=10")
    assert classifier["ti-odt"] == classifier["aifes"] == ""
    assert (
        reasons("last-layer")["ti-odt"] == "has no backward pass for conv2d (blocks.13.pointwise2)"
    )
    gap = reasons("free:classifier=1,blocks.12.pointwise2=1", model="mcunet-5fps:classes=10")
    assert gap["ti-odt"] == "has no backward pass for conv2d (blocks.12.pointwise2)"
    alone = reasons("bias-only:last=1", model="mcunet-5fps:classes=10")
    assert alone["aifes"] == "trains a bias only with its weight, not that of classifier"
    norms = reasons("full", model="digits-cnn")
    assert norms["onnxruntime-training"].startswith("has no backward pass for groupnorm")
    assert reasons("tinytl")["aifes"] == "cannot add an adapter to blocks.1"
    scheme = reasons("last-layer", optimizer="adam")
    assert scheme["deeploy"] == "has sgd, not adam"
    batch = reasons("last-layer", device="stm32f746", batch=4, micro_batch=1)
    assert batch["tiny-training-engine"] == "does not add up the gradients of 4 micro-batches"


def test_unbroken_tail():
    engine = load_engine("ti-odt").model_copy(update={"operators": ("all",)})

    def say(spec):
        session = Session(model="mcunet-5fps:classes=10", device="pi-zero-2w", policy=spec)
        return reason_against(engine, session.graph, session.chosen().designs[0])

    assert say("last-k:k=4") == ""
    assert "blocks.13.pointwise2 is frozen" in say("free:blocks.13.depthwise=1,classifier=1,bias=1")


def test_the_terminal_prints_them(capsys):
    arguments = ["engines", "mcunet-5fps", "stm32f746", "--policy", "sparse-update:scheme=49kb"]
    assert run([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0] == {"engine": "tiny-training-engine", "runs": True, "reason": ""}
    assert run(["list", "engines", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == NAMED_BY_THE_ISSUE


def test_a_broken_entry_names_the_field(monkeypatch):
    load_engine.cache_clear()
    text = catalog.read("engine", "aifes").replace('layers = "any"', 'layers = "some"')
    monkeypatch.setattr(catalog, "read", lambda kind, name: text)
    with pytest.raises(SpecError, match=r"aifes, line 8: layers: got 'some'"):
        load_engine("aifes")
    load_engine.cache_clear()


@pytest.mark.parametrize("model", ["mi-bminet", "epidenet"])
def test_deeploy_runs_what_biotrain_ran_on_it(model):
    session = Session(model=model, device="gap9").with_policy("biotrain-edge")
    reasons = {one.engine: one.reason for one in session.engines()}
    assert reasons["deeploy"] == ""
