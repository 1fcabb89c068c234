"""What a sampler asks for (Denoiser) and what a network offers (Backbone)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.interventions import FeatureHook, Intervention
from kinopaint.engine.schedule import Step
from kinopaint.types import Latents


@dataclass(frozen=True, eq=False)
class Text:
    """Words as the text encoder gives them, with whatever travels along to the network; made once, used in each step.

    Two texts are the same only if they are one object.
    """

    states: Float[Tensor, "token dim"]
    pooled: Float[Tensor, "pooled"] | None = None  # the whole text in one vector, for networks that ask for it (SDXL)
    pictures: tuple[Float[Tensor, "picture_token dim"], ...] = ()  # image prompts, one for each image adapter


@dataclass(frozen=True)
class Condition:
    """One branch of a prediction: what the network is told besides the noisy latents.

    `image` fills the extra input channels of an image-conditioned network (None: zeros, the null image); it has the
    scale that the network was trained with, for InstructPix2Pix the *unscaled* mode of the autoencoder. `structure`
    fills the channels of a network that always sees something of the frame (depth, what to paint over); `hints` are
    the pictures in [0, 1] that its ControlNets follow, one for each. A method sets neither: see `tied_to`. A
    prediction whose first condition is not `controlled` goes without ControlNets.
    """

    branch: str
    text: Text
    image: Float[Tensor, "frame channel height width"] | None = None
    structure: Float[Tensor, "frame channel height width"] | None = None
    hints: tuple[Float[Tensor, "frame 3 pixel_height pixel_width"], ...] = ()
    controlled: bool = True


@runtime_checkable
class Denoiser(Protocol):
    """The noise prediction a sampler sees: prompt, guidance, tiles already bound."""

    def __call__(self, latents: Latents, step: Step) -> Latents: ...


@runtime_checkable
class Backbone(Protocol):
    """The network. Whatever it was trained to predict, it answers with noise, in fp32."""

    latent_channels: int
    image_channels: int  # extra input channels for the frame; 0 for a plain text-to-image network

    def predict(
        self,
        latents: Latents,
        step: Step,
        conditions: Sequence[Condition],
        *,
        interventions: Sequence[Intervention] = (),
        features: Sequence[FeatureHook] = (),
    ) -> Float[Tensor, "term frame channel height width"]:
        """Predict noise once for each condition; the leading axis has one entry per condition, in order.

        `latents` are shared by all conditions if they have no branch axis, else each condition has its own.
        """
        ...


def reuses(backbone: Backbone, step: Step) -> bool:
    """Whether `backbone` may answer on features of an earlier step, which nobody can watch being made."""
    ask = getattr(backbone, "reuses", None)
    return ask is not None and bool(ask(step))
