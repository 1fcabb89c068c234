"""Flicker removed by a network: the local refinement of Blind Video Deflickering (Lei et al., arXiv:2303.08120)."""

from torch import Tensor

from kinopaint.engine.components import Refiner
from kinopaint.temporal.chain import Past, Present, Refine, State


def net(refiner: Refiner) -> Refine:
    """A backend: `refiner` sees this frame and the refined one before it, and as guides the pair before refinement.

    Its guides are the painted frames or the source's, as it was trained; no flow is needed.
    """

    def refine(present: Present, past: Past) -> tuple[Tensor, State | None]:
        guides = (present.source, past.source) if refiner.guide == "source" else (present.painted, past.painted)
        painted, earlier, guide, earlier_guide = (
            (frame[None] / 2 + 0.5).clamp(0, 1) for frame in (present.painted, past.refined, *guides)
        )
        before = past.state if refiner.carries_state else None
        refined, state = refiner(painted, earlier, guide, earlier_guide, before)
        return refined[0].clamp(0, 1) * 2 - 1, state if refiner.carries_state else None

    return refine
