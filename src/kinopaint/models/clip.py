"""Pairs of a picture and a text encoder: any CLIP in transformers layout, or the towers of a model folder.

A CLIP folder holds config.json (`model_type` "clip"), model.safetensors, the tokenizer's files and
preprocessor_config.json. A model folder in diffusers layout has a pair if there is an `image_encoder`
(`CLIPVisionModelWithProjection`) beside its text encoder, trained to meet that one's pooled output as it is.
Pictures are prepared as preprocessor_config.json says, else as CLIP does: short side to size, centre crop.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kinopaint.errors import ModelError
from kinopaint.metrics.encoder import PictureEmbeddings
from kinopaint.models.finding import find_model
from kinopaint.models.pixels import picture_processor
from kinopaint.models.placement import choose_device
from kinopaint.models.text import read_tokenizer
from kinopaint.models.weights import filled, read_json, read_weights, weight_files

_HUB_FILES = [
    "config.json",
    "model*.safetensors*",
    "preprocessor_config.json",
    "vocab.json",
    "merges.txt",
    "token*.json",
]
_PICTURES_AT_ONCE = 16


class ClipPair:
    """A `PairEncoder` in fp32: `vision` gives (pooled embedding, last states), `text` a pooled embedding of tokens."""

    def __init__(
        self,
        name: str,
        *,
        vision: Callable[[Tensor], tuple[Tensor, Tensor]],
        text: Callable[[Tensor], Tensor],
        processor: Any,
        tokenizer: Any,
        max_tokens: int,
        device: torch.device,
        own: bool,
    ) -> None:
        self.name, self.own = name, own
        self._vision, self._text, self._processor, self._tokenizer = vision, text, processor, tokenizer
        self._max_tokens, self._device = max_tokens, device

    def embed_pictures(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> PictureEmbeddings:
        """Embeddings of RGB pictures of any size, prepared as the model's own processor does it."""
        pooled, tokens = [], []
        for at in range(0, len(pictures), _PICTURES_AT_ONCE):
            prepared = self._processor(
                images=list(pictures[at : at + _PICTURES_AT_ONCE]),
                return_tensors="pt",
                input_data_format="channels_last",
            )
            with torch.no_grad():
                embedding, states = self._vision(prepared["pixel_values"].to(self._device))
            pooled.append(F.normalize(embedding.float(), dim=-1).cpu())
            tokens.append(states[:, 1:].float().cpu())  # without the class token
        return PictureEmbeddings(torch.cat(pooled), torch.cat(tokens))

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "text dim"]:
        for text in texts:
            if len(self._tokenizer(text, verbose=False).input_ids) > self._max_tokens:
                warnings.warn(f"{self.name} reads only the first {self._max_tokens} tokens of {text!r}", stacklevel=2)
        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        )
        with torch.no_grad():
            return F.normalize(self._text(tokens.input_ids.to(self._device)).float(), dim=-1).cpu()


def has_pair(folder: Path) -> bool:
    """Whether a model folder in diffusers layout has a picture encoder."""
    return (folder / "image_encoder" / "config.json").is_file()


def load_clip(name: str | Path, *, device: str = "cpu", download: bool = False) -> ClipPair:
    """Load a pair: "mini", a folder in either layout, or a hub id such as "openai/clip-vit-base-patch32".

    A hub id is taken from the local cache, unless `download` allows the network. Raises ModelError, with the codes of
    `load_model`, and KP-MODEL-NO-IMAGE-ENCODER for a model folder that has only a text encoder.
    """
    path = find_model(name, download=download, files=_HUB_FILES).path
    place = choose_device(device)
    own = str(name) == "mini"
    if (path / "model_index.json").exists():
        return _of_model_folder(path, str(name), place, own=own)
    if path.is_file():
        raise ModelError(
            "KP-MODEL-LAYOUT", "a CLIP is a folder", where=str(path), fix="give the folder that holds config.json"
        )
    config = read_json(path / "config.json")
    if config.get("model_type") != "clip":
        raise ModelError(
            "KP-MODEL-ARCHITECTURE",
            f"the model is of type {config.get('model_type')!r}; expected 'clip'",
            where=str(path / "config.json"),
            fix="give a CLIP with both towers, such as openai/clip-vit-base-patch32",
        )

    from transformers import CLIPConfig, CLIPModel

    model = _network(path, lambda: CLIPModel(CLIPConfig.from_dict(config)), place)

    def vision(pixels: Tensor) -> tuple[Tensor, Tensor]:
        states = model.vision_model(pixels)
        return model.visual_projection(states.pooler_output), states.last_hidden_state

    tokenizer = read_tokenizer(path, model.config.text_config.vocab_size)
    return ClipPair(
        str(name),
        vision=vision,
        text=lambda tokens: model.text_projection(model.text_model(tokens).pooler_output),
        processor=_processor([path], model.config.vision_config.image_size),
        tokenizer=tokenizer,
        max_tokens=min(tokenizer.model_max_length, model.config.text_config.max_position_embeddings),
        device=place,
        own=own,
    )


def _of_model_folder(path: Path, name: str, device: torch.device, *, own: bool) -> ClipPair:
    if not has_pair(path):
        raise ModelError(
            "KP-MODEL-NO-IMAGE-ENCODER",
            "the model has a text encoder but no image_encoder, so pictures cannot be compared with words",
            where=str(path / "image_encoder"),
            fix="give a CLIP folder or hub id with --clip",
        )

    from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig.from_dict(read_json(path / "image_encoder" / "config.json"))
    text_config = CLIPTextConfig.from_dict(read_json(path / "text_encoder" / "config.json"))
    if text_config.hidden_size != config.projection_dim:
        raise ModelError(
            "KP-MODEL-MISFIT",
            f"the text encoder gives {text_config.hidden_size} numbers, the image encoder {config.projection_dim}",
            where=str(path / "image_encoder"),
            fix="the parts were not trained together; give a CLIP folder or hub id with --clip",
        )
    model = _network(path / "image_encoder", lambda: CLIPVisionModelWithProjection(config), device)
    text = _network(path / "text_encoder", lambda: CLIPTextModel(text_config), device)

    def vision(pixels: Tensor) -> tuple[Tensor, Tensor]:
        states = model(pixels)
        return states.image_embeds, states.last_hidden_state

    tokenizer = read_tokenizer(path / "tokenizer", text.config.vocab_size)
    return ClipPair(
        name,
        vision=vision,
        text=lambda tokens: text(tokens).pooler_output,
        processor=_processor([path / "image_encoder", path / "feature_extractor"], model.config.image_size),
        tokenizer=tokenizer,
        max_tokens=min(tokenizer.model_max_length, text.config.max_position_embeddings),
        device=device,
        own=own,
    )


def _network(folder: Path, build: Callable[[], nn.Module], device: torch.device) -> Any:
    weights = read_weights(weight_files(folder, "model"), device, torch.float32)
    return filled(build, weights, folder).eval().requires_grad_(False)


def _processor(folders: Sequence[Path], size: int) -> Any:
    """The picture preparation that one of the folders describes, else CLIP's for that size."""
    kind = picture_processor("CLIPImageProcessor")
    for folder in folders:
        if (folder / "preprocessor_config.json").exists():
            return kind.from_dict(read_json(folder / "preprocessor_config.json"))
    return kind(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
