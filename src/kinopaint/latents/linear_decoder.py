"""The cheapest decoder: the colour of a cell as an affine function of its channels, fitted to known frames."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinopaint.types import Frames

RIDGE = 1e-3  # of the cells' number; keeps the fit of frames with few cells or dead channels tame


def linear_decoder(
    clean: Float[Tensor, "frame channel h w"], frames: Frames
) -> Callable[[Float[Tensor, "frame channel h w"], slice], Frames]:
    """A function from latents, and which frames they are of, to small frames, one pixel per cell, made by least squares
    from `clean` and its `frames`.

    Each frame has a fit of its own, so that a frame's result does not depend on its neighbours. Differentiable.
    """
    colours = (
        F.adaptive_avg_pool2d(frames.float(), (clean.shape[-2], clean.shape[-1])).flatten(2).transpose(1, 2)
    )  # frame cell 3

    def with_one(latents: Tensor) -> Tensor:  # frame cell channel+1
        cells = latents.float().flatten(2).transpose(1, 2)
        return torch.cat([cells, torch.ones_like(cells[..., :1])], dim=-1)

    cells = with_one(clean)
    gram = cells.transpose(1, 2) @ cells
    ridge = RIDGE * cells.shape[1] * torch.eye(gram.shape[-1], device=gram.device)
    weights = torch.linalg.solve(gram + ridge, cells.transpose(1, 2) @ colours)  # frame channel+1 3

    def decode(latents: Tensor, which: slice) -> Tensor:
        pixels: Tensor = with_one(latents) @ weights[which]
        return pixels.transpose(1, 2).reshape(len(latents), 3, *latents.shape[-2:])

    return decode
