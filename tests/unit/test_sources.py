"""What a session finds of a network on a task, and what it leaves out."""

from explorer.accuracy.records import Ledger, Protocol
from explorer.app.controls import Controls
from explorer.search import sources
from explorer.search.sources import measured_runs, model_graph, score_path
from explorer.session import Session

GRAPH = model_graph("digits-cnn")


def test_runs_of_the_commonest_protocol_count(tmp_path, monkeypatch):
    shipped = measured_runs(GRAPH, "digits")
    assert len(shipped) > 50
    ledger = Ledger(tmp_path / "runs" / "digits-cnn-digits.jsonl")
    others = [run.model_copy(update={"protocol": Protocol(ways=3)}) for run in shipped[:2]]
    for run in (others[0], *shipped[:3], others[1]):
        ledger.append(run)
    monkeypatch.setattr(sources, "data_cache", lambda: tmp_path)
    measured_runs.cache_clear()
    try:
        assert measured_runs(GRAPH, "digits") == shipped[:3]
    finally:
        measured_runs.cache_clear()


def test_another_form_of_a_network_has_its_own_score_table():
    usual, small = model_graph("mcunet-5fps"), model_graph("mcunet-5fps:resolution=84")
    assert score_path(usual, "omniglot").name == "mcunet-5fps-omniglot.npz"
    assert score_path(small, "omniglot").name == f"mcunet-5fps-omniglot-{small.digest}.npz"
    assert score_path(usual, "omniglot").is_file()


def test_the_app_offers_the_folder_it_was_given(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for index in range(2):
            (tmp_path / name / f"{index}.png").write_bytes(b"")
    controls = Controls(Session(model="digits-cnn", task=str(tmp_path)), lambda: None)
    assert controls.task.value == str(tmp_path)
