"""The items of a request, texts and images mixed: reading them, and fetching their URLs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twinlens.errors import InputError, TooLargeError
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
    means,
)
from twinlens.serving.requests.fetch import Fetcher
from twinlens.serving.requests.fields import Fields, check_text
from twinlens.serving.settings import Limits

ITEM_TEXT = "A text; a bare string is one too. Tokens beyond the model's context are cut off"
# What `read_item` reads.
ITEM: Schema = component(
    "Item",
    either(
        TEXT,
        closed_object(["text"], text=means(TEXT, ITEM_TEXT), image=NULL),
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
        """Return whether it is an image given by its URL."""
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


def read_text(value: object, where: str, limits: Limits) -> InputItem:
    """Return a text, cut at the limit; the tokenizer cuts much sooner, at the encoder's context.

    Clients of other servers send whole documents and expect them to be cut.
    """
    if isinstance(value, str) and len(value) > limits.text_characters:
        value = value[: limits.text_characters]
    return InputItem(text=check_text(value, where, limits.text_characters))


def read_image(value: object, where: str) -> InputItem:
    """Return an image that is given as a string."""
    if not isinstance(value, str):
        raise InputError(f"{where} must be a data URI or base64", field=where)
    return InputItem(image=value)


def check_sizes(groups: Iterable[Sequence[InputItem]], where: str, limits: Limits) -> None:
    """Refuse too many images, which take far longer than texts, and too many characters."""
    images = characters = 0
    for group in groups:
        for item in group:
            if item.text is None:
                images += item.image is not None
            else:
                characters += len(item.text)
    if images > limits.items:
        raise TooLargeError(
            f"{where} holds {images} images; the limit is {limits.items}", field=where
        )
    if characters > limits.request_characters:
        raise TooLargeError(
            f"{where} holds {characters} characters; the limit is {limits.request_characters}, "
            "send fewer texts at a time",
            field=where,
        )


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
