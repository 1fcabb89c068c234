"""Style-A-Video: agile diffusion for arbitrary text-based video style transfer (Huang, Zhang, Dong; arXiv:2305.05464).

Frames are denoised on an image-conditioned network, guided by three conditions: the frame, the words, and the frame
where a self-attention layer looks (the mask). All frames start from one noise. The authors published no code; names and
open questions are settled as `docs/methods/style-a-video.md` says. Not here yet: the step along the gradient of a CLIP
loss, and the temporal refinement; asking for them is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.attention.record import ReceivedAttention, above_mean, resized
from kinopaint.engine.components import Components
from kinopaint.engine.denoiser import Condition, Denoiser, Text
from kinopaint.engine.guidance import Term, combine, needed, rescaled, weighted
from kinopaint.engine.interventions import is_self, under, where
from kinopaint.engine.noise import frame_noise, shared_noise
from kinopaint.engine.samplers import noised, sample_ddim
from kinopaint.engine.schedule import Step
from kinopaint.engine.tied import encode_prompt, tied_to
from kinopaint.errors import ModelError, SettingsError
from kinopaint.methods._settings import check_settings, setting
from kinopaint.types import Clip, Frames, Latents, Prompt, Window, WindowPlan

_PAPER: Mapping[str, Any] = {
    "s_image": 1.5,
    "s_text": 7.5,
    "s_mask": 0.5,
    "text_branch": "null_image",
    "mask_mode": "masked_content",
    "clip_strength": 0.02,
    "clip_shift": "state",
    "init": "noised_input",
    "num_inference_steps": 30,
    "temporal": "net",
}


@dataclass(frozen=True)
class Shared:
    """What every window needs: texts, steps, and the noise, which is one tensor unless each frame draws its own."""

    nothing: Text
    words: Text
    steps: list[Step]
    noise: Float[Tensor, "1 channel height width"]


@dataclass(frozen=True)
class StyleAVideo:
    """Settings of Style-A-Video. Raises SettingsError for values out of range, and for parts that are not built yet."""

    s_image: float = setting(1.5, "how strongly the frame's own content is kept")
    s_text: float = setting(7.5, "how strongly the words act")
    s_mask: float = setting(0.0, "how strongly the content where attention looks is kept; 0 = off")
    text_branch: str = setting(
        "null_image",
        "what the words' branch sees: no image (paper) or the frame (InstructPix2Pix)",
        choices=("null_image", "joint"),
    )
    mask_mode: str = setting(
        "masked_content", "what the mask condition is", choices=("masked_content", "binary_image", "sag")
    )
    mask_source: str = setting("probs", "what the mask is made from", choices=("probs", "output"))
    mask_layer: str = setting("mid_block", "layer or block whose self-attention makes the mask")
    clip_strength: float = setting(0.0, "λ, length of the step along the CLIP gradient; 0 = off", minimum=0)
    clip_shift: str = setting("state", "what the CLIP step moves", choices=("state", "classifier", "eval_only"))
    init: str = setting("noised_input", "where sampling starts", choices=("noised_input", "noise"))
    strength: float = setting(
        1.0, "share of the steps that are made, from the noised frame on; 0 changes nothing", minimum=0, maximum=1
    )
    num_inference_steps: int = setting(30, "denoising steps", minimum=1)
    spacing: str = setting(
        "trailing",
        "how the steps are spread over the noise levels",
        choices=("trailing", "leading", "linspace", "checkpoint"),
    )
    noise: str = setting(
        "shared", "noise of the frames: one for all, or one for each frame number", choices=("shared", "per_frame")
    )
    guidance_rescale: float = setting(
        0.0, "pulls the prediction's spread back to that of the words' branch; 0 = off", minimum=0, maximum=1
    )
    temporal: str = setting("identity", "how flicker is removed", choices=("identity", "flow_blend", "net"))
    windows: WindowPlan = field(
        default=WindowPlan(size=4), metadata={"help": "frames denoised together", "unit": "frames"}
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": _PAPER,
        "paper-literal": {**_PAPER, "clip_shift": "eval_only"},
        "ip2p": {
            "s_image": 1.5,
            "s_text": 7.5,
            "s_mask": 0.0,
            "text_branch": "joint",
            "clip_strength": 0.0,
            "init": "noise",
            "spacing": "checkpoint",
            "temporal": "identity",
        },
    }

    def __post_init__(self) -> None:
        check_settings(self)
        later = {
            "clip_strength": self.clip_strength != 0,
            "temporal": self.temporal != "identity",
            "mask_mode": self.s_mask != 0 and self.mask_mode != "masked_content",
            "mask_source": self.s_mask != 0 and self.mask_source != "probs",
        }
        for name in (name for name, wanted in later.items() if wanted):
            off = {"clip_strength": 0, "temporal": "identity", "mask_mode": "masked_content", "mask_source": "probs"}[
                name
            ]
            raise SettingsError(
                "KP-SETTING-NOT-YET",
                f"{name}={getattr(self, name)} is not built yet",
                where=name,
                fix=f"leave it at {off}",
            )
        if self.init == "noise" and self.strength < 1:
            raise SettingsError(
                "KP-SETTING-CONFLICT",
                "strength below 1 starts from the noised frame, init=noise does not",
                where="strength",
                fix="use init=noised_input, or strength 1",
            )

    def prepare(self, clip: Clip, prompt: Prompt, parts: Components) -> Shared:
        """Raises ModelError (KP-MODEL-NO-IMAGE) for settings that need a network which takes the frame."""
        if not parts.backbone.image_channels:
            self._check_without_image(parts)
        nothing, words = encode_prompt(prompt, parts)
        spacing = None if self.spacing == "checkpoint" else self.spacing
        steps = parts.schedule.steps(self.num_inference_steps, self.strength, spacing=spacing)
        cells = (
            parts.backbone.latent_channels,
            clip.height // parts.autoencoder.factor,
            clip.width // parts.autoencoder.factor,
        )
        return Shared(nothing, words, steps, shared_noise(cells, parts.seed).to(parts.device))

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

    def stylize(self, window: Window, shared: Shared, parts: Components) -> Frames:
        parts = tied_to(window.frames[window.fresh], parts)
        source = parts.autoencoder.encode(window.frames[window.fresh])  # c_I: raw, as InstructPix2Pix was trained
        latents = self._start(parts.autoencoder.scaled(source), window, shared, parts)
        denoise = self.denoiser(source, shared, parts)
        return parts.autoencoder.decode(sample_ddim(denoise, latents, shared.steps))

    def denoiser(self, source: Latents, shared: Shared, parts: Components) -> Denoiser:
        """The noise prediction under all conditions, for frames whose raw latents are `source`."""
        if self.s_mask:
            return self._masked(source, shared, parts)
        return weighted(parts.backbone, self._terms(source, shared), rescale=self.guidance_rescale)

    def _terms(self, source: Latents, shared: Shared) -> list[Term]:
        """ε_0 + s_I (ε_I - ε_0) + s_T (ε_T - ε_0), or with ε_IT - ε_I for the last bracket; the mask's term apart."""
        nothing, content = Condition("nothing", shared.nothing), Condition("content", shared.nothing, source)
        if self.text_branch == "joint":
            return [
                (1 - self.s_image - self.s_mask, nothing),
                (self.s_image - self.s_text, content),
                (self.s_text, Condition("style", shared.words, source)),
            ]
        return [
            (1 - self.s_image - self.s_text - self.s_mask, nothing),
            (self.s_image, content),
            (self.s_text, Condition("style", shared.words)),
        ]

    def _masked(self, source: Latents, shared: Shared, parts: Components) -> Denoiser:
        """The same with + s_M (ε_M - ε_0), where ε_M sees the frame through the mask M.

        The mask comes from the branch that sees the frame ("joint": frame and words), not from an extra evaluation.
        """
        pilot = "style" if self.text_branch == "joint" else "content"
        terms = self._terms(source, shared)
        kept = needed([*terms, (self.s_mask, Condition("mask", shared.nothing))])[:-1]
        kept += [
            (0.0, condition)
            for _, condition in terms
            if condition.branch == pilot and pilot not in {other.branch for _, other in kept}
        ]
        weights, conditions = [weight for weight, _ in kept], [condition for _, condition in kept]

        def denoise(latents: Latents, step: Step) -> Latents:
            received = ReceivedAttention(pilot)
            watch = where(is_self & under(self.mask_layer), received)
            plain = parts.backbone.predict(latents, step, conditions, interventions=[watch])
            if received.map is None:
                raise SettingsError(
                    "KP-SETTING-LAYER",
                    f"the network has no self-attention at {self.mask_layer!r}",
                    where="mask_layer",
                    fix='name a block that has attention, such as "mid_block"',
                )
            mask = resized(above_mean(received.map), (source.shape[-2], source.shape[-1]))  # M
            detail = Condition("mask", shared.nothing, mask * source)  # c_M = M * c_I
            masked = parts.backbone.predict(latents, step, [detail])
            result = combine([*weights, self.s_mask], torch.cat([plain, masked]))
            style = plain[[condition.branch for condition in conditions].index("style")] if self.s_text else plain[-1]
            return rescaled(result, style, self.guidance_rescale) if self.guidance_rescale else result

        return denoise

    def _start(self, clean: Latents, window: Window, shared: Shared, parts: Components) -> Latents:
        if not shared.steps:
            return clean
        noise, (_, *cells) = shared.noise, clean.shape
        if self.noise == "per_frame":
            noise = frame_noise(cells, parts.seed, window.fresh_numbers).to(clean.device)
        if self.init == "noise":
            return noise.expand_as(clean)
        return noised(clean, noise, shared.steps[0])
