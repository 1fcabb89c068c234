"""What the CLIP-type scores ask: pictures and words as unit vectors of one space."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class PictureEmbeddings:
    """`pooled` has unit length; `tokens` are the states of the last layer, one for each patch."""

    pooled: Float[Tensor, "picture dim"]
    tokens: Float[Tensor, "picture token state"]


@runtime_checkable
class PairEncoder(Protocol):
    """A picture encoder and a text encoder that were trained together."""

    name: str
    own: bool  # the embedded model's pair, whose scores are comparable only among themselves

    def embed_pictures(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> PictureEmbeddings: ...

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "text dim"]:
        """Unit vectors. Warns with the words that were cut off if a text is too long."""
        ...
