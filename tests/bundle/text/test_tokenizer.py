"""Opening a bundle's tokenizer of either kind, and Hugging Face's `tokenizer.json`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from twinlens.bundle.manifest import TextSpec
from twinlens.bundle.text.clip_tokenizer import ClipTokenizer
from twinlens.bundle.text.clip_vocabulary import write_merges
from twinlens.bundle.text.tokenizer import Tokenizer, open_tokenizer
from twinlens.errors import BundleError, InputError

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "a", "photo", "of", "cat", "dogs"]


def spec(**changes: object) -> TextSpec:
    values: dict[str, object] = {
        "file": "text.onnx",
        "tokenizer": "tokenizer.json",
        "tokenizer_kind": "huggingface",
        "context_length": 6,
    }
    return TextSpec(**(values | changes))  # type: ignore[arg-type]


def write_word_tokenizer(path: Path, *, special: bool = True) -> None:
    """Write a tokenizer with padding and truncation, which the bundle's settings must replace."""
    numbers = {word: i for i, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair=None, special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    tokenizer.enable_padding(length=12, pad_id=3, direction="left")
    tokenizer.enable_truncation(3, direction="left")
    tokenizer.save(str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_word_tokenizer(tmp_path / "tokenizer.json")
    return tmp_path


def test_a_tokenizer_json_adds_its_specials_and_no_padding(folder: Path) -> None:
    tokenizer = open_tokenizer(spec(), folder)
    assert tokenizer.encode(["a photo", "cat", "zebra"]) == [[1, 4, 5, 2], [1, 7, 2], [1, 3, 2]]


def test_a_cut_text_keeps_its_first_words_and_its_closing_token(folder: Path) -> None:
    tokenizer = open_tokenizer(spec(), folder)
    assert tokenizer.encode(["a photo of a cat of dogs"]) == [[1, 4, 5, 6, 4, 2]]


def test_without_a_post_processor_a_text_is_simply_cut(tmp_path: Path) -> None:
    write_word_tokenizer(tmp_path / "tokenizer.json", special=False)
    tokenizer = open_tokenizer(spec(context_length=3), tmp_path)
    assert tokenizer.encode(["a photo of a cat", "cat"]) == [[4, 5, 6], [7]]


def test_a_batch_is_padded_on_the_right_with_the_bundles_pad_id(folder: Path) -> None:
    tokenizer = open_tokenizer(spec(pad_id=2), folder)
    assert tokenizer.batch(["a photo", "cat"], cut=True).tolist() == [[1, 4, 5, 2], [1, 7, 2, 2]]
    whole = tokenizer.batch(["cat"], cut=False)
    assert whole.tolist() == [[1, 7, 2, 2, 2, 2]]
    assert whole.dtype == np.int64


def test_texts_are_cleaned_as_the_manifest_says(folder: Path) -> None:
    text = "A_Photo,  of: (cat)!"
    assert open_tokenizer(spec(), folder).encode([text]) != [[1, 4, 5, 6, 7, 2]]
    tokenizer = open_tokenizer(spec(clean="canonicalize"), folder)
    assert tokenizer.encode([text]) == [[1, 4, 5, 6, 7, 2]]


def test_an_error_names_the_index_of_a_lone_surrogate(folder: Path) -> None:
    with pytest.raises(InputError, match=r"texts\[1\] holds half a surrogate") as caught:
        open_tokenizer(spec(), folder).encode(["a", "cat \ud800"])
    assert caught.value.field == "texts[1]"


def test_the_manifest_chooses_the_kind(tmp_path: Path) -> None:
    write_merges(tmp_path / "merges.txt.gz", [("c", "a"), ("ca", "t</w>")])
    text = spec(tokenizer="merges.txt.gz", tokenizer_kind="clip", context_length=8, pad_id=7)
    tokenizer: Tokenizer = open_tokenizer(text, tmp_path)
    assert isinstance(tokenizer, ClipTokenizer)
    assert tokenizer.batch(["cat"], cut=False).tolist() == [[514, 513, 515, 7, 7, 7, 7, 7]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokenizer": "gone.json"}, "gone.json.* is missing"),
        ({"tokenizer": "../tokenizer.json"}, "leaves the bundle"),
        ({"context_length": 2}, "leaves no room"),
        ({"context_length": 1}, "at least 2"),
        ({"pad_id": 9}, "pad_id is 9; .* ids 0 to 8"),
        ({"pad_id": -1}, "pad_id is -1"),
    ],
)
def test_an_unsupported_manifest_is_refused(
    changes: dict[str, object], words: str, folder: Path
) -> None:
    with pytest.raises(BundleError, match=words):
        open_tokenizer(spec(**changes), folder)


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": {"type": "Nonesuch"}}'])
def test_a_bad_tokenizer_json_is_refused_with_its_name(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be read"):
        open_tokenizer(spec(), tmp_path)
