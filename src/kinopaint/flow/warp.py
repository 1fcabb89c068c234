"""Seeing one frame from another: sampling along the flow, and flow at another resolution."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinopaint.errors import ShapeError

Image = Float[Tensor, "frame channel height width"]


def warp(
    image: Image, flow: Float[Tensor, "frame 2 h w"], *, mode: Literal["bilinear", "nearest"] = "bilinear"
) -> Image:
    """Return `image` seen from another frame: output(p) = image(p + flow(p)).

    `flow` is in pixels of this resolution, x before y. Positions outside the image read as zero; `inside` tells them
    apart from black. Gradients flow through both arguments (with bilinear sampling). Half precision is sampled in fp32
    and rounded at the end: places in it would be off by a quarter of a pixel at a width of 100.
    Raises ShapeError if the sizes differ. Source: spatial transformers, arXiv:1506.02025, sec. 3.3.
    """
    height, width = image.shape[-2:]
    if flow.shape[-2:] != image.shape[-2:] or len(flow) != len(image):
        raise ShapeError(
            f"flow is {_size(flow)} but image is {_size(image)} (frames, width x height)",
            fix="resize the flow with resize_flow, which also scales its vectors",
        )
    precise = torch.promote_types(image.dtype, torch.float32)
    x = _normalised(pixel_columns(flow) + flow[:, 0].to(precise), width)
    y = _normalised(pixel_rows(flow) + flow[:, 1].to(precise), height)
    # align_corners=True: -1 and 1 are the centres of the first and the last pixel, as the division above has it.
    # Without it a zero flow would enlarge the image by W / (W - 1).
    grid = torch.stack((x, y), dim=-1).to(precise)
    seen = F.grid_sample(_two_wide(image.to(precise)), grid, mode=mode, padding_mode="zeros", align_corners=True)
    return seen.to(image.dtype)


def resize_flow(flow: Float[Tensor, "frame 2 h w"], height: int, width: int) -> Float[Tensor, "frame 2 height width"]:
    """The flow at another resolution: resampled (bilinear, antialiased), its vectors scaled along."""
    old_height, old_width = flow.shape[-2:]
    if (old_height, old_width) == (height, width):
        return flow
    resized = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False, antialias=True)
    return resized * resized.new_tensor([width / old_width, height / old_height]).view(1, 2, 1, 1)


def pixel_columns(flow: Float[Tensor, "frame 2 h w"]) -> Float[Tensor, "1 1 w"]:
    """The x coordinate of each column of the flow's grid."""
    return torch.arange(flow.shape[-1], device=flow.device, dtype=torch.float32).view(1, 1, -1)


def pixel_rows(flow: Float[Tensor, "frame 2 h w"]) -> Float[Tensor, "1 h 1"]:
    """The y coordinate of each row of the flow's grid."""
    return torch.arange(flow.shape[-2], device=flow.device, dtype=torch.float32).view(1, -1, 1)


def _normalised(position: Tensor, size: int) -> Tensor:
    """Pixels to [-1, 1], the centres of the first and the last pixel of `_two_wide`."""
    return 2 * position / (max(size, 2) - 1) - 1


def _two_wide(image: Tensor) -> Tensor:
    """The image, with a black row or column after a single one, whose centres would be one and the same."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, int(width == 1), 0, int(height == 1))) if 1 in (height, width) else image


def _size(tensor: Tensor) -> str:
    return f"{len(tensor)}, {tensor.shape[-1]}x{tensor.shape[-2]}"
