"""The styles of the embedded model: 36 media and 12 moods, and which of them some words are near to.

The names stand in `models/mini/styles.json`, beside the weights that were trained on them. A prompt in other words than
captions had is put into the names of the list before the network reads it (`translated`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinopaint.errors import ModelError
from kinopaint.wording import Lexicon, Reading, words_of

if TYPE_CHECKING:
    from torch import Tensor

    from kinopaint.types import Prompt

# Cosine below which a wording counts as unknown: paraphrases and typos lie above 0.8, "a dragon", "pretty" and "tax
# return" between 0.5 and 0.7.
NEAR = 0.75
LIST = "styles.json"


@dataclass(frozen=True)
class Style:
    """A medium or a mood; its name is a valid prompt. `trained`: the shipped weights have learnt it."""

    name: str
    kind: str  # medium or mood
    trained: bool
    phrases: tuple[str, ...] = ()  # wordings that captions had
    also: tuple[str, ...] = ()  # further ones that mean the same


@dataclass(frozen=True)
class Match:
    style: Style
    nearness: float  # cosine of the text encoder's pooled outputs, 1 = the same


def known_styles(folder: Path | None = None) -> tuple[Style, ...]:
    """All media, then all moods, in the order of the model's card. Raises ModelError if the list is missing.

    `folder` is a checkpoint with a `styles.json`; without it the embedded model's.
    """
    listed = _listed(folder)
    try:
        return tuple(
            Style(entry["name"], kind, bool(entry["trained"]), tuple(entry["phrases"]), tuple(entry.get("also", ())))
            for kind, key in (("medium", "media"), ("mood", "moods"))
            for entry in listed[key]
        )
    except (KeyError, TypeError) as error:
        raise _unreadable(folder) from error


def _listed(folder: Path | None) -> dict[str, list[Any]]:
    from kinopaint.models import mini_path

    try:
        listed: dict[str, list[Any]] = json.loads(((folder or mini_path()) / LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(folder) from error
    return listed


def _unreadable(folder: Path | None) -> ModelError:
    from kinopaint.models import mini_path

    fix = "install kinopaint again" if folder is None else "get the model again"
    where = str((folder or mini_path()) / LIST)
    return ModelError("KP-MODEL-STYLES", "the list of styles cannot be read", where=where, fix=fix)


def read(words: str, folder: Path | None = None) -> Reading:
    """What `words` mean by the list of styles; without a medium and a mood if nothing in them is known."""
    styles = known_styles(folder)
    lexicon = Lexicon(
        {style.name: style.phrases for style in styles if style.kind == "medium"},
        {style.name: style.phrases for style in styles if style.kind == "mood"},
        {style.name: style.also for style in styles},
    )
    return lexicon.read(words)


def translated(prompt: Prompt, folder: Path | None) -> Prompt:
    """The prompt as the network of the checkpoint `folder` is asked: in the names of its list of styles.

    Words that its captions had stay as they are, so do words that nothing is known about, and every prompt for a
    checkpoint without such a list.
    """
    if folder is None or not (folder / LIST).exists():
        return prompt
    reading = read(prompt.text, folder)
    return prompt if reading.exact or not reading.prompt else replace(prompt, text=reading.prompt)


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
    """What to say about a prompt that the embedded model will not follow well; empty if there is nothing to say.

    Words that the list of styles does not explain are compared by the text encoder.
    """
    reading, styles = read(prompt), known_styles()
    named = {reading.medium, reading.mood} - {None}
    untrained = [style.name for style in styles if style.name in named and not style.trained]
    if named and not untrained:
        return ""
    if not named and words_of(prompt) in [words_of(text) for text in _listed(None).get("unchanged", [])]:
        return ""
    matches = nearest(prompt, text_encoder, styles)
    if untrained:
        problem = f"the embedded model has not been trained on {' and '.join(map(repr, untrained))} yet"
    else:
        problem = f"the embedded model has not learnt words like {prompt!r} (nearest: {matches[0].nearness:.2f})"
    trained = [match.style.name for match in matches if match.style.trained][:3]
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
