"""Style-A-Video: agile diffusion for arbitrary text-based video style transfer (Huang, Zhang, Dong; arXiv:2305.05464).

Frames are denoised on an image-conditioned network, guided by three conditions: the frame, the words, and the frame
where a self-attention layer looks (the mask). A step along the gradient of a CLIP loss pulls each frame's content back
to the source. All frames start from one noise. The painted frames of a shot are then refined in the order of time:
that is what makes the method chained, each window carrying one frame on to the next. The authors published no code;
names and open questions are settled as `docs/methods/style-a-video.md` says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinopaint.attention.mask import AttentionMask
from kinopaint.attention.self_attention_guidance import degraded
from kinopaint.engine.components import Components
from kinopaint.engine.corrections import during, evaluated_at, gradient_of, is_due, moved_by, nudged
from kinopaint.engine.denoiser import Condition, Denoiser, Text, reuses
from kinopaint.engine.guidance import Predictions, Term, combine, limited, needed, rescaled, weighted
from kinopaint.engine.noise import frame_tapes, noise_tape
from kinopaint.engine.samplers import (
    LatentHook,
    ddpm_step,
    euler_ancestral_step,
    noised,
    sample_ancestral,
    sample_ddim,
    sample_dpmpp_2m,
    sample_euler,
)
from kinopaint.engine.schedule import Step
from kinopaint.engine.tied import encode_prompt, tied_to
from kinopaint.errors import ModelError, SettingsError
from kinopaint.flow.dis import DisFlow
from kinopaint.latents.clip_distance import DISTANCES, Decode, clip_distance
from kinopaint.latents.linear_decoder import linear_decoder
from kinopaint.latents.reduced_decoder import reduced_decoder
from kinopaint.methods._settings import check_settings, setting
from kinopaint.temporal.chain import Past, Refine, refine_in_order
from kinopaint.temporal.flow_blend import flow_blend
from kinopaint.temporal.net import net
from kinopaint.types import Clip, Frames, Latents, Mask, Prompt, Window, WindowPlan

SourceLatents = Float[Tensor, "frame channel h w"]  # beside frames, whose height and width are others

_PAPER: Mapping[str, Any] = {
    "s_image": 1.5,
    "s_text": 7.5,
    "s_mask": 0.5,
    "text_branch": "null_image",
    "mask_mode": "masked_content",
    "mask_source": "probs",
    "mask_layer": "mid_block",
    "mask_lagged": False,
    "pilot": "auto",
    "clip_strength": 0.02,
    "clip_shift": "state",
    "clip_features": "tokens",
    "clip_layer": -1,
    "clip_decoder": "auto",
    "clip_through_unet": False,
    "clip_normalize": "rms",
    "clip_every": 1.0,
    "clip_high": 1.0,
    "clip_low": 0.0,
    "init": "noised_input",
    "strength": 1.0,
    "num_inference_steps": 30,
    "sampler": "ddim",
    "spacing": "trailing",
    "noise": "shared",
    "guidance": "branches",
    "guidance_high": 1.0,
    "guidance_low": 0.0,
    "guidance_limit": 0.0,
    "guidance_rescale": 0.0,
    "temporal": "net",
}


BRANCHES = ("nothing", "content", "style")
_DETERMINISTIC = {"ddim": sample_ddim, "euler": sample_euler, "dpmpp_2m": sample_dpmpp_2m}


@dataclass(frozen=True)
class Shared:
    """What every window needs: texts, steps, and the noise: the start's, then one for each step that draws any.

    `noise` is empty where each frame draws its own.
    """

    nothing: Text
    words: Text
    steps: list[Step]
    sampler: str
    spacing: str
    noise: Float[Tensor, "draw channel height width"]


@dataclass(frozen=True)
class StyleAVideo:
    """Settings of Style-A-Video. Raises SettingsError for values out of range, or that exclude each other."""

    s_image: float = setting(1.5, "how strongly the frame's own content is kept")
    s_text: float = setting(7.5, "how strongly the words act")
    s_mask: float = setting(0.0, "how strongly the content where attention looks is kept; 0 = off")
    text_branch: str = setting(
        "null_image",
        "what the words' branch sees: no image (paper) or the frame (InstructPix2Pix)",
        choices=("null_image", "joint"),
    )
    mask_mode: str = setting(
        "masked_content",
        "what the mask condition is: the frame under the mask, the mask as a picture, or self-attention guidance",
        choices=("masked_content", "binary_image", "sag"),
    )
    mask_source: str = setting(
        "probs", "what the mask is made from: attention received, or given", choices=("probs", "output")
    )
    mask_layer: str = setting("mid_block", "layer or block whose self-attention makes the mask")
    mask_lagged: bool = setting(False, "take the mask from the step before: one call of the network per step")
    pilot: str = setting(
        "auto",
        "what the evaluation sees that mask and CLIP step look at: frame and words, the frame, nothing; "
        "auto: frame and words for the CLIP step, a branch that is evaluated anyway for the mask",
        choices=("auto", "full", "image", "null"),
    )
    clip_strength: float = setting(0.0, "λ, length of the step along the CLIP gradient; 0 = off", minimum=0)
    clip_shift: str = setting(
        "state",
        "what the CLIP step moves: the latents, the prediction, or where it is made (as printed)",
        choices=("state", "classifier", "eval_only"),
    )
    clip_features: str = setting("tokens", "what of the CLIP tower is compared", choices=tuple(DISTANCES))
    clip_layer: int = setting(-1, "layer of the CLIP tower, from the end", maximum=-1)
    clip_decoder: str = setting(
        "auto",
        "what makes pixels for the CLIP tower: the model's decoder, the same on latents reduced to the tower's size, "
        "its small one, a linear fit; auto: the small one if there is one",
        choices=("auto", "model", "reduced", "small", "linear"),
    )
    clip_through_unet: bool = setting(False, "take the gradient through the U-Net, too, as written; slow")
    clip_normalize: str = setting(
        "rms", "length of the gradient: 1 in each frame, or as it comes", choices=("rms", "none")
    )
    clip_every: float = setting(
        1.0,
        "make the CLIP step on every so many steps; below 1: after every such share of all steps (0.25: four times)",
        minimum=0.01,
    )
    clip_high: float = setting(1.0, "noise level, as a share, from which the CLIP step is made", minimum=0, maximum=1)
    clip_low: float = setting(0.0, "noise level, as a share, down to which it is made", minimum=0, maximum=1)
    guidance: str = setting(
        "branches",
        "one evaluation for each condition, weighted by s_image, s_text and s_mask; or a single one, of frame and "
        "words together, whatever these are",
        choices=("branches", "single"),
    )
    guidance_high: float = setting(
        1.0,
        "noise level, as a share, from which the branches are weighted; before, guidance is single",
        minimum=0,
        maximum=1,
    )
    guidance_low: float = setting(
        0.0,
        "noise level, as a share, down to which the branches are weighted; after, guidance is single",
        minimum=0,
        maximum=1,
    )
    init: str = setting("noised_input", "where sampling starts", choices=("noised_input", "noise"))
    strength: float = setting(
        1.0, "share of the steps that are made, from the noised frame on; 0 changes nothing", minimum=0, maximum=1
    )
    num_inference_steps: int = setting(30, "denoising steps", minimum=1)
    sampler: str = setting(
        "ddim",
        "how a step is made: deterministic (ddim, euler, dpmpp_2m for few steps), or with noise that all frames share; "
        "checkpoint: the checkpoint's own",
        choices=("ddim", "euler", "dpmpp_2m", "ddpm", "euler_a", "checkpoint"),
    )
    spacing: str = setting(
        "trailing",
        "how the steps are spread over the noise levels",
        choices=("trailing", "leading", "linspace", "checkpoint"),
    )
    noise: str = setting(
        "shared", "noise of the frames: one for all, or one for each frame number", choices=("shared", "per_frame")
    )
    guidance_limit: float = setting(
        0.0,
        "how far scales above 1 move each step's clean estimate before they count less and less (root mean square, in "
        "latents): against burnt pictures at large scales; 0 = off",
        minimum=0,
    )
    guidance_rescale: float = setting(
        0.0, "pulls the prediction's spread back to that of the words' branch; 0 = off", minimum=0, maximum=1
    )
    temporal: str = setting(
        "flow_blend",
        "how flicker is removed: not, by leaning on the frame before along the source's motion, by the model's network",
        choices=("identity", "flow_blend", "net"),
    )
    temporal_strength: float = setting(
        0.8, "β, how much flow_blend leans on the frame before; 0 = not at all", minimum=0, maximum=0.99
    )
    colour_anchor: bool = setting(False, "hold mean and spread of the colours of a shot together")
    windows: WindowPlan = field(
        default=WindowPlan(size=4), metadata={"help": "frames denoised together", "unit": "frames"}
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": _PAPER,
        "paper-literal": {
            **_PAPER,
            "clip_shift": "eval_only",
            "clip_through_unet": True,
            "pilot": "null",
            "sampler": "ddpm",
        },
        "ip2p": {
            "s_image": 1.5,
            "s_text": 7.5,
            "s_mask": 0.0,
            "text_branch": "joint",
            "guidance": "branches",
            "guidance_high": 1.0,
            "guidance_low": 0.0,
            "guidance_limit": 0.0,
            "clip_strength": 0.0,
            "init": "noise",
            "strength": 1.0,
            "sampler": "checkpoint",
            "spacing": "checkpoint",
            "noise": "shared",
            "guidance_rescale": 0.0,
            "temporal": "identity",
            "colour_anchor": False,
        },
    }

    def __post_init__(self) -> None:
        check_settings(self)
        if self.init == "noise" and self.strength < 1:
            raise SettingsError(
                "KP-SETTING-CONFLICT",
                "strength below 1 starts from the noised frame, init=noise does not",
                where="strength",
                fix="use init=noised_input, or strength 1",
            )
        if self.s_mask and self.mask_lagged and self.pilot == "full" and self.text_branch == "null_image":
            raise SettingsError(
                "KP-SETTING-CONFLICT",
                "a lagged mask comes from the step's own branches, none of which sees frame and words",
                where="mask_lagged",
                fix="use pilot=image or pilot=null, text_branch=joint, or mask_lagged=no",
            )
        if self.clip_every > 1 and self.clip_every % 1:
            raise SettingsError(
                "KP-SETTING-RANGE",
                f"clip_every: {self.clip_every} is neither a whole number of steps nor a share of them",
                where="clip_every",
                fix="give a whole number, or a number below 1",
            )

    @property
    def cost(self) -> str:
        """In words, for these settings."""
        masked = self.s_mask if self.mask_mode != "sag" else 0.0
        joint = self.text_branch == "joint"
        content = self.s_image - self.s_text if joint else self.s_image
        nothing = 1 - content - self.s_text - masked
        branches = sum(abs(weight) > 1e-9 for weight in (nothing, content, self.s_text, self.s_mask))
        if self.guidance == "single":
            branches = 1
        told = "1 branch" if branches == 1 else f"{branches} branches"
        steps = int(self.num_inference_steps * self.strength)
        levels = [level / self.num_inference_steps for level in range(1, steps + 1)]
        weighted_steps = sum(self.guidance_low <= level <= self.guidance_high for level in levels)
        calls = branches * weighted_steps + steps - weighted_steps
        gradients = sum(is_due(index, steps, self.clip_every) for index in range(steps))
        more = f", and {gradients} gradients of the CLIP step" if self.clip_strength else ""
        return (
            f"{calls} pictures through the network per frame ({told}, {steps} steps{more}); "
            "any number of them at once, as memory allows"
        )

    @property
    def through_decoder(self) -> bool:
        """Whether gradients go back through the decoder."""
        return bool(self.clip_strength) and self.clip_decoder != "linear"

    @property
    def idle(self) -> Mapping[str, str]:
        """Settings that do nothing beside the others, and why."""
        found: dict[str, str] = {}
        single = self.guidance == "single"
        if single:
            names = ["s_image", "s_text", "s_mask", "text_branch", "guidance_rescale", "negative_prompt"]
            names += ["guidance_high", "guidance_low", "guidance_limit"]
            found |= dict.fromkeys(names, "with guidance=single")
        if single or not self.s_mask:
            names = ["mask_mode", "mask_source", "mask_layer", "mask_lagged"]
            names += [] if self.clip_strength else ["pilot"]
            found |= dict.fromkeys(names, "without a mask (s_mask)")
        if not self.clip_strength:
            names = [each.name for each in fields(self) if each.name.startswith("clip_")]
            names.remove("clip_strength")
            found |= dict.fromkeys(names, "without a CLIP step (clip_strength)")
        if self.temporal != "flow_blend":
            found["temporal_strength"] = f"with temporal={self.temporal}"
        return found

    def prepare(self, clip: Clip, prompt: Prompt, parts: Components) -> Shared:
        """Raises ModelError: KP-MODEL-NO-IMAGE for settings that need a network which takes the frame,
        KP-MODEL-NO-IMAGE-ENCODER if the CLIP step is asked for and the model has no image tower,
        KP-MODEL-NO-SMALL-DECODER if it is to use a small decoder that the model has not, KP-MODEL-NO-REFINER if
        temporal=net is asked for and the model has no such network.
        """
        self._check_parts(parts)
        nothing, words = encode_prompt(prompt, parts)
        spacing = parts.schedule.timestep_spacing if self.spacing == "checkpoint" else self.spacing
        sampler = parts.schedule.sampler if self.sampler == "checkpoint" else self.sampler
        count, strength, schedule = self.num_inference_steps, self.strength, parts.schedule
        if sampler == "ddim":
            steps = schedule.steps(count, strength, spacing=spacing)
        else:
            steps = schedule.listed_steps(count, strength, spacing=spacing, sampler=sampler)
        cells = (
            parts.backbone.latent_channels,
            clip.height // parts.autoencoder.factor,
            clip.width // parts.autoencoder.factor,
        )
        draws = 0 if self.noise == "per_frame" else 1 if sampler in _DETERMINISTIC else 1 + len(steps)
        noise = noise_tape(cells, parts.seed, draws) if draws else torch.empty(0, *cells)
        return Shared(nothing, words, steps, sampler, spacing, noise.to(parts.device))

    def start(self, shared: Shared) -> Past | None:
        """The first frame of a shot leans on nothing."""
        return None

    def stylize(
        self, window: Window, shared: Shared, carry: Past | None, parts: Components
    ) -> tuple[Frames, Past | None]:
        return self.steadied(self.painted(window, shared, parts), window.frames[window.fresh], carry, parts)

    def steadied(
        self, painted: Frames, source: Frames, carry: Past | None, parts: Components
    ) -> tuple[Frames, Past | None]:
        """The painted frames of `source`, refined in the order of time after what `carry` holds of the frame before."""
        refine: Refine | None = None
        if self.temporal == "flow_blend":
            refine = flow_blend(DisFlow(), self.temporal_strength)
        elif self.temporal == "net":
            assert parts.refiner is not None  # prepare has looked
            refine = net(parts.refiner)
        return refine_in_order(painted, source, carry, refine, anchor=self.colour_anchor)

    def painted(self, window: Window, shared: Shared, parts: Components) -> Frames:
        """The fresh frames of the window, each for itself: nothing is known of other frames yet."""
        frames = window.frames[window.fresh]
        parts = tied_to(frames, parts)
        source = parts.autoencoder.encode(frames)  # c_I: raw, as InstructPix2Pix was trained
        noise = self._noise(window, shared, parts)
        latents = self._start(parts.autoencoder.scaled(source), noise[0], shared)
        denoise, before = self.guided(frames, source, shared, parts)
        if sample := _DETERMINISTIC.get(shared.sampler):
            clean = sample(denoise, latents, shared.steps, before)
        else:
            move = ddpm_step if shared.sampler == "ddpm" else euler_ancestral_step
            clean = sample_ancestral(move, list(noise[1:]), denoise, latents, shared.steps, before)
        return parts.autoencoder.decode(clean)

    def guided(
        self, frames: Frames, source: SourceLatents, shared: Shared, parts: Components
    ) -> tuple[Denoiser, list[LatentHook]]:
        """The noise prediction under all conditions, for `frames` whose raw latents are `source`; and what moves the
        latents before each step.
        """
        size = (source.shape[-2], source.shape[-1])
        masked = self.s_mask and self.guidance == "branches"
        mask = AttentionMask(self.mask_layer, self.mask_source, size) if masked else None
        denoise = self._denoiser(source, shared, parts, mask)
        if not self.clip_strength:
            return denoise, []
        decode, target = self._decoder(frames, parts.autoencoder.scaled(source), parts)
        assert parts.image_encoder is not None  # prepare has looked
        loss = clip_distance(parts.image_encoder, decode, target, features=self.clip_features, layer=self.clip_layer)
        pilot = self._pilot(self._seen(source, shared, parts, clip_step=True), parts, mask)
        gradient = during(
            gradient_of(loss, pilot, through_network=self.clip_through_unet, frames=parts.load.frames),
            self.clip_high,
            self.clip_low,
            self.clip_every,
            parts.schedule.train_steps,
        )
        strength, normalise = self.clip_strength, self.clip_normalize == "rms"
        if self.clip_shift == "state":
            return denoise, [moved_by(gradient, strength, normalise=normalise)]
        wrap = nudged if self.clip_shift == "classifier" else evaluated_at
        return wrap(denoise, gradient, strength, normalise=normalise), []

    def _single(self, source: Latents, shared: Shared, parts: Components) -> list[Term]:
        return [(1.0, Condition("style", shared.words, source if parts.backbone.image_channels else None))]

    def _weights(self, s_image: float, s_text: float) -> tuple[float, float, float]:
        s_mask = self.s_mask if self.mask_mode != "sag" else 0.0  # sag adds a difference of its own
        if self.text_branch == "joint":
            return 1 - s_image - s_mask, s_image - s_text, s_text
        return 1 - s_image - s_text - s_mask, s_image, s_text

    def _terms(self, source: Latents, shared: Shared, parts: Components) -> list[Term]:
        """ε_0 + s_I (ε_I - ε_0) + s_T (ε_T - ε_0), or with ε_IT - ε_I for the last bracket; the mask's term apart."""
        words = Condition("style", shared.words, source if self.text_branch == "joint" else None)
        nothing, content = Condition("nothing", shared.nothing), Condition("content", shared.nothing, source)
        return list(zip(self._weights(self.s_image, self.s_text), (nothing, content, words), strict=True))

    def _denoiser(self, source: Latents, shared: Shared, parts: Components, mask: AttentionMask | None) -> Denoiser:
        """The weighted branches, within the noise levels where they are asked for (arXiv:2404.07724)."""
        single = weighted(parts.backbone, self._single(source, shared, parts))
        if self.guidance == "single":
            return single
        branches = self._branches(source, shared, parts, mask)

        def denoise(latents: Latents, step: Step) -> Latents:
            asked = step.between(self.guidance_high, self.guidance_low, parts.schedule.train_steps)
            return (branches if asked else single)(latents, step)

        return denoise

    def _branches(self, source: Latents, shared: Shared, parts: Components, mask: AttentionMask | None) -> Denoiser:
        """The sum without the mask's term, or with + s_M (ε_M - ε_0), where ε_M sees the frame through the mask."""
        terms = self._terms(source, shared, parts)
        if mask is None:
            weights, conditions = zip(*needed(terms), strict=True)

            def without_mask(latents: Latents, step: Step) -> Latents:
                plain = parts.backbone.predict(latents, step, conditions)
                return self._held(combine(weights, plain), plain, conditions, step)

            return without_mask
        seen = self._seen(source, shared, parts, clip_step=False)
        look = self._pilot(seen, parts, mask)
        is_branch = seen.branch in {condition.branch for _, condition in terms}
        sag = self.mask_mode == "sag"
        nothing = terms[0][1]
        kept = needed([*terms, (0.0 if sag else self.s_mask, Condition("mask", shared.nothing))])
        always = {condition.branch for _, condition in kept} | ({nothing.branch} if sag else set())

        def denoise(latents: Latents, step: Step) -> Latents:
            # The CLIP step may have looked already; else a pilot that is no branch, or the first lagged step, must.
            if mask.known_at(step, lagged=self.mask_lagged) is None and (self.mask_lagged or not is_branch):
                look(latents, step)
            known = mask.known_at(step, lagged=self.mask_lagged)
            reused = self.mask_lagged and known is not None and reuses(parts.backbone, step)  # the mask stays, too
            watch = [] if reused or mask.known_at(step) is not None else [mask.watching(seen.branch, step)]
            evaluated = always | ({seen.branch} if watch else set())
            weights = [weight for weight, condition in terms if condition.branch in evaluated]
            conditions = [condition for _, condition in terms if condition.branch in evaluated]

            if known is not None and not sag:
                detail = self._detail(known, source, shared, parts)
                plain = parts.backbone.predict(latents, step, [*conditions, detail], interventions=watch)
                result = combine([*weights, self.s_mask], plain)
                plain = plain[:-1] if conditions else plain
            else:
                plain = parts.backbone.predict(latents, step, conditions, interventions=watch)
                known = mask.known_at(step) if known is None else known
                assert known is not None  # it was watched
                if sag:
                    base = plain[[condition.branch for condition in conditions].index(nothing.branch)]
                    worse = parts.backbone.predict(degraded(latents, base, known, step), step, [nothing])[0]
                    result = combine(weights, plain) + self.s_mask * (base - worse)
                else:
                    masked = parts.backbone.predict(latents, step, [self._detail(known, source, shared, parts)])
                    result = combine([*weights, self.s_mask], torch.cat([plain, masked]))
            return self._held(result, plain, conditions, step)

        return denoise

    def _held(self, noise: Latents, plain: Predictions, conditions: Sequence[Condition], step: Step) -> Latents:
        """`noise`, the sum of the branches' predictions `plain`, held back where scales are large."""
        if self.guidance_limit:
            ones = self._weights(min(self.s_image, 1.0), min(self.s_text, 1.0))
            added = [full - one for full, one in zip(self._weights(self.s_image, self.s_text), ones, strict=True)]
            by_branch = dict(zip(BRANCHES, added, strict=True))
            move = torch.zeros_like(noise)
            for condition, prediction in zip(conditions, plain, strict=False):  # the mask alone is in no branch
                move += by_branch[condition.branch] * prediction.float()
            noise = limited(noise, move, step, self.guidance_limit)
        return rescaled(noise, plain[-1], self.guidance_rescale) if self.guidance_rescale else noise

    def _seen(self, source: Latents, shared: Shared, parts: Components, *, clip_step: bool) -> Condition:
        """What the pilot sees. Frame and words give the CLIP loss something to pull back; where only the mask is
        wanted, a branch of the sum serves without a further evaluation.
        """
        choice = self.pilot
        if choice == "auto":
            choice = "full" if clip_step or self.text_branch == "joint" else "image"
        blind = not parts.backbone.image_channels
        if choice == "null" or (choice == "image" and blind):
            return Condition("nothing", shared.nothing)
        if choice == "full" and blind:
            return Condition("style", shared.words)
        if choice == "image":
            return Condition("content", shared.nothing, source)
        return Condition("style" if self.text_branch == "joint" else "pilot", shared.words, source)

    def _pilot(self, seen: Condition, parts: Components, mask: AttentionMask | None) -> Denoiser:
        """One branch's prediction, which leaves the mask behind."""

        def look(latents: Latents, step: Step) -> Latents:
            watch = [] if mask is None else [mask.watching(seen.branch, step)]
            return parts.backbone.predict(latents, step, [seen], interventions=watch)[0]

        return look

    def _detail(self, mask: Mask, source: Latents, shared: Shared, parts: Components) -> Condition:
        """c_M: the frame's raw latents under the mask, or those of the mask as a black and white picture."""
        if self.mask_mode == "masked_content":
            return Condition("mask", shared.nothing, mask * source)
        picture = F.interpolate(mask, scale_factor=float(parts.autoencoder.factor), mode="nearest")
        return Condition("mask", shared.nothing, parts.autoencoder.encode((2 * picture - 1).expand(-1, 3, -1, -1)))

    def _decoder(self, frames: Frames, clean: SourceLatents, parts: Components) -> tuple[Decode, Tensor]:
        """What makes pixels for the CLIP tower, and the source as seen through it (a linear fit shows small frames)."""
        if self.clip_decoder == "linear":
            fitted = linear_decoder(clean, frames)
            return fitted, fitted(clean, slice(None))
        assert parts.image_encoder is not None
        decode: Callable[[Tensor], Tensor] = parts.autoencoder.decode
        if self.clip_decoder == "reduced":
            decode = reduced_decoder(decode, parts.image_encoder.size // parts.autoencoder.factor)
        elif parts.small_autoencoder is not None and self.clip_decoder != "model":
            decode = parts.small_autoencoder.decode
        else:
            return lambda latents, which: decode(latents), frames
        return lambda latents, which: decode(latents), decode(clean)

    def _noise(self, window: Window, shared: Shared, parts: Components) -> Float[Tensor, "draw frame channel h w"]:
        """The noise of the start, then of each step that draws any; the frame axis may be 1."""
        if self.noise == "shared":
            return shared.noise[:, None]
        draws = 1 if shared.sampler in _DETERMINISTIC else 1 + len(shared.steps)
        tapes = frame_tapes(shared.noise.shape[1:], parts.seed, window.fresh_numbers, draws)
        return tapes.to(parts.device)

    def _start(self, clean: Latents, noise: Float[Tensor, "#frame channel height width"], shared: Shared) -> Latents:
        if not shared.steps:
            return clean
        if self.init == "noised_input":
            return noised(clean, noise, shared.steps[0])
        # The Euler samplers of diffusers start from sigma * noise, unless their steps begin below the noisiest one.
        level = shared.steps[0].sigma if shared.sampler in ("euler", "euler_a") and shared.spacing != "leading" else 1.0
        return (level * noise).expand_as(clean)

    def _check_parts(self, parts: Components) -> None:
        if not parts.backbone.image_channels:
            self._check_without_image(parts)
        if self.clip_strength and parts.image_encoder is None:
            raise ModelError(
                "KP-MODEL-NO-IMAGE-ENCODER",
                "the CLIP step needs an image tower, and the model has none",
                where=parts.name,
                fix="put a CLIPVisionModelWithProjection into the model's folder image_encoder, or set clip_strength 0",
            )
        if self.temporal == "net" and parts.refiner is None:
            raise ModelError(
                "KP-MODEL-NO-REFINER",
                "temporal=net needs a refinement network, and the model has none",
                where=parts.name,
                fix="put its weights into the model's folder refiner, or use temporal=flow_blend",
            )
        if self.clip_strength and self.clip_decoder == "small" and parts.small_autoencoder is None:
            raise ModelError(
                "KP-MODEL-NO-SMALL-DECODER",
                "clip_decoder=small needs a small autoencoder, and the model has none",
                where=parts.name,
                fix="put an AutoencoderTiny for the same latents into the model's folder vae_small, or use auto",
            )

    def _check_without_image(self, parts: Components) -> None:
        """A plain text-to-image network has no slot for c_I: the frame acts through the noised start and structure."""
        wrong = {
            "s_image": (self.s_image != 0, "0"),
            "s_mask": (self.s_mask != 0 and self.mask_mode != "sag", "0, or mask_mode sag"),
            "text_branch": (self.text_branch == "joint", "null_image"),
            "init": (self.init == "noise" and parts.structure is None, "noised_input, or add a ControlNet"),
        }
        for name, (needs_image, instead) in wrong.items():
            if needs_image:
                raise ModelError(
                    "KP-MODEL-NO-IMAGE",
                    f"{name}={getattr(self, name)} needs a network with input channels for the frame",
                    where=parts.name,
                    fix=f"set {name} to {instead}, or use mini or a checkpoint of the InstructPix2Pix kind",
                )
