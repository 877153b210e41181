"""LangChain's embeddings for OpenAI and Cohere, at their defaults."""

from __future__ import annotations

from calls import check, run_calls
from langchain_cohere import CohereEmbeddings, CohereRerank
from langchain_openai import OpenAIEmbeddings


def openai_documents(url: str) -> None:
    """Token ids, as the default is, in batches of its own."""
    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small", base_url=f"{url}/v1", api_key="none"
    )
    rows = embeddings.embed_documents([f"a cat {i}" for i in range(1500)])
    check(len(rows) == 1500 and len(rows[0]) == 256, len(rows))


def openai_query(url: str) -> None:
    """A query."""
    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small", base_url=f"{url}/v1", api_key="none"
    )
    check(len(embeddings.embed_query("a cat")) == 256)


def cohere_documents(url: str) -> None:
    """Cohere's first version."""
    embeddings = CohereEmbeddings(model="embed-v4.0", base_url=url, cohere_api_key="none")
    check(len(embeddings.embed_documents([f"a cat {i}" for i in range(300)])) == 300)
    check(len(embeddings.embed_query("a cat")) == 256)


def cohere_rerank(url: str) -> None:
    """Reranking."""
    rerank = CohereRerank(model="embed-v4.0", base_url=url, cohere_api_key="none", top_n=1)
    told = rerank.rerank(["the sun", "a red heart"], "a red heart")
    check(told[0]["index"] == 1, told)


if __name__ == "__main__":
    run_calls(
        "langchain",
        {
            "OpenAIEmbeddings, documents": openai_documents,
            "OpenAIEmbeddings, query": openai_query,
            "CohereEmbeddings": cohere_documents,
            "CohereRerank": cohere_rerank,
        },
    )
