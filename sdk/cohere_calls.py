"""Cohere's clients, first and second version."""

from __future__ import annotations

import base64
from pathlib import Path

import cohere
from calls import check, run_calls

MODEL = "embed-v4.0"
HEART = Path(__file__).resolve().parent.parent / "examples" / "heart.png"
URI = "data:image/png;base64," + base64.b64encode(HEART.read_bytes()).decode()


def embed(url: str) -> None:
    """Second version, several kinds."""
    client = cohere.ClientV2(api_key="none", base_url=url)
    told = client.embed(
        model=MODEL,
        texts=["a cat"],
        input_type="search_query",
        embedding_types=["float", "int8", "ubinary"],
    )
    check(len(told.embeddings.float_[0]) == 256)


def embed_many(url: str) -> None:
    """More texts than Cohere itself takes."""
    client = cohere.ClientV2(api_key="none", base_url=url)
    told = client.embed(
        model=MODEL,
        texts=[f"cat {i}" for i in range(300)],
        input_type="search_document",
        embedding_types=["float"],
    )
    check(len(told.embeddings.float_) == 300)


def embed_fused(url: str) -> None:
    """A text and an image as one embedding."""
    client = cohere.ClientV2(api_key="none", base_url=url)
    image = {"type": "image_url", "image_url": {"url": URI}}
    parts = [{"type": "text", "text": "a red heart"}, image]
    told = client.embed(
        model=MODEL,
        inputs=[{"content": parts}],
        input_type="search_document",
        embedding_types=["float"],
    )
    check(len(told.embeddings.float_) == 1)


def embed_first(url: str) -> None:
    """First version, rows alone and by kind."""
    client = cohere.Client(api_key="none", base_url=url)
    told = client.embed(texts=["a cat", "a dog"], model=MODEL, input_type="search_document")
    check(len(told.embeddings) == 2, told)
    kinds = client.embed(
        texts=["a cat"], model=MODEL, input_type="search_query", embedding_types=["float"]
    )
    check(len(kinds.embeddings.float_[0]) == 256, kinds)


def rerank(url: str) -> None:
    """Both versions."""
    documents = ["the sun", "a red heart", "a tree"]
    for client in (cohere.ClientV2("none", base_url=url), cohere.Client("none", base_url=url)):
        told = client.rerank(model=MODEL, query="a red heart", documents=documents, top_n=2)
        check(next(one.index for one in told.results) == 1, told)
        check(len(told.results) == 2)


def list_models(url: str) -> None:
    """The models."""
    told = cohere.Client(api_key="none", base_url=url).models.list()
    check("builtin" in [one.name for one in told.models], told)


if __name__ == "__main__":
    run_calls(
        "cohere",
        {
            "v2 embed": embed,
            "v2 embed, 300 texts": embed_many,
            "v2 embed, a text and an image": embed_fused,
            "v1 embed": embed_first,
            "rerank": rerank,
            "models": list_models,
        },
    )
