"""What satisfies the engine's protocols: networks in diffusers layout, and the embedded model."""

from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinopaint.engine.components import Components
    from kinopaint.models.hashes import weight_hashes
    from kinopaint.models.loading import in_float32, load_model
    from kinopaint.models.lora_file import read_lora

__all__ = ["Components", "in_float32", "load_model", "mini_path", "read_lora", "weight_hashes"]


def mini_path() -> Path:
    """The folder of the embedded model, in diffusers layout, inside the installed package."""
    return Path(str(files("kinopaint.models") / "mini"))


_HOME = {
    "Components": "kinopaint.engine.components",
    "in_float32": "kinopaint.models.loading",
    "load_model": "kinopaint.models.loading",
    "read_lora": "kinopaint.models.lora_file",
    "weight_hashes": "kinopaint.models.hashes",
}


def __getattr__(name: str) -> Any:  # torch is imported with the first use, not with the package
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
