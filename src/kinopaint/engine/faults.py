"""Results that must never be delivered: values that are not finite, one colour where the source has many."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinopaint.engine.components import Autoencoder
from kinopaint.types import Frames

LEVEL = 2 / 255  # one of 255 grey levels, in [-1, 1]
FLAT = 1.0  # a result is flat below this spread in grey levels: black, white, or any one colour
LIVELY = 8.0  # a source is not, above this one; in between, as in a fade, a flat result may be right


@dataclass(frozen=True)
class Fault:
    """What is wrong with a result: a stable code, a sentence, and the places of the frames in the window."""

    code: str
    what: str
    places: tuple[int, ...]


def find_fault(painted: Frames, source: Frames, *, latents_finite: bool = True) -> Fault | None:
    """What is wrong with `painted`, frames made from `source`; both in [-1, 1].

    `latents_finite`: whether what was decoded was finite; some decoders turn infinity into a picture.
    """
    broken = ~painted.isfinite().flatten(1).all(1)
    if broken.any() or not latents_finite:
        places = _places(broken) or tuple(range(len(painted)))
        return Fault("KP-RESULT-NONFINITE", "the model gives values that are not finite numbers", places)
    flat = (_spread(painted) < FLAT) & (_spread(source).to(painted.device) > LIVELY)
    if flat.any():
        return Fault(
            "KP-RESULT-FLAT", "the result is black or of a single colour, and the source is not", _places(flat)
        )
    return None


def _spread(frames: Frames) -> Float[Tensor, " frame"]:
    """Standard deviation over a frame, in grey levels as they would be written, of its liveliest channel."""
    return frames.float().clamp(-1, 1).flatten(2).std(-1, correction=0).amax(1) / LEVEL


def _places(chosen: Bool[Tensor, " frame"]) -> tuple[int, ...]:
    return tuple(int(place) for place in chosen.nonzero().flatten())


class WatchedAutoencoder:
    """An autoencoder that remembers in `finite` whether all latents given to `decode` were finite numbers."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.autoencoder, self.finite = autoencoder, True
        self.factor, self.latent_channels = autoencoder.factor, autoencoder.latent_channels

    def encode(self, frames: Frames) -> Float[Tensor, "frame channel latent_height latent_width"]:
        return self.autoencoder.encode(frames)

    def scaled(self, raw: Float[Tensor, "*axes height width"]) -> Float[Tensor, "*axes height width"]:
        return self.autoencoder.scaled(raw)

    def decode(self, latents: Float[Tensor, "frame channel latent_height latent_width"]) -> Frames:
        self.finite = self.finite and bool(torch.isfinite(latents).all())
        return self.autoencoder.decode(latents)
