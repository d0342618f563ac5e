import numpy as np
import pytest
import torch

from explorer import catalog, paths
from explorer.accuracy import torch_bridge
from explorer.accuracy.slices import slice_mask, slice_sums
from explorer.accuracy.torch_bridge import build_module, model_module
from explorer.errors import MissingDataError, SpecError, UnsupportedOpError
from explorer.graph import INPUT, LayerSpec, ModelGraph, normalised
from explorer.layer_shapes import is_rounded_up
from explorer.provenance import Kind, Source

torch.set_num_threads(1)

MODELS = ("digits-cnn", "mcunet-5fps", "mbv2-w0.35", "proxyless-w0.3-tinytrain")
SOURCE = Source(kind=Kind.ASSUMED, cite="test")


def chain(*layers: LayerSpec, input_shape=(2, 4, 4)) -> ModelGraph:
    return ModelGraph("chain", input_shape, layers, SOURCE)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("norm", ["bn", "gn", "frozen-bn", "none"])
def test_parameters_and_shapes_are_those_of_the_graph(name, norm):
    graph = normalised(catalog.load("model", name).build(), norm)
    module = build_module(graph)
    assert sum(p.numel() for p in module.parameters()) == graph.parameter_count
    names = {layer.name for layer in graph.layers}
    live = module.run({INPUT: torch.rand(2, *graph.input_shape)}, keep=names)
    assert {name: tuple(live[name].shape) for name in names} == {
        layer.name: (2, *layer.out_shape) for layer in graph.layers
    }
    for layer_name in graph.weighted:
        weight = module.get_submodule(layer_name).weight
        assert weight.numel() == graph.weight_elements(graph[layer_name])


def test_a_run_taken_up_in_the_middle_gives_the_same_output():
    graph = catalog.load("model", "digits-cnn").build()
    module, images = build_module(graph), torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        whole = module(images)
        for cut in range(len(graph.layers) + 1):
            live = module.run({INPUT: images}, stop=cut)
            assert torch.equal(module.run(live, start=cut)[graph.layers[-1].name], whole)


def test_only_tensors_that_are_read_later_stay_alive():
    graph = catalog.load("model", "digits-cnn").build()
    cut = next(i for i, layer in enumerate(graph.layers) if layer.name == "blocks.2.add")
    live = build_module(graph).run({INPUT: torch.rand(1, 1, 8, 8)}, stop=cut)
    assert set(live) == set(graph["blocks.2.add"].inputs)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_maximum_pool_is_rounded_as_torch_rounds_it(stride, padding, dilation):
    """Whichever way its output was rounded, a built pool gives the same values."""
    for size in range(6, 12):
        images = torch.rand(1, 2, size, size)
        for is_up in (False, True):
            pool = torch.nn.MaxPool2d(3, stride, padding, dilation, ceil_mode=is_up)
            out = pool(images)
            layer = LayerSpec(
                name="p",
                op="maxpool",
                out_shape=tuple(out.shape[1:]),
                kernel=(3, 3),
                stride=stride,
                padding=(padding, padding),
                dilation=(dilation, dilation),
                inputs=("c",),
            )
            other = torch.nn.MaxPool2d(3, stride, padding, dilation, ceil_mode=not is_up)
            same = other(images).shape == out.shape
            assert is_rounded_up(layer, (2, size, size)) == (is_up or same)
            conv = LayerSpec(name="c", op="conv2d", out_shape=(2, size, size))
            built = build_module(chain(conv, layer, input_shape=(2, size, size)))
            assert torch.equal(built.run({"c": images}, start=1)["p"], out)


def test_an_unknown_operator_is_named():
    graph = chain(
        LayerSpec(name="a", op="linear", out_shape=(3,)),
        LayerSpec(name="b", op="fourier", inputs=("a",), out_shape=(3,)),
        input_shape=(2,),
    )
    with pytest.raises(UnsupportedOpError, match="fourier"):
        build_module(graph)


def test_a_name_that_torch_uses_is_refused():
    graph = chain(LayerSpec(name="forward", op="linear", out_shape=(3,)), input_shape=(2,))
    with pytest.raises(SpecError, match="forward"):
        build_module(graph)


def test_frozen_batchnorm_ignores_training_mode():
    graph = chain(
        LayerSpec(name="c", op="conv2d", out_shape=(3, 4, 4)),
        LayerSpec(name="c_norm", op="frozen_batchnorm", inputs=("c",), out_shape=(3, 4, 4)),
    )
    module, images = build_module(graph), torch.rand(4, 2, 4, 4)
    before = module(images)
    assert torch.equal(module.train()(images), before)
    assert not module.get_submodule("c_norm").running_mean.any()


def test_slices_of_a_plain_convolution():
    weight = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert slice_sums(weight, 1, "out").tolist() == [66.0, 210.0]
    assert slice_sums(weight, 1, "in").tolist() == [60.0, 92.0, 124.0]
    assert slice_mask(weight, 1, "out", [1]).sum(dim=(1, 2, 3)).tolist() == [0, 12]
    assert slice_mask(weight, 1, "in", [0, 2]).sum(dim=(0, 2, 3)).tolist() == [8, 0, 8]


@pytest.mark.parametrize("axis", ["out", "in"])
def test_slices_of_a_depthwise_convolution_are_its_channels(axis):
    weight = torch.arange(12.0).reshape(3, 1, 2, 2)
    assert slice_sums(weight, 3, axis).tolist() == [6.0, 22.0, 38.0]
    assert slice_mask(weight, 3, axis, [2])[:, 0, 0, 0].tolist() == [False, False, True]


def test_input_slices_of_a_grouped_convolution_stay_in_their_group():
    weight = torch.ones(4, 2, 1, 1)
    mask = slice_mask(weight, 2, "in", [3])
    assert mask[:, :, 0, 0].tolist() == [[False] * 2] * 2 + [[False, True]] * 2
    assert slice_sums(weight, 2, "in").tolist() == [2.0] * 4


@pytest.mark.parametrize("axis", ["out", "in"])
def test_masks_of_all_slices_cover_the_weight_once(axis):
    weight = torch.ones(6, 2, 3, 3)
    masks = [slice_mask(weight, 3, axis, [index]).int() for index in range(6)]
    assert torch.equal(torch.stack(masks).sum(0), torch.ones(6, 2, 3, 3, dtype=torch.int32))


def test_weights_survive_a_round_trip(tmp_path):
    graph = catalog.load("model", "digits-cnn").build()
    first, second = build_module(graph), build_module(graph)
    torch_bridge.save_weights(first, tmp_path / "w.safetensors")
    torch_bridge.load_weights(second, tmp_path / "w.safetensors")
    assert torch_bridge.state_digest(first) == torch_bridge.state_digest(second)
    other = build_module(normalised(graph, "none"))
    with pytest.raises(SpecError, match="digest"):
        torch_bridge.load_weights(other, tmp_path / "w.safetensors")


def test_weights_never_come_from_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_bridge, "data_cache", lambda: tmp_path)
    monkeypatch.delenv(paths.DATA_VARIABLE, raising=False)
    for name in MODELS:
        with pytest.raises(MissingDataError, match=name):
            model_module(catalog.load("model", name).build())
    module = build_module(catalog.load("model", "digits-cnn").build())
    with pytest.raises(MissingDataError, match="nothing"):
        torch_bridge.load_weights(module, tmp_path / "nothing")


def write_npz(path, graph, extra=()):
    rng, arrays = np.random.default_rng(0), {}
    shapes = [tuple(build_module(graph).get_submodule(n).weight.shape) for n in graph.weighted]
    for index, shape in enumerate((*shapes, *extra)):
        arrays[f"L{index:02d}.weight"] = rng.random(shape, dtype=np.float32)
        arrays[f"L{index:02d}.bias"] = rng.random(shape[0], dtype=np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, **arrays)
    return arrays


def test_the_npz_maps_in_execution_order(tmp_path, monkeypatch):
    monkeypatch.setenv(paths.DATA_VARIABLE, str(tmp_path))
    graph = catalog.load("model", "mbv2-w0.35").build()
    path = tmp_path / "models" / "mbv2-w0.35.float32.npz"
    arrays = write_npz(path, graph, extra=((1000, 112, 1, 1),))
    module = model_module(graph)
    for index, name in enumerate(graph.weighted):
        layer = module.get_submodule(name)
        assert np.array_equal(layer.weight.detach().numpy(), arrays[f"L{index:02d}.weight"])
        assert np.array_equal(layer.bias.detach().numpy(), arrays[f"L{index:02d}.bias"])
    with_classifier = catalog.load("model", "mbv2-w0.35").build(classes="1000")
    classifier = model_module(with_classifier).get_submodule("classifier")
    assert classifier.weight.shape == (1000, 112)


def test_a_feature_mix_has_no_published_weights(tmp_path, monkeypatch):
    monkeypatch.setenv(paths.DATA_VARIABLE, str(tmp_path))
    plain = catalog.load("model", "mbv2-w0.35").build()
    write_npz(tmp_path / "models" / "mbv2-w0.35.float32.npz", plain, extra=((1000, 112, 1, 1),))
    with pytest.raises(MissingDataError, match="feature_mix"):
        model_module(catalog.load("model", "mbv2-w0.35-tinytrain").build())


def test_trained_digits_weights_are_shipped():
    module = model_module(catalog.load("model", "digits-cnn").build())
    card = (paths.data_cache() / "models" / "digits-cnn.md").read_text("utf-8")
    assert torch_bridge.state_digest(module) in card


def test_a_group_norm_trains_on_an_input_without_gradient():
    graph = chain(
        LayerSpec(name="c", op="conv2d", out_shape=(4, 4, 4)),
        LayerSpec(name="c_norm", op="groupnorm", inputs=("c",), out_shape=(4, 4, 4), groups=2),
    )
    module, images = build_module(graph).requires_grad_(False), torch.rand(8, 2, 4, 4)
    norm = module.get_submodule("c_norm")
    norm.bias.requires_grad_(True)
    module(images).sum().backward()
    assert norm.bias.grad.tolist() == [8 * 16.0] * 4


def test_another_norm_has_no_weights():
    graph = normalised(catalog.load("model", "digits-cnn").build(), "bn")
    with pytest.raises(MissingDataError, match="norm bn"):
        model_module(graph)
