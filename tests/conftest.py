"""Tiny components made in code: random weights, Stable Diffusion's names, milliseconds per call."""

import json
import os
import shutil
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from jaxtyping import install_import_hook

if not any(name.startswith("kinopaint.engine") for name in __import__("sys").modules):
    install_import_hook(
        [
            f"kinopaint.{name}"
            for name in ("engine", "attention", "flow", "latents", "methods", "metrics", "models", "temporal")
        ],
        "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
    )

import pytest
import torch

LATENT_CHANNELS = 4


def write_tokenizer(folder: Path, max_tokens: int) -> int:
    """A byte-level CLIP tokenizer with a few merges; returns the size of its vocabulary."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    pieces = list(bytes_to_unicode().values())
    merges = [("o", "i"), ("oi", "l</w>"), ("a", "</w>")][:2]
    vocabulary = [
        *pieces,
        *(piece + "</w>" for piece in pieces),
        *("".join(pair) for pair in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({piece: index for index, piece in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": max_tokens,
                "bos_token": "<|startoftext|>",
                "eos_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
            }
        )
    )
    return len(vocabulary)


def write_model(folder: Path, *, prediction: str = "epsilon", tiny_autoencoder: bool = False, seed: int = 0) -> Path:
    """A checkpoint in diffusers layout, as StableDiffusionInstructPix2PixPipeline wants it.

    The U-Net of one with v-prediction also pools the words into its embedding of time, as that of `mini` does.
    """
    from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    vocabulary = write_tokenizer(folder / "tokenizer", 16)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=16,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=2 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=32,
        norm_num_groups=4,
        addition_embed_type="text" if prediction == "v_prediction" else None,
        addition_embed_type_num_heads=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )
    if tiny_autoencoder:
        vae = AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
            latent_channels=LATENT_CHANNELS,
            scaling_factor=0.7,
        )
    else:
        vae = AutoencoderKL(
            block_out_channels=(4, 8, 8, 8),
            norm_num_groups=2,
            latent_channels=LATENT_CHANNELS,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            scaling_factor=0.4,
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
        timestep_spacing="trailing",
    )
    for name, part in {"text_encoder": text, "unet": unet, "vae": vae, "scheduler": scheduler}.items():
        part.save_pretrained(folder / name)
    (folder / "model_index.json").write_text(
        json.dumps(
            {
                "_class_name": "StableDiffusionInstructPix2PixPipeline",
                "feature_extractor": [None, None],
                "image_encoder": [None, None],
                "safety_checker": [None, None],
                "requires_safety_checker": False,
                "scheduler": ["diffusers", "DDIMScheduler"],
                "text_encoder": ["transformers", "CLIPTextModel"],
                "tokenizer": ["transformers", "CLIPTokenizer"],
                "unet": ["diffusers", "UNet2DConditionModel"],
                "vae": ["diffusers", type(vae).__name__],
            }
        )
    )
    return folder


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory):
    """Folders of three tiny models: noise prediction, v-prediction, and one with an AutoencoderTiny."""
    root = tmp_path_factory.mktemp("models")
    return {
        "epsilon": write_model(root / "epsilon"),
        "v_prediction": write_model(root / "v", prediction="v_prediction", seed=1),
        "tiny": write_model(root / "tiny", prediction="v_prediction", tiny_autoencoder=True, seed=2),
    }


@pytest.fixture(scope="session")
def model_folder(model_folders):
    return model_folders["epsilon"]


@pytest.fixture(scope="session")
def loaded(model_folders):
    """The three models, loaded in fp32."""
    from kinopaint.models import load_model

    return {name: load_model(folder, device="cpu", dtype="float32") for name, folder in model_folders.items()}


@pytest.fixture(scope="session")
def parts(loaded):
    return loaded["epsilon"]


@pytest.fixture
def broken(model_folder, tmp_path):
    """A copy of the tiny model that a test may break."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.fixture
def frames():
    """Three frames of 48x32."""
    return torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.fixture
def step(parts):
    return parts.schedule.steps(30)[7]


@pytest.fixture
def in_this_process(monkeypatch):
    """Encoding and checking without processes of their own, which take half a second, for tests of something else."""
    from kinopaint.video import delivery, writer
    from kinopaint.video.encoder import VideoSink
    from kinopaint.video.probe import scan

    monkeypatch.setattr(writer, "IsolatedSink", lambda target, final: VideoSink(target))
    monkeypatch.setattr(delivery, "scan", scan)
