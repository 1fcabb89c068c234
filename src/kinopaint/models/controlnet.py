"""ControlNets: what they add to the U-Net's features, step by step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kinopaint.engine.schedule import Step
from kinopaint.errors import ModelError
from kinopaint.models.hints import HINTS
from kinopaint.types import Frames


@dataclass(frozen=True)
class Control:
    """A ControlNet, its weight, the share of the steps in which it acts, and the kind of picture that it follows."""

    network: Any
    hint: str
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def acts(self, step: Step) -> bool:
        """As in diffusers: from the first step after `start` to the last that ends before `end`."""
        return step.index / step.count >= self.start and (step.index + 1) / step.count <= self.end

    def check_fits(self, unet: Any, latent_channels: int, pixels_per_cell: int, where: str) -> None:
        """Raises ModelError (KP-CONTROLNET-BASE) if it was made for another kind of network, or follows something else
        than RGB pictures."""
        ours, own = unet.config, self.network.config
        for name, expected in (
            ("cross_attention_dim", ours.cross_attention_dim),
            ("block_out_channels", ours.block_out_channels),
            ("layers_per_block", ours.layers_per_block),
            ("in_channels", latent_channels),
            ("addition_embed_type", _told(ours)["addition_embed_type"]),
        ):
            found = {**own, **_told(own)}.get(name)
            if _plain(found) != _plain(expected):
                raise ModelError(
                    "KP-CONTROLNET-BASE",
                    f"the ControlNet was made for another base: its {name} is {found}, the model's {expected}",
                    where=where,
                    fix="use a ControlNet for this family (Stable Diffusion 1.x, 2.x and XL each have their own)",
                )
        reduced = 2 ** (len(own.get("conditioning_embedding_out_channels", range(4))) - 1)
        order = own.get("controlnet_conditioning_channel_order", "rgb")
        for name, found, wanted in (
            ("pictures of {} channels", own.get("conditioning_channels", 3), 3),
            ("pictures {} times as wide as the latents", reduced, pixels_per_cell),
            ("channels in the order {!r}", order, order if order in ("rgb", "bgr") else "rgb"),
        ):
            if found != wanted:
                raise ModelError(
                    "KP-CONTROLNET-BASE",
                    f"the ControlNet follows {name.format(found)}; it would get {wanted}",
                    where=where,
                    fix="use a ControlNet for pictures, such as those for edges",
                )


def _told(config: Any) -> dict[str, Any]:
    """What a caller must add to the words; "text" networks pool the words themselves."""
    kind = config.get("addition_embed_type")
    return {"addition_embed_type": None if kind == "text" else kind}


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else value


def residuals(
    controls: Sequence[Control],
    step: Step,
    sample: Tensor,
    timestep: Tensor,
    texts: Tensor,
    hints: Sequence[Tensor],
    added: dict[str, Tensor] | None,
) -> dict[str, Any]:
    """The U-Net's arguments for what the ControlNets that act in this step add to its features; their sum.

    `sample` holds the latents alone, `hints` one batch of pictures for each of `controls`.
    """
    down: list[Tensor] | None = None
    middle: Tensor | None = None
    for control, hint in zip(controls, hints, strict=True):
        if not control.acts(step):
            continue
        parts, last = control.network(
            sample,
            timestep,
            encoder_hidden_states=texts,
            controlnet_cond=hint.to(sample.device, sample.dtype),
            conditioning_scale=control.weight,
            added_cond_kwargs=added,
            return_dict=False,
        )
        down = list(parts) if down is None else [old + new for old, new in zip(down, parts, strict=True)]
        middle = last if middle is None else middle + last
    if down is None:
        return {}
    return {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}


def hints_of(controls: Sequence[Control], frames: Frames) -> tuple[Tensor, ...]:
    """The picture that each ControlNet follows; kinds that several follow are made once."""
    made = {kind: HINTS[kind](frames) for kind in {control.hint for control in controls}}
    return tuple(made[control.hint] for control in controls)
