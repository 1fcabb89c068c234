"""Frames to CLIP embeddings: the image tower of a model, stock `CLIPVisionModelWithProjection`."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from kinopaint.models.layers import quicken
from kinopaint.types import Frames

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipImages:
    """An image tower with its weights frozen; gradients flow to the frames if those ask for them.

    Frames are squashed to the tower's square, so that tokens of frames of one size lie at the same places; bicubic with
    antialiasing, in fp32.
    """

    def __init__(
        self,
        model: CLIPVisionModelWithProjection,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        module: Any = model
        self.model = module.eval().requires_grad_(False)
        quicken(module)
        self.size: int = module.config.image_size
        self.dim: int = module.config.projection_dim
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))

    def tokens(self, frames: Frames, layer: int = -1) -> Float[Tensor, "frame token dim"]:
        """The class token and the spatial tokens, in fp32: -1 the last layer's, -2 those before it, and so on.

        None of them has gone through the final normalisation.
        """
        if layer == -1:
            states: Tensor = self.model.vision_model(pixel_values=self._pixels(frames)).last_hidden_state
        else:
            seen = self.model.vision_model(pixel_values=self._pixels(frames), output_hidden_states=True)
            states = seen.hidden_states[layer]
        return states.float()

    def embed(self, frames: Frames) -> Float[Tensor, "frame dim"]:
        """The projected embedding of each frame, of unit length, in fp32."""
        return F.normalize(self.model(pixel_values=self._pixels(frames)).image_embeds.float(), dim=-1)

    def _pixels(self, frames: Frames) -> Tensor:
        small = F.interpolate(
            frames.float() / 2 + 0.5, (self.size, self.size), mode="bicubic", antialias=True, align_corners=False
        )
        mean, std = (values.to(small.device) for values in (self.mean, self.std))
        return ((small - mean) / std).to(self.model.device, self.model.dtype)
