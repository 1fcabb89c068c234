"""Style-A-Video on checkpoints of other kinds equals diffusers' pipelines, in fp32, to 1e-4 of the largest value."""

import json
from dataclasses import replace

import pytest
import torch
from tests.checkpoints import with_channels, write_controlnet, write_depth_estimator, write_xl
from tests.methods.test_style_a_video import latents_of

from kinopaint.engine.denoiser import Condition
from kinopaint.errors import ModelError
from kinopaint.methods.style_a_video import StyleAVideo
from kinopaint.models import load_model
from kinopaint.models.hints import canny, picture
from kinopaint.types import Prompt

PROMPT = Prompt("oil", negative="a")
PLAIN = {"s_image": 0.0, "s_text": 5.0, "spacing": "checkpoint"}


@pytest.fixture(scope="module")
def plain_folders(model_folders, tmp_path_factory):
    """Text-to-image models: noise prediction and v-prediction."""
    root = tmp_path_factory.mktemp("plain")
    return {name: with_channels(model_folders[name], root / name, 4) for name in ("epsilon", "v_prediction")}


@pytest.fixture(scope="module")
def controlnets(plain_folders, tmp_path_factory):
    root = tmp_path_factory.mktemp("controlnets")
    return [
        write_controlnet(plain_folders["epsilon"], root / name, seed) for seed, name in enumerate(("canny", "tile"))
    ]


@pytest.fixture
def frame(frames):
    return frames[:1]


def load(folder, **more):
    return replace(load_model(folder, device="cpu", dtype="float32", **more), seed=11)


def stock(kind, folder, **more):
    pipeline = kind.from_pretrained(folder, safety_checker=None, requires_safety_checker=False, **more)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def called(pipeline, **more):
    """The latents that a pipeline makes of the same prompt and seed."""
    generator = torch.Generator().manual_seed(11)
    told = {"prompt": PROMPT.text, "negative_prompt": PROMPT.negative, "guidance_scale": 5.0}
    return pipeline(**{**told, **more}, generator=generator, output_type="latent").images


def same(ours, expected):
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()


def clean(parts, frame):
    return parts.autoencoder.scaled(parts.autoencoder.encode(frame))


@pytest.mark.parametrize("name", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("strength", "steps"), [(0.6, 5), (1.0, 3)])
def test_img2img(name, strength, steps, plain_folders, frame):
    from diffusers import StableDiffusionImg2ImgPipeline

    parts = load(plain_folders[name])
    method = StyleAVideo(**PLAIN, strength=strength, num_inference_steps=steps)
    ours = latents_of(method, frame, parts, PROMPT)
    pipeline = stock(StableDiffusionImg2ImgPipeline, plain_folders[name])
    same(ours, called(pipeline, image=clean(parts, frame), strength=strength, num_inference_steps=steps))


def test_one_controlnet(plain_folders, controlnets, frame):
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    parts = load(plain_folders["epsilon"], controlnet=controlnets[0])
    method = StyleAVideo(**PLAIN, init="noise", num_inference_steps=3)
    ours = latents_of(method, frame, parts, PROMPT)
    network = ControlNetModel.from_pretrained(controlnets[0])
    pipeline = stock(StableDiffusionControlNetPipeline, plain_folders["epsilon"], controlnet=network)
    same(ours, called(pipeline, image=canny(frame), num_inference_steps=3))
    without = latents_of(replace(method, init="noised_input"), frame, load(plain_folders["epsilon"]), PROMPT)
    assert not torch.allclose(ours, without, atol=1e-3)


def test_several_controlnets_with_weights_and_parts_of_the_steps_on_a_noised_frame(plain_folders, controlnets, frame):
    from diffusers import ControlNetModel, StableDiffusionControlNetImg2ImgPipeline

    given = [f"{controlnets[0]}:0.5:0-0.8", f"picture={controlnets[1]}:1.5:0.3-1"]
    parts = load(plain_folders["epsilon"], controlnet=given)
    method = StyleAVideo(**PLAIN, strength=0.8, num_inference_steps=5)
    ours = latents_of(method, frame, parts, PROMPT)
    networks = [ControlNetModel.from_pretrained(folder) for folder in controlnets]
    pipeline = stock(StableDiffusionControlNetImg2ImgPipeline, plain_folders["epsilon"], controlnet=networks)
    expected = called(
        pipeline,
        image=clean(parts, frame),
        control_image=[canny(frame), picture(frame)],
        controlnet_conditioning_scale=[0.5, 1.5],
        control_guidance_start=[0.0, 0.3],
        control_guidance_end=[0.8, 1.0],
        strength=0.8,
        num_inference_steps=5,
    )
    same(ours, expected)


@pytest.mark.filterwarnings("ignore:In CPU autocast")  # of the stock pipeline, in fp32
def test_depth_to_image(plain_folders, tmp_path, frame, monkeypatch):
    from diffusers import StableDiffusionDepth2ImgPipeline
    from PIL import Image
    from transformers import DPTForDepthEstimation

    from kinopaint.models.pixels import picture_processor, to_pictures

    folder = with_channels(plain_folders["epsilon"], tmp_path / "depth", 5)
    write_depth_estimator(folder)
    parts = load(folder)
    assert (parts.kind, parts.backbone.image_channels) == ("depth", 0)
    ours = latents_of(StyleAVideo(**PLAIN, strength=0.8, num_inference_steps=5), frame, parts, PROMPT)
    processor = picture_processor("DPTImageProcessor").from_pretrained(folder / "feature_extractor")
    estimator = DPTForDepthEstimation.from_pretrained(folder / "depth_estimator")
    plain = stock_parts(folder)
    pipeline = StableDiffusionDepth2ImgPipeline(**plain, depth_estimator=estimator, feature_extractor=processor)
    pipeline.set_progress_bar_config(disable=True)
    depth = pipeline.prepare_depth_map(
        [Image.fromarray(to_pictures(frame)[0])], None, 1, False, torch.float32, torch.device("cpu")
    )
    seen = parts.structure.channels(frame, parts.autoencoder)
    assert torch.allclose(seen, depth, atol=1e-5)
    monkeypatch.setattr(pipeline, "prepare_depth_map", lambda *args, **more: torch.cat([depth, depth]))
    same(ours, called(pipeline, image=clean(parts, frame), strength=0.8, num_inference_steps=5))


def stock_parts(folder):
    from diffusers import StableDiffusionImg2ImgPipeline

    components = stock(StableDiffusionImg2ImgPipeline, folder, feature_extractor=None).components
    return {name: components[name] for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}


@pytest.mark.parametrize("negative", ["a", ""])
def test_sdxl_img2img(negative, tmp_path, frame):
    from diffusers import DDIMScheduler, StableDiffusionXLImg2ImgPipeline

    folder = write_xl(tmp_path / "xl")
    parts = load(folder)
    method = StyleAVideo(**PLAIN, strength=0.8, num_inference_steps=5)
    ours = latents_of(method, frame, parts, Prompt("oil", negative=negative))
    pipeline = StableDiffusionXLImg2ImgPipeline.from_pretrained(folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, set_alpha_to_one=True, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    more = {"negative_prompt": negative or None, "strength": 0.8, "num_inference_steps": 5}
    expected = called(pipeline, image=clean(parts, frame), **more)
    same(ours, expected)


def test_inpainting_network_paints_the_whole_frame(model_folders, tmp_path, frame):
    """Its extra channels are a mask of ones and the latents of a frame of which nothing is left."""
    folder = with_channels(model_folders["epsilon"], tmp_path / "inpaint", 9)
    parts = load(folder)
    seen = parts.structure.channels(frame, parts.autoencoder)
    assert seen.shape == (1, 5, 4, 6)
    assert (seen[:, 0] == 1).all()
    assert torch.equal(seen[:, 1:], clean(parts, torch.zeros_like(frame)))
    ours = latents_of(StyleAVideo(**PLAIN, strength=0.5, num_inference_steps=4), frame, parts, PROMPT)
    step = parts.schedule.steps(4, 0.5)[0]
    text = parts.text_encoder.encode(["oil"])[0].states
    with torch.no_grad():
        noise = parts.backbone.unet(torch.cat([ours, seen], 1), int(step.timestep), text[None]).sample
    conditions = [Condition("style", parts.text_encoder.encode(["oil"])[0], structure=seen)]
    same(parts.backbone.predict(ours, step, conditions)[0], noise)


def test_another_autoencoder_speaks_the_scale_of_the_own_one(model_folders, frame):
    """A tiny autoencoder gives latents at the scale of denoising; c_I wants them as the own one's raw latents."""
    parts = load(model_folders["epsilon"], vae=model_folders["tiny"] / "vae")
    coder = parts.autoencoder
    tiny = coder.network.encode(frame).latents
    own = load(model_folders["epsilon"]).autoencoder
    assert coder.scale == own.scale
    assert torch.allclose(coder.scaled(coder.encode(frame)), tiny * coder.network.config.scaling_factor, atol=1e-5)
    stock_picture = coder.network.decode(tiny).sample
    assert torch.allclose(coder.decode(coder.scaled(coder.encode(frame))), stock_picture, atol=1e-4)
    assert parts.added[0]["kind"] == "vae"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"s_image": 1.5}, "s_image"),
        ({"s_mask": 0.5}, "s_mask"),
        ({"text_branch": "joint"}, "text_branch"),
        ({"init": "noise"}, "init"),
    ],
)
def test_settings_that_need_a_slot_for_the_frame_are_refused(settings, name, plain_folders, frame):
    parts = load(plain_folders["epsilon"])
    with pytest.raises(ModelError, match=f"{name}=") as caught:
        latents_of(StyleAVideo(**{**PLAIN, **settings}, num_inference_steps=1), frame, parts, PROMPT)
    assert caught.value.code == "KP-MODEL-NO-IMAGE"


def test_self_attention_guidance_needs_no_slot(plain_folders, frame):
    method = StyleAVideo(**PLAIN, s_mask=0.5, mask_mode="sag", strength=0.5, num_inference_steps=2)
    parts = load(plain_folders["epsilon"])
    assert torch.isfinite(latents_of(method, frame.repeat(1, 1, 2, 2), parts, PROMPT)).all()


def test_a_controlnet_for_another_base_is_refused(plain_folders, tmp_path):
    other = write_controlnet(plain_folders["epsilon"], tmp_path / "canny", seed=0)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"_class_name": "SparseControlNetModel"}))
    with pytest.raises(ModelError, match="KP-MODEL-ARCHITECTURE"):
        load(plain_folders["epsilon"], controlnet=other)
    xl = write_xl(tmp_path / "xl")
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="KP-CONTROLNET-BASE"):
        load(xl, controlnet=other)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"conditioning_channels": 6}, "pictures of 6 channels; it would get 3"),
        ({"controlnet_conditioning_channel_order": "gbr"}, "channels in the order 'gbr'; it would get rgb"),
        ({"conditioning_embedding_out_channels": [4, 4, 8]}, "4 times as wide as the latents; it would get 8"),
    ],
)
def test_a_controlnet_that_follows_no_pictures_of_ours_is_refused(changes, text, plain_folders, tmp_path):
    from diffusers import ControlNetModel

    other = write_controlnet(plain_folders["epsilon"], tmp_path / "canny", seed=0)
    ControlNetModel.from_config({**ControlNetModel.load_config(other), **changes}).save_pretrained(other)
    with pytest.raises(ModelError, match=text) as caught:
        load(plain_folders["epsilon"], controlnet=other)
    assert caught.value.code == "KP-CONTROLNET-BASE"
