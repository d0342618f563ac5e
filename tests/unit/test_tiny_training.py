"""Configurations of tiny-training, in and out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from explorer import Session
from explorer.backward_config import BackwardConfig, read_config
from explorer.cli import run
from explorer.design import UpdatePolicy
from explorer.errors import SpecError
from explorer.tiny_training import (
    SCHEMES,
    config_of,
    policy_from,
    spec_of,
)

GRAPHS = {name: Session(model=name).graph for name in SCHEMES}
PUBLISHED = [(model, label) for model, labels in SCHEMES.items() for label in labels]


@pytest.mark.parametrize(("model", "label"), PUBLISHED)
def test_a_published_scheme_goes_in_and_out_with_the_same_text(model, label, tmp_path):
    biases, layers, shares = SCHEMES[model][label]
    published = Session(model=model, policy=f"sparse-update:scheme={label}")
    exported = config_of(published.chosen_policy, published.graph)
    path = tmp_path / "scheme.yaml"
    path.write_text(exported.config.to_yaml())

    read = published.with_policy(str(path))
    again = config_of(read.chosen_policy, read.graph).config

    assert (again.n_bias_update, again.manual_weight_idx, again.weight_update_ratio) == (
        biases,
        layers,
        shares,
    )
    assert not exported.notes
    assert replace(read.chosen_policy, family="") == replace(published.chosen_policy, family="")


@pytest.mark.parametrize(("model", "label"), PUBLISHED)
def test_the_text_follows_from_the_policy_alone(model, label):
    session = Session(model=model, policy=f"sparse-update:scheme={label}")
    _, layers, shares = SCHEMES[model][label]
    kept = [
        pair for pair in zip(layers.split("-"), shares.split("-"), strict=True) if pair[1] != "0"
    ]

    config = config_of(replace(session.chosen_policy, family="mine"), session.graph).config

    assert config.manual_weight_idx == "-".join(layer for layer, _ in kept)
    assert config.weight_update_ratio == "-".join(share for _, share in kept)


def upstream_reading(config, graph):
    """What that repository makes of a configuration, by its own steps.

    Channel counts and biases of each convolution, written from its rules and not from ours.
    """
    text = yaml.safe_load(config.to_yaml())["backward_config"]
    convs = [graph[name] for name in graph.weighted if graph[name].op == "conv2d"]
    index = [int(part) for part in str(text["manual_weight_idx"] or "").split("-") if part]
    shares = [float(part) for part in str(text["weight_update_ratio"] or "").split("-") if part]
    assert len(index) == len(shares) <= text["n_bias_update"]
    assert index == sorted(index)
    assert all(at >= len(convs) - text["n_bias_update"] for at in index)
    kept = dict.fromkeys(range(len(convs)), 0)
    for at, share in zip(index, shares, strict=True):
        kept[at] = int(graph.in_channels(convs[at]) * share)
    return kept, text["n_bias_update"]


@given(data=st.data(), model=st.sampled_from(sorted(SCHEMES)))
def test_any_input_channel_policy_is_read_there_as_meant(data, model):
    graph = GRAPHS[model]
    count = len(graph.weighted)
    chosen = data.draw(st.dictionaries(st.integers(0, count - 1), st.floats(0.001, 1), max_size=6))
    axes = Session(model=model)._context.axes
    ratios = np.zeros(count)
    ratios[list(chosen)] = list(chosen.values())
    policy = UpdatePolicy.of(
        "mine",
        axes,
        slices=axes.slices(ratios, "in"),
        update_bias=ratios > 0,
        channel_axis="in",
        selection="magnitude",
    )

    kept, biases = upstream_reading(config_of(policy, graph).config, graph)

    assert kept == dict(enumerate(policy.slices))
    first = min(chosen, default=count)
    assert biases == count - first


def test_what_cannot_be_said_is_said_in_notes(tmp_path):
    session = Session(policy="tinytrain:macs=0.15")
    document = session.export()

    exported = config_of(document.policy(session.graph), session.graph)

    assert any("output channels here" in note for note in exported.notes)
    assert any("biases frozen here train there" in note for note in exported.notes)


def test_listed_channels_go_to_the_side_file():
    session = Session(policy="sparse-update:scheme=49kb")
    policy = session.chosen_policy
    listed = tuple(
        tuple(range(whole))[whole - taken :]
        for taken, whole in zip(policy.slices, policy.slice_counts, strict=True)
    )
    named = replace(policy, family="mine", channels=listed)

    channels = config_of(named, session.graph).channels

    position = session.graph.weighted.index
    for name, entry in channels.items():
        assert entry["channels"] == list(listed[position(name)])
        assert entry["index"] == position(name)
        assert entry["axis"] == "in"
    assert set(channels) == {
        n for n, taken in zip(session.graph.weighted, policy.slices, strict=True) if taken
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("backward_config: [1]", "backward_config"),
        ("{", "not YAML"),
        ("backward_config: {n_bias_update: null}", "n_bias_update"),
        ("backward_config: {n_bias_update: 3, weights: 2}", "weights"),
        ("backward_config: {n_bias_update: 3, manual_weight_idx: [40, 41]}", "manual_weight_idx"),
        ("backward_config: {n_bias_update: true}", "n_bias_update"),
        ("backward_config: {n_bias_update: 3, weight_select_criteria: magnitude-}", "magnitude-"),
        ("backward_config: {n_bias_update: 3, train_scale: 1}", "train_scale"),
        ("backward_config: {n_bias_update: 3, quantize_gradient: 1}", "quantize_gradient"),
        (f"backward_config: {{n_bias_update: {'9' * 5000}}}", "not YAML"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_a_bad_file_is_one_sentence(text, named):
    with pytest.raises(SpecError, match=named) as caught:
        read_config(text, "mine.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"n_bias_update": 43}, "n_bias_update"),
        ({"n_bias_update": 2, "manual_weight_idx": "38-39"}, "40 to 41"),
        ({"n_bias_update": 9, "manual_weight_idx": "41-40"}, "ascending"),
        ({"n_bias_update": 9, "manual_weight_idx": "a-b"}, "numbers with dashes"),
        (
            {"n_bias_update": 9, "manual_weight_idx": "40", "weight_update_ratio": "1-1"},
            "1 shares from 0 to 1",
        ),
        (
            {"n_bias_update": 9, "manual_weight_idx": "40", "weight_update_ratio": "nan"},
            "got 'nan', allowed: 1 shares from 0 to 1",
        ),
        ({"n_bias_update": 9, "n_weight_update": 10}, "n_weight_update: got 10, .* 0 to 9"),
    ],
)
def test_what_that_repository_would_fail_on_is_refused(fields, named):
    with pytest.raises(ValueError, match=named):
        policy_from(BackwardConfig(**fields), GRAPHS["mcunet-5fps"], "mine")


def test_all_and_expansions_only():
    graph = GRAPHS["mcunet-5fps"]
    everything = BackwardConfig(n_bias_update="all", n_weight_update="all")
    policy = policy_from(everything, graph, "mine")
    assert policy.slices == policy.slice_counts

    only = policy_from(everything.model_copy(update={"pw1_weight_only": 1}), graph, "mine")
    trained = [
        graph[name] for name, taken in zip(graph.weighted, only.slices, strict=True) if taken
    ]
    assert trained
    assert all(layer.kernel == (1, 1) for layer in trained)
    assert all(layer.out_shape[0] > graph.in_channels(layer) for layer in trained)


def test_a_spec_says_the_same():
    graph = GRAPHS["mbv2-w0.35"]
    config = BackwardConfig(n_bias_update=3, manual_weight_idx=50, weight_update_ratio=0.5)
    spec = spec_of(config, graph)
    assert spec == "sparse-update:biases=3,layers=50,shares=0.5"
    session = Session(model="mbv2-w0.35", policy=spec)
    assert replace(session.chosen_policy, family="") == replace(
        policy_from(config, graph, ""), family=""
    )


OFF = BackwardConfig(enable_backward_config=0, n_bias_update=3, weight_update_ratio="1-0.5")
ANY_CONFIG = st.builds(
    BackwardConfig,
    enable_backward_config=st.sampled_from([0, 1]),
    n_bias_update=st.one_of(st.just("all"), st.integers(6, 42)),
    n_weight_update=st.one_of(st.just("all"), st.none(), st.integers(0, 6)),
    manual_weight_idx=st.one_of(st.none(), st.just("36-39"), st.just(41)),
    weight_update_ratio=st.one_of(st.none(), st.floats(0, 1)),
    weight_select_criteria=st.sampled_from(["magnitude+", "random"]),
    pw1_weight_only=st.sampled_from([0, 1]),
    freeze_fc=st.sampled_from([0, 1]),
)


@given(config=ANY_CONFIG)
def test_a_file_trains_what_its_configuration_says(config, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "scheme.yaml"
    path.write_text(config.to_yaml())
    read = Session(policy=str(path))
    expected = policy_from(config, read.graph, "")
    assert replace(read.chosen_policy, family="") == expected
    again = config_of(read.chosen_policy, read.graph)
    assert replace(policy_from(again.config, read.graph, ""), family="") == expected


def test_a_configuration_that_is_switched_off_trains_everything():
    policy = policy_from(OFF, GRAPHS["mcunet-5fps"], "")
    assert policy.slices == policy.slice_counts
    assert all(policy.update_bias)


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ("biases=20-30", "biases: got '20-30', allowed: a whole number from 0 to 42"),
        ("biases=43", "biases: got '43'"),
        ("layers=41,shares=nan", "shares: got 'nan', allowed: 1 shares"),
        ("layers=41,criterion=fisher", "criterion: got 'fisher', allowed: magnitude, random"),
    ],
)
def test_a_bad_part_is_one_sentence(parts, named):
    with pytest.raises(SpecError, match=named):
        Session(policy=f"sparse-update:{parts}").chosen_policy  # noqa: B018


@pytest.mark.parametrize("policy", ["adapter-drop", "tinytl"])
def test_adapters_are_not_exported(policy):
    session = Session(policy=policy)
    with pytest.raises(SpecError, match="adapters: tiny-training has none"):
        config_of(session.chosen_policy, session.graph)


@pytest.mark.parametrize("norm", ["gn", "bn", "frozen-bn"])
def test_a_network_with_norms_is_not_exported(norm):
    session = Session(policy="bias-only:last=12", norm=norm)
    with pytest.raises(SpecError, match=f"has {norm} here; make the policy with norm none"):
        config_of(session.chosen_policy, session.graph)


def test_an_own_scheme_goes_in_and_out_of_a_network_without_published_ones(tmp_path):
    session = Session(model="digits-cnn", norm="none", policy="last-k:k=3")
    exported = config_of(session.chosen_policy, session.graph)
    path = tmp_path / "scheme.yaml"
    path.write_text(exported.config.to_yaml())
    read = session.with_policy(str(path))
    assert read.chosen_policy.slices[-3:] == read.chosen_policy.slice_counts[-3:]
    assert config_of(read.chosen_policy, read.graph).config == exported.config
    parts = session.with_policy("sparse-update:biases=3,layers=10,shares=0.5").chosen_policy
    assert sum(parts.update_bias) == 3
    assert session.with_policy("sparse-update").chosen_policy.family == "sparse-update:biases=all"
    assert not any(label.startswith("sparse-update") for label in session.compare().labels)


def test_a_scheme_and_its_parts_do_not_mix():
    with pytest.raises(SpecError, match="a scheme, or its parts"):
        Session(policy="sparse-update:scheme=99kb,biases=3").chosen_policy  # noqa: B018


def test_the_terminal_writes_both_files(tmp_path, capsys):
    policy = tmp_path / "policy.json"
    policy.write_text(Session(policy="tinytrain:macs=0.15").export().to_json())
    out = tmp_path / "scheme.yaml"
    assert run(["export", str(policy), "--out", str(out), "--format", "tiny-training"]) == 0
    config = read_config(out.read_text(), "scheme.yaml")
    side = json.loads((tmp_path / "scheme.channels.json").read_text())
    assert len(side) == len(str(config.manual_weight_idx).split("-"))
    assert "note:" in capsys.readouterr().err
