"""Self-attention guidance (Hong et al., arXiv:2210.00939): away from a prediction that lost what attention looks at."""

from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.blur import blurred as gaussian
from kinopaint.engine.samplers import clean_estimate, noised
from kinopaint.engine.schedule import Step
from kinopaint.errors import ShapeError
from kinopaint.types import Latents, Mask

KERNEL, SIGMA = 9, 1.0  # in latent cells, as in diffusers; the paper blurs pixels with 31 taps


def blurred(latents: Float[Tensor, "frame channel height width"]) -> Float[Tensor, "frame channel height width"]:
    """Each channel under a Gaussian of 9 x 9 cells, deviation 1, borders reflected.

    Raises ShapeError if a side has less than 5 cells, which is what a reflection needs.
    """
    reach = KERNEL // 2
    if min(latents.shape[-2:]) <= reach:
        raise ShapeError(
            f"latents of {latents.shape[-1]}x{latents.shape[-2]} cells are too small to be blurred",
            fix=f"at least {reach + 1} cells each way; use another mask_mode or a larger work size",
        )
    return gaussian(latents, SIGMA, reach=reach, border="reflect")


def degraded(latents: Latents, noise: Latents, mask: Mask, step: Step) -> Latents:
    """`latents` whose clean estimate is blurred where `mask` is 1, under the same `noise` again."""
    clean = clean_estimate(latents, noise, step)
    return noised(mask * blurred(clean) + (1 - mask) * clean, noise, step)
