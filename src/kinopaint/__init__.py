"""Kinopaint: text-driven video restyling.

    import kinopaint
    kinopaint.stylize("in.mp4", "a watercolor painting", "out.mp4")

Names are imported when they are first used, so that `import kinopaint` costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinopaint import errors as errors
    from kinopaint import methods as methods
    from kinopaint import models as models
    from kinopaint.api import StylizeResult as StylizeResult
    from kinopaint.api import preview as preview
    from kinopaint.api import stylize as stylize
    from kinopaint.api import stylize_frames as stylize_frames
    from kinopaint.evaluation import Evaluation as Evaluation
    from kinopaint.evaluation import evaluate as evaluate
    from kinopaint.evaluation import evaluate_all as evaluate_all
    from kinopaint.methods import available_methods as available_methods
    from kinopaint.models import load_model as load_model
    from kinopaint.repeat import again as again

__version__ = "0.1.0.dev0"

_HOME = {
    "Evaluation": "kinopaint.evaluation",
    "StylizeResult": "kinopaint.api",
    "again": "kinopaint.repeat",
    "available_methods": "kinopaint.methods",
    "evaluate": "kinopaint.evaluation",
    "evaluate_all": "kinopaint.evaluation",
    "load_model": "kinopaint.models",
    "preview": "kinopaint.api",
    "stylize": "kinopaint.api",
    "stylize_frames": "kinopaint.api",
}
_MODULES = ("errors", "methods", "models")

__all__ = [
    "Evaluation",
    "StylizeResult",
    "again",
    "available_methods",
    "errors",
    "evaluate",
    "evaluate_all",
    "load_model",
    "methods",
    "models",
    "preview",
    "stylize",
    "stylize_frames",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"kinopaint.{name}")
    if name in _HOME:
        value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value
    raise AttributeError(f"module 'kinopaint' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
