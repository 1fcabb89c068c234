"""Spat-Con: FRESCO's spatial loss as a measure (Yang et al., CVPR 2024, arXiv:2403.12962, sec. 3).

How far the self-similarity of the result's features is from the source's: mean |F̃ F̃ᵀ - G̃ G̃ᵀ| over all pairs of places,
rows of unit length. FRESCO takes features of VGG; here they are the spatial tokens of the image encoder, so numbers
compare among themselves only. Lower keeps more of the layout, 0 to 2.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def spat_con(result: Float[Tensor, "token dim"], source: Float[Tensor, "token dim"]) -> float:
    """Mean absolute difference of the cosine similarities between all pairs of tokens."""
    return float((_similarity(result) - _similarity(source)).abs().mean())


def _similarity(tokens: Float[Tensor, "token dim"]) -> Float[Tensor, "token token"]:
    rows = F.normalize(tokens, dim=-1)
    return rows @ rows.T
