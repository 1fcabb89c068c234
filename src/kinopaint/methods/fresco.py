"""FRESCO: spatial-temporal correspondence for zero-shot video translation (Yang, Zhou, Liu, Loy; CVPR 2024;
arXiv:2403.12962).

Keyframes are painted together, from their noised selves on (SDEdit). Attention in the decoder is guided by what the
source frames show: within each frame by its self-similarity, between frames by optical flow; the decoder's features are
optimised for both before it goes on. Windows are tied together by two anchors, the shot's first keyframe and the last
one of the window before. The frames between keyframes follow the source's motion. Anything with a U-Net of Stable
Diffusion's kind will do; what holds the structure is the image slot where the network has one, else a ControlNet.

Differences from the paper and its code: the autoencoder's mode is encoded, not a sample; keyframes of a long shot are
chosen stretch by stretch; maps of more than 64 x 64 cells are averaged before they are compared with themselves; what
stands still takes the place of a saliency network; flow and blending take that of an external synthesis. See
docs/methods/fresco.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.attention.correspondence import Projections, guided_along_flow, guided_in_space
from kinopaint.attention.frames import from_tokens
from kinopaint.attention.layers import in_blocks
from kinopaint.engine.components import Components
from kinopaint.engine.corrections import clean_edited
from kinopaint.engine.denoiser import Text
from kinopaint.engine.guidance import classifier_free_terms, weighted
from kinopaint.engine.interventions import FeatureHook, Intervention, before, down_to, in_steps, is_self, where
from kinopaint.engine.inversion import Trajectory
from kinopaint.engine.keyframes import KeyframePlan
from kinopaint.engine.noise import frame_tapes, noise_tape
from kinopaint.engine.samplers import ddpm_step, noised, sample_ancestral
from kinopaint.engine.schedule import Step
from kinopaint.engine.tied import both_seeing, encode_prompt, tied_to
from kinopaint.features.background import with_still_background
from kinopaint.features.consistency import Consistency, FeatureMaps, SpatialTerm, TemporalTerm, made_consistent
from kinopaint.features.reference import recorded
from kinopaint.flow.dis import DisFlow
from kinopaint.flow.ring import FlowRing, flow_ring
from kinopaint.flow.trajectories import trajectories
from kinopaint.latents.keep import keep
from kinopaint.latents.statistics import adain
from kinopaint.methods._settings import check_settings, setting, share
from kinopaint.temporal.between import between_keyframes
from kinopaint.types import Clip, Frame, Frames, Latents, Prompt, Window

PRINTED = {"spatial_norm": "l2", "reduction": "sum", "pairs": "earlier"}  # the losses, as the paper has them


@dataclass(frozen=True)
class Shared:
    """What every window needs: texts, and the steps that are made."""

    nothing: Text
    words: Text
    steps: list[Step]


@dataclass(frozen=True)
class Carry:
    """What a window hands on: the latents of its first and last keyframe at every step, and the last one painted."""

    anchors: Trajectory
    painted: Frame


@dataclass(frozen=True)
class Fresco:
    """Settings of FRESCO; the defaults are those of its code. Raises SettingsError for values out of range."""

    guidance_scale: float = setting(7.5, "how strongly the words act")
    num_inference_steps: int = setting(20, "denoising steps of the whole schedule", minimum=1)
    strength: float = share(0.75, "share of the steps that are made, from the noised frames on; 0 changes nothing")
    noise: str = setting("per_frame", "noise of the steps: of each frame or of all", choices=("per_frame", "shared"))
    layers: str = setting("auto", "decoder blocks with guided self-attention: up_blocks.2,up_blocks.3; auto: last two")
    cross_frame: bool = setting(True, "attend to the first keyframe and to what later ones show anew")
    spatial_scale: float = setting(5.0, "λ_s, how widely attention within a frame averages", minimum=0.01)
    spatial_until: float = share(0.05, "share of the steps made in which it is guided within a frame; 0 = off")
    temporal_scale: float = setting(5.0, "λ_t, how widely attention along the flow averages", minimum=0.01)
    temporal_down_to: float = share(0.35, "noise level, as a share, down to which it runs along the flow; 1 = off")
    optimise_iterations: int = setting(20, "steps of Adam on the input of each decoder block; 0 = off", minimum=0)
    optimise_until: float = share(0.75, "share of the whole schedule in which that is done")
    learning_rate: float = setting(0.2, "length of these steps", minimum=0)
    temporal_weight: float = setting(2.0, "λ_temp, weight of consistency along the flow", minimum=0)
    spatial_weight: float = setting(100.0, "λ_spat, weight of the source's self-similarity", minimum=0)
    spatial_norm: str = setting("l1", "what is taken of its differences", choices=("l1", "l2"))
    reduction: str = setting("mean", "how both losses are made one number", choices=("mean", "sum"))
    pairs: str = setting("ring", "neighbours in the loss: both ways and round, or earlier", choices=("ring", "earlier"))
    gram_cells: int = setting(4096, "cells that are compared; larger maps are averaged first; 0 = all", minimum=0)
    gram_precision: str = setting("float32", "precision of that comparison", choices=("float32", "bfloat16"))
    background: str = setting("off", "smooth what stands still, for a static camera", choices=("off", "still"))
    hold_colours: bool = setting(False, "in late steps, mean and spread of the latents are those of the first keyframe")
    windows: KeyframePlan = setting(KeyframePlan(), "keyframes painted together, and how far apart", unit="frames")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"spatial_until": 1.0, "learning_rate": 0.4, "temporal_weight": 1.0, "spatial_weight": 50.0, **PRINTED}
    }

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def predictions(self) -> int:
        """Calls of the network for a window: the steps that are made, and the reference pass."""
        return int(self.num_inference_steps * self.strength) + 1

    @property
    def together(self) -> int:
        """Pictures of one call, with and without words."""
        return 2 * self.windows.size

    @property
    def cost(self) -> str:
        """In words, for these settings."""
        calls, size, iterations = self.predictions, self.windows.size, self.optimise_iterations
        early = max(0, calls - 1 - self.num_inference_steps + round(self.num_inference_steps * self.optimise_until))
        return (
            f"{2 * calls * size / (size - 2):.0f} pictures through the network per keyframe ({calls} calls on windows "
            f"of {size}, 2 of them known), none for the frames between; in {early} of {calls - 1} steps {iterations} "
            f"iterations of feature optimisation, {0.063 * iterations:.1f} times the network's work on Stable "
            f"Diffusion 1.5 at 512 x 512; memory of {self.together} pictures in one call, and about 100 MB more for "
            "each of these at that size; between windows 2 frames' latents at every noise level"
        )

    def prepare(self, clip: Clip, prompt: Prompt, parts: Components) -> Shared:
        nothing, words = encode_prompt(prompt, parts)
        steps = parts.schedule.listed_steps(self.num_inference_steps, self.strength, sampler="ddpm")
        return Shared(nothing, words, steps)

    def start(self, shared: Shared) -> Carry | None:
        """The first window of a shot has no anchors."""
        return None

    def stylize(
        self, window: Window, shared: Shared, carry: Carry | None, parts: Components
    ) -> tuple[Frames, Carry | None]:
        keys, known = list(window.keys), carry.anchors if carry else None
        numbers = [window.numbers[key] for key in keys]
        painted, anchors = self.painted(window.frames[keys], numbers, shared, known, parts)
        if carry is not None:  # the keyframe before the fresh ones: the second anchor
            painted, keys = torch.cat([carry.painted[None], painted]), keys[1:]
        frames = between_keyframes(window.frames, keys, painted, DisFlow())
        return frames if carry is None else frames[1:], Carry(anchors, painted[-1].clone())

    def painted(
        self, frames: Frames, numbers: Sequence[int], shared: Shared, anchors: Trajectory | None, parts: Components
    ) -> tuple[Float[Tensor, "new 3 height width"], Trajectory]:
        """The new keyframes of a window, whose first two `frames` are `anchors` if there are any; the next anchors."""
        parts, ring, steps = tied_to(frames, parts), flow_ring(frames, DisFlow()), shared.steps
        source = parts.autoencoder.encode(frames)
        clean = parts.autoencoder.scaled(source)
        terms = classifier_free_terms(*both_seeing(source, shared.nothing, shared.words, parts), self.guidance_scale)

        # One noise for all frames to start from; then each step's, and that of the reference pass.
        start, *tape = noise_tape(clean.shape[1:], parts.seed, len(steps) + 2)[:, None].to(parts.device)
        own = frame_tapes(clean.shape[1:], parts.seed, numbers, len(steps) + 1).to(parts.device)
        *fresh, little = own if self.noise == "per_frame" else tape

        # Single-step DDPM forward and backward: what the network makes of the source frames, without ControlNet.
        last = parts.schedule.least_noisy()
        branches = [condition for _, condition in terms]
        projections, maps = recorded(parts.backbone, noised(clean, little, last), last, branches)

        attention = self._attention(projections, ring, parts.schedule.train_steps)
        denoise = weighted(parts.backbone, terms, interventions=attention, features=self._optimisation(maps, ring))
        denoise = clean_edited(denoise, partial(self._late_edit, ring, parts))

        latents = noised(clean, start, steps[0]) if steps else clean  # SDEdit
        record = Trajectory.starting(latents, (0, -1))
        hold = [keep(anchors, (0, 1))] if anchors else []
        latents = sample_ancestral(ddpm_step, fresh, denoise, latents, steps, after=[*hold, record])
        return parts.autoencoder.decode(latents[2 if anchors else 0 :]), record

    def _attention(self, reference: Projections, ring: FlowRing, train_steps: int) -> list[Intervention]:
        """FRESCO-guided attention. The first is the outermost: it mixes what the others give."""
        guided = is_self & in_blocks(self.layers, reference.queries)
        early, noisy = guided & before(self.spatial_until), guided & down_to(self.temporal_down_to * train_steps)
        tokens, paths = cache(ring.newly_visible), cache(partial(trajectories, ring))
        spatial = where(early, guided_in_space(reference, self.spatial_scale))  # Q' = softmax(Qr Krᵀ / λ_s √d) Q
        cross_frame = where(guided, from_tokens(tokens))  # V' = softmax(Q' K[p_u]ᵀ / √d) V[p_u]
        temporal = where(
            noisy, guided_along_flow(paths, self.temporal_scale)
        )  # softmax(Q[p_f] K[p_f]ᵀ / λ_t √d) V'[p_f]
        return [temporal, spatial, *([cross_frame] if self.cross_frame else [])]

    def _optimisation(self, reference: FeatureMaps, ring: FlowRing) -> list[FeatureHook]:
        """FRESCO-aware optimisation of the input f of every decoder block: λ_temp · L_temp + λ_spat · L_spat."""
        temporal = TemporalTerm(self.temporal_weight, self.pairs == "ring")  # |f' - warped f| where it can be seen
        precision = getattr(torch, self.gram_precision)
        spatial = SpatialTerm(self.spatial_weight, self.spatial_norm, self.gram_cells, precision)  # |f fᵀ - fr frᵀ|
        how = Consistency(self.optimise_iterations, self.learning_rate, temporal, spatial, self.reduction == "mean")
        hooks: list[FeatureHook] = [made_consistent(how, reference, ring)] if self.optimise_iterations else []
        if hooks and self.background == "still":
            hooks.append(lambda call: with_still_background(call.feature, ring))
        return [in_steps(lambda step: self._done(step) < self.optimise_until, hook) for hook in hooks]

    def _late_edit(self, ring: FlowRing, parts: Components, clean: Latents, step: Step) -> Latents:
        """What late steps make of the predicted clean latents."""
        done = self._done(step)
        if self.background == "still" and 0.8 <= done < 0.9:
            pictures = with_still_background(parts.autoencoder.decode(clean), ring, margin=13)
            clean = parts.autoencoder.scaled(parts.autoencoder.encode(pictures))
        return adain(clean, clean[:1]) if self.hold_colours and done >= 0.8 else clean

    def _done(self, step: Step) -> float:
        """The share of the whole schedule before this step, those that SDEdit skips included."""
        return 1 - (step.count - step.index) / self.num_inference_steps
