"""Pro-Con, prompt consistency: cosine of each frame's image embedding and the prompt's text embedding.

Raw, not times 100 (there it is called CLIP-T). Higher is better, -1 to 1; with OpenAI's models 0.2 to 0.35 is usual.
"""

from jaxtyping import Float
from torch import Tensor


def pro_con(embedding: Float[Tensor, " dim"], prompt: Float[Tensor, " dim"]) -> float:
    """The cosine of two unit vectors; the clip's value is the mean over its frames."""
    return float(embedding @ prompt)
