"""The parts of a loaded model, as the methods see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.denoiser import Backbone, Text
from kinopaint.engine.load import Load
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

    def encode(self, texts: Sequence[str]) -> list[Text]:
        """What the network is told for each text. Warns with what was cut off if a text is longer than `max_tokens`."""
        ...

    def beyond_limit(self, text: str) -> str:
        """The end of `text` that the encoder cannot see; empty if all of it fits."""
        ...


@runtime_checkable
class Structure(Protocol):
    """What a network sees of the frames in every branch, besides the image slot: depth, edges for a ControlNet."""

    def channels(self, frames: Frames, autoencoder: Autoencoder) -> Float[Tensor, "frame channel h w"] | None:
        """The structure channels of the network at the latents' size; None if it has none."""
        ...

    def hints(self, frames: Frames) -> tuple[Float[Tensor, "frame 3 height width"], ...]:
        """The picture in [0, 1] that each ControlNet follows."""
        ...


@dataclass(frozen=True)
class PicturePrompt:
    """A picture that says in place of words what the result should look like, as tokens; and what says nothing."""

    tokens: Float[Tensor, "token dim"]
    nothing: Float[Tensor, "token dim"]


@runtime_checkable
class ImageEncoder(Protocol):
    """A CLIP-style image tower; differentiable in the frames, which it squashes to `size` × `size` pixels."""

    dim: int
    size: int

    def tokens(self, frames: Frames, layer: int = -1) -> Float[Tensor, "frame token dim"]:
        """The class token, then the spatial ones; `layer` counts hidden states from the end."""
        ...

    def embed(self, frames: Frames) -> Float[Tensor, "frame dim"]:
        """One embedding of unit length for each frame."""
        ...


@runtime_checkable
class Refiner(Protocol):
    """A network against flicker. Frames are in [0, 1] here."""

    guide: str  # what the guides are: "painted" or "source"
    carries_state: bool  # whether the state goes from frame to frame

    def __call__(
        self,
        painted: Frames,
        earlier_output: Frames,
        guide: Frames,
        earlier_guide: Frames,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Frames, tuple[Tensor, Tensor]]:
        """The painted frames, calmer, and the state after them."""
        ...


@dataclass(frozen=True)
class Components:
    """A model, ready to be used: a record without behaviour."""

    backbone: Backbone
    autoencoder: Autoencoder
    text_encoder: TextEncoder
    schedule: NoiseSchedule
    image_encoder: ImageEncoder | None = None  # the folder's `image_encoder`, if it has one
    small_autoencoder: Autoencoder | None = None  # its `vae_small`: a quick decoder for gradients
    refiner: Refiner | None = None  # its `refiner`: a temporal network
    name: str = ""
    path: Path | None = None
    revision: str | None = None  # commit of a hub snapshot
    licence: str | None = None
    kind: str = "instruct-pix2pix"  # what the network sees: see kinopaint.models.kinds
    recommended: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # method name -> field -> value
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    seed: int = 0
    load: Load = field(default_factory=Load)  # how much is computed at once
    structure: Structure | None = None
    picture_prompts: tuple[PicturePrompt, ...] = ()  # one for each image adapter of the backbone
    added: tuple[Mapping[str, Any], ...] = ()  # what was put on the model (LoRA, ControlNet, …), for the recipe
    additions: Any = None  # the same as it was asked for, to load the model again
