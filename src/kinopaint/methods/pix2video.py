"""Pix2Video: video editing using image diffusion (Ceylan, Huang, Mitra; ICCV 2023; arXiv:2303.12688).

Each frame is inverted to noise by itself and sampled again with the new words. Meanwhile the decoder's self-attention
of a frame reads the first frame and the one before it instead of the frame itself, and the early steps pull a frame's
clean estimate towards that of the frame before. Differences from the paper: the frames of a window are denoised
together, which gives the same result as one after another, because everything that a frame needs of others is of the
same step; what a window needs of earlier ones is their recorded latents, not their features; the pull does not shrink
with the number of pixels; inversion asks for one branch only. `docs/methods/pix2video.md` has the reasons.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.attention.frames import FrameChoice, every, first, from_frames, itself, previous
from kinopaint.engine.components import Components
from kinopaint.engine.corrections import CleanEstimate
from kinopaint.engine.denoiser import Condition, Denoiser, Text
from kinopaint.engine.guidance import classifier_free
from kinopaint.engine.interventions import in_decoder, is_self, where
from kinopaint.engine.inversion import Trajectory, fixed_point
from kinopaint.engine.noise import shared_noise
from kinopaint.engine.samplers import noise_in, noised, sample_ddim
from kinopaint.engine.schedule import Step
from kinopaint.engine.tied import both_seeing, encode_prompt, tied_to
from kinopaint.latents.keep import keep
from kinopaint.latents.pull import pulled_to_previous
from kinopaint.methods._settings import check_settings, setting
from kinopaint.types import Clip, Frames, Latents, Prompt, Window, WindowPlan

FrameLatents = Float[Tensor, "frame channel h w"]  # beside frames, whose height and width are others

ATTEND: Mapping[str, tuple[FrameChoice, ...]] = {
    "first+previous": (first, previous),
    "first": (first,),
    "previous": (previous,),
    "every": (every,),
    "itself": (itself,),
}


@dataclass(frozen=True)
class Shared:
    """What every window needs: what to say of the source, of nothing and of the result; the steps to noise and back;
    and new noise.
    """

    source: Text
    nothing: Text
    words: Text
    there: list[Step]
    back: list[Step]
    noise: Float[Tensor, "1 channel height width"]


@dataclass(frozen=True)
class Pix2Video:
    """Settings of Pix2Video. Raises SettingsError for values out of range."""

    source_prompt: str = setting("", "what the clip shows, in words, for the inversion")
    num_inference_steps: int = setting(50, "steps of the inversion, and of the sampling after it", minimum=1)
    guidance_scale: float = setting(7.5, "how strongly the words act; 1 = no more than they do by themselves")
    attend: str = setting(
        "first+previous", "the frames that the decoder's self-attention reads; itself = off", choices=tuple(ATTEND)
    )
    pull_strength: float = setting(
        0.0122, "λ, how far a frame's latents move towards the frame before in each early step; 0 = off", minimum=0
    )
    pull_until: float = setting(0.5, "share of the steps with this pull", minimum=0, maximum=1)
    strength: float = setting(
        1.0, "how far to invert, as a share of the steps; 0 changes nothing", minimum=0, maximum=1
    )
    refine: int = setting(0, "further predictions per step that make the inversion exact", minimum=0)
    fresh_noise: float = setting(
        0.0,
        "share of new noise, one for all frames, in the inverted one: more of the words, less of the source; 0 = paper",
        minimum=0,
        maximum=1,
    )
    windows: WindowPlan = field(
        default=WindowPlan(size=8, overlap=1, anchors=(0,)),
        metadata={"help": "frames denoised together, of which the overlap and the anchors are known", "unit": "frames"},
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def together(self) -> int:
        """Pictures that go through the network in one call: both branches of a window, whose frames see each other."""
        return 2 * self.windows.size if self.attend != "itself" else 1

    @property
    def predictions(self) -> int:
        """Calls of the network for each window."""
        return int(self.num_inference_steps * self.strength) * (self.refine + 2)

    @property
    def cost(self) -> str:
        """In words, for these settings."""
        steps, size = int(self.num_inference_steps * self.strength), self.windows.size
        context = self.windows.overlap + len(self.windows.anchors)
        there, back = steps * (1 + self.refine), 2 * steps * size / (size - context)
        return (
            f"{there + back:.0f} pictures through the network per frame ({there} to invert it, {back:.0f} to sample it "
            f"in windows of {size} with {context} known frames); memory of {self.together} pictures in one call; "
            f"between windows {context} frames' latents at {steps + 1} noise levels"
        )

    def prepare(self, clip: Clip, prompt: Prompt, parts: Components) -> Shared:
        nothing, words = encode_prompt(prompt, parts)
        source, _ = encode_prompt(Prompt(prompt.text, self.source_prompt), parts)
        count, schedule = self.num_inference_steps, parts.schedule
        there, back = schedule.reversed_steps(count, self.strength), schedule.steps(count, self.strength)
        cells = clip.height // parts.autoencoder.factor, clip.width // parts.autoencoder.factor
        noise = shared_noise((parts.backbone.latent_channels, *cells), parts.seed).to(parts.device)
        return Shared(source, nothing, words, there, back, noise)

    def start(self, shared: Shared) -> Trajectory | None:
        """The first window of a shot knows of no other frames."""
        return None

    def stylize(
        self, window: Window, shared: Shared, carry: Trajectory | None, parts: Components
    ) -> tuple[Frames, Trajectory]:
        # Inversion of each new frame, with the words of the source and without guidance.
        noisy = self.inverted(window.frames[window.fresh], shared, parts)
        if carry is not None:  # frames of earlier windows start where they did
            noisy = torch.cat([carry.start, noisy])

        # Self-attention feature injection, under classifier-free guidance.
        estimate = CleanEstimate()
        denoise = estimate.watching(self.guided(window.frames, shared, parts))

        # Guided latent update after the early steps; then frames of earlier windows go the way they went.
        pull = pulled_to_previous(estimate, self.pull_strength, self.pull_until)
        held = [] if carry is None else [keep(carry)]
        record = Trajectory.starting(noisy, window.carried)
        clean = sample_ddim(denoise, noisy, shared.back, after=[pull, *held, record])
        return parts.autoencoder.decode(clean[window.fresh]), record

    def inverted(self, frames: Frames, shared: Shared, parts: Components) -> FrameLatents:
        """The noisy latents from which sampling with the words of the source would give back `frames`."""
        parts = tied_to(frames, parts)
        raw = parts.autoencoder.encode(frames)
        clean = parts.autoencoder.scaled(raw)
        told = Condition("source", shared.source, raw if parts.backbone.image_channels else None)

        def denoise(latents: Latents, step: Step) -> Latents:
            return parts.backbone.predict(latents, step, [told])[0]

        noisy = sample_ddim(fixed_point(denoise, self.refine), clean, shared.there)
        if not self.fresh_noise or not shared.back:
            return noisy
        begin, new = shared.back[0], self.fresh_noise
        noise = (1 - new**2) ** 0.5 * noise_in(noisy, clean, begin) + new * shared.noise
        return noised(clean, noise, begin)

    def guided(self, frames: Frames, shared: Shared, parts: Components) -> Denoiser:
        """The guided prediction; a network with a slot for the frame sees it in both branches."""
        parts = tied_to(frames, parts)
        nothing, words = both_seeing(parts.autoencoder.encode(frames), shared.nothing, shared.words, parts)
        shared_attention = where(is_self & in_decoder, from_frames(*ATTEND[self.attend]))
        acting = [shared_attention] if self.attend != "itself" else []
        return classifier_free(parts.backbone, nothing, words, self.guidance_scale, interventions=acting)
