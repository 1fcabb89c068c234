"""Numbers of a result beside its source: `kinopaint.evaluate("in.mp4", "out.mp4", prompt="a watercolor painting")`.

Frames are paired in order; each pair must have the same time, counted from the first frame of its clip, within half a
frame. Metrics see 8-bit RGB. Where sizes differ, the larger picture is reduced to the smaller's size, as long as the
shapes agree. Flow is estimated on the source at the smallest size, reduced to at most 512 pixels on the short side.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import zip_longest
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinopaint.errors import InputError, QualityGateError
from kinopaint.flow import DisFlow, FlowEstimator
from kinopaint.metrics.catalogue import CATALOGUE
from kinopaint.metrics.gates import Gate
from kinopaint.metrics.measure import SHORT_SIDE, SOURCE, Moment, measure
from kinopaint.metrics.references import REFERENCES
from kinopaint.metrics.worst import WorstFrame, worst_frames
from kinopaint.settings import listener, path_text, refuse, switch, whole
from kinopaint.text import shown
from kinopaint.types import Prompt
from kinopaint.video import ClipReader, open_clip
from kinopaint.video.sequence import find_sequence
from kinopaint.video.shotlist import kept_cuts, parse_shots
from kinopaint.video.timecode import Selection, Time, parse_rate

if TYPE_CHECKING:
    from kinopaint.metrics.encoder import PairEncoder

Listener = Callable[[dict[str, Any]], None]
SHAPE_TOLERANCE = 0.02  # relative difference of width / height that is still one shape
PROGRESS_INTERVAL = 0.5  # seconds between two events


@dataclass(frozen=True)
class Evaluation:
    """`metrics` of the result, `source_metrics` of the untouched source where it has its own, `references` of the
    videos in `kinopaint.metrics.references`, by name; None is undefined, and `undefined` says why. `per_frame` has one
    entry per frame, `times` are in seconds from the first frame, `cuts` the frames that begin a new shot of the source.
    `encoder` made the CLIP-type scores.
    """

    source: Path
    result: Path
    prompt: str | None
    selection: Selection
    frames: int
    rate: float
    times: tuple[float, ...]
    sizes: dict[str, tuple[int, int]]  # width, height: source, result, flow
    flow: str
    encoder: str | None
    metrics: dict[str, float | None]
    source_metrics: dict[str, float | None]
    per_frame: dict[str, list[float | None]]
    source_per_frame: dict[str, list[float | None]]
    cuts: tuple[int, ...]
    worst: tuple[WorstFrame, ...]
    undefined: dict[str, str]
    references: dict[str, dict[str, float | None]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON; undefined numbers are null."""
        return {
            "source": str(self.source),
            "result": str(self.result),
            "prompt": self.prompt,
            "start": None if self.selection.start is None else str(self.selection.start),
            "end": None if self.selection.end is None else str(self.selection.end),
            "every": self.selection.every,
            "frames": self.frames,
            "rate": self.rate,
            "sizes": {name: list(size) for name, size in self.sizes.items()},
            "flow": self.flow,
            "encoder": self.encoder,
            "metrics": self.metrics,
            "source_metrics": self.source_metrics,
            "references": self.references,
            "undefined": self.undefined,
            "notes": list(self.notes),
            "cuts": list(self.cuts),
            "worst": [frame.as_dict() for frame in self.worst],
            "times": list(self.times),
            "per_frame": self.per_frame,
            "source_per_frame": self.source_per_frame,
        }

    def check(self, gates: Iterable[Gate | str]) -> None:
        """Raise QualityGateError (KP-GATE-FAILED) if one of the conditions, such as "e_warp>0.05", is true."""
        read = [gate if isinstance(gate, Gate) else Gate.parse(gate) for gate in gates]
        failures = [failure for gate in read if (failure := gate.failure(self.metrics, self.undefined))]
        if failures:
            raise QualityGateError(
                "KP-GATE-FAILED", "; ".join(failures), where=shown(self.result), fix="look at its worst frames"
            )


def evaluate(
    source: str | PathLike[str], result: str | PathLike[str], *, prompt: str | None = None, **settings: Any
) -> Evaluation:
    """Measure a result against its source. `settings` and errors are those of `evaluate_all`."""
    return evaluate_all(source, [result], prompt=prompt, **settings)[0]


def evaluate_all(
    source: str | PathLike[str],
    results: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    prompt: str | None = None,
    source_prompt: str = "a photo",
    clip: str | PathLike[str] | None = None,
    start: Time = None,
    end: Time = None,
    every: int | str = 1,
    fps: Time = None,
    shots: str | PathLike[str] | Sequence[int | str | Fraction] = "auto",
    references: bool = False,
    flow: FlowEstimator | None = None,
    short_side: int | str = SHORT_SIDE,
    download: bool = False,
    device: str = "cpu",
    progress: Listener | None = None,
) -> list[Evaluation]:
    """Measure several results of one source in a single pass, which estimates the flow once.

    `start`, `end` and `every` name the part of the source that was restyled, as in `stylize`; results are read whole.
    `fps` is the rate of image sequences; without it a result that is one has the source's. `shots` are the source's
    scene cuts, as in `stylize`: the worst frames are judged within their shot.
    `source_prompt` is the source's caption for Fra-Acc. `clip` is a model for the CLIP-type scores (`load_clip`);
    without it the embedded pair, whose scores compare only among themselves. `references` adds videos that game
    metrics. `progress` is called with the events `progress` and `warning` of `stylize`; without it warnings are
    Python's.

    Raises SettingsError, ModelError, and InputError: KP-EVALUATE-FRAMES and KP-EVALUATE-TIMES if frames do not pair,
    KP-EVALUATE-SHAPE if a result has another shape than its source, and the codes of `open_clip`.
    """
    source = path_text("source", source)
    listed = [results] if isinstance(results, str | PathLike) or not isinstance(results, Iterable) else results
    paths = [path_text("result", each) for each in listed]
    for text in ("a" if prompt is None else prompt, source_prompt):
        if not isinstance(text, str) or text.strip():
            Prompt(text)  # raises where it is no text
    listener(progress)
    if flow is not None and not hasattr(flow, "estimate"):
        raise refuse("flow", flow, "a FlowEstimator", fix="leave it out for DIS, or give kinopaint.flow.DisFlow()")
    download, references = switch("download", download), switch("references", references)
    every = whole("every", every, at_least=1)
    marks = parse_shots(shots)
    rate = None if fps is None else parse_rate(fps)
    short_side = whole("short_side", short_side, at_least=16)
    clip = None if clip is None else path_text("clip", clip, wanted="a name or a path")
    encoder, lacking = _encoder(clip, device=device, download=download)
    estimator = flow or DisFlow()
    names = {f"result {place}": Path(result) for place, result in enumerate(paths)}
    with ExitStack() as stack, warnings.catch_warnings(record=progress is not None) as caught:
        numbered = find_sequence(source) is not None
        original = stack.enter_context(
            open_clip(source, start=start, end=end, every=every, fps=rate if numbered else None)
        )
        rate = rate or original.info.rate / every
        readers = {
            name: stack.enter_context(open_clip(path, fps=rate if find_sequence(path) else None))
            for name, path in names.items()
        }
        for reader in readers.values():
            _check_pair(original, reader)
        cuts = kept_cuts(original, marks)
        found = measure(
            _reporting(_moments(original, readers), original.expected_frames, progress),
            flow=estimator,
            encoder=encoder,
            prompt=prompt,
            source_prompt=source_prompt,
            short_side=short_side,
            references=references,
            no_encoder=lacking,
        )
    if encoder is not None and encoder.own:
        lacking = "the CLIP-type scores are of the embedded pair and compare only among themselves"
    across = f"pairs of frames across the source's scene cuts ({len(cuts)}) count like any other" if cuts else ""
    heard = [str(warning.message) for warning in caught or ()]
    own = found.rows[SOURCE]
    made = []
    for name, path in names.items():
        row = found.rows[name]
        notes = (lacking, across, *heard, *original.warnings, *readers[name].warnings)
        made.append(
            Evaluation(
                source=Path(source),
                result=path,
                prompt=prompt,
                selection=original.selection,
                frames=len(found.times),
                rate=found.rate,
                times=found.times,
                sizes={"source": _size(original), "result": _size(readers[name]), "flow": found.size},
                flow=estimator.identity,
                encoder=None if encoder is None else encoder.name,
                metrics=row.metrics,
                source_metrics={key: own.metrics[key] for key, about in CATALOGUE.items() if about.of_source},
                per_frame=row.per_frame,
                source_per_frame=own.per_frame,
                cuts=cuts,
                worst=worst_frames(row.per_frame, own.per_frame, found.times, cuts),
                undefined=row.undefined,
                references={key: found.rows[key].metrics for key in (SOURCE, *REFERENCES)} if references else {},
                notes=tuple(dict.fromkeys(note for note in notes if note)),
            )
        )
    return made


def _encoder(clip: str | PathLike[str] | None, *, device: str, download: bool) -> tuple[PairEncoder | None, str]:
    """The pair for the CLIP-type scores; if the embedded model, which is the default, has none, the reason."""
    from kinopaint.models import mini_path
    from kinopaint.models.clip import has_pair, load_clip

    if clip is None and not has_pair(mini_path()):
        return None, "the embedded model has no image encoder yet; --clip names another pair"
    return load_clip(fspath(clip or "mini"), device=device, download=download), ""


def _check_pair(source: ClipReader, result: ClipReader) -> None:
    """Refuse at once what can be seen without decoding."""
    ours, theirs = source.expected_frames, result.expected_frames
    if ours != theirs and not (source.info.interlaced or result.info.interlaced):  # there packets may be fields
        raise _unequal(result, f"the source has {ours} frames, the result {theirs}")
    (width, height), (result_width, result_height) = _size(source), _size(result)
    if abs(width * result_height / (height * result_width) - 1) > SHAPE_TOLERANCE:
        raise InputError(
            "KP-EVALUATE-SHAPE",
            f"the source is {width}x{height}, the result {result_width}x{result_height}: another shape",
            where=shown(result.info.path),
            fix="compare clips of the same picture, at any size",
        )


def _moments(source: ClipReader, results: Mapping[str, ClipReader]) -> Iterator[Moment]:
    """The frames of all clips side by side. Raises InputError if they do not pair."""
    starts: list[Fraction] = []
    for frames in zip_longest(source, *results.values()):
        for frame, reader in zip(frames, (source, *results.values()), strict=True):
            if frame is None:
                most = max(other.index for other in frames if other is not None) + 1
                raise _unequal(reader, f"it ends before another clip, which has at least {most} frames")
        starts = starts or [frame.time for frame in frames]
        first, *others = [frame.time - start for frame, start in zip(frames, starts, strict=True)]
        tolerance = min((frame.duration for frame in frames if frame.duration), default=Fraction(1, 25)) / 2
        for at, reader in zip(others, results.values(), strict=True):
            if abs(at - first) > tolerance:
                raise InputError(
                    "KP-EVALUATE-TIMES",
                    f"the source shows this frame at {float(first):.3f} s, the result at {float(at):.3f} s",
                    where=f"{shown(reader.info.path)}, frame {frames[0].index}",
                    fix="name the part of the source that was restyled with --start, --end and --every",
                )
        yield Moment(
            float(first),
            frames[0].image,
            {name: frame.image for name, frame in zip(results, frames[1:], strict=True)},
        )


def _unequal(reader: ClipReader, what: str) -> InputError:
    return InputError(
        "KP-EVALUATE-FRAMES",
        what,
        where=shown(reader.info.path),
        fix="name the part of the source that was restyled with --start, --end and --every",
    )


def _size(reader: ClipReader) -> tuple[int, int]:
    return reader.info.width, reader.info.height


def _reporting(moments: Iterable[Moment], frames: int, listen: Listener | None) -> Iterator[Moment]:
    begin = last = time.monotonic()
    for done, moment in enumerate(moments, 1):
        yield moment
        now = time.monotonic()
        if listen is not None and (now - last > PROGRESS_INTERVAL or done == frames):
            last = now
            left = round((now - begin) / done * max(0, frames - done), 1)
            listen({"event": "progress", "frames_done": done, "frames": frames, "eta_s": left})
