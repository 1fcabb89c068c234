"""Between frames and latents: diffusers' `AutoencoderKL` and `AutoencoderTiny` behind one protocol."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from jaxtyping import Float
from torch import Tensor

from kinopaint.errors import ShapeError
from kinopaint.models.layers import quicken
from kinopaint.models.tiles import in_tiles
from kinopaint.types import Frames


class DiffusersAutoencoder:
    """An autoencoder with its weights frozen; `batch` frames are encoded or decoded at a time.

    *Raw* latents are the network's own; *scaled* ones, (raw - shift) * scale, are what is denoised. `scale` is that of
    the autoencoder for which this one stands in, where that is another: raw latents are then as its would be.
    """

    def __init__(self, network: AutoencoderKL | AutoencoderTiny, *, batch: int = 4, scale: float | None = None) -> None:
        module: Any = network
        self.network = module.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        quicken(module)
        self.batch, self.tile = batch, 0
        config = module.config
        self.is_tiny = isinstance(network, AutoencoderTiny)
        self.latent_channels: int = config.latent_channels
        blocks = config.encoder_block_out_channels if self.is_tiny else config.block_out_channels
        self.factor: int = 2 ** (len(blocks) - 1)
        self.scale = float(config.scaling_factor if scale is None else scale)
        self._gain = float(config.scaling_factor) / self.scale  # of the network's latents over the raw ones
        self.shift = float(config.get("shift_factor") or 0.0)

    def sized(self, frames: int, tile: int = 0) -> "DiffusersAutoencoder":
        """This autoencoder with so many frames at a time, in tiles of so many pixels a side (0: whole frames)."""
        twin = copy.copy(self)
        twin.batch, twin.tile = frames, tile
        return twin

    def encode(self, frames: Frames) -> Float[Tensor, "frame channel latent_height latent_width"]:
        """Raw latents in fp32: the mode of the posterior, not scaled.

        Raises ShapeError if a side of `frames` is not a multiple of `factor`.
        """
        height, width = frames.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ShapeError(
                f"frames are {width}x{height}; both sides must be multiples of {self.factor}",
                fix="pad the frames and crop the result",
            )
        return torch.cat([self._in_tiles(self._encode, part, self.tile, self.factor) for part in self._parts(frames)])

    def _encode(self, frames: Tensor) -> Tensor:
        result = self.network.encode(frames)
        raw: Tensor = result.latents if self.is_tiny else result.latent_dist.mode()
        return raw.float() * self._gain

    def scaled(self, raw: Float[Tensor, "*axes height width"]) -> Float[Tensor, "*axes height width"]:
        """Raw latents at the scale at which they are denoised."""
        return (raw - self.shift) * self.scale

    def decode(self, latents: Float[Tensor, "frame channel latent_height latent_width"]) -> Frames:
        """Frames of *scaled* latents, in fp32; values may leave [-1, 1] a little."""
        raw = (latents / self.scale + self.shift) / self._gain
        return torch.cat([self._in_tiles(self._decode, part, self.tile // self.factor) for part in self._parts(raw)])

    def _decode(self, raw: Tensor) -> Tensor:
        decoded: Tensor = self.network.decode(raw, return_dict=False)[0]
        return decoded.float()

    def _in_tiles(self, work: Callable[[Tensor], Tensor], part: Tensor, tile: int, every: int = 1) -> Tensor:
        return in_tiles(work, part, tile, every) if tile else work(part)

    def _parts(self, tensor: Tensor) -> list[Tensor]:
        moved = tensor.to(self.network.device, self.network.dtype).contiguous(memory_format=torch.channels_last)
        return list(torch.split(moved, self.batch))
