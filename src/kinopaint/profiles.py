"""Engine profiles: how carefully a run computes, whatever the method. One table; `--preset` names a row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """One row of the table.

    `steps`: denoising steps; None leaves the choice to the model's recommendation, or else to the method.
    `own_steps`: take the method's default even where the model recommends another number.
    `dtype`: what `--dtype auto` means.
    """

    about: str
    steps: int | None = None
    own_steps: bool = False
    dtype: str = "auto"


PROFILES = {
    "exact": Profile("the method's own number of steps, in float32", own_steps=True, dtype="float32"),
    "balanced": Profile("the steps that the model recommends, in the precision that is fastest here"),
    "fast": Profile("8 steps", steps=8),
}
DEFAULT = "balanced"
NOT_YET = {"live": "the profile for streams is not there yet; fast is the nearest"}
