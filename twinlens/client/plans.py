"""What each call of a client sends, and how it reads the answers; no word of how it is sent."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from twinlens.errors import InputError, TwinlensError

if TYPE_CHECKING:
    import httpx

Rows = NDArray[np.float32]
Image = str | Path | bytes
Thing = TypeVar("Thing")

_RETRIED = (408, 429, 502, 503)
_LONGEST_WAIT = 30.0
_RAW = {"Accept": "application/octet-stream"}
_TEXTS_PER_IMAGE = 8  # texts are lighter: so many more go into one request


class ServerError(TwinlensError):
    """An answer that is not a success; `status`, `code` and `request_id` say which."""

    def __init__(self, message: str, status: int, code: str | None, request_id: str | None) -> None:
        super().__init__(message, code=code or "server_error")
        self.status = status
        self.request_id = request_id


@dataclass(frozen=True)
class RequestPlan:
    """One request, and how many items it carries."""

    method: str
    path: str
    count: int = 1
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CallPlan:
    """The requests that make up one call, and how their answers become its result."""

    asks: list[RequestPlan]
    join: Callable[[list[httpx.Response]], Any]


class CallPlanner:
    """Makes the plan of each method."""

    def __init__(self, model: str | None, part: int) -> None:
        self._model = model
        self._part = part

    def embed_images(
        self, images: Sequence[Image], errors: str, options: dict[str, Any]
    ) -> CallPlan:
        """Images in parts, rows as bytes."""
        form = self._fill(options)
        asks = []
        for part in _split(images, self._part):
            files = [("images", _read_image(image)) for image in part]
            sent = {"files": files, "data": form, "headers": _RAW}
            asks.append(RequestPlan("POST", "/embed", len(part), sent))
        return CallPlan(asks, lambda answers: _join_rows(answers, errors))

    def embed_texts(self, texts: Sequence[str], errors: str, options: dict[str, Any]) -> CallPlan:
        """Texts in parts, rows as bytes."""
        body = self._fill(options)
        asks = [
            RequestPlan(
                "POST",
                "/embed",
                len(part),
                {"json": {"texts": list(part), **body}, "headers": _RAW},
            )
            for part in _split(texts, self._part * _TEXTS_PER_IMAGE)
        ]
        return CallPlan(asks, lambda answers: _join_rows(answers, errors))

    def zero_shot(self, images: Sequence[Image], options: dict[str, Any]) -> CallPlan:
        """Images in parts, labels as JSON."""
        form = self._fill(options)
        asks = []
        for part in _split(images, self._part):
            files = [("images", _read_image(image)) for image in part]
            asks.append(RequestPlan("POST", "/zeroshot", len(part), {"files": files, "data": form}))
        return CallPlan(asks, _join_data)

    def put_classifier(
        self,
        name: str,
        classes: Sequence[str],
        examples: Mapping[str, Sequence[Image]] | None,
        options: dict[str, Any],
    ) -> CallPlan:
        """Names as JSON, or names and examples as a form."""
        body = self._fill(options)
        path = f"/classifiers/{name}"
        if not examples:
            sent: dict[str, Any] = {"json": {"classes": list(classes), **body}}
        else:
            files = [
                (f"examples:{c}", _read_image(i)) for c, some in examples.items() for i in some
            ]
            sent = {"files": files, "data": {"classes": list(classes), **body}}
        return CallPlan([RequestPlan("PUT", path, 1, sent)], lambda answers: answers[0].json())

    def get(self, path: str) -> CallPlan:
        """Ask for what is there."""
        return CallPlan([RequestPlan("GET", path)], lambda answers: answers[0].json())

    def _fill(self, options: dict[str, Any]) -> dict[str, Any]:
        given = {"model": self._model, **options}
        return {name: value for name, value in given.items() if value is not None}


def is_retried(answer: httpx.Response) -> bool:
    """Return whether the server's answer invites to try again."""
    said = answer.headers.get("x-should-retry")
    return said != "false" and (said == "true" or answer.status_code in _RETRIED)


def choose_wait(answer: httpx.Response | None, attempt: int) -> float:
    """Return the seconds until the next try: what the server says, else longer each time."""
    if answer is not None:
        for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            said = answer.headers.get(name, "")
            if said.isdecimal():
                # A little of one's own, so that refused clients do not return all at once.
                return min(_LONGEST_WAIT, int(said) * unit) * random.uniform(1.0, 1.25)
    return min(_LONGEST_WAIT, 0.25 * 2.0**attempt) * random.uniform(0.5, 1.0)


def check(answer: httpx.Response) -> httpx.Response:
    """Return a success, else raise what the server said."""
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


def _split(items: Sequence[Thing], size: int) -> Iterator[Sequence[Thing]]:
    if isinstance(items, str | bytes):
        raise InputError("give a list; wrap a single item as [item]")
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _read_image(image: Image) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def _join_rows(answers: list[httpx.Response], errors: str) -> Rows:
    """Return the rows of all answers; rows that failed are NaN, or an error."""
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


def _join_data(answers: list[httpx.Response]) -> list[dict[str, Any]]:
    """Return the entries of all answers, numbered through."""
    entries = [entry for answer in answers for entry in answer.json()["data"]]
    return [{**entry, "index": i} for i, entry in enumerate(entries)]
