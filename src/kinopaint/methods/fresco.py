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
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.attention.correspondence import Projections, guided_along_flow, guided_in_space
from kinopaint.attention.frames import from_tokens
from kinopaint.engine.components import Components
from kinopaint.engine.corrections import CleanEdit, clean_edited
from kinopaint.engine.denoiser import Condition, Text
from kinopaint.engine.guidance import needed, weighted
from kinopaint.engine.interventions import (
    FeatureCall,
    FeatureHook,
    Intervention,
    Predicate,
    before,
    in_decoder,
    is_self,
    under,
    where,
)
from kinopaint.engine.inversion import Trajectory
from kinopaint.engine.keyframes import KeyframePlan
from kinopaint.engine.noise import frame_tapes, noise_tape, shared_noise
from kinopaint.engine.samplers import ddpm_step, noised, sample_ancestral
from kinopaint.engine.schedule import Step
from kinopaint.engine.tied import encode_prompt, tied_to
from kinopaint.errors import SettingsError
from kinopaint.features.background import still_background, with_still_background
from kinopaint.features.consistency import Consistency, FeatureMaps, made_consistent
from kinopaint.flow.dis import DisFlow
from kinopaint.flow.ring import FlowRing, flow_ring
from kinopaint.flow.trajectories import trajectories
from kinopaint.latents.keep import keep
from kinopaint.latents.statistics import adain
from kinopaint.methods._settings import check_settings, setting
from kinopaint.temporal.between import between_keyframes
from kinopaint.types import Clip, Frame, Frames, Latents, Prompt, Window

Noise = Float[Tensor, "#frame channel height width"]


@dataclass(frozen=True)
class Shared:
    """What every window needs: texts, the steps that are made, and the noise level of the reference pass."""

    nothing: Text
    words: Text
    steps: list[Step]
    reference: Step


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
    strength: float = setting(
        0.75, "share of the steps that are made, from the noised frames on; 0 changes nothing", minimum=0, maximum=1
    )
    noise: str = setting(
        "per_frame", "noise that the steps draw: each frame its own, or one for all", choices=("per_frame", "shared")
    )
    layers: str = setting(
        "auto",
        "decoder blocks whose self-attention is guided: up_blocks.2,up_blocks.3; auto: the last two that have any",
    )
    cross_frame: bool = setting(True, "attend to the first keyframe and to what later ones show anew")
    spatial_scale: float = setting(5.0, "λ_s, how widely attention within a frame averages", minimum=0.01)
    spatial_until: float = setting(
        0.05, "share of the steps made in which it is guided within a frame; 0 = off", minimum=0, maximum=1
    )
    temporal_scale: float = setting(5.0, "λ_t, how widely attention along the flow averages", minimum=0.01)
    temporal_down_to: float = setting(
        0.35, "noise level, as a share, down to which it runs along the flow; 1 = off", minimum=0, maximum=1
    )
    optimise_iterations: int = setting(20, "steps of Adam on the input of each decoder block; 0 = off", minimum=0)
    optimise_until: float = setting(0.75, "share of the whole schedule in which that is done", minimum=0, maximum=1)
    learning_rate: float = setting(0.2, "length of these steps", minimum=0)
    temporal_weight: float = setting(2.0, "λ_temp, weight of consistency along the flow", minimum=0)
    spatial_weight: float = setting(100.0, "λ_spat, weight of the source's self-similarity", minimum=0)
    spatial_norm: str = setting("l1", "what is taken of its differences", choices=("l1", "l2"))
    reduction: str = setting("mean", "how both losses are made one number", choices=("mean", "sum"))
    pairs: str = setting(
        "ring", "neighbours in the loss: both ways and round the end, or earlier ones only", choices=("ring", "earlier")
    )
    gram_cells: int = setting(4096, "cells that are compared; larger maps are averaged first; 0 = all", minimum=0)
    gram_precision: str = setting("float32", "precision of that comparison", choices=("float32", "bfloat16"))
    background: str = setting("off", "smooth what stands still, for a static camera", choices=("off", "still"))
    hold_colours: bool = setting(False, "in late steps, mean and spread of the latents are those of the first keyframe")
    windows: KeyframePlan = field(
        default=KeyframePlan(),
        metadata={"help": "keyframes painted together, least and most frames from one to the next", "unit": "frames"},
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "spatial_until": 1.0,
            "learning_rate": 0.4,
            "temporal_weight": 1.0,
            "spatial_weight": 50.0,
            "spatial_norm": "l2",
            "reduction": "sum",
            "pairs": "earlier",
        }
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
        steps = parts.schedule.listed_steps(self.num_inference_steps, self.strength)
        reference = parts.schedule.listed_steps(parts.schedule.train_steps, spacing="leading")[-1]  # hardly any noise
        return Shared(nothing, words, steps, reference)

    def start(self, shared: Shared) -> Carry | None:
        """The first window of a shot has no anchors."""
        return None

    def stylize(
        self, window: Window, shared: Shared, carry: Carry | None, parts: Components
    ) -> tuple[Frames, Carry | None]:
        keys = list(window.keys)
        numbers = [window.numbers[key] for key in keys]
        painted, anchors = self.painted(window.frames[keys], numbers, shared, carry.anchors if carry else None, parts)
        if carry is not None:  # the keyframe before the fresh ones: the second anchor
            painted, keys = torch.cat([carry.painted[None], painted]), keys[1:]
        frames = between_keyframes(window.frames, keys, painted, DisFlow())
        return frames if carry is None else frames[1:], Carry(anchors, painted[-1].clone())

    def painted(
        self, frames: Frames, numbers: Sequence[int], shared: Shared, anchors: Trajectory | None, parts: Components
    ) -> tuple[Float[Tensor, "new 3 height width"], Trajectory]:
        """The new keyframes of a window, whose first two `frames` are `anchors` if there are any; the next anchors."""
        parts = tied_to(frames, parts)
        source = parts.autoencoder.encode(frames)
        clean = parts.autoencoder.scaled(source)
        image = source if parts.backbone.image_channels else None
        terms = needed(
            [
                (1 - self.guidance_scale, Condition("nothing", shared.nothing, image)),
                (self.guidance_scale, Condition("words", shared.words, image)),
            ]
        )
        start, fresh, almost_none = self._noise(clean.shape[1:], numbers, shared, parts)
        ring = flow_ring(frames, DisFlow())

        # Single-step DDPM forward and backward: what the network makes of the source frames, without ControlNet.
        attended, features = Projections(), FeatureMaps()
        parts.backbone.predict(
            noised(clean, almost_none, shared.reference),
            shared.reference,
            [replace(condition, controlled=False) for _, condition in terms],
            interventions=[where(is_self & in_decoder, attended)],
            features=[features],
        )
        denoise = weighted(
            parts.backbone,
            terms,
            interventions=self._attention(attended, ring, parts.schedule.train_steps),
            features=self._optimisation(features, ring),
        )
        denoise = clean_edited(denoise, self._edit(ring, parts))

        latents = noised(clean, start, shared.steps[0]) if shared.steps else clean  # SDEdit
        record = Trajectory.starting(latents, (0, -1))
        hold = [keep(anchors, (0, 1))] if anchors else []
        latents = sample_ancestral(ddpm_step, fresh, denoise, latents, shared.steps, after=[*hold, record])
        return parts.autoencoder.decode(latents[2 if anchors else 0 :]), record

    def _attention(self, reference: Projections, ring: FlowRing, train_steps: int) -> list[Intervention]:
        """FRESCO-guided attention. The first is the outermost: it mixes what the others give."""
        guided = is_self & self._is_chosen(reference)
        noisy = Predicate(lambda call: call.step.timestep >= self.temporal_down_to * train_steps)
        paths = cache(lambda height, width: trajectories(ring, height, width))
        tokens = cache(lambda height, width: ring.newly_visible(height, width).flatten().nonzero()[:, 0])
        cross_frame = from_tokens(lambda site: tokens(site.height, site.width))
        return [
            where(guided & noisy, guided_along_flow(paths, self.temporal_scale)),  # temporal-guided
            where(
                guided & before(self.spatial_until), guided_in_space(reference, self.spatial_scale)
            ),  # spatial-guided
            *([where(guided, cross_frame)] if self.cross_frame else []),  # efficient cross-frame
        ]

    def _optimisation(self, reference: FeatureMaps, ring: FlowRing) -> list[FeatureHook]:
        """FRESCO-aware optimisation of the input of every decoder block: L_temp and L_spat."""
        how = Consistency(
            self.optimise_iterations,
            self.learning_rate,
            self.temporal_weight,
            self.spatial_weight,
            self.spatial_norm,
            self.reduction == "mean",
            self.pairs == "ring",
            self.gram_cells,
            getattr(torch, self.gram_precision),
        )

        def is_early(call: FeatureCall) -> bool:
            return self.optimise_iterations > 0 and self._done(call.step) < self.optimise_until

        hooks = [made_consistent(how, reference, ring, is_early)]
        if self.background == "still":
            still = still_background(ring)
            hooks.append(
                lambda call: with_still_background(call.feature, ring, still) if is_early(call) else call.feature
            )
        return hooks

    def _edit(self, ring: FlowRing, parts: Components) -> CleanEdit:
        """What is made of the predicted clean latents in late steps."""
        still = still_background(ring)

        def edit(clean: Latents, step: Step) -> Latents:
            done = self._done(step)
            if self.background == "still" and 0.8 <= done < 0.9:
                pictures = with_still_background(parts.autoencoder.decode(clean), ring, still, margin=13)
                clean = parts.autoencoder.scaled(parts.autoencoder.encode(pictures))
            return adain(clean, clean[:1]) if self.hold_colours and done >= 0.8 else clean

        return edit

    def _done(self, step: Step) -> float:
        """The share of the whole schedule before this step, those that SDEdit skips included."""
        return 1 - (step.count - step.index) / self.num_inference_steps

    def _is_chosen(self, reference: Projections) -> Predicate:
        """At the blocks of `layers`. Raises SettingsError (KP-SETTING-LAYER) for one without self-attention."""
        known = sorted({".".join(path.split(".")[:2]) for path in reference.queries})
        blocks = known[-2:] if self.layers == "auto" else [name.strip() for name in self.layers.split(",")]
        if unknown := set(blocks) - set(known):
            raise SettingsError(
                "KP-SETTING-LAYER",
                f"the network has no self-attention at {', '.join(sorted(unknown))}",
                where="layers",
                fix=f"it has some at {', '.join(known)}; or use auto",
            )
        return Predicate(lambda call: any(under(block)(call) for block in blocks))

    def _noise(
        self, shape: Sequence[int], numbers: Sequence[int], shared: Shared, parts: Components
    ) -> tuple[Noise, list[Noise], Noise]:
        """The noise of the start, one for all frames; of each step; and of the reference pass."""
        draws, start = len(shared.steps) + 1, shared_noise(shape, parts.seed)
        if self.noise == "shared":
            tape = noise_tape(shape, parts.seed, 1 + draws)[1:, None]
        else:
            tape = frame_tapes(shape, parts.seed, numbers, draws)
        *steps, reference = tape.to(parts.device)
        return start.to(parts.device), steps, reference
