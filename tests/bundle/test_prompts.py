"""A prompt stands before a text by its purpose, and nowhere in a bundle without prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import TOY_MANIFEST
from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.bundle.prompts import add_prompt, find_prompt
from twinlens.errors import BundleError, InputError

PROMPTS = {
    "required": True,
    "default": "a ",
    "by_purpose": {"query": "photo of ", "document": ""},
}


@pytest.fixture
def encoder(make_toy: Callable[..., Path]) -> Encoder:
    return open_bundle(make_toy(extensions={"prompts": PROMPTS}))


@pytest.mark.parametrize(
    ("input_type", "prompted"),
    [
        ("query", "photo of red"),
        ("search_query", "photo of red"),
        ("document", "red"),
        ("search_document", "red"),
        ("passage", "red"),
        ("clustering", "a red"),
        ("image", "a red"),
        (None, "a red"),
    ],
)
def test_the_encoder_puts_the_prompt_first(
    encoder: Encoder, toy_model: Any, input_type: str | None, prompted: str
) -> None:
    found = encoder.embed_texts(["red"], input_type=input_type)
    np.testing.assert_allclose(found[0], toy_model.embed_text(prompted), atol=1e-6)


@pytest.mark.parametrize("input_type", [None, "query", "document"])
def test_a_bundle_without_prompts_adds_none(input_type: str | None) -> None:
    assert find_prompt(TOY_MANIFEST, input_type) == ""
    texts = ["red"]
    assert add_prompt(TOY_MANIFEST, texts, input_type) is texts


def test_an_unknown_purpose_is_refused_with_those_that_are_known(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="'poem' is unknown; choose from query") as caught:
        encoder.embed_texts(["red"], input_type="poem")
    assert caught.value.field == "input_type"


@pytest.mark.parametrize("texts", [[""], [5], ["red", None]])
def test_what_is_no_text_is_refused_as_ever(encoder: Encoder, texts: list[Any]) -> None:
    with pytest.raises(InputError, match=r"texts\[\d\]"):
        encoder.embed_texts(texts)


@pytest.mark.parametrize(
    "extension",
    [{}, {"by_purpose": []}, {"by_purpose": {"query": 5}}, {"by_purpose": {}, "default": 1}],
)
def test_a_malformed_extension_is_named(extension: dict[str, Any]) -> None:
    manifest = replace(TOY_MANIFEST, extensions={"prompts": {"required": True, **extension}})
    with pytest.raises(BundleError, match=r"extensions\.prompts"):
        find_prompt(manifest, "query")
