"""Between 8-bit pictures and the tensors that models work with."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from kinopaint.types import Frame, Frames


def to_tensor(picture: UInt8[np.ndarray, "height width 3"]) -> Frame:
    """An RGB picture as a tensor in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 127.5 - 1


def to_pictures(frames: Frames) -> UInt8[np.ndarray, "frame height width 3"]:
    """Frames as 8-bit RGB pictures, clipped to [-1, 1] and rounded; they must be finite."""
    pictures = ((frames.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pictures.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def padded(frames: Float[Tensor, "*frame channel height width"], multiple: int) -> Float[Tensor, "*frame channel h w"]:
    """Frames extended at the right and the bottom, by repeating the border, until both sides are multiples."""
    height, width = frames.shape[-2:]
    right, bottom = -width % multiple, -height % multiple
    if not (right or bottom):
        return frames
    flat = frames.reshape(-1, *frames.shape[-3:])
    return F.pad(flat, (0, right, 0, bottom), mode="replicate").reshape(
        *frames.shape[:-2], height + bottom, width + right
    )


def picture_processor(name: str) -> Any:
    """The class of transformers that prepares pictures with Pillow; the plain name wants torchvision now."""
    import transformers

    return getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)
