"""Corrections of a prediction: along the gradient of a loss on the clean latents, or by an edit of these.

A gradient is a function of (latents, step), like a denoiser; `None` means that this step is left alone. It acts in one
of three places: on the state before the step (`moved_by`, a latent hook), on the prediction (`nudged`), or only on
where the prediction is made (`evaluated_at`); the last two wrap a denoiser.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.denoiser import Denoiser
from kinopaint.engine.samplers import LatentHook, clean_estimate
from kinopaint.engine.schedule import Step
from kinopaint.types import Latents

Loss = Callable[[Tensor, slice], Tensor]  # clean latents of some frames, and which these are -> a number for each
Gradient = Callable[[Tensor, Step], Tensor | None]
CleanEdit = Callable[[Tensor, Step], Tensor]  # clean latents as predicted -> as they should be
_RAISED = 2.0**10  # what losses are multiplied by on their way back: float16 rounds slopes below 3e-8 to zero


def gradient_of(loss: Loss, pilot: Denoiser, *, through_network: bool = False, frames: int = 4) -> Gradient:
    """The gradient of `loss` on the clean latents that `pilot` predicts, with respect to the noisy ones.

    The losses of the frames are summed, which keeps their gradients apart. With `through_network` False the prediction
    counts as a constant, so that the clean latents move by 1 / alpha, and so many `frames` go back at once; True is the
    written gradient and costs a backward pass of all frames through the network. Works inside `torch.no_grad`.
    """

    def slope(latents: Latents, clean_of: Callable[[Tensor], Tensor], which: slice) -> Latents:
        with torch.enable_grad():
            moving = latents.detach().requires_grad_()
            losses = loss(clean_of(moving), which)
            (found,) = torch.autograd.grad(losses.sum() * _RAISED, moving)
        return found / _RAISED

    def gradient(latents: Latents, step: Step) -> Latents:
        if through_network:
            return slope(latents, lambda moving: clean_estimate(moving, pilot(moving, step), step), slice(None))
        with torch.no_grad():
            noise = pilot(latents, step)
        parts = [slice(first, first + frames) for first in range(0, len(latents), frames)]
        return torch.cat([slope(latents[p], partial(clean_estimate, noise=noise[p], step=step), p) for p in parts])

    return gradient


def is_due(index: int, count: int, every: float) -> bool:
    """Whether what happens on every `every`-th step happens on step `index` of `count`; from the first on.

    Below 1, `every` is a share of the steps: 0.25 is four times in any number of steps from four on.
    """
    if every >= 1:
        return index % every == 0
    return index == 0 or int(index / count / every) > int((index - 1) / count / every)


def during(gradient: Gradient, high: float, low: float, every: float, train_steps: int) -> Gradient:
    """`gradient` while low <= timestep / train_steps <= high, on the steps where it `is_due`; None otherwise."""

    def gated(latents: Latents, step: Step) -> Latents | None:
        due = step.between(high, low, train_steps) and is_due(step.index, step.count, every)
        return gradient(latents, step) if due else None

    return gated


def shift(
    gradient: Float[Tensor, "frame channel height width"], step: Step, strength: float, *, normalise: bool = True
) -> Float[Tensor, "frame channel height width"]:
    """The way to go: strength * sigma * gradient, which with `normalise` has root mean square 1 in each frame."""
    found = gradient
    if normalise:
        found = found / (found.square().mean((-3, -2, -1), keepdim=True).sqrt() + 1e-12)
    return strength * step.sigma * found


def moved_by(gradient: Gradient, strength: float, *, normalise: bool = True) -> LatentHook:
    """A hook for before the step: latents - shift. The prediction and the sampler's move both start from there."""

    def move(latents: Tensor, step: Step) -> Tensor:
        found = gradient(latents, step)
        return latents if found is None else latents - shift(found, step, strength, normalise=normalise)

    return move


def nudged(denoise: Denoiser, gradient: Gradient, strength: float, *, normalise: bool = True) -> Denoiser:
    """noise + shift, the form of classifier guidance (arXiv:2105.05233, algorithm 2)."""

    def act(latents: Latents, step: Step) -> Latents:
        found = gradient(latents, step)
        noise = denoise(latents, step)
        return noise if found is None else noise + shift(found, step, strength, normalise=normalise)

    return act


def evaluated_at(denoise: Denoiser, gradient: Gradient, strength: float, *, normalise: bool = True) -> Denoiser:
    """The prediction made at latents - shift, for a move that starts from the unmoved latents.

    This is Style-A-Video's algorithm 1 as printed. The clean estimate of such a move is D(z - δ) + δ / alpha, which for
    a good denoiser D goes *up* the loss; it is here to reproduce, not to use.
    """

    def act(latents: Latents, step: Step) -> Latents:
        found = gradient(latents, step)
        return denoise(latents if found is None else latents - shift(found, step, strength, normalise=normalise), step)

    return act


def clean_edited(denoise: Denoiser, edit: CleanEdit) -> Denoiser:
    """The noise that says that the clean latents are what `edit` made of them; an edit that returns what it got costs
    nothing.
    """

    def act(latents: Latents, step: Step) -> Latents:
        noise = denoise(latents, step)
        clean = clean_estimate(latents, noise, step)
        edited = edit(clean, step)
        return noise if edited is clean else (latents - step.alpha * edited) / step.sigma

    return act


class CleanEstimate:
    """The clean latents that the latest prediction sees, for hooks that act after the step."""

    latest: Tensor

    def watching(self, denoise: Denoiser) -> Denoiser:
        """`denoise` as it is, looked over the shoulder."""

        def look(latents: Latents, step: Step) -> Latents:
            noise = denoise(latents, step)
            self.latest = clean_estimate(latents, noise, step)
            return noise

        return look
