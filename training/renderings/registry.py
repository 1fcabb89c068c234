"""The door to the media, `render`, and what their files share."""

from collections.abc import Callable
from typing import Any

import numpy as np

from training.renderings.blocks import Array, Noise, Source, level, to_lab, to_rgb

Draw = Any  # a numpy generator, or Typical
Medium = Callable[[Source, Draw, dict[str, list[Array]]], Array]
MEDIA: dict[str, Medium] = {}


def medium(name: str) -> Callable[[Medium], Medium]:
    def register(function: Medium) -> Medium:
        MEDIA[name] = function
        return function

    return register


class Typical:
    """In place of a generator: every draw is the middle of its range."""

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2

    def random(self) -> float:
        return 0.5

    def integers(self, end: int) -> int:
        return end // 2


def render(rgb: Array, name: str, seed: int, paintings: dict[str, list[Array]], *, typical: bool = False) -> Array:
    """Return `rgb` (float32 in [0, 1]) in the medium `name`; the same arguments give the same pixels.

    `typical`: the medium's parameters at the middle of their ranges; grain and strokes still follow `seed`.
    """
    source = Source(level(rgb), Noise(seed, rgb.shape[:2]))
    draw = Typical() if typical else source.noise.generator("draws-" + name)
    return np.clip(MEDIA[name](source, draw, paintings), 0, 1).astype(np.float32)


def mix(a: Array, b: Array, weight: Array | float) -> Array:
    if isinstance(weight, np.ndarray) and weight.ndim == 2:
        weight = weight[..., None]
    return a * (1 - weight) + b * weight


def colour(*rgb: float) -> Array:
    return np.array(rgb, np.float32)


def adjusted(rgb: Array, chroma: float = 1.0, low: float = 0.0, high: float = 100.0, power: float = 1.0) -> Array:
    lab = to_lab(rgb)
    lab[..., 0] = low + (high - low) * (lab[..., 0] / 100) ** power
    lab[..., 1:] *= chroma
    return to_rgb(lab)
