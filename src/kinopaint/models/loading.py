"""Load a checkpoint in diffusers layout, and say clearly what is wrong with one that cannot be used.

Only safetensors are read: a pickle can run code, so none is ever opened.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinopaint.engine.components import Components
from kinopaint.engine.schedule import NoiseSchedule
from kinopaint.errors import ModelError, SettingsError, did_you_mean

_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_CLASSES = {  # part -> classes that can be used
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny"),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "scheduler": (),  # judged by the noise schedule
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["model_index.json", "kinopaint.json", "README.md", "*/*.json", "*/*.txt", "*/*.safetensors"]


def load_model(name: str | Path, *, device: str = "auto", dtype: str = "auto", download: bool = False) -> Components:
    """Load "mini" (the embedded model), a folder in diffusers layout, or a hub id such as "timbrooks/instruct-pix2pix".

    `device` is "auto", "cpu", "cuda", "cuda:1", …; `dtype` is "auto", "float32", "bfloat16" or "float16". "auto" is
    bfloat16 where the processor multiplies in it, else float32; float32 is the exact mode. A hub id is taken from the
    local cache, unless `download` allows the network.
    Raises ModelError, with a code of its own for each way in which a checkpoint can be wrong, and SettingsError
    (KP-SETTING-DEVICE, KP-SETTING-DTYPE) for a device or dtype that does not exist here.
    """
    place = _device(device)
    precision = _dtype(dtype, place)
    path, revision = find_model(name, download=download)
    _check_index(path)
    schedule = NoiseSchedule.from_config(
        _read_json(path / "scheduler" / "scheduler_config.json"),
        where=str(path / "scheduler" / "scheduler_config.json"),
    )

    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from kinopaint.models.autoencoder import DiffusersAutoencoder
    from kinopaint.models.diffusers_unet import DiffusersBackbone
    from kinopaint.models.text import ClipText

    kinds: dict[str, Any] = {kind.__name__: kind for kind in (UNet2DConditionModel, AutoencoderKL, AutoencoderTiny)}

    def network(part: str, weights: str) -> Any:
        config = _read_json(path / part / "config.json")
        kind = kinds[config["_class_name"]]
        return _filled(path / part, weights, lambda: kind.from_config(config), place, precision)

    autoencoder = DiffusersAutoencoder(network("vae", "diffusion_pytorch_model"))
    unet = network("unet", "diffusion_pytorch_model")
    image_channels = _check_channels(unet.config, autoencoder.latent_channels, path)
    text_dtype = torch.float32 if place.type == "cpu" else precision  # once per video: not worth the rounding
    text_config = _read_json(path / "text_encoder" / "config.json")
    text_model = _filled(path / "text_encoder", "model", lambda: _text_model(text_config), place, text_dtype)
    text_encoder = ClipText(_tokenizer(path, text_model.config.vocab_size), text_model)
    if text_encoder.dim != unet.config.cross_attention_dim:
        raise ModelError(
            "KP-MODEL-MISFIT",
            f"the text encoder gives {text_encoder.dim} numbers per token, the U-Net "
            f"takes {unet.config.cross_attention_dim}",
            where=str(path),
            fix="the parts come from different checkpoints; fetch the model again",
        )
    small = None
    if (path / "vae_small").is_dir():
        small = DiffusersAutoencoder(network("vae_small", "diffusion_pytorch_model"))
        if (small.latent_channels, small.factor) != (autoencoder.latent_channels, autoencoder.factor):
            raise ModelError(
                "KP-MODEL-MISFIT",
                f"vae_small has {small.latent_channels} channels at factor {small.factor}, the autoencoder "
                f"{autoencoder.latent_channels} at {autoencoder.factor}",
                where=str(path / "vae_small"),
                fix="use a small autoencoder made for these latents",
            )
    about = _read_json(path / "kinopaint.json") if (path / "kinopaint.json").exists() else {}
    return Components(
        DiffusersBackbone(unet, schedule.prediction_type, image_channels=image_channels),
        autoencoder,
        text_encoder,
        schedule,
        image_encoder=_image_encoder(path, place, text_dtype) if (path / "image_encoder").is_dir() else None,
        small_autoencoder=small,
        name=str(name),
        path=path,
        revision=revision,
        licence=_licence(path, about),
        recommended=about.get("recommended", {}),
        device=place,
        dtype=precision,
    )


def in_float32(parts: Components) -> Components:
    """The same model, loaded again in full precision: for a run whose half precision gave infinite values or NaN."""
    if parts.path is None:
        raise ModelError("KP-MODEL-NOT-FOUND", "the model was not loaded from a folder", where=parts.name)
    return replace(load_model(parts.path, device=str(parts.device), dtype="float32"), name=parts.name, seed=parts.seed)


def find_model(name: str | Path, *, download: bool = False) -> tuple[Path, str | None]:
    """The folder of a model, and its revision if it comes from the hub. Nothing in it has been checked.

    Raises ModelError KP-MODEL-UNKNOWN, -NOT-FOUND, -PICKLE, -SINGLE-FILE, -NOT-CACHED or -DOWNLOAD.
    """
    text = str(name)
    if text == "mini":
        from kinopaint.models import mini_path

        if not (mini_path() / "model_index.json").exists():
            raise ModelError(
                "KP-MODEL-NOT-FOUND",
                "the embedded model is not in this installation",
                where=str(mini_path()),
                fix="install kinopaint again from its wheel",
            )
        return mini_path(), None
    path = Path(name).expanduser()
    if path.is_dir():
        return path, None
    if path.is_file():
        if path.suffix in _PICKLES:
            raise _pickle(path)
        raise ModelError(
            "KP-MODEL-SINGLE-FILE",
            "a model is a folder in diffusers layout; this is a single file",
            where=text,
            fix="give the folder that holds model_index.json",
        )
    if isinstance(name, Path) or text.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(text):
        known = {"mini", *_folders_beside(path)}
        if text.startswith((".", "/", "~")) or isinstance(name, Path) or "/" in text:
            raise ModelError("KP-MODEL-NOT-FOUND", "there is no such folder", where=text, fix=did_you_mean(text, known))
        raise ModelError(
            "KP-MODEL-UNKNOWN",
            f"there is no model named {text!r}",
            where="--model",
            fix=did_you_mean(text, known) + " A hub id has the form owner/name",
        )
    return _from_hub(text, download)


def weight_hashes(path: Path) -> dict[str, str]:
    """SHA-256 of every weight file of a model folder, by its path in there."""
    hashes = {}
    for file in sorted(path.glob("*/*.safetensors")):
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        hashes[file.relative_to(path).as_posix()] = digest.hexdigest()
    return hashes


def _from_hub(name: str, download: bool) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(name, allow_patterns=_HUB_FILES, local_files_only=not download))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        if not download:
            raise ModelError(
                "KP-MODEL-NOT-CACHED",
                f"{name!r} is neither a folder nor in the local cache",
                where=name,
                fix="check the path, or allow the network with --download",
            ) from error
        raise ModelError(
            "KP-MODEL-DOWNLOAD",
            f"the hub cannot be reached: {error}",
            where=name,
            fix="check the network, or give a folder",
        ) from error
    except Exception as error:  # of the hub's client: no such repository, gated, network, disk
        raise ModelError(
            "KP-MODEL-DOWNLOAD", f"the hub refused: {error}", where=name, fix="check the id and that you may read it"
        ) from error
    return path, path.name


def _folders_beside(path: Path) -> Iterator[str]:
    parent = path.parent
    if parent.is_dir():
        yield from (str(index.parent) for index in parent.glob("*/model_index.json"))


def _check_index(path: Path) -> None:
    """Every part is named in model_index.json, present, and of a class that can be used."""
    if not (path / "model_index.json").exists():
        for file in path.iterdir():
            if file.suffix in _PICKLES:
                raise _pickle(file)
        raise ModelError(
            "KP-MODEL-LAYOUT",
            "the folder has no model_index.json",
            where=str(path),
            fix="give the folder of a checkpoint in diffusers layout",
        )
    index = _read_json(path / "model_index.json")
    for part, classes in _CLASSES.items():
        entry = index.get(part)
        if not (isinstance(entry, list) and len(entry) == 2 and entry[1]):
            raise ModelError(
                "KP-MODEL-PART",
                f"model_index.json names no {part}",
                where=str(path / "model_index.json"),
                fix="a complete checkpoint has " + ", ".join(_CLASSES),
            )
        _check_class(str(entry[1]), classes, part, path / "model_index.json")
        if not (path / part).is_dir():
            raise _missing(path / part, f"the part {part}")
    for part in ("unet", "vae"):
        name = _read_json(path / part / "config.json").get("_class_name")
        _check_class(str(name), _CLASSES[part], part, path / part / "config.json")


def _check_class(name: str, classes: tuple[str, ...], part: str, where: Path) -> None:
    if classes and name not in classes:
        raise ModelError(
            "KP-MODEL-ARCHITECTURE",
            f"{part} is a {name}; expected {' or '.join(classes)}",
            where=str(where),
            fix="use a checkpoint of the Stable Diffusion 1.x or InstructPix2Pix family",
        )


def _check_channels(config: Any, latent_channels: int, path: Path) -> int:
    """The number of extra image channels of the U-Net: none, or as many as the latents have."""
    extra = config.in_channels - latent_channels
    if extra not in (0, latent_channels) or config.out_channels != latent_channels:
        raise ModelError(
            "KP-MODEL-MISFIT",
            f"the U-Net takes {config.in_channels} and gives {config.out_channels} channels, "
            f"the autoencoder has {latent_channels}",
            where=str(path / "unet" / "config.json"),
            fix=f"expected {latent_channels} or {2 * latent_channels} in, {latent_channels} out",
        )
    return int(extra)


def _filled(
    folder: Path, weights: str, build: Callable[[], nn.Module], device: torch.device, dtype: torch.dtype
) -> Any:
    """A network with the weights of `folder`, built without memory for weights of its own."""
    file_weights = _read_weights(folder, weights, device, dtype)
    try:
        with torch.device("meta"):
            model = build()
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            "KP-MODEL-ARCHITECTURE",
            f"the network cannot be built from its configuration: {error}",
            where=str(folder / "config.json"),
            fix="fetch the model again",
        ) from error
    expected = model.state_dict()
    state = _with_current_names(file_weights, expected)
    _check_keys(state, expected, folder)
    model.load_state_dict(state, assign=True)
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:  # the one such buffer: positions 0, 1, 2 …, which are not stored
            owner, _, leaf = name.rpartition(".")
            positions = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape)
            model.get_submodule(owner).register_buffer(leaf, positions, persistent=False)
    return model


def _read_weights(folder: Path, stem: str, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    state: dict[str, Tensor] = {}
    for file in _weight_files(folder, stem):
        try:
            with safe_open(file, framework="pt") as stream:
                for key in stream.keys():  # noqa: SIM118 - not a dict
                    tensor = stream.get_tensor(key)
                    if tensor.is_floating_point():
                        if not torch.isfinite(tensor).all():
                            raise ModelError(
                                "KP-MODEL-NONFINITE",
                                f"the weight {key} holds infinite values or NaN",
                                where=str(file),
                                fix="the checkpoint is broken; fetch or train it again",
                            )
                        tensor = tensor.to(device, dtype)
                    state[key] = tensor
        except (SafetensorError, OSError) as error:
            fix = "it is a git-lfs pointer: git lfs pull" if file.read_bytes()[:7] == b"version" else "fetch it again"
            raise ModelError(
                "KP-MODEL-CORRUPT", f"the weight file cannot be read: {error}", where=str(file), fix=fix
            ) from error
    return state


def _weight_files(folder: Path, stem: str) -> list[Path]:
    for variant in ("", ".fp16"):
        if (file := folder / f"{stem}{variant}.safetensors").exists():
            return [file]
        index = folder / f"{stem}.safetensors.index{variant}.json"
        if index.exists():
            files = [folder / str(name) for name in sorted(set(_read_json(index).get("weight_map", {}).values()))]
            for file in files:
                if file.parent != folder or not file.exists():
                    raise _missing(file, "a shard of the weights")
            return files
    for file in sorted(folder.iterdir()):
        if file.suffix in _PICKLES:
            raise _pickle(file)
    raise _missing(folder / f"{stem}.safetensors", "the weight file")


def _with_current_names(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of older checkpoints under the names that today's classes have."""
    renamed = {}
    prefix = "text_model."
    adds = any(key.startswith(prefix) for key in expected)
    for key, tensor in state.items():
        if key.endswith("position_ids"):  # stored by old releases, always 0, 1, 2 …
            continue
        name = key
        if key not in expected:
            name = prefix + key if adds and not key.startswith(prefix) else key
            name = name.removeprefix(prefix) if not adds else name
            for old, new in (
                (".query.", ".to_q."),
                (".key.", ".to_k."),
                (".value.", ".to_v."),
                (".proj_attn.", ".to_out.0."),
            ):
                name = name.replace(old, new)
            if name in expected and tensor.ndim == 4 and expected[name].ndim == 2:
                tensor = tensor[:, :, 0, 0]  # a 1 × 1 convolution became a linear layer
        renamed[name] = tensor
    return renamed


def _check_keys(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], folder: Path) -> None:
    faults = [("missing", key) for key in expected if key not in state]
    faults += [("unexpected", key) for key in state if key not in expected]
    faults += [
        (f"{tuple(state[key].shape)} instead of {tuple(tensor.shape)}", key)
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if faults:
        named = "; ".join(f"{key} {fault}" for fault, key in faults[:3])
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ModelError(
            "KP-MODEL-KEYS",
            f"the weights do not fit the configuration: {named}{more}",
            where=str(folder),
            fix="config.json and weights come from different checkpoints; fetch the model again",
        )


def _text_model(config: dict[str, Any]) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig.from_dict(config))


def _image_encoder(path: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The image tower, and the mean and deviation of its pixels where the folder says them."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from kinopaint.models.image import CLIP_MEAN, CLIP_STD, ClipImages

    folder = path / "image_encoder"
    config = _read_json(folder / "config.json")
    _check_class(
        str(*config.get("architectures", ["nothing named"])[:1]),
        ("CLIPVisionModelWithProjection",),
        "image_encoder",
        folder / "config.json",
    )
    model = _filled(
        folder, "model", lambda: CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(config)), device, dtype
    )
    files = [path / where / "preprocessor_config.json" for where in ("image_encoder", "feature_extractor")]
    about = next((_read_json(file) for file in files if file.exists()), {})
    return ClipImages(model, about.get("image_mean", CLIP_MEAN), about.get("image_std", CLIP_STD))


def _tokenizer(path: Path, vocabulary: int) -> Any:
    from transformers import CLIPTokenizer

    folder = path / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        for name in ("vocab.json", "merges.txt"):
            if not (folder / name).exists():
                raise ModelError(
                    "KP-MODEL-TOKENIZER",
                    f"the tokenizer has no {name}",
                    where=str(folder / name),
                    fix="fetch the model again",
                )
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # of several libraries, down to a Rust one without a common class
        raise ModelError(
            "KP-MODEL-TOKENIZER",
            f"the tokenizer cannot be read: {error}",
            where=str(folder),
            fix="fetch the model again",
        ) from error
    if len(tokenizer) > vocabulary:
        raise ModelError(
            "KP-MODEL-MISFIT",
            f"the tokenizer has {len(tokenizer)} pieces, the text encoder knows {vocabulary}",
            where=str(folder),
            fix="the parts come from different checkpoints; fetch the model again",
        )
    return tokenizer


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _missing(file, "a configuration file") from error
    except (ValueError, OSError) as error:
        raise ModelError(
            "KP-MODEL-JSON", f"the file is not valid JSON: {error}", where=str(file), fix="fetch the model again"
        ) from error
    if not isinstance(content, dict):
        raise ModelError("KP-MODEL-JSON", "the file holds no JSON object", where=str(file), fix="fetch the model again")
    return content


def _licence(path: Path, about: Mapping[str, Any]) -> str | None:
    """The licence that kinopaint.json or the head of the model card names."""
    if "licence" in about:
        return str(about["licence"])
    card = path / "README.md"
    if card.exists():
        found = re.search(r"\A---\n(?:.*\n)*?licen[sc]e:\s*(\S+)", card.read_text(encoding="utf-8", errors="replace"))
        return found[1] if found else None
    return None


def _missing(file: Path, what: str) -> ModelError:
    return ModelError(
        "KP-MODEL-PART",
        f"{what} is missing",
        where=str(file),
        fix="fetch the model again; a complete checkpoint has model_index.json and the folders " + ", ".join(_CLASSES),
    )


def _pickle(file: Path) -> ModelError:
    return ModelError(
        "KP-MODEL-PICKLE",
        "the weights are a pickle, which can run code and is never opened",
        where=str(file),
        fix="use a checkpoint with .safetensors weights, or convert it in an environment you trust",
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingsError(
            "KP-SETTING-DEVICE",
            f"the device {name!r} cannot be used: {str(error).splitlines()[0]}",
            where="--device",
            fix='use "auto" or "cpu"',
        ) from error
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        fast = any(
            getattr(torch.cpu, ask, lambda: False)() for ask in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        )
        return torch.bfloat16 if device.type == "cpu" and fast else torch.float32
    known = _SHORT.get(name, name)
    if known not in _DTYPES:
        raise SettingsError(
            "KP-SETTING-DTYPE",
            f"the dtype {name!r} is unknown",
            where="--dtype",
            fix=did_you_mean(name, {"auto", *_DTYPES, *_SHORT}),
        )
    return _DTYPES[known]
