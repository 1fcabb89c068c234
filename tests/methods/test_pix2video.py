"""Pix2Video: the identities of its specification, windows and their carry, and clips that are awkward."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.checkpoints import with_channels, write_depth_estimator
from tests.clips import write_clip

import kinopaint
from kinopaint.engine.carry import pack_carry, unpack_carry
from kinopaint.engine.corrections import CleanEstimate
from kinopaint.engine.denoiser import Condition
from kinopaint.engine.guidance import classifier_free
from kinopaint.engine.interventions import in_decoder, is_self
from kinopaint.engine.noise import shared_noise
from kinopaint.engine.run import stylize_windows
from kinopaint.engine.samplers import clean_estimate, ddim_step, noised, sample_ddim
from kinopaint.latents.pull import pulled_to_previous
from kinopaint.methods.pix2video import Pix2Video
from kinopaint.models import load_model
from kinopaint.types import Clip, Prompt, WindowPlan

PROMPT = Prompt("oil", "a")
QUICK = {"num_inference_steps": 4, "source_prompt": "a"}


@pytest.fixture
def clip():
    """Six frames of 48x32 that have little in common."""
    return torch.rand(6, 3, 32, 48, generator=torch.Generator().manual_seed(3)) * 2 - 1


def about(frames, cuts=()):
    return Clip(frames.shape[-2], frames.shape[-1], len(frames), tuple(cuts))


def painted(method, frames, parts, cuts=(), **more):
    return list(stylize_windows(method, frames, about(frames, cuts), PROMPT, parts, **more))


def run(method, frames, parts, cuts=(), **more):
    with torch.no_grad():
        return torch.cat([done.frames for done in painted(method, frames, parts, cuts, **more)])


def one_by_one(method, frames, parts):
    """The algorithm as it is written in the paper: one frame after another, with kept features and clean estimates."""
    shared = method.prepare(about(frames), PROMPT, parts)
    kept, estimates, results = {}, {}, []
    for number, frame in enumerate(frames):
        raw = parts.autoencoder.encode(frame[None])
        told = [Condition("nothing", shared.nothing, raw), Condition("words", shared.words, raw)]

        def inject(call, proceed, number=number):
            if not (is_self & in_decoder)(call):
                return proceed(call)
            place = call.step.index, call.site.path
            kept[(*place, number)] = call.key, call.value
            sources = [kept[(*place, 0)], kept[(*place, max(number - 1, 0))]]
            key, value = (torch.cat(both, -2) for both in zip(*sources, strict=True))
            return proceed(replace(call, key=key, value=value))

        denoise = classifier_free(parts.backbone, *told, method.guidance_scale, interventions=[inject])
        latents = method.inverted(frame[None], shared, parts)
        for step in shared.back:
            noise = denoise(latents, step)
            clean = estimates[step.index, number] = clean_estimate(latents, noise, step)
            latents = ddim_step(latents, noise, step)
            if number and step.index <= method.pull_until * step.count:
                latents = latents + method.pull_strength * (estimates[step.index, number - 1] - clean)
        results.append(parts.autoencoder.decode(latents))
    return torch.cat(results)


def test_frames_together_are_frames_one_after_another(parts, frames):
    method = Pix2Video(**QUICK, pull_strength=0.3)
    with torch.no_grad():
        expected = one_by_one(method, frames, parts)
        assert torch.allclose(run(method, frames, parts), expected, atol=1e-4)
    for other in ({"attend": "first"}, {"pull_strength": 0.0}, {"pull_until": 1.0}):
        assert not torch.allclose(run(replace(method, **other), frames, parts), expected, atol=1e-3), other


@pytest.mark.parametrize("name", ["epsilon", "v_prediction"])
def test_one_frame_is_what_the_image_pipeline_makes_of_inverted_noise(name, model_folders, frames, tmp_path):
    """Against diffusers: its inverse scheduler, then its text-to-image pipeline, on the same checkpoint."""
    from diffusers import DDIMInverseScheduler, StableDiffusionPipeline

    folder = with_channels(model_folders[name], tmp_path / "plain", 4)
    parts = load_model(folder, device="cpu", dtype="float32")
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    inverse = DDIMInverseScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="leading", steps_offset=1, clip_sample=False
    )
    inverse.set_timesteps(4)
    with torch.no_grad():
        latents = parts.autoencoder.scaled(parts.autoencoder.encode(frames[:1]))
        source = parts.text_encoder.encode(["a"])[0].states[None]
        for timestep in reversed(pipeline.scheduler.timesteps.new_tensor([999, 749, 499, 249])):
            output = pipeline.unet(latents, timestep, source).sample
            latents = inverse.step(output, timestep, latents).prev_sample
        told = {"prompt": PROMPT.text, "negative_prompt": PROMPT.negative, "guidance_scale": 3.0}
        expected = pipeline(**told, latents=latents, num_inference_steps=4, output_type="latent").images
        ours = run(Pix2Video(**QUICK, guidance_scale=3.0), frames[:1], parts)
        assert torch.allclose(ours, parts.autoencoder.decode(expected), atol=1e-4)


def test_with_everything_off_each_frame_is_sampled_by_itself(parts, frames):
    method = Pix2Video(**QUICK, attend="itself", pull_strength=0.0)
    alone = torch.cat([run(method, frame[None], parts) for frame in frames])
    assert torch.allclose(run(method, frames, parts), alone, atol=1e-4)
    for on in ({"attend": "first+previous"}, {"pull_strength": 0.3}):
        assert not torch.allclose(run(replace(method, **on), frames, parts)[1:], alone[1:], atol=1e-3), on


@pytest.mark.parametrize("attend", ["first+previous", "first", "previous", "every"])
def test_a_still_clip_stays_still_and_is_its_first_frame_painted_alone(attend, parts, frames):
    method = Pix2Video(**QUICK, attend=attend, pull_strength=0.3, fresh_noise=0.4, windows=WindowPlan(3, 1, (0,)))
    result = run(method, frames[:1].repeat(6, 1, 1, 1), parts)
    assert torch.allclose(result, run(method, frames[:1], parts).expand_as(result), atol=1e-4)


def test_the_pull_is_the_gradient_of_the_squared_distance(step):
    """λ = 200 / (channels * height * width) for the official 100 * mean; at 512 x 512 pixels the default."""
    latents, clean = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    estimate = CleanEstimate()
    estimate.latest = clean.clone()
    moved = pulled_to_previous(estimate, 200 / (4 * 8 * 8))(latents, step)
    leaf = clean.clone().requires_grad_()
    loss = sum(100 * (clean[i - 1] - leaf[i]).square().mean() for i in (1, 2))
    assert torch.allclose(moved, latents - torch.autograd.grad(loss, leaf)[0], atol=1e-5)
    assert Pix2Video().pull_strength == pytest.approx(200 / (4 * 64 * 64), rel=1e-3)


def test_the_pull_acts_in_the_first_26_of_50_steps(parts):
    latents, estimate = torch.randn(2, 4, 4, 4), CleanEstimate()
    estimate.latest = torch.randn(2, 4, 4, 4)
    pull = pulled_to_previous(estimate, 0.1, Pix2Video().pull_until)
    acts = [not torch.equal(pull(latents, step), latents) for step in parts.schedule.steps(50)]
    assert acts == [True] * 26 + [False] * 24
    never = pulled_to_previous(estimate, 0.1, 0.0)
    assert all(torch.equal(never(latents, step), latents) for step in parts.schedule.steps(50))


def test_the_watched_estimate_is_that_of_the_guided_prediction(step):
    latents, noise = torch.randn(2, 2, 4, 3, 3)
    estimate = CleanEstimate()
    assert torch.equal(estimate.watching(lambda latents, step: noise)(latents, step), noise)
    assert torch.equal(estimate.latest, clean_estimate(latents, noise, step))


class NearlyGaussian:
    """What a trained network is like: the perfect denoiser of normal latents, a little disturbed. A random network
    alone cannot be inverted.
    """

    def __init__(self, parts):
        self.inner, self.levels = parts.backbone, parts.schedule.squared_alphas
        self.latent_channels, self.image_channels = self.inner.latent_channels, self.inner.image_channels

    def predict(self, latents, step, conditions, **more):
        sigma = (1 - self.levels[int(step.timestep)]).sqrt()
        return sigma * latents + 0.1 * self.inner.predict(latents, step, conditions, **more)


def test_the_same_words_without_guidance_give_back_the_source(parts, frames):
    """Nearer with more steps, and with a refined inversion."""
    still = {"attend": "itself", "pull_strength": 0.0, "guidance_scale": 1.0, "source_prompt": PROMPT.text}
    parts = replace(parts, backbone=NearlyGaussian(parts))
    with torch.no_grad():
        source = parts.autoencoder.decode(parts.autoencoder.scaled(parts.autoencoder.encode(frames)))

    def distance(**settings):
        return float((run(Pix2Video(**still, **settings), frames, parts) - source).square().mean().sqrt())

    few, many = distance(num_inference_steps=5), distance(num_inference_steps=25)
    assert many < few / 2
    assert distance(num_inference_steps=5, refine=3) < few / 4
    assert distance(num_inference_steps=5, strength=0.0) == 0


def test_fresh_noise_goes_all_the_way_to_the_noised_frame(parts, frames):
    method = Pix2Video(**QUICK, fresh_noise=1.0, strength=0.75)
    parts = replace(parts, seed=4)
    with torch.no_grad():
        shared = method.prepare(about(frames), PROMPT, parts)
        clean = parts.autoencoder.scaled(parts.autoencoder.encode(frames))
        expected = noised(clean, shared_noise((4, 4, 6), 4), shared.back[0])
        assert torch.allclose(method.inverted(frames, shared, parts), expected, atol=1e-5)
        plain = replace(method, fresh_noise=0.0)
        told = Condition("source", shared.source, parts.autoencoder.encode(frames))
        noisy = sample_ddim(lambda z, s: parts.backbone.predict(z, s, [told])[0], clean, shared.there)
        assert torch.equal(plain.inverted(frames, shared, parts), noisy)


def test_windows_are_nearly_the_whole_clip_at_once_and_nearer_with_more_overlap(parts, clip):
    method = Pix2Video(**QUICK, pull_strength=0.1, windows=WindowPlan(6))
    whole = run(method, clip, parts)

    def distance(*plan):
        result = run(replace(method, windows=WindowPlan(*plan)), clip, parts)
        assert torch.allclose(result[:3], run(method, clip[:3], parts), atol=1e-4)  # the first window knows no other
        return (result - whole)[3:].abs().max()

    alone, anchored, more = distance(3), distance(4, 1, (0,)), distance(5, 2, (0,))
    assert anchored < alone / 3
    assert more < anchored


def test_known_frames_go_the_way_they_went(parts, clip):
    """The frames that a window sees again are at every noise level where the earlier window had them."""
    method = Pix2Video(**QUICK, windows=WindowPlan(4, 1, (0,)))
    with torch.no_grad():
        shared = method.prepare(about(clip), PROMPT, parts)
        first, second = list(method.windows.cut(clip[:6]))[:2]
        _, carry = method.stylize(first, shared, None, parts)
        watched = replace(second, carried=(0, 1, 2))
        _, after = method.stylize(watched, shared, carry, parts)
    assert second.numbers[:2] == (0, 3)
    for before, level in zip(carry.levels, after.levels, strict=True):
        assert torch.equal(level[:2], before)


def test_a_run_goes_on_from_a_stored_carry(parts, clip):
    method = Pix2Video(**QUICK, windows=WindowPlan(3, 1, (0,)))
    with torch.no_grad():
        whole = painted(method, clip, parts)
        stored = [pack_carry(done.carry, method) for done in whole]
        rest = painted(method, clip, parts, resume_at=2, carry=unpack_carry(stored[1], method))
    assert torch.equal(torch.cat([done.frames for done in rest]), torch.cat([done.frames for done in whole[2:]]))
    sizes = {len(data) for data in stored[:-1]}
    assert len(sizes) == 1  # two frames at five noise levels, however long the clip


def test_a_cut_starts_anew(parts, clip):
    method = Pix2Video(**QUICK, windows=WindowPlan(3, 1, (0,)))
    result = run(method, clip, parts, cuts=[4])
    assert torch.equal(result[4:], run(method, clip[4:], parts))
    assert not torch.allclose(result[4:], run(method, clip, parts)[4:], atol=1e-3)


def test_networks_without_a_slot_for_the_frame(model_folder, frames, tmp_path):
    """Text-to-image, and depth, which every branch sees."""
    plain = load_model(with_channels(model_folder, tmp_path / "plain", 4), device="cpu", dtype="float32")
    depth_folder = with_channels(model_folder, tmp_path / "depth", 5)
    write_depth_estimator(depth_folder)
    depth = load_model(depth_folder, device="cpu", dtype="float32")
    method = Pix2Video(**QUICK, windows=WindowPlan(2, 1))
    for parts in (plain, depth):
        assert torch.isfinite(run(method, frames, parts)).all()


def test_it_says_what_it_costs(parts, clip):
    method = Pix2Video(**QUICK, refine=1, windows=WindowPlan(4, 1, (0,)))
    calls = []

    class Counting:
        def __init__(self, inner):
            self.inner, self.latent_channels, self.image_channels = inner, 4, 4

        def predict(self, latents, step, conditions, **more):
            calls.append(len(conditions) * len(latents))
            return self.inner.predict(latents, step, conditions, **more)

    counted = replace(parts, backbone=Counting(parts.backbone))
    seen = []
    run(method, clip[:4], counted, on_progress=seen.append)
    assert len(calls) == method.predictions
    assert max(calls) == method.together
    within = [progress.step / progress.steps for progress in seen[:-1]]
    assert within == sorted(within)
    assert within[-1] == 1
    calls.clear()
    run(method, clip, counted)  # windows of 4 and 4: 4 fresh frames, then 2
    second = 4 * 2 * 2 + 4 * 2 * 4  # twice to noise for 2 frames, back for 4, in two branches
    assert sum(calls) == 4 * 2 * 4 + 4 * 2 * 4 + second
    assert f"{second // 2} pictures through the network per frame" in method.cost


@pytest.mark.parametrize("count", [1, 2, 5])
def test_streams_of_odd_sizes(count, parts):
    pictures = [np.random.default_rng(number).integers(0, 256, (37, 51, 3), np.uint8) for number in range(count)]
    method = Pix2Video(num_inference_steps=2, windows=WindowPlan(3, 1, (0,)))
    results = list(kinopaint.stylize_frames(iter(pictures), "oil", method=method, parts=parts))
    assert [result.shape for result in results] == [(37, 51, 3)] * count


def test_part_of_a_clip_with_a_cut(model_folder, tmp_path):
    source = write_clip(tmp_path / "in.mp4", frames=12, size=(50, 34))
    settings = {"method": "pix2video", "model": str(model_folder), "steps": 2, "windows": "3:1:0", "device": "cpu"}
    some = kinopaint.stylize(source, "oil", tmp_path / "some.mp4", **settings, every=2, start=0.2, end=0.9, shots=[0.5])
    assert some.frames == 4
    assert some.model_calls == 2 * 4  # two frames on each side of the cut
