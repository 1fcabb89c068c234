"""Kinds of networks: what a U-Net sees, what it may ask for, and what methods should know of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinopaint.errors import ModelError

_WITHOUT_IMAGE: Mapping[str, Any] = {"s_image": 0.0, "s_mask": 0.0, "text_branch": "null_image"}


def kind_of(config: Mapping[str, Any], latent_channels: Any, where: Path) -> str:
    """What a U-Net sees besides the noisy latents: "text-to-image", "instruct-pix2pix", "depth" or "inpaint".

    Raises ModelError KP-MODEL-MISFIT for other numbers of channels.
    """
    taken, given = config.get("in_channels", 4), config.get("out_channels", 4)
    if not all(isinstance(each, int) for each in (taken, given, latent_channels)):
        raise ModelError(
            "KP-MODEL-ARCHITECTURE",
            f"the configurations count {taken!r}, {given!r} and {latent_channels!r} channels",
            where=str(where),
            fix="fetch the model again",
        )
    kinds = {
        0: "text-to-image",
        1: "depth",
        latent_channels: "instruct-pix2pix",
        latent_channels + 1: "inpaint",
    }
    kind = kinds.get(taken - latent_channels)
    if kind is None or given != latent_channels:
        raise ModelError(
            "KP-MODEL-MISFIT",
            f"the U-Net takes {taken} and gives {given} channels, the autoencoder has {latent_channels}",
            where=str(where),
            fix=f"expected {', '.join(str(latent_channels + extra) for extra in sorted(kinds))} in, "
            f"{latent_channels} out",
        )
    return kind


def check_unet(config: Mapping[str, Any], where: Path) -> None:
    """The U-Net asks for nothing that nobody would tell it."""
    strange = {
        name: config[name]
        for name in ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "time_cond_proj_dim")
        if config.get(name) is not None
    }
    if config.get("addition_embed_type") not in (None, "text", "text_time"):
        strange["addition_embed_type"] = config["addition_embed_type"]
    if strange:
        raise ModelError(
            "KP-MODEL-ARCHITECTURE",
            "the U-Net takes conditions that are not supported: "
            + ", ".join(f"{name} {value}" for name, value in strange.items()),
            where=str(where),
            fix="use a checkpoint of the Stable Diffusion 1.x, 2.x, XL or InstructPix2Pix family",
        )


def recommended(kind: str, *, structured: bool) -> Mapping[str, Mapping[str, Any]]:
    """Values for methods whose defaults ask for a slot for the frame, where the network has none."""
    if kind == "instruct-pix2pix":
        return {}
    return {"style-a-video": {**_WITHOUT_IMAGE, "strength": 0.8 if structured or kind == "depth" else 0.6}}
