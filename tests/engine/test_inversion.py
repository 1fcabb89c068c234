"""DDIM inversion against closed forms, diffusers' inverse scheduler, and the way back."""

import pytest
import torch

from kinopaint.engine.inversion import Trajectory, fixed_point
from kinopaint.engine.samplers import ddim_step, sample_ddim
from kinopaint.engine.schedule import NoiseSchedule

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own arrays
STABLE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
SCHEDULE = NoiseSchedule.from_config(STABLE)


def there_and_back(denoise, clean, count, refine=0, schedule=SCHEDULE):
    noise = sample_ddim(fixed_point(denoise, refine), clean, schedule.reversed_steps(count))
    return sample_ddim(denoise, noise, schedule.steps(count))


def gaussian(variance):
    """The perfect denoiser of clean latents that are normal with this variance."""
    return lambda latents, step: step.sigma * latents / (step.alpha**2 * variance + step.sigma**2)


def labelled(variance):
    """The same, which like a network knows the noise level only from the timestep that it is told."""

    def denoise(latents, step):
        square = SCHEDULE.squared_alphas[int(step.timestep)].to(latents)
        return (1 - square).sqrt() * latents / (square * variance + 1 - square)

    return denoise


@pytest.fixture
def clean():
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def test_noise_that_does_not_depend_on_the_latents_is_undone_exactly(clean):
    noise = torch.randn(50, *clean.shape, generator=torch.Generator().manual_seed(1))
    back = there_and_back(lambda latents, step: noise[int(step.timestep) // 20], clean, 50)
    assert (back - clean).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("variance", "errors"),
    [(1.0, {10: 1.9e-2, 20: 5.0e-3, 50: 8.0e-4, 100: 2.0e-4}), (0.25, {10: 0.197, 20: 0.096, 50: 0.037, 100: 0.018})],
)
def test_the_way_back_is_nearer_with_more_steps(variance, errors):
    """Root mean square error over the standard deviation, against numbers derived in the specification."""
    clean = torch.randn(4, 16, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * variance**0.5
    for count, expected in errors.items():
        error = (there_and_back(labelled(variance), clean, count) - clean).square().mean().sqrt() / variance**0.5
        assert error == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("variance", "errors"), [(1.0, {1: 3.6e-5, 3: 1.5e-7}), (0.25, {1: 2.0e-3, 3: 6.9e-6, 10: 1e-13})]
)
def test_a_fixed_point_is_the_exact_inverse(variance, errors):
    clean = torch.randn(4, 16, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * variance**0.5
    for times, expected in errors.items():
        error = (there_and_back(labelled(variance), clean, 50, times) - clean).square().mean().sqrt() / variance**0.5
        assert error < 2 * expected


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_step_is_that_of_diffusers(prediction, clean):
    from diffusers import DDIMInverseScheduler

    stock = DDIMInverseScheduler(**STABLE, clip_sample=False, prediction_type=prediction)
    stock.set_timesteps(50)
    steps = SCHEDULE.reversed_steps(50)
    assert [step.timestep for step in steps] == stock.timesteps.tolist()
    output = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    for step in steps:
        noise = step.alpha * output + step.sigma * clean if prediction == "v_prediction" else output
        theirs = stock.step(output, int(step.timestep), clean).prev_sample
        assert torch.allclose(ddim_step(clean, noise, step), theirs, atol=1e-6)


def test_a_step_and_its_reverse_with_one_noise_are_the_identity(clean):
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    for step in SCHEDULE.steps(20):
        assert step.reversed.reversed == step
        back = ddim_step(ddim_step(clean, noise, step.reversed), noise, step)
        assert torch.allclose(back, clean, atol=2e-6)


def test_part_of_the_way_ends_where_sampling_with_that_strength_starts():
    there, back = SCHEDULE.reversed_steps(20, 0.6), SCHEDULE.steps(20, 0.6)
    assert [step.reversed for step in there] == back[::-1]
    assert (there[-1].next_alpha, there[-1].next_sigma) == (back[0].alpha, back[0].sigma)
    assert len(there) == there[0].count == 12


def test_the_way_back_through_the_network_is_nearer_with_more_steps(parts):
    """Random weights alone show no trend: they are a small disturbance of the Gaussian answer here."""
    from kinopaint.engine.denoiser import Condition

    told = [Condition("source", parts.text_encoder.encode([""])[0])]
    clean = torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    perfect = labelled(1.0)

    def denoise(latents, step):
        return perfect(latents, step) + 0.1 * parts.backbone.predict(latents, step, told)[0]

    errors = [(there_and_back(denoise, clean, count) - clean).square().mean().sqrt() for count in (5, 20, 80)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert (there_and_back(denoise, clean, 20, 3) - clean).square().mean().sqrt() < errors[1] / 10


def test_a_trajectory_records_where_each_step_starts_and_the_last_one_ends(clean):
    seen = []

    def denoise(latents, step):
        seen.append(latents)
        return gaussian(1.0)(latents, step)

    steps, record, some = SCHEDULE.steps(6), Trajectory.starting(clean), Trajectory.starting(clean, [1])
    end = sample_ddim(denoise, clean, steps, after=[record, some])
    assert torch.equal(torch.stack(record.levels), torch.stack([*seen, end]))
    assert torch.equal(record.start, clean)
    assert torch.equal(record.after(steps[-1]), end)
    assert torch.equal(record.reversed.start, end)
    assert torch.equal(torch.stack(some.levels), torch.stack(record.levels)[:, 1:])
