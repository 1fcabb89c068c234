"""LoRA and IP-Adapter give what diffusers' own loaders give; files that do not fit are named errors."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.checkpoints import lora_factors, with_channels, write_ip_adapter, write_xl

from kinopaint.engine.denoiser import Condition
from kinopaint.engine.tied import encode_prompt
from kinopaint.errors import InputError, ModelError, SettingsError
from kinopaint.models import in_float32, load_model
from kinopaint.models.lora_file import read_lora
from kinopaint.types import Prompt

WANTED = "attn1.to_q attn2.to_v attn1.to_out.0 proj_in resnets.0.conv1"
TEXT = "q_proj out_proj fc1"


@pytest.fixture(scope="module")
def folder(model_folders, tmp_path_factory):
    return with_channels(model_folders["epsilon"], tmp_path_factory.mktemp("plain") / "model", 4)


@pytest.fixture
def latents():
    return torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(0))


def load(folder, **more):
    return load_model(folder, device="cpu", dtype="float32", **more)


def predicted(parts, latents, step):
    text = parts.text_encoder.encode(["oil"])[0]
    return parts.backbone.predict(latents, step, [Condition("style", text)])[0]


def stock_pipeline(folder):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock_prediction(pipeline, latents, step):
    text, _ = pipeline.encode_prompt("oil", torch.device("cpu"), 1, False)
    with torch.no_grad():
        return pipeline.unet(latents, int(step.timestep), text).sample


def same(ours, expected):
    assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()


def write_peft(parts, file):
    """As diffusers saves them today: parts as prefixes, lora_A and lora_B, alpha in the head."""
    state = {}
    for part, network, wanted in (
        ("unet", parts.backbone.unet, WANTED),
        ("text_encoder", parts.text_encoder.model, TEXT),
    ):
        for name, (down, up) in lora_factors(network, wanted).items():
            state[f"{part}.{name}.lora_A.weight"], state[f"{part}.{name}.lora_B.weight"] = down, up
    save_file(state, file)


def write_alpha_in_the_head(parts, file):
    state = {}
    for name, (down, up) in lora_factors(parts.backbone.unet, "to_q to_v").items():
        state[f"unet.{name}.lora_A.weight"], state[f"unet.{name}.lora_B.weight"] = down, up
    about = {"unet.r": 3, "unet.lora_alpha": 6, "unet.target_modules": ["to_q", "to_v"]}
    save_file(state, file, {"lora_adapter_metadata": json.dumps(about), "format": "pt"})


def write_old_diffusers(parts, file):
    """Attention only, as processors of the attention."""
    state = {}
    for name, (down, up) in lora_factors(parts.backbone.unet, "attn1.to_q attn2.to_v attn1.to_out.0").items():
        path, _, layer = name.removesuffix(".0").rpartition(".")
        stem = f"unet.{path}.processor.{layer}_lora"
        state[f"{stem}.down.weight"], state[f"{stem}.up.weight"] = down, up
    save_file(state, file)


def write_kohya(parts, file):
    state = {}
    for prefix, network, wanted in (
        ("lora_unet_", parts.backbone.unet, WANTED),
        ("lora_te_text_model_", parts.text_encoder.model, TEXT),
    ):
        for name, (down, up) in lora_factors(network, wanted).items():
            stem = prefix + name.replace(".", "_")
            state[f"{stem}.lora_down.weight"], state[f"{stem}.lora_up.weight"] = down, up
            state[f"{stem}.alpha"] = torch.tensor(1.5)
    save_file(state, file)


@pytest.mark.parametrize(
    ("write", "weight"),
    [
        (write_peft, 1.0),
        (write_peft, 0.4),
        (write_alpha_in_the_head, 1.0),
        (write_old_diffusers, 1.0),
        (write_kohya, 0.7),
    ],
)
def test_a_lora_equals_that_of_diffusers(write, weight, folder, latents, step, tmp_path):
    file = tmp_path / "lora.safetensors"
    plain = load(folder)
    write(plain, file)
    ours = load(folder, lora=f"{file}:{weight}")
    pipeline = stock_pipeline(folder)
    pipeline.load_lora_weights(tmp_path, weight_name=file.name, adapter_name="it")
    pipeline.set_adapters(["it"], [weight])
    got, expected = predicted(ours, latents, step), stock_prediction(pipeline, latents, step)
    same(got, expected)
    assert (got - predicted(plain, latents, step)).abs().max() > 1e-2 * expected.abs().max()


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_several_loras_add_up(folder, latents, step, tmp_path):
    plain = load(folder)
    write_kohya(plain, tmp_path / "a.safetensors")
    write_peft(plain, tmp_path / "b.safetensors")
    ours = load(folder, lora=[f"{tmp_path}/a.safetensors:0.5", f"{tmp_path}/b.safetensors"])
    pipeline = stock_pipeline(folder)
    for name in "ab":
        pipeline.load_lora_weights(tmp_path, weight_name=f"{name}.safetensors", adapter_name=name)
    pipeline.set_adapters(["a", "b"], [0.5, 1.0])
    same(predicted(ours, latents, step), stock_prediction(pipeline, latents, step))
    assert [each["weight"] for each in ours.added] == [0.5, 1.0]
    assert len(ours.added[0]["hashes"]["a.safetensors"]) == 64


def test_kohyas_names_for_sdxl(tmp_path):
    """Blocks are counted as in the original release there: input_blocks.4 is down_blocks.1, …"""
    parts = load(write_xl(tmp_path / "xl"))
    unet = parts.backbone.unet
    transformer = "down_blocks.1.attentions.0.transformer_blocks.0"
    paths = {
        "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q": f"{transformer}.attn1.to_q",
        "lora_unet_middle_block_1_proj_in": "mid_block.attentions.0.proj_in",
        "lora_unet_output_blocks_0_0_in_layers_2": "up_blocks.0.resnets.0.conv1",
        "lora_te2_text_model_encoder_layers_1_mlp_fc1": None,
    }
    state, generator = {}, torch.Generator().manual_seed(1)
    for stem, path in paths.items():
        module = (
            unet.get_submodule(path)
            if path
            else parts.text_encoder.second.model.get_submodule("text_model.encoder.layers.1.mlp.fc1")
        )
        shape = module.weight.shape
        state[f"{stem}.lora_down.weight"] = torch.randn(2, *shape[1:], generator=generator)
        state[f"{stem}.lora_up.weight"] = torch.randn(shape[0], 2, *[1] * (len(shape) - 2), generator=generator)
        state[f"{stem}.alpha"] = torch.tensor(2.0)
    save_file(state, tmp_path / "xl.safetensors")
    lora = read_lora(tmp_path / "xl.safetensors", {"unet": unet, **parts.text_encoder.models})
    assert set(lora.changes["unet"]) == {path for path in paths.values() if path}
    assert list(lora.changes["text_encoder_2"]) == ["text_model.encoder.layers.1.mlp.fc1"]


def test_leaving_an_adapter_gives_back_the_very_same_network(folder, latents, step, tmp_path):
    parts = load(folder)
    write_alpha_in_the_head(parts, tmp_path / "lora.safetensors")
    unet = parts.backbone.unet
    lora = read_lora(tmp_path / "lora.safetensors", {"unet": unet})
    words = [Condition("style", parts.text_encoder.encode(["oil"])[0])]  # the same words: what is kept of them must go

    def ours():
        return parts.backbone.predict(latents, step, words)

    tree, weights, plain = repr(unet), dict(unet.named_parameters()), ours()
    with parts.backbone.adapted(lora) as backbone:
        assert backbone is parts.backbone
        inside = ours()
    fused = load(folder, lora=tmp_path / "lora.safetensors")
    assert torch.allclose(inside[0], predicted(fused, latents, step), atol=1e-5)
    assert not torch.allclose(inside, plain)
    assert repr(unet) == tree
    assert all(weight is weights[name] for name, weight in unet.named_parameters())
    assert torch.equal(ours(), plain)


def test_full_precision_again_keeps_the_additions(folder, latents, step, tmp_path):
    write_kohya(load(folder), tmp_path / "lora.safetensors")
    half = load_model(folder, device="cpu", dtype="bf16", lora=tmp_path / "lora.safetensors")
    exact = load(folder, lora=tmp_path / "lora.safetensors")
    assert torch.equal(predicted(in_float32(half), latents, step), predicted(exact, latents, step))


def refused(code, folder, **more):
    with pytest.raises(ModelError) as caught:
        load(folder, **more)
    assert caught.value.code == code
    return caught.value


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda state: {f"{key.split('.')[0]}.hada_w1_a": value for key, value in state.items()}, "KP-LORA-FORMAT"),
        (lambda state: {**state, "lora_unet_mid.dora_scale": torch.ones(1)}, "KP-LORA-FORMAT"),
        (lambda state: {key: value for key, value in state.items() if "lora_up" not in key}, "KP-LORA-FORMAT"),
        (lambda state: {}, "KP-LORA-FORMAT"),
        (lambda state: {key.replace("proj_in", "proj_on"): value for key, value in state.items()}, "KP-LORA-BASE"),
        (lambda state: {key: value.repeat(2, 1) for key, value in state.items() if value.ndim == 2}, "KP-LORA-BASE"),
        (lambda state: {key: value * float("nan") for key, value in state.items()}, "KP-MODEL-NONFINITE"),
        (lambda state: {key: value if "alpha" in key else value[:0] for key, value in state.items()}, "KP-LORA-FORMAT"),
        (lambda state: {key: value.sum() for key, value in state.items()}, "KP-LORA-FORMAT"),
    ],
    ids=["loha", "dora", "half", "empty", "other names", "other widths", "nan", "no rank", "numbers"],
)  # fmt: skip
def test_loras_that_cannot_be_used(change, code, folder, tmp_path):
    file = tmp_path / "lora.safetensors"
    write_kohya(load(folder), file)
    save_file(change(load_file(file)), file)
    assert refused(code, folder, lora=file).where == str(file)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("lora_unet_mid.dora_scale", "a DoRA"),
        ("unet.conv_in.lora_magnitude_vector.weight", "a DoRA"),
        ("lora_unet_mid.hada_w1_a", "a LoHa"),
        ("lora_unet_mid.lokr_w2", "a LoKr"),
        ("lora_unet_mid.oft_blocks", "an OFT"),
        ("lora_unet_mid.diff", "a difference of whole weights"),
    ],
)
def test_other_kinds_of_additions_are_refused_by_name(key, kind, folder, tmp_path):
    file = tmp_path / "lora.safetensors"
    save_file({key: torch.ones(2, 2)}, file)
    assert f"this is {kind} " in refused("KP-LORA-FORMAT", folder, lora=file).what


@pytest.mark.parametrize(
    "head",
    [
        "{broken",
        "[1]",
        '{"unet.lora_alpha": "x"}',
        '{"unet.lora_alpha": [1]}',
        '{"unet.alpha_pattern": [1]}',
        '{"unet.alpha_pattern": {"to_q": "x"}}',
    ],
)
def test_a_lora_whose_head_cannot_be_read(head, folder, tmp_path):
    file = tmp_path / "lora.safetensors"
    write_alpha_in_the_head(load(folder), file)
    save_file(load_file(file), file, {"lora_adapter_metadata": head})
    refused("KP-LORA-FORMAT", folder, lora=file)


def test_alphas_that_are_no_numbers_or_odd_patterns(folder, tmp_path):
    file = tmp_path / "lora.safetensors"
    write_kohya(load(folder), file)
    state = load_file(file)
    alpha = next(name for name in state if name.endswith(".alpha"))
    save_file({**state, alpha: torch.ones(2)}, file)
    refused("KP-LORA-FORMAT", folder, lora=file)
    down, up = torch.ones(1, 32), torch.ones(8, 1)
    name = next(name for name, each in load(folder).backbone.unet.named_modules() if name.endswith("attn2.to_k"))
    about = {"lora_adapter_metadata": json.dumps({"alpha_pattern": {"(to_k": 4, name.rpartition(".")[2]: 8}})}
    save_file({f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}, file, about)
    lora = read_lora(file, {"unet": load(folder).backbone.unet})
    assert lora.changes["unet"][name].scale == 8


def test_a_lora_for_words_only(folder, latents, step, tmp_path):
    """In kohya's names, and with it the text encoder may not be read again."""
    parts, file = load(folder), tmp_path / "lora.safetensors"
    state = {}
    for name, (down, up) in lora_factors(parts.text_encoder.model, TEXT).items():
        stem = "lora_te_" + name.replace(".", "_")
        state[f"{stem}.lora_down.weight"], state[f"{stem}.lora_up.weight"] = down, up
    save_file(state, file)
    ours = load(folder, lora=file)
    changed = predicted(ours, latents, step)
    assert not torch.allclose(changed, predicted(parts, latents, step))
    ours.text_encoder.rest()
    assert torch.equal(predicted(ours, latents, step), changed)


def test_paths_with_colons_brackets_and_spaces(folder, latents, step, tmp_path):
    place = tmp_path / "C: [my] löras (1)"
    place.mkdir()
    file = place / "50% a:b=c.safetensors"
    write_kohya(load(folder), file)
    for name in (f"{file}:0.5", f"{place}:0.5"):
        assert load(folder, lora=name).added[0]["weight"] == 0.5
    model = place / "sd [v1.5]: x"
    shutil.copytree(folder, model)
    assert torch.equal(predicted(load(model), latents, step), predicted(load(folder), latents, step))


def test_a_lora_that_is_not_there_or_a_pickle(folder, tmp_path):
    refused("KP-MODEL-NOT-FOUND", folder, lora=tmp_path / "none.safetensors")
    (tmp_path / "lora.pt").write_bytes(b"x")
    refused("KP-MODEL-PICKLE", folder, lora=tmp_path / "lora.pt")
    (tmp_path / "lora.safetensors").write_bytes(b"x")
    refused("KP-MODEL-CORRUPT", folder, lora=tmp_path / "lora.safetensors")


# Picture prompts.


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), pixels)
    return tmp_path / "picture.png"


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("weight", [1.0, 0.6])
def test_an_ip_adapter_equals_that_of_diffusers(plus, weight, folder, latents, step, picture, tmp_path):
    from PIL import Image

    file = write_ip_adapter(stock_pipeline(folder).unet, tmp_path / "ip", plus=plus)
    parts = load(folder, ip_adapter=f"{file}:{weight}", image_prompt=picture)
    nothing, words = encode_prompt(Prompt("oil"), parts)
    ours = parts.backbone.predict(latents, step, [Condition("nothing", nothing), Condition("style", words)])
    pipeline = stock_pipeline(folder)
    pipeline.load_ip_adapter(
        str(tmp_path / "ip"),
        subfolder="",
        weight_name=file.name,
        image_encoder_folder=str(tmp_path / "ip/image_encoder"),
    )
    pipeline.set_ip_adapter_scale(weight)
    embeds = pipeline.prepare_ip_adapter_image_embeds(Image.open(picture), None, torch.device("cpu"), 1, True)
    text, empty = pipeline.encode_prompt("oil", torch.device("cpu"), 1, True, "")
    with torch.no_grad():
        expected = pipeline.unet(
            torch.cat([latents, latents]),
            int(step.timestep),
            torch.cat([empty, text]),
            added_cond_kwargs={"image_embeds": embeds},
        ).sample
    same(ours[:, 0], expected)
    assert parts.added[0]["picture"] == "picture.png"
    assert not torch.allclose(ours[1, 0], predicted(load(folder), latents, step), atol=1e-3)


def test_an_ip_adapter_without_words_for_each_branch_is_our_own_fault(folder, latents, step, picture, tmp_path):
    from kinopaint.errors import ShapeError

    file = write_ip_adapter(stock_pipeline(folder).unet, tmp_path / "ip")
    parts = load(folder, ip_adapter=file, image_prompt=picture)
    with pytest.raises(ShapeError, match="has 0 pictures, the model takes 1"):
        predicted(parts, latents, step)


def test_ip_adapters_that_cannot_be_used(folder, picture, tmp_path):
    file = write_ip_adapter(stock_pipeline(folder).unet, tmp_path / "ip")
    with pytest.raises(SettingsError, match="belong together"):
        load(folder, ip_adapter=file)
    with pytest.raises(InputError, match="no such file"):
        load(folder, ip_adapter=file, image_prompt=tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match="no picture that can be read"):
        load(folder, ip_adapter=file, image_prompt=tmp_path / "text.png")
    state = load_file(file)
    for code, change in {
        "KP-IP-ADAPTER-FORMAT": {"image_proj.perceiver_resampler.proj_in.weight": torch.zeros(1)},
        "KP-IP-ADAPTER-BASE": {"ip_adapter.1.to_k_ip.weight": torch.zeros(8, 64)},
    }.items():
        save_file(state | change, file)
        refused(code, folder, ip_adapter=file, image_prompt=picture)
    save_file({"x": torch.zeros(1)}, file)
    refused("KP-IP-ADAPTER-FORMAT", folder, ip_adapter=file, image_prompt=picture)
    for kept in ("image_proj.norm", "image_proj.proj"):  # cut short
        short = {name: each for name, each in state.items() if name != f"{kept}.bias"}
        save_file(short, file)
        refused("KP-IP-ADAPTER-FORMAT", folder, ip_adapter=file, image_prompt=picture)
    save_file(state, file)
    about = tmp_path / "ip/image_encoder/config.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"image_size": "x"}))
    refused("KP-MODEL-ARCHITECTURE", folder, ip_adapter=file, image_prompt=picture)
    (tmp_path / "ip/image_encoder").rename(tmp_path / "ip/elsewhere")
    refused("KP-IP-ADAPTER-ENCODER", folder, ip_adapter=file, image_prompt=picture)


def test_the_picture_is_named_by_its_hash(folder, picture, tmp_path):
    file = write_ip_adapter(stock_pipeline(folder).unet, tmp_path / "ip")
    parts = load(folder, ip_adapter=file, image_prompt=picture)
    assert len(parts.added[0]["picture_hash"]) == 64
    assert replace(parts, seed=1).picture_prompts == parts.picture_prompts
