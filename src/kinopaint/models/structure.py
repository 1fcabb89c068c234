"""What a network sees of the frames in every branch: depth, the place to paint, the pictures of its ControlNets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.components import Autoencoder
from kinopaint.models.controlnet import Control, hints_of
from kinopaint.models.pixels import picture_processor, to_pictures
from kinopaint.models.weights import read_json
from kinopaint.types import Frames


class DepthEstimator:
    """The depth estimator of a Depth2Img checkpoint, and what prepares pictures for it."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model.eval().requires_grad_(False), processor

    def __call__(self, frames: Frames, height: int, width: int) -> Float[Tensor, "frame 1 rows columns"]:
        """Depth of each frame at `height` x `width` cells; the nearest point is at 1, the farthest at -1."""
        pixels = self.processor(images=list(to_pictures(frames)), return_tensors="pt").pixel_values
        with torch.no_grad():
            depth = self.model(pixels.to(self.model.device, self.model.dtype)).predicted_depth.float()
        depth = F.interpolate(depth[:, None], size=(height, width), mode="bicubic", align_corners=False)
        low, high = depth.amin((1, 2, 3), keepdim=True), depth.amax((1, 2, 3), keepdim=True)
        return 2 * (depth - low) / (high - low).clamp_min(1e-12) - 1


def read_depth_processor(folder: Path) -> Any:
    """What prepares pictures for a depth estimator. Raises ModelError KP-MODEL-PART."""
    read_json(folder / "preprocessor_config.json")
    return picture_processor("DPTImageProcessor").from_pretrained(str(folder), local_files_only=True)


@dataclass(frozen=True)
class FrameStructure:
    """`depth` or `paints_over` (an inpainting network: everything is painted over) fill the structure channels."""

    controls: Sequence[Control] = ()
    depth: DepthEstimator | None = None
    paints_over: bool = False

    def channels(
        self, frames: Frames, autoencoder: Autoencoder
    ) -> Float[Tensor, "frame channel latent_height latent_width"] | None:
        height, width = frames.shape[-2] // autoencoder.factor, frames.shape[-1] // autoencoder.factor
        if self.depth:
            return self.depth(frames, height, width).to(frames.device)
        if self.paints_over:  # the mask, and the latents of a frame of which nothing is left
            hidden = autoencoder.scaled(autoencoder.encode(torch.zeros_like(frames[:1])))
            return torch.cat([torch.ones_like(hidden[:, :1]), hidden], 1).expand(len(frames), -1, -1, -1)
        return None

    def hints(self, frames: Frames) -> tuple[Float[Tensor, "frame 3 height width"], ...]:
        return hints_of(self.controls, frames)
