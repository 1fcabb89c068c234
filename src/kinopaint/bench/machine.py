"""What a number was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> str:
    """Processor, cores and memory of this machine in a line."""
    name = platform.processor() or platform.machine()
    memory = ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
        total = int(Path("/proc/meminfo").read_text(encoding="utf-8").split()[1])
        memory = f", {total / 2**20:.0f} GiB"
    except (OSError, ValueError, IndexError):
        pass
    return f"{name}, {os.cpu_count()} cores{memory}, {platform.system()}"
