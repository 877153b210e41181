"""The items of a request, texts and images mixed, and their way through a model in one piece."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.engine.decode import Encoded
from twinlens.serving.engine.model import Answers, EmbeddedItems, ServedModel
from twinlens.serving.requests.fetch import Fetcher, is_url
from twinlens.serving.requests.fields import Fields, check_text

_EMPTY = InputError("empty item")  # one for all: every good item of a hot request passes it


@dataclass(frozen=True, slots=True)
class InputItem:
    """A text or an image; or, where it was unreadable, the error that stands in its place."""

    text: str | None = None
    image: Encoded | None = None
    error: Exception | None = None


def read_item(raw: object, where: str, longest: int) -> InputItem:
    """Return the item that {"text": ...}, {"image": ...} or a bare string (a text) stands for."""
    if isinstance(raw, str):
        return InputItem(text=check_text(raw, where, longest))
    fields = Fields(raw, where)
    fields.only("text", "image")
    if fields.has("text") == fields.has("image"):
        raise InputError(f"{where} must hold either text or image", field=where)
    if fields.has("text"):
        return InputItem(text=check_text(fields.any("text"), f"{where}.text", longest))
    return InputItem(image=fields.text("image"))


async def embed_items(
    model: ServedModel, items: Sequence[InputItem], call: Call, fetcher: Fetcher
) -> EmbeddedItems:
    """Return a row or an error for each item, in order."""
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


async def fetch_items(
    items: Sequence[InputItem], call: Call, fetcher: Fetcher
) -> Sequence[InputItem]:
    """Replace URLs by the bytes behind them; one that may not or cannot be fetched by its error."""
    wanted = [i for i, item in enumerate(items) if is_url(item.image)]
    if not wanted:
        return items
    began = call.clock.now()
    fetched = await asyncio.gather(*(fetcher.fetch(str(items[i].image), call) for i in wanted))
    call.add("fetch", call.clock.now() - began)
    found = list(items)
    for i, content in zip(wanted, fetched, strict=True):
        found[i] = (
            InputItem(error=content) if isinstance(content, Exception) else InputItem(image=content)
        )
    return found


async def _embed_both(
    model: ServedModel,
    items: Sequence[InputItem],
    texts: list[int],
    images: list[int],
    call: Call,
) -> list[tuple[list[int], EmbeddedItems]]:
    """Run texts and images, beside each other where there are both."""
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
    finally:  # where one fails as a whole, nobody waits for the other
        first.cancel()
        second.cancel()
