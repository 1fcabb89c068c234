"""The decoder that goes on learning: it starts as the same function, and is asked to be as busy as its target."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from diffusers.models import AutoencoderTiny
from training.train_autoencoder import CHANNELS
from training.train_decoder import CELL, CROP, Kept, Scenes, Shards, busyness, grown, similarity

SMALL = {
    "latent_channels": CHANNELS,
    "encoder_block_out_channels": (8,) * 4,
    "decoder_block_out_channels": (8,) * 4,
    "num_encoder_blocks": (0, 1, 1, 1),
}


def autoencoder(*blocks):
    torch.manual_seed(0)
    return AutoencoderTiny(**SMALL, num_decoder_blocks=blocks).eval()


@torch.no_grad()
def test_a_grown_decoder_is_the_same_function():
    small = autoencoder(2, 1, 1, 0)
    large = grown(small, [3, 1, 2, 0]).eval()
    latents = torch.randn(1, CHANNELS, 4, 6)
    torch.testing.assert_close(large.decoder(latents), small.decoder(latents), rtol=0, atol=0)
    torch.testing.assert_close(large.encoder(torch.ones(1, 3, 16, 16)), small.encoder(torch.ones(1, 3, 16, 16)))
    assert sum(p.numel() for p in large.decoder.parameters()) > sum(p.numel() for p in small.decoder.parameters())


def test_a_decoder_does_not_shrink():
    with pytest.raises(ValueError, match="fewer blocks"):
        grown(autoencoder(2, 1, 1, 0), [1, 1, 1, 0])


def test_smooth_pictures_are_less_busy_and_less_alike():
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    smooth = torch.nn.functional.avg_pool2d(picture, 5, 1, 2)
    assert busyness(picture).shape == (1, 1, 6, 6)
    assert (busyness(smooth) < 0.5 * busyness(picture)).all()
    assert similarity(picture, picture).item() == pytest.approx(1)
    assert similarity(picture, smooth).item() < 0.6


def test_pixels_lie_where_the_latents_do(tmp_path):
    (tmp_path / "photo").mkdir()
    cells = np.arange(20 * 24, dtype=np.uint8).reshape(20, 24)  # each cell of one grey
    pixels = np.repeat(np.kron(cells, np.ones((CELL, CELL), np.uint8))[..., None], 3, 2)
    cv2.imwrite(str(tmp_path / "photo" / "a.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])
    latents = torch.from_numpy(cells).float().expand(CHANNELS, -1, -1)
    store = {"photo": {"a": latents}}
    crops, places = Kept(store, np.random.default_rng(0)).batch(5)
    shown = Shards(tmp_path, {}).pixels(places)
    assert shown.shape == (5, 3, CELL * CROP, CELL * CROP)
    grey = (torch.nn.functional.avg_pool2d(shown[:, 0], CELL) + 1) * 127.5
    torch.testing.assert_close(grey, crops[:, 0], atol=2, rtol=0)


def test_scenes_are_crops_of_the_photograph_with_the_place_of_its_rendering(tmp_path):
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(48.0), indexing="ij")
    photo, rendering = (y * 48 + x).expand(CHANNELS, -1, -1), torch.zeros(CHANNELS, 40, 48)
    style = ("oil painting", None)
    words = SimpleNamespace(states={(style, ""): torch.ones(1, 2, 3)}, empty=torch.zeros(2, 3))
    scenes = Scenes({"a": photo}, {style: [(photo, rendering)]}, words, seed=0)
    sources, texts, places = scenes.scenes(4, Shards.of(tmp_path, {"oil-painting": {"a": rendering}}))
    assert sources.shape == (4, CHANNELS, CROP, CROP)
    assert (texts == 1).all()
    for source, (name, top, left) in zip(sources, places, strict=True):
        assert name == "oil-painting/a"
        assert torch.equal(source, photo[:, top : top + CROP, left : left + CROP])
