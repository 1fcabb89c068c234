"""The shortened decoder gives what diffusers' own gives, pixels and gradients, out to the corners."""

import copy

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DecoderTiny

from kinopaint.models import tiny_decoder
from kinopaint.models.layers import quicken


def decoders(blocks=(1, 0), **more):
    torch.manual_seed(0)
    settings = {"upsampling_scaling_factor": 2, "act_fn": "relu", "upsample_fn": "nearest", **more}
    stock = DecoderTiny(4, 3, blocks, (8,) * len(blocks), **settings).requires_grad_(False).eval()
    quick = torch.nn.ModuleList([copy.deepcopy(stock)])
    quicken(quick)
    return stock, quick[0]


@pytest.fixture
def composed(monkeypatch):
    """How often two convolutions were made one."""
    times = []
    compose = tiny_decoder.doubled_convolutions
    monkeypatch.setattr(tiny_decoder, "doubled_convolutions", lambda *a: times.append(1) or compose(*a))
    return times


@pytest.mark.parametrize("size", [(6, 8), (2, 3)])
def test_pixels_and_gradients_are_those_of_diffusers(size, composed):
    stock, quick = decoders()
    pixels, gradients = [], []
    for decoder in (stock, quick):
        latents = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(1)).requires_grad_()
        found = decoder(latents)
        found.pow(3).sum().backward()
        pixels.append(found.detach())
        gradients.append(latents.grad)
    assert composed
    assert torch.allclose(*pixels, atol=1e-5)
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "other", [{"blocks": (1, 1)}, {"upsample_fn": "bilinear"}, {"upsampling_scaling_factor": 4}, {"blocks": (1,)}]
)
def test_decoders_of_another_build_go_their_own_way(other, composed):
    stock, quick = decoders(**other)
    latents = torch.randn(1, 4, 4, 5)
    assert torch.allclose(stock(latents), quick(latents), atol=1e-6)
    assert not composed


def test_weights_that_are_trained_get_their_gradients(composed):
    _, quick = decoders()
    quick.requires_grad_(True)
    quick(torch.randn(1, 4, 4, 5)).sum().backward()
    assert all(weight.grad is not None for weight in quick.parameters())
    assert not composed


def test_weights_that_change_are_seen(composed):
    stock, quick = decoders()
    latents = torch.randn(1, 4, 4, 5)
    for decoder in (stock, quick):
        decoder(latents)
        decoder.layers[-2].weight.mul_(2)
    assert torch.allclose(stock(latents), quick(latents), atol=1e-5)
    quick(latents)
    assert len(composed) == 2


def test_a_kernel_on_doubled_cells_gives_both_convolutions_at_once():
    small, first, second = torch.randn(1, 4, 5, 6), torch.randn(7, 4, 3, 3), torch.randn(3, 7, 3, 3)
    expected = F.conv2d(F.conv2d(F.interpolate(small, scale_factor=2.0), first, padding=1), second, padding=1)
    kernel = tiny_decoder.doubled_convolutions(first, second)
    found = F.pixel_shuffle(F.conv2d(small, kernel, padding=1), 2)
    assert torch.allclose(expected[..., 1:-1, 1:-1], found[..., 1:-1, 1:-1], atol=1e-3)
