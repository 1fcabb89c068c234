"""Fra-Acc, frame accuracy: the share of frames that are nearer to the prompt than to a caption of the source.

FateZero's (arXiv:2303.09535), there and in Rerender and FRESCO *Fram-Acc*. Higher is better, 0 to 1; saturates soon.
"""

from jaxtyping import Float
from torch import Tensor


def fra_acc(
    embedding: Float[Tensor, " dim"], prompt: Float[Tensor, " dim"], source_caption: Float[Tensor, " dim"]
) -> float:
    """1 if the frame is at least as near to the prompt (ties count, as upstream), else 0."""
    return float(embedding @ prompt >= embedding @ source_caption)


fram_acc = fra_acc
