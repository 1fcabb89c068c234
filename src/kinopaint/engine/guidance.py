"""Guidance: one noise prediction as a weighted sum of conditions, all evaluated in one call of the network.

Classifier-free guidance is the case of two terms, InstructPix2Pix and Style-A-Video are cases of three and four.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.denoiser import Backbone, Condition, Denoiser
from kinopaint.engine.interventions import FeatureHook, Intervention
from kinopaint.engine.schedule import Step
from kinopaint.errors import SettingsError
from kinopaint.types import Latents

Term = tuple[float, Condition]
Predictions = Float[Tensor, "term frame channel height width"]
_NOTHING = 1e-9  # a weight this small is rounding: its branch is not evaluated


def needed(terms: Sequence[Term]) -> list[Term]:
    """The terms whose weight is not zero. Raises SettingsError (KP-SETTING-GUIDANCE) unless the weights sum to 1."""
    total = sum(weight for weight, _ in terms)
    if abs(total - 1) > 1e-5 * max(1.0, *(abs(weight) for weight, _ in terms)):
        raise SettingsError(
            "KP-SETTING-GUIDANCE",
            f"the weights of the conditions sum to {total}, not 1",
            where=", ".join(condition.branch for _, condition in terms),
            fix="give the first condition one minus the others",
        )
    return [term for term in terms if abs(term[0]) > _NOTHING]


def combine(
    weights: Sequence[float],
    predictions: Predictions,
) -> Float[Tensor, "frame channel height width"]:
    """Σ weight · prediction for weights that sum to 1, as the first prediction plus weighted directions away from it.

    The direction form keeps equal predictions equal whatever the weights; a plain sum in finite precision does not.
    """
    base = predictions[0].float()
    result = base
    for weight, prediction in zip(weights[1:], predictions[1:], strict=True):
        result = result + weight * (prediction.float() - base)
    return result


def weighted(
    backbone: Backbone,
    terms: Sequence[Term],
    *,
    interventions: Sequence[Intervention] = (),
    features: Sequence[FeatureHook] = (),
) -> Denoiser:
    """The denoiser Σ weight · prediction(condition); the weights sum to 1, and those that are 0 cost nothing."""
    kept = needed(terms)
    weights, conditions = [weight for weight, _ in kept], [condition for _, condition in kept]

    def denoise(latents: Latents, step: Step) -> Latents:
        predictions = backbone.predict(latents, step, conditions, interventions=interventions, features=features)
        return combine(weights, predictions)

    return denoise


def classifier_free_terms(nothing: Condition, content: Condition, guidance_scale: float) -> list[Term]:
    """Classifier-free guidance (arXiv:2207.12598): away from `nothing`, through `content`, by `guidance_scale`."""
    return needed([(1 - guidance_scale, nothing), (guidance_scale, content)])


def classifier_free(
    backbone: Backbone,
    nothing: Condition,
    content: Condition,
    guidance_scale: float,
    *,
    interventions: Sequence[Intervention] = (),
) -> Denoiser:
    """The denoiser of `classifier_free_terms`."""
    terms = classifier_free_terms(nothing, content, guidance_scale)
    return weighted(backbone, terms, interventions=interventions)


def limited(noise: Latents, move: Latents, step: Step, limit: float) -> Latents:
    """`noise`, in which `move` (what large weights add) is held back: well below `limit` it counts in full, far
    beyond with the logarithm of its size only.

    Its size is how far it moves the clean estimate of each frame (root mean square, in latents), which at high noise is
    many times what it is in `noise`. Adaptive projected guidance (arXiv:2410.02416) cuts it off at the limit, where
    larger weights change nothing any more.
    """
    size = move.float().square().mean((-3, -2, -1), keepdim=True).sqrt() * (step.sigma / step.alpha / limit)
    size = size.clamp_min(1e-6)
    return noise + (size.log1p() / size - 1) * move


def rescaled(noise: Latents, reference: Latents, share: float) -> Latents:
    """`noise` with its spread in each frame moved by `share` of the way to that of `reference`: against over-exposure
    at large weights (arXiv:2305.08891, sec. 3.4).
    """
    axes = (-3, -2, -1)
    factor = reference.float().std(axes, keepdim=True) / noise.std(axes, keepdim=True).clamp_min(1e-12)
    return noise * torch.lerp(torch.ones_like(factor), factor, share)
