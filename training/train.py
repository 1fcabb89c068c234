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
    parser.add_argument("--device", default="auto", help="of the networks: auto, cpu, cuda (default: auto)")
    args = parser.parse_args()

    def trained(stage: str, minutes: float, *more: str) -> list[str]:
        return [f"train_{stage}", "--minutes", str(minutes * args.scale), *more, "--device", args.device]

    data, weak = ["--data", args.data], ["--focus", *WEAKEST]

    def painting(minutes: float) -> list[str]:
        return ["--paint-minutes", str(minutes * args.scale)]

    stages: list[list[str]] = [
        ["render_shards", *data, "--rounds", "5"],
        ["mood_shards", *data],
        trained("autoencoder", 28),
        trained("text", 7),
        trained("unet", 46, *data),
        # longer on what was weakest: the same run goes on, at small crops and a rate that ends at the same floor
        trained("unet", 54.5, *data, "--rate", "4e-3", "--large-from", "2", *weak),
        trained("image_tower", 40, *data),
        ["export"],
        # these learn with the model that was exported
        trained("decoder", 30, *painting(4)),
        ["export"],
        trained("refiner", 25, *data, *painting(15)),
        trained("controlnet", 20),
        ["export"],
    ]
    for stage in stages:
        print("::", " ".join(stage), flush=True)
        subprocess.run([sys.executable, "-m", f"training.{stage[0]}", *stage[1:]], check=True)


if __name__ == "__main__":
    main()
