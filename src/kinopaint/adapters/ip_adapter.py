"""IP-Adapter: a picture that says what the result should look like (arXiv:2308.06721).

Each cross-attention gets a second pair of key and value layers, for tokens made from a picture; their answer is added
to that of the words. Here it is an intervention around the attention, so the network itself stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.interventions import AttentionCall, Intervention, Proceed, attend


@dataclass(frozen=True)
class IpAdapter:
    """Key and value weights for each cross-attention, by its path; `weight` scales what they add."""

    layers: Mapping[str, tuple[Tensor, Tensor]]
    weight: float = 1.0

    def acting_on(self, pictures: Float[Tensor, "branch token dim"]) -> Intervention:
        """Let each branch look at its own picture's tokens, too."""

        def look(call: AttentionCall, proceed: Proceed) -> Tensor:
            words = proceed(call)
            if call.site.is_self or not self.weight:
                return words
            heads, frames = call.query.shape[2], call.frame_count

            def seen(weight: Tensor) -> Tensor:  # branch token (head channel) -> branch frame head token channel
                states = F.linear(pictures.to(weight), weight)
                return states.view(*states.shape[:2], heads, -1).transpose(1, 2)[:, None].expand(-1, frames, -1, -1, -1)

            key, value = self.layers[call.site.path]
            return words + self.weight * attend(replace(call, key=seen(key), value=seen(value), edits=()))

        return look
