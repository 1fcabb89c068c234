"""The Python interface: one call restyles a clip, or a stream of pictures.

    stylize("in.mp4", "a watercolor painting", "out.mp4")          # files: reader, sizes, windows, writer
    stylize_frames(pictures, "a pencil sketch")                     # NumPy pictures, lazily, no file

Memory follows the window of the method, never the length of the clip.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kinopaint.engine.carry import pack_carry, unpack_carry
from kinopaint.engine.components import Components
from kinopaint.engine.device import device_errors
from kinopaint.engine.load import Load, under
from kinopaint.engine.run import Painted, Progress, stylize_windows
from kinopaint.errors import InputError, SettingsError
from kinopaint.job import Job, recommended, unknown_recommended
from kinopaint.memory import choose_load, footprint, peak_memory
from kinopaint.models import in_float32, load_model
from kinopaint.models.pixels import padded, to_pictures, to_tensor
from kinopaint.recipe import check_additions, differences, make_recipe, write_sidecar
from kinopaint.settings import listener, option, path_text, seed_number, switch, whole
from kinopaint.text import shown
from kinopaint.types import Clip, Prompt
from kinopaint.video import (
    ClipReader,
    ClipWriter,
    DeliveryCheck,
    Frame,
    SizePlan,
    WrittenClip,
    open_clip,
    open_writer,
    plan_size,
)
from kinopaint.video.place import check_place
from kinopaint.video.shotlist import kept_cuts
from kinopaint.work import WorkFolder, work_folder

Picture = NDArray[np.uint8]  # RGB, (height, width, 3)
Listener = Callable[[dict[str, Any]], None]
PROGRESS_INTERVAL = 0.25  # seconds between two events within a window


@dataclass(frozen=True)
class StylizeResult:
    """`output` and `frames` as written, the `recipe` that is embedded there, what the `delivery` check found, and how
    often this call asked the network (`model_calls`; not counted is what an earlier, stopped run had done).
    """

    output: Path
    frames: int
    recipe: dict[str, Any]
    delivery: DeliveryCheck
    model_calls: int = 0


def stylize(
    input: str | PathLike[str],
    prompt: str,
    output: str | PathLike[str],
    *,
    sidecar: bool = False,
    progress: Listener | None = None,
    **settings: Any,
) -> StylizeResult:
    """Restyle a clip, or a picture, and write the result to `output`, whose ending chooses the format.

    `settings` are those of the command line with underscores (`kinopaint stylize --help`), and the fields of the
    method: method="style-a-video", model="mini", lora, controlnet, ip_adapter, image_prompt, vae,
    preset="balanced", seed=0, steps, negative_prompt, start, end, every=1, fps, size="source", work_size="auto",
    shots="auto", codec="auto", quality, no_audio, device="auto", dtype="auto", memory, download, allow_damaged,
    overwrite, resume, restart, keep_work, compile; s_text=6.0, text_branch="joint", … A field that is not given takes
    the model's recommended value, if it carries one, else the method's default.

    `progress` is called with dictionaries: `shots` while cuts are looked for, `start`, `progress` (both with
    frames_done, frames, eta_s), `warning`, `done`; without it warnings are Python's. Raises SettingsError,
    OutputError, ModelError, InputError, before any work where that can be known; nothing stands under `output`
    unless the whole result does. What is painted lies in OUTPUT.kinopaint until then, and the same call goes on
    from there, whatever stopped the last one.
    """
    job = Job.of(input, prompt, output, **settings)
    listener(progress)
    return run(job, sidecar=switch("sidecar", sidecar), progress=progress)


@torch.inference_mode(False)  # a caller's would take away the gradients that some methods need
def run(
    job: Job, *, sidecar: bool = False, progress: Listener | None = None, like: Mapping[str, Any] | None = None
) -> StylizeResult:
    """What `stylize` does. `like` is the recipe of another run, which this one repeats: with as much at once as that
    one, and ModelError (KP-MODEL-OTHER) if other things were put on the model.
    """
    job.check_output(sidecar=sidecar, resumable=os.path.exists(work_folder(job.place)))
    listen = progress or (lambda event: None)
    with _warnings_as_events(progress) as warn, WorkFolder(job.place) as work, device_errors():
        delivered = None if job.restart else work.delivered()
        if not delivered:
            job.check_output(sidecar=sidecar)
        earlier = (None if job.restart else delivered["recipe"] if delivered else work.recipe) or like
        with made_ready(job, Load.parse(str(earlier.get("load", ""))) if earlier else None, listen) as ready:
            recipe = make_recipe(ready)
            if like is not None:
                check_additions(recipe, like)
            if delivered and differences(delivered["recipe"], recipe, delivery=True):
                delivered = None
                job.check_output(sidecar=sidecar)
            begin, painting = time.monotonic(), Painting()
            if not delivered:
                _writer(ready, work, recipe).abort()  # whether it can be written at all shows now, not after hours
                work.begin(recipe, restart=job.restart)
                idle = () if like is not None else _idle(ready)  # a recipe names every setting
                for doubt in (*work.notes, *_doubts(ready, heard=progress is not None), *idle):
                    warn(doubt)
                painting = _paint(ready, work, listen, warn)
                seconds = {"planned": painting.expected, "measured": painting.seconds}
                delivered = _deliver(ready, work, {**recipe, "seconds": seconds}, warn)
            result = replace(_complete(job, work, delivered, sidecar=sidecar), model_calls=painting.calls)
        spent, peak = time.monotonic() - begin, peak_memory(ready.parts.device)
        if job.memory is not None and peak is not None and peak > job.memory:
            warn(f"the peak of memory was {peak / 1e6:.0f} MB, more than the {job.memory / 1e6:.0f} MB of --memory")
        told = {"seconds": spent, "memory": peak}
        told |= {"expected_seconds": painting.expected, "expected_memory": ready.expected_memory}
        listen({"event": "done", "output": str(job.place), "frames": result.frames, **told})
        return result


@dataclass(frozen=True)
class Painting:
    """How long painting took, in seconds; what the first window let `expected`; how often the network was asked."""

    seconds: float = 0.0
    expected: float | None = None
    calls: int = 0


def _paint(ready: Ready, work: WorkFolder, listen: Listener, warn: Callable[[str], None]) -> Painting:
    """Paint the windows that are not in the work folder yet."""
    clip, done, begin, expected, calls = ready.clip, work.frames, time.monotonic(), None, 0
    told = {"frames": clip.expected_frames, **_settings_told(ready), "work_size": list(ready.sizes.padded)}
    listen({"event": "start", **told, "frames_done": done})
    if work.painted:
        return Painting()
    tell = _teller(listen, begin, done)

    def follow(progress: Progress) -> None:
        nonlocal calls
        calls += progress.step > 0  # 0: a window is done
        tell(progress)

    carry = work.carry()
    windows = painted_windows(
        _fallen_back(ready, [each["step"] for each in work.fallbacks]),
        clip,
        on_progress=follow,
        resume_at=work.windows,
        carry=None if carry is None else unpack_carry(carry, ready.method),
    )
    with ThreadPoolExecutor(1) as beside:  # keeps a window while the next one is painted; leaving waits for it
        kept: Future[None] | None = None
        for window in windows:
            if window.fallback:
                first = window.window.fresh_numbers[0]
                why = "no usable picture" if "float32" in window.fallback else "out of memory"
                warn(f"{why} at frame {first}; going on with {window.fallback}")
            carry = pack_carry(window.carry, ready.method) if hasattr(ready.method, "start") else None
            pictures = to_pictures(window.frames)
            if kept is not None:
                kept.result()
            kept = beside.submit(work.keep, pictures, carry, window.fallback)
            if expected is None:
                painted = len(window.frames)
                expected = (time.monotonic() - begin) * (clip.expected_frames - done) / painted
        if kept is not None:
            kept.result()
    work.finish_painting()
    return Painting(round(time.monotonic() - begin, 3), expected and round(expected, 3), calls)


def _fallen_back(ready: Ready, changes: list[str]) -> Ready:
    """With all that an interrupted run had to change, so that it goes on as it would have."""
    parts, words = ready.parts, [word for change in changes for word in change.split("; ")]
    if "float32" in words:
        parts = in_float32(parts)
    loads = [load for load in map(Load.parse, words) if load is not None]
    return replace(ready, parts=under(loads[-1] if loads else ready.parts.load, parts))


def _deliver(ready: Ready, work: WorkFolder, recipe: dict[str, Any], warn: Callable[[str], None]) -> dict[str, Any]:
    """Encode what is painted, check it and give it its name. Returns the journal's entry about it."""
    memory = {
        "ceiling": ready.job.memory,
        "planned": ready.expected_memory,
        "measured": peak_memory(ready.parts.device),
    }
    recipe = {**recipe, "fallbacks": work.fallbacks, "memory": memory}

    def announce(result: Path, written: WrittenClip) -> None:
        whole = {**recipe, "delivery": written.delivery.as_dict()}
        work.announce(result, recipe=whole, frames=written.frames, metadata=written.metadata)

    with _writer(ready, work, recipe) as writer:
        pictures = work.pictures()
        for frame in ready.clip:
            picture = next(pictures, None)
            if picture is None:
                raise _changed(ready, work)
            writer.write(ready.sizes.restore(picture, frame.image), frame)
        if next(pictures, None) is not None:
            raise _changed(ready, work)
        written = writer.finish(announce)
    for note in (*ready.clip.warnings, *written.warnings):
        warn(note)
    return work.journal.entries[-1]


def _changed(ready: Ready, work: WorkFolder) -> InputError:
    return InputError(
        "KP-INPUT-CHANGED",
        f"the clip has another number of frames than when it was painted ({work.frames})",
        where=str(ready.job.input),
        fix="was it replaced meanwhile? Run again with --restart",
    )


def _complete(job: Job, work: WorkFolder, delivered: dict[str, Any], *, sidecar: bool) -> StylizeResult:
    """What is left to do when the result stands under its name, at once or after a crash in between."""
    if sidecar or not delivered["metadata"]:
        write_sidecar(job.sidecar, delivered["recipe"])
    if not job.keep_work:
        work.discard()
    check = DeliveryCheck.from_dict(delivered["recipe"]["delivery"])
    return StylizeResult(job.place, delivered["frames"], delivered["recipe"], check)


def _writer(ready: Ready, work: WorkFolder, recipe: dict[str, Any]) -> ClipWriter:
    job = ready.job
    return open_writer(
        job.output,
        source=ready.clip.info,
        size=ready.sizes.output,
        codec=job.codec,
        quality=job.quality,
        audio=not job.no_audio,
        overwrite=job.overwrite,
        metadata={"kinopaint": recipe},
        selection=job.selection,
        partial_folder=work.path,
    )


@torch.inference_mode(False)
def preview(
    input: str | PathLike[str],
    prompt: str,
    output: str | PathLike[str],
    *,
    frames: int | str = 3,
    progress: Listener | None = None,
    **settings: Any,
) -> Path:
    """Restyle a few `frames`, spread over the clip, and write a contact sheet: sources above, results below.

    The ending of `output` is .png, .jpg or .webp. Settings and errors are those of `stylize`, where they apply.
    """
    from kinopaint.sheet import check_ending, contact_sheet, write_picture

    check_ending(Path(path_text("output", output)))
    listener(progress)
    job = replace(Job.of(input, prompt, output, **settings), shots="off")
    count = whole("frames", frames, at_least=1)
    check_place(job.output.absolute(), job.input, overwrite=job.overwrite)
    listen = progress or (lambda event: None)
    with _warnings_as_events(progress) as warn, device_errors(), made_ready(job) as ready:
        for doubt in (*_doubts(ready, heard=progress is not None), *_idle(ready)):
            warn(doubt)
        begin = time.monotonic()
        chosen = _spread(ready.clip, count)
        listen(
            {"event": "start", "frames": len(chosen), **_settings_told(ready), "work_size": list(ready.sizes.padded)}
        )
        ready = replace(ready, cuts=tuple(range(1, len(chosen))))  # they are no neighbours
        windows = painted_windows(ready, chosen, count=len(chosen), on_progress=_teller(listen, begin))
        painted = chain.from_iterable(to_pictures(window.frames) for window in windows)
        sources = [(frame.image, f"{float(frame.time):.2f} s") for frame in chosen]
        restored = (ready.sizes.restore(picture, frame.image) for picture, frame in zip(painted, chosen, strict=True))
        results = [(picture, job.prompt.text) for picture in restored]
        write_picture(job.output, contact_sheet([sources, results]))
        for note in ready.clip.warnings:
            warn(note)
        listen({"event": "done", "output": str(job.output), "frames": len(chosen), "seconds": time.monotonic() - begin})
    return job.output


def stylize_frames(
    frames: Iterable[Picture], prompt: str, *, method: Any = None, parts: Components | None = None, seed: int = 0
) -> Iterator[Picture]:
    """Restyle pictures (uint8 RGB, (height, width, 3), all of one size); yields as many, of that size, in order.

    `method` is an instance such as `kinopaint.methods.StyleAVideo(s_text=6.0)`; without it Style-A-Video with the
    model's recommended values. `parts` is what `load_model` returned; without it the embedded model. Works window by
    window: only as many frames are drawn and held as a window takes. Sides that are no multiple of the model's are
    padded and cut back; words that the embedded model's captions did not have are put into the names of its styles.
    Raises SettingsError, ModelError, and InputError (KP-FRAMES-SHAPE) for other pictures.
    """
    words, number = Prompt(prompt), seed_number(seed)  # checked now, not at the first frame
    for name, given, fits, wanted in (
        ("frames", frames, hasattr(frames, "__iter__") or hasattr(frames, "__getitem__"), "an iterable of pictures"),
        ("method", method, _paints(method), "a method's instance, such as kinopaint.methods.StyleAVideo(s_text=6.0)"),
        ("parts", parts, isinstance(parts, Components), 'what kinopaint.load_model("mini") returns'),
    ):
        if not fits and not (given is None and name != "frames"):
            raise SettingsError("KP-SETTING-VALUE", f"{given!r} does not do here", where=name, fix=f"give {wanted}")
    return _stylize_frames(frames, words, method, parts, number)


def _paints(method: Any) -> bool:
    """Whether it is a method with its settings; a class is none yet, nor is a name."""
    return not isinstance(method, type) and all(hasattr(method, name) for name in ("windows", "prepare", "stylize"))


@torch.inference_mode(False)
@torch.no_grad()  # of a generator: only while it works, not in the code that draws its frames
def _stylize_frames(
    frames: Iterable[Picture], prompt: Prompt, method: Any, parts: Components | None, seed: int
) -> Iterator[Picture]:
    stream = iter(frames)
    try:
        first = next(stream)
    except StopIteration:
        return
    _check_picture(first, getattr(first, "shape", ()), 0)
    parts = replace(load_model("mini") if parts is None else parts, seed=seed)
    if method is None:
        from kinopaint.methods import StyleAVideo

        method = StyleAVideo(**recommended("style-a-video", parts))
    from kinopaint.styles import translated

    prompt = translated(prompt, parts.path)
    shape = np.shape(first)
    multiple = parts.autoencoder.factor

    def tensors() -> Iterator[torch.Tensor]:
        for index, picture in enumerate(chain((first,), stream)):
            _check_picture(picture, shape, index)
            yield padded(to_tensor(picture), multiple)

    height, width = shape[0] + -shape[0] % multiple, shape[1] + -shape[1] % multiple
    for done in stylize_windows(method, tensors(), Clip(height, width), prompt, parts, exact=_exact(parts)):
        yield from to_pictures(done.frames[..., : shape[0], : shape[1]])


def _check_picture(picture: Any, shape: tuple[int, ...], index: int) -> None:
    fits = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3
    if not fits or picture.shape[2] != 3 or not picture.size:
        found = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise InputError(
            "KP-FRAMES-SHAPE",
            f"expected an array of uint8 (height, width, 3), got {found}",
            where=f"frame {index}",
            fix="convert it to 8-bit RGB",
        )
    if picture.shape != shape:
        raise InputError(
            "KP-FRAMES-SHAPE",
            f"this frame is {picture.shape}, the first one {shape}",
            where=f"frame {index}",
            fix="bring all frames to one size",
        )


@dataclass(frozen=True)
class Ready:
    """Everything open and loaded that a job needs."""

    job: Job
    clip: ClipReader
    parts: Components
    method: Any
    sizes: SizePlan
    cuts: tuple[int, ...] = ()  # frames that begin a shot
    expected_memory: int | None = None  # peak in bytes, as the planner predicts it

    @property
    def prompt(self) -> Prompt:
        """The job's prompt in the words that the model knows."""
        from kinopaint.styles import translated

        return translated(self.job.prompt, self.parts.path)


@contextmanager
def made_ready(job: Job, load: Load | None = None, listen: Listener = lambda event: None) -> Iterator[Ready]:
    """Check that the model is there, open the clip, load the model: what is quick to find out comes first.

    `load` is what an earlier run of the same job computed at once; None: the planner chooses. `listen` is told how far
    the search for cuts is, by `shots` events.
    """
    job.check_model()
    asked = job.selection
    with open_clip(
        job.input,
        start=asked.start,
        end=asked.end,
        every=asked.every,
        fps=job.fps,
        allow_damaged=job.allow_damaged,
    ) as clip:
        cuts = kept_cuts(clip, job.shots, listen)
        loaded = load_model(
            job.model,
            device=job.device,
            dtype=job.wanted_dtype,
            download=job.download,
            compile=job.compile,
            **asdict(job.additions),
        )
        parts = job.profile.applied(replace(loaded, seed=job.seed))
        sizes = plan_size(
            clip.info.width,
            clip.info.height,
            size=job.size,
            work_size=job.work_size,
            multiple=parts.autoencoder.factor,
        )
        method = job.method(recommended(job.method_name, parts))
        found = footprint(
            parts,
            sizes.padded[1],
            sizes.padded[0],
            method.windows.size,
            through_decoder=getattr(method, "through_decoder", False),
        )
        together = getattr(method, "together", 1)
        load = choose_load(found, parts.device, job.memory, load, together=together)
        yield Ready(job, clip, under(load, parts), method, sizes, cuts, found.peak(load, together))


@torch.no_grad()
def painted_windows(
    ready: Ready,
    frames: Iterable[Frame],
    *,
    count: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    resume_at: int = 0,
    carry: Any = None,
) -> Iterator[Painted]:
    """The windows of these source frames, painted at the padded work size, from window `resume_at` on."""
    width, height = ready.sizes.padded
    shape = Clip(height, width, count or ready.clip.expected_frames, ready.cuts)
    yield from stylize_windows(
        ready.method,
        (to_tensor(ready.sizes.prepare(frame.image)) for frame in frames),
        shape,
        ready.prompt,
        ready.parts,
        on_progress=on_progress,
        exact=_exact(ready.parts),
        resume_at=resume_at,
        carry=carry,
        frugal=True,
    )


def _exact(parts: Components) -> Callable[[], Components] | None:
    """How to get the same model in float32, for windows that fail in less; None if it came from no folder."""
    return (lambda: in_float32(parts)) if parts.path else None


def _spread(clip: ClipReader, count: int) -> list[Frame]:
    """Frames from the middles of `count` equal parts of the clip; fewer if it has not as many."""
    total = clip.expected_frames
    wanted = {(2 * part + 1) * total // (2 * count) for part in range(count)}
    chosen = []
    for frame in clip:
        if frame.index in wanted:
            chosen.append(frame)
        if frame.index >= max(wanted):
            break
    return chosen


def _settings_told(ready: Ready) -> dict[str, Any]:
    """What a `start` event says about the run, besides its frames."""
    return {
        "method": ready.job.method_name,
        "model": ready.job.model,
        "steps": _steps(ready.method),
        "device": str(ready.parts.device),
    }


def _steps(method: Any) -> int | None:
    return getattr(method, "num_inference_steps", None)


def _teller(listen: Listener, begin: float, before: int = 0) -> Callable[[Progress], None]:
    """Turn the engine's progress into events with the time left, a few per second; `before`: frames of earlier runs."""
    last = 0.0

    def tell(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        window_done = progress.step == 0
        if not window_done and now - last < PROGRESS_INTERVAL:
            return
        last = now
        done = progress.frames_done + progress.window_frames * min(1.0, progress.step / progress.steps)
        left = None
        if progress.frames is not None and done > before:
            left = round((now - begin) / (done - before) * max(0.0, progress.frames - done), 1)
        frames = {"frames_done": progress.frames_done, "frames": progress.frames}
        listen({"event": "progress", **frames, "eta_s": left})

    return tell


@contextmanager
def _warnings_as_events(listen: Listener | None) -> Iterator[Callable[[str], None]]:
    """A function that warns: by an event if somebody listens, and then Python's own warnings, which third parties
    mean for developers, are kept back; else by `warnings`.
    """
    if listen is None:
        yield lambda text: warnings.warn(shown(text), stacklevel=3)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield lambda text: listen({"event": "warning", "message": text})


def _doubts(ready: Ready, *, heard: bool) -> Iterator[str]:
    """What is doubtful about words and model; with `heard` also what the text encoder says by a warning of its own."""
    encoder, words = ready.parts.text_encoder, ready.job.prompt.text
    for text in (ready.prompt.text, ready.prompt.negative) if heard else ():  # as they are asked
        if cut := encoder.beyond_limit(text):
            yield f"the text encoder reads {encoder.max_tokens} tokens; it will not see: {cut}"
    if ready.prompt != ready.job.prompt:
        yield f"{words!r} is read as {ready.prompt.text!r}"
    if unknown := unknown_recommended(ready.job.method_name, ready.parts):
        yield f"the model's kinopaint.json recommends what is not known here and is left out: {', '.join(unknown)}"
    steps, strength = _steps(ready.method), getattr(ready.method, "strength", 1.0)
    if steps and strength and int(steps * strength) == 0:
        yield f"strength {strength:g} of {steps} steps is no whole step: nothing is painted"
    schedule = ready.parts.schedule
    if schedule.stands_in_for and getattr(ready.method, "sampler", "") == "checkpoint":
        yield f"{schedule.sampler} stands in for the checkpoint's own sampler, {schedule.stands_in_for}"
    if ready.job.model == "mini":
        from kinopaint.styles import advice

        if note := advice(words, encoder):
            yield note


def _idle(ready: Ready) -> Iterator[str]:
    """What was asked for and does nothing beside the other settings."""
    asked = {*ready.job.given, *(("negative_prompt",) if ready.job.prompt.negative else ())}
    for name, why in getattr(ready.method, "idle", {}).items():  # methods of other packages need not tell
        if name in asked:
            yield f"{option(name)} does nothing {why}"
