"""IP-Adapter files as their authors publish them, and pictures as prompts for them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn

from kinopaint.adapters.ip_adapter import IpAdapter
from kinopaint.engine.components import PicturePrompt
from kinopaint.errors import InputError, ModelError
from kinopaint.models.pixels import picture_processor
from kinopaint.models.weights import configured, filled, read_json, read_weights, weight_files


def read_ip_adapter(
    file: Path, unet: Any, device: torch.device, dtype: torch.dtype, *, weight: float = 1.0
) -> tuple[IpAdapter, Any]:
    """The adapter for `unet`, and the module that makes tokens of what the image encoder says of a picture.

    Raises ModelError: KP-IP-ADAPTER-FORMAT for another kind of file, KP-IP-ADAPTER-BASE for one that was made for
    another base model, and those of `read_weights`.
    """
    state = read_weights([file], device, dtype)
    projection = {name.removeprefix("image_proj."): state[name] for name in state if name.startswith("image_proj.")}
    layers = {name.removeprefix("ip_adapter."): state[name] for name in state if name.startswith("ip_adapter.")}
    faces = "perceiver_resampler.proj_in.weight" in projection or any("lora" in name for name in layers)
    known = {"proj.weight", "proj.3.weight", "latents"} & projection.keys()
    if not layers or not known or faces:
        raise ModelError(
            "KP-IP-ADAPTER-FORMAT",
            "the file is an IP-Adapter for faces, which needs a face detector"
            if faces
            else "the file is no IP-Adapter",
            where=str(file),
            fix="use ip-adapter, ip-adapter-plus or ip-adapter-full-face for this base model",
        )
    paths = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    found = {}
    for index, path in enumerate(paths):
        key, value = (layers.get(f"{2 * index + 1}.to_{kind}_ip.weight") for kind in ("k", "v"))
        expected = unet.get_submodule(path).to_k.weight.shape
        if key is None or value is None or key.shape != expected or len(layers) != 2 * len(paths):
            has = f"{tuple(key.shape)} there" if key is not None else "nothing there"
            raise ModelError(
                "KP-IP-ADAPTER-BASE",
                f"the IP-Adapter was made for another base model: {path} takes {tuple(expected)}, it has {has}",
                where=str(file),
                fix="use an IP-Adapter for this family (Stable Diffusion 1.x and XL each have their own)",
            )
        found[path] = (key, value)
    try:
        module = unet._convert_ip_adapter_image_proj_to_diffusers(projection, low_cpu_mem_usage=False)
    except (RuntimeError, KeyError, IndexError) as error:  # a weight that is missing, or of another shape
        raise ModelError(
            "KP-IP-ADAPTER-FORMAT",
            f"the weights that make tokens of a picture do not fit each other: {error}",
            where=str(file),
            fix="fetch the file again",
        ) from error
    return IpAdapter(found, weight), module.to(device, dtype).eval().requires_grad_(False)


def read_picture_prompt(
    picture: Path, encoder: Path, projection: nn.Module, device: torch.device, dtype: torch.dtype
) -> PicturePrompt:
    """The tokens of a picture, and those of none, by the CLIP image encoder in the folder `encoder`.

    Raises InputError KP-INPUT-PICTURE, ModelError KP-IP-ADAPTER-ENCODER, and those of reading a part.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    said = read_json(encoder / "config.json")
    config: Any = configured(lambda: CLIPVisionConfig.from_dict(said), encoder)
    weights: Mapping[str, Tensor] = read_weights(weight_files(encoder, "model"), device, dtype)
    model = filled(lambda: CLIPVisionModelWithProjection(config), weights, encoder).eval()
    pixels = _prepared(picture, config.image_size).to(device, dtype)
    projector: Any = projection
    with torch.no_grad():
        if hasattr(projector, "image_embeds"):  # the plain adapter: one vector, and zeros for no picture
            embeds = model(pixels).image_embeds
            told = torch.cat([embeds, torch.zeros_like(embeds)])
        else:  # plus: the states before the last layer, and those of a black picture
            states = model(torch.cat([pixels, torch.zeros_like(pixels)]), output_hidden_states=True)
            told = states.hidden_states[-2]
        width = projector.image_embeds.in_features if hasattr(projector, "image_embeds") else None
        try:
            tokens = projector(told)
        except RuntimeError as error:
            raise ModelError(
                "KP-IP-ADAPTER-ENCODER",
                f"the image encoder gives {told.shape[-1]} numbers, the IP-Adapter takes {width or 'others'}",
                where=str(encoder),
                fix="put the image encoder that belongs to the IP-Adapter beside it, as the folder image_encoder",
            ) from error
    tokens = tokens.float()
    return PicturePrompt(tokens[0], tokens[1])


def find_image_encoder(file: Path) -> Path:
    """The folder `image_encoder` beside the file, or in the folder `models` of the published repository."""
    places = [file.parent / "image_encoder", file.parent.parent / "models" / "image_encoder"]
    for folder in places:
        if folder.is_dir():
            return folder
    raise ModelError(
        "KP-IP-ADAPTER-ENCODER",
        "an IP-Adapter needs its CLIP image encoder",
        where=str(places[0]),
        fix="put the folder image_encoder (config.json, model.safetensors) beside the file",
    )


def _prepared(picture: Path, size: int) -> Tensor:
    """A picture as CLIP sees it: its middle, `size` pixels each way."""
    missing = not os.path.exists(picture)
    pixels = None if missing else cv2.imread(str(picture))
    if pixels is None:
        raise InputError(
            "KP-INPUT-PICTURE",
            "there is no such file" if missing else "the file is no picture that can be read",
            where=str(picture),
            fix="give a .png, .jpg or .webp file with --image-prompt",
        )
    prepare = picture_processor("CLIPImageProcessor")(size=size, crop_size=size)
    tensor: Tensor = prepare(images=cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), return_tensors="pt").pixel_values
    return tensor
