"""The Gaussian blur."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def blurred(image: Float[Tensor, "frame channel height width"], sigma: float) -> Tensor:
    """A Gaussian of deviation `sigma` pixels, borders repeated."""
    reach = int(3 * sigma)
    taps = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (taps / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, 1, -1)
    wide = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(wide, kernel, groups=image.shape[1])
    return F.conv2d(rows, kernel.transpose(-1, -2), groups=image.shape[1])
