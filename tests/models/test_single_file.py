"""Single files in the layout of the original releases: the same parts as the folder that they were made from."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import write_tokenizer

from kinopaint.engine.denoiser import Condition
from kinopaint.errors import ModelError
from kinopaint.models import load_model, weight_hashes

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
HEAD = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}


def original_unet(state, layers):
    """A U-Net's weights under the names of the original release."""
    renamed = {}
    for name, tensor in state.items():
        module, _, leaf = name.rpartition(".")
        if module in HEAD:
            renamed[f"{HEAD[module]}.{leaf}"] = tensor
            continue
        block = re.fullmatch(
            r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name
        )
        if block:
            side, level, kind, index, rest = block[1], int(block[2]), block[3], int(block[4]), block[5]
            if side == "down":
                number = level * (layers + 1) + 1 + (layers if kind == "downsamplers" else index)
                place = {"resnets": "0", "attentions": "1", "downsamplers": "0"}[kind]
                rest = rest.replace("conv.", "op.") if kind == "downsamplers" else rest
                stem = f"input_blocks.{number}.{place}"
            else:
                number = level * (layers + 1) + (layers if kind == "upsamplers" else index)
                attends = f"up_blocks.{level}.attentions.0.proj_in.weight" in state
                place = {"resnets": "0", "attentions": "1", "upsamplers": "2" if attends else "1"}[kind]
                stem = f"output_blocks.{number}.{place}"
        else:
            kind, index, rest = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name).groups()
            stem = f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}"
        if kind == "resnets":
            module, _, leaf = rest.rpartition(".")
            rest = f"{RESNET[module]}.{leaf}"
        renamed[f"{stem}.{rest}"] = tensor
    return {f"model.diffusion_model.{name}": tensor.contiguous() for name, tensor in renamed.items()}


def original_vae(state, levels):
    renamed = {}
    for name, tensor in state.items():
        name = re.sub(r"(encoder)\.down_blocks\.(\d+)\.resnets\.(\d+)", r"\1.down.\2.block.\3", name)
        name = re.sub(r"(encoder)\.down_blocks\.(\d+)\.downsamplers\.0", r"\1.down.\2.downsample", name)
        name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up_blocks.{levels - 1 - int(found[1])}", name)
        name = re.sub(r"(decoder)\.up_blocks\.(\d+)\.resnets\.(\d+)", r"\1.up.\2.block.\3", name)
        name = re.sub(r"(decoder)\.up_blocks\.(\d+)\.upsamplers\.0", r"\1.up.\2.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
        name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_shortcut", "nin_shortcut")
        name = name.replace("conv_norm_out", "norm_out")
        for new, old in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            if "attn_1" in name:
                name = name.replace(f"attn_1.{new}", f"attn_1.{old}")
        if "attn_1" in name and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        renamed[f"first_stage_model.{name}"] = tensor.contiguous()
    return renamed


def clip(state, prefix):
    return {f"{prefix}text_model.{name.removeprefix('text_model.')}": tensor.clone() for name, tensor in state.items()}


def open_clip(state, prefix, *, extra_layer):
    """OpenCLIP's names, with query, key and value in one weight; `extra_layer`: one more, which nobody uses."""
    renamed = {}
    names = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    layers = {}
    for name, tensor in state.items():
        name = name.removeprefix("text_model.")
        if name in names:
            renamed[prefix + names[name]] = tensor
        elif name == "text_projection.weight":
            renamed[prefix + "text_projection"] = tensor.T
        else:
            number, rest = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name).groups()
            layers.setdefault(int(number), {})[rest] = tensor
    if extra_layer:
        layers[len(layers)] = layers[0]
        renamed[prefix + "text_projection"] = torch.eye(len(renamed[prefix + "ln_final.bias"]))
    for number, layer in layers.items():
        stem = f"{prefix}transformer.resblocks.{number}."
        for kind in ("weight", "bias"):
            renamed[f"{stem}attn.in_proj_{kind}"] = torch.cat([layer[f"self_attn.{x}_proj.{kind}"] for x in "qkv"])
            for new, old in (
                ("self_attn.out_proj", "attn.out_proj"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
            ):
                renamed[f"{stem}{old}.{kind}"] = layer[f"{new}.{kind}"]
    return {name: tensor.clone().contiguous() for name, tensor in renamed.items()}


def write_folder(folder, family):
    """A model in diffusers layout, with the proportions that single files of that family have."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(11)
    vocabulary = write_tokenizer(folder / "tokenizer", 16)
    linear, xl = family != "1", family == "xl"
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "max_position_embeddings": 16,
        "hidden_act": "gelu" if family == "2" else "quick_gelu",
        "eos_token_id": 2,
        "projection_dim": 64,
    }
    parts = {"text_encoder": CLIPTextModel(CLIPTextConfig(**text))}
    if xl:
        second = {**text, "hidden_act": "gelu", "projection_dim": 24}
        parts["text_encoder_2"] = CLIPTextModelWithProjection(CLIPTextConfig(**second))
    parts["unet"] = UNet2DConditionModel(
        in_channels=8 if family == "1" else 4,
        block_out_channels=(64, 64) if linear else (32, 64),
        layers_per_block=2,
        attention_head_dim=(1, 1) if linear else 8,
        use_linear_projection=linear,
        transformer_layers_per_block=(1, 2) if xl else 1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D") if xl else ("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D") if xl else ("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128 if xl else 64,
        **(
            {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 24 + 6 * 8,
            }
            if xl
            else {}
        ),
    )
    parts["vae"] = AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.13025 if xl else 0.18215,
    )
    parts["scheduler"] = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    return folder


def write_file(folder, family, file, **metadata):
    unet = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae/diffusion_pytorch_model.safetensors")
    text = load_file(folder / "text_encoder/model.safetensors")
    state = original_unet(unet, layers=2) | original_vae(vae, levels=4)
    if family == "1":
        state |= clip(text, "cond_stage_model.transformer.")
    elif family == "2":
        state |= open_clip(text, "cond_stage_model.model.", extra_layer=True)
    else:
        state |= clip(text, "conditioner.embedders.0.transformer.")
        second = load_file(folder / "text_encoder_2/model.safetensors")
        state |= open_clip(second, "conditioner.embedders.1.model.", extra_layer=False)
    save_file(state, file, {"format": "pt", **metadata})
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder and the file of a family, made when first asked for; with a tokenizer beside the file."""
    root, known = tmp_path_factory.mktemp("single"), {}

    def make(family):
        if family not in known:
            folder = write_folder(root / family, family)
            known[family] = (
                folder,
                write_file(folder, family, folder / "model.safetensors", **{"modelspec.prediction_type": "epsilon"}),
            )
        return known[family]

    return make


@pytest.mark.parametrize("family", ["1", "2", "xl"])
def test_a_file_gives_the_parts_of_the_folder_that_it_was_made_from(family, made):
    """Stock diffusers reads the folder, we read the file: every network, and a whole prediction."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    folder, file = made(family)
    parts = load_model(file, device="cpu", dtype="float32")
    assert parts.kind == ("instruct-pix2pix" if family == "1" else "text-to-image")
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    ours = parts.backbone.unet.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in unet.state_dict().items())
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    picture = torch.rand(1, 3, 16, 24) * 2 - 1
    assert torch.allclose(parts.autoencoder.encode(picture), vae.encode(picture).latent_dist.mode(), atol=1e-5)
    assert parts.autoencoder.scale == vae.config.scaling_factor
    (text,) = parts.text_encoder.encode(["oil"])
    first = parts.text_encoder.first if family == "xl" else parts.text_encoder
    ids = first.tokenizer("oil", padding="max_length", max_length=16, return_tensors="pt").input_ids
    states = CLIPTextModel.from_pretrained(folder / "text_encoder")(ids, output_hidden_states=True)
    expected = states.hidden_states[-2] if family == "xl" else states.last_hidden_state
    assert torch.allclose(text.states[:, :64], expected[0], atol=1e-5)
    step, latents = parts.schedule.steps(3)[1], torch.randn(1, 4, 4, 6)
    sample = torch.cat([latents, torch.zeros_like(latents)], 1) if family == "1" else latents
    added = None
    if family == "xl":
        sizes = torch.tensor([[32.0, 48, 0, 0, 32, 48]])
        added = {"text_embeds": text.pooled[None], "time_ids": sizes}
    with torch.no_grad():
        noise = unet(sample, int(step.timestep), text.states[None], added_cond_kwargs=added).sample
    assert torch.allclose(parts.backbone.predict(latents, step, [Condition("", text)])[0], noise, atol=1e-4)
    assert list(weight_hashes(file)) == ["model.safetensors"]


def refused(code, file, text=None):
    with pytest.raises(ModelError, match=text) as caught:
        load_model(file, device="cpu")
    assert caught.value.code == code


def test_stable_diffusion_2_says_what_it_predicts(made, tmp_path):
    folder, file = made("2")
    silent = write_file(folder, "2", tmp_path / "silent.safetensors")
    (tmp_path / "tokenizer").symlink_to(folder / "tokenizer")
    refused("KP-MODEL-PREDICTION", silent, "does not say which")
    silent.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    assert load_model(silent, device="cpu").schedule.prediction_type == "v_prediction"
    assert load_model(file, device="cpu").schedule.prediction_type == "epsilon"


def test_files_that_are_no_checkpoints(made, tmp_path):
    folder, file = made("1")
    refused("KP-MODEL-ARCHITECTURE", folder / "unet/diffusion_pytorch_model.safetensors", "no whole checkpoint")
    state = load_file(file)
    lora = {"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.zeros(4, 2)}
    save_file(lora, tmp_path / "lora.safetensors")
    refused("KP-MODEL-ARCHITECTURE", tmp_path / "lora.safetensors", "this file is a LoRA")
    save_file({name: tensor for name, tensor in state.items() if "first_stage" not in name}, tmp_path / "a.safetensors")
    refused("KP-MODEL-ARCHITECTURE", tmp_path / "a.safetensors", "first_stage_model")
    state["model.diffusion_model.middle_block.0.in_layers.2.weight"][0] = torch.nan
    (tmp_path / "tokenizer").symlink_to(folder / "tokenizer")
    save_file(state, tmp_path / "nan.safetensors")
    refused("KP-MODEL-NONFINITE", tmp_path / "nan.safetensors")


@pytest.mark.parametrize(
    "weight",
    [
        "model.diffusion_model.time_embed.0.weight",
        "model.diffusion_model.middle_block.1.proj_in.weight",
        "first_stage_model.encoder.norm_out.weight",
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    ],
)
def test_files_that_lack_a_weight_or_have_another(weight, made, tmp_path):
    folder, file = made("1")
    (tmp_path / "tokenizer").symlink_to(folder / "tokenizer")
    state = load_file(file)
    for change in ({}, {weight: torch.zeros(3)}):
        save_file({name: each for name, each in state.items() if name != weight} | change, tmp_path / "a.safetensors")
        with pytest.raises(ModelError) as caught:
            load_model(tmp_path / "a.safetensors", device="cpu")
        assert caught.value.code in ("KP-MODEL-KEYS", "KP-MODEL-ARCHITECTURE")


def test_a_file_without_a_tokenizer_beside_it(made, tmp_path, monkeypatch):
    import huggingface_hub

    real = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **more: real(name, cache_dir=tmp_path / "hub", **more)
    )
    (tmp_path / "alone.safetensors").symlink_to(made("1")[1])
    refused("KP-MODEL-TOKENIZER", tmp_path / "alone.safetensors", "holds no tokenizer")
