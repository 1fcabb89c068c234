"""The Gaussian blur."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def blurred(
    image: Float[Tensor, "frame channel height width"], sigma: float, *, reach: int = 0, border: str = "replicate"
) -> Tensor:
    """A Gaussian of deviation `sigma` pixels, out to `reach` (0: three deviations); `border` is a mode of padding."""
    reach = reach or int(3 * sigma)
    taps = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (taps / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, 1, -1)
    wide = F.pad(image, (reach, reach, reach, reach), mode=border)
    rows = F.conv2d(wide, kernel, groups=image.shape[1])
    return F.conv2d(rows, kernel.transpose(-1, -2), groups=image.shape[1])
