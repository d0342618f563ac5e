"""Files about the project that tools read: what they say agrees with the project."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_citation_names_this_version_and_the_three_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert (str(citation["version"]), citation["license"]) == (
        PROJECT["version"],
        PROJECT["license"],
    )
    assert all(citation[key] for key in ("message", "title", "authors"))
    papers = [paper["title"].split(":")[0].split()[0] for paper in citation["references"]]
    assert papers == ["TinyTrain", "BioTrain", "Efficient"]
    for paper in citation["references"]:
        assert all(author["family-names"] for author in paper["authors"])
        assert paper.get("doi") or paper.get("url")


def test_console_scripts_lead_to_one_function_that_is_there():
    from explorer import __main__

    assert set(PROJECT["scripts"]) == {"explorer", "odx"}
    for target in PROJECT["scripts"].values():
        module, _, name = target.partition(":")
        assert module == __main__.__name__
        assert callable(getattr(__main__, name))
