"""Voyage's client."""

from __future__ import annotations

from pathlib import Path

import voyageai
from calls import check, run_calls
from PIL import Image

HEART = Path(__file__).resolve().parent.parent / "examples" / "heart.png"


def make(url: str) -> voyageai.Client:
    """Return a client."""
    return voyageai.Client(api_key="none", base_url=f"{url}/v1")


def embed_many(url: str) -> None:
    """A thousand texts."""
    told = make(url).embed([f"cat {i}" for i in range(1000)], model="builtin")
    check(len(told.embeddings) == 1000)


def embed_kinds(url: str) -> None:
    """Whole numbers and bits."""
    for kind in ("int8", "ubinary"):
        told = make(url).embed(["cat"], model="builtin", output_dtype=kind)
        check(len(told.embeddings[0]) == (256 if kind == "int8" else 32))


def embed_interleaved(url: str) -> None:
    """Texts and images in one input."""
    picture = Image.open(HEART)
    told = make(url).multimodal_embed([["a heart", picture, "in red"], [picture]], model="builtin")
    check(len(told.embeddings) == 2)


def rerank(url: str) -> None:
    """Documents by a query."""
    told = make(url).rerank("a red heart", ["the sun", "a red heart"], model="builtin", top_k=1)
    check(told.results[0].index == 1, told.results)
    check(told.total_tokens > 0)


if __name__ == "__main__":
    run_calls(
        "voyage",
        {
            "embed, 1,000 texts": embed_many,
            "embed, int8 and ubinary": embed_kinds,
            "multimodal_embed, interleaved": embed_interleaved,
            "rerank": rerank,
        },
    )
