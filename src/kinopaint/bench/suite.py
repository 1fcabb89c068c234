"""A suite as TOML, and its cells.

name = "mini"                       # default: the file's name
model = "mini"                      # as --model; default: mini
prompts = ["a watercolor painting", "a pencil sketch"]
methods = ["style-a-video"]         # or [[methods]] tables: name, label, settings
presets = ["balanced", "fast"]      # default: balanced
references = true                   # rows of what games metrics; default: true
renderings = false                  # rows of the generator's own renderings (needs training/); default: false

[settings]                          # of every cell: what `kinopaint stylize` takes, with underscores
work_size = "256x128"

[[clips]]
file = "clip.mp4"                   # seen from the suite; or demo = "coffee" and frames = 8, a generated clip
name = "street"                     # default: the file's name
start = 1.0                         # and end, every: as in `kinopaint stylize`
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinopaint.errors import InputError, SettingsError, did_you_mean
from kinopaint.text import shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RENDERING = "rendering"  # the pseudo-method of the generator's own renderings
_PART = ("start", "end", "every")
_OURS = ("input", "output", "prompt", "method", "preset", "model", "overwrite", "restart", "resume", "keep_work")


@dataclass(frozen=True)
class ClipEntry:
    """A clip by `file`, or one of `kinopaint.demo` by its scene and number of `frames`; `part`: start, end, every."""

    name: str
    file: Path | None
    demo: str | None
    frames: int
    part: dict[str, Any]


@dataclass(frozen=True)
class MethodEntry:
    name: str
    label: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run: what is done to which clip. `settings` are keyword arguments of `kinopaint.stylize`."""

    clip: ClipEntry
    prompt: str
    method: str
    label: str
    preset: str
    model: str
    settings: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{self.clip.name}, {self.prompt}, {self.label}{f', {self.preset}' if self.preset else ''}"


@dataclass(frozen=True)
class Suite:
    path: Path
    name: str
    clips: tuple[ClipEntry, ...]
    prompts: tuple[str, ...]
    methods: tuple[MethodEntry, ...]
    presets: tuple[str, ...]
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    references: bool = True
    renderings: bool = False

    def cells(self) -> Iterator[Cell]:
        """Every combination, those of one clip and prompt together; the renderings first."""
        for clip in self.clips:
            for prompt in self.prompts:
                if self.renderings:
                    yield Cell(clip, prompt, RENDERING, RENDERING, "", "", dict(clip.part))
                for method in self.methods:
                    for preset in self.presets:
                        given = {**self.settings, **method.settings, **clip.part}
                        yield Cell(clip, prompt, method.name, method.label, preset, self.model, given)


def read_suite(path: Path) -> Suite:
    """Read and check a suite. Raises InputError (KP-SUITE-MISSING, -SYNTAX) and SettingsError (KP-SUITE-KEY, -VALUE,
    and what `stylize` says to the settings of a cell).
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "KP-SUITE-MISSING", f"cannot read the suite: {error.strerror}", where=shown(path), fix="check the name"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            "KP-SUITE-SYNTAX", f"this is not TOML: {error}", where=shown(path), fix="see https://toml.io"
        ) from None
    reader = _Reader(path)
    keys = ("name", "model", "prompts", "methods", "presets", "references", "renderings", "settings", "clips")
    reader.keys(table, keys, "the suite")
    settings = reader.value(table, "settings", dict, {}, "the suite")
    reader.settings(settings, "[settings]")
    suite = Suite(
        path=path,
        name=reader.value(table, "name", str, path.stem, "the suite"),
        clips=tuple(reader.clip(entry, place) for place, entry in enumerate(reader.some(table, "clips"), 1)),
        prompts=tuple(reader.texts(table, "prompts")),
        methods=tuple(reader.method(entry) for entry in reader.some(table, "methods")),
        presets=tuple(reader.texts(table, "presets", ["balanced"])),
        model=reader.value(table, "model", str, "mini", "the suite"),
        settings=settings,
        references=reader.value(table, "references", bool, True, "the suite"),
        renderings=reader.value(table, "renderings", bool, False, "the suite"),
    )
    for key, names in (
        ("clips", [clip.name for clip in suite.clips]),
        ("methods", [method.label for method in suite.methods]),
        ("prompts", suite.prompts),
        ("presets", suite.presets),
    ):
        if twice := next((name for name in names if list(names).count(name) > 1), None):
            raise reader.wrong(key, f"{twice!r} is there twice", "give each its own name (methods: label)")
    return suite


def check_cells(suite: Suite) -> None:
    """Let every cell's settings be checked as `stylize` would; nothing is opened. Raises SettingsError."""
    from kinopaint.job import Job

    for cell in suite.cells():
        if cell.method != RENDERING:
            source = cell.clip.file or Path(f"{cell.clip.demo}.mp4")
            words: dict[str, Any] = {"method": cell.method, "preset": cell.preset, "model": cell.model}
            try:
                Job.of(source, cell.prompt, "result.mp4", **words, **cell.settings)
            except SettingsError as error:
                error.where = f"{shown(suite.path)}, {shown(cell.title)}: {error.where}"
                raise


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path

    def wrong(self, where: str, what: str, fix: str, code: str = "KP-SUITE-VALUE") -> SettingsError:
        return SettingsError(code, what, where=f"{shown(self.path)}, {where}", fix=fix)

    def keys(self, table: Mapping[str, Any], known: Collection[str], where: str) -> None:
        for name in table:
            if name not in known:
                raise self.wrong(where, f"there is no key {name!r} here", did_you_mean(name, known), "KP-SUITE-KEY")

    def value(self, table: Mapping[str, Any], key: str, kind: type, default: Any, where: str) -> Any:
        value = table.get(key, default)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            words = {str: "a text in quotes", bool: "true or false", dict: "a table", int: "a whole number"}[kind]
            raise self.wrong(where, f"{key} is {value!r}, not {words}", f"write {key} as {words}")
        return value

    def some(self, table: Mapping[str, Any], key: str, default: Any = None) -> list[Any]:
        found = table.get(key, default)
        if not isinstance(found, list) or not found:
            raise self.wrong("the suite", f"{key} has to be a list of at least one", "docs/metrics.md has an example")
        return found

    def texts(self, table: Mapping[str, Any], key: str, default: Any = None) -> list[str]:
        found = self.some(table, key, default)
        if wrong := next((one for one in found if not isinstance(one, str) or not one.strip()), None):
            raise self.wrong(key, f"{wrong!r} is not a text", f'write {key} = ["…", "…"]')
        return found

    def settings(self, table: Mapping[str, Any], where: str) -> None:
        for name in table:
            if name in _OURS:
                raise self.wrong(
                    where, f"{name} is no setting of a cell", "the suite has a place of its own for it", "KP-SUITE-KEY"
                )
            if name in _PART:
                raise self.wrong(where, f"{name} belongs to a clip", f"write {name} in [[clips]]", "KP-SUITE-KEY")

    def method(self, entry: Any) -> MethodEntry:
        if isinstance(entry, str):
            entry = {"name": entry}
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise self.wrong("methods", f"{entry!r} names no method", 'write methods = ["style-a-video"]')
        where = f"methods, {entry['name']}"
        self.keys(entry, ("name", "label", "settings"), where)
        settings = self.value(entry, "settings", dict, {}, where)
        self.settings(settings, where)
        return MethodEntry(entry["name"], self.value(entry, "label", str, entry["name"], where), settings)

    def clip(self, entry: Any, place: int) -> ClipEntry:
        where = f"clip {place}"
        if not isinstance(entry, dict) or ("file" in entry) == ("demo" in entry):
            raise self.wrong(
                where, "a clip is a table with either file or demo", 'write [[clips]] and file = "clip.mp4"'
            )
        self.keys(entry, ("name", "file", "demo", "frames", *_PART), where)
        part = {name: entry[name] for name in _PART if name in entry}
        if "demo" in entry:
            from kinopaint.demo import SCENES

            scene = self.value(entry, "demo", str, "", where)
            if scene not in SCENES:
                raise self.wrong(where, f"there is no scene {scene!r}", did_you_mean(scene, SCENES))
            frames = self.value(entry, "frames", int, 48, where)
            if frames < 1:
                raise self.wrong(where, f"frames is {frames}", "write a number of at least 1")
            return ClipEntry(self.value(entry, "name", str, scene, where), None, scene, frames, part)
        if "frames" in entry:
            raise self.wrong(where, "frames is for generated clips", "choose a part with start and end", "KP-SUITE-KEY")
        file = self.path.absolute().parent / self.value(entry, "file", str, "", where)
        if not file.is_file():
            raise InputError("KP-INPUT-MISSING", "no such file", where=f"{shown(self.path)}, {where}: {shown(file)}")
        return ClipEntry(self.value(entry, "name", str, file.stem, where), file, None, 0, part)
