"""Content score: cosine of the image embeddings of a source frame and its result.

Higher keeps more of the source, -1 to 1; the untouched source gets 1. From the journal version of Style-A-Video.
"""

from jaxtyping import Float
from torch import Tensor


def content(embedding: Float[Tensor, " dim"], source: Float[Tensor, " dim"]) -> float:
    """The cosine of two unit vectors; the clip's value is the mean over its frames."""
    return float(embedding @ source)
