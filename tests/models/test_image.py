"""The image tower: stock transformers' numbers, gradients, and how a folder's tower is found."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from kinopaint.engine.components import ImageEncoder
from kinopaint.errors import ModelError
from kinopaint.models import load_model
from kinopaint.models.image import CLIP_MEAN, CLIP_STD, ClipImages


def save_tower(folder):
    torch.manual_seed(4)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=12,
    )  # fmt: skip
    model = CLIPVisionModelWithProjection(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture
def with_tower(broken):
    save_tower(broken / "image_encoder")
    return broken


def test_a_folders_tower_is_loaded_and_gives_what_transformers_gives(with_tower, frames):
    model = save_tower(with_tower / "image_encoder")
    encoder = load_model(with_tower, device="cpu", dtype="float32").image_encoder
    assert isinstance(encoder, ImageEncoder)
    square = torch.rand(2, 3, 32, 32)
    pixels = (square - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)
    with torch.no_grad():
        expected = model(pixel_values=pixels, output_hidden_states=True)
        assert torch.allclose(encoder.tokens(2 * square - 1), expected.last_hidden_state, atol=1e-5)
        assert torch.allclose(encoder.tokens(2 * square - 1, -2), expected.hidden_states[-2], atol=1e-5)
        unit = torch.nn.functional.normalize(expected.image_embeds, dim=-1)
        assert torch.allclose(encoder.embed(2 * square - 1), unit, atol=1e-5)
        assert encoder.tokens(frames).shape == (3, 17, 16)
        assert encoder.embed(frames).shape == (3, encoder.dim) == (3, 12)


def test_resizing_is_transformers_bicubic():
    picture = torch.randint(0, 256, (1, 3, 48, 80), dtype=torch.uint8)
    processor = CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    theirs = torch.tensor(processor(picture[0], return_tensors="np")["pixel_values"])
    tower = ClipImages(CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=32, patch_size=16,
        projection_dim=8,
    )))  # fmt: skip
    ours = tower._pixels(picture / 127.5 - 1)
    assert (ours - theirs).abs().max() < 0.06  # theirs rounds to 8 bits in between
    assert (ours - theirs).abs().mean() < 0.01


def test_gradients_reach_the_frames(with_tower, frames):
    encoder = load_model(with_tower, device="cpu", dtype="float32").image_encoder
    moving = frames.clone().requires_grad_()
    encoder.tokens(moving)[1].sum().backward()
    assert moving.grad[1].abs().max() > 0
    assert moving.grad[0].abs().max() == 0


def test_mean_and_deviation_come_from_the_folder_if_it_names_them(with_tower, frames):
    plain = load_model(with_tower, device="cpu", dtype="float32").image_encoder.embed(frames)
    (with_tower / "feature_extractor").mkdir()
    about = with_tower / "feature_extractor" / "preprocessor_config.json"
    about.write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}))
    encoder = load_model(with_tower, device="cpu", dtype="float32").image_encoder
    assert encoder.mean.flatten().tolist() == [0.5] * 3
    assert not torch.allclose(encoder.embed(frames), plain, atol=1e-4)


def test_another_kind_of_tower_is_refused(with_tower):
    file = with_tower / "image_encoder" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "architectures": ["SiglipVisionModel"]}))
    with pytest.raises(ModelError, match="image_encoder is a SiglipVisionModel") as caught:
        load_model(with_tower)
    assert caught.value.code == "KP-MODEL-ARCHITECTURE"


def test_a_small_autoencoder_is_found_and_has_to_fit(broken, model_folders):
    import shutil

    shutil.copytree(model_folders["tiny"] / "vae", broken / "vae_small")
    parts = load_model(broken, device="cpu", dtype="float32")
    assert parts.small_autoencoder.is_tiny
    assert replace(parts, small_autoencoder=None).autoencoder.is_tiny is False

    from diffusers import AutoencoderTiny

    AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=4,
    ).save_pretrained(broken / "vae_small")  # fmt: skip
    with pytest.raises(ModelError, match="vae_small has 4 channels at factor 2") as caught:
        load_model(broken)
    assert caught.value.code == "KP-MODEL-MISFIT"
