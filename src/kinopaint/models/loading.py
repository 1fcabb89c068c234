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
from kinopaint.models.controlnet import Control
from kinopaint.models.finding import Found, find_model, find_part
from kinopaint.models.folder import CLASSES, FolderCheckpoint, check_class, licence_of
from kinopaint.models.hashes import file_hash, part_hashes, weight_hashes
from kinopaint.models.ip_adapter_file import find_image_encoder, read_ip_adapter, read_picture_prompt
from kinopaint.models.lora_file import read_lora
from kinopaint.models.placement import choose_device, choose_dtype
from kinopaint.models.single_file import SingleFileCheckpoint
from kinopaint.models.weights import filled, read_json, read_weights, weight_files

Checkpoint = FolderCheckpoint | SingleFileCheckpoint

_WITHOUT_IMAGE: Mapping[str, Any] = {"s_image": 0.0, "s_mask": 0.0, "text_branch": "null_image"}


def load_model(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    download: bool = False,
    vae: Names = None,
    lora: Names = None,
    controlnet: Names = None,
    ip_adapter: Names = None,
    image_prompt: Names = None,
) -> Components:
    """Load "mini" (the embedded model), a folder in diffusers layout, a single safetensors file, or a hub id.

    `device` is "auto", "cpu", "cuda", "cuda:1", …; `dtype` is "auto", "float32", "bfloat16" or "float16". "auto" is
    bfloat16 where the processor multiplies in it, else float32; float32 is the exact mode. A hub id is taken from the
    local cache, unless `download` allows the network. `vae` is a folder with another autoencoder, `lora` are
    `FILE[:WEIGHT]`, `controlnet` are `[HINT=]FOLDER[:WEIGHT[:START-END]]`, `ip_adapter` is `FILE[:WEIGHT]` and
    `image_prompt` the picture for it.
    Raises ModelError, with a code of its own for each way in which a checkpoint can be wrong, and SettingsError
    (KP-SETTING-DEVICE, KP-SETTING-DTYPE) for a device or dtype that does not exist here.
    """
    place = choose_device(device)
    precision = choose_dtype(dtype, place)
    additions = Additions.of(vae, lora, controlnet, ip_adapter, image_prompt)
    return _Loading(find_model(name, download=download), place, precision, download).load(str(name), additions)


def in_float32(parts: Components) -> Components:
    """The same model, loaded again in full precision: for a run whose half precision gave infinite values or NaN."""
    if parts.path is None or parts.additions is None:
        raise ModelError("KP-MODEL-NOT-FOUND", "the model was not loaded from a folder", where=parts.name)
    found = Found(parts.path, parts.revision, prediction=parts.schedule.prediction_type)
    loading = _Loading(found, parts.device, torch.float32, download=False)
    return replace(loading.load(parts.name, parts.additions), seed=parts.seed)


def open_checkpoint(found: Found, *, download: bool = False) -> Checkpoint:
    """The checkpoint at a place, checked as far as that costs no reading of weights. Raises ModelError."""
    if found.path.is_file():
        return SingleFileCheckpoint(found.path, prediction=found.prediction, download=download)
    return FolderCheckpoint(found.path)


def kind_of(config: Mapping[str, Any], latent_channels: int, where: Path) -> str:
    """What a U-Net sees besides the noisy latents: "text-to-image", "instruct-pix2pix", "depth" or "inpaint".

    Raises ModelError KP-MODEL-MISFIT for other numbers of channels.
    """
    taken, given = config.get("in_channels", 4), config.get("out_channels", 4)
    kinds = {
        0: "text-to-image",
        1: "depth",
        latent_channels: "instruct-pix2pix",
        latent_channels + 1: "inpaint",
    }
    kind = kinds.get(taken - latent_channels)
    if kind is None or given != latent_channels:
        raise ModelError(
            "KP-MODEL-MISFIT",
            f"the U-Net takes {taken} and gives {given} channels, the autoencoder has {latent_channels}",
            where=str(where),
            fix=f"expected {', '.join(str(latent_channels + extra) for extra in sorted(kinds))} in, "
            f"{latent_channels} out",
        )
    return kind


class _Loading:
    """One model being put together."""

    def __init__(self, found: Found, place: torch.device, precision: torch.dtype, download: bool) -> None:
        self.found, self.place, self.precision, self.download = found, place, precision, download
        self.checkpoint = open_checkpoint(found, download=download)

    def load(self, name: str, additions: Additions) -> Components:
        from kinopaint.models.diffusers_unet import DiffusersBackbone

        source = self.checkpoint
        said = {"prediction_type": self.found.prediction} if self.found.prediction else {}
        schedule = NoiseSchedule.from_config(
            {**source.config("scheduler"), **said}, where=str(source.where("scheduler") / "scheduler_config.json")
        )
        config = source.config("unet")
        _check_unet(config, source.where("unet"))
        autoencoder = self._autoencoder(config, additions.vae)
        kind = kind_of(config, autoencoder.latent_channels, source.where("unet"))
        unet = self._network("unet", self.precision)
        text_encoder = self._text_encoder(config)
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
            image_encoder=self._image_encoder() if source.has("image_encoder") else None,
            small_autoencoder=self._small_autoencoder(autoencoder) if source.has("vae_small") else None,
            refiner=self._refiner() if source.has("refiner") else None,
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
            added.append(_record("lora", Found(file), weight=lora.weight))
        controls = []
        for text in additions.controlnet:
            given = ControlGiven.parse(text)
            found = find_part(given.name, "--controlnet", download=self.download)
            controls.append(self._control(given, found, parts))
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
                controls, self._depth() if parts.kind == "depth" else None, parts.kind == "inpaint"
            )
        return replace(parts, structure=structure, picture_prompts=prompts, added=tuple(added))

    def _network(self, part: str, precision: torch.dtype) -> Any:
        weights = self.checkpoint.weights(part, self.place, precision)
        return _built(self.checkpoint.config(part), weights, self.checkpoint.where(part))

    def _autoencoder(self, unet: Mapping[str, Any], other: str | None) -> Any:
        """The checkpoint's own autoencoder, or one that the user wants in its place, at the scale of the own one."""
        from kinopaint.models.autoencoder import DiffusersAutoencoder

        own = self.checkpoint.config("vae")
        # SDXL's autoencoder gives infinite values in float16.
        upcast = unet.get("addition_embed_type") == "text_time" and own.get("force_upcast", True)
        precision = torch.float32 if upcast and self.precision == torch.float16 else self.precision
        if not other:
            return DiffusersAutoencoder(self._network("vae", precision))
        folder = find_part(other, "--vae", download=self.download).path
        config = read_json(folder / "config.json")
        check_class(str(config.get("_class_name")), CLASSES["vae"], "vae", folder / "config.json")
        weights = read_weights(weight_files(folder, "diffusion_pytorch_model"), self.place, precision)
        found = DiffusersAutoencoder(_built(config, weights, folder), scale=own.get("scaling_factor", 1.0))
        latent_channels = own.get("latent_channels", 4)
        if found.latent_channels != latent_channels:
            raise ModelError(
                "KP-MODEL-MISFIT",
                f"the autoencoder has {found.latent_channels} channels, the checkpoint's own {latent_channels}",
                where=str(folder),
                fix="use an autoencoder that was made for this family",
            )
        return found

    def _small_autoencoder(self, autoencoder: Any) -> Any:
        from kinopaint.models.autoencoder import DiffusersAutoencoder

        small = DiffusersAutoencoder(self._network("vae_small", self.precision))
        if (small.latent_channels, small.factor) != (autoencoder.latent_channels, autoencoder.factor):
            raise ModelError(
                "KP-MODEL-MISFIT",
                f"vae_small has {small.latent_channels} channels at factor {small.factor}, the autoencoder "
                f"{autoencoder.latent_channels} at {autoencoder.factor}",
                where=str(self.checkpoint.where("vae_small")),
                fix="use a small autoencoder made for these latents",
            )
        return small

    def _image_encoder(self) -> Any:
        """The image tower, and the mean and deviation of its pixels where the folder says them."""
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        from kinopaint.models.image import CLIP_MEAN, CLIP_STD, ClipImages

        part, path = "image_encoder", self.checkpoint.path
        config = self.checkpoint.config(part)
        architecture = str(*config.get("architectures", ["nothing named"])[:1])
        check_class(architecture, ("CLIPVisionModelWithProjection",), part, path / part / "config.json")
        weights = self.checkpoint.weights(part, self.place, self._text_precision)
        vision = CLIPVisionConfig.from_dict(config)
        model = filled(lambda: CLIPVisionModelWithProjection(vision), weights, path / part)
        files = [path / where / "preprocessor_config.json" for where in (part, "feature_extractor")]
        about = next((read_json(file) for file in files if file.exists()), {})
        return ClipImages(model, about.get("image_mean", CLIP_MEAN), about.get("image_std", CLIP_STD))

    def _refiner(self) -> Any:
        from kinopaint.models.refiner import RefinementNet, without_unused_norms

        weights = without_unused_norms(self.checkpoint.weights("refiner", self.place, self.precision))
        config = self.checkpoint.config("refiner")
        known = {key: config[key] for key in ("width", "blocks", "guide", "carries_state") if key in config}
        network = filled(lambda: RefinementNet(**known), weights, self.checkpoint.where("refiner"))
        return network.eval().requires_grad_(False)

    @property
    def _text_precision(self) -> torch.dtype:
        """Encoders of texts and pictures run once per video: on the CPU not worth the rounding."""
        return torch.float32 if self.place.type == "cpu" else self.precision

    def _text_encoder(self, unet: Mapping[str, Any]) -> Any:
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        from kinopaint.models.text import ClipText, TwoClipTexts, read_tokenizer

        source, precision = self.checkpoint, self._text_precision

        def read(kind: Any, number: str) -> ClipText:
            part, tokenizer = f"text_encoder{number}", f"tokenizer{number}"
            config = CLIPTextConfig.from_dict(source.config(part))
            weights = source.weights(part, self.place, precision)
            model = filled(lambda: kind(config), weights, source.where(part))
            pad = source.pad_token(tokenizer)
            return ClipText(read_tokenizer(source.tokenizer_folder(tokenizer), config.vocab_size, pad_token=pad), model)

        if unet.get("addition_embed_type") != "text_time":
            return read(CLIPTextModel, "")
        for part in ("text_encoder_2", "tokenizer_2"):
            source.require(part)
        first, second = read(CLIPTextModel, ""), read(CLIPTextModelWithProjection, "_2")
        return TwoClipTexts(first, second, zero_for_empty=source.zero_for_empty_text)

    def _control(self, given: ControlGiven, found: Found, parts: Components) -> Control:
        from diffusers.models.controlnets.controlnet import ControlNetModel

        config = read_json(found.path / "config.json")
        check_class(str(config.get("_class_name")), ("ControlNetModel",), "controlnet", found.path / "config.json")
        weights = read_weights(weight_files(found.path, "diffusion_pytorch_model"), self.place, self.precision)
        network = filled(lambda: ControlNetModel.from_config(config), weights, found.path)
        control = Control(network.eval().requires_grad_(False), given.hint, given.weight, given.start, given.end)
        backbone: Any = parts.backbone
        control.check_fits(backbone.unet, backbone.latent_channels, str(found.path))
        return control

    def _depth(self) -> Any:
        from transformers import DPTConfig, DPTForDepthEstimation

        from kinopaint.models.structure import DepthEstimator, read_depth_processor

        source = self.checkpoint
        source.require("depth_estimator")
        config = DPTConfig.from_dict(source.config("depth_estimator"))
        weights = source.weights("depth_estimator", self.place, torch.float32)
        model = filled(lambda: DPTForDepthEstimation(config), weights, source.where("depth_estimator"))
        return DepthEstimator(model, read_depth_processor(source.path / "feature_extractor"))


def _built(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], where: Path) -> Any:
    """A network of diffusers, of one of the classes that CLASSES names."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    kinds: dict[str, Any] = {kind.__name__: kind for kind in (UNet2DConditionModel, AutoencoderKL, AutoencoderTiny)}
    kind = kinds[config["_class_name"]]
    return filled(lambda: kind.from_config(dict(config)), weights, where)


def _check_unet(config: Mapping[str, Any], where: Path) -> None:
    """The U-Net asks for nothing that nobody would tell it."""
    strange = {
        name: config[name]
        for name in ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "time_cond_proj_dim")
        if config.get(name) is not None
    }
    if config.get("addition_embed_type") not in (None, "text_time"):
        strange["addition_embed_type"] = config["addition_embed_type"]
    if strange:
        raise ModelError(
            "KP-MODEL-ARCHITECTURE",
            "the U-Net takes conditions that are not supported: "
            + ", ".join(f"{name} {value}" for name, value in strange.items()),
            where=str(where),
            fix="use a checkpoint of the Stable Diffusion 1.x, 2.x, XL or InstructPix2Pix family",
        )


def recommended(kind: str, *, structured: bool) -> Mapping[str, Mapping[str, Any]]:
    """Values for methods whose defaults ask for a slot for the frame, where the network has none."""
    if kind == "instruct-pix2pix":
        return {}
    return {"style-a-video": {**_WITHOUT_IMAGE, "strength": 0.8 if structured or kind == "depth" else 0.6}}


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
