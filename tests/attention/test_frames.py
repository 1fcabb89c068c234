"""Attention routing against loops over frames."""

from dataclasses import replace

import pytest
import torch

from kinopaint.attention.frames import (
    anchors,
    every,
    first,
    from_frames,
    from_tokens,
    gather_frames,
    itself,
    key_pair,
    previous,
    source_frames,
)
from kinopaint.engine.interventions import AttentionCall, Site, attend, attention_weights, is_self, where
from kinopaint.errors import SettingsError

FRAMES = 5


@pytest.fixture
def call(step):
    query, key, value = torch.randn(3, 2, FRAMES, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    site = Site("up_blocks.1.attentions.0.transformer_blocks.0.attn1", False, 2, 3)
    return AttentionCall(query, key, value, site, step, ("nothing", "style"))


def by_loop(call, sources):
    """Each frame and branch by itself, keys and values of its sources laid end to end."""
    result = torch.empty_like(call.query)
    for branch in range(len(call.branches)):
        for frame, row in enumerate(sources):
            key = torch.cat([call.key[branch, source] for source in row], 1)
            value = torch.cat([call.value[branch, source] for source in row], 1)
            result[branch, frame] = attention_weights(call.query[branch, frame], key) @ value
    return result


@pytest.mark.parametrize(
    ("choose", "sources"),
    [
        ([itself], [[0], [1], [2], [3], [4]]),
        ([first], [[0]] * 5),
        ([previous], [[0], [0], [1], [2], [3]]),
        ([first, previous], [[0, 0], [0, 0], [0, 1], [0, 2], [0, 3]]),
        ([every], [[0, 1, 2, 3, 4]] * 5),
        ([anchors(2), itself], [[2, 0], [2, 1], [2, 2], [2, 3], [2, 4]]),
        ([anchors(0, -1)], [[0, 4]] * 5),
        ([key_pair(1, 3)], [[1, 1], [1, 1], [1, 3], [3, 3], [3, 3]]),
    ],
    ids=lambda value: "" if callable(value[0]) else str(value),
)
def test_choices_name_their_frames_and_equal_a_loop(call, choose, sources):
    assert source_frames(FRAMES, choose) == sources
    result = from_frames(*choose)(call, attend)
    assert torch.allclose(result, by_loop(call, sources), atol=1e-6)


def test_the_second_frame_sees_the_first_twice_which_is_once(call):
    """Duplicated keys do not change a softmax average."""
    doubled, once = (from_frames(*choose)(call, attend) for choose in ([first, previous], [first]))
    assert torch.allclose(doubled[:, :2], once[:, :2], atol=1e-6)
    assert not torch.allclose(doubled[:, 2:], once[:, 2:], atol=1e-3)


@pytest.mark.parametrize("choose", [[first], [previous], [first, previous], [every], [key_pair(0, 3)]], ids=str)
def test_equal_frames_stay_what_attention_to_themselves_makes_of_them(call, choose):
    repeated = {name: getattr(call, name)[:, :1].repeat(1, FRAMES, 1, 1, 1) for name in ("query", "key", "value")}
    same = replace(call, **repeated)
    assert torch.allclose(from_frames(*choose)(same, attend), attend(same), atol=1e-6)


def test_every_does_not_depend_on_the_order_of_frames(call):
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = replace(call, **{name: getattr(call, name)[:, order] for name in ("query", "key", "value")})
    everywhere = from_frames(every)
    assert torch.allclose(everywhere(shuffled, attend), everywhere(call, attend)[:, order], atol=1e-6)


def test_common_sources_are_one_copy(call):
    assert gather_frames(call.key, source_frames(FRAMES, [every])).stride(1) == 0
    assert gather_frames(call.key, source_frames(FRAMES, [previous])).stride(1) != 0


def test_token_sets_take_the_named_tokens_of_any_frame(call):
    tokens = call.site.height * call.site.width
    chosen = torch.tensor([0, 3, tokens + 2, 4 * tokens + 5])
    seen = []

    def indices_at(*size):
        seen.append(size)
        return chosen

    result = from_tokens(indices_at)(call, attend)
    assert seen == [(2, 3)]
    places = [(0, 0), (0, 3), (1, 2), (4, 5)]
    key, value = (torch.stack([tensor[:, f, :, t] for f, t in places], 2) for tensor in (call.key, call.value))
    for frame in range(FRAMES):
        expected = attention_weights(call.query[:, frame], key) @ value
        assert torch.allclose(result[:, frame], expected, atol=1e-6)


def test_the_first_frames_tokens_are_the_first_frame_and_all_tokens_every_frame(call):
    tokens = call.site.height * call.site.width
    only_first = from_tokens(lambda height, width: torch.arange(tokens))(call, attend)
    assert torch.allclose(only_first, from_frames(first)(call, attend), atol=1e-6)
    all_of_them = from_tokens(lambda height, width: torch.arange(FRAMES * tokens))(call, attend)
    assert torch.allclose(all_of_them, from_frames(every)(call, attend), atol=1e-6)


def test_a_frame_that_the_window_has_not_is_named(call):
    with pytest.raises(SettingsError, match="window of 5") as caught:
        from_frames(anchors(5))(call, attend)
    assert caught.value.code == "KP-SETTING-FRAMES"


def test_in_the_network_a_single_frame_sees_itself_whatever_is_chosen(parts, step):
    from kinopaint.engine.denoiser import Condition

    latents = torch.randn(3, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    told = [Condition("style", parts.text_encoder.encode(["oil"])[0])]

    def predict(frames, choose):
        acting = [where(is_self, from_frames(*choose))]
        return parts.backbone.predict(frames, step, told, interventions=acting)

    alone = predict(latents[:1], [first, previous])
    assert torch.allclose(alone, parts.backbone.predict(latents[:1], step, told), atol=1e-5)
    together = predict(latents, [first])
    assert torch.allclose(together[:, :1], alone, atol=1e-5)
    assert not torch.allclose(together[:, 1:], parts.backbone.predict(latents, step, told)[:, 1:], atol=1e-4)


def test_first_frame_routing_is_that_of_text2video_zero(step):
    """Against diffusers' processor, on the layer it is made for."""
    module = pytest.importorskip(
        "diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_zero",
        exc_type=ImportError,
    )
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(0)
    layer = Attention(24, heads=3, dim_head=8)
    hidden = torch.randn(2, FRAMES, 6, 24)
    expected = module.CrossFrameAttnProcessor2_0(batch_size=2)(layer, hidden.flatten(0, 1))

    def heads(tensor):
        return tensor.unflatten(-1, (3, 8)).transpose(2, 3)

    site = Site("up_blocks.1.attentions.0.transformer_blocks.0.attn1", False, 2, 3)
    projected = (heads(project(hidden)) for project in (layer.to_q, layer.to_k, layer.to_v))
    result = from_frames(first)(AttentionCall(*projected, site, step, ("nothing", "style")), attend)
    ours = layer.to_out[0](result.transpose(2, 3).flatten(3)).flatten(0, 1)
    assert torch.allclose(ours, expected, atol=1e-6)
