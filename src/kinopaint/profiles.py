"""Engine profiles: how carefully a run computes, whatever the method. One table; `--preset` names a row.

No profile changes `temporal`. What each costs in likeness is measured (kinopaint.deviations).
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
    `small_decoder`: encode and decode by the model's small autoencoder, if it has one. `graphs`: record the network's
    calls as CUDA graphs, which is exact, and takes memory; for few pictures at once, where a GPU waits for Python.
    """

    about: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    yields: bool = False
    own_steps: bool = False
    dtype: str = "auto"
    cache_every: int = 1
    small_decoder: bool = False
    graphs: bool = False

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
        graphed = getattr(parts.backbone, "graphed", None)
        if self.graphs and parts.device.type == "cuda" and graphed is not None:
            parts = dataclasses.replace(parts, backbone=graphed())
        if self.small_decoder and parts.small_autoencoder is not None:
            parts = dataclasses.replace(parts, autoencoder=parts.small_autoencoder)
        return parts

    def choices(self, method: Any, exact: Any, parts: Components) -> dict[str, Any]:
        """In what a run is not exact: `method` as it runs, `exact` as it would under that profile, `parts` as applied.

        Only what acts: a lagged mask does nothing where there is none. Number and kind of steps are one choice.
        """
        found: dict[str, Any] = {}
        for name in sorted({name for profile in PROFILES.values() for name in profile.fields} - {*_STEPS}):
            value = getattr(method, name, None)
            acts = name not in _ONLY_WITH or getattr(method, _ONLY_WITH[name], False)
            if value != getattr(exact, name, None) and acts:
                found[name] = value
        steps, exact_steps = ([getattr(each, name, None) for name in _STEPS] for each in (method, exact))
        if steps != exact_steps:
            found["steps"] = " ".join(str(each) for each in steps if each is not None)
        if getattr(parts.backbone, "cache", None) is not None:
            found["cache_every"] = self.cache_every
        if self.small_decoder and parts.small_autoencoder is not None:
            found["small_decoder"] = True
        if (dtype := str(parts.dtype).removeprefix("torch.")) != "float32":
            found["dtype"] = dtype
        return found


_STEPS = ("num_inference_steps", "sampler")
_ONLY_WITH = {"mask_lagged": "s_mask", "clip_every": "clip_strength"}  # what acts only where another field is not 0
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
        "4 steps of one evaluation, no gradient, no mask, the small decoder if there is one",
        {
            **_FEW,
            "num_inference_steps": 4,
            "clip_strength": 0.0,
            "s_mask": 0.0,
            "guidance": "single",
            "optimise_iterations": 0,
        },
        small_decoder=True,
        graphs=True,
    ),
}
DEFAULT = "balanced"
AS_GIVEN = Profile("what the method's preset says, in the precision that is quickest here")
