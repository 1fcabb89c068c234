"""Read free wording as a medium and a mood, by a lexicon of phrases: "pls paint it like vincent in the snow".

Plain text, no network: words count by how few styles share them, endings and single slips of the finger are forgiven,
order does not matter. What the lexicon cannot explain is left to whoever asks.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

# words that say nothing about the style
FILLER = frozenset(
    """
    a all an and any art artwork as at be beautiful been but by can change clip convert detail detailed do done
    effect everything feel feeling for frame from get give got had has have highly i if image in into is it its
    just let like look looking looks lovely made make makes me more my nice of on only or our out over picture
    please pls put redo render restyle scene see seen show so some style styled than that the their them these
    they thing this those through to transform turn up us version video want was way we were what when which
    whole will with would you your
    """.split()
)
SPELLINGS = {
    "colour": "color",
    "grey": "gray",
    "grayscale": "gray scale",
    "greyscale": "gray scale",
    "b w": "black white",
}
LEAST = 0.77  # evidence below which words count as not understood; a whole phrase of one style's own words has 1.5
SECOND = 0.3  # evidence that a mood must add to a medium, or a medium to a mood
SLIP = 0.8  # what a word with a slip of the finger counts
# what is not wanted names no style; "without colour" does
DENIED = re.compile(
    r"\b(?:no|not|without)\s+(?!(?:(?:any|the)\s+)?colou?rs?\b)(?:(?:an?|any|the)\s+)?[^\W\d_]+(?:\s+colou?rs?\b)?",
    re.IGNORECASE,
)
STRENGTHS = {
    "slightly": (
        "slightly",
        "a little",
        "a bit",
        "subtle",
        "subtly",
        "a hint of",
        "a touch of",
        "faintly",
        "gently",
        "mildly",
    ),
    "strongly": ("strongly", "very", "extremely", "heavily", "intensely", "really", "super", "totally", "a lot"),
}


@dataclass(frozen=True)
class Reading:
    """What a wording was understood as; the names are those of the lexicon, absent ones None or empty.

    `exact`: made of words that captions had and of words without meaning, so there is nothing to translate.
    """

    medium: str | None = None
    mood: str | None = None
    strength: str = ""
    evidence: float = 0.0
    exact: bool = False

    @property
    def prompt(self) -> str:
        """The canonical wording: "slightly pencil sketch", "oil painting, winter"; empty if no style is named."""
        names = ", ".join(name for name in (self.medium, self.mood) if name)
        return f"{self.strength} {names}".strip() if names else ""


def words_of(text: str) -> tuple[str, ...]:
    """Lower-case words without accents, in American spelling, fillers left out."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))
    plain = " ".join(re.findall(r"[a-z]+|[0-9]+", plain.replace("'s", " ").replace("’s", " ").replace("&", " ")))
    for word, spelling in SPELLINGS.items():
        plain = plain.replace(word, spelling)
    return tuple(word for word in plain.split() if word not in FILLER)


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    for ending in (
        "istic",
        "ings",
        "ing",
        "ists",
        "ist",
        "ism",
        "ized",
        "ers",
        "ies",
        "ish",
        "ed",
        "er",
        "es",
        "s",
        "y",
        "e",
    ):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


@lru_cache(maxsize=65536)
def alike(one: str, other: str) -> float:
    """1 for the same word, a little less with another ending, `SLIP` for one slip of the finger, else 0."""
    if one == other:
        return 1.0
    if stem(one) == stem(other):
        return 0.95
    if min(len(one), len(other)) >= 5 and one[0] == other[0] and _one_slip(one, other):
        return SLIP
    return 0.0


def _one_slip(one: str, other: str) -> bool:
    """Whether a letter added, left out, replaced or swapped with its neighbour makes `one` of `other`."""
    if len(one) > len(other):
        one, other = other, one
    if len(other) - len(one) > 1:
        return False
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[at:] == other[at + 1 :]
    swapped = one[at + 1 : at + 2] + one[at : at + 1] == other[at : at + 2] and one[at + 2 :] == other[at + 2 :]
    return swapped or one[at + 1 :] == other[at + 1 :]


@dataclass(frozen=True)
class Lexicon:
    """Phrases of every medium and of every mood, by their names; `further` ones are understood but not `exact`."""

    media: Mapping[str, Sequence[str]]
    moods: Mapping[str, Sequence[str]]
    further: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def _phrases(self) -> dict[str, list[tuple[str, ...]]]:
        """Words of every phrase; those of two words also as one, "vangogh"."""
        listed: dict[str, list[tuple[str, ...]]] = {}
        for name, phrases in (*self.media.items(), *self.moods.items()):
            parted = [found for text in (name, *phrases, *self.further.get(name, ())) if (found := words_of(text))]
            listed[name] = [*parted, *(("".join(pair),) for pair in parted if len(pair) == 2)]
        return listed

    @cached_property
    def _weights(self) -> dict[str, float]:
        """How much a word tells: 1 if one style has it, less by the logarithm of how many share it."""
        count: dict[str, int] = {}
        for phrases in self._phrases.values():
            for word in {word for phrase in phrases for word in phrase}:
                count[word] = count.get(word, 0) + 1
        all_styles = len(self._phrases) + 1
        return {word: math.log(all_styles / shared) / math.log(all_styles) for word, shared in count.items()}

    def read(self, text: str) -> Reading:
        """The medium and the mood that `text` names, if any; see `Reading`."""
        text, denied = DENIED.subn("", text)
        strength, rest = _strength(text)
        words = words_of(rest)
        if not words:
            words, strength = words_of(text), ""
        places = {part: near for part in self._weights if (near := _place(part, words))}
        evidence = {name: self._evidence(len(words), phrases, places) for name, phrases in self._phrases.items()}

        def best(names: Iterable[str], count: int = 6) -> list[str | None]:
            return [None, *sorted(names, key=lambda name: -sum(evidence[name]))[:count]]

        found, most = Reading(), LEAST
        for medium in best(self.media):
            for mood in best(self.moods):
                named = [name for name in (medium, mood) if name]
                if not named:
                    continue
                told = sum(max(evidence[name][place] for name in named) for place in range(len(words)))
                told -= SECOND * (len(named) - 1)
                if told > most:
                    most, found = told, Reading(medium, mood, strength, told)
        if not found.medium and not found.mood:
            return Reading(strength=strength)
        own = {**self.media, **self.moods}
        known = {
            w for name in (found.medium, found.mood) if name for text in (name, *own[name]) for w in words_of(text)
        }
        exact = set(words) <= known and strength in text.lower() and not denied
        return replace(found, exact=exact)

    def _evidence(
        self, count: int, phrases: Sequence[tuple[str, ...]], places: Mapping[str, tuple[float, int]]
    ) -> list[float]:
        """What each of `count` words tells for a style: its weight, more of it the more of a phrase is there.

        `places`: how near each word of the lexicon is to which of the words. A word of a longer phrase alone tells
        little: a floor is no mosaic, though "ancient mosaic floor" is one.
        """
        told = [0.0] * count
        for phrase in phrases:
            found: dict[int, float] = {}
            for near, place, part in ((*places[part], part) for part in phrase if part in places):
                found[place] = max(found.get(place, 0.0), near * self._weights[part])
            if not found:
                continue
            share = sum(found.values()) / sum(self._weights[part] for part in phrase)
            for place, weight in found.items():
                told[place] = max(told[place], weight * (1.5 if len(found) == len(phrase) else 0.2 + 0.7 * share))
        return told


def _place(part: str, words: Sequence[str]) -> tuple[float, int] | None:
    """How near the nearest of `words` is to `part`, and which it is; None if none is."""
    near, place = max((alike(word, part), i) for i, word in enumerate(words)) if words else (0.0, -1)
    return (near, place) if near else None


def _strength(text: str) -> tuple[str, str]:
    """("slightly" or "strongly" or "", the rest of the text)."""
    for strength, wordings in STRENGTHS.items():
        for wording in wordings:
            found = re.search(rf"\b{wording}\b", text, re.IGNORECASE)
            if found:
                return strength, text[: found.start()] + text[found.end() :]
    return "", text
