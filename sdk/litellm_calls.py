"""litellm, through which many other programs ask."""

from __future__ import annotations

import litellm
from calls import check, run_calls

TEXTS = [f"a cat {i}" for i in range(300)]
DOCUMENTS = ["the sun", "a red heart"]


def openai_embed(url: str) -> None:
    """300 texts as for OpenAI."""
    told = litellm.embedding(
        model="openai/builtin", input=TEXTS, api_base=f"{url}/v1", api_key="none"
    )
    check(len(told.data) == 300)


def infinity_embed(url: str) -> None:
    """As for infinity."""
    told = litellm.embedding(
        model="infinity/builtin", input=["a cat"], api_base=url, api_key="none"
    )
    check(len(told.data) == 1)


def rerank(url: str) -> None:
    """As for Cohere, and for infinity."""
    for model, base in (("cohere/builtin", url), ("infinity/builtin", url)):
        told = litellm.rerank(
            model=model, query="a red heart", documents=DOCUMENTS, api_base=base, api_key="none"
        )
        check(told.results[0]["index"] == 1, told)


def jina_rerank(url: str) -> None:
    """As for Jina."""
    told = litellm.rerank(
        model="jina_ai/builtin",
        query="a red heart",
        documents=DOCUMENTS,
        api_base=url,
        api_key="none",
    )
    check(told.results[0]["index"] == 1, told)


if __name__ == "__main__":
    litellm.suppress_debug_info = True
    run_calls(
        "litellm",
        {
            "embedding, openai, 300 texts": openai_embed,
            "embedding, infinity": infinity_embed,
            "rerank, cohere and infinity": rerank,
            "rerank, jina": jina_rerank,
        },
    )
