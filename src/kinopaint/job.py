"""One run as it was asked for: every setting checked before anything is opened."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinopaint.errors import InputError, ModelError, OutputError, SettingsError, did_you_mean
from kinopaint.methods import available_methods, get_method
from kinopaint.profiles import AS_GIVEN, DEFAULT, PROFILES, Profile
from kinopaint.settings import coerce_fields, parse_memory, path_text, plain, refuse, seed_number, switch, whole
from kinopaint.types import Prompt
from kinopaint.video.codecs import choose_codec
from kinopaint.video.place import check_place
from kinopaint.video.sequence import holds_recipe, output_sequence, result_place
from kinopaint.video.shotlist import Shots, parse_shots
from kinopaint.video.sizing import plan_size
from kinopaint.video.timecode import Selection, Time, parse_rate

if TYPE_CHECKING:
    from kinopaint.engine.components import Components
    from kinopaint.models.added import Additions, Names


@dataclass(frozen=True)
class Job:
    """What to do to which clip. `given` are the method's fields named explicitly, `presets` those of `--preset`."""

    input: Path
    output: Path
    prompt: Prompt
    method_name: str
    given: Mapping[str, Any]
    presets: tuple[str, ...]
    model: str
    additions: Additions
    seed: int
    selection: Selection
    fps: Fraction | None
    device: str
    dtype: str
    memory: int | None
    size: str
    work_size: str
    codec: str
    quality: int | None
    no_audio: bool
    download: bool
    shots: Shots
    allow_damaged: bool
    overwrite: bool
    resume: bool
    restart: bool
    keep_work: bool
    compile: bool

    @classmethod
    def of(
        cls,
        input: str | PathLike[str],
        prompt: str,
        output: str | PathLike[str],
        *,
        method: str = "style-a-video",
        model: str | PathLike[str] = "mini",
        vae: Names = None,
        lora: Names = None,
        controlnet: Names = None,
        ip_adapter: Names = None,
        image_prompt: Names = None,
        preset: str = DEFAULT,
        seed: int | str = 0,
        negative_prompt: str | None = "",
        steps: int | str | None = None,
        start: Time = None,
        end: Time = None,
        every: int | str = 1,
        fps: Time = None,
        size: str = "source",
        work_size: str = "auto",
        codec: str = "auto",
        quality: int | str | None = None,
        no_audio: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        memory: str | int | None = None,
        download: bool = False,
        shots: str | PathLike[str] | Sequence[int | str | Fraction] = "auto",
        allow_damaged: bool = False,
        overwrite: bool = False,
        resume: bool = False,
        restart: bool = False,
        keep_work: bool = False,
        compile: bool = False,
        **fields: Any,
    ) -> Job:
        """Check every setting. Raises SettingsError that names the first one that cannot be; an input without a name,
        which would be the working folder, is an InputError (KP-INPUT-MISSING).
        """
        from kinopaint.models.added import Additions
        from kinopaint.models.placement import choose_device, choose_dtype

        source, target = path_text("input", input), path_text("output", output)
        if not source:
            raise InputError("KP-INPUT-MISSING", "the name of the input is empty", where="INPUT", fix="name the clip")
        texts = {"method": method, "preset": preset, "size": size, "work_size": work_size, "codec": codec}
        for name, text in texts.items():
            if not isinstance(text, str):
                raise refuse(name, text, "a text", fix="write it as on the command line")
        kind = get_method(method)
        given = fields if steps is None else {**fields, "num_inference_steps": steps}
        job = cls(
            input=Path(source),
            output=Path(target),
            prompt=Prompt(prompt, "" if negative_prompt is None else negative_prompt),
            method_name=method,
            given=coerce_fields(kind, given, others=inspect.signature(cls.of).parameters),
            presets=_presets(kind, preset),
            model=path_text("model", model, wanted="a name or a path"),
            additions=Additions.of(vae, lora, controlnet, ip_adapter, image_prompt),
            seed=seed_number(seed),
            selection=Selection.of(start, end, whole("every", every, at_least=1)),
            fps=None if fps is None else parse_rate(fps),
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            memory=parse_memory(memory),
            size=size,
            work_size=work_size,
            codec=codec,
            quality=None if quality is None else whole("quality", quality),
            no_audio=switch("no_audio", no_audio),
            download=switch("download", download),
            shots=parse_shots(shots),
            allow_damaged=switch("allow_damaged", allow_damaged),
            overwrite=switch("overwrite", overwrite),
            resume=switch("resume", resume),
            restart=switch("restart", restart),
            keep_work=switch("keep_work", keep_work),
            compile=switch("compile", compile),
        )
        if job.resume and job.restart:
            raise SettingsError(
                "KP-SETTING-CONFLICT",
                "resume goes on with earlier work, restart throws it away",
                where="--resume, --restart",
                fix="say one of them; going on is the default",
            )
        choose_codec(output, codec, job.quality)
        plan_size(640, 360, size=size, work_size=work_size)  # says whether the words can be read
        choose_dtype(job.wanted_dtype, choose_device(job.device))
        job.method(_embedded(method) if job.model == "mini" else {})  # what other models recommend shows with them
        return job

    @property
    def profile(self) -> Profile:
        """The last one that is named; with a method's preset alone, none."""
        return next((PROFILES[name] for name in reversed(self.presets) if name in PROFILES), AS_GIVEN)

    @property
    def wanted_dtype(self) -> str:
        return self.profile.dtype if self.dtype == "auto" else self.dtype

    def method(self, recommended: Mapping[str, Any], *, exact: bool = False) -> Any:
        """The method with its settings: named explicitly, else by a preset (later ones win), else recommended.

        `exact`: as if that had been asked for in place of the engine profile. Raises SettingsError for a value that
        the method does not take.
        """
        kind = get_method(self.method_name)
        known = {field.name: field for field in dataclasses.fields(kind)}
        fields = {name: value for name, value in recommended.items() if name in known}
        defaults = {name: field.default for name, field in known.items()}
        for name in self.presets:
            if name in PROFILES:
                fields |= PROFILES["exact" if exact else name].method_fields(defaults, recommended)
            else:
                fields |= kind.presets[name]
        return kind(**coerce_fields(kind, {**fields, **self.given}))

    def settings(self) -> dict[str, Any]:
        """What of this decides the result, as keywords of `of` with values for JSON; model and method's fields apart.

        Where things are, on what they run, and how to treat what is there is not in it.
        """
        apart = {"input", "output", "prompt", "method_name", "given", "presets", "selection"}
        apart |= {
            "model",
            "additions",
            "device",
            "dtype",
            "memory",
            "download",
            "overwrite",
            "resume",
            "restart",
            "keep_work",
        }
        others = {name: value for name, value in vars(self).items() if name not in apart}
        return {
            "prompt": self.prompt.text,
            "negative_prompt": self.prompt.negative,
            "method": self.method_name,
            "preset": ",".join(self.presets),
            "start": plain(self.selection.start),
            "end": plain(self.selection.end),
            "every": self.selection.every,
            **self.additions.recorded(),
            **{name: plain(value) for name, value in others.items()},
        }

    @property
    def place(self) -> Path:
        """What appears when the result is whole: the output file, or the folder of an image sequence."""
        return result_place(self.output, self._codec)

    @property
    def sidecar(self) -> Path:
        return self.place.with_name(f"{self.place.name}.json")

    def check_output(self, *, sidecar: bool = False, resumable: bool = False) -> None:
        """Raises OutputError if the result cannot be put where it should, and SettingsError if it is the input.

        `resumable`: whether there is work on this output; what stands there may then be its own result.
        """
        sequence = output_sequence(self.output, self._codec)
        pattern = sequence[1] if sequence else None
        check_place(self.place.absolute(), self.input, overwrite=self.overwrite or resumable, pattern=pattern)
        sidecar |= not holds_recipe(self.output, self._codec)
        if sidecar and self.sidecar.exists() and not (self.overwrite or resumable):
            raise OutputError(
                "KP-OUTPUT-EXISTS",
                "the file for the recipe exists already",
                where=str(self.sidecar),
                fix="choose another name, or add --overwrite",
            )

    @property
    def _codec(self) -> str:
        return choose_codec(self.output, self.codec, self.quality)

    def check_model(self) -> None:
        """Raises ModelError if there is no such model; whether it can be used shows when it is loaded."""
        from kinopaint.models.finding import find_model

        find_model(self.model, download=self.download)


def recommended(method: str, parts: Components) -> Mapping[str, Any]:
    """What the model recommends for a method, checked: ModelError (KP-MODEL-JSON) that names the folder's file.

    Names that the method has not are left out, as those of later versions are.
    """
    kind = get_method(method)
    known = {field.name for field in dataclasses.fields(kind)}
    fields = {name: value for name, value in parts.recommended.get(method, {}).items() if name in known}
    try:
        fields = coerce_fields(kind, fields)
        kind(**fields)
    except SettingsError as error:
        told = error.what if error.what.startswith(error.where) else f"{error.where}: {error.what}"
        raise ModelError(
            "KP-MODEL-JSON",
            f"what it recommends for {method} cannot be: {told}",
            where=str(parts.path / "kinopaint.json") if parts.path else parts.name,
            fix="mend the file, or take the value out" + (f"; {error.fix}" if error.fix else ""),
        ) from error
    return fields


def unknown_recommended(method: str, parts: Components) -> list[str]:
    """What the model recommends that nobody takes: names of methods that are not there, and of settings, for `method`,
    that it has not.
    """
    known = {field.name for field in dataclasses.fields(get_method(method))}
    methods = [name for name in parts.recommended if name not in available_methods()]
    return methods + [f"{method}: {name}" for name in parts.recommended.get(method, {}) if name not in known]


def _embedded(method: str) -> Mapping[str, Any]:
    """What the embedded model recommends for a method, known without loading it."""
    from kinopaint.models import mini_path
    from kinopaint.models.weights import read_json

    about = mini_path() / "kinopaint.json"
    found: Mapping[str, Any] = read_json(about).get("recommended", {}).get(method, {}) if about.exists() else {}
    return found


def _presets(kind: type[Any], text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip()) or (DEFAULT,)
    own = getattr(kind, "presets", {})
    for name in names:
        if name not in PROFILES and name not in own:
            raise SettingsError(
                "KP-PRESET-UNKNOWN",
                f"there is no preset named {name!r}",
                where="--preset",
                fix=did_you_mean(name, {*PROFILES, *own}),
            )
    return names
