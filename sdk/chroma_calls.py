"""Chroma's embedding functions."""

from __future__ import annotations

from calls import check, run_calls
from chromadb.utils import embedding_functions as functions

TEXTS = [f"a cat {i}" for i in range(1000)]


def openai_function(url: str) -> None:
    """A thousand texts in one call, as a collection's `add` sends them."""
    embed = functions.OpenAIEmbeddingFunction(
        api_key="none", api_base=f"{url}/v1", model_name="text-embedding-3-small"
    )
    check(len(embed(TEXTS)) == 1000)


def tei_function(url: str) -> None:
    """Its function for Hugging Face's servers, which reads rows alone: the root."""
    embed = functions.HuggingFaceEmbeddingServer(url=f"{url}/")
    rows = embed(["a cat", "a dog"])
    check(len(rows) == 2 and len(rows[0]) == 256)


if __name__ == "__main__":
    run_calls(
        "chromadb",
        {
            "OpenAIEmbeddingFunction, 1,000 texts": openai_function,
            "HuggingFaceEmbeddingServer, /": tei_function,
        },
    )
