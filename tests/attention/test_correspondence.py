"""Attention guided in space and along flow, on plain tensors."""

from dataclasses import replace

import pytest
import torch

from kinopaint.attention.correspondence import Projections, guided_along_flow, guided_in_space
from kinopaint.engine.interventions import AttentionCall, Site, attend, attention_weights, chained
from kinopaint.errors import ShapeError
from kinopaint.flow.trajectories import Trajectories

SITE = Site("up_blocks.2.attn1", is_cross=False, height=3, width=4)
BRANCHES, FRAMES, HEADS, TOKENS, CHANNELS = 2, 3, 2, 12, 5


def call_of(seed, step, frames=FRAMES):
    generator = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, BRANCHES, frames, HEADS, TOKENS, CHANNELS, generator=generator)
    return AttentionCall(query, key, value, SITE, step, ("nothing", "words"))


def random_paths(seed, share_broken):
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(TOKENS, generator=generator) for _ in range(FRAMES)])
    breaks = (torch.rand(TOKENS, FRAMES, generator=generator) < share_broken).cumsum(1)
    return Trajectories(order, breaks[:, :, None] == breaks[:, None, :])


def test_recording_changes_nothing_and_keeps_queries_and_keys(step):
    call, seen = call_of(0, step), Projections()
    assert torch.equal(seen(call, attend), attend(call))
    assert torch.equal(seen.queries[SITE.path], call.query)
    assert torch.equal(seen.keys[SITE.path], call.key)


def test_queries_are_averaged_over_what_looked_alike(step):
    call, reference, seen = call_of(0, step), call_of(1, step), Projections()
    seen(reference, attend)
    taken = []
    guided_in_space(seen, 5.0)(call, lambda changed: taken.append(changed) or attend(changed))
    weights = attention_weights(reference.query / 5, reference.key)  # each row sums to 1
    assert torch.allclose(taken[0].query, weights @ call.query, atol=1e-5)
    assert torch.equal(taken[0].key, call.key)


def test_a_large_scale_gives_every_token_the_mean_query(step):
    call, seen = call_of(0, step), Projections()
    seen(call_of(1, step), attend)
    taken = []
    guided_in_space(seen, 1e9)(call, lambda changed: taken.append(changed) or attend(changed))
    assert torch.allclose(taken[0].query, call.query.mean(-2, keepdim=True).expand_as(call.query), atol=1e-5)


def test_a_layer_without_reference_is_refused(step):
    with pytest.raises(ShapeError, match="no reference"):
        guided_in_space(Projections(), 5.0)(call_of(0, step), attend)
    seen = Projections()
    seen(call_of(1, step, frames=FRAMES + 1), attend)
    with pytest.raises(ShapeError, match="no reference"):
        guided_in_space(seen, 5.0)(call_of(0, step), attend)


@pytest.mark.parametrize("broken", [0.0, 0.4])
def test_along_flow_is_what_gathering_token_by_token_gives(broken, step):
    call, paths = call_of(0, step), random_paths(3, broken)
    given = torch.randn(call.query.shape, generator=torch.Generator().manual_seed(9))
    result = guided_along_flow(lambda height, width: paths, 5.0)(call, lambda _: given)
    expected = torch.empty_like(given)
    for path in range(TOKENS):
        tokens = paths.order[:, path]
        for frame in range(FRAMES):
            mates = [other for other in range(FRAMES) if paths.linked[path, frame, other]]
            keys = torch.stack([call.key[:, mate, :, tokens[mate]] for mate in mates], -2)
            values = torch.stack([given[:, mate, :, tokens[mate]] for mate in mates], -2)
            query = call.query[:, frame, :, tokens[frame], None] / 5
            expected[:, frame, :, tokens[frame]] = (attention_weights(query, keys) @ values)[..., 0, :]
    assert torch.allclose(result, expected, atol=1e-5)


def test_paths_of_one_token_change_nothing(step):
    call, paths = call_of(0, step), random_paths(3, 0.0)
    alone = replace(paths, linked=torch.eye(FRAMES, dtype=torch.bool).expand(TOKENS, -1, -1))
    result = guided_along_flow(lambda height, width: alone, 5.0)(call, attend)
    assert torch.allclose(result, attend(call), atol=1e-6)


def test_equal_frames_under_zero_flow_change_nothing(step):
    call = call_of(0, step)
    still = {name: getattr(call, name)[:, :1].expand_as(call.query) for name in ("query", "key", "value")}
    call = replace(call, **still)
    order = torch.arange(TOKENS).expand(FRAMES, -1)
    paths = Trajectories(order, torch.ones(TOKENS, FRAMES, FRAMES, dtype=torch.bool))
    result = guided_along_flow(lambda height, width: paths, 5.0)(call, attend)
    assert torch.allclose(result, attend(call), atol=1e-6)


def test_along_flow_looks_at_the_unguided_queries(step):
    """Queries guided in space serve the attention within, not the one along the path."""
    call, paths, seen = call_of(0, step), random_paths(3, 0.0), Projections()
    seen(call_of(1, step), attend)
    along, within = guided_along_flow(lambda height, width: paths, 5.0), guided_in_space(seen, 5.0)
    inner = within(call, attend)
    assert torch.allclose(chained([along, within])(call), along(call, lambda _: inner), atol=1e-6)


def test_trajectories_are_asked_for_by_the_size_of_the_map(step):
    asked = []
    guided_along_flow(lambda *size: asked.append(size) or random_paths(3, 0.0), 5.0)(call_of(0, step), attend)
    assert asked == [(3, 4)]
