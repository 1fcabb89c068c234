"""Stage 3, the denoiser: `python -m training.train_unet --minutes 75`.

Latents of all shards are cached once, and new shards are added to the cache; crops are taken in latent space (16x16,
later larger and mixed), captions are drawn fresh from the lexicon and their text states kept in a bank. A sample is a
photograph with its rendering in a medium, in a mood, or in a medium and a mood. Under a word of strength the target is
the photograph's latent plus a share of the way to the rendering's (`STRENGTH`): less than the whole for "slightly",
beyond it for "strongly". v-prediction, timesteps shifted towards noise, where photograph and words decide the picture;
text, image or both are dropped so that every guidance branch is trained.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers.models import AutoencoderTiny, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.schedulers import DDIMScheduler
from transformers import CLIPTextModel, CLIPTokenizer

from training.checkpoint import resumed, write
from training.data import pictures
from training.device import add_device, half_precision
from training.mood_shards import mood_folder
from training.render_shards import slug
from training.train_autoencoder import CHANNELS
from training.words import IDENTITY, MOODS, STRENGTHS, TRAINED, caption, trained_pairs, wording

CONFIG = {
    "sample_size": 32,
    "in_channels": 2 * CHANNELS,
    "out_channels": CHANNELS,
    "block_out_channels": (64, 128, 192, 256),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 256,
    "attention_head_dim": 4,
    "norm_num_groups": 32,
    "addition_embed_type": "text",  # the words as a whole reach every block, not only those with attention
    "addition_embed_type_num_heads": 4,
}
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
# media whose texture is hard to learn are seen more often, those that only grade tones less often
EASY = {"thermal camera image", "film noir", "faded vintage photograph", "blueprint", "neon (cyberpunk)"}
HARD = {
    "oil painting",
    "watercolor painting",
    "pencil sketch",
    "pen and ink drawing with cross-hatching",
    "mosaic of tiles",
    "swirling post-impressionist painting (van Gogh)",
    "stained glass window",
    "pop art with halftone dots",
    "copper engraving",
    "pointillist painting",
    "pixel art",
    "cross-stitch embroidery",
    "impasto (palette knife)",
    "impressionist painting",
}
# media whose pattern repeats with four cells; those of the others repeat with two
FOUR_CELLS = {
    "cubist painting",
    "gold-leaf decorative painting (Klimt)",
    "impasto (palette knife)",
    "impressionist painting",
    "low-poly render",
    "stained glass window",
    "swirling post-impressionist painting (van Gogh)",
}
STRENGTH = {"": 1.0, "slightly": 0.5, "strongly": 1.25}  # share of the way from photograph to rendering
STRENGTH_SHARE = 0.07  # of the samples of a medium or mood alone, for each word of strength
FIRST_LEVEL, FIRST_SHARE = 950, 0.12  # timesteps where sampling starts, and the share of samples from there alone
MOOD_SHARE, BOTH_SHARE = 0.10, 0.20  # of all samples: a mood on the photograph; a medium in a mood


def cache_latents(
    vae_folder: Path, shards: Path, out: Path, excluded: set[str], device: torch.device
) -> dict[str, dict[str, torch.Tensor]]:
    """{folder: {picture: latent [16, h/8, w/8] fp16}}; held-out pictures are skipped.

    What is in the cache is kept, except pictures whose file is newer than the cache; all are encoded again where the
    autoencoder is newer.
    """
    cached_at = out.stat().st_mtime if out.exists() else 0.0
    fresh = all(file.stat().st_mtime < cached_at for file in vae_folder.glob("*.safetensors"))
    store = torch.load(out, weights_only=True) if out.exists() and fresh else {}
    vae = (
        AutoencoderTiny.from_pretrained(vae_folder, torch_dtype=torch.float32)
        .eval()
        .to(device, memory_format=torch.channels_last)
    )
    new = 0
    for folder in sorted(p for p in shards.iterdir() if p.is_dir()):
        known = store.setdefault(folder.name, {})
        for file in sorted(folder.glob("*.jpg")):
            if file.stem in excluded or (file.stem in known and file.stat().st_mtime < cached_at):
                continue
            image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
            image = image[: image.shape[0] // 8 * 8, : image.shape[1] // 8 * 8]
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float().div(127.5).sub(1)
            with torch.inference_mode(), half_precision(device):
                latents = vae.encode(pixels.to(device, memory_format=torch.channels_last)).latents
                known[file.stem] = latents[0].half().cpu().clone()
            new += 1
    if new:
        torch.save(store, out)
    print(f"latents: {sum(map(len, store.values()))} ({new} new)", flush=True)
    return store


Style = tuple[str | None, str | None]  # medium, mood; both absent: the photograph as it is
IDENTITY_STYLE: Style = (None, None)


class Words:
    """Text states of many captions for every style and strength, from the frozen text encoder."""

    def __init__(self, folder: Path, styles: list[Style], each: int, seed: int) -> None:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
        rng = np.random.default_rng(seed)

        def encode(texts: list[str]) -> torch.Tensor:
            ids = tokenizer(
                texts,
                padding="max_length",
                truncation=True,
                max_length=encoder.config.max_position_embeddings,
                return_tensors="pt",
            ).input_ids
            with torch.inference_mode(), half_precision(torch.device("cpu")):
                return encoder(input_ids=ids).last_hidden_state.to(torch.bfloat16).clone()

        self.states: dict[tuple[Style, str], torch.Tensor] = {}
        for style in styles:
            medium, mood = style
            if medium and mood:
                texts = [f"{medium}, {mood}", *(caption(wording(medium, mood, rng), rng) for _ in range(each // 8))]
                self.states[style, ""] = encode(texts)
                continue
            for strength in STRENGTH:
                count = each // 3 if strength else each - 1
                texts = [caption(wording(medium, mood, rng, strength), rng) for _ in range(count)]
                self.states[style, strength] = encode(texts if strength else [medium or mood or "", *texts])
        self.states[IDENTITY_STYLE, ""] = encode([caption(p, rng) for p in IDENTITY for _ in range(4)])
        self.empty = encode([""])[0]


def trained_styles(store: dict[str, dict[str, torch.Tensor]]) -> dict[Style, list[tuple[torch.Tensor, torch.Tensor]]]:
    """(photo latent, target latent) pairs of every style that has shards; prints what has none."""
    styles: dict[Style, str] = {(medium, None): slug(medium) for medium in TRAINED}
    styles |= {(None, mood): mood_folder(mood, None) for mood in MOODS}
    styles |= {(medium, mood): mood_folder(mood, medium) for medium, mood in trained_pairs()}
    photos = store["photo"]
    pairs = {
        style: [(photos[name], latent) for name, latent in sorted(store.get(folder, {}).items())]
        for style, folder in styles.items()
    }
    print({(medium or mood): len(pairs[medium, mood]) for medium, mood in pairs if not (medium and mood)}, flush=True)
    print("pairs:", sum(len(found) for (medium, mood), found in pairs.items() if medium and mood), flush=True)
    missing = [" + ".join(filter(None, style)) for style, found in pairs.items() if not found]
    if missing:
        print(f"{len(missing)} styles have no shards and are not trained:", "; ".join(missing[:12]), flush=True)
    return {style: found for style, found in pairs.items() if found}


class Triples:
    """Random (photo latent, target latent, text state) batches of one crop size."""

    def __init__(
        self,
        photos: dict[str, torch.Tensor],
        pairs: dict[Style, list[tuple[torch.Tensor, torch.Tensor]]],
        words: Words,
        seed: int,
        step: int = 0,
    ) -> None:
        self.words, self.pairs, self.rng = words, pairs, np.random.default_rng([seed, step])
        self.photos = [photos[n] for n in sorted(photos)]
        self.styles = list(pairs)
        self.look_at({})

    def look_at(self, focus: dict[str, float]) -> None:
        """Draw the styles of `focus` so many times as often as otherwise."""
        weights = np.array([self._weight(medium, mood, focus) for medium, mood in self.styles])
        kinds = np.array([2 * bool(medium) + bool(mood) for medium, mood in self.styles])  # 1 mood, 2 medium, 3 both
        shares = {1: MOOD_SHARE, 2: 1 - MOOD_SHARE - BOTH_SHARE, 3: BOTH_SHARE}
        for kind, share in shares.items():
            weights[kinds == kind] *= share / max(weights[kinds == kind].sum(), 1e-9)
        self.weights = weights / weights.sum()

    @staticmethod
    def _weight(medium: str | None, mood: str | None, focus: dict[str, float]) -> float:
        weight = 1.6 if medium in HARD else 0.6 if medium in EASY else 1.0
        return weight * max(focus.get(style or "", 1.0) for style in (medium, mood))

    def place(self, medium: str | None, rendering: torch.Tensor, height: int, width: int) -> tuple[int, int]:
        """First cell down and across of a crop, on the lattice of the medium's pattern: phases are whole pictures'."""
        lattice = 4 if medium in FOUR_CELLS else 2
        _, rows, columns = rendering.shape
        y, x = (lattice * int(self.rng.integers((a - b) // lattice + 1)) for a, b in ((rows, height), (columns, width)))
        return y, x

    def batch(
        self, count: int, height: int, width: int, identity: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        source = torch.empty(count, CHANNELS, height, width, dtype=torch.float16)
        target, text = torch.empty_like(source), torch.empty(count, *self.words.empty.shape, dtype=torch.bfloat16)
        for i in range(count):
            strength = ""
            if self.rng.random() < identity:
                style = IDENTITY_STYLE
                photo = rendering = self.photos[int(self.rng.integers(len(self.photos)))]
            else:
                style = self.styles[int(self.rng.choice(len(self.styles), p=self.weights))]
                photo, rendering = self.pairs[style][int(self.rng.integers(len(self.pairs[style])))]
                draw = self.rng.random()
                if not (style[0] and style[1]) and draw < STRENGTH_SHARE * len(STRENGTHS):
                    strength = list(STRENGTHS)[int(draw / STRENGTH_SHARE)]
            states = self.words.states[style, strength]
            y, x = self.place(style[0], rendering, height, width)
            crop = (slice(None), slice(y, y + height), slice(x, x + width))
            source[i] = photo[crop]
            target[i] = photo[crop] + STRENGTH[strength] * (rendering[crop] - photo[crop])
            text[i] = states[int(self.rng.integers(len(states)))]
        drop = torch.from_numpy(self.rng.random(count))
        text[(drop < 0.06) | ((drop >= 0.12) & (drop < 0.18))] = self.words.empty
        source[(drop >= 0.06) & (drop < 0.18)] = 0
        return source.float(), target.float(), text.float()


def left_over(target: torch.Tensor, source: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The picture under each sample's noise, [n, c, h, w]: not always the target.

    Sampling starts from noise over the photograph, or over nothing. A network that only ever saw the target there reads
    the picture's colours from the little that shines through, and its first step brings the photograph's back.
    """
    draw = torch.rand(len(t))
    first = t >= FIRST_LEVEL
    photo = (first & (draw < 0.35)) | (~first & (t >= 700) & (draw < 0.1))
    under = torch.where(photo[:, None, None, None], source, target)
    return torch.where((first & (draw > 0.7))[:, None, None, None], torch.zeros_like(target), under)


def uneven_noise(like: torch.Tensor) -> torch.Tensor:
    """White noise with slow swings over four cells and over the whole, [n, c, h, w]; a fifth of the samples has none.

    Under white noise alone colours show through at every level, and a network that trusts them grows its own errors
    from step to step to stains. Where swings hide them it takes colours from photograph and words, and from the noise
    texture alone.
    """
    n, c, h, w = like.shape
    cells = torch.nn.functional.interpolate(torch.randn(n, c, -(-h // 4), -(-w // 4)), (h, w), mode="bilinear")
    swings = 0.5 * cells + 0.25 * torch.randn(n, c, 1, 1)
    return torch.randn_like(like) + swings * (torch.rand(n, 1, 1, 1) < 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--shards", type=Path, default=Path("runs/shards"))
    parser.add_argument("--vae", type=Path, default=Path("runs/autoencoder/vae"))
    parser.add_argument("--text", type=Path, default=Path("runs/text"))
    parser.add_argument("--out", type=Path, default=Path("runs/unet"))
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="folder of weights to start from, such as models/mini/unet")
    parser.add_argument("--lean", type=float, default=0.6, help="exponent of uniform timesteps; below 1 leans to noise")
    parser.add_argument("--focus", nargs="*", default=[], metavar="STYLE", help="seen more often")
    parser.add_argument("--focus-weight", type=float, default=3.0, help="how many times as often")
    parser.add_argument("--focus-until", type=float, default=1.0, help="share of the time after which it ends")
    parser.add_argument("--captions", type=int, default=160, help="captions per medium and mood")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    add_device(parser)
    parser.add_argument("--large-from", type=float, default=0.75, help="share of the time after which crops are 256 px")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    excluded = {p.name for p in pictures(args.data) if p.held_out}
    store = cache_latents(args.vae, args.shards, args.out / "latents.pt", excluded, args.device)
    pairs = trained_styles(store)
    words = Words(args.text, list(pairs), args.captions, args.seed)
    model = UNet2DConditionModel(**CONFIG)  # not channels_last: its group norm is slow on small maps
    model.set_attn_processor(AttnProcessor())  # the fused one takes twice as long to go back on the CPU
    torch.nn.init.zeros_(model.add_embedding.norm2.weight)  # adds nothing at first: weights without it go on as before
    if args.init:
        start = UNet2DConditionModel.from_pretrained(args.init, torch_dtype=torch.float32)
        model.load_state_dict(model.state_dict() | start.state_dict())
    model.to(args.device)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters", flush=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    alphas = DDIMScheduler(**SCHEDULER).alphas_cumprod
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    checkpoint, trained = args.out / "checkpoint.pt", {"model": model, "average": average, "optimiser": optimiser}
    step, spent, seen = resumed(checkpoint, trained, step=0, spent=0.0, seen=0)
    data = Triples(store["photo"], pairs, words, args.seed, step)
    limit, last = 60 * args.minutes, time.time()
    losses: list[float] = []

    def save() -> None:
        write(checkpoint, trained, step=step, spent=spent, seen=seen)
        source = average.module if int(average.n_averaged) > 300 else model
        weights = {k: v.half().cpu().contiguous() for k, v in source.state_dict().items()}
        export = UNet2DConditionModel(**CONFIG).half()
        export.load_state_dict(weights)
        export.save_pretrained(args.out / "unet")

    while spent < limit:
        share = spent / limit
        data.look_at(dict.fromkeys(args.focus, args.focus_weight) if share < args.focus_until else {})
        rate = float(args.rate * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * np.cos(np.pi * share)) + 2e-5)
        for group in optimiser.param_groups:
            group["lr"] = rate
        if share < args.large_from:
            height, width, count = 16, 16, args.batch
        else:
            height, width = ((32, 32), (24, 36), (36, 24), (16, 32), (36, 36))[step % 5]
            count = max(args.batch * 256 // (height * width), 4)
        source, target, text = data.batch(
            count, height, width, identity=0.5 if seen < 10_000 and not args.init else 0.06
        )
        u = torch.rand(count)
        t = (u**args.lean * 1000).long().clamp(0, 999)
        t = torch.where(torch.rand(count) < FIRST_SHARE, torch.randint(FIRST_LEVEL, 1000, (count,)), t)
        a, s = alphas[t].sqrt()[:, None, None, None], (1 - alphas[t]).sqrt()[:, None, None, None]
        noise = uneven_noise(target)
        noisy = a * left_over(target, source, t) + s * noise
        noisy, source, target, text, t, a, s = (each.to(args.device) for each in (noisy, source, target, text, t, a, s))
        with half_precision(args.device):
            inputs = torch.cat([noisy, source], 1)
            v = model(inputs, t, encoder_hidden_states=text).sample.float()
        loss = (v - (a * noisy - target) / s).square().mean()  # which is a * noise - s * target where that was under it
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if share > 0.5:
            average.update_parameters(model)
        losses.append(loss.item())
        step, seen = step + 1, seen + count
        spent, last = spent + time.time() - last, time.time()
        if step % 100 == 0:
            row = {
                "step": step,
                "minutes": round(spent / 60, 2),
                "seen": seen,
                "loss": round(float(np.mean(losses[-100:])), 4),
                "rate": round(rate, 6),
            }
            with open(args.out / "log.jsonl", "a") as log:
                log.write(json.dumps(row) + "\n")
            print(row, flush=True)
        if step % 500 == 0:
            save()
            last = time.time()
    save()


if __name__ == "__main__":
    main()
