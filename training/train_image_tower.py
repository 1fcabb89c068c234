"""The image tower: `python -m training.train_image_tower --minutes 40`: a small stock `CLIPVisionModelWithProjection`.

Every sample is one crop of one picture in two looks (renderings, moods, or the photograph). Three losses: the pooled
output finds its look among the words of the frozen text encoder, and comes near to them (so the text side needs no
projection: its pooled output is the embedding); it finds the other look of its own crop among those of the batch; and
every spatial token finds the token of the same place in the other look, among all other places. Tokens are dropped
while training, which halves the time; the last tenth sees all of them.
"""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

from kinopaint.models.image import CLIP_MEAN, CLIP_STD
from training.checkpoint import resumed, write
from training.data import pictures
from training.device import add_device, half_precision
from training.mood_shards import mood_folder
from training.render_shards import slug
from training.words import IDENTITY, MOODS, TRAINED, caption, held_out_phrases, train_phrases

SIZE = 224
CONFIG = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "projection_dim": 256,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": 16,
    "hidden_act": "gelu",
}
PHOTO = "photo"
LOOKS = (PHOTO, *TRAINED, *MOODS)
WIDE = 64  # tokens of each crop that the dense loss compares
ALIGNED = 2.0  # weight of the distance to the words: cross-entropy alone orders cosines and leaves them about zero


class Pairs:
    """Crops in two looks, drawn at random; `wanted` tells by a picture's name whether it belongs here."""

    def __init__(self, shards: Path, names: set[str] | None, without: set[str], seed: int | list[int]) -> None:
        self.rng = np.random.default_rng(seed)
        folders = {look: shards / (mood_folder(look, None) if look in MOODS else slug(look)) for look in LOOKS}
        self.looks: dict[str, list[tuple[int, Path]]] = defaultdict(list)
        for label, look in enumerate(LOOKS):
            for file in sorted(folders[look].glob("*.jpg")):
                if file.stem not in without and (names is None or file.stem in names):
                    self.looks[file.stem].append((label, file))
        self.names = [name for name, files in self.looks.items() if len(files) > 1]

    def batch(self, count: int, augment: bool = True) -> tuple[Tensor, Tensor]:
        """Pictures "look crop 3 224 224" as CLIP wants them, and the labels of their looks, "look crop"."""
        out = np.empty((2, count, SIZE, SIZE, 3), np.float32)
        labels = torch.empty(2, count, dtype=torch.long)
        for i, place in enumerate(self.rng.choice(len(self.names), count, replace=len(self.names) < count)):
            files = self.looks[self.names[place]]
            chosen = self.rng.choice(len(files), 2, replace=False)
            draws = self.rng.random(5)
            for view, which in enumerate(chosen):
                label, file = files[which]
                image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
                part = crop(image, draws if augment else None)
                soft = augment and self.rng.random() < 0.5  # as a codec or a small model leaves them
                out[view, i] = cv2.GaussianBlur(part, (0, 0), self.rng.uniform(0.4, 1.6)) if soft else part
                labels[view, i] = label
        if augment:  # light: colours belong to the look
            light = self.rng.uniform(0.93, 1.07, (2, count, 1, 1, 1))
            out = out * light + self.rng.uniform(-8, 8, (2, count, 1, 1, 1))
        pixels = torch.from_numpy(out.astype(np.float32).clip(0, 255)).permute(0, 1, 4, 2, 3) / 255
        return (pixels - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1), labels


def crop(image: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
    """A part of `image`, squashed to the tower's square as frames are; the same `draws`, the same part."""
    height, width = image.shape[:2]
    if draws is None:
        return cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    high, wide = int(height * (0.5 + 0.5 * draws[0])), int(width * (0.5 + 0.5 * draws[1]))
    y, x = int(draws[2] * (height - high)), int(draws[3] * (width - wide))
    part = cv2.resize(image[y : y + high, x : x + wide], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return part[:, ::-1] if draws[4] < 0.5 else part


def words(folder: Path, each: int, seed: int) -> tuple[Tensor, Tensor]:
    """Unit embeddings of captions: "look caption dim" of known phrasings, and of phrasings kept out of training."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    rng = np.random.default_rng(seed)

    def encode(phrases: tuple[str, ...]) -> Tensor:
        texts = [phrases[0], *(caption(phrases[int(rng.integers(len(phrases)))], rng) for _ in range(each - 1))]
        ids = tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=encoder.config.max_position_embeddings,
            return_tensors="pt",
        ).input_ids
        with torch.inference_mode():
            return F.normalize(encoder(input_ids=ids).pooler_output.clone(), dim=-1)

    known = [encode(IDENTITY if look == PHOTO else train_phrases(look)) for look in LOOKS]
    kept = [encode(IDENTITY if look == PHOTO else held_out_phrases(look)) for look in LOOKS]
    return torch.stack(known), torch.stack(kept)


def forward(model: CLIPVisionModelWithProjection, pixels: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """Unit embeddings, and the last layer's spatial tokens, at the places that `keep` lists (all if None)."""
    vision = model.vision_model
    states = vision.embeddings(pixels)
    if keep is not None:
        states = torch.cat([states[:, :1], states[:, 1:][:, keep]], dim=1)
    states = vision.encoder(inputs_embeds=vision.pre_layrnorm(states)).last_hidden_state
    pooled = model.visual_projection(vision.post_layernorm(states[:, 0]))
    return F.normalize(pooled.float(), dim=-1), states[:, 1:].float()


def match(one: Tensor, other: Tensor, sharpness: float) -> Tensor:
    """Each row has to find the same row of the other: mean of both directions."""
    table = sharpness * one @ other.T
    right = torch.arange(len(table), device=table.device)
    return (F.cross_entropy(table, right) + F.cross_entropy(table.T, right)) / 2


def losses(
    embeds: tuple[Tensor, Tensor], tokens: tuple[Tensor, Tensor], labels: Tensor, texts: Tensor, places: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    medium = sum(
        F.cross_entropy(16 * v @ texts.T, label) + ALIGNED * (1 - (v * texts[label]).sum(1)).mean()
        for v, label in zip(embeds, labels, strict=True)
    )
    medium = medium / 2
    instance = match(*embeds, sharpness=10.0)
    dense = match(*(F.normalize(t[:, places].flatten(0, 1), dim=-1) for t in tokens), sharpness=12.0)
    return torch.as_tensor(medium), instance, dense


@torch.inference_mode()
def judged(model: CLIPVisionModelWithProjection, held: tuple[Tensor, Tensor], texts: Tensor) -> dict[str, float]:
    """Shares of held-out pictures: medium named by words, other look found, tokens found at their place."""
    pixels, labels = held
    with half_precision(pixels.device):
        seen = [[forward(model, part, None) for part in view.split(32)] for view in pixels]
    embeds = [torch.cat([embed for embed, _ in view]) for view in seen]
    tokens = [F.normalize(torch.cat([token for _, token in view]), dim=-1) for view in seen]
    named = [(v @ texts.mean(1).T).argmax(1) == label for v, label in zip(embeds, labels, strict=True)]
    found = (embeds[0] @ embeds[1].T).argmax(1) == torch.arange(len(labels[0]), device=pixels.device)
    table = tokens[0] @ tokens[1].transpose(1, 2)  # crop place place
    here = (table.argmax(2) == torch.arange(table.shape[1], device=pixels.device)).float().mean()
    return {
        "medium": round(float(torch.cat(named).float().mean()), 3),
        "cosine": round(float((embeds[0] * texts[labels[0], 0]).sum(1).mean()), 3),
        "instance": round(float(found.float().mean()), 3),
        "place": round(float(here), 3),
        "same_place": round(float(table.diagonal(dim1=1, dim2=2).mean()), 3),
        "other_place": round(float(table.mean()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--shards", type=Path, default=Path("runs/shards"))
    parser.add_argument(
        "--model", type=Path, default=Path("src/kinopaint/models/mini"), help="folder of the text encoder"
    )
    parser.add_argument("--init", type=Path, help="folder of weights to start from, such as models/mini/image_encoder")
    parser.add_argument("--out", type=Path, default=Path("runs/image_tower"))
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--batch", type=int, default=24, help="crops, each in two looks")
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--layers", type=int, default=CONFIG["num_hidden_layers"])
    parser.add_argument("--captions", type=int, default=48, help="captions per medium")
    parser.add_argument("--report", type=int, default=200, help="steps between two lines of the log")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    add_device(parser)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**{**CONFIG, "num_hidden_layers": args.layers}))
    if args.init:
        model.load_state_dict(
            CLIPVisionModelWithProjection.from_pretrained(args.init, dtype=torch.float32).state_dict()
        )
    model.to(args.device)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.05, betas=(0.9, 0.98))
    checkpoint, trained = args.out / "checkpoint.pt", {"model": model, "average": average, "optimiser": optimiser}
    step, spent = resumed(checkpoint, trained, step=0, spent=0.0)
    held_out = {picture.name for picture in pictures(args.data) if picture.held_out}
    pairs = Pairs(args.shards, None, held_out, [args.seed, step])
    probe = Pairs(args.shards, held_out, set(), 99)
    pixels, labels = probe.batch(min(96, len(probe.names)), augment=False)
    held = pixels.to(args.device), labels.to(args.device)
    known, kept = (each.to(args.device) for each in words(args.model, args.captions, args.seed))
    print(f"{len(pairs.names)} pictures, {len(probe.names)} held out", flush=True)

    def save() -> None:
        best = average.module if int(average.n_averaged) > 50 else model
        best.half().save_pretrained(args.out / "image_encoder")
        best.float()
        file = args.out / "image_encoder" / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"dtype": "float32"}, indent=2) + "\n")

    limit, last, running, cells = 60 * args.minutes, time.time(), np.zeros(3), (SIZE // CONFIG["patch_size"]) ** 2
    while spent < limit:
        share = spent / limit
        rate = float(args.rate * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * np.cos(np.pi * share)) + 1e-5)
        for group in optimiser.param_groups:
            group["lr"] = rate
        pixels, labels = (each.to(args.device) for each in pairs.batch(args.batch))
        keep = torch.randperm(cells)[: cells // 2] if share < 0.9 else None
        places = torch.randperm(cells // 2 if keep is not None else cells)[:WIDE]
        texts = known[torch.arange(len(LOOKS)), torch.randint(known.shape[1], (len(LOOKS),))]
        with half_precision(args.device):
            embeds, tokens = forward(model, pixels.flatten(0, 1), keep)
        parts = losses(tuple(embeds.chunk(2)), tuple(tokens.chunk(2)), labels, texts, places)
        loss = parts[0] + 0.5 * parts[1] + 0.5 * parts[2]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if share > 0.6:
            average.update_parameters(model)
        step += 1
        now = np.array([part.item() for part in parts])
        running = now if step == 1 else 0.98 * running + 0.02 * now
        spent, last = spent + time.time() - last, time.time()
        if step % args.report == 0:
            write(checkpoint, trained, step=step, spent=spent)
            row = {"step": step, "minutes": round(spent / 60, 1), "loss": round(float(running.sum()), 4)}
            row |= {
                name: round(float(part), 4) for name, part in zip(("words", "looks", "places"), running, strict=True)
            }
            model.eval()
            row |= judged(average.module if int(average.n_averaged) > 50 else model, held, kept)
            model.train()
            with open(args.out / "log.jsonl", "a") as log:
                log.write(json.dumps(row) + "\n")
            print(row, flush=True)
            save()
            last = time.time()
    save()


if __name__ == "__main__":
    main()
