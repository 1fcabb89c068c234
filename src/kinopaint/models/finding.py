"""From the name that a user gives to a folder or a file on this machine."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from kinopaint.errors import ModelError, did_you_mean
from kinopaint.models.registry import registered
from kinopaint.models.weights import PICKLES, pickle

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILES = ["model_index.json", "kinopaint.json", "README.md", "*/*.json", "*/*.txt", "*/*.safetensors"]
_PART_FILES = ["config.json", "README.md", "*.safetensors", "*.safetensors.index*.json"]


@dataclass(frozen=True)
class Found:
    """Where a model lies; nothing in it has been checked."""

    path: Path
    revision: str | None = None  # the commit, if it comes from the hub; its id is then `name`
    name: str | None = None
    prediction: str | None = None  # what the user said when adding it


def find_model(name: str | Path, *, download: bool = False, files: list[str] = HUB_FILES) -> Found:
    """Where the model of that name is: "mini", an added name, a folder or single file, or a hub id.

    `files` are patterns of what to fetch from the hub: a checkpoint in diffusers layout, if not said otherwise.
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
        return Found(mini_path())
    added = {} if isinstance(name, Path) else registered()
    if entry := added.get(text):
        path = Path(entry.path)
        if not path.exists():
            raise ModelError(
                "KP-MODEL-NOT-FOUND",
                f"the model added as {text!r} is no longer there",
                where=entry.path,
                fix=f"put it back, or kinopaint models add NEW-PLACE --name {text}",
            )
        return Found(path, prediction=entry.prediction)
    if not text:
        raise ModelError(
            "KP-MODEL-UNKNOWN", "the name of the model is empty", where="--model", fix="leave it out for mini"
        )
    path = written_path(name)
    if os.path.isdir(path):
        return Found(path)
    if os.path.isfile(path):
        return Found(_single_file(path))
    is_path = isinstance(name, Path) or text.startswith((".", "/", "~")) or "\\" in text
    if not is_path and _HUB_ID.fullmatch(text):
        return _from_hub(text, download, files)
    known = {"mini", *added, *_folders_beside(path)}
    if is_path or "/" in text:
        raise ModelError("KP-MODEL-NOT-FOUND", "there is no such folder", where=text, fix=did_you_mean(text, known))
    raise ModelError(
        "KP-MODEL-UNKNOWN",
        f"there is no model named {text!r}",
        where="--model",
        fix=did_you_mean(text, known) + "; a hub id has the form owner/name",
    )


def find_part(name: str, option: str, *, download: bool = False) -> Found:
    """The folder of one network (a ControlNet, an autoencoder) in diffusers layout, one from the hub, or with "mini"
    the one that the embedded model carries.
    """
    path = find_model(name).path / option.removeprefix("--") if name == "mini" else written_path(name)
    if os.path.isdir(path):
        if not (path / "config.json").exists():
            raise ModelError(
                "KP-MODEL-LAYOUT",
                "the folder has no config.json",
                where=f"{option} {name}",
                fix="give the folder of one network in diffusers layout",
            )
        return Found(path)
    if os.path.exists(path) or name.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(name):
        raise ModelError(
            "KP-MODEL-NOT-FOUND",
            "this is a file" if os.path.exists(path) else "there is no such folder",
            where=f"{option} {name}",
            fix="give a folder in diffusers layout, or a hub id",
        )
    return _from_hub(name, download, _PART_FILES)


def written_path(name: str | PathLike[str]) -> Path:
    """The place that a user named, `~` as the home folder where it is known.

    Ask `os.path` what is there: it takes names that are too long for any file, and says no.
    """
    return Path(os.path.expanduser(name))


def _single_file(path: Path) -> Path:
    if path.suffix in PICKLES:
        raise pickle(path)
    if path.suffix != ".safetensors":
        raise ModelError(
            "KP-MODEL-SINGLE-FILE",
            "a model is a folder in diffusers layout, or a .safetensors file",
            where=str(path),
            fix="give the folder that holds model_index.json, or the file with the weights",
        )
    return path


def _from_hub(name: str, download: bool, files: list[str] = HUB_FILES) -> Found:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(name, allow_patterns=files, local_files_only=not download))
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
    return Found(path, revision=path.name, name=name)


def _folders_beside(path: Path) -> Iterator[str]:
    parent = path.parent
    if os.path.isdir(parent):
        yield from (str(index.parent) for index in parent.glob("*/model_index.json"))
