"""One HTML file that needs nothing else: no network, no library, no folder beside it.

Texts go in through a template that escapes them, data as JSON in which no tag can end; the page's own policy allows
no script but ours and no address at all.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from kinopaint import __version__
from kinopaint.errors import InternalError
from kinopaint.text import shown
from kinopaint.video.place import write_whole

LARGEST = 20_000_000  # bytes


def render(template: str, script: str, **context: Any) -> str:
    """The page as text; `script` names the file of its code."""
    folder = resources.files("kinopaint.report") / "templates"
    code = (folder / script).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kinopaint.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    return environment.get_template(template).render(
        **context,
        style=Markup((folder / "style.css").read_text(encoding="utf-8")),
        code=Markup(code),
        policy=f"default-src 'none'; img-src data:; media-src data: blob:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'",
        version=__version__,
    )


def write_page(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write the page whole or not at all. Raises OutputError."""
    data = text.encode()
    if len(data) > LARGEST:
        raise InternalError("KP-REPORT-SIZE", f"the page would take {len(data)} bytes, more than {LARGEST}")
    write_whole(path, data, overwrite=overwrite)
