"""How far the content of predicted frames is from that of given ones, seen by a CLIP image tower.

Style-A-Video's loss 1 - cos on the spatial tokens of the deepest layer; also the pooled embedding, and Text2LIVE's
self-similarity of tokens (arXiv:2204.02491, sec. 3.2). All are 0 for equal frames and differentiable.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.components import ImageEncoder
from kinopaint.engine.corrections import Loss
from kinopaint.types import Frames

Decode = Callable[[Tensor, slice], Frames]  # latents of some frames, and which these are
PerFrame = Float[Tensor, "frame"]
Tokens = Float[Tensor, "frame token dim"]


def token_distance(one: Tokens, other: Tokens) -> PerFrame:
    """1 - the mean over tokens of their cosine; from 0 to 2, symmetric, blind to the tokens' lengths."""
    return 1 - F.cosine_similarity(one, other, dim=-1).mean(-1)


def self_similarity_distance(one: Tokens, other: Tokens) -> PerFrame:
    """Mean squared difference of the two tables of cosines between a frame's own tokens; from 0 to 4."""
    tables = [unit @ unit.transpose(-1, -2) for unit in (F.normalize(one, dim=-1), F.normalize(other, dim=-1))]
    return (tables[0] - tables[1]).square().mean((-2, -1))


DISTANCES: dict[str, Callable[[ImageEncoder, Tensor, int], Tensor]] = {
    "tokens": lambda encoder, frames, layer: encoder.tokens(frames, layer)[:, 1:],
    "pooled": lambda encoder, frames, layer: encoder.embed(frames)[:, None],
    "self_similarity": lambda encoder, frames, layer: encoder.tokens(frames, layer),
}


def clip_distance(encoder: ImageEncoder, decode: Decode, source: Frames, *, features: str, layer: int = -1) -> Loss:
    """The loss of clean latents: the distance of `decode(latents, which)` from `source`, for each frame of `which`.

    `features` is a key of DISTANCES, `layer` counts hidden states from the end (-1: the last). The source's own
    features are computed once.
    """
    seen = DISTANCES[features]
    compare = self_similarity_distance if features == "self_similarity" else token_distance
    with torch.no_grad():
        wanted = seen(encoder, source, layer)
    return lambda clean, which: compare(seen(encoder, decode(clean, which), layer), wanted[which])
