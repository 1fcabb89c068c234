import pytest
import torch

from kinopaint.errors import ShapeError


@pytest.mark.parametrize("name", ["epsilon", "tiny"])
def test_raw_latents_are_the_mode_and_decoding_takes_scaled_ones(name, loaded, frames):
    coder = loaded[name].autoencoder
    result = coder.network.encode(frames)
    raw = result.latents if name == "tiny" else result.latent_dist.mean
    assert torch.allclose(coder.encode(frames), raw, atol=1e-5)
    assert torch.allclose(coder.scaled(raw), raw * {"epsilon": 0.4, "tiny": 0.7}[name])
    assert torch.allclose(coder.decode(coder.scaled(raw)), coder.network.decode(raw).sample, atol=1e-4)


@pytest.mark.parametrize("name", ["epsilon", "tiny"])
def test_frames_in_parts_equal_frames_at_once(name, loaded, frames, monkeypatch):
    coder = loaded[name].autoencoder
    whole = coder.encode(frames)
    monkeypatch.setattr(coder, "batch", 2)
    assert torch.allclose(coder.encode(frames), whole, atol=1e-5)
    assert coder.decode(whole).shape == frames.shape


def test_a_shift_is_undone(parts, frames, monkeypatch):
    coder = parts.autoencoder
    raw = coder.encode(frames)
    plain = coder.decode(coder.scaled(raw))
    monkeypatch.setattr(coder, "shift", 0.3)
    assert torch.allclose(coder.scaled(raw), (raw - 0.3) * coder.scale)
    assert torch.allclose(coder.decode(coder.scaled(raw)), plain, atol=1e-4)


def test_sides_that_are_no_multiples_are_refused(parts):
    with pytest.raises(ShapeError, match="frames are 44x32; both sides must be multiples of 8"):
        parts.autoencoder.encode(torch.zeros(1, 3, 32, 44))
