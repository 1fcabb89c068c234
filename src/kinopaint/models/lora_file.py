"""LoRA files as diffusers, peft and kohya write them."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinopaint.adapters.lora import Change, Lora
from kinopaint.errors import ModelError
from kinopaint.models.weights import metadata, read_json, read_weights

_FACTOR = re.compile(
    r"(?P<module>.+?)(?:\.lora_(?P<peft>[AB])(?:\.\w+)?|[._]lora\.(?P<old>down|up)|\.lora_(?P<kohya>down|up)"
    r"|\.lora_linear_layer\.(?P<text>down|up))\.weight"
)
_KOHYA = {"lora_unet_": "unet", "lora_te_": "text_encoder", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2"}
_OTHERS = {  # other kinds of additions, by what their files hold
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "oft_": "an OFT",
    "lora_mid": "a LoCon with a middle factor",
    ".diff": "a difference of whole weights",
}
_BLOCKS = {  # names of the original layout, once diffusers has counted the blocks anew
    "input_blocks": "down_blocks",
    "middle_block": "mid_block",
    "output_blocks": "up_blocks",
    "in_layers_2": "conv1",
    "out_layers_3": "conv2",
    "emb_layers_1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
    "downsamplers_0_op": "downsamplers_0_conv",
}


def read_lora(file: str | Path, networks: Mapping[str, nn.Module], *, weight: float = 1.0) -> Lora:
    """Read `file` for these networks, by part.

    Raises ModelError: KP-LORA-FORMAT for another kind of file, KP-LORA-BASE if it was made for another base model, and
    those of `read_weights`.
    """
    file = Path(file)
    state = read_weights([file], torch.device("cpu"), torch.float32)
    if any(name.startswith("lora_unet_input_blocks") or "_output_blocks_" in name for name in state):
        state = _with_diffusers_blocks(state, networks["unet"], file)
    told = _Told(file, metadata(file))
    factors: dict[tuple[str, str], dict[str, Tensor]] = {}
    alphas: dict[tuple[str, str], float] = {}
    for name, tensor in state.items():
        if other := next((kind for mark, kind in _OTHERS.items() if mark in name), None):
            raise ModelError(
                "KP-LORA-FORMAT", f"this is {other} ({name}), not a LoRA", where=str(file), fix="use a plain LoRA"
            )
        if name.endswith(".alpha") and tensor.numel() == 1:
            alphas[_place(name.removesuffix(".alpha"), networks, file)] = float(tensor)
        elif found := _FACTOR.fullmatch(name):
            kind = found["peft"] or found["old"] or found["kohya"] or found["text"]
            side = {"A": "down", "B": "up"}.get(kind, kind)
            factors.setdefault(_place(found["module"], networks, file), {})[side] = tensor
        else:
            raise ModelError(
                "KP-LORA-FORMAT",
                f"{name} belongs to no LoRA",
                where=str(file),
                fix="use a plain LoRA",
            )
    changes: dict[str, dict[str, Change]] = {}
    for (part, module), pair in factors.items():
        if set(pair) != {"down", "up"}:
            raise ModelError(
                "KP-LORA-FORMAT", f"{module} has only its {next(iter(pair))}", where=str(file), fix="fetch it again"
            )
        if not all(each.ndim and each.numel() for each in pair.values()):
            raise ModelError(
                "KP-LORA-FORMAT", f"{module} has weights without numbers", where=str(file), fix="fetch it again"
            )
        rank = len(pair["down"])
        alpha = alphas.get((part, module)) or told.alpha(part, module, rank)
        change = Change(pair["down"], pair["up"], alpha / (rank**0.5 if told.by_root(part) else rank))
        _check_shape(change, networks[part].get_submodule(module), f"{part}.{module}", file)
        changes.setdefault(part, {})[module] = change
    if not changes:
        raise ModelError("KP-LORA-FORMAT", "the file holds no LoRA", where=str(file), fix="check the file")
    return Lora(changes, weight)


def _place(name: str, networks: Mapping[str, nn.Module], file: Path) -> tuple[str, str]:
    """Part and module for a name in the file."""
    for prefix, part in _KOHYA.items():
        if name.startswith(prefix):
            wanted = name.removeprefix(prefix)
            known = {module.replace(".", "_"): module for module, _ in _modules(networks, part)}
            spellings = (wanted, wanted.removeprefix("text_model_"), "text_model_" + wanted)
            if found := next((known[each] for each in spellings if each in known), None):
                return part, found
            raise _other_base(name, file)
    name = name.removeprefix("base_model.model.")
    part, _, module = name.partition(".")
    if part not in ("unet", "text_encoder", "text_encoder_2"):
        part, module = "unet", name
    module = re.sub(r"\.processor\b", "", module)
    module = re.sub(r"\.to_out$", ".to_out.0", module)
    modules = {path for path, _ in _modules(networks, part)}
    spellings = (module, module.removeprefix("text_model."), "text_model." + module)
    if found := next((each for each in spellings if each in modules), None):
        return part, found
    raise _other_base(name, file)


def _modules(networks: Mapping[str, nn.Module], part: str) -> Iterator[tuple[str, nn.Module]]:
    if part in networks:
        yield from ((name, each) for name, each in networks[part].named_modules() if hasattr(each, "weight"))


def _check_shape(change: Change, module: Any, name: str, file: Path) -> None:
    made_for = (change.up.shape[0], change.down[0].numel())
    actual = (module.weight.shape[0], module.weight[0].numel())
    if made_for != actual or change.up.flatten(1).shape[1] != len(change.down):
        raise _other_base(f"{name} of {made_for[1]} to {made_for[0]} numbers, here {actual[1]} to {actual[0]}", file)


def _other_base(what: str, file: Path) -> ModelError:
    return ModelError(
        "KP-LORA-BASE",
        f"the LoRA was made for another base model: it changes {what}",
        where=str(file),
        fix="use a LoRA for this family (Stable Diffusion 1.x, 2.x and XL each have their own)",
    )


def _with_diffusers_blocks(state: dict[str, Tensor], unet: Any, file: Path) -> dict[str, Tensor]:
    """kohya's names for SDXL, which count blocks as the original release does, with those of diffusers."""
    from diffusers.loaders import lora_conversion_utils

    convert: Any = lora_conversion_utils
    try:
        renamed: dict[str, Tensor] = convert._maybe_map_sgm_blocks_to_diffusers(dict(state), unet.config)
    except (ValueError, IndexError, KeyError) as error:
        raise _other_base(f"blocks that it has not ({error})", file) from error
    result = {}
    for name, tensor in renamed.items():
        for old, new in _BLOCKS.items():
            name = name.replace(old, new)
        result[name] = tensor
    return result


class _Told:
    """What peft says of a LoRA besides its weights: in the file's head, or in adapter_config.json beside it."""

    def __init__(self, file: Path, head: Mapping[str, str]) -> None:
        try:
            said = json.loads(head.get("lora_adapter_metadata", "{}"))
        except ValueError:
            said = None
        self._file = file
        if not isinstance(said, dict):
            raise self._unreadable()
        self.about: dict[str, Any] = said
        beside = file.parent / "adapter_config.json"
        if not self.about and file.name == "adapter_model.safetensors" and beside.exists():
            self.about = read_json(beside)

    def _get(self, part: str, name: str) -> Any:
        return self.about.get(f"{part}.{name}", self.about.get(name))

    def by_root(self, part: str) -> bool:
        """Rank-stabilised: alpha is divided by the square root of the rank."""
        return bool(self._get(part, "use_rslora"))

    def alpha(self, part: str, module: str, rank: int) -> float:
        try:
            pattern = self._get(part, "alpha_pattern") or {}
            said = next((value for name, value in pattern.items() if _matches(name, module)), None)
            said = said or self._get(part, "lora_alpha")
            return float(said) if said else float(rank)  # nothing said: a scale of 1
        except (AttributeError, TypeError, ValueError) as error:
            raise self._unreadable() from error

    def _unreadable(self) -> ModelError:
        return ModelError(
            "KP-LORA-FORMAT",
            "what is said of its alpha is unreadable, in its head or in adapter_config.json",
            where=str(self._file),
            fix="fetch it again",
        )


def _matches(pattern: str, module: str) -> bool:
    """peft's patterns are names, or regular expressions for the end of one."""
    try:
        return re.search(rf"(^|\.){pattern}$", module) is not None
    except re.error:
        return module.endswith(pattern)
