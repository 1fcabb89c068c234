"""Put the trained parts into one folder in diffusers layout: `python -m training.export`."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from diffusers.models import AutoencoderTiny, UNet2DConditionModel
from diffusers.schedulers import DDIMScheduler
from transformers import CLIPTextModel

from training.train_unet import SCHEDULER
from training.words import ALSO, IDENTITY, MEDIA, MOODS, NOT_LEARNT, TRAINED, held_out_phrases, train_phrases

HERE = Path(__file__).parent
INDEX = {
    "_class_name": "StableDiffusionInstructPix2PixPipeline",
    "_diffusers_version": "0.30.0",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}


def styles_listed(trained: set[str]) -> dict[str, list[Any]]:
    """What `styles.json` says: names, which are trained, phrases that captions had, and what else means the same."""

    def entry(name: str) -> dict[str, Any]:
        own = train_phrases(name)[1:]
        also = [*held_out_phrases(name), *ALSO[name]]
        return {"name": name, "trained": name in trained, "phrases": list(own), "also": also}

    return {
        "media": [entry(name) for name in MEDIA],
        "moods": [entry(name) for name in MOODS],
        "unchanged": list(IDENTITY),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("src/kinopaint/models/mini"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    # parts that these runs have not made stay as the folder has them
    for made, part, network in (
        ("autoencoder/vae", "vae", AutoencoderTiny),
        ("decoder/vae", "vae", AutoencoderTiny),  # the same encoder
        ("unet/unet", "unet", UNet2DConditionModel),
        ("text/text_encoder", "text_encoder", CLIPTextModel),
    ):
        if (args.runs / made).exists():
            network.from_pretrained(args.runs / made).half().save_pretrained(args.out / part)
    for part in ("text/tokenizer", "image_tower/image_encoder", "refiner/refiner", "controlnet/controlnet"):
        if (args.runs / part).exists():
            shutil.copytree(args.runs / part, args.out / Path(part).name, dirs_exist_ok=True)
    index = dict(INDEX)
    if (args.out / "image_encoder").exists():
        index["image_encoder"] = ["transformers", "CLIPVisionModelWithProjection"]
    for part, changes in {
        "unet": {},
        "vae": {"block_out_channels": None},  # the class derives this entry itself, and warns where a file gives it
        # stock pipelines load the other parts in fp32, and transformers would take the files' half precision
        "text_encoder": {"dtype": "float32", "torch_dtype": "float32"},
    }.items():
        file = args.out / part / "config.json"
        config = json.loads(file.read_text()) | {"_name_or_path": None} | changes
        file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}, indent=2) + "\n")
    DDIMScheduler(**SCHEDULER).save_pretrained(args.out / "scheduler")
    (args.out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    styles = styles_listed({name for name in (*TRAINED, *MOODS) if name not in NOT_LEARNT})
    (args.out / "styles.json").write_text(json.dumps(styles, indent=1, ensure_ascii=False) + "\n")
    shutil.copy(HERE / "recommended.json", args.out / "kinopaint.json")
    size = sum(f.stat().st_size for f in args.out.rglob("*") if f.is_file())
    print(f"{args.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
