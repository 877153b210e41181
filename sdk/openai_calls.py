"""OpenAI's client."""

from __future__ import annotations

import asyncio

import openai
from calls import check, run_calls

MODEL = "text-embedding-3-small"


def make(url: str) -> openai.OpenAI:
    """Return a client with its own defaults."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none")


def embed(url: str) -> None:
    """A text, by the client's default of base64."""
    check(len(make(url).embeddings.create(model=MODEL, input="a cat").data[0].embedding) == 256)


def embed_many(url: str) -> None:
    """As many as OpenAI takes."""
    told = make(url).embeddings.create(model=MODEL, input=[f"cat {i}" for i in range(2048)])
    check(len(told.data) == 2048, len(told.data))


def embed_long(url: str) -> None:
    """A text longer than any context."""
    told = make(url).embeddings.create(model=MODEL, input=["cat " * 30_000])
    check(0 < told.usage.total_tokens < 30_000, told.usage)


def embed_ids(url: str) -> None:
    """Token ids, which must mean what their text means."""
    import tiktoken

    ids = tiktoken.get_encoding("cl100k_base").encode("a red heart")
    client = make(url)
    by_ids = client.embeddings.create(model=MODEL, input=[ids]).data[0].embedding
    by_text = client.embeddings.create(model=MODEL, input="a red heart").data[0].embedding
    check(by_ids == by_text)


def embed_async(url: str) -> None:
    """The asynchronous client."""

    async def ask() -> int:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            told = await client.embeddings.create(model=MODEL, input=["a", "b"])
            return len(told.data)

    check(asyncio.run(ask()) == 2)


def list_models(url: str) -> None:
    """The models, with and without /v1."""
    names = [model.id for model in make(url).models.list()]
    check(names[0] == "builtin", names)
    check(MODEL in names, names)
    plain = openai.OpenAI(base_url=url, api_key="none")
    check(next(model.id for model in plain.models.list()) == "builtin")


def name_an_unknown_model(url: str) -> None:
    """The error lists what is known."""
    try:
        make(url).embeddings.create(model="gpt", input="a")
    except openai.NotFoundError as error:
        check("builtin" in str(error), error)
    else:
        raise ValueError("an unknown model was answered")


if __name__ == "__main__":
    run_calls(
        "openai",
        {
            "embeddings": embed,
            "2,048 inputs": embed_many,
            "a long text": embed_long,
            "token ids": embed_ids,
            "async": embed_async,
            "models": list_models,
            "an unknown model": name_an_unknown_model,
        },
    )
