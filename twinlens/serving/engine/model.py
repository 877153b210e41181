"""A bundle as the server runs it: a decode stage and two towers, and how requests pass them.

What must stay true: all embeddings of one answer come from one encoder, and one bad item does not
affect any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from twinlens.bundle.arrays import Pixels, Row
from twinlens.bundle.calibration.calibration import Calibration, read_calibration
from twinlens.bundle.prompts import add_prompt
from twinlens.errors import InputError
from twinlens.serving.call import Call, Priority
from twinlens.serving.clock import Clock
from twinlens.serving.contracts import Answers, EmbeddedItems, EncodedImage, StagedEncoder
from twinlens.serving.engine.batcher import choose_bucket
from twinlens.serving.engine.cache import TextCache
from twinlens.serving.engine.decode import (
    DecodeGroup,
    DecodePool,
    decode_here,
    decode_image,
)
from twinlens.serving.engine.promised_work import IMAGES, TEXTS, PromisedWork, plan
from twinlens.serving.engine.speed import LEAST_TOKENS, ImageSpeed, MeasuredSpeed
from twinlens.serving.engine.throttle import Throttles
from twinlens.serving.engine.ticket import QueueEntry, Ticket, TicketFuture
from twinlens.serving.engine.tower import ServedTower
from twinlens.serving.engine.tower_builder import Observe, TowerBuilder, TowerSource
from twinlens.serving.settings import ServerSettings

EncodedImages = Sequence[EncodedImage]
_TOKENIZE_INLINE = 4000  # characters tokenized on the event loop: well under a millisecond
_BATCHES_TOKENIZED = 4  # at a time: a few milliseconds
_CHARACTERS_A_TOKEN = 4  # about; only for an estimate
_DECODED_TOGETHER = 4  # images of a request for each thread; then they may be encoded
_UNMEASURED_SECONDS = 0.01  # of an item, before anything was measured


class ServedModel:
    """One encoder at one precision, under the name that clients use."""

    def __init__(
        self,
        name: str,
        encoder: StagedEncoder,
        settings: ServerSettings,
        *,
        pool: DecodePool,
        cache: TextCache,
        precision: str = "fp32",
        clock: Clock | None = None,
        observe: Observe | None = None,
        throttles: Throttles | None = None,
        promised_work: PromisedWork | None = None,
        towers: TowerSource | None = None,
        decodes_here: bool = False,
    ) -> None:
        self.name = name
        self.encoder = encoder
        self.precision = precision
        self.revision = encoder.revision
        self.clock = clock or Clock()
        self.cache_hits = 0
        self.cache_misses = 0
        self.settings = settings
        self.pool = pool
        self._cache = cache
        self.throttles = throttles or Throttles()
        self.promised_work = promised_work or PromisedWork()
        text = encoder.manifest.text
        kind = text.tokenizer_kind if text else ""
        self.context = text.context_length if text else 0
        self.token_speed = MeasuredSpeed(LEAST_TOKENS)
        self.image_speed = ImageSpeed(pool.threads)
        self.space = f"{encoder.revision}/{precision}/{kind}"
        self._decodes_here = decodes_here  # small pictures, on the event loop
        build = towers or TowerBuilder(
            name, encoder, settings, self.throttles, self.clock, observe or _observe_nothing
        )
        self.images = build.build_image_tower(self.image_speed)
        self.texts = build.build_text_tower(self.token_speed)

    @property
    def image_batch(self) -> int:
        """The largest batch of images; 1 without an image tower."""
        return self.images.batcher.max_batch if self.images else 1

    @property
    def text_batch(self) -> int:
        """The largest batch of texts; 1 without a text tower."""
        return self.texts.batcher.max_batch if self.texts else 1

    @property
    def towers(self) -> list[ServedTower[Pixels, Row] | ServedTower[list[int], Row]]:
        """The towers that this bundle has."""
        return [tower for tower in (self.images, self.texts) if tower is not None]

    @property
    def calibration(self) -> Calibration | None:
        """The bundle's calibration, if it has one."""
        return read_calibration(self.encoder.manifest)

    def close(self) -> None:
        """Stop the workers."""
        for tower in self.towers:
            tower.close()

    def probe(self) -> None:
        """Queue one harmless item per tower, so that the recovery of a worker is noticed."""
        image = self.encoder.manifest.image
        if self.images is not None and image is not None and not self.images.batcher.depth:
            pixels = np.zeros((image.height, image.width, 3), dtype=np.uint8)
            self.images.batcher.put([QueueEntry(Ticket(1, _ignore), 0, pixels)])
        if self.texts is not None and not self.texts.batcher.depth:
            tokens = self.encoder.tokenize(["a probe"])[0]
            self.texts.batcher.put([QueueEntry(Ticket(1, _ignore), 0, tokens)])

    def weigh(self, call: Call, items: int, seconds: float) -> None:
        """Record the seconds that a request costs; several items with a high cost make it large."""
        call.cost = max(call.cost, seconds)
        guessed = call.cost or items * _UNMEASURED_SECONDS
        is_large = items > 1 and guessed > self.settings.batching.large_seconds
        if is_large and call.priority is Priority.SMALL:
            call.priority = Priority.LARGE
            call.rank = call.clock.now() + guessed

    def weigh_images(self, count: int, call: Call) -> None:
        """Record the seconds that a request's images cost."""
        if count > self.image_batch:
            self.weigh(call, count, self.image_speed.seconds_for(count))

    def _fit_share(self, tower: ServedTower[Any, Any], count: int, call: Call) -> None:
        """Process a request in parts if it exceeds this process's share of the queue."""
        if self._decodes_here and count > tower.batcher.capacity and not call.priority:
            call.priority, call.rank = Priority.LARGE, call.clock.now()

    async def embed_images(self, images: Sequence[EncodedImage], call: Call) -> EmbeddedItems:
        """Return a row or an error for each image."""
        tower = self.images
        if tower is None:
            raise InputError(f"{self.name!r} has no image tower; send texts, or name another model")
        self.weigh_images(len(images), call)
        self._fit_share(tower, len(images), call)
        if call.priority is not Priority.LARGE:
            return EmbeddedItems(await self._encode_images(tower, images, call))
        answers: Answers = []
        with plan(self.promised_work, self.image_speed, len(images), call, IMAGES) as budget:
            for part in tower.share.split(images):
                answers += await self._encode_images(tower, part, call)
                if budget is not None:
                    budget.spend(len(part), call)
        return EmbeddedItems(answers)

    async def _encode_images(
        self, tower: ServedTower[Pixels, Row], images: Sequence[EncodedImage], call: Call
    ) -> Answers:
        """Decode images in groups and run them through the tower."""
        async with tower.hold(len(images), call):
            future = TicketFuture()
            ticket: Ticket[Row] = Ticket(len(images), future.notify, deadline=call.deadline)
            began = call.clock.now()
            if self._decodes_here and call.priority is Priority.SMALL:
                await decode_here(self, ticket, call, images)
            else:
                self._decode_in_groups(ticket, call, images)
            await future.wait(ticket, call)
            _count_stages(call, ticket, began, "decode")
        return _collect_answers(ticket)

    def _decode_in_groups(self, ticket: Ticket[Row], call: Call, images: EncodedImages) -> None:
        """Decode images in the pool, one group for each batch."""
        size = min(self.image_batch, _DECODED_TOGETHER * self.pool.threads)
        for start in range(0, len(images), size):
            DecodeGroup(self, ticket, call, images, range(start, min(start + size, len(images))))

    async def embed_texts(self, texts: Sequence[str], call: Call) -> EmbeddedItems:
        """Return a row or an error for each text; cached texts are not encoded again."""
        tower = self.texts
        if tower is None:
            raise InputError(f"{self.name!r} has no text tower; send images, or name another model")
        texts = add_prompt(self.encoder.manifest, texts, call.input_type)
        known = {text: self._cache.get(self.space, text) for text in texts}
        missing = [text for text, found in known.items() if found is None]
        self.cache_misses += len(missing)
        self.cache_hits += len(known) - len(missing)
        fresh: dict[str, tuple[Row | Exception, int]] = {}
        if missing:
            fresh = await self._encode_missing(tower, missing, call)
        answers: Answers = []
        total = 0
        for text in texts:
            row, tokens = known[text] or fresh[text]
            answers.append(row)
            total += tokens
        return EmbeddedItems(answers, tokens=total)

    async def _encode_missing(
        self, tower: ServedTower[list[int], Row], texts: list[str], call: Call
    ) -> dict[str, tuple[Row | Exception, int]]:
        """Run distinct texts, those of a large request part by part."""
        if len(texts) <= min(self.text_batch, tower.batcher.capacity):
            return await self._encode_texts(tower, texts, call)
        units = [min(self.context, len(text) // _CHARACTERS_A_TOKEN + 2) for text in texts]
        self.weigh(call, len(texts), self.token_speed.seconds_for(sum(units)))
        self._fit_share(tower, len(texts), call)
        if call.priority is not Priority.LARGE:
            return await self._encode_texts(tower, texts, call)
        found: dict[str, tuple[Row | Exception, int]] = {}
        with plan(self.promised_work, self.token_speed, sum(units), call, TEXTS) as budget:
            for part in tower.share.split(texts):
                found |= await self._encode_texts(tower, part, call)
                if budget is not None:
                    budget.spend(sum(units[len(found) - len(part) : len(found)]), call)
        return found

    async def _encode_texts(
        self, tower: ServedTower[list[int], Row], texts: Sequence[str], call: Call
    ) -> dict[str, tuple[Row | Exception, int]]:
        """Run distinct texts through the tower and cache their rows."""
        bounds = self.settings.batching.text_buckets
        async with tower.hold(len(texts), call):
            began = call.clock.now()
            tokens = await self._tokenize(texts, call)
            future = TicketFuture()
            ticket: Ticket[Row] = Ticket(len(texts), future.notify, deadline=call.deadline)
            tower.batcher.put(
                [
                    QueueEntry(ticket, i, ids, choose_bucket(len(ids), bounds), call.number)
                    for i, ids in enumerate(tokens)
                ],
                call.priority,
            )
            await future.wait(ticket, call)
            _count_stages(call, ticket, began, "decode")
        found: dict[str, tuple[Row | Exception, int]] = {}
        for text, ids, answer in zip(texts, tokens, _collect_answers(ticket), strict=True):
            found[text] = (answer, len(ids))
            # A long job would evict the texts that live requests repeat.
            if not isinstance(answer, Exception) and call.priority is not Priority.BACKGROUND:
                self._cache.put(self.space, text, answer, len(ids))
        return found

    def is_known(self, text: str) -> bool:
        """Return whether the row of a text is cached."""
        return self._cache.get(self.space, text) is not None

    async def count_tokens(self, texts: Sequence[str], call: Call) -> list[int]:
        """Return how many tokens each text has, cut to the context."""
        if self.texts is None:
            return [0] * len(texts)
        return [len(ids) for ids in await self._tokenize(texts, call)]

    async def _tokenize(self, texts: Sequence[str], call: Call) -> list[list[int]]:
        """Tokenize short texts here and long ones in the pool, a few batches at a time."""
        if sum(map(len, texts)) <= _TOKENIZE_INLINE:
            return self.encoder.tokenize(texts)
        size = _BATCHES_TOKENIZED * self.text_batch
        tokens: list[list[int]] = []
        for start in range(0, len(texts), size):
            part = texts[start : start + size]
            work = self.pool.submit_as(call.priority, partial(self.encoder.tokenize, part))
            done: list[list[int]] = await asyncio.wrap_future(work)
            tokens += done
        return tokens

    def decode(self, image: EncodedImage, call: Call) -> Pixels:
        """Return the pixels that the image tower takes; runs in the decode pool."""
        return decode_image(self, image, call)


def _collect_answers(ticket: Ticket[Row]) -> Answers:
    """Return the answers of a full ticket."""
    return [answer for answer in ticket.answers if answer is not None]


def _count_stages(call: Call, ticket: Ticket[Row], began: float, first: str) -> None:
    """Add the times of a full ticket's stages to the call."""
    if ticket.ended == 0.0:  # nothing reached a batch
        call.add(first, call.clock.now() - began)
        return
    found = call.seconds
    found[first] = found.get(first, 0.0) + ticket.queued - began
    found["queue"] = found.get("queue", 0.0) + max(0.0, ticket.started - ticket.queued)
    found["encode"] = found.get("encode", 0.0) + ticket.ended - ticket.started


def _observe_nothing(model: str, tower: str, items: int, seconds: float) -> None:
    """Do nothing."""


def _ignore() -> None:
    """Do nothing: the worker itself records the result of a probe."""
