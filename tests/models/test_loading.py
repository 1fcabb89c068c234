"""Each way in which a checkpoint can be wrong has a code of its own; no pickle is ever opened."""

import json
import logging
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinopaint.errors import ModelError, SettingsError
from kinopaint.models import Components, in_float32, load_model, weight_hashes

UNET = "unet/diffusion_pytorch_model.safetensors"


def edit_json(file, **changes):
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def edit_weights(file, change):
    state = load_file(file)
    change(state)
    save_file(state, file)


def refused(name, code, text=None, **options):
    with pytest.raises(ModelError, match=text) as caught:
        load_model(name, device="cpu", dtype="float32", **options)
    assert caught.value.code == code
    assert caught.value.exit_code == 5
    return caught.value


def test_a_whole_model_loads(parts, model_folder):
    assert isinstance(parts, Components)
    assert parts.path == model_folder
    assert (parts.backbone.latent_channels, parts.backbone.image_channels) == (4, 4)
    assert (parts.autoencoder.factor, parts.autoencoder.latent_channels) == (8, 4)
    assert (parts.text_encoder.dim, parts.text_encoder.max_tokens) == (32, 16)
    assert (parts.dtype, parts.schedule.timestep_spacing) == (torch.float32, "trailing")
    assert not any(weight.requires_grad or weight.is_meta for weight in parts.backbone.unet.parameters())


def test_weights_are_the_stored_ones(parts, model_folder):
    stored = load_file(model_folder / UNET)
    ours = parts.backbone.unet.state_dict()
    assert all(torch.equal(ours[key], stored[key]) for key in stored)
    assert len(ours) == len(stored)


def test_half_precision_stays_near(model_folder, parts, frames):
    half = load_model(model_folder, device="cpu", dtype="bf16")
    assert half.dtype == half.backbone.unet.dtype == torch.bfloat16
    exact = parts.autoencoder.encode(frames)
    assert half.autoencoder.encode(frames).dtype == torch.float32
    assert torch.allclose(half.autoencoder.encode(frames), exact, atol=0.1)


def test_a_model_can_be_had_again_in_full_precision(model_folder, parts):
    half = replace(load_model(model_folder, device="cpu", dtype="bf16"), seed=7, name="mine")
    exact = in_float32(half)
    assert (exact.dtype, exact.seed, exact.name) == (torch.float32, 7, "mine")
    assert torch.equal(exact.backbone.unet.conv_in.weight, parts.backbone.unet.conv_in.weight)


def test_the_folder_tells_licence_and_recommended_settings(broken):
    (broken / "kinopaint.json").write_text(json.dumps({"recommended": {"style-a-video": {"s_text": 5.0}}}))
    (broken / "README.md").write_text("---\ntags: [x]\nlicense: mit\n---\nA model.\n")
    parts = load_model(broken, device="cpu")
    assert parts.recommended["style-a-video"]["s_text"] == 5.0
    assert parts.licence == "mit"


@pytest.mark.parametrize("recommended", ["x", 5, {"style-a-video": None}, ["style-a-video"]])
def test_recommended_settings_that_are_none(recommended, broken):
    (broken / "kinopaint.json").write_text(json.dumps({"recommended": recommended}))
    assert refused(broken, "KP-MODEL-JSON", "recommended").where.endswith("kinopaint.json")


def test_parts_that_nobody_reads_may_be_gone(broken):
    """As in a cache whose safety checker was thrown away."""
    before = weight_hashes(broken)
    (broken / "safety_checker").mkdir()
    (broken / "safety_checker/model.safetensors").symlink_to(broken / "nowhere")
    assert weight_hashes(broken) == before


def test_diffusers_remarks_on_a_configuration_are_kept_back(model_folders):
    """On standard error they would stand among the objects of `--progress json`."""
    heard = []
    listener = logging.Handler()
    listener.emit = heard.append
    logger = logging.getLogger("diffusers.configuration_utils")
    logger.addHandler(listener)
    try:
        load_model(model_folders["tiny"], device="cpu")
    finally:
        logger.removeHandler(listener)
    assert heard == []
    assert logger.getEffectiveLevel() == logging.WARNING


def test_hashes_name_every_weight_file(model_folder):
    hashes = weight_hashes(model_folder)
    assert sorted(hashes) == ["text_encoder/model.safetensors", UNET, "vae/diffusion_pytorch_model.safetensors"]
    assert all(len(digest) == 64 for digest in hashes.values())


def test_sharded_and_fp16_weights_load(broken):
    state = load_file(broken / UNET)
    names = sorted(state)
    half = len(names) // 2
    files = {"a.safetensors": names[:half], "b.safetensors": names[half:]}
    for file, keys in files.items():
        save_file({key: state[key] for key in keys}, broken / "unet" / file)
    (broken / UNET).unlink()
    index = {"weight_map": {key: file for file, keys in files.items() for key in keys}}
    (broken / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    text = broken / "text_encoder/model.safetensors"
    save_file({key: value.half() for key, value in load_file(text).items()}, text.with_suffix(".fp16.safetensors"))
    text.unlink()
    loaded = load_model(broken, device="cpu", dtype="float32")
    assert all(torch.equal(value, state[key]) for key, value in loaded.backbone.unet.state_dict().items())
    (broken / "unet/b.safetensors").unlink()
    assert "b.safetensors" in refused(broken, "KP-MODEL-PART", "a shard of the weights is missing").where


def test_bfloat16_shards_load(broken):
    """Two shards of bfloat16 and their list, as large checkpoints come; and a variant of that name."""
    state = {key: value.bfloat16() for key, value in load_file(broken / UNET).items()}
    files = {
        f"diffusion_pytorch_model-0000{part}-of-00002.safetensors": sorted(state)[part - 1 :: 2] for part in (1, 2)
    }
    for file, keys in files.items():
        save_file({key: state[key] for key in keys}, broken / "unet" / file)
    (broken / UNET).unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": {key: file for file, keys in files.items() for key in keys}}
    list_ = broken / "unet/diffusion_pytorch_model.safetensors.index.json"
    list_.write_text(json.dumps(index))
    loaded = load_model(broken, device="cpu", dtype="bf16").backbone.unet
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    for content in ("{}", '{"weight_map": []}', '{"weight_map": {}}'):
        list_.write_text(content)
        assert refused(broken, "KP-MODEL-JSON", "names no shards").where == str(list_)
    list_.write_text(json.dumps({"weight_map": {"conv_in.weight": "../vae/diffusion_pytorch_model.safetensors"}}))
    refused(broken, "KP-MODEL-PART", "a shard of the weights is missing")
    list_.unlink()
    save_file(state, (broken / UNET).with_suffix(".bf16.safetensors"))
    load_model(broken, device="cpu", dtype="bf16")


def test_names_of_older_releases_load(broken):
    def old(state):
        for key in list(state):
            state["text_model." + key.removeprefix("text_model.")] = state.pop(key)
        state["text_model.embeddings.position_ids"] = torch.arange(16)[None]

    def old_attention(state):
        for key in [key for key in state if ".attentions." in key]:
            tensor = state.pop(key)
            for new, name in (
                (".to_q.", ".query."),
                (".to_k.", ".key."),
                (".to_v.", ".value."),
                (".to_out.0.", ".proj_attn."),
            ):
                key = key.replace(new, name)
            convolution = tensor.ndim == 2 and "group_norm" not in key
            state[key] = tensor[:, :, None, None].contiguous() if convolution else tensor

    edit_weights(broken / "text_encoder/model.safetensors", old)
    edit_weights(broken / "vae/diffusion_pytorch_model.safetensors", old_attention)
    load_model(broken, device="cpu")


# Names.


def test_an_unknown_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "did you mean mini" in refused("mimi", "KP-MODEL-UNKNOWN", "no model named 'mimi'").fix


def test_a_folder_that_is_not_there(model_folder):
    wrong = model_folder.parent / "epsilo"
    assert "epsilon" in refused(wrong, "KP-MODEL-NOT-FOUND", "no such folder").fix
    refused("./nowhere", "KP-MODEL-NOT-FOUND")
    refused("C:\\models\\none", "KP-MODEL-NOT-FOUND", "no such folder")


def test_names_that_no_file_can_have():
    refused("", "KP-MODEL-UNKNOWN", "is empty")
    refused("x" * 5000, "KP-MODEL-UNKNOWN")
    refused(f"./{'x' * 5000}", "KP-MODEL-NOT-FOUND")
    refused("~nobody-of-this-name/model", "KP-MODEL-NOT-FOUND")


def test_a_hub_id_that_is_not_cached():
    assert "--download" in refused("somebody/some-model", "KP-MODEL-NOT-CACHED").fix


def test_a_single_file(tmp_path):
    for name, code in (
        ("model.safetensors", "KP-MODEL-CORRUPT"),
        ("model.txt", "KP-MODEL-SINGLE-FILE"),
        ("model.ckpt", "KP-MODEL-PICKLE"),
    ):
        (tmp_path / name).write_bytes(b"x")
        refused(tmp_path / name, code)


@pytest.mark.parametrize(
    ("option", "code"), [({"device": "gpu0"}, "KP-SETTING-DEVICE"), ({"dtype": "float31"}, "KP-SETTING-DTYPE")]
)
def test_device_and_dtype_are_settings(option, code, model_folder):
    with pytest.raises(SettingsError) as caught:
        load_model(model_folder, **option)
    assert caught.value.code == code


# Parts.


def test_no_index(broken, tmp_path):
    (broken / "model_index.json").unlink()
    refused(broken, "KP-MODEL-LAYOUT", "no model_index.json")
    (broken / "v1-5.ckpt").write_bytes(b"x")
    refused(broken, "KP-MODEL-PICKLE")


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_json_that_is_none(file, broken):
    (broken / file).write_text("{broken")
    assert refused(broken, "KP-MODEL-JSON", "not valid JSON").where.endswith(file)
    (broken / file).write_text("[]")
    refused(broken, "KP-MODEL-JSON", "no JSON object")
    (broken / file).write_text("[" * 100_000)
    refused(broken, "KP-MODEL-JSON", "not valid JSON")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part(part, broken):
    shutil.rmtree(broken / part)
    assert refused(broken, "KP-MODEL-PART").where.endswith(part)
    edit_json(broken / "model_index.json", **{part: [None, None]})
    refused(broken, "KP-MODEL-PART", f"names no {part}")


@pytest.mark.parametrize(
    "file",
    [
        UNET,
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "unet/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file(file, broken):
    (broken / file).unlink()
    assert refused(broken, "KP-MODEL-PART", "is missing").where.endswith(file)


def test_a_tokenizer_whose_length_is_no_number(broken):
    edit_json(broken / "tokenizer/tokenizer_config.json", model_max_length=[])
    refused(broken, "KP-MODEL-TOKENIZER", "not a number")


@pytest.mark.parametrize("file", ["vocab.json", "merges.txt"])
def test_a_missing_or_broken_tokenizer(file, broken):
    (broken / "tokenizer" / file).write_text("{]")
    if file == "vocab.json":
        refused(broken, "KP-MODEL-TOKENIZER", "cannot be read")
    (broken / "tokenizer" / file).unlink()
    refused(broken, "KP-MODEL-TOKENIZER", f"the tokenizer has no {file}")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickles_are_never_opened(part, broken):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    for file in (broken / part).glob("*.safetensors"):
        torch.save(Trap(), file.with_suffix(".bin"))
        file.unlink()
    refused(broken, "KP-MODEL-PICKLE", "is never opened")


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda whole: b"",
        lambda whole: b"rubbish" * 100,
        lambda whole: whole[:-100],
        lambda whole: whole[:20],
        lambda whole: b"\xff" * 8 + whole[8:],
        lambda whole: whole[:8] + b"\xff" + whole[9:],
        lambda whole: whole.replace(b'"dtype":"F32"', b'"dtype":"Q32"', 1),
    ],
    ids=["empty", "rubbish", "truncated", "half a head", "a giant's head", "no text", "unknown numbers"],
)
def test_corrupt_weights(spoilt, broken):
    (broken / UNET).write_bytes(spoilt((broken / UNET).read_bytes()))
    assert refused(broken, "KP-MODEL-CORRUPT", "cannot be read").where.endswith(UNET)


def test_a_git_lfs_pointer(broken):
    (broken / UNET).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in refused(broken, "KP-MODEL-CORRUPT").fix


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "text_encoder/model"])
def test_weights_that_are_quantised(part, broken):
    file = broken / f"{part}.safetensors"
    save_file({key: value.to(torch.int8) for key, value in load_file(file).items()}, file)
    refused(broken, "KP-MODEL-KEYS", "in int8, which is not supported")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value, broken):
    edit_weights(broken / UNET, lambda state: state["conv_in.weight"].view(-1)[3:4].fill_(value))
    refused(broken, "KP-MODEL-NONFINITE", r"conv_in\.weight holds")


# Architecture.


@pytest.mark.parametrize(
    ("part", "name"), [("unet", "UNet3DConditionModel"), ("vae", "VQModel"), ("text_encoder", "T5EncoderModel")]
)
def test_other_architectures(part, name, broken):
    edit_json(broken / "model_index.json", **{part: ["diffusers", name]})
    refused(broken, "KP-MODEL-ARCHITECTURE", f"{part} is a {name}; expected")


def test_another_class_in_the_configuration(broken):
    edit_json(broken / "unet/config.json", _class_name="SD3Transformer2DModel")
    refused(broken, "KP-MODEL-ARCHITECTURE", "unet is a SD3Transformer2DModel")


def test_a_configuration_that_builds_no_network(broken):
    edit_json(broken / "unet/config.json", down_block_types=["NoSuchBlock"] * 4)
    refused(broken, "KP-MODEL-ARCHITECTURE", "cannot be built")


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("unet/config.json", "in_channels", "eight"),
        ("unet/config.json", "norm_num_groups", 0),
        ("unet/config.json", "layers_per_block", []),
        ("vae/config.json", "latent_channels", "four"),
        ("vae/config.json", "scaling_factor", "x"),
        ("vae/config.json", "block_out_channels", 0),
        ("text_encoder/config.json", "num_attention_heads", 0),
        ("text_encoder/config.json", "hidden_size", "x"),
        ("scheduler/scheduler_config.json", "beta_start", "x"),
        ("scheduler/scheduler_config.json", "num_train_timesteps", 0),
        ("scheduler/scheduler_config.json", "num_train_timesteps", -5),
    ],
)
def test_values_that_make_no_sense(file, key, value, broken):
    edit_json(broken / file, **{key: value})
    with pytest.raises(ModelError) as caught:
        load_model(broken, device="cpu", dtype="float32")
    assert caught.value.code in ("KP-MODEL-ARCHITECTURE", "KP-MODEL-SCHEDULER", "KP-MODEL-MISFIT")
    assert file.partition("/")[0] in caught.value.where


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda state: state.pop("conv_in.weight"), r"conv_in\.weight missing"),
        (lambda state: state.update(more=torch.zeros(1)), "more unexpected"),
        (
            lambda state: state.update({"conv_in.weight": torch.zeros(8, 4, 3, 3)}),
            r"\(8, 4, 3, 3\) instead of \(8, 8, 3, 3\)",
        ),
    ],
)
def test_weights_that_do_not_fit(change, text, broken):
    edit_weights(broken / UNET, change)
    refused(broken, "KP-MODEL-KEYS", text)


def test_an_unknown_scheduler(broken):
    edit_json(broken / "scheduler/scheduler_config.json", _class_name="FlowMatchEulerDiscreteScheduler")
    assert refused(broken, "KP-MODEL-SCHEDULER", "FlowMatchEuler").where.endswith("scheduler_config.json")


def test_parts_of_different_checkpoints(broken, model_folders, tmp_path):
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    config = json.loads((broken / "unet/config.json").read_text())
    for change, text in (
        ({"cross_attention_dim": 24}, "gives 32 numbers per token, the U-Net takes 24"),
        ({"in_channels": 7}, "takes 7 and gives 4 channels, the autoencoder has 4"),
        ({"out_channels": 8}, "takes 8 and gives 8 channels"),
    ):
        shutil.rmtree(broken / "unet")
        UNet2DConditionModel.from_config({**config, **change}).save_pretrained(broken / "unet")
        refused(broken, "KP-MODEL-MISFIT", text)
    shutil.rmtree(broken / "unet")
    shutil.copytree(model_folders["epsilon"] / "unet", broken / "unet")
    text_config = CLIPTextConfig.from_dict(
        json.loads((broken / "text_encoder/config.json").read_text()) | {"vocab_size": 100}
    )
    CLIPTextModel(text_config).save_pretrained(broken / "text_encoder")
    refused(broken, "KP-MODEL-MISFIT", "the text encoder knows 100")


def test_a_plain_text_to_image_network_loads(broken):
    from diffusers import UNet2DConditionModel

    config = json.loads((broken / "unet/config.json").read_text())
    UNet2DConditionModel.from_config({**config, "in_channels": 4}).save_pretrained(broken / "unet")
    assert load_model(broken, device="cpu").backbone.image_channels == 0
