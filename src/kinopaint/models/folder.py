"""A checkpoint as a folder in diffusers layout: model_index.json, and a folder for each part."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinopaint.errors import ModelError
from kinopaint.models.weights import PICKLES, missing, pickle, read_json, read_weights, weight_files

CLASSES = {  # part -> classes that can be used; those of SDXL and Depth2Img are asked for where the U-Net needs them
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny"),
    "vae_small": ("AutoencoderKL", "AutoencoderTiny"),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "scheduler": (),  # judged by the noise schedule
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "depth_estimator": ("DPTForDepthEstimation",),
}
REQUIRED = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


class FolderCheckpoint:
    """The parts of a folder. Raises ModelError: KP-MODEL-LAYOUT, -PICKLE, -JSON, -PART or -ARCHITECTURE."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "model_index.json").exists():
            for file in path.iterdir():
                if file.suffix in PICKLES:
                    raise pickle(file)
            raise ModelError(
                "KP-MODEL-LAYOUT",
                "the folder has no model_index.json",
                where=str(path),
                fix="give the folder of a checkpoint in diffusers layout",
            )
        self.index = read_json(path / "model_index.json")
        for part in REQUIRED:
            self.require(part)
        about = path / "kinopaint.json"
        self.about: Mapping[str, Any] = read_json(about) if about.exists() else {}
        recommended = self.about.get("recommended") or {}
        if not isinstance(recommended, dict) or not all(isinstance(each, dict) for each in recommended.values()):
            raise ModelError(
                "KP-MODEL-JSON",
                "recommended names no methods with their settings",
                where=str(about),
                fix='write {"recommended": {"style-a-video": {"s_text": 5.0}}}, or leave it out',
            )

    def require(self, part: str) -> None:
        """The part is named in model_index.json, present, and of a class that can be used."""
        where, entry = self.path / "model_index.json", self.index.get(part)
        if not (isinstance(entry, list) and len(entry) == 2 and entry[1]):
            raise ModelError(
                "KP-MODEL-PART",
                f"model_index.json names no {part}",
                where=str(where),
                fix="a complete checkpoint has " + ", ".join(REQUIRED),
            )
        check_class(str(entry[1]), CLASSES[part], part, where)
        if not (self.path / part).is_dir():
            raise missing(self.path / part, f"the part {part}")
        if part in ("unet", "vae"):
            self.config(part)

    def has(self, part: str) -> bool:
        return (self.path / part).is_dir()

    def config(self, part: str) -> dict[str, Any]:
        """The part's configuration; that of unet and vae names a class that can be used."""
        if part == "scheduler":
            return read_json(self.path / part / "scheduler_config.json")
        config = read_json(self.path / part / "config.json")
        if part in CLASSES and part.startswith(("unet", "vae")):
            check_class(str(config.get("_class_name")), CLASSES[part], part, self.path / part / "config.json")
        return config

    def weights(self, part: str, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        stem = "diffusion_pytorch_model" if part.startswith(("unet", "vae")) else "model"
        return read_weights(weight_files(self.path / part, stem), device, dtype)

    def tokenizer_folder(self, part: str) -> Path:
        return self.path / part

    def pad_token(self, part: str) -> None:
        """The folder's own tokenizer says what it fills short texts with."""

    def where(self, part: str) -> Path:
        """What an error names."""
        return self.path / part

    @property
    def zero_for_empty_text(self) -> bool:
        """SDXL: no text is told as zeros, not as the encoder's idea of nothing."""
        return bool(self.index.get("force_zeros_for_empty_prompt", True))

    @property
    def licence(self) -> str | None:
        """The licence that kinopaint.json or the head of the model card names."""
        return str(self.about["licence"]) if "licence" in self.about else licence_of(self.path)


def licence_of(folder: Path) -> str | None:
    """The licence that the head of the model card in `folder` names."""
    card = folder / "README.md"
    if not card.exists():
        return None
    found = re.search(r"\A---\n(?:.*\n)*?licen[sc]e:\s*(\S+)", card.read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else None


def check_class(name: str, classes: tuple[str, ...], part: str, where: Path) -> None:
    if classes and name not in classes:
        raise ModelError(
            "KP-MODEL-ARCHITECTURE",
            f"{part} is a {name}; expected {' or '.join(classes)}",
            where=str(where),
            fix="use a checkpoint of the Stable Diffusion 1.x, 2.x, XL or InstructPix2Pix family",
        )
