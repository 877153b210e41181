"""A bundle as the server runs it: a decode stage and two towers, and how requests pass them.

What must stay true: all embeddings of one answer come from one encoder, and one bad item does not
affect any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Pixels, Row, Rows
from twinlens.bundle.calibration.calibration import Calibration, read_calibration
from twinlens.bundle.prompts import add_prompt
from twinlens.errors import InputError, OverloadedError, TooLargeError
from twinlens.serving.call import Call
from twinlens.serving.clock import Clock
from twinlens.serving.contracts import Answers, EmbeddedItems, EncodedImage, StagedEncoder
from twinlens.serving.engine.batcher import Batcher, QueueEntry, Ticket, choose_bucket
from twinlens.serving.engine.cache import TextCache
from twinlens.serving.engine.decode import DecodeGroup, read_image
from twinlens.serving.engine.text_load import TextLoad
from twinlens.serving.engine.throttle import BackgroundThrottle
from twinlens.serving.engine.ticket_future import TicketFuture
from twinlens.serving.engine.tower import ServedTower
from twinlens.serving.engine.window import LatencyWindow, NoWindow
from twinlens.serving.failures import EncodeError
from twinlens.serving.settings import ServerSettings

# Characters that are tokenized on the event loop: well under a millisecond.
_TOKENIZE_INLINE = 4000

Observe = Callable[[str, str, int, float], None]  # model, tower, items, seconds


class ServedModel:
    """One encoder at one precision, under the name that clients use."""

    def __init__(
        self,
        name: str,
        encoder: StagedEncoder,
        settings: ServerSettings,
        *,
        pool: ThreadPoolExecutor,
        cache: TextCache,
        precision: str = "fp32",
        clock: Clock | None = None,
        observe: Observe | None = None,
        throttle: BackgroundThrottle | None = None,
    ) -> None:
        self.name = name
        self.encoder = encoder
        self.precision = precision
        self.revision = encoder.revision
        self.clock = clock or Clock()
        self.cache_hits = 0
        self.cache_misses = 0
        self._settings = settings
        self._pool = pool
        self._cache = cache
        self._throttle = throttle or BackgroundThrottle()
        self._observe = observe or (lambda model, tower, items, seconds: None)
        text = encoder.manifest.text
        kind = text.tokenizer_kind if text else ""
        self.context = text.context_length if text else 0
        self.text_load = TextLoad()
        self.space = f"{encoder.revision}/{precision}/{kind}"
        self.images: ServedTower[Pixels, Row] | None = None
        self.texts: ServedTower[list[int], Row] | None = None
        if encoder.manifest.image is not None:
            self.images = self._build_image_tower()
        if text is not None:
            self.texts = self._build_text_tower()

    @property
    def towers(self) -> list[ServedTower[Pixels, Row] | ServedTower[list[int], Row]]:
        """The towers that this bundle has."""
        return [tower for tower in (self.images, self.texts) if tower is not None]

    @property
    def calibration(self) -> Calibration | None:
        """What the bundle's cosines are worth, if it says so."""
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

    async def embed_images(self, images: Sequence[EncodedImage], call: Call) -> EmbeddedItems:
        """Return a row or an error for each image."""
        tower = self.images
        if tower is None:
            raise InputError(f"{self.name!r} has no image tower; send texts, or name another model")
        with self._hold(tower.batcher, len(images), call):
            future = TicketFuture()
            ticket: Ticket[Row] = Ticket(len(images), future.notify, deadline=call.deadline)
            began = call.clock.now()
            size = self._settings.batching.image_batch
            for start in range(0, len(images), size):
                DecodeGroup(
                    self, ticket, call, images, range(start, min(start + size, len(images)))
                )
            await future.wait(ticket, call)
            _count_stages(call, ticket, began, "decode")
        return EmbeddedItems(_collect_answers(ticket))

    async def embed_texts(self, texts: Sequence[str], call: Call) -> EmbeddedItems:
        """Return a row or an error for each text; cached texts are not encoded again."""
        if self.texts is None:
            raise InputError(f"{self.name!r} has no text tower; send images, or name another model")
        texts = add_prompt(self.encoder.manifest, texts, call.input_type)
        known = {text: self._cache.get(self.space, text) for text in texts}
        missing = [text for text, found in known.items() if found is None]
        self.cache_misses += len(missing)
        self.cache_hits += len(known) - len(missing)
        fresh: dict[str, tuple[Row | Exception, int]] = {}
        if missing:
            fresh = await self._encode_texts(self.texts, missing, call)
        answers: Answers = []
        total = 0
        for text in texts:
            row, tokens = known[text] or fresh[text]
            answers.append(row)
            total += tokens
        return EmbeddedItems(answers, tokens=total)

    async def _encode_texts(
        self, tower: ServedTower[list[int], Row], texts: list[str], call: Call
    ) -> dict[str, tuple[Row | Exception, int]]:
        """Run distinct texts through the tower and cache their rows."""
        bounds = self._settings.batching.text_buckets
        with self._hold(tower.batcher, len(texts), call):
            began = call.clock.now()
            tokens = await self._tokenize(texts)
            future = TicketFuture()
            ticket: Ticket[Row] = Ticket(len(texts), future.notify, deadline=call.deadline)
            tower.batcher.put(
                [
                    QueueEntry(ticket, i, ids, choose_bucket(len(ids), bounds))
                    for i, ids in enumerate(tokens)
                ],
                background=call.is_background,
            )
            await future.wait(ticket, call)
            _count_stages(call, ticket, began, "decode")
        found: dict[str, tuple[Row | Exception, int]] = {}
        for text, ids, answer in zip(texts, tokens, _collect_answers(ticket), strict=True):
            found[text] = (answer, len(ids))
            # A long job would evict the texts that live requests repeat.
            if not isinstance(answer, Exception) and not call.is_background:
                self._cache.put(self.space, text, answer, len(ids))
        return found

    def is_known(self, text: str) -> bool:
        """Whether a text would cost nothing, since it was embedded before."""
        return self._cache.get(self.space, text) is not None

    async def count_tokens(self, texts: list[str]) -> list[int]:
        """Return how many tokens each text has, cut to the context."""
        if self.texts is None:
            return [0] * len(texts)
        return [len(ids) for ids in await self._tokenize(texts)]

    async def _tokenize(self, texts: list[str]) -> list[list[int]]:
        """Tokenize short texts here and long ones in the pool, so that no request is delayed."""
        if sum(map(len, texts)) <= _TOKENIZE_INLINE:
            return self.encoder.tokenize(texts)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self.encoder.tokenize, texts)

    def decode(self, image: EncodedImage, call: Call) -> Pixels:
        """Return the pixels that the image tower takes; runs in the decode pool."""
        content = read_image(image, self._settings.limits, call)
        return self.encoder.preprocess(content)

    def submit(self, action: Callable[[int], None], index: int) -> None:
        """Run `action(index)` in the decode pool."""
        self._pool.submit(action, index)

    @contextmanager
    def _hold(
        self, batcher: Batcher[Pixels, Row] | Batcher[list[int], Row], count: int, call: Call
    ) -> Iterator[None]:
        """Hold places in a queue until the items are answered or the request fails."""
        if count > batcher.capacity:
            raise TooLargeError(f"{count} {batcher.name} in one request; {batcher.capacity} fit")
        live = 0 if call.is_background else count
        try:
            batcher.hold(count)
        except OverloadedError:
            call.refused_at = (self.name, batcher.name)
            raise
        finally:
            call.settle()
        self._throttle.enter(live)
        try:
            yield
        finally:
            self._throttle.leave(live)
            batcher.release(count)

    def _build_image_tower(self) -> ServedTower[Pixels, Row]:
        batching, limits = self._settings.batching, self._settings.limits
        batcher: Batcher[Pixels, Row] = Batcher(
            capacity=limits.image_queue,
            max_batch=batching.image_batch,
            name="images",
            window=self._window(batching.image_batch),
            clock=self.clock,
            throttle=self._throttle,
        )
        return ServedTower(
            f"{self.name}/image",
            batcher,
            lambda items: _check_rows(self.encoder.encode_pixels(np.stack(items))),
            clock=self.clock,
            observe=lambda items, seconds: self._observe(self.name, "image", items, seconds),
        )

    def _run_texts(self, items: Sequence[list[int]]) -> list[Row | Exception]:
        """Run a batch, and learn what a token takes; all are padded to the longest."""
        began = self.clock.now()
        rows = _check_rows(self.encoder.encode_tokens(list(items)))
        self.text_load.observe(len(items) * max(map(len, items)), self.clock.now() - began)
        return rows

    def _build_text_tower(self) -> ServedTower[list[int], Row]:
        batching, limits = self._settings.batching, self._settings.limits
        batcher: Batcher[list[int], Row] = Batcher(
            capacity=limits.text_queue,
            max_batch=batching.text_batch,
            name="texts",
            window=self._window(batching.text_batch),
            clock=self.clock,
            throttle=self._throttle,
        )
        return ServedTower(
            f"{self.name}/text",
            batcher,
            self._run_texts,
            clock=self.clock,
            observe=lambda items, seconds: self._observe(self.name, "text", items, seconds),
        )

    def _window(self, full: int) -> NoWindow | LatencyWindow:
        batching = self._settings.batching
        if batching.window_seconds <= 0:
            return NoWindow()
        return LatencyWindow(batching.window_seconds, target=batching.target_seconds, full=full)


def _collect_answers(ticket: Ticket[Row]) -> Answers:
    """Return the answers of a full ticket."""
    return [answer for answer in ticket.answers if answer is not None]


def _count_stages(call: Call, ticket: Ticket[Row], began: float, first: str) -> None:
    """Add the times of a full ticket's stages to the call."""
    if ticket.ended == 0.0:  # nothing reached a batch
        call.add(first, call.clock.now() - began)
        return
    call.add(first, ticket.queued - began)
    call.add("queue", max(0.0, ticket.started - ticket.queued))
    call.add("encode", ticket.ended - ticket.started)


def _check_rows(rows: Rows) -> list[Row | Exception]:
    """Split rows into answers; a row that is not finite becomes its item's error."""
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
    if finite.all():
        return list(rows)
    return [
        row if ok else EncodeError("the encoder's output for this item is not finite")
        for row, ok in zip(rows, finite, strict=True)
    ]


def _ignore() -> None:
    """Do nothing: the worker itself records the result of a probe."""
