"""What users put on a model: LoRA, ControlNets, an IP-Adapter; how it is written and where it lies."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from kinopaint.errors import ModelError, SettingsError, did_you_mean
from kinopaint.models.hints import HINTS, hint_for
from kinopaint.settings import path_text

_SHARE = r"(?:\d+\.?\d*|\.\d+)"  # of the steps, such as 0.25
Names = str | PathLike[str] | Sequence[str | PathLike[str]] | None


@dataclass(frozen=True)
class Weighted:
    """`FILE[:WEIGHT]`."""

    name: str
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Weighted":
        name, weight = _weight_off(text)
        return cls(name, weight)


@dataclass(frozen=True)
class ControlGiven:
    """`[HINT=]FOLDER[:WEIGHT[:START-END]]`, where start and end are shares of the steps."""

    name: str
    hint: str
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "ControlGiven":
        """Raises SettingsError KP-CONTROLNET-HINT or KP-SETTING-VALUE."""
        hint, equals, rest = text.partition("=")
        if not equals or "/" in hint or "\\" in hint:
            hint, rest = "", text
        elif hint not in HINTS:
            raise SettingsError(
                "KP-CONTROLNET-HINT", f"unknown hint {hint!r}", where="--controlnet", fix=did_you_mean(hint, HINTS)
            )
        start, end = 0.0, 1.0
        if found := re.fullmatch(rf"(.+):({_SHARE})-({_SHARE})", rest):
            rest, start, end = found[1], float(found[2]), float(found[3])
            if not 0 <= start < end <= 1:
                raise SettingsError(
                    "KP-SETTING-VALUE",
                    f"{found[2]}-{found[3]} is no part of the steps",
                    where="--controlnet",
                    fix="give shares from 0 to 1, the smaller first, such as 0-0.6",
                )
        name, weight = _weight_off(rest)
        return cls(name, hint or hint_for(Path(name).name), weight, start, end)


@dataclass(frozen=True)
class Additions:
    """What is put on a model, as it is written on the command line."""

    vae: str | None = None
    lora: tuple[str, ...] = ()
    controlnet: tuple[str, ...] = ()
    ip_adapter: str | None = None
    image_prompt: str | None = None

    @classmethod
    def of(cls, vae: Names, lora: Names, controlnet: Names, ip_adapter: Names, image_prompt: Names) -> "Additions":
        """The same from single names, lists or None; those that there can be but one of as a list of one, too."""
        options = ("--vae", "--lora", "--controlnet", "--ip-adapter", "--image-prompt")
        given = (vae, lora, controlnet, ip_adapter, image_prompt)
        told = [_texts(option, names) for option, names in zip(options, given, strict=True)]
        for option, texts in zip(options, told, strict=True):
            if not all(texts):
                raise SettingsError(
                    "KP-SETTING-VALUE", "the name is empty", where=option, fix="give a name, or leave the option out"
                )
            if len(texts) > 1 and option not in ("--lora", "--controlnet"):
                raise SettingsError(
                    "KP-SETTING-VALUE", f"{len(texts)} were given; one is possible", where=option, fix="give one"
                )
        first = [texts[0] if texts else None for texts in told]
        return cls(first[0], told[1], told[2], first[3], first[4])

    def __post_init__(self) -> None:
        """Raises SettingsError for what cannot be read, and for a picture without adapter or the reverse."""
        for each in self.controlnet:
            ControlGiven.parse(each)
        if (self.ip_adapter is None) != (self.image_prompt is None):
            raise SettingsError(
                "KP-IP-ADAPTER-PICTURE",
                "an IP-Adapter and the picture that it shows the model belong together",
                where="--ip-adapter",
                fix="give both --ip-adapter FILE and --image-prompt PICTURE",
            )

    def recorded(self) -> dict[str, list[str]]:
        """What was given, as keywords of `of`, for the recipe; names of files without their folders."""
        controls = [ControlGiven.parse(each) for each in self.controlnet]
        told = {
            "vae": [self.vae] if self.vae else [],
            "lora": list(self.lora),
            "controlnet": [
                f"{each.hint}={_without_folder(each.name)}:{each.weight:g}:{each.start:g}-{each.end:g}"
                for each in controls
            ],
            "ip_adapter": [self.ip_adapter] if self.ip_adapter else [],
            "image_prompt": [self.image_prompt] if self.image_prompt else [],
        }
        return {name: [_without_folder(each) for each in given] for name, given in told.items() if given}


def _without_folder(text: str) -> str:
    """The same with only the last part of a path that exists; a hub id stays as it is."""
    return Path(text).name if os.path.exists(os.path.expanduser(_weight_off(text)[0])) else text


def _texts(option: str, given: Names) -> tuple[str, ...]:
    if given is None:
        return ()
    names = given if isinstance(given, Sequence) and not isinstance(given, str | bytes) else (given,)
    return tuple(path_text(option, each) for each in names)


def _weight_off(text: str) -> tuple[str, float]:
    found = re.fullmatch(r"(.+):(-?\d*\.?\d+)", text)
    return (found[1], float(found[2])) if found else (text, 1.0)


def find_file(name: str, option: str) -> Path:
    """A safetensors file on this machine. Raises ModelError KP-MODEL-NOT-FOUND or KP-MODEL-PICKLE."""
    from kinopaint.models.finding import written_path
    from kinopaint.models.weights import PICKLES, pickle

    path = written_path(name)
    if os.path.isdir(path):
        files = sorted(path.glob("*.safetensors"))
        if len(files) == 1:
            return files[0]
    if path.suffix in PICKLES and os.path.exists(path):
        raise pickle(path)
    if not os.path.isfile(path):
        raise ModelError(
            "KP-MODEL-NOT-FOUND",
            "there is no such file" if not os.path.isdir(path) else "the folder holds no single .safetensors file",
            where=f"{option} {name}",
            fix="give the .safetensors file",
        )
    return path
