"""The parts of a loaded model, as the methods see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.denoiser import Backbone
from kinopaint.engine.schedule import NoiseSchedule
from kinopaint.types import Frames


@runtime_checkable
class Autoencoder(Protocol):
    """Between frames and latents. *Raw* latents are the network's own, *scaled* ones are what is denoised."""

    factor: int  # pixels per latent cell, each way
    latent_channels: int

    def encode(self, frames: Frames) -> Float[Tensor, "frame channel latent_height latent_width"]:
        """Raw latents: the mode of the posterior, not scaled. Sides must be multiples of `factor`."""
        ...

    def scaled(self, raw: Float[Tensor, "*axes height width"]) -> Float[Tensor, "*axes height width"]:
        """Raw latents at the scale at which they are denoised."""
        ...

    def decode(self, latents: Float[Tensor, "frame channel latent_height latent_width"]) -> Frames:
        """Frames of *scaled* latents; values may leave [-1, 1] a little."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    dim: int
    max_tokens: int

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "text token dim"]:
        """The states of each text. Warns with what was cut off if a text is longer than `max_tokens`."""
        ...

    def beyond_limit(self, text: str) -> str:
        """The end of `text` that the encoder cannot see; empty if all of it fits."""
        ...


@dataclass(frozen=True)
class Components:
    """A model, ready to be used: a record without behaviour."""

    backbone: Backbone
    autoencoder: Autoencoder
    text_encoder: TextEncoder
    schedule: NoiseSchedule
    name: str = ""
    path: Path | None = None
    revision: str | None = None  # commit of a hub snapshot
    licence: str | None = None
    recommended: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # method name -> field -> value
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    seed: int = 0
