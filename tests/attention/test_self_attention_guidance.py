"""Identity T14: without a blur, or without a mask, nothing is degraded."""

import pytest
import torch

from kinopaint.attention import self_attention_guidance
from kinopaint.attention.self_attention_guidance import blurred, degraded
from kinopaint.engine.samplers import clean_estimate
from kinopaint.errors import ShapeError


def test_without_blur_or_mask_the_latents_come_back(step, monkeypatch):
    latents, noise = torch.randn(2, 3, 4, 6, 7)
    assert torch.allclose(degraded(latents, noise, torch.zeros(3, 1, 6, 7), step), latents, atol=1e-5)
    assert not torch.allclose(degraded(latents, noise, torch.ones(3, 1, 6, 7), step), latents, atol=1e-2)
    monkeypatch.setattr(self_attention_guidance, "blurred", lambda clean: clean)
    assert torch.allclose(degraded(latents, noise, torch.ones(3, 1, 6, 7), step), latents, atol=1e-5)


def test_what_is_blurred_is_the_clean_estimate_under_the_mask(step):
    latents, noise = torch.randn(2, 1, 4, 8, 8)
    mask = (torch.arange(8) < 4).float().expand(1, 1, 8, 8)
    clean = clean_estimate(latents, noise, step)
    found = clean_estimate(degraded(latents, noise, mask, step), noise, step)
    assert torch.allclose(found[..., :4], blurred(clean)[..., :4], atol=1e-4)
    assert torch.allclose(found[..., 4:], clean[..., 4:], atol=1e-4)


def test_the_blur_is_diffusers():
    kernel = torch.exp(-0.5 * torch.linspace(-4, 4, 9) ** 2)
    kernel = kernel / kernel.sum()
    table = (kernel[:, None] * kernel).expand(4, 1, 9, 9)
    latents = torch.randn(2, 4, 5, 9)
    padded = torch.nn.functional.pad(latents, [4, 4, 4, 4], mode="reflect")
    assert torch.allclose(blurred(latents), torch.nn.functional.conv2d(padded, table, groups=4), atol=1e-5)
    assert torch.allclose(blurred(torch.ones(1, 2, 6, 6)), torch.ones(1, 2, 6, 6), atol=1e-6)


def test_latents_too_small_to_reflect_are_refused():
    with pytest.raises(ShapeError, match="at least 5 cells each way") as caught:
        blurred(torch.zeros(1, 4, 4, 6))
    assert caught.value.fix
