"""A model tied to frames and a prompt: what it sees of them in every branch, whatever the method."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.components import Components
from kinopaint.engine.denoiser import Backbone, Condition, Text, reuses
from kinopaint.engine.schedule import Step
from kinopaint.types import Frames, Latents, Prompt


def encode_prompt(prompt: Prompt, parts: Components) -> tuple[Text, Text]:
    """Nothing (or the negative prompt), and the words; picture prompts go with the words."""
    nothing, words = parts.text_encoder.encode([prompt.negative, prompt.text])
    prompts = parts.picture_prompts
    return (
        replace(nothing, pictures=tuple(prompt.nothing for prompt in prompts)),
        replace(words, pictures=tuple(prompt.tokens for prompt in prompts)),
    )


def tied_to(frames: Frames, parts: Components) -> Components:
    """The parts with a backbone whose every branch sees the structure of these frames, if the model has a use for it.

    Predictions must then be for these frames, all of them and in this order.
    """
    if parts.structure is None:
        return parts
    channels = parts.structure.channels(frames, parts.autoencoder)
    return replace(parts, backbone=_Tied(parts.backbone, channels, parts.structure.hints(frames)))


def both_seeing(source: Latents, nothing: Text, words: Text, parts: Components) -> tuple[Condition, Condition]:
    """The two branches of classifier-free guidance; if the network has a slot for the frame, both see its raw latents,
    `source`.
    """
    image = source if parts.backbone.image_channels else None
    return Condition("nothing", nothing, image), Condition("words", words, image)


@dataclass
class _Tied:
    backbone: Backbone
    structure: Float[Tensor, "frame channel height width"] | None
    hints: tuple[Float[Tensor, "frame 3 pixel_height pixel_width"], ...]

    def __post_init__(self) -> None:
        self.latent_channels, self.image_channels = self.backbone.latent_channels, self.backbone.image_channels

    def predict(
        self, latents: Latents, step: Step, conditions: Sequence[Condition], **more: Any
    ) -> Float[Tensor, "term frame channel height width"]:
        seen = [replace(condition, structure=self.structure, hints=self.hints) for condition in conditions]
        return self.backbone.predict(latents, step, seen, **more)

    def reuses(self, step: Step) -> bool:
        return reuses(self.backbone, step)
