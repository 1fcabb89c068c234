"""The published methods, one per file; each is loaded when it is first asked for."""

from typing import TYPE_CHECKING, Any

from kinopaint.methods._registry import available_methods, get_method

if TYPE_CHECKING:
    from kinopaint.methods.fresco import Fresco
    from kinopaint.methods.pix2video import Pix2Video
    from kinopaint.methods.style_a_video import StyleAVideo

__all__ = ["Fresco", "Pix2Video", "StyleAVideo", "available_methods", "get_method"]


def __getattr__(name: str) -> Any:
    from kinopaint.methods import _registry

    for method, target in _registry.BUILT_IN.items():
        if target.endswith(":" + name):
            return get_method(method)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
