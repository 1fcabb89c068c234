"""Procedural renderings of a photograph in 36 media: `render(rgb, medium, seed, paintings)`."""

from training.renderings import graphic, media, painterly  # noqa: F401  (each registers its media)
from training.renderings.registry import MEDIA, render

__all__ = ["MEDIA", "render"]
