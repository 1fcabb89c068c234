"""The parts of a checkpoint, each as what satisfies its protocol."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kinopaint.engine.components import Components
from kinopaint.errors import ModelError
from kinopaint.models.added import ControlGiven
from kinopaint.models.controlnet import Control
from kinopaint.models.finding import Found, find_part
from kinopaint.models.folder import CLASSES, FolderCheckpoint, check_class
from kinopaint.models.single_file import SingleFileCheckpoint
from kinopaint.models.weights import configured, filled, read_json, read_weights, weight_files

Checkpoint = FolderCheckpoint | SingleFileCheckpoint


def open_checkpoint(found: Found, *, download: bool = False) -> Checkpoint:
    """The checkpoint at a place, checked as far as that costs no reading of weights. Raises ModelError."""
    if found.path.is_file():
        return SingleFileCheckpoint(found.path, prediction=found.prediction, download=download)
    return FolderCheckpoint(found.path)


class PartReader:
    """Reads the parts of `checkpoint` to a device, in a precision; every method raises ModelError."""

    def __init__(self, checkpoint: Checkpoint, place: torch.device, precision: torch.dtype, download: bool) -> None:
        self.checkpoint, self.place, self.precision, self.download = checkpoint, place, precision, download

    def network(self, part: str, precision: torch.dtype) -> Any:
        weights = self.checkpoint.weights(part, self.place, precision)
        return _built(self.checkpoint.config(part), weights, self.checkpoint.where(part))

    def autoencoder(self, unet: Mapping[str, Any], other: str | None) -> Any:
        """The checkpoint's own autoencoder, or one that the user wants in its place, at the scale of the own one."""
        from kinopaint.models.autoencoder import DiffusersAutoencoder

        own = self.checkpoint.config("vae")
        # SDXL's autoencoder gives infinite values in float16.
        upcast = unet.get("addition_embed_type") == "text_time" and own.get("force_upcast", True)
        precision = torch.float32 if upcast and self.precision == torch.float16 else self.precision
        if not other:
            network = self.network("vae", precision)
            return configured(lambda: DiffusersAutoencoder(network), self.checkpoint.where("vae"))
        folder = find_part(other, "--vae", download=self.download).path
        config = read_json(folder / "config.json")
        check_class(str(config.get("_class_name")), CLASSES["vae"], "vae", folder / "config.json")
        weights = read_weights(weight_files(folder, "diffusion_pytorch_model"), self.place, precision)
        network = _built(config, weights, folder)
        found = configured(lambda: DiffusersAutoencoder(network, scale=own.get("scaling_factor", 1.0)), folder)
        latent_channels = own.get("latent_channels", 4)
        if found.latent_channels != latent_channels:
            raise ModelError(
                "KP-MODEL-MISFIT",
                f"the autoencoder has {found.latent_channels} channels, the checkpoint's own {latent_channels}",
                where=str(folder),
                fix="use an autoencoder that was made for this family",
            )
        return found

    def small_autoencoder(self, autoencoder: Any) -> Any:
        from kinopaint.models.autoencoder import DiffusersAutoencoder

        small = DiffusersAutoencoder(self.network("vae_small", self.precision))
        if (small.latent_channels, small.factor) != (autoencoder.latent_channels, autoencoder.factor):
            raise ModelError(
                "KP-MODEL-MISFIT",
                f"vae_small has {small.latent_channels} channels at factor {small.factor}, the autoencoder "
                f"{autoencoder.latent_channels} at {autoencoder.factor}",
                where=str(self.checkpoint.where("vae_small")),
                fix="use a small autoencoder made for these latents",
            )
        return small

    def image_encoder(self) -> Any:
        """The image tower, and the mean and deviation of its pixels where the folder says them."""
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        from kinopaint.models.image import CLIP_MEAN, CLIP_STD, ClipImages

        part, path = "image_encoder", self.checkpoint.path
        config = self.checkpoint.config(part)
        architecture = str(*config.get("architectures", ["nothing named"])[:1])
        check_class(architecture, ("CLIPVisionModelWithProjection",), part, path / part / "config.json")
        weights = self.checkpoint.weights(part, self.place, self._text_precision)
        vision = configured(lambda: CLIPVisionConfig.from_dict(config), path / part)
        model = filled(lambda: CLIPVisionModelWithProjection(vision), weights, path / part)
        files = [path / where / "preprocessor_config.json" for where in (part, "feature_extractor")]
        about = next((read_json(file) for file in files if file.exists()), {})
        return ClipImages(model, about.get("image_mean", CLIP_MEAN), about.get("image_std", CLIP_STD))

    def refiner(self) -> Any:
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

    def text_encoder(self, unet: Mapping[str, Any]) -> Any:
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        from kinopaint.models.text import ClipText, TwoClipTexts, read_tokenizer

        source, precision = self.checkpoint, self._text_precision

        def read(kind: Any, number: str) -> ClipText:
            part, tokenizer = f"text_encoder{number}", f"tokenizer{number}"
            said = source.config(part)
            config = configured(lambda: CLIPTextConfig.from_dict(said), source.where(part))

            def network() -> Any:
                weights = source.weights(part, self.place, precision)
                return filled(lambda: kind(config), weights, source.where(part))

            model, pad = network(), source.pad_token(tokenizer)
            pieces = read_tokenizer(source.tokenizer_folder(tokenizer), config.vocab_size, pad_token=pad)
            return ClipText(pieces, model, network)

        if unet.get("addition_embed_type") != "text_time":
            return read(CLIPTextModel, "")
        for part in ("text_encoder_2", "tokenizer_2"):
            source.require(part)
        first, second = read(CLIPTextModel, ""), read(CLIPTextModelWithProjection, "_2")
        return TwoClipTexts(first, second, zero_for_empty=source.zero_for_empty_text)

    def control(self, given: ControlGiven, found: Found, parts: Components) -> Control:
        from diffusers.models.controlnets.controlnet import ControlNetModel

        config = read_json(found.path / "config.json")
        check_class(str(config.get("_class_name")), ("ControlNetModel",), "controlnet", found.path / "config.json")
        weights = read_weights(weight_files(found.path, "diffusion_pytorch_model"), self.place, self.precision)
        network = filled(lambda: _from_config(ControlNetModel, config), weights, found.path)
        control = Control(network.eval().requires_grad_(False), given.hint, given.weight, given.start, given.end)
        backbone: Any = parts.backbone
        control.check_fits(backbone.unet, backbone.latent_channels, backbone.pixels_per_cell, str(found.path))
        return control

    def depth(self) -> Any:
        from transformers import DPTConfig, DPTForDepthEstimation

        from kinopaint.models.structure import DepthEstimator, read_depth_processor

        source = self.checkpoint
        source.require("depth_estimator")
        said = source.config("depth_estimator")
        config = configured(lambda: DPTConfig.from_dict(said), source.where("depth_estimator"))
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
    return filled(lambda: _from_config(kind, config), weights, where)


def _from_config(kind: Any, config: Mapping[str, Any]) -> Any:
    """What diffusers makes of a configuration, without its remarks: TAESD's, as diffusers itself writes it, has a key
    that it then calls unexpected, in the midst of our progress.
    """
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return kind.from_config(dict(config))
    finally:
        logging.set_verbosity(before)
