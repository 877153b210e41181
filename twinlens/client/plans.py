"""Builds the requests of each client call and reads the answers; sending is done elsewhere."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from twinlens.errors import InputError, TwinlensError

if TYPE_CHECKING:
    import httpx

Rows = NDArray[np.float32]
Image = str | Path | bytes
SlicedT = TypeVar("SlicedT")

_RETRIED = (408, 429, 502, 503)
_LONGEST_WAIT = 30.0
_RAW = {"Accept": "application/octet-stream"}
_TEXTS_PER_IMAGE = 8  # texts are smaller: this many times more per request


class ServerError(TwinlensError):
    """An unsuccessful answer, with its `status`, `code` and `request_id`."""

    def __init__(self, message: str, status: int, code: str | None, request_id: str | None) -> None:
        super().__init__(message, code=code or "server_error")
        self.status = status
        self.request_id = request_id


@dataclass(frozen=True)
class RequestPlan:
    """One request, and the number of its items."""

    method: str
    path: str
    count: int = 1
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CallPlan:
    """The requests of one call, and the function that joins their answers."""

    requests: list[RequestPlan]
    join: Callable[[list[httpx.Response]], Any]


class CallPlanner:
    """Builds the plan of each method."""

    def __init__(self, model: str | None, part: int) -> None:
        self._model = model
        self._part = part

    def embed_images(
        self, images: Sequence[Image], errors: str, options: dict[str, Any]
    ) -> CallPlan:
        """Plan requests with images in parts, answered as bytes of rows."""
        requests = self._send_images("/embed", images, options, headers=_RAW)
        return CallPlan(requests, lambda answers: _join_rows(answers, errors))

    def embed_video(self, video: Image, options: dict[str, Any]) -> CallPlan:
        """Plan a request with a video, answered as raw rows and their seconds."""
        headers = {**_RAW, "Content-Type": "video/mp4"}  # the data say which format it is
        sent = {"content": _read_image(video), "params": self._fill(options), "headers": headers}
        return CallPlan([RequestPlan("POST", "/embed", 1, sent)], _join_frames)

    def embed_texts(self, texts: Sequence[str], errors: str, options: dict[str, Any]) -> CallPlan:
        """Plan requests with texts in parts, answered as raw rows."""
        body = self._fill(options)
        requests = [
            RequestPlan(
                "POST",
                "/embed",
                len(part),
                {"json": {"texts": list(part), **body}, "headers": _RAW},
            )
            for part in _split(texts, self._part * _TEXTS_PER_IMAGE)
        ]
        return CallPlan(requests, lambda answers: _join_rows(answers, errors))

    def zero_shot(self, images: Sequence[Image], options: dict[str, Any]) -> CallPlan:
        """Plan requests with images in parts, answered as JSON labels."""
        return CallPlan(self._send_images("/zeroshot", images, options), _join_data)

    def tag(self, images: Sequence[Image], options: dict[str, Any]) -> CallPlan:
        """Plan requests with images in parts, answered as JSON tags."""
        return CallPlan(self._send_images("/tag", images, options), _join_data)

    def put_classifier(
        self,
        name: str,
        classes: Sequence[str],
        examples: Mapping[str, Sequence[Image]] | None,
        options: dict[str, Any],
    ) -> CallPlan:
        """Plan a request with names as JSON, or with names and examples as a form."""
        body = self._fill(options)
        path = f"/classifiers/{quote(name, safe='')}"
        if not examples:
            sent: dict[str, Any] = {"json": {"classes": list(classes), **body}}
        else:
            files = [
                (f"examples:{c}", _read_image(i)) for c, some in examples.items() for i in some
            ]
            sent = {"files": files, "data": {"classes": list(classes), **body}}
        return CallPlan([RequestPlan("PUT", path, 1, sent)], lambda answers: answers[0].json())

    def get(self, path: str) -> CallPlan:
        """Plan a GET request."""
        return CallPlan([RequestPlan("GET", path)], lambda answers: answers[0].json())

    def search(self, query: str | None, image: Image | None, options: dict[str, Any]) -> CallPlan:
        """Plan a search by a text, an image, or what the options hold."""
        body = self._fill(options)
        if query is not None:
            body["query"] = query
        if image is not None:
            body["image"] = base64.b64encode(_read_image(image)).decode()
        return self.send("POST", "/search", body)

    def send(self, method: str, path: str, body: dict[str, Any]) -> CallPlan:
        """Plan a request with JSON, answered with JSON."""
        plan = RequestPlan(method, path, 1, {"json": body})
        return CallPlan([plan], lambda answers: answers[0].json())

    def list_page(self, collection: str, options: dict[str, Any]) -> CallPlan:
        """Plan a request for one page of a collection's items."""
        given = {name: value for name, value in options.items() if value is not None}
        path = items_path(collection)
        plan = RequestPlan("GET", path, 1, {"params": given})
        return CallPlan([plan], lambda answers: answers[0].json())

    def upsert(
        self, collection: str, items: Sequence[Mapping[str, Any]], options: dict[str, Any]
    ) -> CallPlan:
        """Plan requests with items in parts; their images are paths or encoded bytes."""
        body = self._fill(options)
        requests = [
            RequestPlan(
                "POST",
                items_path(collection),
                len(part),
                {"json": {"items": [_pack_item(one) for one in part], **body}},
            )
            for part in _split(items, self._part)
        ]
        return CallPlan(requests, _join_data)

    def _send_images(
        self, path: str, images: Sequence[Image], options: dict[str, Any], **more: Any
    ) -> list[RequestPlan]:
        """Return requests that send images as the files of forms, in parts."""
        form = self._fill(options)
        requests = []
        for part in _split(images, self._part):
            files = [("images", _read_image(image)) for image in part]
            sent = {"files": files, "data": form, **more}
            requests.append(RequestPlan("POST", path, len(part), sent))
        return requests

    def _fill(self, options: dict[str, Any]) -> dict[str, Any]:
        given = {"model": self._model, **options}
        return {name: value for name, value in given.items() if value is not None}


def items_path(collection: str) -> str:
    """Return the path of a collection's items."""
    return f"/collections/{quote(collection, safe='')}/items"


def is_retried(answer: httpx.Response) -> bool:
    """Return whether the answer is retryable."""
    header = answer.headers.get("x-should-retry")
    return header != "false" and (header == "true" or answer.status_code in _RETRIED)


def choose_wait(answer: httpx.Response | None, attempt: int) -> float:
    """Return the seconds until the next try: from the server, else exponential backoff."""
    if answer is not None:
        for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            header = answer.headers.get(name, "")
            if header.isdecimal():
                # A random addition, so that refused clients do not all return at once.
                return min(_LONGEST_WAIT, int(header) * unit) * random.uniform(1.0, 1.25)
    return min(_LONGEST_WAIT, 0.25 * 2.0**attempt) * random.uniform(0.5, 1.0)


def check(answer: httpx.Response) -> httpx.Response:
    """Return a successful answer, else raise the server's error."""
    if answer.status_code < 400:
        return answer
    error: dict[str, Any] = {}
    if answer.headers.get("content-type", "").startswith("application/json"):
        error = answer.json().get("error", {})
    where = f"{error['param']}: " if error.get("param") else ""
    message = error.get("message") or f"the server answered {answer.status_code}"
    raise ServerError(
        f"{where}{message}",
        answer.status_code,
        error.get("code"),
        answer.headers.get("x-request-id"),
    )


def _split(items: Sequence[SlicedT], size: int) -> Iterator[Sequence[SlicedT]]:
    if isinstance(items, str | bytes):
        raise InputError("give a list; wrap a single item as [item]")
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _read_image(image: Image) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def _pack_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item as JSON: its image as base64, its vector as numbers."""
    packed = dict(item)
    if packed.get("image") is not None:
        packed["image"] = base64.b64encode(_read_image(packed["image"])).decode()
    if packed.get("vector") is not None:
        packed["vector"] = np.asarray(packed["vector"], np.float32).tolist()
    return packed


def _join_rows(answers: list[httpx.Response], errors: str) -> Rows:
    """Return the rows of all answers; failed rows are NaN, or raise."""
    if errors not in ("raise", "nan"):
        raise InputError(f"errors is {errors!r}; it must be 'raise' or 'nan'", field="errors")
    parts: list[Rows] = []
    failed: list[int] = []
    start = 0
    for answer in answers:
        count, dim = map(int, answer.headers["twinlens-shape"].split(","))
        parts.append(np.frombuffer(answer.content, "<f4").reshape(count, dim))
        indices = answer.headers.get("twinlens-failed-indices", "")
        failed += [start + int(index) for index in indices.split(",") if index]
        start += count
    if failed and errors == "raise":
        shown = ", ".join(map(str, failed[:10]))
        raise InputError(f"items {shown} could not be embedded; errors='nan' keeps the others")
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def _join_frames(answers: list[httpx.Response]) -> tuple[list[float], Rows]:
    """Return the seconds of the frames, and their rows."""
    seconds = answers[0].headers["twinlens-seconds"].split(",")
    return [float(text) for text in seconds], _join_rows(answers, "raise")


def _join_data(answers: list[httpx.Response]) -> list[dict[str, Any]]:
    """Return the entries of all answers, renumbered."""
    entries = [entry for answer in answers for entry in answer.json()["data"]]
    return [{**entry, "index": i} for i, entry in enumerate(entries)]
