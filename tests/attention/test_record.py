"""The mask of Style-A-Video (T10 to T12)."""

import torch

from kinopaint.attention.mask import above_mean
from kinopaint.attention.record import ReceivedAttention
from kinopaint.engine.interventions import AttentionCall, Site, attend


def received(query, key, step):
    call = AttentionCall(
        query, key, torch.randn_like(key), Site("mid_block", False, 3, 5), step, ("nothing", "content")
    )
    watch = ReceivedAttention("content")
    assert torch.equal(watch(call, attend), attend(call))
    return watch.map


def test_received_attention_has_mean_one_so_the_mean_and_one_are_the_same_threshold(step):
    amount = received(*torch.randn(2, 2, 4, 2, 15, 8), step)
    assert amount.shape == (4, 3, 5)
    assert torch.allclose(amount.mean((1, 2)), torch.ones(4), atol=1e-6)
    assert torch.equal(above_mean(amount), amount > 1.0)
    share = above_mean(amount).float().mean((1, 2))
    assert ((share > 0) & (share < 1)).all()


def test_it_is_the_named_branchs(step):
    query, key = torch.randn(2, 2, 1, 2, 15, 8)
    weights = (query[1] @ key[1].transpose(-1, -2) / 8**0.5).softmax(-1)
    assert torch.allclose(received(query, key, step), weights.mean(1).sum(1).reshape(1, 3, 5), atol=1e-5)


def test_uniform_and_identity_attention_give_an_empty_mask(step):
    uniform = received(torch.zeros(2, 1, 2, 15, 8), torch.randn(2, 1, 2, 15, 8), step)
    assert not above_mean(uniform).any()
    each_itself = 100 * torch.eye(15).expand(2, 1, 2, 15, 15)
    assert not above_mean(received(each_itself, each_itself, step)).any()


def test_rounding_does_not_make_a_mask():
    rounded = 1 + 1e-7 * torch.randint(-2, 3, (4, 5, 7))
    assert (rounded > rounded.mean()).any()
    assert not above_mean(rounded).any()
