"""Weights from safetensors files into networks, without ever holding them twice.

Only safetensors are read: a pickle can run code, so none is ever opened.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinopaint.errors import ModelError

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_MAPPED = 16 * 2**20  # bytes of a file that are mapped before it is opened anew, which lets the pages go


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises ModelError KP-MODEL-PART if there is none, KP-MODEL-JSON if it is no object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise missing(file, "a configuration file") from error
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(
            "KP-MODEL-JSON", f"the file is not valid JSON: {error}", where=str(file), fix="fetch the model again"
        ) from error
    if not isinstance(content, dict):
        raise ModelError("KP-MODEL-JSON", "the file holds no JSON object", where=str(file), fix="fetch the model again")
    return content


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The file, or the shards, that hold the weights of a part; a variant (`.fp16`, …) if there is no other.

    Raises ModelError KP-MODEL-PART, KP-MODEL-JSON for a list of shards that is none, or KP-MODEL-PICKLE if all there is
    is a pickle.
    """
    for variant in ("", ".fp16", ".bf16"):
        if (file := folder / f"{stem}{variant}.safetensors").exists():
            return [file]
        index = folder / f"{stem}.safetensors.index{variant}.json"
        if index.exists():
            shards = read_json(index).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise ModelError(
                    "KP-MODEL-JSON", "the file names no shards", where=str(index), fix="fetch the model again"
                )
            files = [folder / str(name) for name in sorted({str(name) for name in shards.values()})]
            for file in files:
                if file.parent != folder or not file.exists():
                    raise missing(file, "a shard of the weights")
            return files
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.suffix in PICKLES:
            raise pickle(file)
    raise missing(folder / f"{stem}.safetensors", "the weight file")


def shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights in a file; none is read. Raises ModelError KP-MODEL-CORRUPT."""
    with _opened(file) as stream:
        return {key: tuple(stream.get_slice(key).get_shape()) for key in stream.keys()}  # noqa: SIM118 - not a dict


def metadata(file: Path) -> dict[str, str]:
    """What the head of a file tells besides the weights. Raises ModelError KP-MODEL-CORRUPT."""
    with _opened(file) as stream:
        return dict(stream.metadata() or {})


def read_weights(
    files: Sequence[Path],
    device: torch.device,
    dtype: torch.dtype,
    *,
    wanted: Callable[[str], bool] = lambda name: True,
) -> dict[str, Tensor]:
    """The `wanted` weights of `files`, floating ones in `dtype`; convolutions lie as the networks will want them.

    Peak memory is that of the result, one weight and 16 MiB. Raises ModelError KP-MODEL-CORRUPT, and
    KP-MODEL-NONFINITE for a weight with infinite values or NaN.
    """
    state: dict[str, Tensor] = {}
    for file in files:
        names = sorted(filter(wanted, shapes(file)))
        while names:
            mapped = 0
            with _opened(file) as stream:
                while names and mapped < _MAPPED:
                    name = names.pop()
                    stored = stream.get_tensor(name)  # a view of the file
                    mapped += stored.nbytes
                    state[name] = _copied(stored, name, file, device, dtype)
                    del stored
    return state


def _copied(stored: Tensor, name: str, file: Path, device: torch.device, dtype: torch.dtype) -> Tensor:
    if not stored.is_floating_point():
        return stored.to(device, copy=True)
    judged = stored.float() if stored.dtype.itemsize == 1 else stored  # 8-bit floats have no comparison
    if judged.numel() and not torch.stack(torch.aminmax(judged)).isfinite().all():
        raise ModelError(
            "KP-MODEL-NONFINITE",
            f"the weight {name} holds infinite values or NaN",
            where=str(file),
            fix="the checkpoint is broken; fetch or train it again",
        )
    layout = torch.channels_last if stored.ndim == 4 else torch.contiguous_format
    return stored.to(device, dtype, copy=True, memory_format=layout)


def _opened(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    if file.suffix in PICKLES:
        raise pickle(file)
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        pointer = b""
        with suppress(OSError), file.open("rb") as stream:
            pointer = stream.read(7)
        raise ModelError(
            "KP-MODEL-CORRUPT",
            f"the weight file cannot be read: {error}",
            where=str(file),
            fix="it is a git-lfs pointer: git lfs pull" if pointer == b"version" else "fetch it again",
        ) from error


def filled(build: Callable[[], nn.Module], weights: Mapping[str, Tensor], where: Path) -> Any:
    """A network with these weights, built without memory for weights of its own.

    Raises ModelError KP-MODEL-ARCHITECTURE if it cannot be built, KP-MODEL-KEYS if the weights are not its.
    """
    with torch.device("meta"):
        model = configured(build, where)
    expected = model.state_dict()
    state = _with_current_names(weights, expected)
    _check_keys(state, expected, where)
    model.load_state_dict(state, assign=True)
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:  # the one such buffer: positions 0, 1, 2 …, which are not stored
            owner, _, leaf = name.rpartition(".")
            device = next(iter(state.values())).device
            positions = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape)
            model.get_submodule(owner).register_buffer(leaf, positions, persistent=False)
    return model


def configured(build: Callable[[], Any], where: Path) -> Any:
    """What `build` makes of a configuration. Raises ModelError KP-MODEL-ARCHITECTURE if that fails."""
    try:
        return build()
    except Exception as error:  # of a constructor that is given whatever a stranger's file says
        raise ModelError(
            "KP-MODEL-ARCHITECTURE",
            f"the network cannot be built from its configuration: {error}",
            where=str(where / "config.json" if where.is_dir() else where),
            fix="fetch the model again",
        ) from error


def _with_current_names(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
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


def _check_keys(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: Path) -> None:
    faults = [("missing", key) for key in expected if key not in state]
    faults += [("unexpected", key) for key in state if key not in expected]
    faults += [
        (f"{tuple(state[key].shape)} instead of {tuple(tensor.shape)}", key)
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    faults += [
        (f"in {str(state[key].dtype).removeprefix('torch.')}, which is not supported", key)
        for key, tensor in expected.items()
        if key in state and state[key].is_floating_point() != tensor.is_floating_point()
    ]
    if faults:
        named = "; ".join(f"{key} {fault}" for fault, key in faults[:3])
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ModelError(
            "KP-MODEL-KEYS",
            f"the weights do not fit the configuration: {named}{more}",
            where=str(where),
            fix="config.json and weights come from different checkpoints; fetch the model again",
        )


def missing(file: Path, what: str) -> ModelError:
    return ModelError(
        "KP-MODEL-PART",
        f"{what} is missing",
        where=str(file),
        fix="fetch the model again; a complete checkpoint has model_index.json and a folder for each part it names",
    )


def pickle(file: Path) -> ModelError:
    return ModelError(
        "KP-MODEL-PICKLE",
        "the weights are a pickle, which can run code and is never opened",
        where=str(file),
        fix="use a checkpoint with .safetensors weights, or convert it in an environment you trust",
    )
