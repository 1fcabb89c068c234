"""Identity T15, and what the kinds of distance see."""

import pytest
import torch

from kinopaint.latents.clip_distance import DISTANCES, clip_distance, self_similarity_distance, token_distance
from kinopaint.latents.linear_decoder import linear_decoder


class Patches:
    """An image tower whose tokens are the 8x8 patches."""

    dim, size = 192, 48

    def tokens(self, frames, layer=-1):
        patches = torch.nn.functional.unfold(frames * -layer, 8, stride=8).transpose(1, 2)
        return torch.cat([patches.mean(1, keepdim=True), patches], dim=1)

    def embed(self, frames):
        return self.tokens(frames)[:, 0]


def test_the_distance_of_tokens_is_zero_for_itself_symmetric_bounded_and_blind_to_scale():
    one, other = torch.randn(2, 5, 7, 11)
    assert torch.allclose(token_distance(one, one), torch.zeros(5), atol=1e-6)
    assert torch.allclose(token_distance(one, -one), torch.full((5,), 2.0))
    assert torch.allclose(token_distance(one, other), token_distance(other, one))
    assert torch.allclose(token_distance(3 * one, 0.1 * other), token_distance(one, other), atol=1e-6)
    assert ((token_distance(one, other) >= 0) & (token_distance(one, other) <= 2)).all()


def test_self_similarity_is_blind_to_a_rotation_of_all_tokens():
    one = torch.randn(3, 6, 8)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8))
    assert torch.allclose(self_similarity_distance(one, one @ rotation), torch.zeros(3), atol=1e-6)
    assert (self_similarity_distance(one, torch.randn(3, 6, 8)) > 0.01).all()
    assert (token_distance(one, one @ rotation) > 0.1).all()


@pytest.mark.parametrize("features", list(DISTANCES))
def test_the_loss_is_zero_at_the_source_and_has_a_gradient_elsewhere(features, frames):
    loss = clip_distance(Patches(), lambda clean, which: clean, frames, features=features)
    assert torch.allclose(loss(frames, slice(None)), torch.zeros(3), atol=1e-6)
    moved = (frames + 0.3 * torch.randn_like(frames)).requires_grad_()
    distances = loss(moved, slice(None))
    assert distances.shape == (3,)
    assert (distances > 1e-4).all()
    distances.sum().backward()
    assert (moved.grad.abs().amax((1, 2, 3)) > 0).all()


def test_the_class_token_counts_for_self_similarity_only(frames):
    """Style-A-Video compares spatial tokens; Text2LIVE's code compares all of them."""

    class Another(Patches):
        def tokens(self, frames, layer=-1):
            found = super().tokens(frames, layer)
            return torch.cat([self.first.expand(len(found), 1, 192), found[:, 1:]], dim=1)

    tower = Another()
    tower.first = torch.ones(192)
    losses = {
        features: clip_distance(tower, lambda clean, which: clean, frames, features=features) for features in DISTANCES
    }
    tower.first = torch.linspace(-1, 1, 192)
    assert torch.allclose(losses["tokens"](frames, slice(None)), torch.zeros(3), atol=1e-6)
    assert (losses["self_similarity"](frames, slice(None)) > 1e-4).all()


def test_the_layer_is_passed_on(frames):
    tower = Patches()
    loss = clip_distance(tower, lambda clean, which: clean, frames, features="tokens", layer=-3)
    assert torch.allclose(loss(frames, slice(None)), torch.zeros(3), atol=1e-6)
    asked = []
    tower.tokens = lambda frames, layer=-1: asked.append(layer) or Patches.tokens(tower, frames, layer)
    loss(frames, slice(None))
    assert asked == [-3]


def test_the_linear_decoder_finds_an_affine_relation_and_keeps_frames_apart():
    clean = torch.randn(3, 4, 16, 16)
    mix, offset = torch.randn(3, 4), torch.randn(3)
    colours = torch.einsum("ck,fkhw->fchw", mix, clean) + offset.view(3, 1, 1)
    frames = colours.repeat_interleave(8, -1).repeat_interleave(8, -2)
    decode = linear_decoder(clean, frames)
    assert torch.allclose(decode(clean, slice(None)), colours, atol=0.02)
    alone = linear_decoder(clean[:1], frames[:1])
    assert torch.allclose(alone(clean[:1], slice(None)), decode(clean[:1], slice(0, 1)), atol=1e-5)
