"""Tiny checkpoints of other kinds, with random weights: text-to-image, depth, SDXL, ControlNet, LoRA, IP-Adapter."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.conftest import write_tokenizer


def with_channels(model_folder: Path, folder: Path, in_channels: int) -> Path:
    """A copy of an InstructPix2Pix-type model whose U-Net takes so many channels."""
    from diffusers import UNet2DConditionModel

    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "unet/config.json").read_text())
    torch.manual_seed(5)
    UNet2DConditionModel.from_config({**config, "in_channels": in_channels}).save_pretrained(folder / "unet")
    return folder


def write_depth_estimator(folder: Path) -> None:
    """A depth estimator for a Depth2Img checkpoint, and what prepares pictures for it."""
    from transformers import DPTConfig, DPTForDepthEstimation

    torch.manual_seed(6)
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        reassemble_factors=[4, 2, 1, 0.5],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    DPTForDepthEstimation(config).save_pretrained(folder / "depth_estimator")
    (folder / "feature_extractor").mkdir()
    (folder / "feature_extractor/preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "DPTImageProcessor", "size": {"height": 32, "width": 32}})
    )
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "depth_estimator": ["transformers", "DPTForDepthEstimation"],
        "feature_extractor": ["transformers", "DPTImageProcessor"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


def write_controlnet(model_folder: Path, folder: Path, seed: int) -> Path:
    """A ControlNet for the model in `model_folder`, whose answers are not zero."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    torch.manual_seed(seed)
    config = dict(UNet2DConditionModel.load_config(model_folder / "unet"))
    network = ControlNetModel(
        in_channels=4,
        block_out_channels=config["block_out_channels"],
        down_block_types=config["down_block_types"],
        layers_per_block=config["layers_per_block"],
        attention_head_dim=config["attention_head_dim"],
        cross_attention_dim=config["cross_attention_dim"],
        norm_num_groups=config["norm_num_groups"],
        conditioning_embedding_out_channels=(4, 4, 8, 8),
    )
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.1)
    network.save_pretrained(folder)
    return folder


def write_xl(folder: Path) -> Path:
    """A model of the SDXL kind, as StableDiffusionXLImg2ImgPipeline wants it."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(7)
    vocabulary = write_tokenizer(folder / "tokenizer", 16)
    shutil.copytree(folder / "tokenizer", folder / "tokenizer_2")
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 16,
        "projection_dim": 24,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
    CLIPTextModel(CLIPTextConfig(**text)).save_pretrained(folder / "text_encoder")
    CLIPTextModelWithProjection(CLIPTextConfig(**text)).save_pretrained(folder / "text_encoder_2")
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        transformer_layers_per_block=(1, 2),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8,
        norm_num_groups=4,
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(4, 8, 8, 8),
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.13,
    ).save_pretrained(folder / "vae")
    EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    ).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": True,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def lora_factors(network: torch.nn.Module, wanted: str, rank: int = 3) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random factors (down, up) for each module of `network` whose name ends with one of the `wanted` words."""
    generator = torch.Generator().manual_seed(8)
    found = {}
    for name, module in network.named_modules():
        if name.endswith(tuple(wanted.split())) and hasattr(module, "weight"):
            shape = module.weight.shape
            down = torch.randn(rank, *shape[1:], generator=generator) * 0.3
            up = torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=generator) * 0.3
            found[name] = (down, up)
    return found


def write_ip_adapter(unet: torch.nn.Module, folder: Path, *, plus: bool = False) -> Path:
    """An IP-Adapter file for `unet` with its image encoder beside it; returns the file."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    generator = torch.Generator().manual_seed(9)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    torch.manual_seed(9)
    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4, image_size=28, patch_size=14,
        projection_dim=20,
    )  # fmt: skip
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "image_encoder")
    width = unet.config.cross_attention_dim
    state = {
        "image_proj.proj.weight": random(4 * width, 20),
        "image_proj.proj.bias": random(4 * width),
        "image_proj.norm.weight": 1 + random(width),
        "image_proj.norm.bias": random(width),
    }
    if plus:
        inner, heads_dim = 24, 64
        state = {"image_proj.latents": random(1, 5, inner)}
        state |= {"image_proj.proj_in.weight": random(inner, 24), "image_proj.proj_in.bias": random(inner)}
        state |= {"image_proj.proj_out.weight": random(width, inner), "image_proj.proj_out.bias": random(width)}
        state |= {"image_proj.norm_out.weight": 1 + random(width), "image_proj.norm_out.bias": random(width)}
        for layer in range(4):
            attention, feed = f"image_proj.layers.{layer}.0.", f"image_proj.layers.{layer}.1."
            for norm in ("norm1", "norm2"):
                state |= {f"{attention}{norm}.weight": 1 + random(inner), f"{attention}{norm}.bias": random(inner)}
            state |= {
                f"{attention}to_q.weight": random(heads_dim, inner),
                f"{attention}to_kv.weight": random(2 * heads_dim, inner),
                f"{attention}to_out.weight": random(inner, heads_dim),
                f"{feed}0.weight": 1 + random(inner),
                f"{feed}0.bias": random(inner),
                f"{feed}1.weight": random(4 * inner, inner),
                f"{feed}3.weight": random(inner, 4 * inner),
            }
    paths = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    for index, path in enumerate(paths):
        shape = unet.get_submodule(path).to_k.weight.shape
        state |= {f"ip_adapter.{2 * index + 1}.to_{kind}_ip.weight": random(*shape) for kind in ("k", "v")}
    save_file(state, folder / "ip-adapter.safetensors")
    return folder / "ip-adapter.safetensors"
