"""Engine profiles: how carefully a run computes, whatever the method. One table; `--preset` names a row.

No profile changes `temporal`. What each costs in likeness is measured by `benchmarks/profiles.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinopaint.engine.components import Components


@dataclass(frozen=True)
class Profile:
    """One row of the table.

    `fields` are set on methods that have them; over what the model recommends, unless the profile `yields` to that.
    `own_steps`: take the method's default
    number of steps even where the model recommends another. `dtype`: what `--dtype auto` means. `cache_every`: of so
    many steps, one runs the whole network, the others its outermost blocks on the deep features of that one; 1 = off.
    `small_decoder`: encode and decode by the model's small autoencoder, if it has one. `deviation`: what was measured
    between this profile and `exact` with the embedded model (psnr in dB, scores as a ratio).
    """

    about: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    yields: bool = False
    own_steps: bool = False
    dtype: str = "auto"
    cache_every: int = 1
    small_decoder: bool = False
    deviation: Mapping[str, float] = field(default_factory=dict)

    def method_fields(self, defaults: Mapping[str, Any], recommended: Mapping[str, Any]) -> dict[str, Any]:
        """What the profile sets on a method with these fields and defaults, on a model that recommends these."""
        kept = recommended if self.yields else {}
        chosen = {name: value for name, value in self.fields.items() if name in defaults and name not in kept}
        if self.own_steps and "num_inference_steps" in defaults:
            chosen["num_inference_steps"] = defaults["num_inference_steps"]
        return chosen

    def applied(self, parts: Components) -> Components:
        """The model as this profile runs it."""
        caching = getattr(parts.backbone, "caching", None)
        if self.cache_every > 1 and caching is not None:
            parts = dataclasses.replace(parts, backbone=caching(self.cache_every))
        if self.small_decoder and parts.small_autoencoder is not None:
            parts = dataclasses.replace(parts, autoencoder=parts.small_autoencoder)
        return parts

    def told(self, parts: Components) -> dict[str, Any]:
        """What is not exact about a run, besides the method's fields, and by how much; for the recipe."""
        small = self.small_decoder and parts.small_autoencoder is not None
        choices = {"cache_every": self.cache_every, "small_decoder": small}
        return {**choices, "deviation": dict(self.deviation)}


_FEW = {"sampler": "dpmpp_2m", "mask_lagged": True}
PROFILES = {
    "exact": Profile("the method's own number of steps, in float32, nothing reused", own_steps=True, dtype="float32"),
    "balanced": Profile(
        "15 steps of a second-order solver, every second one on reused features; half precision where that is quick",
        {**_FEW, "num_inference_steps": 15, "clip_every": 2},
        yields=True,
        cache_every=2,
    ),
    "fast": Profile(
        "8 steps, no gradient", {**_FEW, "num_inference_steps": 8, "clip_strength": 0.0, "optimise_iterations": 0}
    ),
    "live": Profile(
        "4 steps, no gradient, no mask, the small decoder if there is one",
        {**_FEW, "num_inference_steps": 4, "clip_strength": 0.0, "s_mask": 0.0, "optimise_iterations": 0},
        small_decoder=True,
    ),
}
DEFAULT = "balanced"
AS_GIVEN = Profile("what the method's preset says, in the precision that is quickest here")
