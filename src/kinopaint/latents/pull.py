"""Pull each frame towards the frame before it, as far as the network already guesses how they will look."""

from torch import Tensor

from kinopaint.engine.corrections import CleanEstimate
from kinopaint.engine.samplers import LatentHook
from kinopaint.engine.schedule import Step


def pulled_to_previous(estimate: CleanEstimate, strength: float, until: float = 1.0) -> LatentHook:
    """A hook for after the step: latents_i + strength * (clean_{i-1} - clean_i), up to progress `until`, included;
    0: never.

    This is a step of gradient descent on the squared distance of the two clean estimates, of which the earlier frame's
    is taken as given. The first frame of the window stays. `strength` does not depend on the size of the frames.
    """

    def pull(latents: Tensor, step: Step) -> Tensor:
        if until == 0 or step.progress > until or latents.shape[-4] == 1:
            return latents
        clean = estimate.latest
        result = latents.clone()
        result[..., 1:, :, :, :] += strength * (clean[..., :-1, :, :, :] - clean[..., 1:, :, :, :])
        return result

    return pull
