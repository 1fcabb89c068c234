"""The work of Stable Diffusion's networks, counted layer by layer: 2 operations for each multiplication and addition.

Networks are built on the meta device, where nothing is computed and no weight takes memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

TEXT_TOKENS = 77
SD15_UNET: dict[str, Any] = {"sample_size": 64, "in_channels": 8, "cross_attention_dim": 768, "attention_head_dim": 8}
SD15_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
CLIP_B32: dict[str, Any] = {"hidden_size": 768, "num_hidden_layers": 12, "patch_size": 32, "projection_dim": 512}
CLIP_L14: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768}


def build(name: str, **config: Any) -> Any:
    """A network of diffusers on the meta device, `UNet2DConditionModel` or an autoencoder, with this configuration."""
    import diffusers

    with torch.device("meta"):
        return getattr(diffusers, name)(**config).eval()


def rebuilt(network: Any) -> Any:
    """The same architecture on the meta device."""
    with torch.device("meta"):
        return type(network).from_config(network.config).eval()


def operations(call: Any) -> int:
    """What `call` computes in matrix products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return int(counter.get_total_flops())


def unet_work(unet: Any, height: int, width: int, tokens: int = TEXT_TOKENS) -> int:
    """One evaluation of one picture of so many latent cells, `unet` on the meta device."""
    sample = torch.empty(1, unet.config.in_channels, height, width, device="meta")
    text = torch.empty(1, tokens, unet.config.cross_attention_dim, device="meta")
    return operations(lambda: unet(sample, torch.empty(1, device="meta"), text))


def autoencoder_work(vae: Any, height: int, width: int) -> tuple[int, int]:
    """Encoding and decoding one picture of so many pixels, `vae` on the meta device."""
    factor = 2 ** (len(vae.config.get("block_out_channels") or vae.config.encoder_block_out_channels) - 1)
    pixels = torch.empty(1, 3, height, width, device="meta")
    latents = torch.empty(1, vae.config.latent_channels, height // factor, width // factor, device="meta")
    return operations(lambda: vae.encoder(pixels)), operations(lambda: vae.decoder(latents))


def clip(**config: Any) -> Any:
    """A CLIP image tower for 224 pixels on the meta device."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    width = config["hidden_size"]
    more = {"intermediate_size": 4 * width, "num_attention_heads": width // 64, "image_size": 224}
    with torch.device("meta"):
        return CLIPVisionModelWithProjection(CLIPVisionConfig(**config, **more)).eval()


def gradient_work(vae: Any, tower: Any, height: int, width: int) -> int:
    """The CLIP step's gradient for one picture, through decoder and tower, there and back to the latents; weights are
    frozen. Both networks on the meta device.
    """
    for network in (vae, tower):
        network.requires_grad_(False)
    factor = 2 ** (len(vae.config.get("block_out_channels") or vae.config.encoder_block_out_channels) - 1)
    latents = torch.empty(1, vae.config.latent_channels, height // factor, width // factor, device="meta")
    latents.requires_grad_()

    def there_and_back() -> None:
        with torch.enable_grad():
            moving = latents.clone()  # the counter wants no leaf here
            small = torch.nn.functional.interpolate(vae.decoder(moving), (tower.config.image_size,) * 2)
            seen = tower.vision_model(pixel_values=small).last_hidden_state
            torch.autograd.grad(seen.sum(), moving)

    return operations(there_and_back)
