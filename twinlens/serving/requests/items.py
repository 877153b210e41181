"""The items of a request, texts and images mixed: reading them, and fetching their URLs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.contracts import EncodedImage
from twinlens.serving.openapi.schemas import (
    IMAGE,
    NULL,
    TEXT,
    Schema,
    closed_object,
    component,
    either,
)
from twinlens.serving.requests.fetch import Fetcher
from twinlens.serving.requests.fields import Fields, check_text

# What `read_item` reads.
ITEM: Schema = component(
    "Item",
    either(
        TEXT,
        closed_object(["text"], text=TEXT, image=NULL),
        closed_object(["image"], image=IMAGE, text=NULL),
    ),
)


@dataclass(frozen=True, slots=True)
class InputItem:
    """A text or an image; or, if it could not be read, its error."""

    text: str | None = None
    image: EncodedImage | None = None
    error: Exception | None = None

    @property
    def is_url(self) -> bool:
        """Return whether it is an image given by an address instead of by its bytes."""
        return isinstance(self.image, str) and "://" in self.image[:16]


def read_item(raw: object, where: str, longest: int) -> InputItem:
    """Return the item in {"text": ...}, {"image": ...} or a bare string (a text)."""
    if isinstance(raw, str):
        return InputItem(text=check_text(raw, where, longest))
    fields = Fields(raw, where)
    fields.only("text", "image")
    if fields.has("text") == fields.has("image"):
        raise InputError(f"{where} must hold either text or image", field=where)
    if fields.has("text"):
        return InputItem(text=check_text(fields.any("text"), f"{where}.text", longest))
    return InputItem(image=fields.text("image"))


async def fetch_items(
    items: Sequence[InputItem], call: Call, fetcher: Fetcher
) -> Sequence[InputItem]:
    """Replace URLs by the bytes they point to, or by the error of the fetch."""
    wanted = [i for i, item in enumerate(items) if item.is_url]
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
