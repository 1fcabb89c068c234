"""Fra-Con, frame consistency: cosine of the image embeddings of neighbouring frames.

As in Gen-1 (arXiv:2302.03011) and FateZero; Pix2Video's, Rerender's and FRESCO's *Tem-Con* is the same number. Higher
is better, -1 to 1. Hardly tells methods apart, and a still or blurred video gets 1: read it beside a warping error.
"""

from jaxtyping import Float
from torch import Tensor


def fra_con(embedding: Float[Tensor, " dim"], previous: Float[Tensor, " dim"]) -> float:
    """The cosine of two unit vectors; the clip's value is the mean over its neighbours."""
    return float(embedding @ previous)


tem_con = fra_con
