"""The samplers of Style-A-Video: T5 with the ancestral Euler sampler, T21 for every sampler, and the presets."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from kinopaint.job import Job
from kinopaint.methods.style_a_video import StyleAVideo
from kinopaint.models import load_model
from kinopaint.models.image import ClipImages
from kinopaint.models.refiner import RefinementNet
from kinopaint.types import Clip, Prompt, Window

PROMPT = Prompt("oil", negative="a")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own arrays
ANCESTRAL = ("ddpm", "euler_a")


def painted(method, frames, parts, first=0):
    shared = method.prepare(Clip(frames.shape[-2], frames.shape[-1], len(frames)), PROMPT, parts)
    window = Window(0, frames, tuple(range(first, first + len(frames))), slice(0, len(frames)))
    return method.painted(window, shared, parts)


@pytest.mark.parametrize("sampler", ["ddim", *ANCESTRAL])
@pytest.mark.parametrize("settings", [{}, {"init": "noise"}], ids=str)
def test_equal_frames_give_equal_results_with_every_sampler(sampler, settings, frames, parts):
    method = StyleAVideo(num_inference_steps=3, sampler=sampler, s_mask=0.5, **settings)
    twice, alone = painted(method, frames[:1].expand(2, -1, -1, -1), parts), painted(method, frames[:1], parts)
    assert torch.allclose(twice[0], twice[1], atol=1e-6)
    assert (twice[:1] - alone).abs().max() <= 1e-5 * alone.abs().max()


@pytest.mark.parametrize("sampler", ANCESTRAL)
def test_noise_of_the_steps_follows_seed_and_policy(sampler, frames, parts):
    method = StyleAVideo(num_inference_steps=3, sampler=sampler, noise="per_frame")
    still = frames[:1].expand(2, -1, -1, -1)
    own = painted(method, still, parts)
    assert not torch.allclose(own[0], own[1], atol=1e-3)
    assert torch.allclose(painted(method, still[:1], parts, first=1)[0], own[1], atol=1e-5)
    seeds = [painted(replace(method, noise="shared"), frames[:1], replace(parts, seed=seed)) for seed in (3, 3, 4)]
    assert torch.equal(seeds[0], seeds[1])
    assert not torch.allclose(seeds[0], seeds[2], atol=1e-3)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("name", ["epsilon", "v_prediction"])
def test_joint_with_ancestral_euler_equals_stock_instruct_pix2pix(name, spacing, model_folders, frames, tmp_path):
    equals_stock_instruct_pix2pix("EulerAncestralDiscreteScheduler", spacing, model_folders[name], frames, tmp_path)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("scheduler", ["EulerDiscreteScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler"])
def test_the_checkpoints_own_sampler_is_that_of_diffusers(scheduler, spacing, model_folders, frames, tmp_path):
    equals_stock_instruct_pix2pix(scheduler, spacing, model_folders["epsilon"], frames, tmp_path)


def equals_stock_instruct_pix2pix(scheduler_name, spacing, model_folder, frames, tmp_path):
    import diffusers

    folder = shutil.copytree(model_folder, tmp_path / "model")
    about = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    kept = {key: about[key] for key in ("beta_start", "beta_end", "beta_schedule", "prediction_type", "steps_offset")}
    kept |= {"clip_sample": False} if scheduler_name == "DDPMScheduler" else {}
    scheduler = getattr(diffusers, scheduler_name)(**kept, timestep_spacing=spacing)
    scheduler.save_pretrained(folder / "scheduler")
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(
        model_folder, safety_checker=None, requires_safety_checker=False, scheduler=scheduler
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        PROMPT.text, image=(frames[:1] + 1) / 2, negative_prompt=PROMPT.negative, image_guidance_scale=1.5,
        guidance_scale=7.5, num_inference_steps=5, generator=torch.Generator().manual_seed(2), output_type="latent",
    ).images  # fmt: skip

    parts = replace(load_model(folder, device="cpu", dtype="float32"), seed=2)
    method = StyleAVideo(**{**StyleAVideo.presets["ip2p"], "num_inference_steps": 5})
    kept_latents = []
    decode = parts.autoencoder.decode
    parts.autoencoder.decode = lambda latents: kept_latents.append(latents) or decode(latents)
    painted(method, frames[:1], parts)
    assert (kept_latents[0] - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.fixture(scope="module")
def complete(parts):
    """The tiny model with an image tower and a temporal network."""
    torch.manual_seed(5)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=12,
    )  # fmt: skip
    net = RefinementNet(width=4, blocks=1).eval().requires_grad_(False)
    return replace(parts, image_encoder=ClipImages(CLIPVisionModelWithProjection(config)), refiner=net)


@pytest.mark.parametrize("name", list(StyleAVideo.presets))
def test_every_preset_runs_on_a_complete_model_and_says_all_that_it_means(name, complete):
    method = StyleAVideo(**{**StyleAVideo.presets[name], "num_inference_steps": 2})
    frames = torch.rand(2, 3, 32, 48) * 2 - 1
    shared = method.prepare(Clip(32, 48, 2), PROMPT, complete)
    result, carry = method.stylize(Window(0, frames, (0, 1), slice(0, 2)), shared, method.start(shared), complete)
    assert torch.isfinite(result).all()
    assert (carry is None) == (method.temporal == "identity")
    # what a model recommends, or a profile sets, must not change what a preset of the paper means
    open_fields = {"windows", "num_inference_steps", "colour_anchor", "temporal_strength"}
    stated = set(StyleAVideo.presets[name])
    if name != "ip2p":
        assert {field for field in StyleAVideo.__dataclass_fields__ if field != "presets"} - stated <= open_fields


@pytest.mark.parametrize(
    "recommended",
    [{"strength": 0.6}, {"guidance_rescale": 0.5}, {"noise": "per_frame"}, {"colour_anchor": True}],
    ids=str,
)
def test_whatever_a_model_recommends_ip2p_is_instruct_pix2pix(recommended):
    """Text-to-image networks, for one, recommend a strength."""
    job = Job.of("in.mp4", "oil", "out.mp4", preset="ip2p")
    assert job.method(recommended) == job.method({})


def test_the_literal_preset_is_the_printed_algorithm():
    paper, literal = StyleAVideo.presets["paper"], StyleAVideo.presets["paper-literal"]
    changed = {name: literal[name] for name in literal if literal[name] != paper[name]}
    assert changed == {"clip_shift": "eval_only", "clip_through_unet": True, "pilot": "null", "sampler": "ddpm"}
    assert literal["clip_normalize"] == "rms"
