"""Identities T4 to T13, T21 to T23 and T26 of Style-A-Video, against diffusers' InstructPix2Pix where it applies."""

from dataclasses import replace

import pytest
import torch

from kinopaint.attention.mask import above_mean, resized
from kinopaint.engine.denoiser import Condition
from kinopaint.engine.run import stylize_windows
from kinopaint.engine.samplers import sample_ddim
from kinopaint.errors import ModelError, SettingsError
from kinopaint.methods.style_a_video import StyleAVideo
from kinopaint.types import Clip, Prompt, Window, WindowPlan

PROMPT = Prompt("oil", negative="a")
STEPS = 4


def window_of(frames, first=0):
    return Window(0, frames, tuple(range(first, first + len(frames))), slice(0, len(frames)))


def run(method, frames, parts, prompt=PROMPT):
    clip = Clip(frames.shape[-2], frames.shape[-1], len(frames))
    return torch.cat([done.frames for done in stylize_windows(method, frames, clip, prompt, parts)])


def latents_of(method, frames, parts, prompt=PROMPT):
    """What `stylize` decodes."""
    decoded = []
    keep = replace(parts, autoencoder=Keeping(parts.autoencoder, decoded))
    run(method, frames, keep, prompt)
    return torch.cat(decoded)


class Keeping:
    """An autoencoder that notes what it decodes."""

    def __init__(self, inner, decoded):
        self.inner, self.decoded = inner, decoded
        self.factor, self.latent_channels = inner.factor, inner.latent_channels
        self.encode, self.scaled = inner.encode, inner.scaled

    def decode(self, latents):
        self.decoded.append(latents)
        return self.inner.decode(latents)


def predictions(frames, parts, step):
    """ε for (nothing, image, words, image and words) at some latents, and those latents."""
    nothing, words = parts.text_encoder.encode([PROMPT.negative, PROMPT.text])
    image = parts.autoencoder.encode(frames)
    latents = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    conditions = [
        Condition("0", nothing),
        Condition("I", nothing, image),
        Condition("T", words),
        Condition("IT", words, image),
    ]
    return latents, parts.backbone.predict(latents, step, conditions)


def combined(method, frames, parts, latents, step, prompt=PROMPT):
    shared = method.prepare(Clip(frames.shape[-2], frames.shape[-1]), prompt, parts)
    denoise, before = method.guided(frames, parts.autoencoder.encode(frames), shared, parts)
    for hook in before:
        latents = hook(latents, step)
    return denoise(latents, step)


@pytest.fixture
def same_as_diffusers(model_folders):
    def run(name, frame, seed, scales, steps):
        from diffusers import StableDiffusionInstructPix2PixPipeline

        pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            model_folders[name], safety_checker=None, requires_safety_checker=False
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline(
            PROMPT.text,
            image=(frame[None] + 1) / 2,
            negative_prompt=PROMPT.negative,
            image_guidance_scale=scales[0],
            guidance_scale=scales[1],
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
            output_type="latent",
        ).images

    return run


@pytest.mark.parametrize("name", ["epsilon", "v_prediction", "tiny"])
@pytest.mark.parametrize(("scales", "steps"), [((1.5, 7.5), 7), ((3.0, 3.0), 3), ((1.0, 4.0), 5)])
def test_joint_equals_instruct_pix2pix_of_diffusers(name, scales, steps, loaded, frames, same_as_diffusers):
    method = StyleAVideo(
        s_image=scales[0], s_text=scales[1], text_branch="joint", init="noise", num_inference_steps=steps
    )
    ours = latents_of(method, frames, replace(loaded[name], seed=11))
    for index, frame in enumerate(frames):
        expected = same_as_diffusers(name, frame, 11, scales, steps)
        assert (ours[index] - expected[0]).abs().max() <= 1e-5 * expected.abs().max()


def test_the_preset_ip2p_takes_the_spacing_of_the_checkpoint(loaded, frames, same_as_diffusers):
    method = StyleAVideo(**{**StyleAVideo.presets["ip2p"], "num_inference_steps": 3})
    ours = latents_of(method, frames[:1], loaded["epsilon"])
    expected = same_as_diffusers("epsilon", frames[0], 0, (1.5, 7.5), 3)
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("scales", "expected"),
    [((1, 0), lambda e0, eI, eT, eIT: eI), ((0, 1), lambda e0, eI, eT, eIT: eT), ((0, 0), lambda e0, eI, eT, eIT: e0)],
)
def test_one_hot_scales(scales, expected, frames, parts, step):
    latents, branches = predictions(frames, parts, step)
    result = combined(StyleAVideo(s_image=scales[0], s_text=scales[1]), frames, parts, latents, step)
    assert torch.allclose(result, expected(*branches), atol=1e-5)


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ((0, 1), lambda e0, eI, eT, eIT: e0 - eI + eIT),
        ((1, 1), lambda e0, eI, eT, eIT: eIT),
        ((1, 0), lambda e0, eI, eT, eIT: eI),
    ],
)
def test_one_hot_scales_of_the_joint_form(scales, expected, frames, parts, step):
    latents, branches = predictions(frames, parts, step)
    method = StyleAVideo(s_image=scales[0], s_text=scales[1], text_branch="joint")
    assert torch.allclose(combined(method, frames, parts, latents, step), expected(*branches), atol=1e-5)


def test_text_alone_is_classifier_free_guidance(frames, parts):
    method = StyleAVideo(s_image=0, s_text=6.0, init="noise", num_inference_steps=STEPS)
    nothing, words = parts.text_encoder.encode([PROMPT.negative, PROMPT.text])
    noise = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)

    def denoise(latents, step):
        empty, full = parts.backbone.predict(latents, step, [Condition("", nothing), Condition("", words)])
        return empty + 6.0 * (full - empty)

    expected = sample_ddim(denoise, noise, parts.schedule.steps(STEPS))
    assert torch.allclose(latents_of(method, frames, parts), expected, atol=1e-4)


@pytest.mark.parametrize("s_text", [7.5, 0.0])
def test_difference_of_the_two_text_branches(s_text, frames, parts, step):
    latents, (e0, e_image, e_text, e_both) = predictions(frames, parts, step)
    null, joint = (
        combined(StyleAVideo(s_text=s_text, text_branch=branch), frames, parts, latents, step)
        for branch in ("null_image", "joint")
    )
    assert torch.allclose(null - joint, -s_text * (e_both - e_image - e_text + e0), atol=1e-4)


def test_the_empty_text_at_weight_one_is_the_null_branch(frames, parts, step):
    latents, _ = predictions(frames, parts, step)
    result = combined(StyleAVideo(s_image=0, s_text=1), frames, parts, latents, step, Prompt("a", negative=""))
    same = combined(StyleAVideo(s_image=0, s_text=0), frames, parts, latents, step, Prompt("oil", negative="a"))
    assert torch.allclose(result, same, atol=1e-6)


@pytest.mark.parametrize("s_mask", [0.0, 0.5])
def test_without_weights_for_the_image_the_frame_does_not_matter(s_mask, model_folder, frames, parts):
    from kinopaint.models import load_model

    blind = load_model(model_folder, device="cpu", dtype="float32")
    blind.backbone.unet.conv_in.weight[:, 4:] = 0
    kind = {"init": "noise", "num_inference_steps": 2, "s_text": 5.0}
    first = latents_of(StyleAVideo(**kind, s_mask=s_mask), frames, blind)
    for other in (
        StyleAVideo(**kind, s_image=0.7),
        StyleAVideo(**kind, s_image=3.0, s_mask=s_mask, text_branch="joint"),
    ):
        assert torch.allclose(latents_of(other, -frames, blind), first, atol=1e-4)


@pytest.mark.parametrize("s_mask", [0.0, 0.5])
def test_rescaling_gives_the_prediction_the_spread_of_the_words_branch(s_mask, frames, parts, step):
    latents, branches = predictions(frames, parts, step)
    result = combined(StyleAVideo(s_mask=s_mask, guidance_rescale=1.0), frames, parts, latents, step)
    assert torch.allclose(result.std((1, 2, 3)), branches[2].std((1, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("text_branch", ["joint", "null_image"])
@pytest.mark.parametrize("s_mask", [0.0, 0.5])
@pytest.mark.parametrize("scales", [(2.0, 6.0), (0.4, 6.0), (3.0, 0.5), (1.0, 1.0), (0.3, 0.8)])
def test_only_what_scales_above_one_add_is_limited(scales, s_mask, text_branch, frames, parts, step):
    """Neither scales up to 1 nor the mask's term; scales above 1 still act."""
    latents, _ = predictions(frames, parts, step)
    limit, size = 0.2, lambda part: part.square().mean((1, 2, 3)).sqrt() * step.sigma / step.alpha

    def made(scales, **settings):
        method = StyleAVideo(s_image=scales[0], s_text=scales[1], s_mask=s_mask, text_branch=text_branch, **settings)
        return combined(method, frames, parts, latents, step)

    plain = made([min(scale, 1.0) for scale in scales])
    move, kept = made(scales) - plain, made(scales, guidance_limit=limit) - plain
    assert torch.allclose(size(kept), limit * torch.log1p(size(move) / limit), rtol=1e-3, atol=1e-5)
    assert torch.allclose(kept * size(move).view(-1, 1, 1, 1), move * size(kept).view(-1, 1, 1, 1), atol=1e-5)


@pytest.mark.parametrize("s_mask", [0.0, 0.5])
def test_outside_of_the_interval_the_network_is_asked_once(s_mask, frames, parts, step):
    """As with guidance=single: frame and words together."""
    latents, branches = predictions(frames, parts, step)
    level = (step.timestep + 1) / parts.schedule.train_steps
    for interval in ({"guidance_low": level + 0.01}, {"guidance_high": level - 0.01}):
        result = combined(StyleAVideo(s_mask=s_mask, **interval), frames, parts, latents, step)
        assert torch.allclose(result, branches[3], atol=1e-5)
    within = StyleAVideo(s_mask=s_mask, guidance_low=level - 0.01, guidance_high=level + 0.01)
    everywhere = combined(StyleAVideo(s_mask=s_mask), frames, parts, latents, step)
    assert torch.equal(combined(within, frames, parts, latents, step), everywhere)


# The mask.


def with_mask(monkeypatch, value):
    monkeypatch.setattr(
        "kinopaint.attention.mask.above_mean",
        lambda received: torch.full_like(received, value, dtype=torch.bool),
    )


@pytest.mark.parametrize("branch", ["null_image", "joint"])
def test_a_full_mask_adds_to_the_image_scale(branch, frames, parts, step, monkeypatch):
    with_mask(monkeypatch, True)
    latents, _ = predictions(frames, parts, step)
    masked = StyleAVideo(s_image=1.2, s_text=4.0, s_mask=0.6, text_branch=branch)
    plain = StyleAVideo(s_image=1.8, s_text=4.0, text_branch=branch)
    assert torch.allclose(
        combined(masked, frames, parts, latents, step), combined(plain, frames, parts, latents, step), atol=1e-5
    )


def test_an_empty_mask_does_nothing(frames, parts, step, monkeypatch):
    with_mask(monkeypatch, False)
    latents, _ = predictions(frames, parts, step)
    results = [combined(StyleAVideo(s_mask=s_mask), frames, parts, latents, step) for s_mask in (0.0, 0.5, 2.0)]
    assert torch.allclose(results[0], results[1], atol=1e-5)
    assert torch.allclose(results[0], results[2], atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({}, [3]),
        ({"text_branch": "joint"}, [3]),
        ({"s_mask": 0.5}, [3, 1]),
        ({"s_mask": 0.5, "text_branch": "joint"}, [3, 1]),
        ({"s_image": 0.5, "s_text": 0.5}, [2]),
        ({"s_image": 3.0, "s_text": 3.0, "text_branch": "joint"}, [2]),
        ({"s_image": 0.0, "s_mask": 0.5}, [3, 1]),
        ({"s_text": 0.0}, [2]),
        ({"s_image": 0.0, "s_text": 1.0}, [1]),
    ],
)
def test_evaluations_per_step(settings, calls, frames, parts, step):
    """The table of sample evaluations; a branch whose coefficient is 0 is not evaluated, but the mask's is needed."""
    made = []
    handle = parts.backbone.unet.register_forward_pre_hook(lambda module, args: made.append(len(args[0])))
    combined(StyleAVideo(**settings), frames[:1], parts, torch.randn(1, 4, 4, 6), step)
    handle.remove()
    assert made == calls


def test_the_mask_follows_the_attention_and_the_layer(frames, parts, step):
    latents, _ = predictions(frames, parts, step)
    results = [
        combined(StyleAVideo(s_mask=0.9, mask_layer=layer), frames, parts, latents, step)
        for layer in ("up_blocks.1", "up_blocks.3")
    ]
    assert not torch.allclose(*results, atol=1e-4)
    with pytest.raises(SettingsError, match=r"no self-attention at 'up_blocks\.0'"):
        combined(StyleAVideo(s_mask=0.9, mask_layer="up_blocks.0"), frames, parts, latents, step)


def test_masks_have_the_size_of_odd_latents(parts):
    frames = torch.rand(1, 3, 5 * 8, 9 * 8) * 2 - 1
    assert (
        run(StyleAVideo(s_mask=0.5, num_inference_steps=1, mask_layer="up_blocks.2"), frames, parts).shape
        == frames.shape
    )
    assert resized(above_mean(torch.rand(2, 5, 9)), (33, 65)).shape == (2, 1, 33, 65)


# Noise, windows, strength.


@pytest.mark.parametrize("settings", [{}, {"init": "noise"}, {"text_branch": "joint"}, {"s_mask": 0.5}], ids=str)
def test_equal_frames_give_equal_results_batched_or_not(settings, frames, parts):
    method = StyleAVideo(num_inference_steps=STEPS, temporal="identity", **settings)
    twice = run(method, frames[:1].expand(2, -1, -1, -1), parts)
    alone = run(replace(method, windows=WindowPlan(1)), frames[:1], parts)
    assert torch.allclose(twice[0], twice[1], atol=1e-6)
    assert (twice[:1] - alone).abs().max() <= 1e-5 * alone.abs().max()


@pytest.mark.parametrize(
    "settings", [{}, {"noise": "per_frame"}, {"s_mask": 0.5, "mask_layer": "up_blocks.2"}], ids=str
)
def test_two_windows_of_two_equal_one_of_four(settings, parts):
    frames = torch.rand(4, 3, 32, 48, generator=torch.Generator().manual_seed(5)) * 2 - 1
    method = StyleAVideo(num_inference_steps=STEPS, **settings)
    whole = latents_of(replace(method, windows=WindowPlan(4)), frames, parts)
    for plan in (WindowPlan(2), WindowPlan(1), WindowPlan(3, 1), WindowPlan(3, 1, (0,))):
        cut = latents_of(replace(method, windows=plan), frames, parts)
        assert (cut - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_the_seed_decides(frames, parts):
    method = StyleAVideo(num_inference_steps=STEPS)
    results = [run(method, frames, replace(parts, seed=seed)) for seed in (4, 4, 5)]
    assert torch.equal(results[0], results[1])
    assert not torch.allclose(results[0], results[2], atol=1e-3)


def test_no_strength_returns_the_reconstruction(frames, parts):
    coder = parts.autoencoder
    reconstruction = coder.decode(coder.scaled(coder.encode(frames)))
    for strength in (0.0, 0.02):
        assert torch.equal(run(StyleAVideo(strength=strength, temporal="identity"), frames, parts), reconstruction)


# Settings.


@pytest.mark.parametrize(
    ("settings", "code", "text"),
    [
        ({"num_inference_steps": 0}, "KP-SETTING-RANGE", "num_inference_steps: 0 is out of range"),
        ({"s_text": float("nan")}, "KP-SETTING-RANGE", "s_text: nan is not a finite number"),
        ({"s_image": float("inf")}, "KP-SETTING-RANGE", "s_image: inf is not a finite number"),
        ({"strength": 1.5}, "KP-SETTING-RANGE", "give a number from 0 to 1"),
        ({"clip_layer": 3}, "KP-SETTING-RANGE", "give a number at most -1"),
        ({"text_branch": "jiont"}, "KP-SETTING-CHOICE", "did you mean joint"),
        ({"init": "noise", "strength": 0.5}, "KP-SETTING-CONFLICT", "strength below 1"),
        ({"temporal": "raft"}, "KP-SETTING-CHOICE", "known: flow_blend, identity, net"),
        ({"temporal_strength": 1.0}, "KP-SETTING-RANGE", "give a number from 0 to 0.99"),
        ({"clip_every": 1.5}, "KP-SETTING-RANGE", "give a whole number, or a number below 1"),
        ({"s_mask": 0.5, "mask_lagged": True, "pilot": "full"}, "KP-SETTING-CONFLICT", "a lagged mask comes from"),
    ],
)
def test_impossible_settings_are_refused(settings, code, text):
    with pytest.raises(SettingsError, match=text) as caught:
        StyleAVideo(**settings)
    assert caught.value.code == code


def test_settings_that_do_nothing_beside_the_others_are_known():
    off = StyleAVideo().idle
    assert {"clip_every", "clip_decoder", "mask_mode", "pilot"} <= off.keys()
    assert not {"clip_strength", "s_mask", "s_text", "temporal_strength", "negative_prompt"} & off.keys()
    assert not StyleAVideo(s_mask=0.5, clip_strength=0.1).idle
    assert "pilot" not in StyleAVideo(clip_strength=0.1).idle
    alone = StyleAVideo(s_mask=0.5, guidance="single", temporal="identity").idle
    assert alone["s_text"] == alone["negative_prompt"] == "with guidance=single"
    assert alone["temporal_strength"] == "with temporal=identity"
    assert "mask_mode" in alone


def test_a_lagged_mask_excludes_no_pilot_where_there_is_no_mask():
    """The default profile sets it, whether there is a mask or not."""
    method = StyleAVideo(mask_lagged=True, pilot="full", clip_strength=0.1)
    assert (method.s_mask, method.text_branch) == (0, "null_image")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "90 pictures through the network per frame (3 branches, 30 steps)"),
        ({"guidance_low": 0.3}, "74 pictures through"),  # three on 22 levels from 0.3 up, one on eight below
        ({"guidance_low": 0.3, "guidance_high": 0.8, "strength": 0.5}, "29 pictures through"),
        ({"s_mask": 0.5, "guidance": "single"}, "30 pictures through the network per frame (1 branch, 30 steps)"),
        ({"clip_strength": 0.1, "clip_every": 0.5}, "30 steps, and 2 gradients of the CLIP step)"),
        ({"clip_strength": 0.1, "clip_every": 4, "strength": 0.5}, "15 steps, and 4 gradients of the CLIP step)"),
    ],
)
def test_the_cost_counts_branches_and_gradients(settings, told):
    assert told in StyleAVideo(**settings).cost


def test_a_network_without_image_channels_is_refused(parts, frames):
    from kinopaint.models.diffusers_unet import DiffusersBackbone

    plain = replace(parts, backbone=DiffusersBackbone(parts.backbone.unet, "epsilon", image_channels=0))
    with pytest.raises(ModelError, match="KP-MODEL-NO-IMAGE"):
        run(StyleAVideo(), frames, plain)
