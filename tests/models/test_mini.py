"""Facts about the model that ships: it fits, it restyles, and the U-Net does the work."""

import json

import numpy as np
import pytest
import torch

import kinopaint
from kinopaint.methods.style_a_video import StyleAVideo
from kinopaint.models import load_model, mini_path

pytestmark = pytest.mark.skipif(not (mini_path() / "unet").exists(), reason="this checkout carries no embedded weights")
PROMPT = "charcoal drawing"


@pytest.fixture(scope="module")
def mini():
    return load_model("mini", dtype="float32")


@pytest.fixture(scope="module")
def picture():
    """A red ball before blue sky and green ground: colours that a charcoal drawing must lose, edges that it keeps."""
    y, x = np.mgrid[:128, :128].astype(np.float32)
    image = np.where((y < 80)[..., None], [110, 160, 230], [70, 140, 60]).astype(np.float32)
    ball = (x - 64) ** 2 + (y - 64) ** 2 < 34**2
    image[ball] = np.array([215, 50, 40]) * (1.1 - ((x - 50) ** 2 + (y - 50) ** 2)[ball] / 6000)[:, None]
    return image.clip(0, 255).astype(np.uint8)


def restyled(picture, parts, prompt=PROMPT, **fields):
    settings = {**parts.recommended["style-a-video"], "num_inference_steps": 12, **fields}
    return next(iter(kinopaint.stylize_frames([picture], prompt, method=StyleAVideo(**settings), parts=parts)))


def edges(picture):
    grey = picture.astype(np.float32).mean(-1)
    return np.hypot(*np.gradient(grey))


def likeness(a, b):
    return float(np.corrcoef(edges(a).ravel(), edges(b).ravel())[0, 1])


def test_bundle_is_small_and_holds_no_pickle():
    files = [file for file in mini_path().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 95e6
    assert sum(file.stat().st_size for file in files if file.parent.name == "controlnet") <= 16e6
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".ckpt", ".pkl")]


def test_styles_list_names_36_media_and_12_moods():
    styles = json.loads((mini_path() / "styles.json").read_text())
    assert (len(styles["media"]), len(styles["moods"])) == (36, 12)
    assert sum(medium["trained"] for medium in styles["media"]) >= 12


def test_charcoal_takes_the_colour_and_keeps_the_shape(mini, picture):
    drawn = restyled(picture, mini)
    saturation = [np.ptp(p.astype(np.float32), axis=-1).mean() for p in (picture, drawn)]
    assert saturation[1] < 0.35 * saturation[0]
    assert likeness(picture, drawn) > 0.35


def test_media_differ_from_each_other(mini, picture):
    thermal = restyled(picture, mini, "thermal camera image").astype(np.float32)
    blueprint = restyled(picture, mini, "blueprint").astype(np.float32)
    assert np.abs(thermal - blueprint).mean() > 30
    assert blueprint[..., 2].mean() > blueprint[..., 0].mean() + 20  # blue paper


def test_random_unet_weights_destroy_the_picture(picture):
    """What restyles is the network: nothing in the package renders."""
    parts = load_model("mini", dtype="float32")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in parts.backbone.unet.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * weight.std().nan_to_num(0.02))
    assert abs(likeness(picture, restyled(picture, parts, init="noise"))) < 0.2


def test_latents_equal_stock_instruct_pix2pix(mini):
    from diffusers import StableDiffusionInstructPix2PixPipeline
    from PIL import Image

    with torch.random.fork_rng():
        stock = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            mini_path(), safety_checker=None, requires_safety_checker=False
        )
    stock.set_progress_bar_config(disable=True)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    theirs = stock(
        PROMPT,
        image=Image.fromarray(pixels),
        num_inference_steps=8,
        image_guidance_scale=1.5,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    ).images

    caught = []
    decode = mini.autoencoder.decode
    try:
        mini.autoencoder.decode = lambda latents: caught.append(latents) or decode(latents)
        method = StyleAVideo(s_image=1.5, s_text=3.0, text_branch="joint", init="noise", num_inference_steps=8)
        list(kinopaint.stylize_frames([pixels], PROMPT, method=method, parts=mini, seed=3))
    finally:
        mini.autoencoder.decode = decode
    ours = torch.cat(caught)
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.skipif(not (mini_path() / "controlnet").exists(), reason="these weights come without a ControlNet")
def test_contours_are_kept_without_the_frame_where_the_controlnet_follows_them(mini, picture):
    from benchmarks.controlnet import settings
    from benchmarks.edges import edge_f1

    fields = settings(mini.recommended["style-a-video"], steps=8)["words alone"]
    steered = load_model("mini", dtype="float32", controlnet="mini")
    alone, led = (restyled(picture, parts, **fields) for parts in (mini, steered))
    assert edge_f1(picture, led) > 1.2 * edge_f1(picture, alone)


@pytest.mark.skipif(not (mini_path() / "refiner").exists(), reason="these weights come without a temporal network")
@pytest.mark.parametrize("preset", ["paper", "paper-literal"])
def test_the_papers_presets_run_on_the_embedded_model(mini, picture, preset):
    method = StyleAVideo(**{**StyleAVideo.presets[preset], "num_inference_steps": 2})
    frames = [picture[:, 4 * i : 4 * i + 64] for i in range(2)]
    painted = list(kinopaint.stylize_frames(frames, PROMPT, method=method, parts=mini))
    assert [frame.shape for frame in painted] == [frame.shape for frame in frames]
    assert all(frame.std() > 5 for frame in painted)
