"""What a result was made from, written into the result: settings, seed, hashes, versions, device, source."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinopaint.deviations import deviation
from kinopaint.errors import ModelError, OutputError
from kinopaint.settings import plain
from kinopaint.text import to_json
from kinopaint.video.sequence import find_sequence

if TYPE_CHECKING:
    from kinopaint.api import Ready

WHOLE = 256 * 2**20  # bytes; larger files are known by their length, beginning and end
EDGE = 16 * 2**20
LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "av", "opencv-python-headless", "numpy")


def fingerprint(path: Path) -> str:
    """`sha256:…` of a file, or for more than 256 MiB `sha256-edges:…` of its length, first and last 16 MiB.

    Of an image sequence `sha256-files:…` of the names and contents of its pictures.
    """
    if sequence := find_sequence(path):
        whole = hashlib.sha256()
        for picture in sequence.files:
            whole.update(f"{picture.name}\n{fingerprint(picture)}\n".encode())
        return f"sha256-files:{whole.hexdigest()}"
    length = path.stat().st_size
    with path.open("rb") as file:
        if length <= WHOLE:
            return f"sha256:{hashlib.sha256(file.read()).hexdigest()}"
        digest = hashlib.sha256(str(length).encode())
        digest.update(file.read(EDGE))
        file.seek(-EDGE, 2)
        digest.update(file.read(EDGE))
    return f"sha256-edges:{digest.hexdigest()}"


def versions() -> dict[str, str]:
    """Versions of Kinopaint, Python and the libraries that can change a pixel."""
    from kinopaint import __version__

    found = {"kinopaint": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # installed under another name, such as opencv-python
            continue
    return found


def make_recipe(ready: Ready) -> dict[str, Any]:
    """Everything that decides the result, as plain values for JSON; names of files without their folders."""
    from kinopaint.models import weight_hashes

    job, parts, sizes = ready.job, ready.parts, ready.sizes
    hashes = weight_hashes(parts.path) if parts.path else {}
    fields = {field.name: getattr(ready.method, field.name) for field in dataclasses.fields(ready.method)}
    return {
        "settings": {
            **job.settings(),
            **{name: plain(value) for name, value in fields.items()},
        },
        "given": sorted(job.given),
        "read_as": ready.prompt.text,
        "profile": _profile(ready, hashes),
        "load": str(parts.load),
        "model": {
            "name": job.model if job.model == "mini" or parts.revision else Path(job.model).name,
            "revision": parts.revision,
            "licence": parts.licence,
            "kind": parts.kind,
            "prediction": parts.schedule.prediction_type,
            "hashes": hashes,
            "added": [dict(each) for each in parts.added],
        },
        "cuts": list(ready.cuts),
        "sizes": {name: list(getattr(sizes, name)) for name in ("source", "work", "padded", "output")},
        "versions": versions(),
        "device": str(parts.device),
        "dtype": str(parts.dtype).removeprefix("torch."),
        "source": {
            "name": _name(job.input),
            "bytes": ready.clip.info.size_bytes,
            "fingerprint": fingerprint(job.input),
        },
        "fallbacks": [],
    }


def _profile(ready: Ready, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What is not exact about a run, each choice and all together, with what that is measured to change."""
    from kinopaint.job import recommended

    job, parts = ready.job, ready.parts
    exact = job.method(recommended(job.method_name, parts), exact=True)
    choices = job.profile.choices(ready.method, exact, parts)
    model = job.model if not parts.added else f"{job.model} with additions"
    weights = hashes.get("unet/diffusion_pytorch_model.safetensors")
    told = {
        name: {"value": plain(value), "deviation": deviation({name: value}, job.method_name, model, weights)}
        for name, value in choices.items()
    }
    return {"choices": told, "deviation": deviation(choices, job.method_name, model, weights) if choices else {}}


def _name(path: Path) -> str:
    """The last part of the input's path; of numbered pictures the last two, because their folder is what has a name."""
    absolute = path.absolute()
    pattern = find_sequence(path) and not path.is_dir()
    return f"{absolute.parent.name}/{absolute.name}" if pattern else absolute.name


# What a run may change and still go on with the pictures that are painted: how they are delivered, and mere names.
_DELIVERY = {"settings.codec", "settings.quality", "settings.no_audio", "settings.size", "sizes.output"}
_NAMES = {"given", "source.name", "model.name", "versions.python", "profile"}
_NAMES |= {"fallbacks", "delivery", "memory", "seconds"}  # what came of it


def differences(before: Mapping[str, Any], now: Mapping[str, Any], *, delivery: bool = False) -> list[str]:
    """In what two recipes differ, as phrases, as far as it matters to painted pictures, with `delivery` also to files.

    Different versions of the libraries matter, because they may round otherwise.
    """
    apart = _NAMES if delivery else _NAMES | _DELIVERY
    old, new = _flat(before), _flat(now)
    return [
        f"{key} was {old.get(key)!r}, now it is {new.get(key)!r}"
        for key in {**old, **new}
        if old.get(key) != new.get(key) and not any(key == name or key.startswith(f"{name}.") for name in apart)
    ]


def check_additions(now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raises ModelError (KP-MODEL-OTHER) unless the same was put on the model, by contents and weights."""

    def told(recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
        names = {"name", "picture", "licence", "revision"}
        added = json.loads(json.dumps(recipe["model"].get("added") or []))
        return [{key: value for key, value in each.items() if key not in names} for each in added]

    if told(now) != told(before):
        raise ModelError(
            "KP-MODEL-OTHER",
            "what is put on the model is not what the recipe names: its contents, weights or order differ",
            where="--lora, --controlnet, --ip-adapter, --image-prompt, --vae",
            fix="give the same files with the same weights, in the same order",
        )


def _flat(values: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{under}{key}.") if isinstance(value, Mapping) else {f"{under}{key}": value}
    return flat


def write_sidecar(path: Path, recipe: dict[str, Any]) -> None:
    """Write the recipe as JSON, whole or not at all. Raises OutputError."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(to_json(recipe, indent=2) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            "KP-OUTPUT-WRITE",
            f"the recipe cannot be written: {error.strerror}",
            where=str(path),
            fix="check the folder",
        ) from error
