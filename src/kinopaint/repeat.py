"""Repeat a run by the recipe that its result carries.

On the same machine, with the same versions, the decoded frames are identical. Elsewhere another processor, device or
library may round differently, so pictures are alike but not equal; what differs is said in a warning.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from kinopaint.errors import InputError, ModelError, SettingsError, did_you_mean
from kinopaint.recipe import fingerprint, versions
from kinopaint.settings import listener, path_text, switch
from kinopaint.text import shown
from kinopaint.video import probe
from kinopaint.video.pictures import png_texts
from kinopaint.video.sequence import find_sequence, numbered

if TYPE_CHECKING:
    from kinopaint.api import Listener, StylizeResult

LARGEST = 2**24  # bytes of a sidecar
_ADDITIONS = {"vae", "lora", "controlnet", "ip_adapter", "image_prompt"}
_RUN = {"overwrite", "resume", "restart", "keep_work", "download", "memory", "sidecar"}
# Keywords of `stylize` that are this run's own, whatever a recipe says.
_OWN = {
    "input", "output", "model", "device", "dtype", "download", "overwrite", "resume", "restart", "keep_work",
    "sidecar", "progress", "memory",
}  # fmt: skip


def again(
    output: str | PathLike[str],
    new: str | PathLike[str] | None = None,
    *,
    input: str | PathLike[str] | None = None,
    model: str | PathLike[str] | None = None,
    device: str | None = None,
    progress: Listener | None = None,
    **run: Any,
) -> StylizeResult:
    """Make `output` once more, as `new`, by default with `-again` after its name.

    Of an image sequence `output` is its folder, or the numbered name that it was written by.
    The source is `input`, or else the recorded name beside `output`; the model is `model`, or else the recorded name;
    both must have the recorded fingerprints. `device` is by default the recorded one, where there is such a one. `run`
    may hold overwrite, restart, keep_work, download, memory and sidecar, and what was put on the model (vae, lora, …).
    As much is computed at once as then, whatever is free now, because another batch rounds otherwise.

    Raises InputError (KP-INPUT-RECIPE: no recipe; KP-INPUT-OTHER: not the source; the codes of `probe`), ModelError
    (KP-MODEL-OTHER) and what `stylize` raises.
    """
    from kinopaint.api import run as repeat
    from kinopaint.job import Job
    from kinopaint.models import weight_hashes
    from kinopaint.models.finding import find_model

    if other := next((name for name in run if name not in _RUN | _ADDITIONS), None):
        raise SettingsError(
            "KP-SETTING-UNKNOWN",
            f"{other!r} cannot be said: the recipe decides it, if there is such a setting",
            where=other,
            fix=did_you_mean(other, {"input", "model", "device", "progress", *_RUN, *_ADDITIONS}),
        )
    listener(progress)
    if not path_text("output", output):
        raise InputError("KP-INPUT-MISSING", "the name of the result is empty", where="OUTPUT", fix="name it")
    place = _result(Path(output))
    recipe = read_recipe(place)
    source = _source(recipe, place, input)
    name: str = recipe["model"]["name"] if model is None else path_text("model", model, wanted="a name or a path")
    found = find_model(name, download=switch("download", run.get("download", False))).path
    if weight_hashes(found) != recipe["model"]["hashes"]:
        raise ModelError(
            "KP-MODEL-OTHER",
            "this is not the model of the recipe: the hashes of its weights differ",
            where=shown(str(found)),
            fix=f"give the folder of {shown(recipe['model']['name'])} with --model",
        )
    if (added := recipe["model"].get("added")) and not any(run.get(name) for name in _ADDITIONS):
        additions = {key: value for key, value in recipe["settings"].items() if key in _ADDITIONS}
        if not _embedded(additions):
            names = ", ".join(shown(str(each.get("name", each))) for each in added)
            raise ModelError(
                "KP-MODEL-OTHER",
                f"the result was made with additions to the model: {names}",
                where=shown(place),
                fix="give them as before: --vae, --lora, --controlnet, --ip-adapter, --image-prompt",
            )
        run |= additions
    chosen, notes = _device(recipe) if device is None else (device, [])
    for note in [*notes, *_other_versions(recipe), *_ran_out(recipe)]:
        if progress is None:
            warnings.warn(note, stacklevel=2)
        else:
            progress({"event": "warning", "message": note})
    settings = {key: value for key, value in recipe["settings"].items() if key not in _OWN | _ADDITIONS}
    words = settings.pop("prompt")
    target = _beside(place) if new is None else path_text("new", new)
    sidecar = switch("sidecar", run.pop("sidecar", False))
    job = Job.of(source, words, target, model=name, device=chosen, dtype=recipe["dtype"], **run, **settings)
    return repeat(job, sidecar=sidecar, progress=progress, like=recipe)


def _result(output: Path) -> Path:
    """What stands there: of numbered pictures (`painted/%04d.png`) their folder."""
    return output.parent if numbered(output.name) and not output.exists() else output


def _beside(place: Path) -> Path:
    """The name with `-again` after it; of a folder of pictures another folder, in which they have the same names."""
    sequence = find_sequence(place)
    if sequence is None:
        return place.with_name(f"{place.stem}-again{place.suffix}")
    first = sequence.files[0]
    found = re.search(r"(\d+)\D*$", first.stem)
    before, width, after = (
        (first.stem[: found.start(1)], len(found[1]), first.stem[found.end(1) :]) if found else ("", 6, "")
    )
    return place.with_name(f"{place.name}-again") / f"{before}%0{width}d{after}{first.suffix}"


def read_recipe(place: Path) -> dict[str, Any]:
    """The recipe that is embedded in a result, or that lies beside it. Raises InputError (KP-INPUT-RECIPE, …)."""
    beside = place.with_name(f"{place.name}.json")
    text: str | None = probe(place).metadata.get("kinopaint")
    if text is None and place.suffix.lower() == ".png" and place.is_file():
        text = png_texts(place).get("kinopaint")
    if text is None and beside.is_file() and beside.stat().st_size <= LARGEST:
        text = beside.read_text(encoding="utf-8", errors="replace")
    if text is None:
        raise InputError(
            "KP-INPUT-RECIPE",
            f"it carries no recipe, and there is no {shown(beside.name)} beside it",
            where=shown(place),
            fix="give a file that kinopaint stylize has written",
        )
    try:
        recipe: dict[str, Any] = json.loads(text)
        told = (
            recipe["settings"]["prompt"],
            recipe["dtype"],
            recipe["device"],
            recipe["model"]["name"],
            recipe["source"]["name"],
            recipe["source"]["fingerprint"],
        )
        shots = recipe["settings"].get("shots")
        if not all(isinstance(each, str) for each in told) or not isinstance(recipe["model"]["hashes"], dict):
            raise ValueError
        if not all({"frame", "step"} <= each.keys() for each in recipe.get("fallbacks", [])):
            raise ValueError
        if isinstance(shots, str) and shots not in ("auto", "off"):  # would be the name of a file to read
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            "KP-INPUT-RECIPE",
            "its recipe is damaged or of another kind",
            where=shown(place),
            fix="give a file that kinopaint stylize has written",
        ) from None
    return recipe


def _embedded(additions: Mapping[str, Sequence[str]]) -> bool:
    """Whether these are but ControlNets that the embedded model carries, which are in every installation."""
    from kinopaint.models.added import ControlGiven

    return additions.keys() == {"controlnet"} and all(
        ControlGiven.parse(text).name == "mini" for text in additions["controlnet"]
    )


def _source(recipe: Mapping[str, Any], place: Path, given: str | PathLike[str] | None) -> Path:
    recorded = PurePath(recipe["source"]["name"])
    if given is not None:
        source = Path(path_text("input", given))
    elif recorded.is_absolute() or ".." in recorded.parts:  # Kinopaint writes no such name
        raise InputError("KP-INPUT-RECIPE", "its recipe names a place elsewhere", where=shown(place), fix="use --input")
    else:
        source = place.absolute().parent / recorded
    try:
        same = fingerprint(source) == recipe["source"]["fingerprint"]
    except (OSError, InputError):
        raise InputError(
            "KP-INPUT-MISSING",
            f"the source {shown(recipe['source']['name'])} is not there",
            where=shown(source),
            fix="say where it is with --input",
        ) from None
    if not same:
        raise InputError(
            "KP-INPUT-OTHER",
            "this is not the source of the recipe: its content differs",
            where=shown(source),
            fix="say where the right one is with --input",
        )
    return source


def _device(recipe: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The recorded device, or, with a note, whatever there is."""
    from kinopaint.models.placement import choose_device

    recorded = recipe["device"]
    try:
        choose_device(recorded)
    except SettingsError:
        return "auto", [f"made on {shown(recorded)}, which is not here: frames will be alike, but not equal"]
    return recorded, []


def _ran_out(recipe: Mapping[str, Any]) -> list[str]:
    """How much was computed at once is repeated; that memory ran out on the way is not."""
    return [
        f"at frame {step['frame']} memory ran out and the first run went on with {shown(str(step['step']))}: "
        "from there on frames may differ by rounding"
        for step in recipe.get("fallbacks", [])
        if "at once" in str(step["step"])
    ]


def _other_versions(recipe: Mapping[str, Any]) -> list[str]:
    before, now = recipe.get("versions", {}), versions()
    other = [
        f"{name} {before[name]} (here {now[name]})" for name in now if name in before and before[name] != now[name]
    ]
    return [f"made with {shown(', '.join(other))}: frames may differ by rounding"] if other else []
