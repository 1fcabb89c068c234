"""Latents are reduced before they are decoded, and never enlarged."""

import torch

from kinopaint.latents.reduced_decoder import reduced_decoder


def doubled(latents):
    return latents[:, :3].repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_what_has_no_detail_looks_the_same_but_smaller():
    flat = torch.rand(2, 4, 1, 1).expand(-1, -1, 8, 16)
    assert torch.allclose(reduced_decoder(doubled, 4)(flat), doubled(flat)[..., :8, :8], atol=1e-6)


def test_small_latents_stay_as_they_are():
    for latents in (torch.randn(1, 4, 5, 7), torch.randn(1, 4, 8, 3)):
        assert torch.equal(reduced_decoder(doubled, 8)(latents), doubled(latents))


def test_gradients_reach_every_cell():
    latents = torch.randn(1, 4, 9, 15, requires_grad=True)
    reduced_decoder(doubled, 4)(latents).sum().backward()
    assert latents.grad[:, :3].abs().min() > 0
