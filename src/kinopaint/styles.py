"""The styles of the embedded model: 36 media and 12 moods, and which of them some words are near to.

The names stand in `models/mini/styles.json`, beside the weights that were trained on them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kinopaint.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

# Cosine below which a wording counts as unknown: paraphrases and typos lie above 0.8, "a dragon", "pretty" and "tax
# return" between 0.5 and 0.7.
NEAR = 0.75


@dataclass(frozen=True)
class Style:
    """A medium or a mood; its name is a valid prompt. `trained`: the shipped weights have learnt it."""

    name: str
    kind: str  # medium or mood
    trained: bool
    phrases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    style: Style
    nearness: float  # cosine of the text encoder's pooled outputs, 1 = the same


def known_styles() -> tuple[Style, ...]:
    """All media, then all moods, in the order of the model's card. Raises ModelError if the list is missing."""
    from kinopaint.models import mini_path

    path = mini_path() / "styles.json"
    try:
        listed: dict[str, list[Any]] = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            Style(entry["name"], kind, bool(entry["trained"]), tuple(entry["phrases"]))
            for kind, key in (("medium", "media"), ("mood", "moods"))
            for entry in listed[key]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            "KP-MODEL-STYLES", "the list of styles cannot be read", where=str(path), fix="install kinopaint again"
        ) from error


def nearest(words: str, text_encoder: Any, styles: Sequence[Style] | None = None) -> list[Match]:
    """Every style by how near it is to `words`, the nearest first; a style counts by its nearest phrasing."""
    listed = known_styles() if styles is None else styles
    texts = [
        (text, place) for place, style in enumerate(listed) for text in dict.fromkeys((style.name, *style.phrases))
    ]
    embedded = _embedded([words, *(text for text, _ in texts)], text_encoder)
    best = [-1.0] * len(listed)
    for (_, place), cosine in zip(texts, (embedded[1:] @ embedded[0]).tolist(), strict=True):
        best[place] = max(best[place], cosine)
    matches = [Match(style, cosine) for style, cosine in zip(listed, best, strict=True)]
    return sorted(matches, key=lambda match: -match.nearness)


def advice(prompt: str, text_encoder: Any) -> str:
    """What to say about a prompt that the embedded model will not follow well; empty if there is nothing to say."""
    matches = nearest(prompt, text_encoder)
    first = matches[0]
    if first.nearness >= NEAR and first.style.trained:
        return ""
    trained = [match.style.name for match in matches if match.style.trained][:3]
    if first.nearness < NEAR:
        problem = f"the embedded model has not learnt words like {prompt!r} (nearest: {first.nearness:.2f})"
    else:
        problem = f"the embedded model has not been trained on {first.style.name!r} yet"
    return f"{problem}; the nearest styles that it knows: {', '.join(trained) or 'none'}"


def _embedded(texts: Sequence[str], text_encoder: Any) -> Tensor:
    """Pooled outputs of a CLIP text encoder, unit length, one row per text."""
    import torch

    rows = []
    with torch.inference_mode():
        for at in range(0, len(texts), 128):
            tokens = text_encoder.tokenizer(
                list(texts[at : at + 128]),
                padding=True,
                truncation=True,
                max_length=text_encoder.max_tokens,
                return_tensors="pt",
            ).to(text_encoder.model.device)
            rows.append(text_encoder.model(tokens.input_ids).pooler_output.float())
    return torch.nn.functional.normalize(torch.cat(rows), dim=-1).cpu()
