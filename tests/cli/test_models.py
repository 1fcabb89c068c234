"""kinopaint models: list, show, verify, add."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def own_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "config/kinopaint/models.json"


@pytest.fixture
def model(model_folders, tmp_path):
    """A model of v-prediction: random weights do not contradict that."""
    return shutil.copytree(model_folders["v_prediction"], tmp_path / "my model")


def test_the_embedded_model_is_listed_and_whole(kinopaint):
    ran = kinopaint("models")
    assert ran.code == 0
    assert "mini\n" in ran.out
    assert "Apache-2.0" in ran.out
    ran = kinopaint("models", "verify", "mini", "--json")
    (found,) = json.loads(ran.out)
    assert found["kind"].startswith("instruct-pix2pix")
    assert len(found["hash"]) == 64


def test_a_folder_is_added_by_name_and_not_copied(kinopaint, model, own_configuration):
    ran = kinopaint("models", "add", model)
    assert ran.code == 0, ran.err
    assert "my-model" in ran.out
    entry = json.loads(own_configuration.read_text())["my-model"]
    assert entry["path"] == str(model)
    assert "my-model" in kinopaint("models").out
    assert kinopaint("models", "verify", "my-model").code == 0
    from kinopaint.models import load_model

    assert load_model("my-model", device="cpu").path == model
    ran = kinopaint("models", "show", "my-modle")
    assert ran.code == 5
    assert "did you mean my-model" in ran.err


def test_what_was_said_when_adding_holds(kinopaint, model):
    from kinopaint.models import in_float32, load_model

    kinopaint("models", "add", model, "--name", "as-noise", "--prediction", "epsilon")
    parts = load_model("as-noise", device="cpu")
    assert parts.schedule.prediction_type == "epsilon"
    assert in_float32(parts).schedule.prediction_type == "epsilon"


def test_changed_weights_are_found(kinopaint, model):
    kinopaint("models", "add", model, "--name", "mine")
    state = load_file(model / UNET)
    state["conv_in.weight"] += 1
    save_file(state, model / UNET)
    ran = kinopaint("models", "verify", "mine")
    assert ran.code == 5
    assert ran.err.startswith("KP-MODEL-CHANGED")


def test_weights_that_are_no_numbers_are_found(kinopaint, model):
    state = load_file(model / UNET)
    state["conv_in.weight"].view(-1)[0] = torch.nan
    save_file(state, model / UNET)
    assert kinopaint("models", "verify", model).err.startswith("KP-MODEL-NONFINITE")
    assert kinopaint("models", "show", model).code == 0


def test_a_network_that_predicts_something_else_than_its_scheduler_says(kinopaint):
    """The embedded model predicts v; said to predict noise, it is caught."""
    from kinopaint.models import mini_path

    kinopaint("models", "add", mini_path(), "--name", "mini-as-noise", "--prediction", "epsilon")
    ran = kinopaint("models", "verify", "mini-as-noise")
    assert ran.code == 5
    assert ran.err.startswith("KP-MODEL-PREDICTION")
    assert "--prediction v_prediction" in ran.err


def test_a_model_that_has_gone_is_listed_with_its_fault(kinopaint, model):
    kinopaint("models", "add", model, "--name", "mine")
    shutil.rmtree(model)
    ran = kinopaint("models")
    assert ran.code == 0
    assert "KP-MODEL-NOT-FOUND" in ran.out
    assert kinopaint("models", "show", "mine").code == 5


def test_a_model_in_the_cache_of_the_hub(kinopaint, model, tmp_path, monkeypatch):
    """Files there are links to blobs that bear their SHA-256 as names."""
    import huggingface_hub

    from kinopaint.models.hashes import file_hash

    root = tmp_path / "hub/models--somebody--a-model"
    snapshot = root / "snapshots" / ("0" * 40)
    (root / "blobs").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs/main").write_text("0" * 40)
    for file in model.rglob("*.*"):
        if file.is_file():
            blob = root / "blobs" / file_hash(file)
            shutil.copy(file, blob)
            place = snapshot / file.relative_to(model)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(blob)
    real, scan = huggingface_hub.snapshot_download, huggingface_hub.scan_cache_dir
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **more: real(name, cache_dir=cache, **more))
    monkeypatch.setattr(huggingface_hub, "scan_cache_dir", lambda: scan(cache))
    ran = kinopaint("models")
    assert "somebody/a-model" in ran.out
    assert "revision  " + "0" * 40 in ran.out
    assert kinopaint("models", "verify", "somebody/a-model").code == 0
    weights = (snapshot / UNET).resolve()
    state = load_file(weights)
    state["conv_in.weight"] += 1
    save_file(state, weights)
    ran = kinopaint("models", "verify", "somebody/a-model")
    assert ran.err.startswith("KP-MODEL-CHANGED")
    assert UNET in ran.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["verify"], 2),
        (["add"], 2),
        (["show", "--name", "x"], 2),
        (["remove", "x"], 2),
        (["add", "nowhere"], 5),
        (["verify", "nowhere"], 5),
    ],
)
def test_wrong_usage(words, code, kinopaint):
    assert kinopaint("models", *words).code == code


def test_a_name_that_could_be_mistaken(kinopaint, model):
    for name in ("mini", "a/b", ""):
        assert kinopaint("models", "add", model, "--name", name).code == (0 if not name else 2)


@pytest.mark.parametrize(
    ("file", "changes", "code"),
    [
        ("unet/config.json", {"cross_attention_dim": [32, 32, 32, 32]}, 0),
        ("vae/config.json", {"latent_channels": "four"}, 5),
    ],
)
def test_odd_configurations_do_not_end_the_list(file, changes, code, kinopaint, model):
    config = json.loads((model / file).read_text())
    kinopaint("models", "add", model, "--name", "mine")
    (model / file).write_text(json.dumps(config | changes))
    assert kinopaint("models", "show", "mine").code == code
    ran = kinopaint("models")
    assert ran.code == 0
    assert ("KP-MODEL-ARCHITECTURE" in ran.out) == (code == 5)


def test_a_broken_list_is_named(kinopaint, own_configuration):
    own_configuration.parent.mkdir(parents=True)
    own_configuration.write_text("{")
    ran = kinopaint("models", "show", "mine")
    assert ran.code == 5
    assert ran.err.startswith("KP-MODEL-REGISTRY")


def test_a_text_to_image_model_with_a_controlnet_and_a_lora_restyles_a_clip(kinopaint, clip, model_folders, tmp_path):
    from tests.checkpoints import lora_factors, with_channels, write_controlnet

    from kinopaint.models import load_model

    plain = with_channels(model_folders["epsilon"], tmp_path / "plain", 4)
    control = write_controlnet(plain, tmp_path / "canny", seed=1)
    state = {}
    for name, (down, up) in lora_factors(load_model(plain, device="cpu").backbone.unet, "to_q").items():
        state[f"unet.{name}.lora_A.weight"], state[f"unet.{name}.lora_B.weight"] = down, up
    save_file(state, tmp_path / "lora.safetensors")
    out = tmp_path / "out.mp4"
    words = ["stylize", clip, "oil", "-o", out, "--model", plain, "--steps", "2", "--sidecar", "--end", "0.2"]
    words += ["--controlnet", f"{control}:0.7:0-0.5", "--lora", f"{tmp_path}/lora.safetensors:0.5"]
    ran = kinopaint(*words, "--progress", "none")
    assert ran.code == 0, ran.err
    recipe = json.loads((tmp_path / "out.mp4.json").read_text())
    assert recipe["model"]["kind"] == "text-to-image"
    assert [each["kind"] for each in recipe["model"]["added"]] == ["lora", "controlnet"]
    assert recipe["model"]["added"][1] | {"hashes": None} == {
        "kind": "controlnet",
        "name": "canny",
        "revision": None,
        "licence": None,
        "hashes": None,
        "weight": 0.7,
        "start": 0.0,
        "end": 0.5,
        "hint": "canny",
    }
    assert recipe["settings"]["lora"] == ["lora.safetensors:0.5"]
    assert recipe["settings"]["controlnet"] == ["canny=canny:0.7:0-0.5"]
    assert str(tmp_path) not in json.dumps(recipe)
    assert (recipe["settings"]["s_image"], recipe["settings"]["strength"]) == (0.0, 0.8)
    ran = kinopaint(*words, "--overwrite", "--text-branch", "joint", "--progress", "none")
    assert ran.code == 5
    assert ran.err.startswith("KP-MODEL-NO-IMAGE")


@pytest.mark.parametrize(
    ("words", "code", "start"),
    [
        (["--controlnet", "some/folder"], 2, "KP-CONTROLNET-HINT"),
        (["--controlnet", "cany=some/folder"], 2, "KP-CONTROLNET-HINT"),
        (["--controlnet", "canny=some/folder:1:0.8-0.2"], 2, "KP-SETTING-VALUE"),
        (["--controlnet", "canny=./nowhere:1:0.1.2-0.5"], 5, "KP-MODEL-NOT-FOUND"),
        (["--controlnet", "canny=./nowhere:1:.-1"], 5, "KP-MODEL-NOT-FOUND"),
        (["--lora", ""], 2, "KP-SETTING-VALUE"),
        (["--vae", ""], 2, "KP-SETTING-VALUE"),
        (["--lora", "x" * 5000], 5, "KP-MODEL-NOT-FOUND"),
        (["--vae", "x" * 5000], 5, "KP-MODEL-NOT-FOUND"),
        (["--ip-adapter", "some.safetensors"], 2, "KP-IP-ADAPTER-PICTURE"),
        (["--lora", "nowhere.safetensors"], 5, "KP-MODEL-NOT-FOUND"),
        (["--vae", "./nowhere"], 5, "KP-MODEL-NOT-FOUND"),
        (["--controlnet", "canny=./nowhere"], 5, "KP-MODEL-NOT-FOUND"),
    ],
)
def test_additions_that_cannot_be(words, code, start, kinopaint, clip, model_folder, tmp_path):
    ran = kinopaint("stylize", clip, "oil", "-o", tmp_path / "out.mp4", "--model", model_folder, *words)
    assert ran.code == code
    assert ran.err.startswith(start)
