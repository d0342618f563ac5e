"""The session: one question, changed step by step; documents bring their setup along."""

import json
import pickle

import pytest

from explorer import apply_policy, load_policy
from explorer.cli import run
from explorer.costmodel.conventions import ACCOUNTINGS
from explorer.errors import SpecError, UnknownNameError
from explorer.session import ALWAYS_APPLICABLE, FIRST_POLICY, Session


def test_the_default_policy_is_one_that_applies():
    assert Session().policy == FIRST_POLICY
    assert Session(model="digits-cnn").policy == ALWAYS_APPLICABLE
    assert Session().with_model("digits-cnn").policy == ALWAYS_APPLICABLE
    free = Session(policy="free:blocks.3.depthwise=0.5").with_model("digits-cnn")
    assert free.cost().trained_parameters > 0


def test_a_session_is_a_value():
    session = Session(model="digits-cnn", policy="last-k:k=2", batch=4)
    session.cost()
    session.compare()
    again = pickle.loads(pickle.dumps(session))
    assert again == session
    assert again.cost().to_json() == session.cost().to_json()


@pytest.mark.parametrize("value", [None, 3, ["full"]])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(SpecError, match="policy"):
        Session().with_policy(value)
    with pytest.raises(SpecError, match="model"):
        Session().with_model(value)


@pytest.mark.parametrize(
    "value", ["8", True, 1.5, float("nan"), {}, 10**330, 10**5000], ids=lambda v: type(v).__name__
)
@pytest.mark.parametrize(
    "field",
    ["batch", "micro_batch", "reserve_bytes", "memory_limit_bytes", "steps", "samples"],
)
def test_what_is_no_whole_number_is_refused(field, value):
    with pytest.raises(SpecError, match=f"^{field}: got ") as caught:
        Session(model="digits-cnn", **{field: value})
    assert len(str(caught.value)) < 250


def test_none_is_not_chosen():
    assert Session(batch=None, optimizer=None, update_timing=None) == Session()
    assert (Session().batch, Session().optimizer, Session().own_setup) == (1, "sgd", {})


@pytest.mark.parametrize("value", [3, {}, ["gap9"]])
@pytest.mark.parametrize(
    "field",
    ["task", "norm", "precision", "accounting", "memory_objective", "optimizer", "update_timing"],
)
def test_what_is_no_name_is_refused(field, value):
    with pytest.raises(SpecError, match=f"^{field}: got "):
        Session(model="digits-cnn", **{field: value})


@pytest.fixture
def document(tmp_path):
    session = Session(
        model="digits-cnn",
        policy="last-k:k=3",
        batch=8,
        micro_batch=2,
        optimizer="adam",
        precision="fp16",
        update_timing="deferred",
        recompute="blocks",
    )
    path = tmp_path / "policy.json"
    path.write_text(session.export().to_json(), "utf-8")
    return path, session.cost()


def test_a_policy_document_brings_its_setup(document):
    path, cost = document
    again = Session(model="digits-cnn").with_policy(str(path)).cost()
    assert again.setup == cost.setup
    assert again.memory == cost.memory
    elsewhere = Session(model="digits-cnn", device="stm32f746").with_policy(str(path)).cost()
    assert elsewhere.setup["precision"] == "int8"
    assert elsewhere.setup["optimizer"] == "adam"


def test_the_terminal_takes_the_documents_setup_unless_told_otherwise(document, capsys):
    path, cost = document
    assert run(["cost", "digits-cnn", "gap9", "--policy", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["setup"] == cost.setup
    command = ["cost", "digits-cnn", "gap9", "--policy", str(path), "--optimizer", "sgd", "--json"]
    assert run(command) == 0
    setup = json.loads(capsys.readouterr().out)["setup"]
    assert setup == cost.setup | {"optimizer": "sgd"}


def test_a_deferred_update_keeps_every_weight_gradient(capsys):
    session = Session(model="digits-cnn", device="gap9", policy="full")
    memory = session.with_update_timing("deferred").cost().memory
    assert memory["gradient_bytes"] == 4 * session.graph.parameter_count
    assert memory["peak_live_bytes"] > session.cost().memory["peak_live_bytes"]
    assert run(["cost", "digits-cnn", "gap9", "--update", "deferred", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["memory"] == memory
    accumulated = session.with_batch(4, 1)
    assert accumulated.with_update_timing("fused").cost().setup["update_timing"] == "deferred"


def test_what_a_search_makes_small_is_one_of_two():
    session = Session(model="digits-cnn", policy="none").with_memory_objective("above-inference")
    assert [o.name for o in session.problem.objectives if o.unit == "byte"] == [
        "training_extra_bytes"
    ]
    table = session.compare()
    assert table.memory_bytes.tolist() == table.training_extra_bytes.tolist()
    with pytest.raises(SpecError, match="peak, above-inference"):
        session.with_memory_objective("arena")


def test_advice_is_on_the_documents_setup(document, capsys):
    path, cost = document
    assert run(["advise", "digits-cnn", "gap9", "--policy", str(path), "--json"]) == 0
    fits = json.loads(capsys.readouterr().out)["fits"]
    assert [fit["needed_bytes"] for fit in fits] == [fit.needed_bytes for fit in cost.fits]


def test_a_document_does_not_touch_a_module_of_other_sizes(document):
    from explorer.accuracy.torch_bridge import build_module

    other = build_module(Session(model="mcunet-5fps").graph)
    before = {name: parameter.requires_grad for name, parameter in other.named_parameters()}
    with pytest.raises(SpecError, match="slice_count"):
        apply_policy(other, load_policy(document[0]))
    after = {name: parameter.requires_grad for name, parameter in other.named_parameters()}
    assert before == after


@pytest.mark.parametrize("accounting", [name for name in ACCOUNTINGS if name != "device"])
def test_whether_it_fits_is_always_our_own_answer(accounting):
    own = Session(policy="last-layer", batch=100)
    other = Session(policy="last-layer", batch=100, accounting=accounting)
    assert other.cost().fits == own.cost().fits
    assert other.cost().memory["peak_live_bytes"] != own.cost().memory["peak_live_bytes"]
    assert other.cost().accounting == accounting


def test_a_proxy_is_an_objective_under_its_own_name():
    front = Session(model="mcunet-5fps").search(25)
    names = [objective.name for objective in front.table.objectives]
    assert names == ["proxy_score", "peak_live_bytes", "step_energy_j"]


def test_a_candidate_of_another_network_or_row_is_refused():
    table = Session(model="digits-cnn").compare()
    with pytest.raises(SpecError, match="mcunet-5fps"):
        Session(model="mcunet-5fps").export(table, 0)
    for row in (-1, len(table)):
        with pytest.raises(SpecError, match="row"):
            Session(model="digits-cnn").export(table, row)


def test_an_unknown_network_is_refused_at_once():
    with pytest.raises(UnknownNameError, match="mcunet-5fps"):
        Session(model="mcunet-5fp")
    with pytest.raises(UnknownNameError, match="mcunet-5fps"):
        Session().with_model("mcunet-5fp")
    with pytest.raises(SpecError, match="width"):
        Session().with_model("mcunet-5fps:width=2")


def test_flash_of_the_application_is_taken_off_the_flash_level():
    session = Session("mcunet-5fps", "stm32f746", policy="none")
    flash = session.cost().fits[1]
    kept = session.with_limits(flash_reserve_bytes=int(flash.usable_bytes - flash.needed_bytes))
    assert kept.cost().fits[1].fits
    over = kept.with_limits(flash_reserve_bytes=kept.flash_reserve_bytes + 1)
    assert not over.cost().fits[1].fits
    assert not over.chosen().feasible[0]
    assert over.cost().fits[0] == session.cost().fits[0]
    pi = Session("digits-cnn", "pi-zero-2w")
    assert pi.with_limits(flash_reserve_bytes=10**6).cost().fits == pi.cost().fits


def test_a_policy_document_is_read_once_until_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "policy.json"
    two, whole = (
        Session(model="digits-cnn", policy=policy, batch=4).export().to_json()
        for policy in ("last-k:k=2", "full")
    )
    path.write_text(two)
    read = []

    def counted(place):
        read.append(place)
        return load_policy(place)

    monkeypatch.setattr("explorer.document.load_policy", counted)
    session = Session(model="digits-cnn", policy=str(path))
    for batch in (4, 8, 16):
        assert (
            session.with_batch(batch).cost().trained_parameters == session.cost().trained_parameters
        )
    assert read == [str(path)]
    path.write_text(whole)
    assert len(Session(model="digits-cnn", policy=str(path)).export().layers) == len(
        session.graph.weighted
    )
    assert read == [str(path)] * 2
