"""Embedding the items of a request, texts and images mixed, with one model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.contracts import Answers, EmbeddedItems
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.requests.fetch import Fetcher
from twinlens.serving.requests.items import InputItem, fetch_items

# Shared: creating one for each item of a hot request would be slow.
_EMPTY = InputError("empty item")


async def embed_items(
    model: ServedModel, items: Sequence[InputItem], call: Call, fetcher: Fetcher
) -> EmbeddedItems:
    """Return a row or an error for each item, in order."""
    if any(isinstance(item.image, str) for item in items):
        items = await fetch_items(items, call, fetcher)
    texts = [i for i, item in enumerate(items) if item.text is not None]
    images = [i for i, item in enumerate(items) if item.image is not None]
    answers: Answers = [item.error or _EMPTY for item in items]
    tokens = 0
    runs = await _embed_both(model, items, texts, images, call) if texts or images else []
    for indices, embedded in runs:
        tokens += embedded.tokens
        for i, answer in zip(indices, embedded.answers, strict=True):
            answers[i] = answer
    return EmbeddedItems(answers, tokens)


async def _embed_both(
    model: ServedModel,
    items: Sequence[InputItem],
    texts: list[int],
    images: list[int],
    call: Call,
) -> list[tuple[list[int], EmbeddedItems]]:
    """Run texts and images, concurrently where there are both."""
    if not images:
        return [(texts, await model.embed_texts([items[i].text or "" for i in texts], call))]
    if not texts:
        return [(images, await model.embed_images([items[i].image or b"" for i in images], call))]
    first = asyncio.ensure_future(model.embed_texts([items[i].text or "" for i in texts], call))
    second = asyncio.ensure_future(
        model.embed_images([items[i].image or b"" for i in images], call)
    )
    try:
        return [(texts, await first), (images, await second)]
    finally:  # where one fails as a whole, the other is cancelled
        first.cancel()
        second.cancel()
