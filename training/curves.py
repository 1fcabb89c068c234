"""Draw the logged curves of a run: `python -m training.curves --runs runs` writes PNGs beside the logs."""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=None, help="folder of the pictures; default: beside each log")
    args = parser.parse_args()
    for log in sorted(args.runs.glob("*/log.jsonl")):
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        series = [key for key in rows[0] if key == "loss" or key.startswith("psnr")]
        figure, axes = plt.subplots(1, 2 if len(series) > 1 else 1, figsize=(10, 3.5), squeeze=False)
        for key in series:
            axis = axes[0][0 if key == "loss" else 1]
            axis.plot([row["minutes"] for row in rows], [row[key] for row in rows], label=key)
            axis.set_xlabel("minutes")
            axis.legend()
            axis.grid(alpha=0.3)
        figure.suptitle(log.parent.name)
        figure.tight_layout()
        figure.savefig((args.out or log.parent) / f"{log.parent.name}.png", dpi=100)


if __name__ == "__main__":
    main()
