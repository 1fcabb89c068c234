from itertools import pairwise

import pytest
import torch

from kinopaint.engine.samplers import (
    clean_estimate,
    ddim_step,
    ddpm_step,
    euler_ancestral_step,
    noised,
    sample_ancestral,
    sample_ddim,
    sample_dpmpp_2m,
    sample_euler,
)
from kinopaint.engine.schedule import NoiseSchedule

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own arrays
SCHEDULE = NoiseSchedule.from_config({"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"})


def test_ddim_with_the_true_noise_returns_the_clean_latents():
    clean, noise = torch.randn(2, 3, 4, 5, 6)
    steps = SCHEDULE.steps(30)
    result = sample_ddim(lambda latents, step: noise, noised(clean, noise, steps[0]), steps)
    assert torch.allclose(result, clean, atol=1e-4)


def test_ddpm_mean_is_the_posterior_mean():
    """T24: closed form of q(x_{t-1} | x_t, x_0), arXiv:2006.11239 eq. 7, with the respaced α."""
    clean, noise = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    for step in SCHEDULE.steps(30)[:-1]:
        latents = noised(clean, noise, step)
        ratio2 = (step.alpha / step.next_alpha) ** 2
        expected = (step.next_alpha * (1 - ratio2) * clean + ratio2**0.5 * step.next_sigma**2 * latents) / step.sigma**2
        assert torch.allclose(ddpm_step(latents, noise, step), expected, atol=1e-6)


def test_ddpm_adds_the_posterior_spread():
    step = SCHEDULE.steps(30)[10]
    latents, noise, fresh = torch.randn(3, 2, 4, 3, 3)
    spread = (step.next_sigma / step.sigma) * (1 - (step.alpha / step.next_alpha) ** 2) ** 0.5
    assert torch.allclose(ddpm_step(latents, noise, step, fresh), ddpm_step(latents, noise, step) + spread * fresh)


def test_clean_estimate_undoes_noising():
    clean, noise = torch.randn(2, 2, 4, 3, 3)
    step = SCHEDULE.steps(30)[3]
    assert torch.allclose(clean_estimate(noised(clean, noise, step), noise, step), clean, atol=1e-4)


def test_hooks_act_left_to_right_on_both_sides_of_a_step():
    step = SCHEDULE.steps(30)[3]
    latents, noise = torch.randn(2, 2, 4, 3, 3)
    result = sample_ddim(
        lambda latents, step: noise,
        latents,
        [step],
        before=[lambda z, _: z + 1, lambda z, _: z * 2],
        after=[lambda z, _: z - 5, lambda z, _: z * 3],
    )
    assert torch.allclose(result, (ddim_step((latents + 1) * 2, noise, step) - 5) * 3)


@pytest.mark.parametrize("count", [1, 2, 5, 20])
@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_few_step_samplers_are_those_of_diffusers(name, count):
    import diffusers

    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    stock = getattr(diffusers, name)(**config, timestep_spacing="trailing")
    stock.set_timesteps(count)
    steps = NoiseSchedule.from_config(config).listed_steps(count, spacing="trailing")
    assert [step.timestep for step in steps] == stock.timesteps.tolist()

    def network(latents, timestep):  # anything that depends on both
        return torch.tanh(latents) * (0.5 + timestep / 2000)

    noise = torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    theirs = noise * stock.init_noise_sigma
    for timestep in stock.timesteps:
        told = network(stock.scale_model_input(theirs, timestep), float(timestep))
        theirs = stock.step(told, timestep, theirs).prev_sample
    start = noise * (steps[0].sigma if name.startswith("Euler") else 1.0)
    sample = sample_euler if name.startswith("Euler") else sample_dpmpp_2m
    ours = sample(lambda latents, step: network(latents, step.timestep), start, steps)
    assert torch.allclose(ours, theirs, atol=2e-4 * float(theirs.abs().max()))


def test_hooks_act_on_both_sides_of_a_second_order_step():
    steps = SCHEDULE.listed_steps(3)
    latents, noise = torch.randn(2, 2, 4, 3, 3)
    seen = []

    def before(latents, step):
        seen.append(("before", step.index))
        return latents + 1

    def after(latents, step):
        seen.append(("after", step.index))
        return latents * 0

    assert not sample_dpmpp_2m(lambda latents, step: noise, latents, steps, [before], [after]).any()
    assert seen == [(side, index) for index in range(3) for side in ("before", "after")]


def test_dpmpp_2m_passes_steps_that_do_not_move():
    """All thousand leading steps with an offset: the offset finds no timestep above the first, which comes twice."""
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
    steps = NoiseSchedule.from_config(config).listed_steps(1000, spacing="leading")
    assert steps[0].alpha == steps[1].alpha
    clean, noise = torch.randn(2, 1, 4, 3, 3)
    result = sample_dpmpp_2m(lambda latents, step: noise, noised(clean, noise, steps[0]), steps)
    assert torch.allclose(result, clean, atol=1e-3)


def test_the_clean_estimate_is_the_same_in_both_kinds_of_units():
    """T25: Euler schedulers divide by alpha: z / alpha - (sigma / alpha) noise."""
    latents, noise = torch.randn(2, 3, 4, 5, 6)
    for step in SCHEDULE.listed_steps(7):
        euler = latents / step.alpha - step.sigma / step.alpha * noise
        assert torch.allclose(clean_estimate(latents, noise, step), euler, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_listed_steps_are_those_of_the_euler_scheduler(spacing):
    from diffusers import EulerAncestralDiscreteScheduler

    theirs = EulerAncestralDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing=spacing
    )
    theirs.set_timesteps(13)
    ours = SCHEDULE.listed_steps(13, spacing=spacing)
    assert [step.timestep for step in ours] == pytest.approx(theirs.timesteps.tolist(), abs=1e-3)
    ratios = [*(step.sigma / step.alpha for step in ours), ours[-1].next_sigma / ours[-1].next_alpha]
    assert ratios == pytest.approx(theirs.sigmas.tolist(), rel=1e-4)
    assert all(step.next_sigma == after.sigma for step, after in pairwise(ours))
    assert len(SCHEDULE.listed_steps(10, 0.35)) == 3


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_whole_listed_steps_are_those_of_the_ddpm_scheduler(spacing):
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, timestep_spacing=spacing
    )
    theirs.set_timesteps(13)
    ours = SCHEDULE.listed_steps(13, spacing=spacing, sampler="ddpm")
    assert [step.timestep for step in ours] == theirs.timesteps.tolist()
    for step in ours[::4]:
        latents, noise = torch.randn(2, 2, 4, 5, 6)
        expected = theirs.step(noise, int(step.timestep), latents, generator=torch.Generator().manual_seed(1))
        fresh = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1)) * (step.timestep > 0)
        assert torch.allclose(ddpm_step(latents, noise, step, fresh), expected.prev_sample, atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_ancestral_euler_step_is_diffusers(prediction):
    from diffusers import EulerAncestralDiscreteScheduler

    theirs = EulerAncestralDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction,
        timestep_spacing="trailing",
    )  # fmt: skip
    theirs.set_timesteps(9)
    step = SCHEDULE.listed_steps(9, spacing="trailing")[4]
    latents, noise = torch.randn(2, 2, 4, 5, 6)
    clean = clean_estimate(latents, noise, step)
    answer = noise if prediction == "epsilon" else step.alpha * noise - step.sigma * clean
    theirs.scale_model_input(latents, theirs.timesteps[4])
    expected = theirs.step(
        answer, theirs.timesteps[4], latents / step.alpha, generator=torch.Generator().manual_seed(1)
    ).prev_sample
    fresh = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    ours = euler_ancestral_step(latents, noise, step, fresh)
    assert torch.allclose(ours, step.next_alpha * expected, atol=1e-4)


def test_an_ancestral_sampler_with_the_true_noise_and_none_added_returns_the_clean_latents():
    clean, noise = torch.randn(2, 3, 4, 5, 6)
    steps = SCHEDULE.listed_steps(30)
    for move in (ddpm_step, euler_ancestral_step):
        denoise = lambda latents, step: (latents - step.alpha * clean) / step.sigma  # noqa: E731
        fresh = torch.randn(30, *clean.shape)
        result = sample_ancestral(move, list(fresh), denoise, noised(clean, noise, steps[0]), steps)
        assert torch.allclose(result, clean, atol=1e-3)
