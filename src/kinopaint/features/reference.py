"""What a network makes of given latents: recorded in one prediction, to guide others by it."""

from collections.abc import Sequence
from dataclasses import replace

from kinopaint.attention.correspondence import Projections
from kinopaint.engine.denoiser import Backbone, Condition
from kinopaint.engine.interventions import in_decoder, is_self, where
from kinopaint.engine.schedule import Step
from kinopaint.features.consistency import FeatureMaps
from kinopaint.types import Latents


def recorded(
    backbone: Backbone, latents: Latents, step: Step, conditions: Sequence[Condition]
) -> tuple[Projections, FeatureMaps]:
    """Queries and keys of the decoder's self-attention, and what enters its blocks, in each branch; without ControlNet,
    so that they tell of the latents alone.
    """
    attended, features = Projections(), FeatureMaps()
    free = [replace(condition, controlled=False) for condition in conditions]
    backbone.predict(latents, step, free, interventions=[where(is_self & in_decoder, attended)], features=[features])
    return attended, features
