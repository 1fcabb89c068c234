"""The command line: `kinopaint COMMAND …`; interface.md's contract of options, outputs and exit codes.

Each command is a module with `parser(argv)` and `run(given)`; only the one that is asked for is imported, and torch
only when a command needs it. Every failure is one block on standard error: code, what, where, what to do.
"""

from __future__ import annotations

import codecs
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise

from kinopaint import __version__
from kinopaint.errors import InternalError, KinopaintError, OutputError, SettingsError, Stopped, did_you_mean
from kinopaint.text import to_json

COMMANDS = {
    "stylize": "restyle a clip (or a picture) with words",
    "preview": "the same on a few frames, as a contact sheet, in seconds",
    "probe": "say what a clip is: streams, exact rates, rotation, colour, timing problems",
    "methods": "list the methods, or one with its parameters, paper and cost",
    "again": "repeat the run whose recipe a result carries",
    "evaluate": "measure a result: prompt, faithfulness, steadiness; with limits for scripts",
    "compare": "measure several results of one source, side by side",
    "bench": "run clips × prompts × methods × presets: results, metrics, time, memory, one page",
    "styles": "list the styles that the embedded model knows, or the nearest to some words",
    "models": "list the models that can be used; verify one, add one",
    "doctor": "say what works on this machine: devices, codecs, models, extras",
}


def usage() -> str:
    lines = ["usage: kinopaint COMMAND …", "", "Text-driven video restyling, offline.", ""]
    lines += [f"  kinopaint {name:<8} {does}" for name, does in COMMANDS.items()]
    lines += ["", "  kinopaint COMMAND --help   every option with its default and unit", "  kinopaint --version"]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (0 to 7, as interface.md lists them)."""
    words = list(sys.argv[1:] if argv is None else argv)
    _print_everything()
    try:
        with _stoppable():
            return _dispatch(words)
    except SystemExit as end:  # argparse has printed its help
        return end.code if isinstance(end.code, int) else 2
    except BrokenPipeError:  # the reader of our output has gone; keep the interpreter from complaining at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KinopaintError as error:
        failure = error
    except KeyboardInterrupt:
        failure = Stopped(
            "KP-STOPPED",
            "stopped by a signal; nothing stands under the final name",
            fix="run the same command again",
        )
    except MemoryError:
        failure = InternalError("KP-MEMORY", "out of memory", fix="use a smaller --work-size")
    except OSError as error:  # whatever the parts did not name themselves: a full disk, a vanished folder
        failure = OutputError(
            "KP-OUTPUT-WRITE",
            error.strerror or str(error),
            where=str(error.filename or ""),
            fix="check the place and its free space",
        )
        failure.__cause__ = error
    except Exception as error:
        failure = InternalError(
            "KP-INTERNAL",
            f"{type(error).__name__}: {error}",
            fix="this is a fault of Kinopaint; run again with --debug and report what it prints",
        )
        failure.__cause__ = error
    report(failure, words)
    return failure.exit_code


def _print_everything() -> None:
    """Have letters that the encoding of our output lacks written as escapes, which JSON reads, in place of failing."""
    codecs.register_error("kinopaint-escaped", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="kinopaint-escaped")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and a closed terminal end a command as Ctrl-C does: what is open is closed, finished work is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    kinds = [kind for kind in kinds if signal.getsignal(kind) != signal.SIG_IGN]  # nohup is meant
    before = [signal.signal(kind, signal.default_int_handler) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"kinopaint {__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        raise SettingsError("KP-USAGE", f"unknown {kind} {name!r}", fix=did_you_mean(name, COMMANDS))
    command = import_module(f"kinopaint.cli.{name}")
    code: int = command.run(command.parser(words[1:]).parse_args(words[1:]))
    return code


def report(error: KinopaintError, words: Sequence[str]) -> None:
    """Print a failure on standard error: as a JSON object where `--progress json` was asked for, else as one block."""
    if "--debug" in words:
        import traceback

        traceback.print_exception(error)
    as_json = "--progress=json" in words or ("--progress", "json") in pairwise(words)
    if as_json:
        print(to_json({"event": "error", **error.as_dict()}), file=sys.stderr, flush=True)
    else:
        print(error, file=sys.stderr, flush=True)
