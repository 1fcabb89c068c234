"""Adaptive instance normalisation (Huang and Belongie, arXiv:1703.06868): the mean and spread of another map."""

from jaxtyping import Float
from torch import Tensor

_SMALLEST = 1e-5  # variance that counts as none; keeps flat channels finite

Maps = Float[Tensor, "*axes channel height width"]


def adain(content: Maps, style: Float[Tensor, "*#axes channel h w"]) -> Maps:
    """`content` with, in each channel, the mean and deviation of `style`; axes of length 1 of `style` stand for all.

    Variances are unbiased, but for maps of one cell, which have none. `adain(x, x)` is x up to rounding.
    """
    mean, deviation = statistics(content)
    wanted_mean, wanted_deviation = statistics(style)
    return (content - mean) / deviation * wanted_deviation + wanted_mean


def statistics(
    maps: Maps,
) -> tuple[Float[Tensor, "*axes channel 1 1"], Float[Tensor, "*axes channel 1 1"]]:
    """Mean and deviation of each channel over its cells, in fp32."""
    cells = maps.shape[-2] * maps.shape[-1]
    spread = maps.float().var((-2, -1), keepdim=True, correction=1 if cells > 1 else 0)
    return maps.float().mean((-2, -1), keepdim=True), (spread + _SMALLEST).sqrt()
