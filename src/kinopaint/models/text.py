"""Words to embeddings: a CLIP tokenizer and text model, or two of them."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from kinopaint.engine.denoiser import Text
from kinopaint.errors import ModelError
from kinopaint.text import shown

Network = CLIPTextModel | CLIPTextModelWithProjection


class ClipText:
    """A text encoder with its weights frozen.

    Where `again` can read the network anew, `rest` lets it go: texts are encoded once, and its memory serves the rest
    of the run better. It is read again if it is asked for.
    """

    def __init__(self, tokenizer: CLIPTokenizer, model: Network, again: Callable[[], Network] | None = None) -> None:
        self.tokenizer, self._again = tokenizer, again
        self._model: Any = _frozen(model)
        self.dim: int = model.config.hidden_size
        self.max_tokens: int = min(tokenizer.model_max_length, model.config.max_position_embeddings)
        self.masks_padding = bool(getattr(model.config, "use_attention_mask", False))

    @property
    def model(self) -> Any:
        if self._model is None and self._again is not None:
            self._model = _frozen(self._again())
        return self._model

    def rest(self) -> None:
        """Let the network go, until it is asked for."""
        if self._again is not None:
            self._model = None

    def stay(self) -> None:
        """The network is no longer as it was read: keep it."""
        self._again = None

    @property
    def models(self) -> dict[str, Any]:
        """The networks by the names of their parts."""
        return {"text_encoder": self.model}

    def encode(self, texts: Sequence[str]) -> list[Text]:
        """The last layer's states of each text, normalised, in fp32; texts are padded to `max_tokens`.

        Warns (UserWarning) with the words that were cut off if a text is longer than that.
        """
        return [Text(states) for states in self._run(texts)[0].float()]

    def last_but_one(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The states before the last layer, in fp32; and the model's first output, for SDXL's second encoder the
        projected vector of each text. Warns as `encode` does."""
        output = self._run(texts, output_hidden_states=True)
        return output.hidden_states[-2].float(), output[0].float()

    def _run(self, texts: Sequence[str], **more: Any) -> Any:
        for text in texts:
            if cut := self.beyond_limit(text):
                warnings.warn(
                    f"the text encoder reads {self.max_tokens} tokens; it will not see: {shown(cut)}", stacklevel=3
                )
        tokens = self.tokenizer(
            list(texts), padding="max_length", max_length=self.max_tokens, truncation=True, return_tensors="pt"
        ).to(self.model.device)
        mask = tokens.attention_mask if self.masks_padding else None
        with torch.no_grad():
            return self.model(tokens.input_ids, attention_mask=mask, **more)

    def beyond_limit(self, text: str) -> str:
        """The end of `text` that the encoder cannot see; empty if all of it fits."""
        tokens = self.tokenizer(text, verbose=False).input_ids
        if len(tokens) <= self.max_tokens:
            return ""
        return str(self.tokenizer.decode(tokens[self.max_tokens - 1 : -1])).strip()


class TwoClipTexts:
    """The text encoders of Stable Diffusion XL: their states side by side, and the second one's pooled vector.

    `zero_for_empty`: an empty text is told as zeros, as SDXL was trained.
    """

    def __init__(self, first: ClipText, second: ClipText, *, zero_for_empty: bool = True) -> None:
        self.first, self.second, self.zero_for_empty = first, second, zero_for_empty
        self.dim = first.dim + second.dim
        self.max_tokens = min(first.max_tokens, second.max_tokens)
        self.beyond_limit = first.beyond_limit

    @property
    def models(self) -> dict[str, Any]:
        return {"text_encoder": self.first.model, "text_encoder_2": self.second.model}

    def rest(self) -> None:
        self.first.rest()
        self.second.rest()

    def stay(self) -> None:
        self.first.stay()
        self.second.stay()

    def encode(self, texts: Sequence[str]) -> list[Text]:
        """See ClipText. Raises nothing of its own; both encoders warn about words that they cut off."""
        (left, _), (right, pooled) = self.first.last_but_one(texts), self.second.last_but_one(texts)
        told = [Text(*each) for each in zip(torch.cat([left, right], -1), pooled, strict=True)]
        if not self.zero_for_empty:
            return told
        return [
            text if words.strip() else replace(text, states=text.states * 0, pooled=whole * 0)
            for words, text, whole in zip(texts, told, pooled, strict=True)
        ]


def _frozen(model: Any) -> Any:
    return model.eval().requires_grad_(False)


def read_tokenizer(folder: Path, vocabulary: int, *, pad_token: str | None = None) -> Any:
    """The tokenizer in `folder`, for a text model that knows `vocabulary` pieces; `pad_token` None: its own.

    Raises ModelError KP-MODEL-TOKENIZER, or KP-MODEL-MISFIT if it has more pieces than that.
    """
    if not (folder / "tokenizer.json").exists():
        for name in ("vocab.json", "merges.txt"):
            if not (folder / name).exists():
                raise ModelError(
                    "KP-MODEL-TOKENIZER",
                    f"the tokenizer has no {name}",
                    where=str(folder / name),
                    fix="fetch the model again",
                )
    try:
        more: Any = {"pad_token": pad_token} if pad_token else {}
        tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True, **more)
    except Exception as error:  # of several libraries, down to a Rust one without a common class
        raise ModelError(
            "KP-MODEL-TOKENIZER",
            f"the tokenizer cannot be read: {error}",
            where=str(folder),
            fix="fetch the model again",
        ) from error
    if not isinstance(tokenizer.model_max_length, int | float):
        raise ModelError(
            "KP-MODEL-TOKENIZER",
            f"the tokenizer's model_max_length is {tokenizer.model_max_length!r}, not a number",
            where=str(folder),
            fix="fetch the model again",
        )
    if len(tokenizer) > vocabulary:
        raise ModelError(
            "KP-MODEL-MISFIT",
            f"the tokenizer has {len(tokenizer)} pieces, the text encoder knows {vocabulary}",
            where=str(folder),
            fix="the parts come from different checkpoints; fetch the model again",
        )
    return tokenizer
