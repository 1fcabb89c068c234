"""Identities T17 to T20: the gradient of a loss on the predicted clean latents, and the three places where it acts."""

import math
from dataclasses import replace

import pytest
import torch

from kinopaint.engine.corrections import (
    clean_edited,
    during,
    evaluated_at,
    gradient_of,
    is_due,
    moved_by,
    nudged,
    shift,
)
from kinopaint.engine.samplers import clean_estimate, ddim_step
from kinopaint.engine.schedule import Step

STEP = Step(0, 4, 500.0, 0.6, 0.8, 0.9, 0.19**0.5)
SHAPE = (2, 3, 4, 4)


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(5, 3, 3, padding=1)
    )
    return layers.double().requires_grad_(False)


@pytest.fixture
def loss():
    """Through a tiny decoder to a cosine."""
    torch.manual_seed(1)
    decoder = torch.nn.Sequential(
        torch.nn.ConvTranspose2d(3, 4, 2, stride=2), torch.nn.Tanh(), torch.nn.Conv2d(4, 3, 1)
    )
    decoder = decoder.double().requires_grad_(False)
    wanted = decoder(torch.randn(SHAPE).double()).flatten(1)
    return lambda clean, which: 1 - torch.cosine_similarity(decoder(clean).flatten(1), wanted[which], dim=-1)


@pytest.mark.parametrize("through", [False, True])
def test_gradient_equals_finite_differences(through, network, loss):
    latents = torch.randn(SHAPE).double()
    pilot = lambda z, step: network(z)  # noqa: E731
    with torch.no_grad():
        found = gradient_of(loss, pilot, through_network=through)(latents, STEP)
    frozen = network(latents)

    def value(z):
        return loss(clean_estimate(z, network(z) if through else frozen, STEP), slice(None)).sum()

    for place in [(0, 0, 0, 0), (1, 2, 3, 1), (1, 0, 2, 2)]:
        bump = torch.zeros_like(latents)
        bump[place] = 1e-6
        slope = (value(latents + bump) - value(latents - bump)) / 2e-6
        assert abs(float(slope - found[place])) < 1e-8 + 1e-5 * abs(float(slope))


def test_a_small_gradient_survives_half_precision():
    """The smallest number of float16 is 6e-8; slopes of a mean over the pixels of a large frame get there."""
    small = lambda clean, which: (1e-4 * (1e-4 * clean.half())).float().sum((1, 2, 3))  # noqa: E731
    found = gradient_of(small, lambda z, step: z * 0)(torch.randn(SHAPE), STEP)
    assert torch.allclose(found, torch.full(SHAPE, 1e-8 / STEP.alpha), rtol=0.02)


def test_frames_do_not_mix_in_the_gradient(network, loss):
    latents = torch.randn(SHAPE).double()
    other = latents.clone()
    other[1] += 1
    gradient = gradient_of(loss, lambda z, step: network(z), through_network=True)
    assert torch.equal(gradient(latents, STEP)[0], gradient(other, STEP)[0])


def test_so_many_frames_go_back_at_once(network, loss):
    """The same gradient, and memory for no more than these."""
    latents, seen = torch.randn(SHAPE).double(), []
    watched = lambda clean, which: (seen.append(len(clean)), loss(clean, which))[1]  # noqa: E731
    pilot = lambda z, step: network(z)  # noqa: E731
    whole, single = (gradient_of(watched, pilot, frames=count)(latents, STEP) for count in (4, 1))
    assert seen == [2, 1, 1]
    assert torch.allclose(whole, single)


@pytest.mark.parametrize("strength", [0.02, 0.1])
def test_root_mean_square_of_the_shift_is_strength_times_sigma(strength):
    found = shift(torch.randn(SHAPE) * torch.tensor([1e-4, 1e3]).view(2, 1, 1, 1), STEP, strength)
    assert torch.allclose(found.square().mean((1, 2, 3)).sqrt(), torch.full((2,), strength * STEP.sigma))
    raw = torch.randn(SHAPE)
    assert torch.allclose(shift(raw, STEP, strength, normalise=False), strength * STEP.sigma * raw)


def one_step(kind, latents, denoise, gradient, strength):
    """The clean estimate that a sampler's move uses, under each of the three shifts."""
    if kind == "state":
        latents = moved_by(gradient, strength)(latents, STEP)
        noise = denoise(latents, STEP)
    else:
        noise = {"classifier": nudged, "eval_only": evaluated_at}[kind](denoise, gradient, strength)(latents, STEP)
    clean = clean_estimate(latents, noise, STEP)
    assert torch.allclose(ddim_step(latents, noise, STEP), STEP.next_alpha * clean + STEP.next_sigma * noise)
    return clean


@pytest.mark.parametrize("squared_alpha", [0.005, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("through", [False, True])
def test_for_an_ideal_denoiser_the_printed_algorithm_goes_uphill(squared_alpha, through):
    """Data from an anisotropic Gaussian: the exact denoiser is linear. Two shifts lower the loss, the printed not."""
    step = replace(STEP, alpha=squared_alpha**0.5, sigma=(1 - squared_alpha) ** 0.5)
    variance = torch.tensor([0.05, 0.2, 0.5, 1.0, 2.0, 4.0]).double().view(1, 6, 1, 1)

    def denoise(z, step):
        clean = step.alpha * variance / (step.alpha**2 * variance + step.sigma**2) * z
        return (z - step.alpha * clean) / step.sigma

    torch.manual_seed(2)
    wanted, latents = torch.randn(1, 6, 1, 1).double(), torch.randn(1, 6, 1, 1).double()
    loss = lambda clean, which=None: (clean - wanted).square().sum((1, 2, 3))  # noqa: E731
    gradient = gradient_of(loss, denoise, through_network=through)
    begin = float(loss(clean_estimate(latents, denoise(latents, step), step)))

    def after(kind):
        moved = latents
        if kind == "state":
            moved = moved_by(gradient, 1e-4)(latents, step)
            noise = denoise(moved, step)
        else:
            noise = {"classifier": nudged, "eval_only": evaluated_at}[kind](denoise, gradient, 1e-4)(moved, step)
        return float(loss(clean_estimate(moved, noise, step)))

    assert after("state") < begin
    assert after("classifier") < begin
    assert after("eval_only") > begin


def test_with_a_constant_prediction_the_state_moves_the_estimate_and_the_place_does_not(loss):
    constant, latents = torch.randn(SHAPE).double(), torch.randn(SHAPE).double()
    denoise = lambda z, step: constant  # noqa: E731
    gradient = gradient_of(loss, denoise)
    begin = clean_estimate(latents, constant, STEP)
    delta = shift(gradient(latents, STEP), STEP, 0.02)
    assert torch.equal(one_step("eval_only", latents, denoise, gradient, 0.02), begin)
    assert torch.allclose(one_step("state", latents, denoise, gradient, 0.02), begin - delta / STEP.alpha)
    moved = one_step("classifier", latents, denoise, gradient, 0.02)
    assert torch.allclose(moved, begin - STEP.sigma * delta / STEP.alpha)


def test_window_and_interval_choose_the_steps():
    ask = during(lambda z, step: z, high=0.9, low=0.2, every=2, train_steps=1000)
    steps = [
        replace(STEP, index=index, timestep=float(time)) for index, time in enumerate([999, 899, 600, 500, 300, 99])
    ]
    made = [step.index for step in steps if ask(torch.zeros(1, 1, 1, 1), step) is not None]
    assert made == [2, 4]
    everywhere = during(lambda z, step: z, high=1.0, low=0.0, every=1, train_steps=1000)
    assert all(
        everywhere(torch.zeros(1, 1, 1, 1), replace(STEP, timestep=float(time))) is not None for time in (999, 0)
    )


@pytest.mark.parametrize("count", [3, 6, 8, 15, 30, 50])
def test_an_interval_below_one_is_a_share_of_the_steps(count):
    made = [index for index in range(count) if is_due(index, count, 0.33)]
    assert made == [math.ceil(0.33 * place * count) for place in range(3)]
    assert [index for index in range(2) if is_due(index, 2, 0.33)] == [0, 1]
    assert [index for index in range(count) if is_due(index, count, 2)] == list(range(0, count, 2))


def test_steps_that_are_left_alone_change_nothing():
    latents, noise = torch.randn(2, *SHAPE)
    denoise = lambda z, step: noise + z  # noqa: E731
    none = lambda z, step: None  # noqa: E731
    assert torch.equal(moved_by(none, 0.1)(latents, STEP), latents)
    for wrap in (nudged, evaluated_at):
        assert torch.equal(wrap(denoise, none, 0.1)(latents, STEP), denoise(latents, STEP))


def test_an_edit_of_the_clean_latents_is_what_the_prediction_then_says():
    latents, noise = torch.randn(2, *SHAPE).double()
    denoise = lambda z, step: noise  # noqa: E731
    clean = clean_estimate(latents, noise, STEP)
    edited = clean_edited(denoise, lambda found, step: 0.5 * found + step.index)(latents, STEP)
    assert torch.allclose(clean_estimate(latents, edited, STEP), 0.5 * clean)
    assert clean_edited(denoise, lambda found, step: found)(latents, STEP) is noise
