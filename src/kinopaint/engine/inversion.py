"""DDIM inversion: from clean latents to the noise that would be sampled into them; and records of such runs.

Inversion is the same sampler on the steps taken backwards (arXiv:2010.02502, sec. 4.3):

    noise = sample_ddim(denoise, clean, schedule.reversed_steps(50), after=[record])

Each step asks the network for the noise level where it ends, but shows it the latents where it starts. That is why
sampling again comes back only nearly to where it began, the nearer the more steps; `fixed_point` closes the gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.denoiser import Denoiser
from kinopaint.engine.samplers import ddim_step
from kinopaint.engine.schedule import Step
from kinopaint.types import Latents

Level = Float[Tensor, "frame channel height width"]


def fixed_point(denoise: Denoiser, times: int) -> Denoiser:
    """`denoise` for inversion, asked `times` more often in each step, and each time about where the step then ends.

    What it converges to is the exact inverse of the sampler: noise that, predicted at the end of the step, leads back
    to its start. `times` 0 is plain inversion.
    """

    def act(latents: Latents, step: Step) -> Latents:
        noise = denoise(latents, step)
        for _ in range(times):
            noise = denoise(ddim_step(latents, noise, step), step.reversed)
        return noise

    return act


@dataclass(frozen=True)
class Trajectory:
    """Latents along a run: where each step starts, and where the last one ends; of all frames, or only of `places`.

    As a hook after each step it records. It stays where it was made: for one frame of 512 x 512 pixels and 50 steps
    4 channels take 3.3 MB.
    """

    levels: list[Tensor]  # one longer than the run has steps
    places: tuple[int, ...] | None = None

    @classmethod
    def starting(cls, latents: Level, places: Sequence[int] | None = None) -> "Trajectory":
        """A record that holds the start of a run so far; `places` are those of the frames that it keeps."""
        kept = None if places is None else tuple(places)
        return cls([_at(latents, kept)], kept)

    def __call__(self, latents: Latents, step: Step) -> Latents:
        self.levels.append(_at(latents, self.places))
        return latents

    @property
    def start(self) -> Level:
        return self.levels[0]

    def after(self, step: Step) -> Level:
        """The latents where `step` ends."""
        return self.levels[step.index + 1]

    @property
    def reversed(self) -> "Trajectory":
        """The same run the other way: an inversion's, from noise to clean."""
        return Trajectory(self.levels[::-1], self.places)


def _at(latents: Latents, places: tuple[int, ...] | None) -> Tensor:
    return latents if places is None else latents[..., list(places), :, :, :]
