"""FRESCO on tiny random models: what it is without its parts, on one frame, on still frames, and across windows."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tests.checkpoints import with_channels, write_controlnet

from kinopaint.attention import correspondence
from kinopaint.attention.frames import every, first, from_frames
from kinopaint.engine.carry import pack_carry, unpack_carry
from kinopaint.engine.interventions import in_decoder, is_self, where
from kinopaint.engine.keyframes import KeyframePlan
from kinopaint.engine.run import stylize_windows
from kinopaint.errors import SettingsError
from kinopaint.features.consistency import Consistency
from kinopaint.flow.ring import FlowRing, flow_ring
from kinopaint.methods import fresco
from kinopaint.methods.fresco import Fresco
from kinopaint.models import load_model
from kinopaint.types import Clip, Prompt

PROMPT = Prompt("oil", negative="a")
ALL = KeyframePlan(8, nearest=1, farthest=1)
OFF = {"cross_frame": False, "spatial_until": 0.0, "temporal_down_to": 1.0, "optimise_iterations": 0}
FEW = {"num_inference_steps": 4, "windows": ALL, "guidance_scale": 3.0}


class StillFlow:
    """Nothing moves; what is hidden is decided by the colours alone."""

    identity = "still"

    def estimate(self, target, source):
        return torch.zeros(len(target), 2, *target.shape[-2:])


@pytest.fixture
def still_flow(monkeypatch):
    monkeypatch.setattr(fresco, "DisFlow", StillFlow)


@pytest.fixture(scope="module")
def plain_folder(model_folders, tmp_path_factory):
    return with_channels(model_folders["epsilon"], tmp_path_factory.mktemp("plain") / "model", 4)


@pytest.fixture(scope="module")
def plain_parts(plain_folder):
    return replace(load_model(plain_folder, device="cpu", dtype="float32"), seed=11)


def many(count, height=32, width=48, seed=4):
    """Different frames that are alike enough not to be hidden from each other."""
    noise = torch.Generator().manual_seed(seed)
    base = torch.rand(1, 3, height, width, generator=noise) * 2 - 1
    return (base + 0.1 * torch.randn(count, 3, height, width, generator=noise)).clamp(-1, 1)


def run(method, frames, parts, cuts=(), **more):
    clip = Clip(*frames.shape[-2:], len(frames), cuts)
    with torch.no_grad():
        return list(stylize_windows(method, frames, clip, PROMPT, parts, **more))


def result(method, frames, parts, cuts=()):
    return torch.cat([done.frames for done in run(method, frames, parts, cuts)])


def same(ours, expected, tolerance=1e-4):
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= tolerance * expected.abs().max()


# Without its parts it is the image pipeline.


@pytest.mark.parametrize(
    ("controlled", "spacing"), [(False, "leading"), (True, "leading"), (False, "trailing"), (False, "linspace")]
)
def test_all_off_is_the_image_pipeline(controlled, spacing, plain_folder, plain_parts, tmp_path):
    from diffusers import (
        ControlNetModel,
        DDPMScheduler,
        StableDiffusionControlNetImg2ImgPipeline,
        StableDiffusionImg2ImgPipeline,
    )

    frame, parts, told = many(1), plain_parts, {}
    kind, more = StableDiffusionImg2ImgPipeline, {}
    if controlled:
        folder = write_controlnet(plain_folder, tmp_path / "tile", 0)
        parts = replace(load_model(plain_folder, device="cpu", dtype="float32", controlnet=f"{folder}"), seed=11)
        kind, more = StableDiffusionControlNetImg2ImgPipeline, {"controlnet": ControlNetModel.from_pretrained(folder)}
        told = {"control_image": frame / 2 + 0.5, "controlnet_conditioning_scale": 1.0}
    pipeline = kind.from_pretrained(plain_folder, safety_checker=None, requires_safety_checker=False, **more)
    pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config, timestep_spacing=spacing)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        **told,
        prompt=PROMPT.text,
        negative_prompt=PROMPT.negative,
        guidance_scale=3.0,
        image=parts.autoencoder.scaled(parts.autoencoder.encode(frame)),
        strength=0.75,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(11),
        output_type="latent",
    ).images
    parts = replace(parts, schedule=replace(parts.schedule, timestep_spacing=spacing))
    ours = result(Fresco(**{**FEW, **OFF, "noise": "shared"}), frame, parts)
    same(ours, parts.autoencoder.decode(expected))


@pytest.mark.parametrize("model", ["epsilon", "v_prediction"])
def test_all_off_every_frame_is_what_it_would_be_alone(model, loaded):
    method, frames = Fresco(**{**FEW, **OFF, "noise": "shared"}), many(3)
    together = result(method, frames, loaded[model])
    alone = torch.cat([result(method, frame[None], loaded[model]) for frame in frames])
    same(together, alone)


@pytest.mark.parametrize(
    "part", [{"cross_frame": True}, {"temporal_down_to": 0.0}, {"cross_frame": True, "temporal_down_to": 0.0}]
)
def test_on_one_frame_attention_between_frames_is_self_attention(part, parts):
    frame = many(1)
    same(result(Fresco(**{**FEW, **OFF, **part}), frame, parts), result(Fresco(**{**FEW, **OFF}), frame, parts))


@pytest.mark.parametrize(
    "part",
    [
        {"cross_frame": True},
        {"spatial_until": 1.0},
        {"temporal_down_to": 0.0},
        {"optimise_iterations": 2, "optimise_until": 1.0},
        {"hold_colours": True},
        {"background": "still"},
    ],
    ids=lambda part: next(iter(part)),
)
def test_every_part_acts_on_frames_that_differ(part, parts, still_flow):
    frames = many(3)
    method = Fresco(**{**FEW, **OFF, "num_inference_steps": 10, "strength": 0.5})
    changed = result(replace(method, **part), frames, parts)
    assert (changed - result(method, frames, parts)).abs().max() > 1e-3


# Equal frames.


@pytest.mark.parametrize("part", [{}, {"spatial_until": 1.0, "temporal_down_to": 0.0}, {"background": "still"}])
def test_equal_frames_stay_equal_with_one_noise_for_all(part, parts):
    frames = many(1).expand(3, -1, -1, -1)
    method = Fresco(**{**FEW, "optimise_iterations": 0, "noise": "shared", **part})
    painted = result(method, frames, parts)
    same(painted, painted[:1].expand(3, -1, -1, -1), 1e-5)


def test_equal_frames_differ_by_noise_of_their_own(parts):
    painted = result(Fresco(**FEW, optimise_iterations=0), many(1).expand(3, -1, -1, -1), parts)
    assert (painted - painted[:1]).abs().max() > 1e-3


# Routing: between first-frame attention and full attention.


@pytest.mark.parametrize(("hidden", "choice"), [(0.0, first), (1.0, every)])
def test_cross_frame_attention_lies_between_the_first_frame_and_all(hidden, choice, parts, monkeypatch):
    def ring_of(frames, estimator):
        ring = flow_ring(frames, StillFlow())
        mask = torch.full_like(ring.hidden_later, hidden)
        return FlowRing(frames, ring.pair, mask, mask)

    monkeypatch.setattr(fresco, "flow_ring", ring_of)
    method, frames = Fresco(**{**FEW, **OFF, "layers": "up_blocks.1,up_blocks.2,up_blocks.3"}), many(3)
    ours = result(replace(method, cross_frame=True), frames, parts)
    plain = where(is_self & in_decoder, from_frames(choice))
    monkeypatch.setattr(Fresco, "_attention", lambda *_: [plain])
    same(ours, result(method, frames, parts), 1e-5)


def test_fully_hidden_flow_leaves_what_attention_gave(parts, monkeypatch):
    def blind(frames, estimator):
        ring = flow_ring(frames, StillFlow())
        return FlowRing(frames, ring.pair, torch.ones_like(ring.hidden_later), torch.ones_like(ring.hidden_later))

    monkeypatch.setattr(fresco, "flow_ring", blind)
    method, frames = Fresco(**{**FEW, **OFF}), many(3)
    same(result(replace(method, temporal_down_to=0.0), frames, parts), result(method, frames, parts), 1e-5)


def test_layers_are_the_last_two_decoder_blocks_with_attention_unless_named(parts, monkeypatch):
    paths = set()
    real = correspondence.guided_along_flow

    def watched(*settings):
        intervention = real(*settings)
        return lambda call, proceed: paths.add(call.site.path) or intervention(call, proceed)

    monkeypatch.setattr(fresco, "guided_along_flow", watched)
    for layers, blocks in (("auto", {"up_blocks.2", "up_blocks.3"}), ("up_blocks.1", {"up_blocks.1"})):
        paths.clear()
        result(Fresco(**{**FEW, **OFF, "temporal_down_to": 0.0, "layers": layers}), many(2), parts)
        assert {".".join(path.split(".")[:2]) for path in paths} == blocks
        assert all(path.endswith("attn1") for path in paths)


@pytest.mark.parametrize("layers", ["up_blocks.0", "up_blocks.2,mid_block", ""])
def test_blocks_without_self_attention_are_refused(layers, parts):
    with pytest.raises(SettingsError, match="KP-SETTING-LAYER"):
        result(Fresco(**FEW, layers=layers), many(1), parts)


# When the parts act.


def test_features_are_optimised_in_the_first_three_quarters_of_the_whole_schedule(parts, monkeypatch):
    seen = []
    monkeypatch.setattr(Consistency, "optimised", lambda self, feature, *_: seen.append(feature.shape[-1]) or feature)
    result(Fresco(**{**FEW, "num_inference_steps": 20}), many(2), parts)
    assert len(seen) == 10 * 4  # of 15 steps made; 4 decoder blocks


# Windows.

WINDOWED = {**FEW, "windows": KeyframePlan(4, nearest=1, farthest=1), "optimise_iterations": 1}


def test_later_windows_see_the_anchors_of_the_ones_before(parts, monkeypatch):
    records, latents_seen = [], []
    real = fresco.sample_ancestral

    def watched(move, fresh, denoise, latents, steps, **hooks):
        rows = []
        latents_seen.append(rows)
        seeing = lambda z, step: rows.append(z[[0, 1, -1]].clone()) or denoise(z, step)  # noqa: E731
        records.append(hooks["after"][-1])
        return real(move, fresh, seeing, latents, steps, **hooks)

    monkeypatch.setattr(fresco, "sample_ancestral", watched)
    run(Fresco(**WINDOWED), many(8), parts)
    assert len(latents_seen) == 3
    for earlier, later in pairwise(latents_seen):
        for before, now in zip(earlier, later, strict=True):
            same(now[0], before[0], 1e-5)  # the shot's first frame
            same(now[1], before[2], 1e-5)  # the last keyframe of the window before
    assert all(len(record.levels) == 4 and record.start.shape[0] == 2 for record in records)


@pytest.mark.parametrize("windows", ["4", "3", "3:2:3"])
def test_a_resumed_run_gives_the_same_frames(windows, parts):
    method, frames = replace(Fresco(**WINDOWED), windows=KeyframePlan.parse(windows)), many(9)
    whole = run(method, frames, parts)
    assert len(whole) > 1
    carry = unpack_carry(pack_carry(whole[0].carry, method), method)
    rest = run(method, frames, parts, resume_at=1, carry=carry)
    assert torch.equal(torch.cat([d.frames for d in whole[1:]]), torch.cat([d.frames for d in rest]))


def test_a_carry_holds_two_frames_of_latents_however_many_windows_there_were(parts):
    sizes = [len(pack_carry(done.carry, Fresco())) for done in run(Fresco(**WINDOWED), many(8), parts)]
    assert len(set(sizes)) == 1


def test_every_shot_starts_anew(parts):
    method, frames = Fresco(**{**WINDOWED, "noise": "shared"}), many(7)
    together = result(method, frames, parts, cuts=(3,))
    same(together, torch.cat([result(method, frames[:3], parts), result(method, frames[3:], parts)]), 1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("size", [(40, 24), (8, 8), (16, 56)])
def test_few_frames_and_odd_sizes_come_back(count, size, parts):
    method = Fresco(**{**WINDOWED, "windows": KeyframePlan(3, nearest=2, farthest=3)})
    painted = result(method, many(count, *size), parts)
    assert painted.shape == (count, 3, *size)
    assert torch.isfinite(painted).all()


def test_frames_between_keyframes_are_not_painted(parts, monkeypatch):
    counts = []
    real = Fresco.painted
    monkeypatch.setattr(
        Fresco, "painted", lambda self, frames, *more: counts.append(len(frames)) or real(self, frames, *more)
    )
    painted = result(replace(Fresco(**FEW), windows=KeyframePlan(8, nearest=3, farthest=3)), many(8), parts)
    assert counts == [4]  # 0, 3, 6 and the last one
    assert len(painted) == 8


def test_no_strength_gives_the_source_back(parts):
    frames = many(2)
    expected = parts.autoencoder.decode(parts.autoencoder.scaled(parts.autoencoder.encode(frames)))
    same(result(Fresco(**FEW, strength=0.0), frames, parts), expected, 1e-5)


def test_half_precision_works(model_folder):
    half = load_model(model_folder, device="cpu", dtype="bfloat16")
    assert torch.isfinite(result(Fresco(**WINDOWED), many(5), half)).all()


def test_the_reference_pass_goes_without_controlnet(plain_folder, tmp_path):
    folder = write_controlnet(plain_folder, tmp_path / "tile", 0)
    parts = load_model(plain_folder, device="cpu", dtype="float32", controlnet=f"{folder}")
    network, calls = parts.backbone.controls[0].network, []
    network.register_forward_hook(lambda module, given, output: calls.append(1))
    result(Fresco(**FEW), many(2), parts)
    assert len(calls) == 3  # the steps that are made, and no more
