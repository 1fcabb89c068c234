"""Peak memory of loading a checkpoint, against the size of its weights in memory.

    python -m benchmarks.loading [--megabytes 400] [--dtype float32|bfloat16]

Makes a checkpoint with random weights of about that size in fp32, loads it in a process of its own, and compares the
growth of that process's peak resident memory with the size of the loaded weights. The limit is 1.2.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT = 1.2
CHILD = """
import json, sys
import torch
torch.set_num_threads(1)
from kinopaint.models import load_model

def memory(name):
    return int(next(l for l in open("/proc/self/status") if l.startswith(name)).split()[1]) * 1024

def load(folder):
    parts = load_model(folder, device="cpu", dtype=sys.argv[3])
    networks = (parts.backbone.unet, parts.autoencoder.network, parts.text_encoder.model)
    return parts, sum(weight.nbytes for network in networks for weight in network.parameters())

load(sys.argv[1])  # a tiny one first: whatever loading any model costs, libraries above all
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew
before = memory("VmRSS")
parts, weights = load(sys.argv[2])
print(json.dumps({"weights": weights, "peak": memory("VmHWM") - before, "held": memory("VmRSS") - before}))
"""


def write(folder: Path, width: int) -> Path:
    """A checkpoint of the InstructPix2Pix kind whose U-Net has `width` channels at its first level."""
    import torch
    from diffusers import UNet2DConditionModel
    from tests.conftest import write_model

    write_model(folder)
    config = dict(UNet2DConditionModel.load_config(folder / "unet"))
    config |= {"block_out_channels": (width, 2 * width, 4 * width, 4 * width), "norm_num_groups": 8}
    torch.manual_seed(0)
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    return folder


def measure(megabytes: int, dtype: str) -> dict[str, float]:
    """Bytes of weights, peak and held memory of loading them, and the ratio of peak to weights. Linux only."""
    with tempfile.TemporaryDirectory() as root:
        tiny, large = write(Path(root) / "tiny", 8), write(Path(root) / "large", int((47 * megabytes) ** 0.5) // 8 * 8)
        words = [sys.executable, "-c", CHILD, str(tiny), str(large), dtype]
        figures: dict[str, float] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return {**figures, "ratio": figures["peak"] / figures["weights"]}


def main() -> int:
    parser = argparse.ArgumentParser(description="Peak memory of loading a checkpoint.")
    parser.add_argument("--megabytes", type=int, default=400, help="size of the weights in fp32 (default: 400)")
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16 (default: float32)")
    given = parser.parse_args()
    found = measure(given.megabytes, given.dtype)
    print(
        f"weights {found['weights'] / 2**20:.0f} MiB in {given.dtype}; peak {found['peak'] / 2**20:.0f} MiB, "
        f"{found['ratio']:.2f} times the weights (limit {LIMIT}); held afterwards {found['held'] / 2**20:.0f} MiB"
    )
    return int(found["ratio"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
