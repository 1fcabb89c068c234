"""Tiles: what they give is what the whole gives, in bounded memory, without a trace of their borders."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kinopaint
from kinopaint import demo
from kinopaint.engine.load import PeakMemory
from kinopaint.models.tiles import in_tiles


@pytest.mark.parametrize("size", [(64, 64), (80, 200), (24, 144), (64, 65 * 8)])
def test_work_that_sees_little_gives_the_same(size):
    picture = torch.randn(2, 3, *size, dtype=torch.float64)

    def doubled(each):
        return F.interpolate(F.avg_pool2d(each, 3, 1, 1), scale_factor=2.0)

    def reduced(each):
        return F.avg_pool2d(each, 8)

    assert torch.allclose(in_tiles(doubled, picture, 64)[..., 2:-2, 2:-2], doubled(picture)[..., 2:-2, 2:-2])
    assert torch.allclose(in_tiles(reduced, picture, 64, every=8), reduced(picture))


def test_what_happens_at_the_borders_of_tiles_leaves_no_trace():
    picture, wrong = torch.rand(1, 1, 100, 150), []

    def spoilt(each):
        wrong.append(each.shape)
        return F.pad(each[..., 6:-6, 6:-6], (6, 6, 6, 6), value=1000.0)

    found = in_tiles(spoilt, picture, 32)
    assert set(wrong) == {(1, 1, 32, 32)}
    assert torch.allclose(found[..., 6:-6, 6:-6], picture[..., 6:-6, 6:-6], atol=1e-5)


def test_the_embedded_autoencoder_in_tiles_is_half_a_level_of_eight_bits_from_the_whole():
    coder = kinopaint.load_model("mini", dtype="float32").autoencoder
    pictures = np.stack(list(demo.render(frames=1, size=(328, 264))))
    frames = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    tiled = coder.sized(1, 256)
    with torch.no_grad():
        raw = coder.encode(frames)
        assert (tiled.encode(frames) - raw).abs().max() <= 1e-3 * raw.abs().max()
        whole = coder.decode(coder.scaled(raw))
        assert (tiled.decode(coder.scaled(raw)) - whole).abs().max() <= 1 / 255


@pytest.mark.parametrize("name", ["epsilon", "tiny"])
def test_large_frames_in_tiles_take_little_memory(name, loaded):
    coder = loaded[name].autoencoder
    latents = torch.randn(1, 4, 544 // 8, 960 // 8, generator=torch.Generator().manual_seed(0))
    peaks = []
    with torch.no_grad():
        for tile in (0, 256):
            with PeakMemory() as memory:
                found = coder.sized(1, tile).decode(latents)
            assert found.shape == (1, 3, 544, 960)
            peaks.append(memory.peak)
    pixels = 3 * 544 * 960 * 4
    assert peaks[1] < 3 * pixels + peaks[0] / 6
