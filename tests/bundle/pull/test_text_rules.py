"""A tokenizer keeps its own padding, length and case, and says how its padding can be told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from twinlens.bundle.pull.plain_path import make_tokens
from twinlens.bundle.pull.text_rules import PulledTokenizer, TokenizerFiles, read_tokenizer
from twinlens.errors import BundleError

WORDS = ["<pad>", "</s>", "[UNK]", "red", "Red", "cat", "a"]


def build(*, end: bool = True, normalizer: Any = None, padding: Any = None) -> dict[str, Any]:
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if normalizer is not None:
        core.normalizer = normalizer
    if end:
        core.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 1)]
        )
    if padding is not None:
        core.enable_padding(**padding)
    content: dict[str, Any] = json.loads(core.to_str())
    return content


def read(
    tokenizer: dict[str, Any] | None = None,
    fixed: int = 0,
    *,
    open_clip: bool = False,
    said: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    sentence: dict[str, Any] | None = None,
) -> PulledTokenizer:
    files = TokenizerFiles(
        tokenizer or build(), said or {}, config or {}, sentence or {}, open_clip=open_clip
    )
    return read_tokenizer(files, fixed)


@pytest.mark.parametrize(
    ("options", "context"),
    [
        ({"fixed": 77, "said": {"model_max_length": 512}}, 77),
        ({"said": {"model_max_length": 77}, "config": {"max_position_embeddings": 512}}, 77),
        ({"said": {"model_max_length": 1e30}, "config": {"max_position_embeddings": 40}}, 40),
        (
            {"sentence": {"max_seq_length": 128}, "said": {"model_max_length": 64},
             "config": {"max_position_embeddings": 512}}, 128,
        ),
        ({"config": {"model_type": "xlm-roberta", "max_position_embeddings": 514}}, 512),
        ({"config": {"model_type": "siglip"}, "said": {"model_max_length": 512}}, 64),
        ({"config": {"text_cfg": {"context_length": 72}}, "open_clip": True}, 72),
        ({}, 512),
    ],
)  # fmt: skip
def test_the_length_is_what_the_model_was_run_with(options: Any, context: int) -> None:
    assert read(**options).context_length == context


@pytest.mark.parametrize(
    ("options", "pad_id"),
    [
        ({"tokenizer": build(padding={"pad_id": 3, "pad_token": "red"})}, 3),
        ({"said": {"pad_token": {"content": "</s>"}}}, 1),
        ({"said": {"pad_token": "cat"}}, 5),
        ({}, 0),
    ],
)
def test_the_padding_is_the_tokenizers_own(options: Any, pad_id: int) -> None:
    assert read(**options).pad_id == pad_id


def test_a_text_that_ends_in_the_padding_token_is_told() -> None:
    assert read(said={"pad_token": "</s>"}).ends_with_pad
    assert not read(said={"pad_token": "<pad>"}).ends_with_pad
    assert not read(build(end=False), said={"pad_token": "</s>"}).ends_with_pad


@pytest.mark.parametrize("normalizer", [None, normalizers.NFC(), normalizers.Lowercase()])
def test_siglip_2_reads_lower_case(normalizer: Any) -> None:
    config, said = {"model_type": "siglip"}, {"tokenizer_class": "GemmaTokenizer"}
    rule = read(build(normalizer=normalizer), config=config, said=said)
    assert make_tokens(rule, "Red", padded=False)[0][:2] == [3, 1]


def test_another_tokenizer_keeps_its_case() -> None:
    assert make_tokens(read(), "Red", padded=False) == ([4, 1], [1, 1])


def test_siglips_texts_are_padded_and_all_of_them_is_seen() -> None:
    ids, mask = make_tokens(read(config={"model_type": "siglip"}), "a cat", padded=False)
    assert ids == [6, 5, 1] + [0] * 61
    assert mask == [1] * 64


def test_a_long_text_keeps_its_end() -> None:
    ids, _ = make_tokens(read(said={"model_max_length": 4}), "a red cat a red", padded=False)
    assert ids == [6, 3, 5, 1]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ({}, "lower"),
        ({"hf_tokenizer_name": "some/name"}, "whitespace"),
        ({"hf_tokenizer_name": "n", "tokenizer_kwargs": {"clean": "canonicalize"}}, "canonicalize"),
    ],
)
def test_open_clips_cleaning_is_its_own(text: dict[str, Any], clean: str) -> None:
    assert read(config={"text_cfg": text}, open_clip=True).clean == clean
    assert read().clean == "none"


def test_a_tokenizer_that_cannot_be_read_is_one_clear_line() -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be read"):
        read({"model": "nothing"})
