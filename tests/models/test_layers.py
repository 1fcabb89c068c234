"""The quicker layers give what diffusers' own give, and step aside where they must."""

import copy

import pytest
import torch
import torch.nn.functional as F

from kinopaint.engine.denoiser import Condition
from kinopaint.models import layers


@pytest.fixture(scope="module")
def pair():
    """A small U-Net of Stable Diffusion's build, as diffusers has it and quickened."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    stock = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=24,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()
    quick = copy.deepcopy(stock).to(memory_format=torch.channels_last)
    layers.quicken(quick)
    return stock, quick


def run(network, size=(6, 8), dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    sample, text = torch.randn(2, 4, *size, generator=generator), torch.randn(2, 5, 24, generator=generator)
    return network(sample.to(dtype), 500, text.to(dtype)).sample


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_same_result_as_diffusers(pair, size):
    """5x7 cells become 3x4: there the doubling is no doubling, and diffusers' own way is taken."""
    stock, quick = pair
    with torch.no_grad():
        expected, found = run(stock, size), run(quick, size)
    assert (expected - found).abs().max() <= 1e-5 * expected.abs().max()


def test_every_layer_of_the_table_is_in_use(pair):
    from diffusers import AutoencoderTiny

    autoencoder = AutoencoderTiny()
    layers.quicken(autoencoder)
    kinds = {type(module) for network in (pair[1], autoencoder) for module in network.modules()}
    assert kinds >= set(layers._QUICKER.values())
    assert not kinds & (set(layers._QUICKER) - {torch.nn.Conv2d})


def test_gradients_are_those_of_diffusers(pair):
    gradients = []
    for network in pair:
        sample = torch.full((1, 4, 6, 8), 0.3, requires_grad=True)
        network(sample, 500, torch.ones(1, 5, 24)).sample.square().sum().backward()
        gradients.append(sample.grad)
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-4 * gradients[0].abs().max()


def test_weights_that_change_are_seen(pair):
    """The sums of weights that doubling keeps are made anew after a change, such as a LoRA's."""
    stock, quick = (copy.deepcopy(network) for network in pair)
    with torch.no_grad():
        run(quick)
        for network in (stock, quick):
            network.up_blocks[0].upsamplers[0].conv.weight.mul_(2)
        assert torch.allclose(run(stock), run(quick), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("build", [{"padding": 1}, {"padding": 1, "stride": 2}, {"padding": "same", "dilation": 2}])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [None, torch.channels_last, torch.contiguous_format])
def test_a_convolution_with_sum_and_activation_is_the_three_in_turn(dtype, build, relu, added):
    layer = torch.nn.Conv2d(8, 8, 3, **build).to(dtype)
    image = torch.randn(2, 8, 6, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    image = image.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        bias = layer.bias + 1
        expected = F.conv2d(image.float(), layer.weight.float(), None, *(layer.stride, layer.padding, layer.dilation))
        expected = expected + bias.float()[:, None, None]
        other = None if added is None else torch.randn_like(expected).to(dtype).contiguous(memory_format=added)
        kept = None if other is None else other.clone()
        expected = expected if other is None else expected + other.float()
        found = layers.convolution(image, layer, bias, added=other, relu=relu)
    assert torch.allclose(
        found.float(), expected.relu() if relu else expected, atol=1e-5 if dtype is torch.float32 else 0.05
    )
    assert other is None or torch.equal(other, kept), "what is added stays as it is"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_linear_layer_times_a_factor(dtype):
    layer = torch.nn.Linear(8, 16).to(dtype)
    tokens, factor = (torch.randn(2, 5, n, generator=torch.Generator().manual_seed(n)).to(dtype) for n in (8, 16))
    with torch.no_grad():
        found = layers.linear_times(tokens, layer.weight, layer.bias, factor)
    expected = F.linear(tokens.float(), layer.weight.float(), layer.bias.float()) * factor.float()
    assert torch.allclose(found.float(), expected, atol=1e-5 if dtype is torch.float32 else 0.05)


def test_a_3x3_kernel_on_doubled_cells_is_four_2x2_kernels():
    image, weight = torch.randn(1, 3, 4, 5), torch.randn(2, 3, 3, 3)
    expected = F.conv2d(F.interpolate(image, scale_factor=2.0), weight, padding=1)
    around = F.pad(image, (1, 1, 1, 1))
    for index, kernel in enumerate(layers.phases(weight)):
        down, right = divmod(index, 2)
        part = F.conv2d(around[..., down : down + 5, right : right + 6], kernel)
        assert torch.allclose(part, expected[..., down::2, right::2], atol=1e-5)


@pytest.fixture
def counted(parts, monkeypatch):
    """How often each projection of the text is computed."""
    calls = []
    for name, module in parts.backbone.unet.named_modules():
        if name.endswith("attn2.to_k"):
            handle = module.register_forward_pre_hook(lambda module, args, name=name: calls.append(name))
            monkeypatch.setattr(module, "removed_by_test", handle, raising=False)
    yield calls
    for module in parts.backbone.unet.modules():
        if handle := getattr(module, "removed_by_test", None):
            handle.remove()


def test_texts_are_projected_once_for_a_run(parts, step, counted):
    texts = parts.text_encoder.encode(["", "oil"])
    conditions = [Condition("nothing", texts[0]), Condition("style", texts[1])]
    with torch.no_grad():
        for count in (1, 2, 3):
            parts.backbone.predict(torch.zeros(count, 4, 4, 4), step, conditions)
    assert len(counted) == len(set(counted)) == 10


def test_another_text_or_other_weights_are_projected_again(parts, step, counted):
    text = parts.text_encoder.encode(["oil"])[0]
    latents = torch.zeros(1, 4, 4, 4)
    projection = parts.backbone.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
    with torch.no_grad():
        before = parts.backbone.predict(latents, step, [Condition("style", text)])
        text.states.add_(1)
        assert not torch.allclose(before, parts.backbone.predict(latents, step, [Condition("style", text)]))
        assert len(counted) == 20
        projection.weight += 0
        parts.backbone.predict(latents, step, [Condition("style", text)])
    assert len(counted) == 21


def test_gradients_through_frozen_linear_layers_are_those_of_torch():
    torch.manual_seed(0)
    stock = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.GELU(), torch.nn.Linear(5, 3, bias=False))
    quick = copy.deepcopy(stock)
    layers.quicken(quick)
    values = torch.randn(2, 4, 6)
    for trained in (False, True):
        gradients = []
        for network in (stock, quick):
            network.requires_grad_(trained)
            network.zero_grad()
            moving = values.clone().requires_grad_()
            network(moving).square().sum().backward()
            gradients.append([moving.grad, *(weight.grad for weight in network.parameters() if trained)])
        assert len(gradients[1]) == (4 if trained else 1)
        for expected, found in zip(*gradients, strict=True):
            assert torch.allclose(expected, found, atol=1e-6)
