"""How much is computed at once, and the ladder when memory runs out."""

from dataclasses import dataclass, replace

import pytest
import torch

from kinopaint.engine.denoiser import Condition
from kinopaint.engine.load import Load, PeakMemory, is_out_of_memory, under
from kinopaint.engine.run import stylize_windows
from kinopaint.errors import ModelError
from kinopaint.types import Clip, Prompt, WindowPlan

LADDER = [Load(24, 4), Load(12, 2), Load(6, 1), Load(3, 1), Load(1, 1), Load(1, 1, 256)]


def test_the_ladder_goes_down_to_one_picture_in_tiles():
    load, rungs = Load(), []
    while load:
        rungs.append(load)
        load = load.smaller()
    assert rungs == LADDER


@pytest.mark.parametrize("load", LADDER)
def test_a_load_is_read_back_from_its_text(load):
    assert Load.parse(str(load)) == load
    assert Load.parse("float32") is None


@pytest.mark.parametrize("load", LADDER)
def test_less_at_once_gives_the_same_up_to_rounding(load, parts, frames, step):
    texts = parts.text_encoder.encode(["", "oil"])
    conditions = [Condition("nothing", texts[0]), Condition("style", texts[1])]
    small = under(load, parts)
    with torch.no_grad():
        latents = small.autoencoder.encode(frames)
        assert torch.allclose(latents, parts.autoencoder.encode(frames), atol=1e-5)
        expected = parts.backbone.predict(latents, step, conditions)
        assert torch.allclose(small.backbone.predict(latents, step, conditions), expected, atol=1e-5)
        own = torch.stack([latents, latents + 1])
        expected = parts.backbone.predict(own, step, conditions)
        assert torch.allclose(small.backbone.predict(own, step, conditions), expected, atol=1e-5)
        assert torch.allclose(small.autoencoder.decode(latents), parts.autoencoder.decode(latents), atol=1e-5)


@pytest.mark.parametrize("name", ["epsilon", "tiny"])
def test_tiles_are_smaller_than_the_frame_and_leave_no_trace(name, loaded, monkeypatch):
    autoencoder = loaded[name].autoencoder
    tiled = autoencoder.sized(1, 32)
    frame = torch.rand(1, 3, 64, 96) * 2 - 1
    sizes = []
    handle = autoencoder.network.encoder.register_forward_pre_hook(
        lambda module, args: sizes.append(args[0].shape[-2:])
    )
    with torch.no_grad():
        assert tiled.encode(frame).shape == autoencoder.encode(frame).shape
    handle.remove()
    assert len(sizes) > 2
    assert max(height for height, _ in sizes[:-1]) <= 32
    assert sizes[-1] == (64, 96)


def test_lack_of_memory_is_known_by_kind_or_words():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.cuda.OutOfMemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_peak_counts_what_is_alive_at_one_time():
    with PeakMemory() as memory:
        for _ in range(3):
            kept = torch.zeros(1000)
            view = kept[10:].view(-1)
            view.add_(1)
            del kept, view
    assert memory.peak == 4000
    with PeakMemory() as memory:
        kept = [torch.zeros(1000) for _ in range(3)]
    assert memory.peak == 4000 * len(kept)


TWO = WindowPlan(2)


@dataclass(frozen=True)
class Hungry:
    """Fits only under `room` samples, from the second window on."""

    room: int = 6
    windows: WindowPlan = TWO

    def prepare(self, clip, prompt, parts):
        return []

    def stylize(self, window, shared, parts):
        shared.append((window.index, parts.load.samples, parts.backbone.batch))
        if window.index and parts.load.samples > self.room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return window.frames[window.fresh]


def run(method, parts):
    frames = (torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(index)) for index in range(6))
    return list(stylize_windows(method, frames, Clip(8, 8, 6), Prompt("oil"), parts))


def test_memory_that_runs_out_leads_down_the_ladder_and_stays_there(parts, monkeypatch):
    asked = []
    monkeypatch.setattr(Hungry, "prepare", lambda self, clip, prompt, parts: asked)
    windows = run(Hungry(), parts)
    assert asked == [(0, 24, 24), (1, 24, 24), (1, 12, 12), (1, 6, 6), (2, 6, 6)]
    assert [window.fallback for window in windows] == ["", f"{LADDER[1]}; {LADDER[2]}", ""]
    assert [len(window.frames) for window in windows] == [2, 2, 2]


def test_the_end_of_the_ladder_is_an_error_that_names_the_frames(parts):
    with pytest.raises(ModelError, match="out of memory with 1 samples") as caught:
        run(Hungry(room=0), parts)
    assert (caught.value.code, caught.value.where) == ("KP-MEMORY", "frames 2 to 3")


def test_other_failures_are_not_tried_again(parts, monkeypatch):
    def broken(self, window, shared, parts):
        raise RuntimeError("broken")

    monkeypatch.setattr(Hungry, "stylize", broken)
    with pytest.raises(RuntimeError, match="broken"):
        run(Hungry(), replace(parts))


def test_tiles_do_for_a_small_autoencoder_of_any_number_of_channels():
    """Tiles are put together to what the whole frame gives."""
    from diffusers import AutoencoderTiny

    from kinopaint.models.autoencoder import DiffusersAutoencoder

    blocks = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    layers = {"num_encoder_blocks": (1,) * 4, "num_decoder_blocks": (1,) * 4}
    whole = DiffusersAutoencoder(AutoencoderTiny(latent_channels=16, **blocks, **layers))
    tiled = whole.sized(1, 128)
    with torch.no_grad():
        frame = torch.rand(1, 3, 192, 192)
        latents = whole.encode(frame)
        torch.testing.assert_close(tiled.encode(frame), latents, atol=2e-3, rtol=0)
        assert tiled.decode(latents).shape == (1, 3, 192, 192)
