"""Record what self-attention looks at, or gives."""

from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.interventions import AttentionCall, Proceed, attention_weights


class ReceivedAttention:
    """An intervention that only watches: how much each location is attended to, in one branch of one layer.

    `map` is the sum over queries of the mean over heads of the attention probabilities; its mean is exactly 1, because
    each query gives away 1. If the predicate around it lets several layers through, the first one is kept.
    """

    def __init__(self, branch: str) -> None:
        self.branch = branch
        self.map: Float[Tensor, "frame height width"] | None = None

    def __call__(self, call: AttentionCall, proceed: Proceed) -> Tensor:
        if self.map is None:
            row = call.branches.index(self.branch)
            weights = attention_weights(call.query[row].detach(), call.key[row].detach())  # frame head query token
            self.map = weights.mean(1).sum(-2).reshape(-1, call.site.height, call.site.width)
        return proceed(call)


class AttentionOutput:
    """The same for what the attention gives: `map` is its result, averaged over heads and channels.

    The reading of Style-A-Video's journal version, where the map is multiplied by the values before the threshold.
    """

    def __init__(self, branch: str) -> None:
        self.branch = branch
        self.map: Float[Tensor, "frame height width"] | None = None

    def __call__(self, call: AttentionCall, proceed: Proceed) -> Tensor:
        result = proceed(call)
        if self.map is None:
            given = result[call.branches.index(self.branch)].detach().float()  # frame head query channel
            self.map = given.mean((1, 3)).reshape(-1, call.site.height, call.site.width)
        return result
