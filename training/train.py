"""All stages in order: `python -m training.train --data ../shared/data`. Each resumes where it stopped."""

import argparse
import subprocess
import sys

WEAKEST = (
    "oil painting",
    "swirling post-impressionist painting (van Gogh)",
    "watercolor painting",
    "ink wash painting (sumi-e)",
    "mosaic of tiles",
    "pencil sketch",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with photos/, paintings/ and videos/")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the minutes of every stage")
    args = parser.parse_args()
    stages: list[list[str]] = [
        ["render_shards", "--data", args.data, "--rounds", "5"],
        ["mood_shards", "--data", args.data],
        ["train_autoencoder", "--minutes", str(28 * args.scale)],
        ["train_text", "--minutes", str(7 * args.scale)],
        ["train_unet", "--data", args.data, "--minutes", str(46 * args.scale)],
        # longer on what was weakest: the same run goes on, at small crops and a rate that ends at the same floor
        [
            "train_unet",
            "--data",
            args.data,
            "--minutes",
            str(54.5 * args.scale),
            "--rate",
            "4e-3",
            "--large-from",
            "2",
            "--focus",
            *WEAKEST,
        ],
        ["train_image_tower", "--data", args.data, "--minutes", str(40 * args.scale)],
        ["export"],
        # these learn with the model that was exported
        ["train_decoder", "--paint-minutes", str(4 * args.scale), "--minutes", str(30 * args.scale)],
        ["export"],
        [
            "train_refiner",
            "--data",
            args.data,
            "--paint-minutes",
            str(15 * args.scale),
            "--minutes",
            str(25 * args.scale),
        ],
        ["train_controlnet", "--minutes", str(20 * args.scale)],
        ["export"],
    ]
    for stage in stages:
        print("::", " ".join(stage), flush=True)
        subprocess.run([sys.executable, "-m", f"training.{stage[0]}", *stage[1:]], check=True)


if __name__ == "__main__":
    main()
