"""Samplers: plain loops over the steps of a schedule, and the pure moves that they are made of."""

import math
from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.denoiser import Denoiser
from kinopaint.engine.schedule import Step
from kinopaint.types import Latents

FreshNoise = Float[Tensor, "*#branch #frame channel height width"]  # one frame may stand for all
LatentHook = Callable[[Tensor, Step], Tensor]  # before or after a step; one that only watches returns what it got
Sampler = Callable[[Denoiser, Tensor, Sequence[Step], Sequence[LatentHook], Sequence[LatentHook]], Tensor]


def clean_estimate(latents: Latents, noise: Latents, step: Step) -> Latents:
    """The clean latents that `noise` says lie under `latents`: (latents - sigma * noise) / alpha."""
    return (latents - step.sigma * noise) / step.alpha


def noised(clean: Latents, noise: Float[Tensor, "*#branch #frame channel height width"], step: Step) -> Latents:
    """Clean latents at the noise level where `step` starts; `noise` may hold one frame for all."""
    return step.alpha * clean + step.sigma * noise


def noise_in(latents: Latents, clean: Latents, step: Step) -> Latents:
    """The noise that `noised` has put on `clean` to make `latents`, where `step` starts."""
    return (latents - step.alpha * clean) / step.sigma


def ddim_step(latents: Latents, noise: Latents, step: Step) -> Latents:
    """The deterministic DDIM move (arXiv:2010.02502, eq. 12 with sigma_t = 0)."""
    return step.next_alpha * clean_estimate(latents, noise, step) + step.next_sigma * noise


def ddpm_step(latents: Latents, noise: Latents, step: Step, fresh: FreshNoise | None = None) -> Latents:
    """The ancestral DDPM move (arXiv:2006.11239, algorithm 2) between the two ends of `step`.

    `fresh` is the standard normal noise that it adds; None gives the mean. The ratio alpha / next_alpha is sqrt(α_t)
    of the respaced schedule; Style-A-Video prints sqrt(ᾱ_t) in its place, which is not the posterior mean.
    """
    ratio = step.alpha / step.next_alpha
    mean = (latents - (1 - ratio**2) / step.sigma * noise) / ratio
    if fresh is None:
        return mean
    spread: float = (step.next_sigma / step.sigma) * (1 - ratio**2) ** 0.5
    return mean + spread * fresh


def euler_ancestral_step(latents: Latents, noise: Latents, step: Step, fresh: FreshNoise) -> Latents:
    """The ancestral Euler move of k-diffusion (arXiv:2206.00364, sec. 4), in variance-preserving units.

    It lives on latents / alpha at noise levels sigma / alpha: down to a level below the next one, then up by `fresh`.
    """
    here, there = step.sigma / step.alpha, step.next_sigma / step.next_alpha
    up: float = (there**2 * (here**2 - there**2)) ** 0.5 / here
    down: float = (there**2 - up**2) ** 0.5
    return step.next_alpha * (latents / step.alpha + (down - here) * noise + up * fresh)


def sample_ddim(
    denoise: Denoiser,
    latents: Latents,
    steps: Sequence[Step],
    before: Sequence[LatentHook] = (),
    after: Sequence[LatentHook] = (),
) -> Latents:
    """Follow `steps` with DDIM; hooks act on the latents before and after each step, left to right."""
    for step in steps:
        for hook in before:
            latents = hook(latents, step)
        latents = ddim_step(latents, denoise(latents, step), step)
        for hook in after:
            latents = hook(latents, step)
    return latents


def sample_euler(
    denoise: Denoiser,
    latents: Latents,
    steps: Sequence[Step],
    before: Sequence[LatentHook] = (),
    after: Sequence[LatentHook] = (),
) -> Latents:
    """Euler's method for the probability-flow ODE (arXiv:2206.00364, algorithm 1 without churn).

    In variance-preserving units its move is that of DDIM; what makes it diffusers' Euler are the schedule's
    `listed_steps`, each of which ends where the next one starts.
    """
    return sample_ddim(denoise, latents, steps, before, after)


def sample_dpmpp_2m(
    denoise: Denoiser,
    latents: Latents,
    steps: Sequence[Step],
    before: Sequence[LatentHook] = (),
    after: Sequence[LatentHook] = (),
) -> Latents:
    """DPM-Solver++(2M) (arXiv:2211.01095, algorithm 2) on `listed_steps`: second order from the clean estimates of two
    steps, first order in the first and in the last one. Good for 8 to 20 steps.
    """
    earlier: tuple[float, Latents] | None = None  # the step before: log(alpha / sigma) where it began, clean estimate
    for step in steps:
        for hook in before:
            latents = hook(latents, step)
        clean = clean_estimate(latents, denoise(latents, step), step)
        here, direction, shrink = math.log(step.alpha / step.sigma), clean, 0.0
        if step.next_sigma > 0:
            there = math.log(step.next_alpha / step.next_sigma)
            shrink = math.exp(here - there)
            if earlier is not None and earlier[0] < here:
                direction = clean + (there - here) / (2 * (here - earlier[0])) * (clean - earlier[1])
        earlier = here, clean
        latents = step.next_sigma / step.sigma * latents + step.next_alpha * (1 - shrink) * direction
        for hook in after:
            latents = hook(latents, step)
    return latents


def sample_ancestral(
    move: Callable[[Tensor, Tensor, Step, Tensor], Tensor],
    fresh: Sequence[Tensor],
    denoise: Denoiser,
    latents: Latents,
    steps: Sequence[Step],
    before: Sequence[LatentHook] = (),
    after: Sequence[LatentHook] = (),
) -> Latents:
    """Follow `steps` with a move that adds noise, `ddpm_step` or `euler_ancestral_step`.

    `fresh` holds the noise of each step, by the step's index: given from outside, so that all frames can share it.
    """
    for step in steps:
        for hook in before:
            latents = hook(latents, step)
        latents = move(latents, denoise(latents, step), step, fresh[step.index])
        for hook in after:
            latents = hook(latents, step)
    return latents
