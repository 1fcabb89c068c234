"""A cheaper decoder for something that looks at small pictures: latents are reduced before they are decoded."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinopaint.types import Frames


def reduced_decoder(
    decode: Callable[[Tensor], Tensor], cells: int
) -> Callable[[Float[Tensor, "frame channel h w"]], Frames]:
    """`decode` on latents squashed to at most `cells` on each side, bilinear with antialiasing. Differentiable.

    A CLIP tower squashes what it is shown to its own square anyway; for a picture of 512x256 and a tower of 224 pixels
    the decoder has 2.6 times less to do.
    """

    def decoded(latents: Tensor) -> Tensor:
        size = (min(latents.shape[-2], cells), min(latents.shape[-1], cells))
        return decode(F.interpolate(latents, size, mode="bilinear", antialias=True))

    return decoded
