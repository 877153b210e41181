"""infinity's own client, which sends `dimensions: 0` with every request."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx
from calls import check, run_calls
from infinity_client import Client
from infinity_client.api.default import (
    classify,
    embeddings,
    embeddings_image,
    health,
    models,
    rerank,
)
from infinity_client.models import (
    ClassifyInput,
    ImageEmbeddingInput,
    OpenAIEmbeddingInputText,
    RerankInput,
)

HEART = Path(__file__).resolve().parent.parent / "examples" / "heart.png"
URI = "data:image/png;base64," + base64.b64encode(HEART.read_bytes()).decode()


def embed(url: str) -> None:
    """A text."""
    body = OpenAIEmbeddingInputText(input_=["a cat"], model="builtin")
    told = embeddings.sync(client=Client(base_url=url), body=body)
    check(len(told.data[0].embedding) == 256, told)


def embed_image(url: str) -> None:
    """An image, at its deprecated path."""
    body = ImageEmbeddingInput(input_=URI, model="builtin")
    told = embeddings_image.sync(client=Client(base_url=url), body=body)
    check(len(told.data[0].embedding) == 256, told)


def rank(url: str) -> None:
    """Documents by a query."""
    body = RerankInput(query="a red heart", documents=["the sun", "a red heart"], model="builtin")
    told = rerank.sync(client=Client(base_url=url), body=body)
    check(told.results[0].index == 1, told)


def label(url: str) -> None:
    """Texts, by a classifier that was stored before."""
    named = {"classes": ["red heart", "sun"]}
    httpx.put(f"{url}/classifiers/sdk", json=named).raise_for_status()
    body = ClassifyInput(input_=["a red heart", "the sun"], model="sdk")
    told = classify.sync(client=Client(base_url=url), body=body)
    check([one[0].label for one in told.data] == ["red heart", "sun"], told)


def list_models(url: str) -> None:
    """The models."""
    told = models.sync(client=Client(base_url=url))
    check(told.data[0].id == "builtin", told)


def ask_health(url: str) -> None:
    """The check that the server is there."""
    check(health.sync(client=Client(base_url=url))["unix"] > 0)


if __name__ == "__main__":
    run_calls(
        "infinity_client",
        {
            "embeddings": embed,
            "embeddings_image": embed_image,
            "rerank": rank,
            "classify": label,
            "models": list_models,
            "health": ask_health,
        },
    )
