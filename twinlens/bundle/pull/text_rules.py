"""How a text becomes a tower's tokens, read from the repository's tokenizer and configurations.

What must stay true: the tokenizer's file goes into the bundle unchanged, except for what its own
library would change at run time (SigLIP 2's lower case, a missing end of text).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import tokenizers

from twinlens.bundle.manifest import TextSpec
from twinlens.bundle.pull.json_files import JsonObject
from twinlens.errors import BundleError

TEXT_FILE: Final = "text.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
_NO_LIMIT: Final = 1_000_000  # transformers' value for an unknown length
_PADDING_TOKENS: Final = ("<pad>", "[PAD]", "</s>", "<|endoftext|>")
_OFFSET_POSITIONS: Final = ("roberta", "mpnet", "camembert")  # two positions are never used


@dataclass(frozen=True)
class TokenizerFiles:
    """The parsed files that describe a tokenizer; missing ones are empty."""

    tokenizer: JsonObject
    tokenizer_config: JsonObject
    config: JsonObject  # the model's
    sentence: JsonObject  # sentence_bert_config.json
    open_clip: bool = False


@dataclass(frozen=True)
class PulledTokenizer:
    """The tokenizer's file and the manifest's part for it."""

    content: bytes
    context_length: int
    pad_id: int
    clean: str
    ends_with_pad: bool
    sees_padding: bool

    def build_spec(self) -> TextSpec:
        """Return the manifest's part, before it is known whether texts may be cut."""
        return TextSpec(
            TEXT_FILE,
            TOKENIZER_FILE,
            "huggingface",
            self.context_length,
            pad_id=self.pad_id,
            clean=self.clean,  # type: ignore[arg-type]
        )


def read_tokenizer(files: TokenizerFiles, fixed_length: int) -> PulledTokenizer:
    """Return the tokenizer; `fixed_length` is the graph's only length, or 0."""
    content = dict(files.tokenizer)
    siglip = _is_siglip(files.config)
    if siglip and _is_gemma(files.tokenizer_config):
        content["normalizer"] = _lower_first(content.get("normalizer"))
    text = json.dumps(content, ensure_ascii=False)
    tokenizer = _open(text)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    pad_id = _find_pad_id(tokenizer, files)
    sample = tokenizer.encode("a").ids
    return PulledTokenizer(
        text.encode(),
        fixed_length or _find_context(files, siglip),
        pad_id,
        _find_cleaning(files),
        ends_with_pad=bool(sample) and sample[-1] == pad_id,
        sees_padding=siglip,
    )


def _open(text: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception for every fault of a file
        raise BundleError(f"{TOKENIZER_FILE} cannot be read: {error}") from None


def _is_siglip(config: JsonObject) -> bool:
    return str(config.get("model_type", "")).startswith("siglip")


def _is_gemma(tokenizer_config: JsonObject) -> bool:
    name = str(tokenizer_config.get("tokenizer_class", ""))
    return name.startswith(("Gemma", "Siglip2"))


def _lower_first(normalizer: Any) -> JsonObject:
    """Return the normalizer with lower-casing first, as SigLIP 2 was trained."""
    steps = [] if normalizer is None else [normalizer]
    if steps and steps[0].get("type") == "Sequence":
        steps = list(steps[0]["normalizers"])
    if any(step.get("type") == "Lowercase" for step in steps):
        return {"type": "Sequence", "normalizers": steps}
    return {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *steps]}


def _find_cleaning(files: TokenizerFiles) -> str:
    """Return the cleaning before the tokenizer: none, except for open_clip's own."""
    if not files.open_clip:
        return "none"
    text = files.config.get("text_cfg") or {}
    options = text.get("tokenizer_kwargs") or {}
    return str(options.get("clean") or ("whitespace" if text.get("hf_tokenizer_name") else "lower"))


def _find_pad_id(tokenizer: tokenizers.Tokenizer, files: TokenizerFiles) -> int:
    padding = files.tokenizer.get("padding")
    if padding:
        return int(padding["pad_id"])
    token = files.tokenizer_config.get("pad_token")
    named = token.get("content") if isinstance(token, dict) else token
    for name in (named, *([] if named else _PADDING_TOKENS)):
        found = tokenizer.token_to_id(name) if name else None
        if found is not None:
            return int(found)
    text = files.config.get("text_config") or files.config
    if isinstance(text.get("pad_token_id"), int):
        return int(text["pad_token_id"])
    raise BundleError(f"{TOKENIZER_FILE} names no padding token, and neither do the configurations")


def _find_context(files: TokenizerFiles, siglip: bool) -> int:
    """Return the largest number of tokens: that of the model's use, as far as it is stated."""
    text = files.config.get("text_config") or files.config.get("text_cfg") or files.config
    positions = text.get("max_position_embeddings") or text.get("context_length")
    if positions and any(name in str(text.get("model_type")) for name in _OFFSET_POSITIONS):
        positions -= 2
    if siglip:
        return int(positions or 64)
    own = files.tokenizer_config.get("model_max_length")
    said = [files.sentence.get("max_seq_length"), own, positions]
    if files.sentence.get("max_seq_length"):
        said = [files.sentence["max_seq_length"], positions]
    limits = [int(value) for value in said if value and value < _NO_LIMIT]
    if limits:
        return min(limits)
    truncation = files.tokenizer.get("truncation")
    if truncation:
        return int(truncation["max_length"])
    return 77 if files.open_clip else 512
