"""Servers that get the same requests: ours, infinity, clip-server; each with its own best JSON."""

from __future__ import annotations

import base64
from typing import Any, Protocol

import httpx
import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


class Peer(Protocol):
    """A running server with the bundle's weights."""

    name: str
    pid: int

    def embed_images(self, images: list[bytes]) -> Rows:
        """Return a row for each JPEG."""
        ...

    def embed_texts(self, texts: list[str]) -> Rows:
        """Return a row for each text."""
        ...


class Ours:
    """Twinlens: images as a form, rows returned as bytes."""

    name = "twinlens"

    def __init__(self, url: str, pid: int) -> None:
        self.pid = pid
        self._http = httpx.Client(
            base_url=url, timeout=120, headers={"Accept": "application/octet-stream"}
        )

    def embed_images(self, images: list[bytes], precision: str | None = None) -> Rows:
        """Return a row for each JPEG."""
        query = {} if precision is None else {"precision": precision}
        if len(images) == 1:
            headers = {"Content-Type": "image/jpeg"}
            return _rows(
                self._http.post("/embed", content=images[0], headers=headers, params=query)
            )
        files = [("images", image) for image in images]
        return _rows(self._http.post("/embed", files=files, data=query))

    def embed_texts(self, texts: list[str]) -> Rows:
        """Return a row for each text."""
        return _rows(self._http.post("/embed", json={"texts": texts}))

    def put_classifier(self, name: str, classes: list[str]) -> None:
        """Store a class set."""
        body = {"classes": classes, "templates": "plain"}
        self._http.put(f"/classifiers/{name}", json=body).raise_for_status()

    def classify(self, images: list[bytes], classifier: str) -> int:
        """Return how many images got labels from a stored class set."""
        files = [("images", image) for image in images]
        form = {"classifier": classifier, "top_k": "5"}
        answer = self._http.post("/zeroshot", files=files, data=form).raise_for_status()
        return len(answer.json()["data"])

    def compare(self, left: bytes, right: bytes, precision: str | None = None) -> float:
        """Return the cosine of two images."""
        pair = [{"image": _to_uri(left)}, {"image": _to_uri(right)}]
        body = {"pairs": [pair], "precision": precision}
        answer = self._http.post("/similarity", json=body).raise_for_status()
        return float(answer.json()["similarities"][0])


class Infinity:
    """infinity: data URIs in, base64 of float32 out."""

    name = "infinity"

    def __init__(self, url: str, pid: int) -> None:
        self.pid = pid
        self._http = httpx.Client(base_url=url, timeout=300)
        self._model = self._http.get("/models").json()["data"][0]["id"]

    def embed_images(self, images: list[bytes]) -> Rows:
        """Return a row for each JPEG."""
        return self._ask("image", [_to_uri(image) for image in images])

    def embed_texts(self, texts: list[str]) -> Rows:
        """Return a row for each text."""
        return self._ask("text", texts)

    def _ask(self, modality: str, items: list[str]) -> Rows:
        body = {
            "model": self._model,
            "modality": modality,
            "input": items,
            "encoding_format": "base64",
        }
        data = self._http.post("/embeddings", json=body).raise_for_status().json()["data"]
        return np.stack([np.frombuffer(base64.b64decode(e["embedding"]), "<f4") for e in data])


class ClipServer:
    """clip-as-service over its HTTP gateway."""

    name = "clip-server"

    def __init__(self, url: str, pid: int) -> None:
        self.pid = pid
        self._http = httpx.Client(base_url=url, timeout=300)

    def embed_images(self, images: list[bytes]) -> Rows:
        """Return a row for each JPEG."""
        return self._ask([{"uri": _to_uri(image)} for image in images])

    def embed_texts(self, texts: list[str]) -> Rows:
        """Return a row for each text."""
        return self._ask([{"text": text} for text in texts])

    def _ask(self, items: list[dict[str, Any]]) -> Rows:
        body = {"data": items, "execEndpoint": "/encode"}
        data = self._http.post("/post", json=body).raise_for_status().json()["data"]
        return np.array([entry["embedding"] for entry in data], np.float32)


def _rows(answer: httpx.Response) -> Rows:
    count = int(answer.raise_for_status().headers["twinlens-shape"].split(",")[0])
    return np.frombuffer(answer.content, "<f4").reshape(count, -1)


def _to_uri(image: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(image).decode()
