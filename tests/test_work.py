"""The work of a frame, calls × operations, is that of the table (layer by layer, Stable Diffusion 1.5)."""

from dataclasses import replace

import pytest
import torch
from benchmarks import work

from kinopaint.engine.run import stylize_windows
from kinopaint.methods import StyleAVideo
from kinopaint.models.image import ClipImages
from kinopaint.profiles import PROFILES
from kinopaint.types import Clip, Prompt

TERA = 1e12


@pytest.fixture(scope="module")
def unet():
    return work.unet_work(work.build("UNet2DConditionModel", **work.SD15_UNET), 32, 64)


@pytest.fixture(scope="module")
def vae():
    return work.autoencoder_work(work.build("AutoencoderKL", **work.SD15_VAE), 256, 512)


def test_work_of_the_networks(unet, vae):
    """0.373 TFLOP for a latent of 64x32 with 4 input channels; 8 add a thousandth."""
    assert unet / TERA == pytest.approx(0.373, abs=0.002)
    assert vae[0] / TERA == pytest.approx(0.550, abs=0.003)
    assert vae[1] / TERA == pytest.approx(1.249, abs=0.006)


@pytest.mark.parametrize(
    ("coder", "tower", "tera"),
    [
        (("AutoencoderTiny", {}), work.CLIP_B32, 0.16),
        (("AutoencoderTiny", {}), work.CLIP_L14, 0.47),
        (("AutoencoderKL", work.SD15_VAE), work.CLIP_B32, 2.52),
    ],
)
def test_work_of_the_gradient(coder, tower, tera):
    """There and back through decoder and tower, per step and frame: the spec's table 2.3."""
    found = work.gradient_work(work.build(coder[0], **coder[1]), work.clip(**tower), 256, 512)
    assert found / TERA == pytest.approx(tera, rel=0.05)


def evaluations(parts, profile=None, **settings):
    """Pictures through the network for one frame."""
    counted = []
    unet = parts.backbone.unet
    handle = unet.register_forward_pre_hook(lambda _, args: counted.append(len(args[0])))
    if profile:
        parts = PROFILES[profile].applied(replace(parts))
    frames = [torch.rand(3, 32, 48)]
    with torch.no_grad():
        list(stylize_windows(StyleAVideo(**settings), frames, Clip(32, 48, 1), Prompt("oil"), parts))
    handle.remove()
    return sum(counted)


@pytest.mark.parametrize(
    ("settings", "calls", "tera"),
    [
        ({"s_mask": 0.5, "mask_lagged": True}, 4 * 30 + 1, 46.5),  # four branches; the first mask is looked for apart
        ({"s_mask": 0.5, "pilot": "full"}, 5 * 30, 57.7),  # five evaluations
        ({"s_mask": 0.5, "mask_lagged": True, "num_inference_steps": 4}, 4 * 4 + 1, 7.8),
    ],
)
def test_counted_calls_times_work_is_the_table(settings, calls, tera, parts, unet, vae):
    found = evaluations(parts, **settings)
    assert found == calls
    total = (found * unet + sum(vae)) / TERA
    extra = found % 4 if settings.get("mask_lagged") else 0
    assert total - extra * unet / TERA == pytest.approx(tera, rel=0.01)


def test_the_clip_step_adds_an_evaluation_and_a_gradient_to_each_step(parts, unet, vae, monkeypatch):
    """Five evaluations as in the row above and 30 gradients; with `clip_every` 2 half of both."""
    from kinopaint.methods import style_a_video

    gradients, make = [], style_a_video.gradient_of

    def counting(loss, pilot, **more):
        return make(lambda clean, which: (gradients.append(len(clean)), loss(clean, which))[1], pilot, **more)

    monkeypatch.setattr(style_a_video, "gradient_of", counting)
    tower = ClipImages(work_tower())
    seeing = replace(parts, image_encoder=tower, small_autoencoder=parts.autoencoder)
    base = {"s_mask": 0.5, "mask_lagged": True, "clip_strength": 0.02}
    assert evaluations(seeing, **base) == 5 * 30
    assert sum(gradients) == 30
    gradients.clear()
    assert evaluations(seeing, clip_every=2, **base) == 4 * 30 + 15
    assert sum(gradients) == 15
    one = work.gradient_work(work.build("AutoencoderTiny"), work.clip(**work.CLIP_B32), 256, 512)
    assert (4 * 30 * unet + 30 * one + sum(vae)) / TERA == pytest.approx(51.3, rel=0.01)
    assert (5 * 30 * unet + 30 * one + sum(vae)) / TERA == pytest.approx(57.7 + 4.8, rel=0.01)


def work_tower():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**config, image_size=28, patch_size=14, projection_dim=8))


def test_a_single_branch_is_one_evaluation_per_step(parts):
    assert evaluations(parts, guidance="single", num_inference_steps=4, s_mask=0.5) == 4
    live = PROFILES["live"].method_fields(dict.fromkeys(StyleAVideo.__dataclass_fields__), {})
    assert evaluations(parts, profile="live", **live) == 4


def test_steps_outside_of_the_guidance_interval_are_one_evaluation_each(parts):
    interval = {"guidance_low": 0.3, "guidance_high": 0.9, "num_inference_steps": 10}
    assert evaluations(parts, **interval) == 3 * 7 + 3
    assert StyleAVideo(**interval).cost.startswith("24 pictures")


def test_balanced_costs_less_than_a_third_of_thirty_full_steps(parts):
    deep, block = [], parts.backbone.unet.mid_block.resnets[0]
    handle = block.register_forward_pre_hook(lambda _, args: deep.append(len(args[0])))
    evaluations(parts, profile="balanced", **PROFILES["balanced"].fields)
    assert sum(deep) == 3 * 9  # of 15 steps, six are on reused features
    deep.clear()
    evaluations(parts, profile="balanced", s_mask=0.5, **PROFILES["balanced"].fields)
    handle.remove()
    assert sum(deep) == 4 * 9 + 1  # with a lagged mask, too; the first one is looked for apart
