"""The schedule and its steps equal those of diffusers' DDIM scheduler."""

import math

import pytest
import torch
from diffusers import DDIMScheduler

from kinopaint.engine.samplers import ddim_step
from kinopaint.engine.schedule import NoiseSchedule
from kinopaint.errors import ModelError, SettingsError

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def pair(**config):
    reference = DDIMScheduler(**{**SD, **config})
    return reference, NoiseSchedule.from_config(dict(reference.config))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"beta_schedule": "linear"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"num_train_timesteps": 400},
        {"trained_betas": [0.01 * (1 + index / 50) for index in range(100)]},
    ],
    ids=str,
)
def test_signal_levels_equal_diffusers(config):
    reference, ours = pair(**config)
    assert torch.equal(ours.squared_alphas, reference.alphas_cumprod.clamp_min(2**-24))


def test_zero_terminal_snr_ends_almost_without_signal():
    reference, ours = pair(rescale_betas_zero_snr=True)
    assert torch.allclose(ours.squared_alphas[:-1], reference.alphas_cumprod[:-1], atol=1e-6)
    assert ours.squared_alphas[-1] == 2**-24


def test_every_number_of_trailing_steps_gives_as_many():
    _, ours = pair()
    too_long = 0
    for count in range(1, 1001):
        timesteps = ours.timesteps(count, "trailing")
        assert len(timesteps) == count
        assert min(timesteps) >= 0
        expected = list(reference_trailing(count))
        too_long += len(expected) > count
        assert timesteps == expected[:count]
    assert too_long == 62  # diffusers' list ends with -1 there


def reference_trailing(count, total=1000):
    """diffusers' own lines."""
    import numpy as np

    return (np.round(np.arange(total, 0, -total / count)).astype(np.int64) - 1).tolist()


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("config", [{}, {"set_alpha_to_one": False, "steps_offset": 1}], ids=["one", "offset"])
def test_steps_equal_diffusers(spacing, prediction, config):
    """All of a sampling, for a spread of counts, with predictions of any kind turned into noise."""
    reference, ours = pair(timestep_spacing=spacing, prediction_type=prediction, **config)
    for count in (1, 2, 3, 7, 20, 30, 50, 61, 333, 999):
        reference.set_timesteps(count)
        steps = ours.steps(count)
        timesteps = reference.timesteps.tolist()[:count]
        assert [step.timestep for step in steps] == timesteps
        for step, timestep in list(zip(steps, timesteps, strict=True))[:: max(1, count // 10)]:
            latents, output = torch.randn(2, 4, 4, 3, 3)
            noise = {
                "epsilon": output,
                "v_prediction": step.alpha * output + step.sigma * latents,
                "sample": (latents - step.alpha * output) / step.sigma,
            }[prediction]
            expected = reference.step(output, timestep, latents).prev_sample
            assert (ddim_step(latents, noise, step) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_thirty_trailing_steps_move_by_the_stride_of_diffusers():
    _, ours = pair()
    first, second = ours.steps(30, spacing="trailing")[:2]
    assert (first.timestep, second.timestep) == (999, 966)
    assert second.next_alpha == pytest.approx(math.sqrt(ours.squared_alphas[933]))  # the list goes on with 932


def test_zero_terminal_snr_with_v_prediction_stays_near_diffusers():
    reference, ours = pair(rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")
    reference.set_timesteps(10)
    step = ours.steps(10)[0]
    latents, output = torch.randn(2, 4, 4, 3, 3)
    noise = step.alpha * output + step.sigma * latents
    assert torch.allclose(ddim_step(latents, noise, step), reference.step(output, 999, latents).prev_sample, atol=2e-3)


def test_strength_keeps_the_last_steps():
    _, ours = pair()
    everything = ours.steps(30)
    half = ours.steps(30, 0.5)
    assert [step.timestep for step in half] == [step.timestep for step in everything[15:]]
    assert (half[0].index, half[0].count, half[0].progress) == (0, 15, 0.0)
    assert ours.steps(30, 0.0) == []
    assert len(ours.steps(10, 0.99)) == 9


def test_reversed_steps_go_back_the_same_way():
    _, ours = pair()
    there, back = ours.steps(20), ours.reversed_steps(20)
    for step, opposite in zip(there, reversed(back), strict=True):
        assert (step.alpha, step.sigma) == (opposite.next_alpha, opposite.next_sigma)
        assert step.timestep == opposite.timestep
        latents, noise = torch.randn(2, 1, 4, 3, 3)
        assert torch.allclose(ddim_step(ddim_step(latents, noise, step), noise, opposite), latents, atol=1e-5)


@pytest.mark.parametrize("count", [0, -3, 1001])
def test_impossible_counts_are_refused(count):
    _, ours = pair()
    with pytest.raises(SettingsError, match=f"{count} steps were asked for; 1 to 1000 are possible"):
        ours.steps(count)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEulerDiscreteScheduler is not"),
        ({"_class_name": "DDIMSchedular"}, "did you mean DDIMScheduler"),
        ({"prediction_type": "flow"}, "prediction type 'flow' is unknown"),
        ({"timestep_spacing": "log"}, "timestep spacing 'log' is unknown"),
        ({"beta_schedule": "cubic"}, "beta schedule 'cubic' is unknown"),
        ({"beta_schedule": "linear", "beta_end": 3}, "do not lie between 0 and 1"),
        ({"num_train_timesteps": "many"}, "cannot be built"),
        ({"num_train_timesteps": -5}, "cannot be built"),
        ({"num_train_timesteps": float("inf")}, "cannot be built"),
        ({"steps_offset": float("inf")}, "cannot be built"),
        ({"trained_betas": [[0.1]]}, "are no list of numbers"),
        ({"thresholding": True}, "thresholding"),
    ],
)
def test_unknown_schedules_are_named(config, text):
    with pytest.raises(ModelError, match=text) as caught:
        NoiseSchedule.from_config({"_class_name": "DDIMScheduler", **config})
    assert caught.value.code == "KP-MODEL-SCHEDULER"


@pytest.mark.parametrize("offset", [0, 1])
def test_the_least_noisy_move_is_the_last_of_all_steps(offset):
    _, schedule = pair(steps_offset=offset)
    assert schedule.least_noisy() == schedule.listed_steps(schedule.train_steps, spacing="leading")[-1]
    assert schedule.least_noisy().timestep == offset


@pytest.mark.parametrize(
    ("config", "sampler", "told"),
    [
        ({"_class_name": "DDIMScheduler"}, "ddim", ""),
        ({"_class_name": "DPMSolverMultistepScheduler"}, "dpmpp_2m", ""),
        ({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}, "ddim", "solver_order=3"),
        ({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}, "ddim", "sde-dpmsolver"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}, "dpmpp_2m", "use_karras_sigmas"),
        ({"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": True}, "euler", "use_beta_sigmas"),
        ({"_class_name": "UniPCMultistepScheduler"}, "ddim", "UniPCMultistepScheduler"),
        ({"_class_name": "PNDMScheduler"}, "ddim", "PNDMScheduler"),
    ],
)
def test_the_checkpoints_own_sampler_or_what_stands_in(config, sampler, told):
    schedule = NoiseSchedule.from_config(config)
    assert schedule.sampler == sampler
    assert told in schedule.stands_in_for
    assert bool(told) == bool(schedule.stands_in_for)
