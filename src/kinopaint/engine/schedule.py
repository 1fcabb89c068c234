"""The noise schedule of a checkpoint, and the moves that a sampler makes along it.

Latents at a timestep are alpha * clean + sigma * noise with alpha² + sigma² = 1 (variance preserving).
Read from a diffusers `scheduler_config.json`; whatever sampler that file names, only its schedule is taken.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kinopaint.errors import ModelError, SettingsError, did_you_mean

SPACINGS = ("trailing", "leading", "linspace")
PREDICTIONS = ("epsilon", "v_prediction", "sample")

# Scheduler classes with the discrete variance-preserving schedule, and what they assume where the file is silent.
_CLASSES: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"timestep_spacing": "leading", "set_alpha_to_one": True},
    "DDIMInverseScheduler": {"timestep_spacing": "leading", "set_alpha_to_one": True},
    "DDPMScheduler": {"timestep_spacing": "leading", "set_alpha_to_one": True},
    "PNDMScheduler": {"timestep_spacing": "leading", "set_alpha_to_one": False},
    "LCMScheduler": {"timestep_spacing": "leading", "set_alpha_to_one": True},
    "TCDScheduler": {"timestep_spacing": "leading", "set_alpha_to_one": True},
    "EulerDiscreteScheduler": {"timestep_spacing": "linspace", "set_alpha_to_one": True},
    "EulerAncestralDiscreteScheduler": {"timestep_spacing": "linspace", "set_alpha_to_one": True},
    "HeunDiscreteScheduler": {"timestep_spacing": "linspace", "set_alpha_to_one": True},
    "LMSDiscreteScheduler": {"timestep_spacing": "linspace", "set_alpha_to_one": True},
    "KDPM2DiscreteScheduler": {"timestep_spacing": "linspace", "set_alpha_to_one": True},
    "KDPM2AncestralDiscreteScheduler": {"timestep_spacing": "linspace", "set_alpha_to_one": True},
    "DPMSolverMultistepScheduler": {"timestep_spacing": "linspace", "set_alpha_to_one": True},
    "DPMSolverSinglestepScheduler": {"timestep_spacing": "linspace", "set_alpha_to_one": True},
    "DEISMultistepScheduler": {"timestep_spacing": "linspace", "set_alpha_to_one": True},
    "UniPCMultistepScheduler": {"timestep_spacing": "linspace", "set_alpha_to_one": True},
}
_SAMPLERS = {  # whose moves are those of one of ours, whatever the spacing; for all others DDIM stands in
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_a",
}
_SOLVER = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint", "final_sigmas_type": "zero"}
_OTHER_LEVELS = tuple(f"use_{name}" for name in ("karras_sigmas", "exponential_sigmas", "beta_sigmas", "lu_lambdas"))
_ALPHA_FLOOR = 2.0**-24  # of alpha²: with zero terminal SNR a noise prediction says nothing at alpha = 0


@dataclass(frozen=True)
class Step:
    """One move along the schedule; latents = alpha * clean + sigma * noise at both ends.

    `timestep` is what the network is told. A step of an inversion goes the other way, from less noise to more.
    """

    index: int
    count: int
    timestep: float
    alpha: float
    sigma: float
    next_alpha: float
    next_sigma: float

    @property
    def progress(self) -> float:
        """Share of the steps already done, in [0, 1)."""
        return self.index / self.count

    def between(self, high: float, low: float, train_steps: int) -> bool:
        """Whether the noise level, as a share of `train_steps`, lies within both; the noisiest timestep counts as 1."""
        return low <= (self.timestep + 1) / train_steps <= high

    @property
    def reversed(self) -> "Step":
        """The same move the other way; the network is told the same timestep, that of the noisier end."""
        index = self.count - 1 - self.index
        levels = self.next_alpha, self.next_sigma, self.alpha, self.sigma
        return Step(index, self.count, self.timestep, *levels)


@dataclass(frozen=True)
class NoiseSchedule:
    """Signal levels of a trained model, one for each timestep, and how it predicts."""

    squared_alphas: Tensor  # one fp32 number for each training timestep, falling
    prediction_type: str = "epsilon"
    timestep_spacing: str = "trailing"
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    sampler: str = "ddim"  # the one among ours that the checkpoint's scheduler is, or that stands in for it
    stands_in_for: str = ""  # that scheduler, if its steps are others

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "scheduler_config.json") -> "NoiseSchedule":
        """Read a diffusers scheduler config.

        Clipping of the clean estimate (`clip_sample`) belongs to pixel models and is not applied. Schedules that end
        at zero signal (`rescale_betas_zero_snr`) end at alpha = 2^-12 instead. Raises ModelError (KP-MODEL-SCHEDULER)
        for a scheduler, beta schedule, spacing or prediction type that is not known.
        """

        def refuse(what: str, fix: str = "use the checkpoint's DDIM configuration") -> ModelError:
            return ModelError("KP-MODEL-SCHEDULER", what, where=where, fix=fix)

        name = str(config.get("_class_name", "DDIMScheduler"))
        if name not in _CLASSES:
            raise refuse(f"scheduler {name} is not a discrete variance-preserving one", did_you_mean(name, _CLASSES))
        known = {**_CLASSES[name], **{key: value for key, value in config.items() if value is not None}}
        if known.get("thresholding"):
            raise refuse("dynamic thresholding is made for pixel models and is not supported")
        prediction, spacing = known.get("prediction_type", "epsilon"), known["timestep_spacing"]
        if prediction not in PREDICTIONS:
            raise refuse(f"prediction type {prediction!r} is unknown", did_you_mean(str(prediction), PREDICTIONS))
        if spacing not in SPACINGS:
            raise refuse(f"timestep spacing {spacing!r} is unknown", did_you_mean(str(spacing), SPACINGS))
        try:
            betas = _betas(known)
            if betas.ndim != 1:
                raise ValueError("its betas are no list of numbers")
            if not len(betas) or not ((betas > 0) & (betas <= 1)).all():
                raise ValueError("its betas do not lie between 0 and 1")
            squared_alphas = torch.cumprod(1 - betas, dim=0)
            offset = int(known.get("steps_offset", 0))
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: torch's, of odd lengths
            raise refuse(f"the noise schedule cannot be built: {error}") from error
        return cls(
            squared_alphas.clamp_min(_ALPHA_FLOOR),
            prediction,
            spacing,
            offset,
            bool(known["set_alpha_to_one"]),
            *_sampler(name, known),
        )

    @property
    def train_steps(self) -> int:
        return len(self.squared_alphas)

    def timesteps(self, count: int, spacing: str | None = None) -> list[int]:
        """The `count` timesteps that diffusers' DDIM scheduler visits, most noise first.

        `spacing` is one of SPACINGS, None for the checkpoint's own.
        Raises SettingsError (KP-SETTING-STEPS) if `count` is not in 1 … number of training timesteps.
        """
        total = self.train_steps
        if not 1 <= count <= total:
            raise SettingsError(
                "KP-SETTING-STEPS",
                f"{count} steps were asked for; 1 to {total} are possible",
                where="num_inference_steps",
                fix="20 to 50 is usual",
            )
        match spacing or self.timestep_spacing:
            case (
                "trailing"
            ):  # diffusers' list is one too long for 62 of 1000 counts, through rounding; it ends at -1 there
                stride = (total - total / count) - total  # the float that NumPy's arange counts with
                ascending = [round(total + index * stride) - 1 for index in range(count)][::-1]
            case "leading":
                ascending = [index * (total // count) + self.steps_offset for index in range(count)]
            case "linspace":
                gap = (total - 1) / max(count - 1, 1)
                ascending = [round(index * gap) for index in range(count)]
            case other:
                raise SettingsError(
                    "KP-SETTING-CHOICE",
                    f"timestep spacing {other!r} is unknown",
                    where="spacing",
                    fix=did_you_mean(str(other), SPACINGS),
                )
        return [min(timestep, total - 1) for timestep in reversed(ascending)]

    def steps(self, count: int, strength: float = 1.0, *, spacing: str | None = None) -> list[Step]:
        """The moves of a DDIM sampling with `count` steps, of which the last `int(count * strength)` are made.

        As in diffusers each move ends at timestep - train_steps // count, which with trailing spacing is not quite
        the next entry of the list. `strength` 1 starts from noise, 0 makes no step.
        """
        stride = self.train_steps // count if count else 0
        visited = self.timesteps(count, spacing)
        visited = visited[count - min(int(count * strength), count) :]
        ends = [(self._level(timestep), self._level(timestep - stride)) for timestep in visited]
        return [
            Step(index, len(visited), float(timestep), *start, *end)
            for index, (timestep, (start, end)) in enumerate(zip(visited, ends, strict=True))
        ]

    def listed_steps(
        self, count: int, strength: float = 1.0, *, spacing: str | None = None, sampler: str = ""
    ) -> list[Step]:
        """The same for the other samplers: each move ends where the next one starts, the last at no noise.

        As in diffusers' Euler schedulers, "linspace" visits fractions of timesteps, between whose levels sigma / alpha
        is interpolated; with the `sampler` "ddpm" or "dpmpp_2m" they are rounded, as in its schedulers for these. The
        latter leaves out the last one of a list that is longer by one, unless the list is "trailing".
        """
        spacing = spacing or self.timestep_spacing
        longer = sampler == "dpmpp_2m" and spacing != "trailing" and 0 < count < self.train_steps
        visited = [float(timestep) for timestep in self.timesteps(count + longer, spacing)][:count]
        if spacing == "linspace" and sampler not in ("ddpm", "dpmpp_2m"):
            gap = (self.train_steps - 1) / max(count - 1, 1)
            visited = [(count - 1 - index) * gap for index in range(count)]
        visited = visited[count - min(int(count * strength), count) :]
        levels = [*(self._level_between(timestep) for timestep in visited), (1.0, 0.0)]
        return [
            Step(index, len(visited), timestep, *levels[index], *levels[index + 1])
            for index, timestep in enumerate(visited)
        ]

    def least_noisy(self) -> Step:
        """The last move of all that there are: hardly any noise, so that a prediction tells of the picture itself."""
        timestep = min(self.steps_offset, self.train_steps - 1)
        level = self._level_between(timestep)
        return Step(self.train_steps - 1, self.train_steps, float(timestep), *level, 1.0, 0.0)

    def reversed_steps(self, count: int, strength: float = 1.0, *, spacing: str | None = None) -> list[Step]:
        """The same moves from clean to noise, for DDIM inversion: the network is told where each move ends."""
        return [step.reversed for step in reversed(self.steps(count, strength, spacing=spacing))]

    def _level(self, timestep: int) -> tuple[float, float]:
        """alpha and sigma at a timestep; before the first one, those of the clean end."""
        if timestep >= 0:
            square = self.squared_alphas[timestep]
        else:
            square = torch.tensor(1.0) if self.set_alpha_to_one else self.squared_alphas[0]
        return square.sqrt().item(), (1 - square).sqrt().item()

    def _level_between(self, timestep: float) -> tuple[float, float]:
        """alpha and sigma at a fraction of a timestep, where sigma / alpha is linear."""
        low = int(timestep)
        high = min(low + 1, self.train_steps - 1)
        ratios = ((1 - self.squared_alphas[[low, high]]) / self.squared_alphas[[low, high]]).sqrt().tolist()
        ratio = ratios[0] + (timestep - low) * (ratios[1] - ratios[0])
        alpha: float = (1 + ratio**2) ** -0.5
        return alpha, ratio * alpha


def _sampler(name: str, config: Mapping[str, Any]) -> tuple[str, str]:
    """Our sampler for a scheduler of diffusers, and the scheduler's name if that only stands in for it."""
    sampler, told = _SAMPLERS.get(name), name
    if name == "DPMSolverMultistepScheduler":
        other = [f"{key}={config[key]}" for key, ours in _SOLVER.items() if config.get(key, ours) != ours]
        sampler, told = (None, f"{name} with {', '.join(other)}") if other else ("dpmpp_2m", name)
    levels = [key for key in _OTHER_LEVELS if config.get(key)]
    if levels:
        told = f"{told} with {', '.join(levels)}"
    return sampler or "ddim", told if levels or sampler is None else ""


def _betas(config: Mapping[str, Any]) -> Tensor:
    """The training variances. Source: diffusers' schedulers; zero terminal SNR from arXiv:2305.08891, algorithm 1."""
    count: int = int(config.get("num_train_timesteps", 1000))
    start, end = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
    trained: Sequence[float] | None = config.get("trained_betas")
    if trained is not None:
        betas = torch.tensor(trained, dtype=torch.float32)
    else:
        match config.get("beta_schedule", "linear"):
            case "linear":
                betas = torch.linspace(start, end, count, dtype=torch.float32)
            case "scaled_linear":
                betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
            case "squaredcos_cap_v2":
                signal = [math.cos((index / count + 0.008) / 1.008 * math.pi / 2) ** 2 for index in range(count + 1)]
                betas = torch.tensor([min(1 - signal[index + 1] / signal[index], 0.999) for index in range(count)])
            case other:
                raise ValueError(f"beta schedule {other!r} is unknown; known: linear, scaled_linear, squaredcos_cap_v2")
    if config.get("rescale_betas_zero_snr"):
        alphas = torch.cumprod(1 - betas, dim=0).sqrt()
        shifted = (alphas - alphas[-1]) * (alphas[0] / (alphas[0] - alphas[-1]))
        squares = shifted**2
        betas = 1 - torch.cat([squares[:1], squares[1:] / squares[:-1]])
    return betas
