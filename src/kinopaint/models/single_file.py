"""A checkpoint as one safetensors file in the layout of the original releases: Stable Diffusion 1.x, 2.x and XL.

What a configuration file would say is read off the shapes of the weights; their names are converted by diffusers.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from kinopaint.errors import ModelError
from kinopaint.models.weights import metadata, read_weights, shapes

_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_CLIP = "cond_stage_model.transformer.text_model."  # Stable Diffusion 1
_OPEN_CLIP = "cond_stage_model.model."  # 2
_XL = ("conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model.")
VOCABULARY = "openai/clip-vit-large-patch14"  # all of these read the same pieces of words
_VOCABULARY_FILES = ["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
_HEAD = 64  # channels per attention head, from Stable Diffusion 2 on; before, there were 8 heads


class SingleFileCheckpoint:
    """The parts of a file; `prediction` is what the user says if the file does not.

    Raises ModelError: KP-MODEL-ARCHITECTURE, KP-MODEL-PREDICTION, KP-MODEL-KEYS, KP-MODEL-CORRUPT.
    """

    about: Mapping[str, Any] = {}
    zero_for_empty_text = True

    def __init__(self, path: Path, *, prediction: str | None = None, download: bool = False) -> None:
        self.path, self.download, self._prediction = path, download, prediction
        self.shapes, self.metadata = shapes(path), metadata(path)
        self.licence = self.metadata.get("modelspec.license")
        for family, prefix in (("xl", _XL[1]), ("2", _OPEN_CLIP), ("1", _CLIP)):
            if any(name.startswith(prefix) for name in self.shapes):
                self.family = family
                break
        else:
            self._refuse_family()
        if _UNET + "input_blocks.0.0.weight" not in self.shapes or _VAE + "encoder.conv_in.weight" not in self.shapes:
            self._refuse_family()

    def _refuse_family(self) -> None:
        lora = any("lora" in name for name in self.shapes)
        raise ModelError(
            "KP-MODEL-ARCHITECTURE",
            "this file is a LoRA, not a model"
            if lora
            else "the file is no whole checkpoint of Stable Diffusion 1.x, 2.x or XL: it needs "
            f"{_UNET}*, {_VAE}* and a text encoder",
            where=str(self.path),
            fix="give it by --lora, and the model it was made for by --model" if lora else "use another checkpoint",
        )

    def require(self, part: str) -> None:
        if part == "depth_estimator" or (part.endswith("_2") and self.family != "xl"):
            raise ModelError(
                "KP-MODEL-PART",
                f"a single file holds no {part} that can be used",
                where=str(self.path),
                fix="use the checkpoint as a folder in diffusers layout",
            )

    def has(self, part: str) -> bool:
        return False  # of the parts that a checkpoint may do without

    def config(self, part: str) -> dict[str, Any]:
        """The configuration that diffusers' folder of the same checkpoint would hold."""
        with self._misfits_named():
            return self._config(part)

    def weights(self, part: str, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        with self._misfits_named():
            return self._weights(part, device, dtype)

    @contextmanager
    def _misfits_named(self) -> Iterator[None]:
        """What stumbles over a weight that is missing or of another shape raises ModelError KP-MODEL-KEYS."""
        try:
            yield
        except ModelError:
            raise
        except (LookupError, ValueError) as error:
            raise ModelError(
                "KP-MODEL-KEYS",
                f"the weights are not those of a whole checkpoint: {type(error).__name__}: {error}",
                where=str(self.path),
                fix="fetch the file again",
            ) from error

    def _config(self, part: str) -> dict[str, Any]:
        if part == "unet":
            return self._unet_config()
        if part == "vae":
            return self._vae_config()
        if part == "scheduler":
            return {
                "_class_name": "DDIMScheduler",
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "beta_schedule": "scaled_linear",
                "clip_sample": False,
                "set_alpha_to_one": False,
                "steps_offset": 1,
                "timestep_spacing": "leading",
                "rescale_betas_zero_snr": "ztsnr" in self.shapes,
                "prediction_type": self._prediction_type(),
            }
        return self._open_clip_config() if self._is_open_clip(part) else self._clip_config()

    def _weights(self, part: str, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        from diffusers.loaders import single_file_utils

        convert: Any = single_file_utils

        def read(prefix: str) -> dict[str, Tensor]:
            return read_weights([self.path], device, dtype, wanted=lambda name: name.startswith(prefix))

        if part == "unet":
            return dict(convert.convert_ldm_unet_checkpoint(read(_UNET), self.config(part)))
        if part == "vae":
            return dict(convert.convert_ldm_vae_checkpoint(read(_VAE), self.config(part)))
        prefix, config = self._text_prefix(part), self.config(part)
        if not self._is_open_clip(part):
            return dict(convert.convert_ldm_clip_checkpoint(read(prefix)))
        shaped = SimpleNamespace(config=SimpleNamespace(hidden_size=config["hidden_size"]))
        state = convert.convert_open_clip_checkpoint(shaped, read(prefix), prefix=prefix)
        unused = f"layers.{config['num_hidden_layers']}."  # Stable Diffusion 2 leaves the last layer out
        leave = ("text_projection", "logit_scale") if part == "text_encoder" else ("logit_scale",)
        return {name: tensor for name, tensor in state.items() if unused not in name and not name.startswith(leave)}

    def tokenizer_folder(self, part: str) -> Path:
        """A tokenizer beside the file, or CLIP's from the hub's cache. Raises ModelError KP-MODEL-TOKENIZER."""
        from huggingface_hub import snapshot_download

        for folder in (self.path.with_suffix("") / part, self.path.parent / part, self.path.parent / "tokenizer"):
            if folder.is_dir():
                return folder
        try:
            return Path(
                snapshot_download(VOCABULARY, allow_patterns=_VOCABULARY_FILES, local_files_only=not self.download)
            )
        except Exception as error:  # of the hub's client: not cached, no network
            raise ModelError(
                "KP-MODEL-TOKENIZER",
                f"a single file holds no tokenizer, and {VOCABULARY} is not in the local cache",
                where=str(self.path),
                fix="put a folder tokenizer with vocab.json and merges.txt of CLIP beside it, or add --download once",
            ) from error

    def pad_token(self, part: str) -> str | None:
        """OpenCLIP fills short texts with the piece 0, CLIP with its end."""
        return "!" if self._is_open_clip(part.replace("tokenizer", "text_encoder")) else None

    def where(self, part: str) -> Path:
        return self.path

    def _text_prefix(self, part: str) -> str:
        if self.family == "xl":
            return _XL[part == "text_encoder_2"]
        return _OPEN_CLIP if self.family == "2" else _CLIP

    def _is_open_clip(self, part: str) -> bool:
        return self.family == "2" or part == "text_encoder_2"

    def _prediction_type(self) -> str:
        said = self._prediction or self.metadata.get("modelspec.prediction_type")
        beside = self.path.with_suffix(".yaml")
        if not said and beside.exists():
            found = re.search(r"parameterization:\s*[\"']?(\w+)", beside.read_text(encoding="utf-8", errors="replace"))
            said = found[1] if found else "epsilon"
        if not said and "v_pred" in self.shapes:
            said = "v_prediction"
        if not said and self.family == "2":
            raise ModelError(
                "KP-MODEL-PREDICTION",
                "Stable Diffusion 2.x predicts noise (512 px) or v (768 px), and this file does not say which",
                where=str(self.path),
                fix="kinopaint models add FILE --name NAME --prediction epsilon (or v_prediction), then --model NAME",
            )
        return {"v": "v_prediction", "eps": "epsilon", None: "epsilon"}.get(said, said or "epsilon")

    def _shape(self, name: str) -> tuple[int, ...]:
        try:
            return self.shapes[name]
        except KeyError:
            raise ModelError(
                "KP-MODEL-ARCHITECTURE", f"the weight {name} is missing", where=str(self.path), fix="fetch it again"
            ) from None

    def _numbers(self, pattern: str) -> list[int]:
        """The different numbers at the group of `pattern`, sorted."""
        return sorted({int(found[1]) for name in self.shapes if (found := re.match(pattern, name))})

    def _unet_config(self) -> dict[str, Any]:
        first, out = self._shape(_UNET + "input_blocks.0.0.weight"), self._shape(_UNET + "out.2.weight")
        channels, attends, depths, layers, context = [first[0]], [False], [0], [0], 0
        linear = False
        for number in self._numbers(re.escape(_UNET) + r"input_blocks\.(\d+)\.")[1:]:
            block = f"{_UNET}input_blocks.{number}."
            if block + "0.op.weight" in self.shapes:  # halves the size: the next level
                channels, attends, depths, layers = [*channels, 0], [*attends, False], [*depths, 0], [*layers, 0]
                continue
            channels[-1], layers[-1] = self._shape(block + "0.in_layers.2.weight")[0], layers[-1] + 1
            if block + "1.proj_in.weight" in self.shapes:
                inside = block + "1.transformer_blocks."
                attends[-1], linear = True, len(self._shape(block + "1.proj_in.weight")) == 2
                depths[-1] = len(self._numbers(re.escape(inside) + r"(\d+)\."))
                context = self._shape(inside + "0.attn2.to_k.weight")[1]
        config: dict[str, Any] = {
            "_class_name": "UNet2DConditionModel",
            "in_channels": first[1],
            "out_channels": out[0],
            "block_out_channels": channels,
            "layers_per_block": layers[0],
            "down_block_types": ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attends],
            "up_block_types": ["CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attends)],
            "transformer_layers_per_block": self._depths(depths),
            "cross_attention_dim": context,
            "attention_head_dim": [max(1, each // _HEAD) for each in channels] if linear else 8,
            "use_linear_projection": linear,
        }
        if self.family == "xl":
            told = self._shape(_UNET + "label_emb.0.0.weight")[1]
            pooled = self._shape(_XL[1] + "text_projection")[1]
            config |= {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": (told - pooled) // 6,
                "projection_class_embeddings_input_dim": told,
            }
        return config

    def _depths(self, depths: list[int]) -> list[int]:
        """Transformer layers of each level; the last number also says those of the middle, whatever its level has."""
        middle = len(self._numbers(re.escape(_UNET) + r"middle_block\.1\.transformer_blocks\.(\d+)\."))
        return [each or 1 for each in depths[:-1]] + [depths[-1] or middle]

    def _vae_config(self) -> dict[str, Any]:
        levels = self._numbers(re.escape(_VAE) + r"encoder\.down\.(\d+)\.")
        channels = [self._shape(f"{_VAE}encoder.down.{level}.block.0.conv2.weight")[0] for level in levels]
        return {
            "_class_name": "AutoencoderKL",
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": channels,
            "layers_per_block": len(self._numbers(re.escape(_VAE) + r"encoder\.down\.0\.block\.(\d+)\.")),
            "down_block_types": ["DownEncoderBlock2D"] * len(levels),
            "up_block_types": ["UpDecoderBlock2D"] * len(levels),
            "latent_channels": self._shape(_VAE + "post_quant_conv.weight")[0],
            "scaling_factor": 0.13025 if self.family == "xl" else 0.18215,
        }

    def _clip_config(self) -> dict[str, Any]:
        prefix = self._text_prefix("text_encoder")
        vocabulary, width = self._shape(prefix + "embeddings.token_embedding.weight")
        return {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": self._shape(prefix + "encoder.layers.0.mlp.fc1.weight")[0],
            "num_hidden_layers": len(self._numbers(re.escape(prefix) + r"encoder\.layers\.(\d+)\.")),
            "num_attention_heads": max(1, width // _HEAD),
            "max_position_embeddings": self._shape(prefix + "embeddings.position_embedding.weight")[0],
            "hidden_act": "quick_gelu",
            "eos_token_id": 2,  # CLIP: the text's vector stands at its highest token
            "projection_dim": width,
        }

    def _open_clip_config(self) -> dict[str, Any]:
        prefix = self._text_prefix("text_encoder_2")
        vocabulary, width = self._shape(prefix + "token_embedding.weight")
        layers = len(self._numbers(re.escape(prefix) + r"transformer\.resblocks\.(\d+)\."))
        return {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": self._shape(prefix + "transformer.resblocks.0.mlp.c_fc.weight")[0],
            "num_hidden_layers": layers - 1 if self.family == "2" else layers,
            "num_attention_heads": max(1, width // _HEAD),
            "max_position_embeddings": self._shape(prefix + "positional_embedding")[0],
            "hidden_act": "gelu",
            "eos_token_id": 2,
            "projection_dim": self.shapes.get(prefix + "text_projection", (width, width))[1],
            "pad_token_id": 0,
        }
