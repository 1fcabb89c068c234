"""What a step of Style-A-Video evaluates: T26 (the calls), T2 and T14 (kinds of mask), T16 (CLIP step off), T40."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from kinopaint.attention.self_attention_guidance import degraded
from kinopaint.engine.denoiser import Condition
from kinopaint.engine.samplers import clean_estimate
from kinopaint.errors import ModelError
from kinopaint.methods.style_a_video import StyleAVideo
from kinopaint.models.image import ClipImages
from kinopaint.types import Clip, Prompt, Window

PROMPT = Prompt("oil", negative="a")


@pytest.fixture
def frames():
    """Two frames of 64x40: latents of 8x5, the smallest that can be blurred by reflection."""
    return torch.rand(2, 3, 40, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.fixture(scope="module")
def seeing(parts):
    """The tiny model with an image tower."""
    torch.manual_seed(5)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=12,
    )  # fmt: skip
    return replace(parts, image_encoder=ClipImages(CLIPVisionModelWithProjection(config)))


def shared_of(method, frames, parts):
    return method.prepare(Clip(frames.shape[-2], frames.shape[-1], len(frames)), PROMPT, parts)


def guided(method, frames, parts):
    """The denoiser and the hooks before it."""
    return method.guided(frames, parts.autoencoder.encode(frames), shared_of(method, frames, parts), parts)


def stylized(method, frames, parts):
    window = Window(0, frames, tuple(range(len(frames))), slice(0, len(frames)))
    return method.painted(window, shared_of(method, frames, parts), parts)


def one_step(method, frames, parts, latents, step):
    denoise, before = guided(method, frames, parts)
    for hook in before:
        latents = hook(latents, step)
    return latents, denoise(latents, step)


@pytest.fixture
def some(parts, frames):
    return torch.randn(2, 4, 5, 8, generator=torch.Generator().manual_seed(1))


class Calls(list):
    """The sample evaluations of each call of the network, for one frame."""

    def __init__(self, unet):
        self.handle = unet.register_forward_pre_hook(lambda module, args: self.append(len(args[0])))


@pytest.fixture
def calls(parts):
    made = Calls(parts.backbone.unet)
    yield made
    made.handle.remove()


MASK, CLIP = {"s_mask": 0.5}, {"clip_strength": 0.02}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # the table of the specification
        ({}, [[3], [3]]),
        ({"text_branch": "joint"}, [[3], [3]]),
        (MASK, [[3, 1], [3, 1]]),
        ({**MASK, "text_branch": "joint"}, [[3, 1], [3, 1]]),
        ({**MASK, "mask_lagged": True}, [[1, 4], [4]]),
        ({**MASK, "mask_lagged": True, "text_branch": "joint"}, [[1, 4], [4]]),
        (CLIP, [[1, 3], [1, 3]]),
        ({**MASK, **CLIP}, [[1, 4], [1, 4]]),
        ({**MASK, **CLIP, "text_branch": "joint"}, [[1, 4], [1, 4]]),
        ({**MASK, **CLIP, "mask_mode": "sag"}, [[1, 3, 1], [1, 3, 1]]),
        ({**MASK, **CLIP, "mask_mode": "binary_image"}, [[1, 4], [1, 4]]),
        # no CLIP step: the kinds of mask, and pilots that are no branch of the sum
        ({**MASK, "mask_mode": "binary_image"}, [[3, 1], [3, 1]]),
        ({**MASK, "mask_mode": "sag"}, [[3, 1], [3, 1]]),
        ({**MASK, "mask_mode": "sag", "mask_lagged": True}, [[1, 3, 1], [3, 1]]),
        ({**MASK, "pilot": "null"}, [[3, 1], [3, 1]]),
        ({**MASK, "pilot": "full"}, [[1, 4], [1, 4]]),
        # the CLIP step on every second step only, or in no step
        ({**CLIP, "clip_every": 2}, [[1, 3], [3]]),
        ({**MASK, **CLIP, "clip_every": 2}, [[1, 4], [3, 1]]),
        ({**MASK, **CLIP, "clip_every": 2, "mask_lagged": True}, [[1, 4], [4]]),
        ({**MASK, **CLIP, "clip_high": 0.0}, [[3, 1], [3, 1]]),
        # the other two shifts, and the gradient through the network
        ({**MASK, **CLIP, "clip_shift": "classifier"}, [[1, 4], [1, 4]]),
        ({**MASK, **CLIP, "clip_shift": "eval_only", "clip_through_unet": True}, [[1, 4], [1, 4]]),
        # weights that vanish
        ({"s_image": 0.5, "s_text": 0.5}, [[2], [2]]),
        ({"s_image": 0.0, "s_text": 0.5, "s_mask": 0.5}, [[2, 1], [2, 1]]),
        ({"s_image": 0.0, "s_text": 0.5, **MASK, **CLIP}, [[1, 2], [1, 2]]),
        ({"s_image": 0.0, "s_text": 0.0, "s_mask": 1.0, **CLIP}, [[1, 1], [1, 1]]),
        ({"s_image": 0.5, "s_text": 0.5, **MASK, "mask_mode": "sag"}, [[3, 1], [3, 1]]),
    ],
    ids=str,
)  # fmt: skip
def test_calls_per_step(settings, expected, frames, seeing, calls):
    method = StyleAVideo(**settings)
    denoise, before = guided(method, frames[:1], seeing)
    latents = torch.randn(1, 4, 5, 8)
    for step, wanted in zip(seeing.schedule.steps(30)[7 if "clip_every" not in settings else 8 :], expected):  # noqa: B905
        calls.clear()
        for hook in before:
            latents = hook(latents, step)
        denoise(latents, step)
        assert calls == wanted


def test_only_the_mask_layer_computes_its_softmax_and_only_for_one_branch(frames, seeing, some, step, monkeypatch):
    from kinopaint.attention import record

    denoise, _ = guided(StyleAVideo(s_mask=0.5), frames, seeing)
    seen = []
    original = record.attention_weights
    monkeypatch.setattr(record, "attention_weights", lambda q, k: seen.append(q.shape) or original(q, k))
    monkeypatch.setattr("kinopaint.engine.interventions.attention_weights", None)  # nobody else may
    fused = []
    fast = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: fused.append(1) or fast(*a, **k)
    )
    denoise(some, step)
    assert [shape[0] for shape in seen] == [len(frames)]  # frame head token channel: no branch axis
    layers = sum(name.endswith(("attn1", "attn2")) for name, _ in seeing.backbone.unet.named_modules())
    assert len(fused) == 2 * layers  # two calls of the network


# The mask's kinds.


def mask_is(monkeypatch, value):
    monkeypatch.setattr(
        "kinopaint.attention.mask.above_mean", lambda amount: torch.full_like(amount, value, dtype=torch.bool)
    )


def test_self_attention_guidance_pushes_away_from_the_degraded_prediction(frames, parts, some, step, monkeypatch):
    """The sign of T2 and T40: ε_0 + s_M (ε_0 - ε(ẑ))."""
    mask_is(monkeypatch, True)
    nothing = Condition("nothing", shared_of(StyleAVideo(), frames, parts).nothing)
    base = parts.backbone.predict(some, step, [nothing])[0]
    worse = parts.backbone.predict(degraded(some, base, torch.ones(2, 1, 5, 8), step), step, [nothing])[0]
    method = StyleAVideo(s_image=0.0, s_text=0.0, s_mask=0.7, mask_mode="sag")
    assert torch.allclose(one_step(method, frames, parts, some, step)[1], base + 0.7 * (base - worse), atol=1e-5)


@pytest.mark.parametrize("branch", ["null_image", "joint"])
def test_self_attention_guidance_with_an_empty_mask_does_nothing(branch, frames, parts, some, step, monkeypatch):
    mask_is(monkeypatch, False)
    with_sag, without = (
        one_step(StyleAVideo(s_mask=s_mask, mask_mode="sag", text_branch=branch), frames, parts, some, step)[1]
        for s_mask in (2.0, 0.0)
    )
    assert torch.allclose(with_sag, without, atol=2e-4)


def test_the_mask_as_a_picture_is_white_where_attention_looks(frames, parts, some, step, monkeypatch):
    half = torch.zeros(2, 5, 8, dtype=torch.bool)
    half[..., :4] = True
    monkeypatch.setattr("kinopaint.attention.mask.above_mean", lambda amount: half)
    shown = []
    encode = parts.autoencoder.encode
    monkeypatch.setattr(parts.autoencoder, "encode", lambda picture: shown.append(picture) or encode(picture))
    method = StyleAVideo(s_image=0.0, s_text=0.0, s_mask=1.0, mask_mode="binary_image")
    result = one_step(method, frames, parts, some, step)[1]
    picture = shown[-1]
    assert picture.shape == frames.shape
    assert (picture[..., :32] == 1).all()
    assert (picture[..., 32:] == -1).all()
    seen = Condition("m", shared_of(method, frames, parts).nothing, encode(picture))
    assert torch.allclose(result, parts.backbone.predict(some, step, [seen])[0], atol=1e-5)


def test_sources_layers_and_pilots_give_masks_of_their_own(frames, parts, some, step):
    results = [
        one_step(StyleAVideo(s_mask=3.0, mask_layer="up_blocks.2", **settings), frames, parts, some, step)[1]
        for settings in ({}, {"mask_source": "output"}, {"pilot": "null"}, {"pilot": "full"}, {"mask_mode": "sag"})
    ]
    for index, one in enumerate(results):
        assert all(not torch.allclose(one, other, atol=1e-4) for other in results[index + 1 :])


def test_a_lagged_mask_is_that_of_the_step_before(frames, parts, some):
    first, second = parts.schedule.steps(30)[7:9]
    settings = {"s_mask": 2.0, "mask_layer": "up_blocks.2"}
    lagged, _ = guided(StyleAVideo(**settings, mask_lagged=True), frames, parts)
    exact, _ = guided(StyleAVideo(**settings), frames, parts)
    assert torch.allclose(lagged(some, first), exact(some, first), atol=1e-5)  # nothing to lag behind yet
    other = -some
    late = lagged(other, second)
    assert not torch.allclose(late, exact(other, second), atol=1e-4)
    lagged(some, first)  # now the mask is that of `some` again, seen on the way
    assert torch.allclose(lagged(other, second), late, atol=1e-5)


# The CLIP step.


def test_strength_zero_equals_disabled_and_calls_neither_tower_nor_decoder(frames, seeing, monkeypatch):
    plain = stylized(StyleAVideo(num_inference_steps=2), frames, replace(seeing, image_encoder=None))
    monkeypatch.setattr(seeing.image_encoder.model, "forward", None)
    monkeypatch.setattr(seeing.image_encoder.model.vision_model, "forward", None)
    decoded = []
    decode = seeing.autoencoder.decode
    monkeypatch.setattr(seeing.autoencoder, "decode", lambda clean: decoded.append(clean) or decode(clean))
    assert torch.equal(stylized(StyleAVideo(num_inference_steps=2, clip_strength=0.0), frames, seeing), plain)
    assert len(decoded) == 1


@pytest.mark.parametrize("shift", ["state", "classifier"])
@pytest.mark.parametrize(
    "settings", [{}, {"clip_decoder": "linear"}, {"clip_decoder": "reduced"}, {"clip_features": "pooled"}], ids=str
)
def test_the_step_brings_the_content_nearer(shift, settings, frames, seeing, some, step):
    """On the pilot's own estimate, where the loss is taken."""
    tower, coder = seeing.image_encoder, seeing.autoencoder
    method = StyleAVideo(clip_strength=1e-3, clip_shift=shift, pilot="image", s_image=1, s_text=0, **settings)
    seen = (lambda x: tower.embed(x)[:, None]) if "clip_features" in settings else (lambda x: tower.tokens(x)[:, 1:])

    def distance(latents, noise):
        from kinopaint.latents.linear_decoder import linear_decoder
        from kinopaint.latents.reduced_decoder import reduced_decoder

        clean = clean_estimate(latents, noise, step)
        if "clip_decoder" not in settings:
            return 1 - torch.cosine_similarity(seen(coder.decode(clean)), seen(frames), dim=-1).mean()
        source = coder.scaled(coder.encode(frames))
        if settings["clip_decoder"] == "linear":
            decode = partial(linear_decoder(source, frames), which=slice(None))
        else:
            decode = reduced_decoder(coder.decode, tower.size // coder.factor)
        return 1 - torch.cosine_similarity(seen(decode(clean)), seen(decode(source)), dim=-1).mean()

    off, on = StyleAVideo(s_image=1, s_text=0), method
    moved, without = one_step(on, frames, seeing, some, step), one_step(off, frames, seeing, some, step)
    assert distance(*moved) < distance(*without)


def test_the_three_shifts_differ_in_what_they_move(frames, seeing, some, step):
    results = {
        shift: one_step(StyleAVideo(clip_strength=0.05, clip_shift=shift), frames, seeing, some, step)
        for shift in ("state", "classifier", "eval_only")
    }
    assert not torch.equal(results["state"][0], some)
    moved_by = (results["state"][0] - some).square().mean((1, 2, 3)).sqrt()
    assert torch.allclose(moved_by, torch.full((2,), 0.05 * step.sigma), rtol=1e-4)
    assert torch.equal(results["classifier"][0], some)
    assert torch.equal(results["eval_only"][0], some)
    assert torch.allclose(results["eval_only"][1], results["state"][1], atol=1e-5)  # ε at the same place
    assert not torch.allclose(results["classifier"][1], results["state"][1], atol=1e-4)


def test_the_gradient_through_the_network_is_another(frames, seeing, some, step):
    moved = [
        one_step(StyleAVideo(clip_strength=0.05, clip_through_unet=through), frames, seeing, some, step)[0]
        for through in (False, True)
    ]
    assert not torch.allclose(*moved, atol=1e-4)


def test_it_works_where_gradients_are_off_and_leaves_none_behind(frames, seeing, step):
    with torch.no_grad():
        result = stylized(StyleAVideo(num_inference_steps=2, **MASK, **CLIP), frames, seeing)
    assert not result.requires_grad
    assert torch.isfinite(result).all()


def test_frames_do_not_matter_to_each_other(frames, seeing):
    method = StyleAVideo(num_inference_steps=2, **MASK, **CLIP)
    both, alone = stylized(method, frames, seeing), stylized(method, frames[:1], seeing)
    assert (both[:1] - alone).abs().max() <= 1e-4 * alone.abs().max()


def test_a_model_without_a_tower_or_a_small_decoder_is_refused(frames, parts, seeing):
    with pytest.raises(ModelError, match="needs an image tower") as caught:
        shared_of(StyleAVideo(clip_strength=0.02), frames, parts)
    assert caught.value.code == "KP-MODEL-NO-IMAGE-ENCODER"
    with pytest.raises(ModelError, match="needs a small autoencoder") as caught:
        shared_of(StyleAVideo(clip_strength=0.02, clip_decoder="small"), frames, seeing)
    assert caught.value.code == "KP-MODEL-NO-SMALL-DECODER"


def test_the_small_decoder_is_taken_where_there_is_one(frames, seeing, loaded, some, step, monkeypatch):
    with_small = replace(seeing, small_autoencoder=loaded["tiny"].autoencoder)
    used = []
    for name, coder in (("own", seeing.autoencoder), ("small", with_small.small_autoencoder)):
        decode = coder.decode
        monkeypatch.setattr(coder, "decode", lambda z, n=name, f=decode: used.append(n) or f(z))
    one_step(StyleAVideo(clip_strength=0.02), frames, with_small, some, step)
    assert set(used) == {"small"}
    used.clear()
    one_step(StyleAVideo(clip_strength=0.02, clip_decoder="model"), frames, with_small, some, step)
    assert set(used) == {"own"}
