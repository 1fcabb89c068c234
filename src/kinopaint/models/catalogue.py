"""The models on this machine: what they are, and whether they are whole."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kinopaint.errors import KinopaintError, ModelError
from kinopaint.models.finding import Found, find_model
from kinopaint.models.hashes import model_hash, weight_hashes
from kinopaint.models.kinds import kind_of
from kinopaint.models.loading import load_model
from kinopaint.models.parts import open_checkpoint
from kinopaint.models.registry import Entry, register, registered

_FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}


@dataclass(frozen=True)
class Listed:
    """One model: `kind` is its family and what its network sees; `fault` is the code of why it cannot be used."""

    name: str
    where: str
    kind: str = ""
    revision: str | None = None
    licence: str | None = None
    hash: str | None = None
    fault: str | None = None


def all_models() -> Iterator[Listed]:
    """The embedded model, the added ones, and those in the hub's cache; no weights are read but for their hashes."""
    for name in ("mini", *registered(), *_cached()):
        try:
            yield describe(name)
        except KinopaintError as error:
            yield Listed(name, error.where, fault=error.code)


def describe(name: str) -> Listed:
    """One model, without reading its weights but for the hash. Raises ModelError."""
    found = find_model(name)
    source = open_checkpoint(found)
    config = source.config("unet")
    latent_channels = source.config("vae").get("latent_channels", 4)
    seen = kind_of(config, latent_channels, source.where("unet"))
    width = config.get("cross_attention_dim")
    family = _FAMILIES.get(width, "own architecture") if isinstance(width, int) else "own architecture"
    known = registered().get(name)
    recorded = known.hash if known else None
    return Listed(
        name,
        str(found.path),
        f"{seen} ({family})",
        found.revision,
        source.licence,
        recorded or model_hash(_recorded_hashes(found) if found.revision else weight_hashes(found.path)),
    )


def add_model(path: Path, name: str | None, prediction: str | None) -> Listed:
    """Register a folder or single file under a name; nothing is copied. Raises ModelError, SettingsError."""
    place = find_model(path).path.resolve()
    source = open_checkpoint(Found(place, prediction=prediction))
    source.config("scheduler")
    kind_of(source.config("unet"), source.config("vae").get("latent_channels", 4), source.where("unet"))
    chosen = name or re.sub(r"[^\w.-]", "-", place.stem if place.is_file() else place.name)
    register(chosen, Entry(str(place), model_hash(weight_hashes(place)), prediction))
    return describe(chosen)


def verify(name: str) -> Listed:
    """Read everything: files, shapes, finite weights, hashes, and whether the network predicts what it says.

    Raises ModelError: those of loading, KP-MODEL-CHANGED for weights that are not those that were added or fetched,
    KP-MODEL-PREDICTION if the scheduler says noise and the network predicts v, or the reverse.
    """
    found = find_model(name)
    listed = describe(name)
    _check_prediction(load_model(name, device="cpu"))
    hashes = weight_hashes(found.path)
    recorded = _recorded_hashes(found) if found.revision else {}
    changed = [file for file, digest in recorded.items() if hashes.get(file) != digest]
    if changed or listed.hash != model_hash(hashes):
        raise ModelError(
            "KP-MODEL-CHANGED",
            f"the weights are not those that were {'fetched' if found.revision else 'added'}"
            + (f": {', '.join(changed)}" if changed else ""),
            where=str(found.path),
            fix="fetch the model again" if found.revision else f"kinopaint models add {found.path} --name {name}",
        )
    return listed


def _check_prediction(parts: Any) -> None:
    """At the noisiest step a network that predicts noise answers with its input; one that predicts v does not."""
    from kinopaint.engine.denoiser import Condition

    backbone, schedule = parts.backbone, parts.schedule
    step = schedule.steps(1, spacing="trailing")[0]
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, backbone.latent_channels, 32, 32, generator=generator)
    structure = torch.zeros(1, backbone.structure_channels, 32, 32) if backbone.structure_channels else None
    (nothing,) = parts.text_encoder.encode([""])
    with torch.no_grad():
        noise = backbone.predict(latents, step, [Condition("nothing", nothing, structure=structure)])[0]
    says_v = schedule.prediction_type == "v_prediction"
    answer = (noise - step.sigma * latents) / step.alpha if says_v else noise
    likeness = torch.corrcoef(torch.stack([answer.flatten(), latents.flatten()]))[0, 1].item()
    wrong = likeness > 0.9 if says_v else likeness < 0.5
    if wrong and schedule.prediction_type != "sample":
        raise ModelError(
            "KP-MODEL-PREDICTION",
            f"the scheduler says {schedule.prediction_type}, but the network's answer to pure noise is "
            f"{'that noise' if says_v else 'something else'} (correlation {likeness:.2f})",
            where=parts.name,
            fix=f"kinopaint models add PATH --name NAME --prediction {'epsilon' if says_v else 'v_prediction'}, "
            "if it was trained so",
        )


def _recorded_hashes(found: Found) -> dict[str, str]:
    """What the hub's cache says of the weight files: it names each one by its SHA-256."""
    named = {file: file.resolve().name for file in sorted(found.path.glob("*/*.safetensors"))}
    return {
        file.relative_to(found.path).as_posix(): digest
        for file, digest in named.items()
        if re.fullmatch("[0-9a-f]{64}", digest)
    }


def _cached() -> Iterator[str]:
    """Hub ids in the local cache that have a model_index.json."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return
    for repository in sorted(cache.repos, key=lambda each: each.repo_id):
        if any((revision.snapshot_path / "model_index.json").exists() for revision in repository.revisions):
            yield repository.repo_id
