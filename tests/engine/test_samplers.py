import torch

from kinopaint.engine.samplers import clean_estimate, ddim_step, ddpm_step, noised, sample_ddim
from kinopaint.engine.schedule import NoiseSchedule

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
