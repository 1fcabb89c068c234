"""Put a model together from its parts, and say clearly what is wrong with one that cannot be used."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kinopaint.engine.components import Components, PicturePrompt
from kinopaint.engine.schedule import NoiseSchedule
from kinopaint.errors import ModelError
from kinopaint.models.added import Additions, ControlGiven, Names, Weighted, find_file
from kinopaint.models.finding import Found, find_model, find_part
from kinopaint.models.folder import licence_of
from kinopaint.models.hashes import file_hash, part_hashes, weight_hashes
from kinopaint.models.ip_adapter_file import find_image_encoder, read_ip_adapter, read_picture_prompt
from kinopaint.models.kinds import check_unet, kind_of, recommended
from kinopaint.models.lora_file import read_lora
from kinopaint.models.parts import PartReader, open_checkpoint
from kinopaint.models.placement import choose_device, choose_dtype, keep_freed_memory
from kinopaint.settings import path_text, switch


@torch.inference_mode(False)  # tensors made in a caller's could have no part in a gradient later
def load_model(
    name: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    download: bool = False,
    vae: Names = None,
    lora: Names = None,
    controlnet: Names = None,
    ip_adapter: Names = None,
    image_prompt: Names = None,
    compile: bool = False,
) -> Components:
    """Load "mini" (the embedded model), a folder in diffusers layout, a single safetensors file, or a hub id.

    `device` is "auto", "cpu", "cuda", "cuda:1", …; `dtype` is "auto", "float32", "bfloat16" or "float16". "auto" is
    bfloat16 where the processor multiplies in it, else float32; float32 is the exact mode. A hub id is taken from the
    local cache, unless `download` allows the network. `vae` is a folder with another autoencoder, `lora` are
    `FILE[:WEIGHT]`, `controlnet` are `[HINT=]FOLDER[:WEIGHT[:START-END]]`, `ip_adapter` is `FILE[:WEIGHT]` and
    `image_prompt` the picture for it. `compile` has torch compile the network's repeated blocks, on their first call.
    Raises ModelError, with a code of its own for each way in which a checkpoint can be wrong, and SettingsError
    (KP-SETTING-DEVICE, KP-SETTING-DTYPE, KP-SETTING-COMPILE) for a device, dtype or compiler that is not here.
    """
    path_text("model", name, wanted="a name or a path")
    download, compile = switch("download", download), switch("compile", compile)
    place = choose_device(device)
    precision = choose_dtype(dtype, place)
    if place.type == "cpu":
        keep_freed_memory()
    additions = Additions.of(vae, lora, controlnet, ip_adapter, image_prompt)
    parts = _Loading(find_model(name, download=download), place, precision, download).load(str(name), additions)
    if compile:
        backbone: Any = parts.backbone
        backbone.compile()
    return parts


def in_float32(parts: Components) -> Components:
    """The same model, loaded again in full precision: for a run whose half precision gave infinite values or NaN."""
    if parts.path is None or parts.additions is None:
        raise ModelError("KP-MODEL-NOT-FOUND", "the model was not loaded from a folder", where=parts.name)
    found = Found(parts.path, parts.revision, prediction=parts.schedule.prediction_type)
    loading = _Loading(found, parts.device, torch.float32, download=False)
    return replace(loading.load(parts.name, parts.additions), seed=parts.seed)


class _Loading:
    """One model being put together."""

    def __init__(self, found: Found, place: torch.device, precision: torch.dtype, download: bool) -> None:
        self.found, self.place, self.precision, self.download = found, place, precision, download
        self.checkpoint = open_checkpoint(found, download=download)
        self.read = PartReader(self.checkpoint, place, precision, download)

    def load(self, name: str, additions: Additions) -> Components:
        from kinopaint.models.diffusers_unet import DiffusersBackbone

        source = self.checkpoint
        said = {"prediction_type": self.found.prediction} if self.found.prediction else {}
        schedule = NoiseSchedule.from_config(
            {**source.config("scheduler"), **said}, where=str(source.where("scheduler") / "scheduler_config.json")
        )
        config = source.config("unet")
        check_unet(config, source.where("unet"))
        autoencoder = self.read.autoencoder(config, additions.vae)
        kind = kind_of(config, autoencoder.latent_channels, source.where("unet"))
        unet = self.read.network("unet", self.precision)
        text_encoder = self.read.text_encoder(config)
        if text_encoder.dim != unet.config.cross_attention_dim:
            raise ModelError(
                "KP-MODEL-MISFIT",
                f"the text encoder gives {text_encoder.dim} numbers per token, the U-Net "
                f"takes {unet.config.cross_attention_dim}",
                where=str(source.path),
                fix="the parts come from different checkpoints; fetch the model again",
            )
        structure = {"depth": 1, "inpaint": autoencoder.latent_channels + 1}.get(kind, 0)
        backbone = DiffusersBackbone(
            unet,
            schedule.prediction_type,
            image_channels=autoencoder.latent_channels if kind == "instruct-pix2pix" else 0,
            structure_channels=structure,
            pixels_per_cell=autoencoder.factor,
        )
        parts = Components(
            backbone,
            autoencoder,
            text_encoder,
            schedule,
            image_encoder=self.read.image_encoder() if source.has("image_encoder") else None,
            small_autoencoder=self.read.small_autoencoder(autoencoder) if source.has("vae_small") else None,
            refiner=self.read.refiner() if source.has("refiner") else None,
            name=name,
            path=source.path,
            revision=self.found.revision,
            licence=source.licence,
            kind=kind,
            recommended=source.about.get("recommended") or recommended(kind, structured=bool(additions.controlnet)),
            device=self.place,
            dtype=self.precision,
            additions=additions,
        )
        return self._with_additions(parts, unet, additions)

    def _with_additions(self, parts: Components, unet: Any, additions: Additions) -> Components:
        from kinopaint.models.structure import FrameStructure

        backbone: Any = parts.backbone
        text_encoder: Any = parts.text_encoder
        added: list[Mapping[str, Any]] = []
        if additions.vae:
            added.append(_record("vae", find_part(additions.vae, "--vae", download=self.download)))
        for text in additions.lora:
            lora, file = Weighted.parse(text), find_file(Weighted.parse(text).name, "--lora")
            networks = {"unet": unet, **text_encoder.models}
            read_lora(file, networks, weight=lora.weight).fuse(networks)
            text_encoder.stay()
            added.append(_record("lora", Found(file), weight=lora.weight))
        controls = []
        for text in additions.controlnet:
            given = ControlGiven.parse(text)
            found = find_part(given.name, "--controlnet", download=self.download)
            controls.append(self.read.control(given, found, parts))
            more = {"weight": given.weight, "start": given.start, "end": given.end, "hint": given.hint}
            added.append(_record("controlnet", found, **more))
        backbone.controls = tuple(controls)
        prompts: tuple[PicturePrompt, ...] = ()
        if additions.ip_adapter and additions.image_prompt:
            adapter = Weighted.parse(additions.ip_adapter)
            file = find_file(adapter.name, "--ip-adapter")
            layers, projection = read_ip_adapter(file, unet, self.place, self.precision, weight=adapter.weight)
            encoder, picture = find_image_encoder(file), Path(additions.image_prompt)
            prompts = (read_picture_prompt(picture, encoder, projection, self.place, self.precision),)
            backbone.picture_adapters = (layers,)
            more = {"weight": adapter.weight, "picture": picture.name, "picture_hash": file_hash(picture)}
            added.append(_record("ip-adapter", Found(file), **more))
        structure = None
        if controls or parts.kind in ("depth", "inpaint"):
            structure = FrameStructure(
                controls, self.read.depth() if parts.kind == "depth" else None, parts.kind == "inpaint"
            )
        return replace(parts, structure=structure, picture_prompts=prompts, added=tuple(added))


def _record(kind: str, found: Found, **more: Any) -> Mapping[str, Any]:
    """What the recipe says of something that was put on a model."""
    folder = found.path if found.path.is_dir() else found.path.parent
    hashes = weight_hashes(found.path) if found.path.is_file() else part_hashes(found.path)
    name = found.path.name if found.revision is None else found.name
    return {
        "kind": kind,
        "name": name,
        "revision": found.revision,
        "licence": licence_of(folder),
        "hashes": hashes,
    } | more
